use super::*;
use crate::model::{Digest, Value};

fn form() -> SpecForm {
    let artifact = Artifact { digest: Digest([1; 32]), size: 1 };
    let resources = Resources { memory: 64 << 20, cpu: 100 };
    SpecForm::wasm_service("web".parse().unwrap(), artifact, 1, resources)
}

fn refused(change: impl FnOnce(&mut SpecForm)) -> String {
    let mut form = form();
    change(&mut form);
    Spec::try_from(form).unwrap_err().to_string()
}

/// A spec that this version accepts must do all that it says: the rest is refused by its name.
#[test]
fn unsupported_parts_are_refused_by_name() {
    let component = |change: fn(&mut Component)| {
        move |form: &mut SpecForm| {
            let Program::Wasm(component) = &mut form.program else { unreachable!() };
            change(component);
        }
    };
    let words = [
        refused(|form| {
            let limit = Some(form.resources.limit);
            let container = Container { limit, ..Container::of("main", Image::named("db:1")) };
            form.program = Program::Containers(vec![container]);
        }),
        refused(component(|it| it.args = vec!["-v".into()])),
        refused(component(|it| it.allow = vec![Permission::Connect("db:5432".into())])),
        refused(|form| form.resources.limit.memory += 1),
        refused(|form| form.update.roll_back = true),
        refused(|form| form.restart = RestartPolicy::Never),
        refused(|form| form.exposure.hosts = vec!["shop.example".into()]),
    ];
    let names: Vec<&str> = words.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "a limit of its own of a container that is alone",
            "args of a component that answers requests",
            "allow",
            "a limit above the reservation",
            "update",
            "restart",
            "hosts",
        ]
    );
    // A text with such a field is refused with the same words.
    let kinds_and_values = [
        "a limit of its own of a container that is alone",
        "args of a component that answers requests",
        "a limit above the reservation",
    ];
    for (name, words) in names.iter().zip(&words) {
        let by_name = InvalidSpec::not_yet(name).map(|refusal| refusal.to_string());
        let expected = (!kinds_and_values.contains(name)).then(|| words.clone());
        assert_eq!(by_name, expected, "{name}");
    }
    assert_eq!(InvalidSpec::not_yet("replicas"), None);
    assert!(words[0].ends_with("not supported yet by this version of shoal"), "{}", words[0]);
}

/// A stateful workload stops before it starts, whether its author says so or not; the other order
/// contradicts it. Older programs keep it, and do not act on it.
#[test]
fn stateful_workload_is_updated_stop_first() {
    let stateful = |rollout: Option<Rollout>| {
        let kind = Kind::Stateful(Stateful { replicas: 3, order: Sequence::Parallel });
        let mut form = SpecForm { kind, ..form() };
        form.later.rollout = rollout;
        Spec::try_from(form)
    };
    let plain = stateful(None).unwrap();
    let rollout = plain.rollout().unwrap().into_owned();
    assert_eq!((rollout.parallel, rollout.order), (1, Order::StopFirst));
    let two = Rollout { parallel: 2, ..rollout };
    assert_eq!(*stateful(Some(two.clone())).unwrap().rollout().unwrap(), two);
    let refused = stateful(Some(Rollout::default())).unwrap_err().to_string();
    assert!(refused.starts_with("update: order: start-first would run two"), "{refused}");
    assert_eq!(Spec::try_from(form()).unwrap().rollout(), None);
    let value = Value::workload(&plain);
    assert!(matches!(&value, Value::Workload { version: 3, .. }));
    assert_eq!(value.spec(), Some(plain.clone()));
    let more = plain.scaled(5).unwrap();
    assert_eq!(more.kind.with_replicas(3).as_ref(), Some(&plain.kind));
    assert_eq!(more.revision(), plain.revision());
}

/// Another number of replicas, or other nodes, must not restart a replica.
#[test]
fn only_what_needs_a_restart_changes_the_revision() {
    let revision = |form: SpecForm| Spec::try_from(form).unwrap().revision();
    let base = revision(form());
    let mut moved = form();
    moved.placement.require.insert("zone".into(), "shop".into());
    assert_eq!(revision(moved), base);
    assert_eq!(revision(SpecForm { kind: Kind::Service { replicas: 7 }, ..form() }), base);
    assert_ne!(revision(form().with_env([("A".into(), "b".into())].into())), base);
    let more = Resources { memory: 65 << 20, cpu: 100 };
    assert_ne!(revision(SpecForm { resources: more.into(), ..form() }), base);
}

