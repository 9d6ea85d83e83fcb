use std::time::Duration;

use shoal_protocol::model::spec::{
    DEFAULT_CPU, DEFAULT_MEMORY, NO_CPU_LIMIT, Program, PullPolicy, Requirements,
};
use shoal_protocol::model::{Artifact, Digest, Resources, Spec};

use super::*;

fn read(text: &str) -> Result<Vec<Workload>, ManifestError> {
    parse(text, Path::new("/shop"))
}

/// The spec of a workload that was read, with some artifact.
fn spec(workload: &Workload) -> Spec {
    workload.spec(Some(Artifact { digest: Digest([1; 32]), size: 1 })).unwrap()
}

fn refusal(text: &str) -> (Option<u64>, String, String) {
    let error = read(text).unwrap_err();
    (error.line, error.message, error.hint.unwrap_or_default())
}

#[test]
fn full_and_minimal_manifests_parse() {
    let text = "name: hello\nnamespace: shop\nwasm: hello.wasm\nreplicas: 2\nmemory: 128MiB\ncpu: \
        250m\n\
                env: { GREETING: hi, N: 5 }\nrequire: { zone: shop }\n---\nname: least\nwasm: \
                /abs/least.wasm\n";
    let workloads = read(text).unwrap();
    assert_eq!(*workloads[0].source(), Source::File("/shop/hello.wasm".into()));
    let hello = spec(&workloads[0]);
    assert_eq!(hello.name.to_string(), "shop/hello");
    assert_eq!(hello.replicas(), 2);
    assert_eq!(hello.reservation(), Resources { memory: 128 << 20, cpu: 250 });
    assert_eq!(hello.env()["N"], "5");
    assert_eq!(hello.placement.require["zone"], "shop");
    assert_eq!(*workloads[1].source(), Source::File("/abs/least.wasm".into()));
    let least = spec(&workloads[1]);
    assert_eq!(least.replicas(), 1);
    assert_eq!(least.reservation(), Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU });
}

/// A field with a slip was silently ignored by other tools: here the error has the line and the
/// likely name.
#[test]
fn unknown_field_is_named_with_line_and_nearest() {
    let (line, message, hint) = refusal("name: hello\nwasm: hello.wasm\nreplica: 2\n");
    assert_eq!(
        (line, message.as_str(), hint.as_str()),
        (Some(3), "unknown field `replica`", "Did you mean `replicas`?")
    );
    let nested = "name: a\nimage: a\nhealth:\n  liveness: { tcp: { port: 80 }, evry: 5s }\n";
    for (text, place, near) in [
        ("name: hello\nwasm: hello.wasm\nreplica: 2\n", "line 3, column 1: ", "replicas"),
        (nested, "line 4, column 34: ", "every"),
        ("name: a\nimage: a\nprefer:\n  - { rul: a }\n", "line 4, column 7: ", "rule"),
        ("name: a\nimage: a\nsecrets: [{ sorce: a }]\n", "line 3, column 13: ", "source"),
        ("name: a\nimage: a\nlimit: { memry: 1GiB }\n", "line 3, column 10: ", "memory"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.to_string().starts_with(place), "{error}");
        let hint = format!("Did you mean `{near}`?");
        assert_eq!(error.hint.as_deref(), Some(hint.as_str()), "{error}");
    }
    let (line, message, hint) = refusal("name: hello\nwasm: hello.wasm\ncolour: [a]\n");
    assert_eq!((line, message.as_str()), (Some(3), "unknown field `colour`"));
    assert!(hint.starts_with("Known are name, namespace, wasm,"), "{hint}");
}

/// A field that other orchestrators have, and this version has not, is no slip: it is refused by
/// its name, so that nobody takes it for working.
#[test]
fn field_of_a_later_version_is_refused_as_not_supported() {
    let (line, message, _) = refusal("name: a\nwasm: a\nhosts: x\n");
    let expected = "hosts: not supported yet by this version of shoal";
    assert_eq!((line, message.as_str()), (Some(3), expected));
}

#[test]
fn unknown_field_in_second_document_has_its_line() {
    let (line, message, _) =
        refusal("name: a\nwasm: a.wasm\n---\nname: b\nwasm: b.wasm\nenvs: {}\n");
    assert_eq!((line, message.as_str()), (Some(6), "unknown field `envs`"));
}

