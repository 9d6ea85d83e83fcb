//! Faults told together, and files that take values from one another. The forms themselves are
//! compared with Compose by `cargo testnet conformance`.

use super::*;

/// A service with one fault has its other fields judged, and told.
#[test]
fn one_fault_hides_no_other() {
    let fields = "imag: a\nmem_limit: 1e9\nnetwork_mode: service:db\nrestart: on-failure:101\n\
        ports: [a]\ntmpfs: ['/run:uid=5']\n";
    let text = format!("services:\n  web:\n{}", indented(fields));
    let told = refused(&text);
    let fields: Vec<&str> =
        told.iter().filter_map(|it| it.split("services.web").nth(1)?.split(':').next()).collect();
    let expected =
        [".image", ".imag", ".mem_limit", ".network_mode", ".restart", ".ports[0]", ".tmpfs[0]"];
    assert_eq!(fields, expected, "{told:?}");
}

/// A file or a variable that is missing takes others along: their faults would hide the one that is
/// to be mended.
#[test]
fn faults_that_only_follow_are_not_told() {
    let text = "services:\n  web:\n    image: 'a:${TAG_OF:?name it}'\n    ports: ['${P:?x}:80']\n";
    let told = refused(text);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|it| it.contains("is required and has no value")), "{told:?}");
    let text = "services:\n  web:\n    extends: { file: none.yaml, service: base }\n    \
        ports: ['80:80']\n";
    let told = refused(text);
    assert!(told.len() == 1 && told[0].contains("none.yaml is not there"), "{told:?}");
}

/// A refused file has notes about what is not refused, for `shoal convert --explain`.
#[test]
fn refused_file_keeps_the_other_verdicts() {
    let text = "services:\n  web:\n    image: a\n    pid: host\n    logging: { driver: x }\n";
    let refusal = loaded(text, &[]).unwrap_err();
    let of = |field: &str| {
        let note = refusal.notes.iter().find(|it| it.field == field);
        note.map(|it| it.verdict)
    };
    assert_eq!(of("services.web.image"), Some(Verdict::Honoured));
    assert_eq!(of("services.web.logging"), Some(Verdict::Degraded));
    assert_eq!(of("services.web.pid"), None);
}

fn in_folder(files: &[(&str, &str)]) -> Result<Bundle, Refusal> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    load(Request {
        files: files_in(folder.path()),
        stdin: None,
        env: &env(),
        env_files: Vec::new(),
        profiles: Vec::new(),
        project: Some("shop".into()),
    })
}

/// A name without a value takes that of `.env`, too, and the values of an `env_file` see the shell,
/// the service's own, those of the file and those of earlier files, in this order.
#[test]
fn values_come_from_the_nearest_place() {
    let project = "services:\n  web:\n    image: a\n    env_file: [one.env, two.env]\n    \
        environment: { OWN: own, DOT: }\n";
    let bundle = in_folder(&[
        ("compose.yaml", project),
        (".env", "DOT=dot\nHOST=hidden\n"),
        ("one.env", "OWN=file\nA=$OWN\nB=$HOST\nQ=1\nS=1\nKEPT=1\n"),
        ("two.env", "Q=2\nC=$Q$S\nKEPT\n"),
    ]);
    let bundle = bundle.unwrap_or_else(|refusal| panic!("{:?}", shown(&refusal)));
    let spec = bundle.workloads[0].workload.spec(None).unwrap();
    let of = |name: &str| spec.env().get(name).map(String::as_str);
    let expected =
        [("OWN", "own"), ("DOT", "dot"), ("A", "own"), ("B", "host"), ("C", "21"), ("KEPT", "1")];
    for (name, value) in expected {
        assert_eq!(of(name), Some(value), "{name}");
    }
}

/// A container that joins the network of another one waits for it, and so does one that takes its
/// volumes: a circle is one whatever its fields.
#[test]
fn circles_are_seen_through_all_fields() {
    let text =
        "services:\n  a: { image: x, volumes_from: [b] }\n  b: { image: x, ipc: service:a }\n";
    let told = refused(text).join("\n");
    assert!(told.contains("a, b wait for one another"), "{told}");
}