fn container(change: impl FnOnce(&mut Container)) -> SpecForm {
    let mut container = Container::of("main", Image::named("redis:7"));
    change(&mut container);
    let resources = Resources { memory: 64 << 20, cpu: 100 };
    SpecForm::container_service("db".parse().unwrap(), container, 1, resources)
}

fn refused_container(change: impl FnOnce(&mut Container)) -> String {
    Spec::try_from(container(change)).unwrap_err().to_string()
}

/// A container may take more than is reserved for it, as in Kubernetes.
#[test]
fn container_may_have_a_limit_above_its_reservation() {
    let mut form = container(|_| ());
    form.resources.limit.memory = 128 << 20;
    let spec = Spec::try_from(form.clone()).unwrap();
    assert_eq!((spec.reservation().memory, spec.resources.limit.memory), (64 << 20, 128 << 20));
    form.resources.limit.memory = 32 << 20;
    let error = Spec::try_from(form).unwrap_err().to_string();
    assert!(error.starts_with("memory: the limit of 32MiB is below the 64MiB"), "{error}");
}

/// An engine would refuse these after the auction, on a device that nobody sees.
#[test]
fn container_that_no_engine_takes_is_refused_by_the_field() {
    let texts = [
        refused_container(|it| it.image.reference = "two words".into()),
        refused_container(|it| it.workdir = Some("here".into())),
        refused_container(|it| {
            it.tmpfs = vec![Tmpfs { path: "tmp".into(), size: None, exec: false }]
        }),
        refused_container(|it| _ = it.labels.insert("a=b".into(), "c".into())),
        refused_container(|it| _ = it.labels.insert("shoal.node".into(), "c".into())),
        refused_container(|it| {
            _ = it.ulimits.insert("files".into(), Ulimit { soft: 1, hard: 1 });
        }),
        refused_container(|it| {
            _ = it.ulimits.insert("nofile".into(), Ulimit { soft: 9, hard: 1 });
        }),
        refused_container(|it| it.stop_signal = Some("TERM please".into())),
        refused_container(|it| it.command = Some(vec!["a\0b".into()])),
        refused_container(|it| it.command = Some(vec!["x".repeat(9_000)])),
        refused_container(|it| it.http = Some(0)),
        refused_container(|it| (it.http, it.network) = (Some(80), NetworkMode::None)),
        refused_container(|it| _ = it.env.insert("SHOAL_NODE".into(), "n".into())),
    ];
    let fields: Vec<&str> = texts.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "image",
            "container",
            "container",
            "labels",
            "labels",
            "ulimits",
            "ulimits",
            "stop_signal",
            "container",
            "container",
            "http",
            "http",
            "env",
        ]
    );
    assert!(Spec::try_from(container(|it| it.stop_signal = Some("SIGRTMIN+3".into()))).is_ok());
}

/// A node fetches and prices the parts of its own architecture only, and an image without one for
/// it does not fit.
#[test]
fn image_of_another_architecture_does_not_fit() {
    let part = |n: u8| Artifact { digest: Digest([n; 32]), size: u64::from(n) };
    let platform = |arch: &str, n: u8| PlatformImage {
        arch: arch.into(),
        config: part(n),
        layers: vec![part(n + 1), part(n + 2)],
        pieces: None,
    };
    let spec = Spec::try_from(container(|it| {
        it.image.platforms = vec![platform("x86_64", 1), platform("aarch64", 10)];
    }))
    .unwrap();
    let sizes = |arch| spec.program.artifacts_on(arch).map(|it| it.size).collect::<Vec<_>>();
    assert_eq!(sizes(Some("x86_64")), [2, 3, 1]);
    assert_eq!(sizes(Some("arm")), []);
    assert_eq!(sizes(None), [2, 3, 1, 11, 12, 10]);
    let facts = |arch: &str| Facts {
        arch: arch.into(),
        runtimes: [ProgramKind::Container].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 1_000 },
        ..Facts::default()
    };
    assert_eq!(facts("aarch64").fits(&spec), Ok(()));
    assert_eq!(facts("arm").fits(&spec), Err(Unfit::Platform("arm".into())));
}

