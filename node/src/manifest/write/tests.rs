//! What is written is read as the same spec.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of as maybe;
use proptest::prelude::*;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{
    Affinity, LaunchFact, Port, Preference, Rule, Toleration, Ulimit, Volume,
};

use super::*;
use crate::publish::{Source, Workload};

/// Texts that readers of YAML take for something else, or that need an escape.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "yes",
        "null",
        "~",
        "010",
        "1e3",
        "0x1F",
        "1_000",
        "- a",
        "a: b",
        "a #b",
        "[x",
        "{y",
        "'q'",
        "\"",
        "\\",
        "tab\t",
        "two\nlines\n",
        " blank ",
        "é漢",
        "\u{7f}\u{85}\u{2028}",
        "!tag",
        "&a",
        "*a",
        "%d",
        "@x",
        "`",
        "---",
        "...",
        "=",
        "<<",
        "2026-01-01",
        "+1",
        ".5",
        "12:30:45",
        "\u{feff}x",
        "😀",
    ];
    prop_oneof![
        proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        "[a-zA-Z0-9_./:-]{1,12}",
        "[ -~]{0,16}",
    ]
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}"
}

fn variable() -> impl Strategy<Value = String> {
    "[A-Z][A-Z0-9_]{0,6}".prop_filter("reserved", |it| !it.starts_with("SHOAL"))
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(variable(), text(), 0..4)
}

fn artifact() -> impl Strategy<Value = Artifact> {
    (any::<[u8; 32]>(), 1..1u64 << 30)
        .prop_map(|(hash, size)| Artifact { digest: Digest(hash), size })
}

fn label() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,5}"
}

fn rule() -> impl Strategy<Value = Rule> {
    let text = prop_oneof![
        (label(), word()).prop_map(|(name, value)| format!("{name} = {value}")),
        (label(), word()).prop_map(|(name, value)| format!("{name} != {value}")),
        (label(), word(), word()).prop_map(|(name, a, b)| format!("{name} in ({a}, {b}x)")),
        label().prop_map(|name| format!("!{name}")),
        (label(), 1u32..100).prop_map(|(name, least)| format!("{name} > {least}")),
    ];
    text.prop_filter_map("no rule", |text| text.parse().ok())
}

fn time() -> impl Strategy<Value = Duration> {
    (100u64..60_000).prop_map(Duration::from_millis)
}

fn probe(with_exec: bool) -> impl Strategy<Value = Probe> {
    let http = (word(), btree_map("X-[A-Z]{1,4}", "[a-z0-9]{0,4}", 0..2), maybe(1..9999u16));
    let http = http.prop_map(move |(path, headers, port)| {
        let port = if with_exec { Some(port.unwrap_or(80)) } else { None };
        Check::Http { path: format!("/{path}"), port, headers }
    });
    let exec = vec(text(), 1..3).prop_filter("a program", |all| !all[0].is_empty());
    let check = match with_exec {
        true => prop_oneof![
            http,
            (1..9999u16).prop_map(|port| Check::Tcp { port }),
            exec.prop_map(|command| Check::Exec { command })
        ]
        .boxed(),
        false => http.boxed(),
    };
    (check, time(), time(), 1..9u32, time()).prop_map(|(check, every, timeout, failures, delay)| {
        Probe { every, timeout, failures, delay, ..Probe::of(check) }
    })
}

fn health(with_exec: bool) -> impl Strategy<Value = Health> {
    let one = || maybe(probe(with_exec));
    let readiness = maybe((probe(with_exec), 1..9u32));
    (one(), readiness, one()).prop_map(|(startup, readiness, liveness)| Health {
        startup,
        readiness: readiness.map(|(probe, successes)| Probe { successes, ..probe }),
        liveness,
    })
}