/// Such numbers are dates or numbers for Compose, which refuses them.
#[test]
fn texts_are_texts_and_lists_are_lists() {
    for (fields, why) in [
        ("user: 1000", "user: a text is expected: write \"1000\", in quotes"),
        ("hostname: true", "hostname: a text is expected"),
        ("command: [sleep, 5]", "command[1]: a text is expected"),
        ("cap_add: NET_ADMIN", "cap_add: a list is expected"),
        ("deploy: { resources: { limits: { memory: 100000000 } } }", "memory: a text is expected"),
        ("network_mode: host\nnetworks: [default]", "leave one of the two out"),
        ("depends_on: { db: {} }", "`condition` is missing"),
    ] {
        let told = refusals(fields);
        assert!(told.len() == 1 && told[0].contains(why), "{fields}: {told:?}");
    }
}

/// What stands there twice is there once.
#[test]
fn doubles_of_a_list_count_once() {
    assert_eq!(
        web("cap_add: [NET_ADMIN, NET_ADMIN]\nports: ['80:80', '80:80']\nexpose: [9, '9']"),
        web("cap_add: [NET_ADMIN]\nports: ['80:80']\nexpose: [9]")
    );
}

/// No node has the folder of the publisher: what is only read comes with the files.
#[test]
fn relative_paths_that_are_only_read_become_configs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("etc/a.conf", "a");
    write("etc/more/b.conf", "b");
    write("site.conf", "c");
    let loaded = |project: &str| {
        write("compose.yaml", project);
        load(Request {
            files: files_in(folder.path()),
            stdin: None,
            env: &env(),
            env_files: Vec::new(),
            profiles: Vec::new(),
            project: Some("shop".into()),
        })
    };
    let marked = "services:\n  web:\n    image: a\n    volumes: ['./etc:/etc/x/:ro', \
        './site.conf:/s:ro']\n  db: { image: a, volumes: ['./site.conf:/t:ro'] }\n";
    let open = format!("x-shoal: {{ files: read-only }}\n{}", marked.replace(":ro", ""));
    for project in [marked, &open] {
        let bundle = loaded(project).unwrap_or_else(|refusal| panic!("{:?}", shown(&refusal)));
        let values: Vec<(String, String)> = bundle
            .values
            .iter()
            .map(|it| (it.name.to_string(), String::from_utf8(it.content.clone()).unwrap()))
            .collect();
        let expected =
            [("file-etc-a-conf", "a"), ("file-etc-more-b-conf", "b"), ("file-site-conf", "c")];
        assert_eq!(values, expected.map(|(name, it)| (name.to_owned(), it.to_owned())));
        let text = manifests(&bundle);
        assert!(text.contains("/etc/x/more/b.conf") && text.contains("/etc/x/a.conf"), "{text}");
        assert!(bundle.notes.iter().any(|it| it.text.contains("2 of its files are configs")));
    }
    let bare = loaded(&marked.replace(":ro", "")).unwrap_err();
    assert!(shown(&bare)[0].contains("write `./etc:/etc/x/:ro`"), "{:?}", shown(&bare));
    write("big/a", &"x".repeat(40_000));
    let big = loaded("services: { web: { image: a, volumes: ['./big:/b:ro'] } }").unwrap_err();
    assert!(shown(&big)[0].contains("more than 32 KiB"), "{:?}", shown(&big));
}

/// `/` is no letter, and a file that says only that the check counts says nothing more.
#[test]
fn notes_are_about_what_stands_there() {
    let notes = |fields: &str| -> Vec<String> {
        let text =
            format!("services:\n  web:\n    image: a\n    mem_limit: 9m\n{}", indented(fields));
        let less = bundle(&text).notes.into_iter().filter(|it| it.verdict == Verdict::Degraded);
        less.map(|it| format!("{}: {}", it.field, it.text)).collect()
    };
    assert_eq!(notes("volumes: ['/:/host:ro']\nhealthcheck: { disable: false }"), [""; 0]);
    let [told] = &notes("dns: [1.1.1.1]")[..] else { panic!("told once") };
    assert!(told.contains("it does not find other services by name"), "{told}");
    assert_eq!(notes("dns: []"), [""; 0]);
    let [told] = &notes("container_name: a.b")[..] else { panic!("told once") };
    assert!(told.contains("`a.b` leads nowhere"), "{told}");
}
