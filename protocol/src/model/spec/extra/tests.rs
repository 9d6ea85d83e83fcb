use super::super::{Image, Role, Spec, ValueKind};
use super::*;
use crate::model::{Digest, Resources, Value};

pub(in super::super) fn form(change: impl FnOnce(&mut Container)) -> SpecForm {
    let mut container = Container::of("main", Image::named("db:1"));
    change(&mut container);
    let size = Resources { memory: 64 << 20, cpu: 100 };
    SpecForm::container_service("db".parse().unwrap(), container, 1, size)
}

pub(in super::super) fn spec(change: impl FnOnce(&mut Container)) -> Spec {
    form(change).try_into().unwrap()
}

fn full() -> Extra {
    Extra {
        hosts: vec!["db:10.0.0.5".parse().unwrap(), "up:host-gateway".parse().unwrap()],
        dns: vec!["1.1.1.1".parse().unwrap(), "::1".parse().unwrap()],
        dns_search: vec!["example.org".into()],
        dns_opt: vec!["ndots:2".into()],
        groups: vec!["audio".into(), "1000".into()],
        env_from: [("POD".to_owned(), LaunchFact::Name)].into(),
        aliases: vec!["my_db".into()],
    }
}

/// Upgrades of shoal restart nothing: a spec without them has the bytes and the revision that it
/// had before there were any.
#[test]
fn container_without_them_has_the_bytes_that_it_had() {
    let plain = spec(|_| {});
    let Value::Workload { version, bytes } = Value::workload(&plain) else { panic!() };
    let hash = Digest::of(&bytes).to_string();
    let had = "cfb7a8ca1f98646f48564809775e079f2e35711cf4263d2a1e629bf31910f99a";
    assert_eq!((version, hash.as_str()), (2, had));
    let had = "7e54863595a8c6ad9fc74a6bc48459a22d3ab15fd001d8814c61056584dd15ff";
    assert_eq!(plain.revision().to_string(), had);
    let init = spec(|it| it.init = true);
    let mut group = SpecForm::from(init);
    let Program::Containers(containers) = &mut group.program else { panic!() };
    let mut other = Container::of("other", Image::named("db:2"));
    other.member.role = Role::Sidecar;
    containers.push(other);
    let group = Spec::try_from(group).unwrap();
    let Value::Workload { version, bytes } = Value::workload(&group) else { panic!() };
    let hash = Digest::of(&bytes).to_string();
    let had = "dea7cd478a795d513735e5bbb807dcdad2917ecdde4ed96ce7ded4e42ac0d899";
    assert_eq!((version, hash.as_str()), (3, had));
    let had = "bc54faef4f09aa60cbb3b83511f1fc9c2f288ac3410dcf8c384ec6ff77dcede2";
    assert_eq!(group.revision().to_string(), had);
}

/// An older program would start it without them, so it must not read them.
#[test]
fn they_are_of_form_3_and_a_new_revision() {
    let used = spec(|it| it.extra = full());
    let value = Value::workload(&used);
    let Value::Workload { version, bytes } = &value else { panic!() };
    assert_eq!((*version, value.spec(), value.check()), (3, Some(used.clone()), Ok(())));
    assert!(super::super::decode(2, bytes).is_err());
    assert!(super::super::decode(3, &bytes[..bytes.len() - 1]).is_err());
    assert_ne!(used.revision(), spec(|_| {}).revision());
    // In a group each container has its own, and the rest of the group stays.
    let mut group = SpecForm::from(used);
    let Program::Containers(containers) = &mut group.program else { panic!() };
    let mut other = Container::of("other", Image::named("db:2"));
    other.member.role = Role::Sidecar;
    other.extra.groups = vec!["7".into()];
    containers.push(other);
    let group = Spec::try_from(group).unwrap();
    assert_eq!(Value::workload(&group).spec(), Some(group));
}

#[test]
fn hosts_are_read_in_the_forms_of_docker() {
    for (text, shown) in [
        ("a:1.2.3.4", "a:1.2.3.4"),
        ("a=1.2.3.4", "a:1.2.3.4"),
        ("a:::1", "a:::1"),
        ("a=[fe80::1]", "a:fe80::1"),
        ("a:host-gateway", "a:host-gateway"),
    ] {
        assert_eq!(text.parse::<ExtraHost>().unwrap().to_string(), shown);
        assert_eq!(shown.parse::<ExtraHost>().unwrap().to_string(), shown);
    }
    for (text, why) in [("a", "not of the form NAME:ADDRESS"), ("a:b", "`b` is no address")] {
        assert!(text.parse::<ExtraHost>().unwrap_err().contains(why), "{text}");
    }
}

#[test]
fn what_no_container_can_have_is_refused_by_field_and_value() {
    let host = |name: &str| ExtraHost { name: name.into(), address: HostAddress::Gateway };
    let with = |change: &dyn Fn(&mut Extra)| form(|it| change(&mut it.extra));
    let secret = || ValueUse {
        kind: ValueKind::Secret,
        name: "pw".parse().unwrap(),
        to: Target::Env("A".into()),
    };
    let alias = |it: &mut Extra| _ = it.env_from.insert("A".into(), LaunchFact::Node);
    let mut grouped = with(&|_| {});
    let Program::Containers(containers) = &mut grouped.program else { panic!() };
    containers.push(Container::of("other", Image::named("db:2")));
    containers[1].extra.dns = full().dns;
    let mut valued = with(&alias);
    valued.later.values.push(secret());
    let many = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
    for (form, why) in [
        (with(&|it| it.hosts = vec![host("a b")]), "extra_hosts: `a b` is no name of a host"),
        (with(&|it| it.hosts = vec![host("a"); 33]), "extra_hosts: there are 33, at most 32"),
        (with(&|it| it.dns = vec![[1, 1, 1, 1].into(); 9]), "dns: there are 9, at most 8"),
        (with(&|it| it.dns = vec![[0, 0, 0, 0].into()]), "dns: `0.0.0.0` is the address of no"),
        (with(&|it| it.dns_search = vec!["a b".into()]), "dns_search: `a b` is no domain"),
        (with(&|it| it.dns_opt = vec!["a\nb".into()]), r#"dns_opt: "a\nb" is no option"#),
        (with(&|it| it.groups = vec!["keep-groups".into()]), "group_add: `keep-groups` is no"),
        (with(&|it| it.groups = vec!["-1".into()]), "group_add: `-1` is no number"),
        (with(&|it| it.groups = many(33)), "group_add: there are 33"),
        (with(&|it| it.dns_search = vec!["a".repeat(253); 17]), "container: 4318 bytes"),
        (with(&|it| _ = it.env_from.insert("SHOAL_A".into(), LaunchFact::Uid)), "`SHOAL_A` is"),
        (with(&|it| it.aliases = vec!["My_db".into()]), "aliases: `My_db` is no name"),
        (with(&|it| it.aliases = vec!["a.b".into()]), "aliases: `a.b` is no name"),
        (valued, "env_from: `A` has another value"),
        (grouped, "dns: `other` shares the network of the main container"),
        (
            form(|it| {
                alias(&mut it.extra);
                it.env.insert("A".into(), "b".into());
            }),
            "env_from: `A` has another value",
        ),
        (
            form(|it| {
                it.extra.dns = full().dns;
                it.network = NetworkMode::None;
            }),
            "dns: a container without a network",
        ),
    ] {
        let error = Spec::try_from(form).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}