fn values(files: bool) -> impl Strategy<Value = Vec<ValueUse>> {
    let file = (word(), 1u32..0o777, maybe(0..99u32), maybe(0..99u32));
    let file = file.prop_map(|(path, mode, uid, gid)| Target::File {
        path: format!("/given/{path}"),
        mode,
        uid,
        gid,
    });
    let env = variable().prop_map(|name| Target::Env(format!("G_{name}")));
    let to = if files { prop_oneof![file, env].boxed() } else { env.boxed() };
    let one = (any::<bool>(), word(), to).prop_map(|(is_secret, name, to)| ValueUse {
        kind: if is_secret { ValueKind::Secret } else { ValueKind::Config },
        name: name.parse().unwrap(),
        to,
    });
    // A manifest has the secrets first.
    vec(one, 0..4).prop_map(|mut all| {
        all.sort_by_key(|it| it.kind);
        all
    })
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let times = (maybe(time()), 60_000u64..1_000_000);
    (1..9u32, any::<[bool; 3]>(), times, 0..5u32).prop_map(
        |(parallel, [is_stop_first, goes_back, paused], (min_ready, deadline), canary)| Rollout {
            parallel,
            order: if is_stop_first { Order::StopFirst } else { Order::StartFirst },
            min_ready: min_ready.unwrap_or_default(),
            deadline: Duration::from_millis(deadline),
            canary,
            on_failure: if goes_back { OnFailure::RollBack } else { OnFailure::Pause },
            paused,
        },
    )
}

fn autoscale() -> impl Strategy<Value = Autoscale> {
    let targets = (1..=1_000u32, maybe(1..=1_000u32));
    let times = (0..3_600u64, 10..=3_600u64);
    (1..9u32, 0..9u32, targets, times).prop_map(|(min, more, (cpu, memory), (up, down))| {
        Autoscale {
            min,
            max: min + more,
            cpu: Some(cpu),
            memory,
            requests: None,
            up: Duration::from_secs(up),
            down: Duration::from_secs(down),
        }
    })
}

type Placing = (Vec<Rule>, Vec<Preference>, Vec<String>, Vec<Affinity>, Vec<Toleration>);

fn placing() -> impl Strategy<Value = Placing> {
    let prefer = (rule(), 1..=100u8).prop_map(|(rule, weight)| Preference { rule, weight });
    let relation = (any::<bool>(), word(), word(), maybe(1..=100u8));
    let relation = relation.prop_map(|(apart, namespace, name, weight)| Affinity {
        workload: format!("{namespace}/{name}").parse().unwrap(),
        apart,
        weight,
    });
    let affinity = vec(relation, 0..3).prop_map(|mut all| {
        all.sort_by_key(|it| it.apart);
        all
    });
    let tolerate = prop_oneof![
        Just(Toleration::All),
        label().prop_map(Toleration::Name),
        (label(), word()).prop_map(|(name, value)| Toleration::Value(name, value)),
    ];
    let spread = btree_set(label(), 0..3).prop_map(|all| all.into_iter().collect());
    (vec(rule(), 0..4), vec(prefer, 0..3), spread, affinity, vec(tolerate, 0..3))
}

fn kind() -> impl Strategy<Value = Kind> {
    let time = || maybe((1_000u64..1 << 32).prop_map(Duration::from_millis));
    let job = |most: u32| {
        let counts = (1..=most).prop_flat_map(|all| (Just(all), 1..=all));
        (counts, 0..=100u32, time(), time()).prop_map(|(counts, retries, deadline, keep)| Job {
            completions: counts.0,
            parallel: counts.1,
            retries,
            deadline,
            keep,
        })
    };
    let schedules = ["@daily", "*/5 * * * *", "0 3 * * mon-fri", "0-30/10 1,13 1 jan,7 *"];
    let zones = ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"];
    let missed =
        prop_oneof![Just(Missed::Skip), Just(Missed::Once), (1..=8u32).prop_map(Missed::All)];
    let overlap = proptest::sample::select(vec![Overlap::Allow, Overlap::Forbid, Overlap::Replace]);
    let texts =
        (proptest::sample::select(schedules.to_vec()), proptest::sample::select(zones.to_vec()));
    let cron = (texts, missed, overlap, any::<bool>(), job(16));
    let cron = cron.prop_map(|((schedule, zone), missed, overlap, suspended, job)| {
        let (schedule, zone) = (schedule.to_owned(), zone.to_owned());
        Kind::Cron(Cron { schedule, zone, missed, overlap, suspended, job })
    });
    prop_oneof![
        2 => (0..5u32).prop_map(|replicas| Kind::Service { replicas }),
        1 => (0..5u32, any::<bool>()).prop_map(|(replicas, is_parallel)| {
            let order = if is_parallel { Sequence::Parallel } else { Sequence::Ordered };
            Kind::Stateful(Stateful { replicas, order })
        }),
        1 => Just(Kind::Daemon),
        1 => job(256).prop_map(Kind::Job),
        1 => cron,
    ]
}