#[test]
fn wrong_values_name_field_line_and_form() {
    let (line, message, _) = refusal("name: Hello\nwasm: a\n");
    assert_eq!(line, Some(1));
    assert!(
        message.starts_with("name: `Hello` is not a DNS label")
            && message.ends_with("Perhaps `hello`?"),
        "{message}"
    );
    let (line, message, _) = refusal("name: a\nwasm: a\nmemory: much\n");
    assert_eq!(
        (line, message.as_str()),
        (Some(3), "memory: `much` is not a size: a number with a unit is expected, as in `64MiB`")
    );
    let (line, message, _) = refusal("name: a\nwasm: a\n\ncpu: x\n");
    assert_eq!(line, Some(4));
    assert!(message.starts_with("cpu: `x` is not an amount of CPU"), "{message}");
    let (line, message, _) = refusal("name: a\nwasm: a\nreplicas: -1\n");
    assert_eq!(line, Some(3));
    assert!(message.starts_with("replicas: `-1` is not a number"), "{message}");
    for number in ["+2", "010", "'2 '", "2.0"] {
        let (line, message, _) = refusal(&format!("name: a\nwasm: a\nreplicas: {number}\n"));
        assert!(message.starts_with("replicas: `") && line == Some(3), "{number}: {message}");
    }
    let (line, message, _) = refusal("name: a\nwasm: a\nenv: [x]\n");
    assert_eq!(line, Some(3), "{message}");
}

#[test]
fn missing_and_repeated_fields_are_named() {
    let (_, message, _) = refusal("name: a\n");
    assert_eq!(message, "wasm: the path of a component is missing, or `image` with a container's");
    let (line, message, _) = refusal("name: a\nwasm: a\nname: b\n");
    assert_eq!((line, message.as_str()), (Some(3), "`name` stands here twice"));
    let (line, message, _) = refusal("name: a\nwasm: a\n---\nname: a\nwasm: b\n");
    let twice = "`a` stands in this file twice, first in line 1";
    assert_eq!((line, message.as_str()), (Some(4), twice));
    assert_eq!(refusal("").1, "there is nothing in it");
    assert_eq!(refusal("# only words\n").1, "there is nothing in it");
}

#[test]
fn invalid_yaml_is_refused_with_its_line() {
    let (line, message, _) = refusal("name: a\nwasm: [a\n");
    assert!(line.is_some(), "{message}");
    assert!(!message.contains('\n') && !message.contains("line"), "{message}");
    assert!(read("just words").is_err());
    assert!(read("[1, 2]").is_err());
    assert!(read(&format!("name: a\nwasm: {}", "x".repeat(MAX_MANIFEST))).is_err());
}

/// The files in `examples/` are the documentation: they must stay valid.
#[test]
fn examples_parse_and_show_the_defaults() {
    let hello = read(include_str!("../../../examples/manifests/hello.yaml")).unwrap();
    let default = Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU };
    assert_eq!(spec(&hello[0]).reservation(), default);
    let shop = read(include_str!("../../../examples/manifests/shop.yaml")).unwrap();
    let names: Vec<String> = shop.iter().map(|workload| workload.name().to_string()).collect();
    assert_eq!(names, ["shop/till", "shop/stock"]);
    for (text, expected) in [
        (include_str!("../../../examples/manifests/client.yaml"), &["server", "client"][..]),
        (include_str!("../../../examples/manifests/sensor.yaml"), &["sensor"]),
        (include_str!("../../../examples/manifests/mixed.yaml"), &["hello", "server"]),
        (include_str!("../../../examples/manifests/autoscale.yaml"), &["web"]),
        (include_str!("../../../examples/manifests/daemon.yaml"), &["agent"]),
        (include_str!("../../../examples/manifests/job.yaml"), &["backup"]),
        (include_str!("../../../examples/manifests/cron.yaml"), &["report"]),
    ] {
        let all = read(text).unwrap();
        let names: Vec<String> = all.iter().map(|it| it.name().name.to_string()).collect();
        assert_eq!(names, expected);
    }
}

