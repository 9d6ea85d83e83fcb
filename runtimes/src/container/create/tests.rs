use shoal_protocol::model::spec::{Image, NO_CPU_LIMIT};

use super::*;

pub(in super::super) fn launch() -> Launch {
    let container = Container::of("main", Image::named("localhost/hello:1"));
    Launch {
        id: InstanceId::new("default/web/0.0123.4567").unwrap(),
        workload: "default/web".into(),
        payload: Payload::Container(Box::new(ContainerPayload {
            container,
            others: Vec::new(),
            hostname: "web-0".into(),
            ports: Vec::new(),
            volumes: BTreeMap::new(),
            stdin: false,
            tty: false,
            probed: Vec::new(),
        })),
        env: BTreeMap::new(),
        memory: 32 << 20,
        cpu: 100,
        cpu_reserved: 100,
        qos: Default::default(),
        given: crate::given::Given::default(),
        ends: false,
        folders: Vec::new(),
    }
}

/// Both engines want `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; ids that look alike once cleaned stay apart.
#[test]
fn names_are_legal_and_tell_instances_apart() {
    let of = |owner: &str, id: &str| name(owner, &InstanceId::new(id).unwrap(), None);
    for id in ["a/b", "-x", "_", "a", "default/web/0.01.23", &"x/".repeat(100)] {
        let name = of("n1", id);
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        assert!(name.starts_with("shoal-") && name.chars().all(legal), "{name}");
        assert!(name.len() <= 128, "{name}");
    }
    assert_ne!(of("n1", "a/b"), of("n1", "a-b"));
    assert_ne!(of("n1", "a/b"), of("n2", "a/b"));
}

/// A container is adopted when its hash is that of the launch: any change of the launch must show.
#[test]
fn hash_changes_with_the_launch() {
    let of = |launch: &Launch| hash(launch, check(launch, &Allowed::default(), false).unwrap());
    let one = launch();
    let (mut env, mut memory, mut image) = (one.clone(), one.clone(), one.clone());
    env.env.insert("A".into(), "b".into());
    memory.memory += 1;
    let Payload::Container(payload) = &mut image.payload else { unreachable!() };
    payload.container.image.reference = "localhost/hello:2".into();
    assert_eq!(of(&one), of(&launch()));
    for other in [env, memory, image] {
        assert_ne!(of(&one), of(&other));
    }
}

/// A quota of all cores is none, and costs each start what a quota costs.
#[test]
fn only_a_limit_below_the_device_is_a_quota() {
    assert_eq!(quota(250, 2), Some(250_000_000));
    assert_eq!(quota(1, 2), Some(10_000_000), "the least that the kernel takes");
    assert_eq!(quota(1999, 2), Some(1_999_000_000));
    for cpu in [2000, 3000, NO_CPU_LIMIT] {
        assert_eq!(quota(cpu, 2), None, "{cpu}");
    }
}

/// Engines refuse weights outside the kernel's, and with them the start.
#[test]
fn weight_is_in_proportion_to_what_is_reserved() {
    assert_eq!([shares(1000), shares(500), shares(100)], [1024, 512, 102]);
    assert_eq!([shares(0), shares(1), shares(u32::MAX)], [2, 2, 262_144]);
}

#[test]
fn references_name_the_digest_and_keep_the_port() {
    let mut container = Container::of("main", Image::named("reg.local:5000/a/b"));
    assert_eq!(reference(&container), "reg.local:5000/a/b");
    container.image.digest = Some(Digest([0x11; 32]));
    let digest = "11".repeat(32);
    assert_eq!(reference(&container), format!("reg.local:5000/a/b@sha256:{digest}"));
    container.image.reference = "reg.local:5000/a/b:7".into();
    assert_eq!(reference(&container), format!("reg.local:5000/a/b@sha256:{digest}"));
}

/// A variable without a value is one of the engine's own on Podman, so `NAME` must not get there.
#[test]
fn launches_that_no_engine_should_see_are_refused() {
    let refused = |change: fn(&mut Launch)| {
        let mut launch = launch();
        change(&mut launch);
        check(&launch, &Allowed::default(), false).unwrap_err()
    };
    assert!(refused(|it| _ = it.env.insert("A=B".into(), "".into())).contains("\"A=B\""));
    assert!(refused(|it| _ = it.env.insert("A".into(), "\0".into())).contains("zero byte"));
    assert!(refused(|it| it.memory = 1 << 20).contains("memory limit"));
    assert!(refused(|it| it.payload = Digest([0; 32]).into()).contains("not a container"));
    let privileged = refused(|it| {
        let Payload::Container(payload) = &mut it.payload else { unreachable!() };
        payload.container.privileges.privileged = true;
    });
    assert!(privileged.contains("does not allow privileged containers"), "{privileged}");
}
