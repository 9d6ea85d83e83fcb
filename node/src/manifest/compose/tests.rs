//! Small files, each with the manifest that it becomes or the reasons for its refusal.

mod files;

use std::path::Path;

use super::super::write;
use super::*;

fn env() -> BTreeMap<String, String> {
    [("HOST", "host"), ("TAG", "7")].map(|(name, it)| (name.to_owned(), it.to_owned())).into()
}

fn loaded(text: &str, profiles: &[&str]) -> Result<Bundle, Refusal> {
    load(Request {
        files: vec!["-".into()],
        stdin: Some(text.to_owned()),
        env: &env(),
        env_files: Vec::new(),
        profiles: profiles.iter().map(|it| (*it).to_owned()).collect(),
        project: Some("shop".into()),
    })
}

fn shown(refusal: &Refusal) -> Vec<String> {
    let line = |it: &Problem| format!("{}: {it}", refusal.sources.show(it.at));
    refusal.problems.iter().map(line).collect()
}

fn bundle(text: &str) -> Bundle {
    loaded(text, &[]).unwrap_or_else(|refusal| panic!("{text}\n{:#?}", shown(&refusal)))
}

/// The workloads as manifests, without the parts that all have.
fn manifests(bundle: &Bundle) -> String {
    let one = |it: &Item| {
        let spec = it.workload.spec(None).unwrap_or_else(|error| panic!("{error}"));
        let text = write::manifest(&spec).unwrap();
        let text = text.replace("namespace: shop\n", "");
        match text.contains("memory: 1GiB\n  cpu") {
            true => text,
            false => text.replace("limit:\n  memory: 1GiB\n", ""),
        }
    };
    bundle.workloads.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// The service `web` with these fields, as a manifest without its name and image.
fn web(fields: &str) -> String {
    let text = format!("services:\n  web:\n    image: a\n{}", indented(fields));
    manifests(&bundle(&text)).replace("name: web\nimage: a\n", "")
}

fn indented(fields: &str) -> String {
    fields.lines().map(|line| format!("    {line}\n")).collect()
}

/// The reasons to refuse the service `web` with these fields.
fn refusals(fields: &str) -> Vec<String> {
    let text = format!("services:\n  web:\n    image: a\n{}", indented(fields));
    refused(&text)
}

fn refused(text: &str) -> Vec<String> {
    match loaded(text, &[]) {
        Ok(bundle) => panic!("{text}\n{}", manifests(&bundle)),
        Err(refusal) => {
            shown(&refusal).iter().map(|it| it.replace("standard input:", "")).collect()
        }
    }
}

#[test]
fn fields_become_those_of_a_manifest() {
    let mut wrong = Vec::new();
    for (fields, expected) in [
        ("", ""),
        ("command: nginx -g 'daemon off;'", "command: [nginx, -g, \"daemon off;\"]\n"),
        ("command: [sh, -c, a | b]", "command: [sh, -c, a | b]\n"),
        (
            "post_start: [{ command: chown app /data, user: root, working_dir: /data }]\n\
             pre_stop: [{ command: [a], environment: [B=c, HOST, NONE], privileged: false }]",
            "post_start: [{ command: [chown, app, /data], user: root, workdir: /data }]\n\
             pre_stop: [{ command: [a], env: { B: c, HOST: host } }]\n",
        ),
        ("entrypoint: []", "entrypoint: []\n"),
        (
            "environment: { A: 010, B: yes, C: '010', D: 1.10 }",
            "env:\n  A: \"8\"\n  B: \"yes\"\n  C: \"010\"\n  D: \"1.1\"\n",
        ),
        ("environment: [A=b=c, HOST, NONE]", "env:\n  A: b=c\n  HOST: host\n"),
        ("environment: { A: '${TAG}-$$x' }", "env:\n  A: 7-$x\n"),
        (
            "ports: ['8080:80', '127.0.0.1:53:53/udp']",
            "ports: [\"8080:80\", \"127.0.0.1:53:53/udp\"]\n",
        ),
        ("ports: [22:22]", "ports: [\"22:22\"]\n"),
        ("ports: ['::1:80:81']", "ports: [\"[::1]:80:81\"]\n"),
        ("ports: ['3000-3001:4000-4001']", "ports: [\"3000:4000\", \"3001:4001\"]\n"),
        ("ports: [80, '3000-3002', '127.0.0.1::90']", "exposed: [80, 90, 3000, 3001, 3002]\n"),
        (
            "ports: [{ target: 80, published: '8080', protocol: tcp, host_ip: 10.0.0.1 }]",
            "ports: [\"10.0.0.1:8080:80\"]\n",
        ),
        ("expose: [5432, '9000/tcp']", "exposed: [5432, 9000]\n"),
        ("restart: always", ""),
        ("restart: unless-stopped", ""),
        ("restart: \"no\"", "kind: job\nretries: 0\n"),
        ("restart: no", "kind: job\nretries: 0\n"),
        ("restart: on-failure:3", "kind: job\nretries: 3\n"),
        (
            "restart: always\ndeploy: { restart_policy: { condition: on-failure, max_attempts: \
                 2 } }",
            "kind: job\nretries: 2\n",
        ),
        ("deploy: { mode: global }", "kind: daemon\n"),
        (
            "deploy: { mode: replicated-job, replicas: 3 }",
            "kind: job\ncompletions: 3\nparallel: 3\n",
        ),
        ("deploy: { replicas: 3.0 }", "replicas: 3\n"),
        ("scale: 2\ndeploy: { replicas: 2 }", "replicas: 2\n"),
        ("mem_limit: 50m", "memory: 50MiB\n"),
        (
            "mem_limit: 128m\nmem_reservation: 64m\ncpus: 0.5",
            "limit:\n  memory: 128MiB\n  cpu: 0.5\n",
        ),
        ("cpu_quota: 50000", "limit:\n  memory: 1GiB\n  cpu: 0.5\n"),
        (
            "deploy: { resources: { limits: { cpus: '0.05', memory: 64M }, reservations: { \
                 cpus: '0.02' } } }",
            "cpu: 0.02\nlimit:\n  cpu: 0.05\n",
        ),
        ("mem_limit: 64m\ndeploy: { resources: { limits: { memory: 64M } } }", ""),
        (
            "deploy: { placement: { constraints: [node.labels.zone==a, 'node.platform.os == \
                 linux', node.labels.x!=y] } }",
            "require: [os=linux, zone=a, x != y]\n",
        ),
        (
            "deploy: { placement: { constraints: [node.hostname==pi], preferences: [{ spread: \
                 node.labels.zone }], max_replicas_per_node: 1 } }",
            "require:\n  hostname: pi\nspread: [zone]\naffinity:\n  apart: [web]\n",
        ),
        ("platform: linux/arm64", "require:\n  arch: arm64\n"),
        (
            "deploy: { resources: { reservations: { generic_resources: [{ \
                 discrete_resource_spec: { kind: gpu, value: 2 } }] } } }",
            "resources:\n  gpu: 2\n",
        ),
        (
            "deploy: { update_config: { parallelism: 2, failure_action: rollback, monitor: 5s } }",
            "update:\n  parallel: 2\n  order: stop-first\n  min-ready: 5s\n  on-failure: \
                 roll-back\n",
        ),
        ("deploy: { update_config: { parallelism: 0 } }", ""),
        (
            "user: '1000'\nworking_dir: /w\nhostname: h\nread_only: true\ninit: yes\ntty: true\n\
                 stdin_open: true",
            "user: \"1000\"\nworkdir: /w\nhostname: h\nread_only: true\ninit: true\nstdin: \
                 true\ntty: true\n",
        ),
        (
            "cap_add: [NET_ADMIN]\ncap_drop: [ALL]\ndevices: [/dev/a:/dev/b:rwm]\nprivileged: \
                 true",
            "devices: [\"/dev/a:/dev/b\"]\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\nprivileged: \
                 true\n",
        ),
        (
            "security_opt: ['no-new-privileges:true', 'seccomp:unconfined', 'label=type:a']",
            "security_opt: [no-new-privileges, seccomp=unconfined, \"label=type:a\"]\n",
        ),
        ("network_mode: host", "network: host\n"),
        (
            "stop_signal: SIGINT\nstop_grace_period: 1m30s\nshm_size: 1g",
            "stop_signal: SIGINT\nstop_grace: 90s\nshm_size: 1GiB\n",
        ),
        (
            "ulimits: { nofile: { soft: 1, hard: 2 }, nproc: 5 }\nsysctls: \
                 [net.core.somaxconn=1024]",
            "ulimits:\n  nofile: \"1:2\"\n  nproc: \"5:5\"\nsysctls:\n  net.core.somaxconn: \
                 \"1024\"\n",
        ),
        (
            "extra_hosts: ['a:1.2.3.4', 'b=[::1]', 'c:host-gateway']",
            "extra_hosts: [\"a:1.2.3.4\", \"b:::1\", \"c:host-gateway\"]\n",
        ),
        (
            "extra_hosts: { a: 1.2.3.4, b: [1.2.3.5, '::1'] }",
            "extra_hosts: [\"a:1.2.3.4\", \"b:1.2.3.5\", \"b:::1\"]\n",
        ),
        (
            "dns: 1.1.1.1\ndns_search: [a.b]\ndns_opt: ['ndots:2']\ngroup_add: [1000, audio]",
            "dns: [1.1.1.1]\ndns_search: [a.b]\ndns_opt: [\"ndots:2\"]\ngroup_add: [\"1000\", \
             audio]\n",
        ),
        (
            "container_name: Immich_DB\nnetworks: { default: { aliases: [web, db, immich_db] } }",
            "aliases: [immich_db, db]\n",
        ),
        ("container_name: web", ""),
        ("container_name: other\nnetwork_mode: none", "network: none\n"),
        ("labels: { a: 1.0, x-b: c }", "labels:\n  a: \"1\"\n  x-b: c\n"),
        ("pull_policy: always", "pull: always\n"),
        ("tmpfs: /run:size=64m,mode=1777", "tmpfs: [\"/run:size=64MiB\"]\n"),
        (
            "volumes: [/cache, { type: tmpfs, target: /t, tmpfs: { size: 1m } }]",
            "tmpfs: [/t:size=1MiB]\nvolumes: [{ name: anon-cache, path: /cache }]\n",
        ),
        ("healthcheck: { disable: true, test: [CMD, a] }", "health: none\n"),
        ("healthcheck: { test: [NONE] }", "health: none\n"),
        (
            "healthcheck: { test: [CMD, curl, x], interval: 10s, retries: 5 }",
            "health:\n  readiness:\n    exec: [curl, x]\n    timeout: 30s\n    failures: 5\n",
        ),
        ("healthcheck: { interval: 10s }", ""),
        ("logging: { driver: json-file }\nx-other: { a: b }\nnetworks: { default: }", ""),
        ("dns: []\npids_limit: -1\ngroup_add:", ""),
        (
            "x-shoal: { kind: stateful, replicas: 3, port: 80, prefer: ['disk=ssd:80'] }",
            "kind: stateful\nreplicas: 3\nprefer: [{ rule: disk = ssd, weight: 80 }]\nport: 80\n",
        ),
        ("restart: \"no\"\nx-shoal: { schedule: '@daily' }", "schedule: \"@daily\"\nretries: 0\n"),
        (
            "x-shoal: { limit: { memory: 2GiB }, require: [zone=a, '!gpu'] }",
            "limit:\n  memory: 2GiB\nrequire: [zone=a, \"!gpu\"]\n",
        ),
    ] {
        let manifest = web(fields).replace('"', "");
        if manifest != expected.replace('"', "") {
            wrong.push(format!("{fields}\n=> {manifest}\nnot {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn fields_that_would_change_meaning_are_refused() {
    let mut wrong = Vec::new();
    for (fields, why) in [
        (
            "mem_limit: 1e9",
            "4:16: services.web.mem_limit: `1e9` without quotes is no limit at \
             all",
        ),
        ("command: a; b", "4:14: services.web.command: Compose drops all from `;` on"),
        ("command: a && b", "write `[sh, -c, \"..\"]`"),
        ("imge: b", "4:5: services.web.imge: there is no such field"),
        ("ports: ['http:80']", "4:13: services.web.ports[0]: `http` is no port"),
        ("ports: ['80:']", "is no port"),
        ("ports: ['8000-8002:80']", "write one for each"),
        ("ports: ['80:80/sctp']", "`sctp` is none of tcp and udp"),
        ("ports: ['80:80', '80:81']", "port 80 of the device stands there twice"),
        ("expose: [http]", "`http` is no port"),
        (
            "volumes: ['./a:/b']",
            "`./a` is relative, and each node has folders of its own; ./a is not there",
        ),
        ("volumes: ['data:/b']", "the volume `data` is not declared"),
        ("volumes: ['/a:/x', '/b:/x']", "two are mounted at /x"),
        ("volumes: [{ type: npipe, target: /x }]", "none of volume, bind and tmpfs"),
        ("volumes: ['/a:/x:shared']", "`shared` is none of ro and rw"),
        ("restart: sometimes", "`sometimes` is none of"),
        ("deploy: { mode: foo }", "`foo` is none of replicated"),
        ("deploy: { replicas: -1 }", "from 0 on is expected"),
        ("deploy: { replicas: 1.5 }", "a whole number is expected"),
        ("scale: 2\ndeploy: { replicas: 3 }", "`deploy.replicas` says something else"),
        ("mem_limit: 64m\ndeploy: { resources: { limits: { memory: 65M } } }", "something else"),
        ("deploy: { placement: { constraints: [node.role==manager] } }", "no node has a role"),
        ("network_mode: service:db", "a container has no part of"),
        ("pid: host", "sees its own processes"),
        ("ipc: host", "no memory is shared"),
        ("runtime: nvidia", "the engine of each node chooses it"),
        ("dns: here", "services.web.dns[0]: `here` is no address"),
        ("extra_hosts: ['a:b']", "services.web.extra_hosts[0]: `b` is no address"),
        ("extra_hosts: { a: b }", "services.web.extra_hosts.a: `b` is no address"),
        ("group_add: [keep-groups]", "group_add: `keep-groups` is no number"),
        ("pids_limit: 5000", "at most 2048 processes"),
        ("pids_limit: 5\ndeploy: { resources: { limits: { pids: 6 } } }", "says something else"),
        ("gpus: all", "offer them by name"),
        ("healthcheck: { test: [curl, x] }", "CMD, CMD-SHELL or NONE is expected"),
        ("healthcheck: { test: a, interval: 90 }", "`90` is no duration"),
        ("tty: 1", "true or false is expected"),
        ("devices: ['/dev/a:/dev/a:r']", "all of rwm"),
        ("networks: { default: { aliases: [d.b] } }", "`d.b` leads nowhere"),
        ("networks: [front]", "the network `front` is not declared"),
        ("links: ['db:data.base']", "the alias `data.base` leads nowhere"),
        ("depends_on: [db]", "there is no service `db`"),
        ("depends_on: [web]", "web wait for one another"),
        ("configs: [a]", "`a` is not declared"),
        ("x-shoal: { nam: b }", "4:16: services.web.x-shoal.nam: unknown field `nam`"),
        ("x-shoal: { name: b }", "the name of the service"),
        ("x-shoal: { prefer: ['disk=ssd:800'] }", "4:16: services.web.x-shoal.prefer: "),
        ("environment: { A: '${Q:?set Q}' }", "Q is required and has no value: set Q"),
        ("environment: { A: '${1}' }", "has no form that Compose knows"),
        ("environment: { 'a.b': c }", "a.b"),
        ("env_file: missing.env", "the file ./missing.env is not there"),
        ("tmpfs: '/run:uid=5'", "`uid=5` is none of"),
    ] {
        let all = refusals(fields).join("\n");
        if !all.contains(why) || all.lines().count() != 1 {
            wrong.push(format!("{fields}\n=> {all}\nnot {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn build_without_an_image_says_how_to_build() {
    let text = "services: { web: { build: ./src } }\n";
    let expected = "docker build -t web ./src && docker save web -o web.tar && shoal image push";
    assert!(refused(text).join("").contains(expected));
    let told = bundle(&text.replace("build:", "image: a, build:"));
    let note = told.notes.iter().find(|it| it.field == "services.web.build").unwrap();
    assert_eq!(note.verdict, Verdict::Degraded);
}

#[test]
fn paths_of_the_device_are_mounted() {
    let manifest = web("volumes: [/srv:/w:ro, { type: bind, source: /a, target: /b }]");
    for part in ["device: /srv, path: /w, read_only: true", "device: /a, path: /b }"] {
        assert!(manifest.contains(part), "{manifest}");
    }
}

/// A person mends all at once, and not one after the other.
#[test]
fn all_reasons_of_all_services_are_told() {
    let text = "services:\n  a:\n    image: a\n    pid: host\n    tty: 5\n  b:\n    imag: b\n";
    let expected = [
        "4:5: services.a.pid: a container sees its own processes; put both into one image",
        "5:10: services.a.tty: true or false is expected",
        "6:3: services.b.image: the image is missing, as in `image: redis:7`",
        "7:5: services.b.imag: there is no such field",
    ];
    assert_eq!(refused(text), expected);
}

#[test]
fn structure_that_no_reader_agrees_on_is_refused() {
    for (text, why) in [
        ("services:\n  a: { image: a }\n  a: { image: b }\n", "3:3: `a` stands here twice"),
        ("services:\n\ta: {}\n", "a tab indents this line"),
        ("services:\n", "a mapping of services is expected, found nothing"),
        ("{}\n", "there are no services"),
        ("", "the file is empty"),
        ("services: { a: { image: a } }\nfoo: 1\n", "2:1: foo: there is no such field"),
        (
            "services: { a_b: { image: a }, a-b: { image: a } }",
            "it is called `a-b` here, and so is",
        ),
        ("services: { 'a/b': { image: a } }", "a name has letters"),
        ("services: { a: }", "a mapping is expected, found nothing"),
        ("include: a.yaml\nservices: { a: { image: a } }", "a list of files is expected"),
    ] {
        let all = refused(text).join("\n");
        assert!(all.contains(why), "{text}\n{all}");
    }
}

#[test]
fn services_wait_for_one_another() {
    let text = "services:\n  web:\n    image: a\n    restart: always\n    depends_on:\n      \
        db: { condition: service_healthy }\n      migrate: { condition: \
        service_completed_successfully, restart: true }\n      cache: { condition: \
        service_started }\n      debug: { condition: service_started, required: false }\n  \
        db: { image: d }\n  migrate: { image: m, depends_on: [db] }\n  cache: { image: c }\n  \
        debug: { image: x, profiles: [debug] }\n";
    let bundle = bundle(text);
    let manifests = manifests(&bundle);
    assert_eq!(
        manifests,
        "name: web\nimage: a\nafter: [db, \"migrate:done\", \"cache:started\"]\n---\n\
         name: db\nimage: d\n---\n\
         name: migrate\nimage: m\nkind: job\nretries: 0\nafter: [\"db:started\"]\n---\n\
         name: cache\nimage: c\n"
    );
    let degraded = |field: &str| {
        let is = |it: &&verdict::Note| it.field == field && it.verdict == Verdict::Degraded;
        bundle.notes.iter().filter(is).count()
    };
    assert_eq!(degraded("services.web.depends_on.migrate.restart"), 1);
    assert_eq!(degraded("services.web.depends_on.debug"), 1);
    assert_eq!(loaded(text, &["debug"]).unwrap().workloads.len(), 5);
    let required = text.replace(", required: false", "");
    assert!(refused(&required).join("").contains("no profile switches `debug` on"));
    let endless = text.replace("migrate: { image: m,", "migrate: { image: m, restart: always,");
    assert!(refused(&endless).join("").contains("and it never ends"));
    let circle = text.replace("db: { image: d }", "db: { image: d, depends_on: [migrate] }");
    assert!(refused(&circle).join("").contains("wait for one another"));
}

/// A name alone would lead to nothing if it changed without a word.
#[test]
fn names_that_are_no_labels_are_changed_visibly() {
    let text = "services: { my_db: { image: d }, web: { image: a, depends_on: [my_db] } }";
    let bundle = bundle(text);
    assert_eq!(bundle.renamed, [("my_db".to_owned(), "my-db".to_owned())]);
    assert!(manifests(&bundle).contains("after: [\"my-db:started\"]"));
    assert!(manifests(&bundle).contains("aliases: [my_db]\n"), "others find it as they did");
    let project = Request {
        files: vec!["-".into()],
        stdin: Some("name: My.Dir_X\nservices: { a: { image: a } }".into()),
        env: &env(),
        env_files: Vec::new(),
        profiles: Vec::new(),
        project: None,
    };
    let bundle = load(project).unwrap();
    assert_eq!(bundle.workloads[0].workload.name().to_string(), "mydir-x/a");
    assert_eq!(bundle.renamed, [("mydir_x".to_owned(), "mydir-x".to_owned())]);
}

/// Each replica has volumes of its own, so what services share elsewhere would fall apart.
#[test]
fn volumes_that_are_shared_are_refused() {
    let one = "services: { a: { image: a, volumes: ['my_data:/x'] } }\nvolumes: { my_data: }\n";
    assert!(manifests(&bundle(one)).contains("name: my-data, path: /x"));
    let two = one.replace(" } }\n", " }, b: { image: b, volumes: ['my_data:/y'] } }\n");
    assert!(refused(&two).join("").contains("`my_data` is used by b, too"));
    let many = one.replace("image: a,", "image: a, scale: 2,");
    assert!(refused(&many).join("").contains("its 2 replicas share `my_data` elsewhere"));
    let told = many.replace("scale: 2,", "scale: 2, x-shoal: { kind: stateful },");
    assert!(manifests(&bundle(&told)).contains("kind: stateful\nreplicas: 2\n"));
    for (of_volume, why) in [
        ("{ external: true }", "shoal volume restore"),
        ("{ driver_opts: { type: nfs } }", "mount it on the nodes"),
    ] {
        let text = one.replace("my_data: }", &format!("my_data: {of_volume} }}"));
        assert!(refused(&text).join("").contains(why), "{of_volume}");
    }
    assert!(loaded(&one.replace("my_data: }", "my_data: { external: false } }"), &[]).is_ok());
}

#[test]
fn networks_that_keep_services_apart_are_refused() {
    let text = "services: { a: { image: a, networks: [x] }, b: { image: b, networks: [y, z] },\n  \
        c: { image: c, networks: [x, y] } }\nnetworks: { x: , y: , z: }\n";
    assert!(refused(text).join("").contains("services.b.networks: it shares no network with `a`"));
    assert_eq!(bundle(&format!("{text}x-shoal: {{ networks: open }}")).workloads.len(), 3);
    assert_eq!(bundle(&text.replace("[y, z]", "[y, x]")).workloads.len(), 3);
    let inside = text.replace("[y, z]", "[x]").replace("x: ,", "x: { internal: true },");
    assert!(refused(&inside).join("").contains("no container is kept from the outside"));
}

#[test]
fn configs_and_secrets_bring_their_content() {
    let text = "services:\n  a:\n    image: a\n    configs: [site, { source: old, target: /o, \
        mode: 0440 }]\n    secrets: [db_pw]\nconfigs:\n  site: { content: 'x=${TAG}' }\n  \
        old: { external: true }\nsecrets:\n  db_pw: { environment: HOST }\n  \
        unused: { file: no }\n";
    let all = bundle(text);
    let values: Vec<_> =
        all.values.iter().map(|it| (it.name.as_str(), it.content.as_slice())).collect();
    assert_eq!(values, [("db-pw", b"host".as_slice()), ("site", b"x=7")]);
    let manifest = manifests(&all);
    for part in ["source: db-pw, target: /run/secrets/db_pw, mode: \"0444\"", "target: /o"] {
        assert!(manifest.contains(part), "{manifest}");
    }
    for (from, to, why) in [
        ("0440", "440", "`440` is a decimal number for Compose: write 0440"),
        ("environment: HOST", "content: a", "a secret has no `content`"),
        ("environment: HOST", "environment: NO", "the variable NO is not set"),
        ("environment: HOST", "file: ./none", "is not there"),
        ("content: 'x=${TAG}'", "content: a, file: b", "have exactly one of"),
    ] {
        let all = refused(&text.replace(from, to)).join("\n");
        assert!(all.contains(why), "{all}");
    }
}

/// A project in a folder of files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn of_folder(folder: &Path, files: &[&str]) -> Result<Bundle, Vec<String>> {
    let request = Request {
        files: files.iter().map(|it| folder.join(it)).collect(),
        stdin: None,
        env: &env(),
        env_files: Vec::new(),
        profiles: Vec::new(),
        project: Some("shop".into()),
    };
    load(request).map_err(|it| shown(&it))
}

#[test]
fn files_are_merged_by_the_rules_of_compose() {
    for (base, over, expected) in [
        ("ports: ['1:1']", "ports: ['1:1', '2:2']", "ports: [\"1:1\", \"2:2\"]\n"),
        ("ports: ['1:1']", "ports: !override ['2:2']", "ports: [\"2:2\"]\n"),
        ("ports: ['1:1']", "ports: !reset []", ""),
        ("command: a", "command:", ""),
        ("entrypoint: a", "entrypoint:", ""),
        ("stop_signal: A", "stop_signal: ''", ""),
        ("user: a", "user:", "user: a\n"),
        ("command: [a, b]", "command: [c]", "command: [c]\n"),
        ("environment: [A=1, B=2]", "environment: { B: x }", "env:\n  A: \"1\"\n  B: x\n"),
        ("environment: { HOST: a }", "environment: [HOST]", "env:\n  HOST: host\n"),
        ("cap_add: [A]", "cap_add: [B, A]", "cap_add: [A, B]\n"),
        (
            "devices: ['/dev/a:/dev/x']",
            "devices: ['/dev/b:/dev/x']",
            "devices: [\"/dev/b:/dev/x\"]\n",
        ),
        ("healthcheck: { disable: true }", "healthcheck: { test: [CMD, a] }", "health: none\n"),
        ("deploy: { replicas: 2 }", "deploy: { mode: replicated }", "replicas: 2\n"),
        ("tmpfs: /a", "tmpfs: [/b]", "tmpfs: [/a, /b]\n"),
    ] {
        let text =
            |fields: &str, image: &str| format!("services:\n  web:\n    {image}\n    {fields}\n");
        let (base, over) = (text(base, "image: a"), text(over, "tty: false"));
        let folder = folder(&[("a.yaml", &base), ("b.yaml", &over)]);
        let bundle = of_folder(folder.path(), &["a.yaml", "b.yaml"]).unwrap();
        let manifest = manifests(&bundle).replace("name: web\nimage: a\n", "");
        assert_eq!(manifest, expected, "{base}{over}");
        // Documents of one file are merged as files are.
        let manifest = manifests(&super::tests::bundle(&format!("{base}---\n{over}")));
        assert_eq!(manifest.replace("name: web\nimage: a\n", ""), expected, "{base}{over}");
    }
}

#[test]
fn services_extend_others_and_files_include_others() {
    let folder = folder(&[
        (".env", "FROM_FILE=f\nTAG=no\n"),
        (
            "compose.yaml",
            "include: [sub/inc.yaml]\nservices:\n  web:\n    extends: { file: base/b.yaml, \
             service: one }\n    environment: { C: '${FROM_FILE}${TAG}' }\n  two: { extends: web, \
             tty: true }\n",
        ),
        (
            "base/b.yaml",
            "services:\n  one: { extends: zero, environment: { B: b }, env_file: x.env }\n  \
             zero: { image: z, environment: { A: a } }\n",
        ),
        ("base/x.env", "A=hidden\nX=x\n"),
        ("sub/inc.yaml", "services: { db: { image: '${OWN}', env_file: y.env } }\n"),
        ("sub/.env", "OWN=own\nTAG=8\n"),
        ("sub/y.env", "Y=y\n"),
    ]);
    let bundle = of_folder(folder.path(), &["compose.yaml"]).unwrap();
    let env = "env:\n  A: a\n  B: b\n  C: f7\n  X: x\n";
    assert_eq!(
        manifests(&bundle),
        format!(
            "name: db\nimage: own\nenv:\n  \"Y\": \"y\"\n---\nname: web\nimage: z\n{env}---\n\
             name: two\nimage: z\n{env}tty: true\n"
        )
    );
    assert_eq!(files_in(folder.path()), [folder.path().join("compose.yaml")]);
}

#[test]
fn circles_and_missing_files_are_named() {
    let folder = folder(&[
        ("a.yaml", "include: [b.yaml]\nservices: { a: { image: a } }\n"),
        ("b.yaml", "include: [a.yaml]\nservices: { b: { image: a } }\n"),
        ("c.yaml", "services: { a: { extends: b }, b: { extends: a } }\n"),
        ("d.yaml", "services: { a: { image: a, extends: { file: no.yaml, service: x } } }\n"),
        ("e.yaml", "services: { a: { extends: { file: f.yaml, service: a } } }\n"),
        ("f.yaml", "services: { a: { extends: { file: e.yaml, service: a } } }\n"),
        ("g.yaml", "services: { a: { image: a, extends: nobody } }\n"),
    ]);
    for (file, why) in [
        ("a.yaml", "the file includes itself"),
        ("c.yaml", "extends this service in turn"),
        ("d.yaml", "no.yaml is not there"),
        ("e.yaml", "extends this service in turn"),
        ("g.yaml", "there is no service `nobody`"),
        ("none.yaml", "none.yaml is not there"),
    ] {
        let all = of_folder(folder.path(), &[file]).map(|it| manifests(&it)).unwrap_err();
        assert!(all.join("\n").contains(why), "{file}: {all:#?}");
    }
}

/// Each of many services that extend a large one has all of its values.
#[test]
fn files_that_grow_without_bound_are_refused() {
    let large = "x, ".repeat(20_000);
    let many: String = (0..200).map(|at| format!("  s{at}: {{ extends: z }}\n")).collect();
    let text = format!("services:\n{many}  z: {{ image: a, x-a: [{large}] }}\n");
    assert!(refused(&text).join("").contains("more than 2 million values"));
    let many: String = (0..1001).map(|at| format!("  s{at}: {{ image: a }}\n")).collect();
    assert!(refused(&format!("services:\n{many}")).join("").contains("1001 services, at most"));
}

/// A service that is switched off is not read, but its variables are.
#[test]
fn profiles_switch_services_on() {
    let text = "services:\n  a: { image: a }\n  b: { image: b, pid: host, profiles: [x] }\n";
    assert_eq!(bundle(text).workloads.len(), 1);
    assert!(loaded(text, &["x"]).is_err() && loaded(text, &["*"]).is_err());
    let missing = text.replace("image: b", "image: '${NO:?none}'");
    assert!(refused(&missing).join("").contains("NO is required"));
}

#[test]
fn component_stands_in_a_compose_file() {
    let text = "services: { hello: { environment: { A: b }, x-shoal: { wasm: hello.wasm } } }";
    let all = bundle(text);
    let source = all.workloads[0].workload.source().clone();
    assert_eq!(source, crate::publish::Source::File("./hello.wasm".into()));
    // `args` is a field of a build in Compose, whose lists are mappings.
    let args = text.replace("wasm: hello.wasm", "wasm: hello.wasm, kind: job, args: [a, '2']");
    let written = write::written(&bundle(&args).workloads[0].workload).unwrap();
    assert!(written.contains("args: [a, \"2\"]"), "{written}");
    let container = text.replace("environment: { A: b }", "ports: ['80:80']");
    assert!(refused(&container).join("").contains("only a container has it"));
}

/// `nginx:${VERSION}` without a value would fail on the node, long after the file was taken.
#[test]
fn name_of_an_image_is_checked_where_it_is_written() {
    let faults = refused("services:\n  web:\n    image: 'nginx:'\n");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("`nginx:` is no name of an image"), "{faults:?}");
}

/// Compose leaves such a variable out without a word.
#[test]
fn variable_without_a_value_is_told() {
    let bundle = bundle("services:\n  web:\n    image: a\n    environment: ['NONE:b']\n");
    let told = bundle.notes.iter().any(|note| note.text.starts_with("left out: it has no value"));
    assert!(told, "{:?}", bundle.notes);
}

/// A link with an alias names the other service; all of the namespace may use it.
#[test]
fn aliases_of_links_are_further_names_of_the_other_service() {
    let text = "services: { db: { image: d }, web: { image: a, links: ['db:Database', db] } }";
    let told = manifests(&bundle(text));
    assert!(told.contains("name: db\nimage: d\naliases: [database]\n"), "{told}");
    assert!(told.contains("after: [\"db:started\"]"), "{told}");
    let taken = text.replace("db:Database", "db:web");
    let why = "services.web.links[0]: `web` is another service";
    assert!(refused(&taken).join("").contains(why), "{:?}", refused(&taken));
}