/// Options that people know from Compose, in shoal's own form.
#[test]
fn container_has_its_options() {
    let text = concat!(
        "name: cache\nimage: redis:7\ncommand: redis-server --appendonly yes\n",
        "entrypoint: [sh, -c]\nport: 8080\nuser: 1000:1000\nread_only: true\n",
        "tmpfs: ['/tmp:size=16MiB,exec']\nulimits: { nofile: '1024:4096' }\n",
        "stop_grace: 30s\nlabels: { team: shop }\npull: never\n",
        "env: { A: b }\nmemory: 64MiB\nlimit: { memory: 128MiB }\n",
    );
    let workloads = read(text).unwrap();
    let spec = workloads[0].spec(None).unwrap();
    let Program::Containers(containers) = &spec.program else { panic!("{spec:?}") };
    let container = &containers[0];
    assert_eq!(container.image.reference, "redis:7");
    assert_eq!(container.image.pull, PullPolicy::Never);
    let command = container.command.as_deref().unwrap_or_default();
    assert_eq!(command, ["redis-server", "--appendonly", "yes"]);
    assert_eq!(container.entrypoint.as_deref().unwrap_or_default(), ["sh", "-c"]);
    assert_eq!((container.http, container.user.as_deref()), (Some(8080), Some("1000:1000")));
    assert_eq!(container.tmpfs[0].size, Some(16 << 20));
    assert_eq!(container.ulimits["nofile"].hard, 4096);
    assert_eq!(container.stop_grace, Some(std::time::Duration::from_secs(30)));
    assert_eq!(container.labels["team"], "shop");
    assert_eq!(spec.env()["A"], "b");
    assert_eq!((spec.reservation().memory, spec.resources.limit.memory), (64 << 20, 128 << 20));
}

/// As in docker and Kubernetes a container may take the CPU that is free, unless a limit is named.
/// A limit that is named alone, below the default reservation, was refused.
#[test]
fn container_has_a_limit_of_its_cpu_only_if_one_is_named() {
    let resources = |text: &str| {
        let text = format!("name: a\nimage: a:1\n{text}\n");
        let Requirements { reservation, limit } = spec(&read(&text).unwrap()[0]).resources;
        assert_eq!(reservation.memory, limit.memory, "memory has a limit always");
        (reservation.cpu, limit.cpu)
    };
    assert_eq!(resources(""), (DEFAULT_CPU, NO_CPU_LIMIT));
    assert_eq!(resources("cpu: 0.5"), (500, NO_CPU_LIMIT));
    assert_eq!(resources("limit: { cpu: 0.5 }"), (DEFAULT_CPU, 500));
    assert_eq!(resources("limit: { cpu: 0.05 }"), (50, 50));
    assert_eq!(resources("cpu: 0.2\nlimit: { cpu: 2 }"), (200, 2000));
    let contradiction = read("name: a\nimage: a:1\ncpu: 0.2\nlimit: { cpu: 0.1 }\n").unwrap();
    let error = contradiction[0].spec(None).unwrap_err().to_string();
    assert!(error.contains("below the 0.2 that are reserved"), "{error}");
    let component = spec(&read("name: a\nwasm: a.wasm\ncpu: 0.5\n").unwrap()[0]);
    assert_eq!(component.resources.limit.cpu, 500, "a component takes what is reserved");
}

/// Volumes, devices and rights as docker and Compose take them.
#[test]
fn container_has_volumes_devices_and_rights() {
    let text = concat!(
        "name: a\nimage: a:1\nvolumes: ['/srv/www:/www:ro']\nnetwork: host\n",
        "devices: [/dev/ttyUSB0, '/dev/a:/dev/b']\ncap_add: [cap_net_admin]\n",
        "security_opt: ['no-new-privileges:true']\nprivileged: true\n",
    );
    let spec = read(text).unwrap()[0].spec(None).unwrap();
    let Program::Containers(containers) = &spec.program else { panic!("{spec:?}") };
    let container = &containers[0];
    assert_eq!(spec.device_paths(container).collect::<Vec<_>>(), ["/srv/www"]);
    let mount = &container.mounts[0];
    assert_eq!((mount.path.as_str(), mount.read_only), ("/www", true));
    let rights = &container.privileges;
    assert_eq!((rights.cap_add[0].as_str(), rights.privileged), ("NET_ADMIN", true));
    assert_eq!(rights.devices[1].path, "/dev/b");
    assert_eq!(rights.security, ["no-new-privileges"]);
}