/// A workload with all that components and containers have in common.
fn common(workload: Workload, files: bool) -> impl Strategy<Value = Workload> {
    let size = (kind(), 8u64 << 20..1 << 33, 1..9000u32);
    let limit = (maybe(0..1u64 << 30), maybe(0..9000u32));
    let uses =
        (maybe(1u64 << 20..1 << 40), btree_map("[a-z]{1,5}(/[a-z]{1,3})?", 1..1_000_001u64, 0..3));
    let rest = (maybe(word()), 0..3u64, maybe(rollout()), maybe(autoscale()), uses);
    (size, limit, pairs(), placing(), values(files), health(files), rest).prop_map(
        move |((kind, memory, cpu), (most, most_cpu), env, placing, values, health, rest)| {
            let (rules, prefer, spread, affinity, tolerate) = placing;
            let is_service = matches!(kind, Kind::Service { .. });
            let (kind_is_stateful, replicas) = (kind.is_stateful(), kind.replicas());
            let mut it = workload.clone().kind(kind).memory(memory).cpu(cpu).envs(env);
            it = it.rules(rules).prefers(prefer).spread(spread).affinity(affinity);
            let is_off = files && rest.1 == 2 && health.is_empty();
            it = it.tolerates(tolerate).given(values).health(health).restarts(rest.1);
            it = it.no_healthcheck(is_off);
            let (disk, devices) = rest.4;
            it = it.resources(devices).disk(disk.unwrap_or_default());
            it = it.best_effort(rest.1 == 1).priority(memory as i32 % 1000 * (cpu as i32 % 2));
            if let Some(set) = rest.0 {
                it = it.set(set.parse().unwrap());
            }
            if let Some(mut rollout) = rest.2 {
                if kind_is_stateful {
                    rollout.order = Order::StopFirst;
                }
                // A manifest refuses a canary of all replicas.
                let scale = rest.3.as_ref().filter(|_| is_service);
                if let Some(most) = scale.map(|scale| scale.max).or(replicas).filter(|it| *it > 0) {
                    rollout.canary = rollout.canary.min(most - 1);
                }
                it = it.update(rollout);
            }
            if let Some(scale) = rest.3.filter(|_| is_service) {
                it = it.autoscale(scale);
            }
            it.limit(most.map(|more| memory + more), most_cpu.map(|more| cpu + more))
        },
    )
}

fn component() -> impl Strategy<Value = Spec> {
    let name = ("[a-z]{1,5}", "[a-z]{1,5}");
    let args = prop_oneof![Just(Vec::new()), vec(text(), 1..4)];
    let volume = maybe((any::<bool>(), any::<bool>()));
    let parts = (name, artifact(), args, any::<bool>(), volume);
    let workload =
        parts.prop_flat_map(|((namespace, name), artifact, args, is_command, volume)| {
            let name = format!("{namespace}/{name}").parse().unwrap();
            let world = if is_command { World::Command } else { World::Http };
            common(Workload::component(name, Source::Held(artifact)), false).prop_map(move |it| {
                let it = it.args(args.clone()).world(world);
                let it = match volume {
                    Some((read_only, is_empty)) => {
                        let on_loss = if is_empty { OnLoss::Empty } else { OnLoss::Wait };
                        let (name, source) = ("data".to_owned(), VolumeSource::Kept);
                        let mount = Mount { volume: name.clone(), path: "/data".into(), read_only };
                        it.folders(vec![Volume { name, source, on_loss }], vec![mount])
                    }
                    None => it,
                };
                it.spec(Some(artifact))
            })
        });
    workload.prop_filter_map("invalid", Result::ok)
}

fn image() -> impl Strategy<Value = Image> {
    let platform = (word(), artifact(), vec(artifact(), 1..4), maybe(artifact()));
    let platform = platform.prop_map(|(arch, config, layers, pieces)| {
        // Pieces are of large layers alone.
        let is_large = layers.iter().any(|it| it.pieces() > 0);
        PlatformImage { arch, config, layers, pieces: pieces.filter(|_| is_large) }
    });
    let pull =
        proptest::sample::select(vec![PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never]);
    let reference = prop_oneof!["[a-z]{1,6}:[a-z0-9]{1,3}", "[a-z]{1,6}[.]tar"];
    (reference, maybe(any::<[u8; 32]>()), pull, maybe(platform)).prop_map(
        |(reference, digest, pull, platform)| Image {
            digest: digest.map(Digest),
            pull,
            platforms: platform.into_iter().collect(),
            // A path is the image's name only where its parts are named as well.
            reference: match digest {
                None => reference.replace(".tar", ":1"),
                Some(_) => reference,
            },
        },
    )
}