fn mounting(source: VolumeSource, path: &str) -> SpecForm {
    let mut form = container(|it| {
        it.mounts = vec![Mount { volume: "data".into(), path: path.into(), read_only: false }];
    });
    form.storage = vec![Volume { name: "data".into(), source, on_loss: OnLoss::Wait }];
    form
}

/// A path that leads out of the folder that it begins with would get round what a node allows.
#[test]
fn mounts_and_devices_that_mean_nothing_are_refused() {
    let device = |path: &str| VolumeSource::Device(path.into());
    let refused = |form: SpecForm| Spec::try_from(form).unwrap_err().to_string();
    for (source, path) in [
        (device("/data/../etc"), "/x"),
        (device("data"), "/x"),
        (device("/data/"), "/x"),
        (device("/data"), "x"),
        (device("/data"), "/"),
        (device(&format!("/{}", "x".repeat(200))), "/x"),
    ] {
        let error = refused(mounting(source, path));
        assert!(error.starts_with("volumes: `"), "{error}");
    }
    let mut nameless = mounting(device("/data"), "/x");
    nameless.storage[0].name = "other".into();
    assert_eq!(refused(nameless), "volumes: there is no volume `data`");
    let texts = [
        refused_container(|it| it.privileges.cap_add = vec!["net-admin".into()]),
        refused_container(|it| {
            it.privileges.devices = vec![Device { host: "/etc".into(), path: "/x".into() }];
        }),
        refused_container(|it| it.privileges.security = vec!["seccomp=/a.json".into()]),
    ];
    let fields: Vec<&str> = texts.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["cap_add", "devices", "security_opt"]);
    assert!(Spec::try_from(mounting(device("/data"), "/x")).is_ok());
}

/// An older program would keep it on one node for ever, so it must not read it.
#[test]
fn folder_that_goes_with_its_replica_is_of_form_3() {
    let spec = Spec::try_from(mounting(VolumeSource::Scratch, "/x")).unwrap();
    let value = Value::workload(&spec);
    assert!(matches!(&value, Value::Workload { version: 3, .. }));
    assert_eq!(value.spec(), Some(spec.clone()));
    assert_eq!((spec.kept().count(), value.check()), (0, Ok(())));
    let mut lost = mounting(VolumeSource::Scratch, "/x");
    lost.storage[0].on_loss = OnLoss::Empty;
    let refused = Spec::try_from(lost).unwrap_err().to_string();
    assert_eq!(refused, "volumes: `data` goes with its replica: nothing of it can be lost");
}

/// The reason stands in `explain`, so it names what the node's configuration lacks.
#[test]
fn node_that_does_not_allow_a_path_does_not_fit() {
    let spec = Spec::try_from(mounting(VolumeSource::Device("/data/db".into()), "/x")).unwrap();
    let mut facts = Facts {
        runtimes: [ProgramKind::Container].into(),
        capacity: Resources { memory: 1 << 30, cpu: 1_000 },
        ..Facts::default()
    };
    let refused = facts.fits(&spec).unwrap_err();
    assert_eq!(refused.to_string(), "does not allow path /data/db");
    facts.allowed.0.insert("path=/data".parse().unwrap());
    assert_eq!(facts.fits(&spec), Ok(()));
}

/// The image of a registry was pinned by an x86_64 node, which holds the parts of its own machine.
/// Other machines pull the rest under the same digest, unless no registry may be asked.
#[test]
fn other_machines_pull_a_pinned_image() {
    let pinned = |pull| {
        let part = |n: u8| Artifact { digest: Digest([n; 32]), size: u64::from(n) };
        let x86 = PlatformImage {
            arch: "x86_64".into(),
            config: part(1),
            layers: vec![part(2)],
            pieces: None,
        };
        Image { pull, digest: Some(Digest([9; 32])), platforms: vec![x86], ..Image::named("a") }
    };
    let missing = pinned(PullPolicy::Missing);
    assert!(!missing.comes_from_engine_on("x86_64") && missing.comes_from_engine_on("aarch64"));
    assert!(!pinned(PullPolicy::Never).comes_from_engine_on("aarch64"));
    let local = Image { digest: None, ..pinned(PullPolicy::Missing) };
    assert!(!local.comes_from_engine_on("aarch64"), "no registry has it");
    assert!(Image::named("a").comes_from_engine_on("aarch64"));
}