#[test]
fn program_is_a_component_or_an_image() {
    let (line, message, _) = refusal("name: a\nwasm: a.wasm\nimage: redis:7\n");
    assert_eq!(line, Some(2));
    assert!(message.contains("runs one of the two"), "{message}");
    let (line, message, _) = refusal("name: a\nreplicas: 2\n");
    assert_eq!(line, Some(1));
    assert!(message.starts_with("wasm: the path of a component is missing, or `image`"));
    let (line, message, _) = refusal("name: a\nwasm: a.wasm\nuser: root\n");
    assert_eq!((line, message.starts_with("user: only a container has it")), (Some(3), true));
}

#[test]
fn wrong_option_of_a_container_has_its_line() {
    for (text, line, start) in [
        ("tmpfs: ['/tmp:mode=1']", 3, "tmpfs: `mode=1` is none of"),
        ("ulimits: { nofile: x }", 3, "ulimits: nofile: `x` is not of the form"),
        ("port: http", 3, "port: `http` is no port"),
        ("command: \"sh -c 'a\"", 3, "command: `sh -c 'a`: a quote is not closed"),
        ("pull: sometimes", 3, "pull: `sometimes` is none of missing"),
        ("volumes: ['./a:/x']", 3, "volumes: `./a` is relative"),
        ("devices: ['/dev/a:r']", 3, "devices: `r`: a device is given with all of rwm"),
        ("volume_on_loss: empty", 1, "volume_on_loss: it has no volume"),
    ] {
        let (found, message, _) = refusal(&format!("name: a\nimage: a:1\n{text}\n"));
        assert_eq!((found, message.starts_with(start)), (Some(line), true), "{message}");
    }
}

/// An image of a file stands beside the manifest, as a component does.
#[test]
fn image_that_is_a_path_is_a_file() {
    for (image, file) in [
        ("web.tar", Some("/shop/web.tar")),
        ("./web", Some("/shop/./web")),
        ("/srv/web.tar.gz", Some("/srv/web.tar.gz")),
        ("redis:7", None),
        ("localhost/web", None),
    ] {
        let workloads = read(&format!("name: a\nimage: {image}\n")).unwrap();
        let expected = match file {
            Some(file) => Source::Image(file.into()),
            None => Source::Engine,
        };
        assert_eq!(*workloads[0].source(), expected, "{image}");
    }
}

/// Labels alone are written as ever; other rules are a list of texts, as `shoal run` has them.
#[test]
fn required_rules_are_a_map_or_a_list() {
    let with = |text: &str| format!("name: a\nwasm: a.wasm\n{text}\n");
    let map = spec(&read(&with("require: { zone: front }")).unwrap()[0]);
    let list = spec(&read(&with("require: ['zone = front']")).unwrap()[0]);
    assert_eq!(map, list);
    let text = "require:\n  - zone=front\n  - arch in (arm64,x86_64)\n  - '!gpu'\n  - cores>2";
    let ruled = spec(&read(&with(text)).unwrap()[0]);
    let required: Vec<String> = ruled.required().map(|rule| rule.to_string()).collect();
    assert_eq!(required, ["zone = front", "arch in (arm64, x86_64)", "!gpu", "cores > 2"]);
    for (text, line, part) in [
        (
            "require:\n  - zone=a\n  - zone like b",
            4,
            "require: `zone like b`: `like` is no operator",
        ),
        ("require: [cores>-2]", 3, "require: `cores > -2`: `-2` is negative"),
        ("require: ['disk.free > 2XiB']", 3, "`XiB` is no unit"),
    ] {
        let (at, message, _) = refusal(&with(text));
        assert!(message.contains(part), "{message}");
        assert_eq!(at, Some(line), "{message}");
    }
    let workload = &read(&with("require: [zone=a, zone=b]")).unwrap()[0];
    let error = workload.spec(Some(Artifact { digest: Digest([1; 32]), size: 1 })).unwrap_err();
    assert!(error.to_string().contains("`zone = a` and `zone = b` contradict"), "{error}");
}

#[test]
fn tolerations_are_a_text_or_a_list() {
    let with = |text: &str| read(&format!("name: a\nwasm: a.wasm\ntolerate: {text}\n"));
    let shown = |text: &str| {
        spec(&with(text).unwrap()[0]).placement.options().into_iter().map(|(_, text)| text).next()
    };
    assert_eq!(shown("edge").as_deref(), Some("edge"));
    assert_eq!(shown("[edge=yes, '*', edge=yes]").as_deref(), Some("edge=yes, *"));
    let error = with("[a b]").unwrap_err();
    assert!(error.message.starts_with("tolerate: `a b`: a taint is expected"), "{error}");
}