fn container() -> impl Strategy<Value = Spec> {
    let words = || maybe(vec(text(), 0..4));
    let flags = any::<[bool; 5]>();
    let one = (image(), words(), words(), flags, maybe(1..9999u16));
    let texts = (maybe(text()), maybe(word()), maybe(word()), btree_map(word(), text(), 0..3));
    let times = (maybe(time()), maybe(1..1u64 << 30));
    let tmpfs = (word(), maybe(1..1u64 << 30), any::<bool>());
    let tmpfs =
        tmpfs.prop_map(|(path, size, exec)| Tmpfs { path: format!("/t/{path}"), size, exec });
    let volume = (word(), maybe(word()), any::<bool>(), any::<bool>());
    let files = (vec(tmpfs, 0..2), btree_map(word(), volume, 0..3));
    let port = (1..9999u16, 1..9999u16, any::<bool>(), any::<bool>());
    let ports = (vec(port, 0..3), btree_set(1..9999u16, 0..3));
    let limits = btree_map("nofile|nproc|core", (-1..50i64, 50..99i64), 0..3);
    let rights = (vec("[A-Z]{2,6}", 0..2), vec("[A-Z]{2,6}", 0..2), vec(word(), 0..2));
    let all = ((one, texts, times), (files, ports), (limits, rights, 0..3usize));
    let workload = all.prop_flat_map(|((one, texts, times), (files, ports), limits)| {
        let (image, entrypoint, command, [read_only, init, stdin, tty, privileged], http) = one;
        let (user, workdir, hostname, labels) = texts;
        let (tmpfs, volumes) = files;
        let (limits, (cap_add, cap_drop, devices), network) = limits;
        let mut built = Container::of("main", image);
        (built.entrypoint, built.command, built.http) = (entrypoint, command, http);
        (built.read_only, built.init, built.user) = (read_only, init, user);
        (built.workdir, built.hostname) = (workdir.map(|it| format!("/{it}")), hostname);
        (built.labels, built.tmpfs) = (labels, tmpfs);
        (built.stop_grace, built.shm_size) = times;
        built.stop_signal = init.then(|| "SIGINT".to_owned());
        let network_mode = [NetworkMode::Bridge, NetworkMode::Host, NetworkMode::None][network];
        built.network = network_mode;
        built.ulimits =
            limits.into_iter().map(|(name, (soft, hard))| (name, Ulimit { soft, hard })).collect();
        built.sysctls =
            read_only.then(|| ("net.a".to_owned(), "1".to_owned())).into_iter().collect();
        let device = |name: String| Device { host: format!("/dev/{name}"), path: "/dev/x".into() };
        let devices = devices.into_iter().map(device).collect();
        let security = if init { vec!["no-new-privileges".to_owned()] } else { Vec::new() };
        built.privileges = Privileges { privileged, cap_add, cap_drop, devices, security };
        let mut extra = Extra::default();
        if network_mode != NetworkMode::None {
            let host = |it: &Device| format!("{}:10.0.0.5", it.host.trim_start_matches("/dev/"));
            extra.hosts =
                built.privileges.devices.iter().map(host).map(|it| it.parse().unwrap()).collect();
            extra.dns = tty.then(|| "1.1.1.1".parse().unwrap()).into_iter().collect();
            extra.dns_search = init.then(|| "example.org".to_owned()).into_iter().collect();
            extra.aliases = init.then(|| "my_db".to_owned()).into_iter().collect();
            extra.dns_opt = stdin.then(|| "ndots:2".to_owned()).into_iter().collect();
        }
        extra.groups = read_only.then(|| "7".to_owned()).into_iter().collect();
        extra.env_from =
            tty.then(|| ("NODE_NAME".to_owned(), LaunchFact::Node)).into_iter().collect();
        built.extra = extra;
        built.hooks.post_start = tty
            .then(|| {
                Hook::Exec(HookCommand {
                    command: vec!["chown".into(), "it's".into()],
                    user: init.then(|| "0".into()),
                    workdir: Some("/data".into()),
                    env: [("A".to_owned(), "010".to_owned())].into(),
                })
            })
            .into_iter()
            .collect();
        built.hooks.pre_stop =
            init.then(|| Hook::Sleep(Duration::from_millis(1500))).into_iter().collect();
        let mut storage = Vec::new();
        for (name, (path, device, read_only, empty)) in volumes {
            let source = match device {
                Some(it) => VolumeSource::Device(format!("/{it}")),
                None if read_only && !empty => VolumeSource::Scratch,
                None => VolumeSource::Kept,
            };
            let on_loss = match (&source, empty) {
                (VolumeSource::Kept, true) => OnLoss::Empty,
                _ => OnLoss::Wait,
            };
            built.mounts.push(Mount {
                volume: name.clone(),
                path: format!("/v/{path}"),
                read_only,
            });
            storage.push(Volume { name, source, on_loss });
        }
        let (ports, exposed) = ports;
        let ports: Vec<Port> = ports
            .into_iter()
            .map(|(device, replica, udp, bound)| Port {
                device,
                replica,
                udp,
                address: bound.then(|| [127, 0, 0, 1].into()),
            })
            .collect();
        let workload = Workload::container("shop/a".parse().unwrap(), "x");
        let workload = workload.with_container(|it| *it = built);
        let workload = workload.storage(storage).ports(ports).streams(stdin, tty).exposes(exposed);
        common(workload, true).prop_map(|it| it.spec(None))
    });
    workload.prop_filter_map("invalid", Result::ok)
}

