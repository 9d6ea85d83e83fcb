use super::super::{Artifact, Check, Component, Image, Probe, Spec, Target, ValueKind, World};
use super::*;
use crate::model::{Digest, Value};

const MIB: u64 = 1 << 20;

fn sized(role: Role, memory: u64, cpu: u32) -> Member {
    Member { role, reservation: Some(Resources { memory: memory * MIB, cpu }), ..Member::default() }
}

fn container(name: &str, member: Member) -> Container {
    let limit = member.reservation;
    Container { member, limit, ..Container::of(name, Image::named(format!("{name}:1"))) }
}

fn pod() -> Vec<Container> {
    vec![
        container("app", sized(Role::App, 64, 200)),
        container("init", sized(Role::Init, 256, 50)),
        container("proxy", sized(Role::Sidecar, 32, 100)),
        container("late", sized(Role::Init, 16, 300)),
    ]
}

fn form(containers: Vec<Container>) -> SpecForm {
    let one = Container::of("main", Image::named("db:1"));
    let size = Resources { memory: 256 * MIB, cpu: 100 };
    let mut form = SpecForm::container_service("db".parse().unwrap(), one, 1, size);
    form.program = Program::Containers(containers);
    form
}

fn spec(containers: Vec<Container>) -> Result<Spec, String> {
    form(containers).try_into().map_err(|error: InvalidSpec| error.to_string())
}

/// Init containers run one after the other, and each beside the sidecars before it.
#[test]
fn size_is_that_of_the_greatest_moment() {
    let size = size_of_group(&pod()).unwrap();
    // The init container before the sidecar needs most memory, the one behind it most CPU.
    assert_eq!(size.reservation, Resources { memory: 256 * MIB, cpu: 400 });
    assert_eq!(size, Requirements::from(size.reservation));
    let apps = pod().into_iter().filter(|it| it.member.role != Role::Init).collect::<Vec<_>>();
    let size = size_of_group(&apps).unwrap().reservation;
    assert_eq!(size, Resources { memory: 96 * MIB, cpu: 300 });
    let mut unsized_one = pod();
    unsized_one[3].member.reservation = None;
    assert_eq!(size_of_group(&unsized_one), None);
}

/// An older program keeps a group and passes it on, and runs none of it.
#[test]
fn group_is_of_form_3_and_keeps_its_members() {
    let mut containers = pod();
    let check = Check::Tcp { port: 9 };
    containers[2].member.health.liveness = Some(Probe::of(check));
    containers[2].member.values.push(ValueUse {
        kind: ValueKind::Secret,
        name: "pw".parse().unwrap(),
        to: Target::Env("PW".into()),
    });
    let group = spec(containers).unwrap();
    let value = Value::workload(&group);
    let Value::Workload { version, bytes } = &value else { panic!() };
    assert_eq!((*version, value.spec()), (3, Some(group.clone())));
    assert_eq!(value.check(), Ok(()));
    assert!(super::super::decode(2, bytes).is_err());
    assert!(super::super::decode(2, &codec::encode(&group)).is_err(), "form 2 has no groups");
    assert!(super::super::decode(3, &bytes[..bytes.len() - 1]).is_err());
    assert_eq!(group.values().count(), 1);
    assert_eq!(group.probes().count(), 1);
    let mut other = pod();
    other[3].member.role = Role::Sidecar;
    assert_ne!(spec(other).unwrap().revision(), spec(pod()).unwrap().revision());
}

/// Upgrades of shoal restart nothing: what a container has in a group is no part of one alone.
#[test]
fn container_alone_has_the_bytes_that_it_had() {
    let alone = spec(vec![Container::of("main", Image::named("db:1"))]).unwrap();
    let Value::Workload { version, bytes } = Value::workload(&alone) else { panic!() };
    assert_eq!(version, 2);
    let hash = Digest::of(&bytes).to_string();
    assert_eq!(
        hash, "beedf19fe4ba1564e6e042650917e58e16bef7034adec6305f83d0957cee6779",
        "as the program before groups had it"
    );
}

#[test]
fn containers_that_are_no_group_are_refused_by_name() {
    let with = |change: &dyn Fn(&mut Vec<Container>)| {
        let mut all = pod();
        change(&mut all);
        spec(all).unwrap_err()
    };
    let health =
        || Health { liveness: Some(Probe::of(Check::Tcp { port: 9 })), ..Health::default() };
    for (why, error) in [
        ("two are called `app`", with(&|all| all[1].name = "app".into())),
        ("not a DNS label", with(&|all| all[1].name = "A".into())),
        ("`app` is init", with(&|all| all[0].member.role = Role::Init)),
        ("those of the replica", with(&|all| all[0].member.health = health())),
        ("no probes", with(&|all| all[1].member.health = health())),
        ("no port", with(&|all| all[1].http = Some(80))),
        ("one network", with(&|all| all[2].network = NetworkMode::None)),
        ("host name", with(&|all| all[2].hostname = Some("x".into()))),
        ("or neither", with(&|all| all[2].limit = None)),
        (
            "below what is reserved",
            with(&|all| {
                all[2].limit = Some(Resources { memory: 8 * MIB, cpu: 100 });
            }),
        ),
        (
            "above the replica's",
            with(&|all| {
                all[2].limit = Some(Resources { memory: 512 * MIB, cpu: 100 });
            }),
        ),
        (
            "two have a `port`",
            with(&|all| {
                all[0].http = Some(80);
                all[2].http = Some(81);
            }),
        ),
        (
            "from 1 to 16",
            with(&|all| {
                *all = (0..17).map(|n| container(&format!("c{n}"), Member::default())).collect();
            }),
        ),
        (
            "no part in a group",
            with(&|all| {
                all.truncate(1);
                all[0].limit = None;
            }),
        ),
    ] {
        assert!(error.contains(why), "{why}: {error}");
    }
    let component = Component {
        artifact: Artifact { digest: Digest([1; 32]), size: 1 },
        world: World::Http,
        args: Vec::new(),
        env: Default::default(),
        allow: Vec::new(),
    };
    assert!(Program::Wasm(component).containers().is_empty());
}