/// Preferences, spread and relations, in each form that they may have.
#[test]
fn better_nodes_and_relations_are_read() {
    let with = |text: &str| read(&format!("name: web\nnamespace: shop\nwasm: a.wasm\n{text}\n"));
    let shown = |text: &str| -> Vec<String> {
        let options = spec(&with(text).unwrap()[0]).placement.options();
        options.into_iter().map(|(name, text)| format!("{name}: {text}")).collect()
    };
    assert_eq!(
        shown("prefer:\n  - disk=ssd:80\n  - '!gpu'\n  - { rule: 'zone in (a, b)', weight: 3 }"),
        ["prefer: disk = ssd:80, !gpu:50, zone in (a, b):3"]
    );
    assert_eq!(shown("prefer: disk=ssd\nspread: zone"), ["prefer: disk = ssd:50", "spread: zone"]);
    assert_eq!(shown("spread: [zone, rack]"), ["spread: zone, rack"]);
    assert_eq!(
        shown("affinity: { near: db, apart: [web, 'x/batch:30'] }"),
        ["affinity: near shop/db, apart shop/web, apart x/batch:30"]
    );
    for (text, part) in [
        ("prefer: ['disk=ssd:0']", "prefer: `disk=ssd:0`: weight 0 is outside 1 to 100"),
        ("prefer: [{ rule: disk=ssd, weight: 101 }]", "weight 101 is outside 1 to 100"),
        ("affinity: { near: [We b] }", "near: `We b`: "),
        ("affinity: { beside: [db] }", "unknown field `beside`"),
    ] {
        let error = with(text).unwrap_err();
        assert!(error.message.contains(part), "{error}");
        assert_eq!(error.line, Some(4), "{error}");
    }
}