fn check(spec: &Spec) {
    let text = manifest(spec).unwrap_or_else(|error| panic!("{error}\n{spec:#?}"));
    let all = parse(&text, Path::new("/elsewhere")).unwrap_or_else(|it| panic!("{text}\n{it}"));
    let [workload] = all.as_slice() else { panic!("{text}") };
    let artifact = match workload.source() {
        Source::Held(artifact) => Some(*artifact),
        Source::Engine => None,
        other => panic!("a file is needed: {other:?}\n{text}"),
    };
    assert_eq!(workload.spec(artifact).unwrap(), *spec, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A failing spec becomes a test of its own, and no file beside the sources.
        failure_persistence: None,
        max_local_rejects: 1 << 20,
        max_global_rejects: 1 << 20,
        ..ProptestConfig::with_cases(400)
    })]

    /// Publishing what was exported says `unchanged`.
    #[test]
    fn exported_component_is_read_as_it_was(spec in component()) {
        check(&spec);
    }

    #[test]
    fn exported_container_is_read_as_it_was(spec in container()) {
        check(&spec);
    }

    #[test]
    fn exported_group_is_read_as_it_was(spec in group()) {
        check(&spec);
    }
}

/// A group of containers, each as one alone may be, with or without sizes of their own.
fn group() -> impl Strategy<Value = Spec> {
    let member = (0..3usize, maybe((6..200u64, 1..900u32, 0..100u64, maybe(0..100u32))));
    let own = (vec((container(), member), 2..4), any::<bool>());
    own.prop_filter_map("invalid", |(all, is_sum)| {
        let mut form = SpecForm::from(all[0].0.clone());
        let mut containers = Vec::new();
        for (at, (spec, (role, size))) in all.into_iter().enumerate() {
            let SpecForm { program, storage, health, later, .. } = SpecForm::from(spec);
            let Program::Containers(mut one) = program else { panic!() };
            let mut it = one.remove(0);
            it.name = format!("c{at}");
            it.network = NetworkMode::Bridge;
            let size = size.or(is_sum.then_some((64, 100, 0, None)));
            if let Some((memory, cpu, more, most_cpu)) = size {
                let reserved = Resources { memory: memory << 20, cpu };
                let most_cpu = most_cpu.map_or(NO_CPU_LIMIT, |more| cpu + more);
                it.member.reservation = Some(reserved);
                it.limit = Some(Resources { memory: (memory + more) << 20, cpu: most_cpu });
            }
            if at > 0 {
                it.http = None;
                it.hostname = None;
                let Extra { groups, env_from, .. } = it.extra;
                it.extra = Extra { groups, env_from, ..Extra::default() };
                it.member.role = [Role::App, Role::Init, Role::Sidecar][role];
                let is_init = it.member.role == Role::Init;
                if is_init {
                    it.hooks = Hooks::default();
                }
                it.member.health = if is_init { Health::default() } else { health };
                it.member.values = later.values;
                form.later.no_healthcheck &= it.member.health.is_empty();
                let known = |it: &Volume| form.storage.iter().any(|other| other.name == it.name);
                let new: Vec<Volume> = storage.into_iter().filter(|it| !known(it)).collect();
                form.storage.extend(new);
            }
            containers.push(it);
        }
        form.program = Program::Containers(containers);
        form.later.exposed.clear();
        if let (true, Some(size)) = (is_sum, size_of_group(form.program.containers())) {
            form.resources = size;
        }
        Spec::try_from(form).ok()
    })
}

