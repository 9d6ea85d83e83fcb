//! Rights that end: people are told in time, and once.

use super::*;
use crate::model::{Chain, ChangeBody, Key, Namespaces, PublicKey, Role};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Gives ann rights that end after so many days, for the `n`th time.
fn give(cluster: &harness::Cluster, node: &mut Harness, n: u64, days: u64) {
    let (genesis, root, subject) = (&cluster.genesis, &cluster.root, PublicKey([9; 32]));
    let serial = trust::serial_at(harness::NOW) + n;
    let terms = trust::Terms {
        name: "ann".into(),
        role: Role::Reader,
        namespaces: Namespaces::All,
        serial,
        expires: Some(WallClock(harness::NOW.0 + days * DAY)),
    };
    let chain = trust::grant(genesis, root, &Chain::default(), subject, terms).unwrap();
    let writer = trust::writer_id(&root.public(), &[0; 16]);
    let body = ChangeBody {
        key: Key::Operator(subject),
        writer,
        serial,
        clock: [(writer, serial)].into(),
        uid: None,
        value: Value::Operator(chain),
    };
    let change = trust::sign_change(genesis, root, &Chain::default(), body).unwrap();
    let reply = node.command(Command::Submit { change: change.raw() });
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
}

/// The events of ends since `from`.
fn told(node: &Harness, from: usize) -> Vec<&String> {
    node.effects[from..].iter().filter(|effect| effect.contains("grant-ending")).collect()
}

/// The device's clock says that so many days have passed.
fn pass(node: &mut Harness, days: u64) -> usize {
    let from = node.effects.len();
    for hour in 0..3 {
        node.now = node.now + Duration::from_secs(2 * 3_600);
        let wall = WallClock(harness::NOW.0 + days * DAY + hour * 7_200_000);
        node.input(Input::WallClock(wall));
    }
    from
}

/// An operator's rights ended while nobody looked at `status`. Each node says so in its events,
/// three weeks before and at the end.
#[test]
fn ending_of_rights_is_told_once_before_and_once_after() {
    let cluster = cluster();
    let mut node = Harness::new(cluster.founder(Saved::default()));
    give(&cluster, &mut node, 0, 60);
    let from = pass(&mut node, 30);
    assert_eq!(told(&node, from).len(), 0, "thirty days are left");
    let from = pass(&mut node, 45);
    let events = told(&node, from);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("operator ann end in 15 days"), "{events:?}");
    let from = pass(&mut node, 61);
    let events = told(&node, from);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("operator ann ended"), "{events:?}");
    give(&cluster, &mut node, 1, 300);
    let from = pass(&mut node, 62);
    assert_eq!(told(&node, from).len(), 0, "they were renewed");
}

/// Whoever has no rights any more could date a change back. A node that is asked to take one looks
/// at its own clock; nodes that hear of it later cannot.
#[test]
fn author_without_rights_writes_nothing_whatever_date_it_gives() {
    let cluster = cluster();
    let mut node = Harness::new(cluster.founder(Saved::default()));
    let end = WallClock(harness::NOW.0 + DAY);
    let (keys, serial) = (KeyPair::from_seed(&[9; 32]), trust::serial_at(harness::NOW));
    let terms = trust::Terms {
        name: "ann".into(),
        role: Role::Publisher,
        namespaces: Namespaces::All,
        serial,
        expires: Some(end),
    };
    let (genesis, root) = (&cluster.genesis, &cluster.root);
    let chain = trust::grant(genesis, root, &Chain::default(), keys.public(), terms).unwrap();
    let config = |name: &str| {
        let writer = trust::writer_id(&keys.public(), &[0; 16]);
        let body = ChangeBody {
            key: Key::Config(name.parse().unwrap()),
            writer,
            serial,
            clock: [(writer, serial)].into(),
            uid: None,
            value: Value::Config(crate::model::codec::Bytes(vec![1])),
        };
        Command::Submit { change: trust::sign_change(genesis, &keys, &chain, body).unwrap().raw() }
    };
    assert!(matches!(node.command(config("one")), Reply::Accepted { .. }));
    node.input(Input::WallClock(WallClock(end.0 + 1)));
    let reply = node.command(config("two"));
    let Reply::Refused(Refusal::Invalid(why)) = &reply else { panic!("{reply:?}") };
    assert!(why.contains("the author's rights ended at"), "{why}");
    node.input(Input::WallClock(harness::NOW));
    let revoked = cluster.revocation(keys.public(), u64::MAX >> 2, false);
    assert!(matches!(
        node.command(Command::Submit { change: revoked.raw() }),
        Reply::Accepted { .. }
    ));
    let reply = node.command(config("three"));
    let Reply::Refused(Refusal::Invalid(why)) = &reply else { panic!("{reply:?}") };
    assert!(why.contains("was revoked"), "{why}");
}