/// The kind and its parts, as Compose and Kubernetes people would write them.
#[test]
fn kinds_are_read_with_their_parts() {
    use shoal_protocol::model::spec::{
        Cron, Job, Kind, Missed, Overlap, Program, Sequence, Stateful,
    };
    let kind = |more: &str| {
        let all = read(&format!("name: a\nimage: a:1\n{more}\n")).map_err(|it| it.message)?;
        Ok::<_, String>(all[0].spec(None).map_err(|it| it.to_string())?.kind.clone())
    };
    assert_eq!(kind("replicas: 3"), Ok(Kind::Service { replicas: 3 }));
    assert_eq!(kind("kind: daemon"), Ok(Kind::Daemon));
    let stateful = |replicas, order| Kind::Stateful(Stateful { replicas, order });
    assert_eq!(kind("kind: stateful"), Ok(stateful(1, Sequence::Ordered)));
    let text = "kind: stateful\nreplicas: 3\norder: parallel";
    assert_eq!(kind(text), Ok(stateful(3, Sequence::Parallel)));
    let job = Job { completions: 5, parallel: 2, retries: 3, ..Job::default() };
    let (deadline, keep) = (Some(Duration::from_secs(600)), Some(Duration::from_secs(3600)));
    let text = "kind: job\ncompletions: 5\nparallel: 2\nretries: 3\ndeadline: 10m\nkeep: 1h";
    assert_eq!(kind(text), Ok(Kind::Job(Job { deadline, keep, ..job })));
    let text = "schedule: \"0 3 * * *\"\ntimezone: Europe/Berlin\nmissed: 3\noverlap: forbid\n\
                suspend: true\nretries: 0";
    let cron = Cron {
        schedule: "0 3 * * *".into(),
        zone: "Europe/Berlin".into(),
        missed: Missed::All(3),
        overlap: Overlap::Forbid,
        suspended: true,
        job: Job { retries: 0, ..Job::default() },
    };
    assert_eq!(kind(text), Ok(Kind::Cron(cron)));
    for (text, part) in [
        ("kind: deamon", "kind: `deamon` is none of service, stateful, daemon, job, cron"),
        ("order: parallel", "order: only a stateful workload has it, and this is a service"),
        ("kind: stateful\norder: up", "order: `up`: `ordered` or `parallel`"),
        ("kind: daemon\nreplicas: 2", "a daemon has one on each node"),
        ("retries: 2", "retries: only a job has it, and this is a service"),
        ("kind: job\nschedule: '@daily'", "schedule: only a cron workload has it"),
        ("kind: job\ncompletions: 0", "completions: 0 is outside 1 to 256"),
        ("kind: job\nparallel: 2", "parallel: 2 is outside 1 to the 1 completions"),
        ("kind: cron", "a cron workload needs one"),
        ("schedule: 0 0 30 2 *", "never comes"),
        ("schedule: '@daily'\ntimezone: Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("schedule: '@daily'\nmissed: 9", "9 runs is outside 1 to 8"),
        ("schedule: '@daily'\noverlap: queue", "`allow`, `forbid` or `replace`"),
        ("args: [a]", "those of a container are its `command`"),
    ] {
        let error = kind(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let all = read("name: a\nwasm: a.wasm\nkind: job\nargs: --full 'a b'\n").unwrap();
    let spec = spec(&all[0]);
    let Program::Wasm(component) = &spec.program else { unreachable!() };
    assert_eq!(component.args, ["--full", "a b"]);
}

/// Beside a file or an image it could only be wrong.
#[test]
fn world_is_of_a_component_by_its_hash_alone() {
    let text = |source: &str| format!("name: a\nworld: command\n{source}\n");
    let error = |source: &str| parse(&text(source), Path::new("/")).unwrap_err().to_string();
    assert!(error("wasm: a.wasm").contains("world: the file of a component tells it"));
    assert!(error("image: redis:7").contains("world: only a component has it"));
    let artifact = format!("artifact: sha256:{}/9", "ab".repeat(32));
    assert!(parse(&text(&artifact), Path::new("/")).is_ok());
    let other = text(&artifact).replace("command", "wasi");
    let error = parse(&other, Path::new("/")).unwrap_err().to_string();
    assert!(error.contains("`wasi`: `http` or `command`"), "{error}");
}

const GROUP: &str = "name: shop\nports: [\"8080:80\"]\ncontainers:\n\
    - name: app\n  image: \"app:1\"\n  port: 80\n  memory: 64MiB\n  volumes: [\"data:/data\"]\n\
    - name: log\n  image: \"log:1\"\n  volumes: [\"data:/log:ro\"]\n  secrets: [\"key\"]\n\
    - name: init\n  role: init\n  image: \"init:1\"\n  memory: 256MiB\n";

/// The replica's size follows from its containers, unless the workload names one.
#[test]
fn containers_of_a_list_are_a_group() {
    let spec = |text: &str| {
        let all = parse(text, Path::new("/")).unwrap_or_else(|error| panic!("{error}"));
        all[0].spec(None)
    };
    let group = spec(GROUP).unwrap();
    let all = group.program.containers();
    assert_eq!(all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["app", "log", "init"]);
    assert_eq!((group.reservation().memory >> 20, group.reservation().cpu), (256, 200));
    assert!(all.iter().all(|it| it.limit.is_some()));
    assert_eq!((group.storage.len(), group.values().count()), (1, 1));
    assert_eq!(group.exposure.ports.len(), 1);
    let named = spec(&format!("{GROUP}memory: 300MiB\n")).unwrap();
    assert_eq!(named.reservation().memory >> 20, 300);
    let limits = named.program.containers().iter().map(|it| it.limit.is_some());
    assert_eq!(limits.collect::<Vec<_>>(), [true, false, true]);
    for (more, why) in [
        ("image: a\n", "`image` or `wasm`, too"),
        ("env: { A: b }\n", "env: of a group it stands in each of its `containers`"),
        ("command: [a]\n", "command: of a group"),
        ("health: none\n", "health: of a group"),
    ] {
        let error = parse(&format!("{GROUP}{more}"), Path::new("/")).unwrap_err();
        assert!(error.message.contains(why), "{}", error.message);
    }
    let one = "name: a\ncontainers: [{ name: b, image: c }]\n";
    let error = parse(one, Path::new("/")).unwrap_err();
    assert!(error.message.contains("two at least"), "{}", error.message);
    let wrong = GROUP.replace("role: init", "role: first");
    let error = parse(&wrong, Path::new("/")).unwrap_err();
    assert_eq!(error.message, "role: `first` is none of app, init and sidecar");
    let twice = GROUP.replace("data:/log:ro", "/srv:/log").replace("data:/data", "path:/data");
    assert!(parse(&twice, Path::new("/")).is_ok(), "volumes of two names");
}