/// The shortest documents are what a person would have written.
#[test]
fn defaults_are_left_out() {
    let workload = Workload::image("web", "nginx:1.27").unwrap();
    let spec = workload.clone().spec(None).unwrap();
    assert_eq!(manifest(&spec).unwrap(), "name: web\nimage: \"nginx:1.27\"\n");
    let spec = workload.env("A", "yes").memory(128 << 20).spec(None).unwrap();
    let text = "name: web\nimage: \"nginx:1.27\"\nmemory: 128MiB\nenv:\n  A: \"yes\"\n";
    assert_eq!(manifest(&spec).unwrap(), text);
    let options = crate::publish::kind::KindOptions {
        schedule: Some("@daily".into()),
        overlap: Some(Overlap::Forbid),
        deadline: Some(Duration::from_secs(600)),
        ..Default::default()
    };
    let workload = Workload::image("report", "report:1").unwrap();
    let spec = workload.kind(options.kind(None).unwrap()).spec(None).unwrap();
    let kind = "schedule: \"@daily\"\noverlap: forbid\ndeadline: 600s\n";
    let text = format!("name: report\nimage: \"report:1\"\n{kind}");
    assert_eq!(manifest(&spec).unwrap(), text);
}

/// A manifest with such a canary is refused, and what is exported can be published.
#[test]
fn canary_of_all_replicas_is_left_out() {
    let rollout = Rollout { canary: 2, ..Rollout::default() };
    let of = |replicas| {
        let workload = Workload::image("web", "nginx:1.27").unwrap();
        let workload = workload.kind(Kind::Service { replicas }).update(rollout.clone());
        let text = manifest(&workload.spec(None).unwrap()).unwrap();
        assert_eq!(parse(&text, Path::new("/")).map(|all| all.len()), Ok(1), "{text}");
        text
    };
    assert!(of(3).contains("canary: 2"), "{}", of(3));
    // As after `shoal scale web=2`.
    assert!(!of(2).contains("canary"), "{}", of(2));
}

/// The bytes tell what a component is, and an export does not have them.
#[test]
fn command_without_arguments_is_written_with_its_world() {
    let artifact = Artifact { digest: Digest([3; 32]), size: 9 };
    let of = |kind: Kind, args: &[&str]| {
        let workload = Workload::component("a".parse().unwrap(), Source::Held(artifact));
        let args = args.iter().map(|it| (*it).to_owned()).collect();
        let workload = workload.kind(kind).args(args).world(World::Command);
        manifest(&workload.spec(Some(artifact)).unwrap()).unwrap()
    };
    assert!(of(Kind::Daemon, &[]).contains("world: command\nkind: daemon\n"));
    assert!(of(Kind::Service { replicas: 1 }, &[]).contains("world: command\n"));
    assert!(!of(Kind::Service { replicas: 1 }, &["x"]).contains("world"));
    assert!(!of(Kind::Job(Job::default()), &[]).contains("world"));
}

/// A program that embeds a node may give a workload what a manifest has no field for.
#[test]
fn what_a_manifest_cannot_have_is_an_error() {
    let workload = Workload::image("web", "nginx:1.27").unwrap();
    let spec = workload.with_container(|it| it.name = "other".into()).spec(None).unwrap();
    let error = manifest(&spec).unwrap_err();
    assert!(error.starts_with("`web` cannot be written as a manifest: "), "{error}");
}

/// The files in `examples/`, as far as their bytes are not needed.
#[test]
fn examples_are_written_as_they_were_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for workload in parse(&text, Path::new("/")).unwrap() {
            let artifact = Artifact { digest: Digest([3; 32]), size: 9 };
            // As reading an image's file leaves it.
            let is_file = matches!(workload.source(), Source::Image(_));
            let workload = workload.with_container(|it| {
                let image = &mut it.image;
                if is_file {
                    image.reference = "server.tar".into();
                    image.platforms = vec![PlatformImage {
                        arch: "x86_64".into(),
                        config: artifact,
                        layers: vec![artifact],
                        pieces: None,
                    }];
                }
            });
            check(&workload.spec(Some(artifact)).unwrap());
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}
