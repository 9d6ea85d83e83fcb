//! Secrets and configs as part of what a replica runs.

use std::collections::BTreeMap;

use super::*;
use crate::model::change::Secret;
use crate::model::codec::Bytes;
use crate::model::spec::{Target, ValueKind, ValueUse};

fn config(bytes: &[u8]) -> Value {
    Value::Config(Bytes(bytes.to_vec()))
}

fn secret(sealed: &[u8]) -> Value {
    let sealed = Bytes(sealed.to_vec());
    Value::Secret(Secret { sealed, keys: BTreeMap::new(), holders_only: false })
}

/// A workload with the secret `db` and the config `site`.
fn using(text: &str) -> Value {
    let mut form = SpecForm::from(spec(text, 1));
    let used = |kind, name: &str, variable: &str| ValueUse {
        kind,
        name: name.parse().unwrap(),
        to: Target::Env(variable.into()),
    };
    form.later.values =
        vec![used(ValueKind::Secret, "db", "DB"), used(ValueKind::Config, "site", "SITE")];
    Value::workload(&form.try_into().unwrap())
}

/// A publisher of one namespace fills it, and nobody else's. What newer programs wrote has room in
/// bytes.
#[test]
fn one_namespace_does_not_use_up_what_all_share() {
    let bounds = Config { max_values_of_one: 3, max_other_bytes: 2_000, ..Config::default() };
    let mut desired = Desired::new(bounds);
    let mut set = |key: Key, value: Value| {
        let change = author(1).write(&desired, &key, value);
        desired.apply(change)
    };
    let of = |name: &str| Key::Config(name.parse().unwrap());
    for number in 0..3 {
        set(of(&format!("shop/f{number}")), config(b"x")).unwrap();
    }
    assert_eq!(set(of("shop/f3"), config(b"x")), Err(Full::ValuesOfOne(3)));
    set(of("shop/f0"), config(b"other")).unwrap();
    set(of("till/f3"), config(b"x")).unwrap();
    let newer = |n: u8| Key::Other(900, Bytes(vec![n]));
    set(newer(1), Value::Other(900, Bytes(vec![0; 1_000]))).unwrap();
    let full = set(newer(2), Value::Other(900, Bytes(vec![0; 1_000])));
    assert!(matches!(full, Err(Full::OtherBytes(_))), "{full:?}");
    // The author is told before anything is written.
    let more = author(1).write(&desired, &newer(3), Value::Other(900, Bytes(vec![0; 1_000])));
    assert!(matches!(desired.preview(&more, 0), Err(Full::OtherBytes(_))));
}

fn generation(desired: &Desired, text: &str) -> Digest {
    desired.workload(&name(text)).unwrap().generation
}

/// The keys that a change moved beside its own.
fn moved(desired: &mut Desired, key: &Key, value: Value) -> Vec<Key> {
    let change = author(1).write(desired, key, value);
    match desired.apply(change).unwrap() {
        Applied::New { also, .. } => also.into_iter().map(|moved| moved.key).collect(),
        other => panic!("{other:?}"),
    }
}

/// Each value of a secret is a version of its own, also the first one and its removal. Others, and
/// those of the same name in another namespace, are no reason to replace a replica.
#[test]
fn workload_has_another_revision_with_each_value_that_it_uses() {
    let mut desired = Desired::default();
    for text in ["shop/web", "other/web"] {
        moved(&mut desired, &key(text), using(text));
    }
    moved(&mut desired, &key("shop/plain"), workload("shop/plain", 1));
    let plain = generation(&desired, "shop/plain");
    assert_eq!(plain, spec("shop/plain", 1).revision());
    let (db, site) = (Key::Secret(name("shop/db")), Key::Config(name("shop/site")));
    let web = vec![key("shop/web")];
    let elsewhere = generation(&desired, "other/web");
    let mut seen = vec![generation(&desired, "shop/web")];
    for (key, value) in [
        (&db, secret(b"1")),
        (&db, secret(b"1")),
        (&site, config(b"a")),
        (&db, Value::Tombstone),
        (&site, config(b"b")),
    ] {
        assert_eq!(moved(&mut desired, key, value), web);
        seen.push(generation(&desired, "shop/web"));
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "each is another one");
    assert_eq!(moved(&mut desired, &site, config(b"b")), [], "the same bytes again");
    assert_eq!(moved(&mut desired, &Key::Secret(name("shop/unused")), secret(b"1")), []);
    assert_eq!(generation(&desired, "other/web"), elsewhere);
    assert_eq!(generation(&desired, "shop/plain"), plain);
}

/// Nodes hear of a workload and of its secret in any order, and must run the same revision.
#[test]
fn revision_follows_from_what_is_held_and_not_from_its_order() {
    let mut desired = Desired::default();
    let mut changes = Vec::new();
    for (key, value) in [
        (key("shop/web"), using("shop/web")),
        (Key::Secret(name("shop/db")), secret(b"1")),
        (Key::Config(name("shop/site")), config(b"a")),
        (Key::Secret(name("shop/db")), secret(b"2")),
        (key("shop/web"), workload("shop/web", 3)),
        (key("shop/web"), using("shop/web")),
    ] {
        let change = author(1).write(&desired, &key, value);
        desired.apply(change.clone()).unwrap();
        changes.push(change);
    }
    let expected = generation(&desired, "shop/web");
    assert_ne!(expected, spec("shop/web", 1).revision());
    for seed in 0..40 {
        let other = replica(&shuffled(&changes, seed));
        assert_eq!(generation(&other, "shop/web"), expected, "seed {seed}");
        let users: Vec<_> = other.users(&Key::Secret(name("shop/db"))).collect();
        assert_eq!(users, [&name("shop/web")]);
    }
}

/// A workload that was removed, or published without it, uses a secret no more.
#[test]
fn users_follow_the_spec() {
    let mut desired = Desired::default();
    let db = Key::Secret(name("shop/db"));
    moved(&mut desired, &key("shop/web"), using("shop/web"));
    assert_eq!(desired.users(&db).count(), 1);
    moved(&mut desired, &key("shop/web"), workload("shop/web", 1));
    assert_eq!(desired.users(&db).count(), 0);
    moved(&mut desired, &key("shop/web"), using("shop/web"));
    moved(&mut desired, &key("shop/web"), Value::Tombstone);
    assert_eq!(desired.users(&db).count(), 0);
    assert_eq!(desired.values().count(), 0);
    moved(&mut desired, &db, secret(b"1"));
    assert_eq!(desired.values().count(), 1);
    moved(&mut desired, &db, Value::Tombstone);
    assert_eq!(desired.values().count(), 0, "removed");
}