fn with_rules(rules: &[&str]) -> Result<Spec, InvalidSpec> {
    let mut form = form();
    rules.iter().for_each(|rule| form.add_required(rule.parse().unwrap()));
    form.try_into()
}

/// A workload that no node can ever take would only wait: the refusal names both rules.
#[test]
fn rules_that_contradict_one_another_are_refused() {
    for (rules, names) in [
        (["zone=front", "zone=back"], ["`zone = front`", "`zone = back`"]),
        (["zone=front", "!zone"], ["`zone = front`", "`!zone`"]),
        (["cores>5", "cores<3"], ["`cores > 5`", "`cores < 3`"]),
    ] {
        let error = with_rules(&rules).unwrap_err().to_string();
        assert!(error.starts_with("require: ") && error.contains("contradict"), "{error}");
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
    assert!(with_rules(&["zone=front", "zone=front", "zone"]).is_ok());
    let many: Vec<String> = (0..65).map(|n| format!("!label{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = with_rules(&many).unwrap_err().to_string();
    assert!(error.contains("65 rules, at most 64"), "{error}");
    let mut odd = form();
    odd.later.require = vec![Rule { name: "a b".into(), op: Op::Exists }];
    assert!(Spec::try_from(odd).unwrap_err().to_string().contains("`a b` is not a label"));
}

/// The first rule that a node fails is the reason that people see.
#[test]
fn node_is_judged_by_labels_and_facts() {
    let facts = Facts {
        arch: "aarch64".into(),
        runtimes: [ProgramKind::Wasm].into(),
        labels: [("zone".into(), "front".into()), ("os".into(), "mine".into())].into(),
        capacity: Resources { memory: 4 << 30, cpu: 4_000 },
        published: [("version".into(), "0.4.2".into()), ("os".into(), "linux".into())].into(),
        measured: [("disk.free".into(), 3 << 30)].into(),
        ..Facts::default()
    };
    let fits = |rules: &[&str]| facts.fits(&with_rules(rules).unwrap());
    let now = |rules: &[&str]| {
        let free = Resources { memory: 1 << 30, cpu: 500 };
        facts.fits_now(&with_rules(rules).unwrap(), free)
    };
    for fitting in [
        ["arch=arm64", "zone in (front, back)"],
        ["memory>=4GiB", "cores>2"],
        ["version>=0.4", "version<0.5"],
        ["runtime=wasm", "runtime!=container"],
        // A label wins over the fact of its name.
        ["os=mine", "!gpu"],
        // Only the node itself can judge these.
        ["disk.free>9TiB", "memory.free>9TiB"],
    ] {
        assert_eq!(fits(&fitting), Ok(()), "{fitting:?}");
    }
    for (rule, shown) in [
        ("arch=amd64", "arch = amd64"),
        ("zone!=front", "zone != front"),
        ("gpu", "gpu"),
        ("cores>4", "cores > 4"),
        ("memory<1GiB", "memory < 1GiB"),
        ("version>1.0.0", "version > 1.0.0"),
        ("runtime=container", "runtime = container"),
    ] {
        assert_eq!(fits(&[rule]).unwrap_err().to_string(), shown);
    }
    assert_eq!(now(&["disk.free>2GiB", "memory.free>=1GiB"]), Ok(()));
    for rule in ["disk.free > 4GiB", "memory.free > 1GiB", "cpu.free > 1", "swap.free > 1"] {
        assert_eq!(now(&[rule]).unwrap_err().to_string(), rule);
    }
}

/// A slip in a label keeps a workload from every node, or lets it run on each.
#[test]
fn labels_that_no_node_has_are_told() {
    let node = |zone: &str| Facts {
        labels: [("zone".into(), zone.into())].into(),
        published: [("os".into(), "linux".into())].into(),
        ..Facts::default()
    };
    let nodes = [node("front"), node("back")];
    let told = |rules: &[&str]| with_rules(rules).unwrap().unknown_names(nodes.iter());
    assert_eq!(told(&["zone=front", "os=linux", "disk.free>1GiB"]), [""; 0]);
    let told = told(&["!zome", "zone=x"]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("no node has the label `zome`; known: zone, arch, "), "{told:?}");
}

#[test]
fn toleration_is_of_a_name_or_a_value() {
    let all = |texts: &[&str]| -> Vec<Toleration> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    assert!(!tolerates(&[], "edge", "yes"));
    assert!(tolerates(&all(&["edge"]), "edge", "yes"));
    assert!(tolerates(&all(&["gpu", "edge = yes"]), "edge", "yes"));
    assert!(!tolerates(&all(&["edge=no", "edges"]), "edge", "yes"));
    assert!(tolerates(&all(&["*"]), "edge", "yes"));
    for text in ["", "=", "a=", "a b", "a=b=c", "**"] {
        assert!(text.parse::<Toleration>().is_err(), "{text}");
    }
    for text in ["edge", "edge=yes", "*"] {
        assert_eq!(text.parse::<Toleration>().unwrap().to_string(), text);
    }
}

/// Relations and labels that mean nothing, or contradict one another, are refused by name.
#[test]
fn odd_relations_are_refused() {
    let refused = |relations: &[&str], spread: &[&str]| {
        let mut form = form();
        form.placement.affinity = relations.iter().map(|text| text.parse().unwrap()).collect();
        form.placement.spread = spread.iter().map(|&text| text.to_owned()).collect();
        Spec::try_from(form).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (relations, spread, part) in [
        (&["near db", "apart db"][..], &[][..], "`near db` and `apart db` contradict one another"),
        (&["near db", "near db:5"], &[], "`db` stands there twice"),
        (&["near web"], &[], "`web` cannot be near itself"),
        (&[], &["zone", "zone"], "`zone` stands there twice"),
        (&[], &["a", "b", "c", "d", "e"], "5 labels, at most 4"),
        (&[], &["a b"], "`a b` is not a label"),
    ] {
        let error = refused(relations, spread);
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(refused(&["apart web", "near db:5", "apart other/db"], &["zone"]), "");
    let mut heavy = form();
    heavy.placement.prefer = vec![Preference { rule: "a=1".parse().unwrap(), weight: 200 }];
    let error = Spec::try_from(heavy).unwrap_err().to_string();
    assert!(error.contains("`a = 1`: weight 200 is outside 1 to 100"), "{error}");
    for text in ["db", "beside db", "near We", "near db:0", "near db:x"] {
        assert!(text.parse::<Affinity>().is_err(), "{text}");
    }
}

fn command(args: &[&str]) -> SpecForm {
    let mut form = form();
    let Program::Wasm(component) = &mut form.program else { unreachable!() };
    component.world = World::Command;
    component.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    form
}

/// A program that does not know commands would ask it for answers, so it must not read it.
#[test]
fn command_is_of_form_3_and_its_arguments_restart_it() {
    let spec = |form: SpecForm| Spec::try_from(form).unwrap();
    for form in [command(&[]), command(&["--full", "a b"])] {
        let spec = spec(form);
        let value = crate::model::Value::workload(&spec);
        assert!(matches!(value, crate::model::Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(spec));
    }
    assert_ne!(spec(command(&[])).revision(), spec(form()).revision());
    assert_ne!(spec(command(&["a"])).revision(), spec(command(&["b"])).revision());
    let json = crate::model::view::SpecBody::from(&spec(command(&["a"])));
    assert_eq!(Spec::try_from(json), Ok(spec(command(&["a"]))));
    let nul = Spec::try_from(command(&["a\0"])).unwrap_err().to_string();
    assert!(nul.starts_with("args: ") && nul.contains("NUL"), "{nul}");
    let many = Spec::try_from(command(&["a"; MAX_ARGS + 1])).unwrap_err().to_string();
    assert!(many.contains("257 arguments"), "{many}");
}

/// A job of a program that never ends would never be done, and a command answers no probe.
#[test]
fn job_needs_a_program_that_ends() {
    let job = |form: SpecForm| SpecForm { kind: Kind::Job(Job::default()), ..form };
    let refusal = job(form()).check_end().unwrap_err().to_string();
    assert!(refusal.starts_with("kind: a component that answers requests never ends"), "{refusal}");
    let json = crate::model::view::SpecBody::from(&Spec::try_from(job(form())).unwrap());
    assert!(Spec::try_from(json).unwrap_err().to_string().contains("never ends"));
    assert_eq!(job(command(&[])).check_end(), Ok(()));
    assert_eq!(form().check_end(), Ok(()));
    let mut probed = command(&[]);
    probed.health.liveness = Some(Probe::of(Check::http("/", None)));
    let refusal = Spec::try_from(probed).unwrap_err().to_string();
    assert!(refusal.contains("a command answers nothing"), "{refusal}");
}
