//! ConfigMaps, Secrets, the environment, and volumes.

use super::*;

const OBJECTS: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: site }\n\
    data: { GREETING: hi, app.conf: \"a=1\\n\" }\n---\napiVersion: v1\nkind: Secret\n\
    metadata: { name: db }\ndata: { password: aGk= }\nstringData: { user: root }\n";

fn with_objects(pod: &str, container: &str) -> String {
    format!("{}{OBJECTS}", deployment(pod, container))
}

/// The lines that a Deployment alone does not have.
fn with(pod: &str, container: &str) -> String {
    let plain = manifests(&deployment("", ""));
    let known: Vec<&str> = plain.lines().collect();
    let all = manifests(&with_objects(pod, container));
    let more: Vec<&str> = all.lines().filter(|it| !known.contains(it)).collect();
    items_in_lines(&more).join("\n")
}

/// The lines of a manifest with a line for each item of a list of mappings, however it is written.
fn items_in_lines(lines: &[&str]) -> Vec<String> {
    let (mut all, mut key) = (Vec::new(), "");
    for line in lines {
        if let Some(item) = line.strip_prefix("  - ") {
            all.push(format!("{key} {item}"));
        } else if let Some((of, items)) = line.split_once(": [{ ") {
            let items = items.trim_end_matches(" }]").split(" }, { ");
            all.extend(items.map(|item| format!("{of} {{ {item} }}")));
        } else if let Some(of) = line.strip_suffix(':').filter(|_| !line.starts_with("env")) {
            key = of;
        } else {
            all.push((*line).to_owned());
        }
    }
    all
}

#[test]
fn each_key_is_a_value() {
    let bundle = taken(OBJECTS.trim_start_matches("---\n"));
    let all: Vec<String> = bundle
        .values
        .iter()
        .map(|it| {
            let content = String::from_utf8_lossy(&it.content);
            format!("{} {}/{} {content:?}", it.kind.word(), it.namespace, it.name)
        })
        .collect();
    assert_eq!(
        all,
        [
            "config default/site-greeting \"hi\"",
            "config default/site-app-conf \"a=1\\n\"",
            "secret default/db-password \"hi\"",
            "secret default/db-user \"root\"",
        ]
    );
    assert_eq!(
        bundle.renamed,
        [
            ("ConfigMap/site: GREETING".to_owned(), "site-greeting".to_owned()),
            ("ConfigMap/site: app.conf".to_owned(), "site-app-conf".to_owned()),
        ]
    );
    let map =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a }}\n{data}\n");
    for (data, wanted) in [
        ("data: { a.b: x, a_b: z }", "it becomes the config `a-a-b`, as ConfigMap/a: a.b does"),
        ("data: { a: 1 }", "`1` without quotes is a number"),
        ("binaryData: { a: \"?\" }", "this is not base64"),
        ("datum: {}", "there is no such field | Did you mean `data`?"),
    ] {
        let told = refusal(&map(data));
        assert!(told.len() == 1 && told[0].contains(wanted), "{told:?}");
    }
    let large = map(&format!("data: {{ a: {} }}", "x".repeat(40_000)));
    assert!(refusal(&large)[0].contains("40000 bytes, and a config has at most 32 KiB"));
}

#[test]
fn environment_names_values_and_is_written_out() {
    for (container, wanted) in [
        ("env: [{ name: A, value: b }, { name: C }]", "env:\n  A: b\n  C: \"\""),
        (
            "env: [{ name: A, value: b }, { name: B, value: \"$(A)$(NONE)$$(A)$x\" }]",
            "env:\n  A: b\n  B: \"b$(NONE)$(A)$x\"",
        ),
        (
            "env: [{ name: A, value: b }]\nargs: [\"--a=$(A)\", \"$(date)\"]",
            "command: [\"--a=b\", \"$(date)\"]\nenv:\n  A: b",
        ),
        (
            "env: [{ name: P, valueFrom: { secretKeyRef: { name: db, key: password } } }]",
            "secrets { source: db-password, env: P }",
        ),
        (
            "env: [{ name: G, valueFrom: { configMapKeyRef: { name: site, key: GREETING } } }]",
            "configs { source: site-greeting, env: G }",
        ),
        (
            "envFrom: [{ configMapRef: { name: site }, prefix: X_ }, { secretRef: { name: db } }]",
            "secrets { source: db-password, env: password }\nsecrets { source: db-user, env: user \
             }\nconfigs { source: site-greeting, env: X_GREETING }",
        ),
        (
            "env: [{ name: NS, valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }, { \
             name: L, valueFrom: { fieldRef: { fieldPath: \"metadata.labels['app']\" } } }]",
            "env:\n  L: web\n  NS: default",
        ),
        (
            "env: [{ name: A, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }, { name: B, \
             valueFrom: { fieldRef: { fieldPath: metadata.name } } }, { name: C, valueFrom: { \
             fieldRef: { fieldPath: metadata.uid } } }]",
            "env_from:\n  A: node\n  B: name\n  C: uid",
        ),
        (
            "resources: { limits: { cpu: 1500m } }\nenv: [{ name: C, valueFrom: { \
             resourceFieldRef: { resource: limits.cpu } } }]",
            "",
        ),
        (
            "env: [{ name: P, valueFrom: { secretKeyRef: { name: none, key: a, optional: true } } \
             }]",
            "",
        ),
    ] {
        let got = with("", container);
        if wanted.is_empty() {
            continue;
        }
        let mut got: Vec<&str> = got.lines().collect();
        let mut wanted: Vec<&str> = wanted.lines().collect();
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "{container}");
    }
    let cpu = "resources: { limits: { cpu: 1500m } }\nenv: [{ name: C, valueFrom: { \
         resourceFieldRef: { resource: limits.cpu } } }]";
    assert!(with("", cpu).contains("env:\n  C: \"2\""));
    let optional = "env: [{ name: P, valueFrom: { secretKeyRef: { name: none, key: a, optional: \
         true } } }]";
    assert_eq!(with("", optional), "");
}

#[test]
fn environment_that_is_not_known_is_refused() {
    let reference =
        |of: &str, rest: &str| format!("env: [{{ name: A, valueFrom: {{ {of}: {{ {rest} }} }} }}]");
    for (container, wanted) in [
        (
            reference("fieldRef", "fieldPath: status.podIP"),
            "`status.podIP`: the engine gives it when the container starts, behind its variables | \
             Let the program ask for it",
        ),
        (
            reference("fieldRef", "fieldPath: status.hostIP"),
            "`status.hostIP`: a node has several, and none at which all others reach it",
        ),
        (
            format!("{}\nargs: [\"$(A)\"]", reference("fieldRef", "fieldPath: metadata.name")),
            "`$(A)` is not known before a node starts the replica",
        ),
        (
            reference("fieldRef", "fieldPath: status.startTime"),
            "Leave it away, or write the value.",
        ),
        (
            reference("configMapKeyRef", "name: site, key: GREETNG"),
            "ConfigMap `site` has no key `GREETNG` | Did you mean `GREETING`?",
        ),
        (
            "envFrom: [{ secretRef: { name: none } }]".into(),
            "Secret `none` is not in these files, so its keys are unknown",
        ),
        (
            format!("{}\nargs: [\"$(A)\"]", reference("secretKeyRef", "name: db, key: user")),
            "`$(A)` is the secret `db-user`, which is not known when it is published",
        ),
        (reference("resourceFieldRef", "resource: limits.memory"), "has no `limits.memory`"),
    ] {
        let told = refusal(&with_objects("", &container));
        assert!(told.len() == 1 && told[0].contains(wanted), "{container}: {told:?}");
    }
    let elsewhere = reference("secretKeyRef", "name: other, key: a.b");
    assert_eq!(
        degraded(&with_objects("", &elsewhere)),
        ["Deployment/web: spec.template.spec.containers[0].env[0].valueFrom.secretKeyRef: Secret \
          `other` is not in these files: `shoal secret set default/other-a-b` sets it"]
    );
}

/// More configs than a workload may have are written out.
#[test]
fn many_configs_are_written_into_the_environment() {
    let data: Vec<String> = (0..40).map(|number| format!("K{number}: v{number}")).collect();
    let text = format!(
        "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: site }}\ndata: {{ {} }}\n",
        deployment("", "envFrom: [{ configMapRef: { name: site } }]"),
        data.join(", ")
    );
    let all = manifests(&text);
    assert!(all.contains("  K39: v39\n") && !all.contains("configs:"), "{all}");
}

#[test]
fn volumes_become_volumes_and_files() {
    let mount = "volumeMounts: [{ name: v, mountPath: /v }]";
    let of = |source: &str| format!("volumes: [{{ name: v, {source} }}]");
    for (source, container, wanted) in [
        ("emptyDir: {}", mount, "volumes { name: v, scratch: true, path: /v }"),
        ("emptyDir:", mount, "volumes { name: v, scratch: true, path: /v }"),
        ("emptyDir: { medium: Memory, sizeLimit: 1Mi }", mount, "tmpfs: [\"/v:size=1MiB,exec\"]"),
        (
            "hostPath: { path: /dev/ttyUSB0, type: CharDevice }",
            mount,
            "devices: [\"/dev/ttyUSB0:/v\"]",
        ),
        (
            "configMap: { name: site }",
            mount,
            "configs { source: site-greeting, target: /v/GREETING, mode: \"0644\" }\n\
             configs { source: site-app-conf, target: /v/app.conf, mode: \"0644\" }\n\
             tmpfs: [\"/v:size=64KiB\"]",
        ),
        (
            "secret: { secretName: db, defaultMode: 0440, items: [{ key: user, path: x/u, mode: \
             256 }, { key: password, path: p }] }",
            mount,
            "secrets { source: db-user, target: /v/x/u, mode: \"0400\" }\n\
             secrets { source: db-password, target: /v/p, mode: \"0440\" }\n\
             tmpfs: [\"/v:size=64KiB\"]",
        ),
        (
            "configMap: { name: site }",
            "volumeMounts: [{ name: v, mountPath: /etc/app.conf, subPath: app.conf }]",
            "configs { source: site-app-conf, target: /etc/app.conf, mode: \"0644\" }",
        ),
        (
            "projected: { sources: [{ configMap: { name: site, items: [{ key: GREETING, path: g \
             }] } }, { secret: { name: db, items: [{ key: user, path: u }] } }] }",
            mount,
            "secrets { source: db-user, target: /v/u, mode: \"0644\" }\n\
             configs { source: site-greeting, target: /v/g, mode: \"0644\" }\n\
             tmpfs: [\"/v:size=64KiB\"]",
        ),
        (
            "persistentVolumeClaim: { claimName: data }",
            "volumeMounts: [{ name: v, mountPath: /v, readOnly: true }]",
            "volumes { name: data, path: /v, read_only: true }",
        ),
    ] {
        assert_eq!(with(&of(source), container), wanted, "{source}");
    }
    let root = with(&of("hostPath: { path: / }"), mount);
    assert!(root.contains("device: /, path: /v"), "{root}");
    let host = with(&of("hostPath: { path: /srv/www/ }"), mount);
    assert!(host.contains("device: /srv/www, path: /v"), "{host}");
}

#[test]
fn claims_are_of_one_replica() {
    let claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: { name: data }\n\
        spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Gi } } }\n";
    let pod = "volumes: [{ name: v, persistentVolumeClaim: { claimName: data } }]";
    let one = deployment(pod, "volumeMounts: [{ name: v, mountPath: /v }]");
    let all = manifests(&format!("{one}{claim}"));
    assert!(
        all.contains("disk: 1GiB\n") && all.contains("volumes: [{ name: data, path: /v }]\n"),
        "{all}"
    );
    let three = format!("{}{claim}", one.replace("  selector", "  replicas: 3\n  selector"));
    let told = refusal(&three);
    assert!(told[0].contains("3 replicas would share `data`"), "{told:?}");
    let other = one.replace("name: web }", "name: other }");
    let told = refusal(&format!("{one}---\n{other}{claim}"));
    assert!(told[0].contains("Deployment/web mounts `data`, too"), "{told:?}");
    let stateful = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: db }\nspec:\n  \
        replicas: 3\n  serviceName: db\n  selector: { matchLabels: { app: db } }\n  template:\n    \
        metadata: { labels: { app: db } }\n    spec:\n      containers:\n      - name: db\n        \
        image: postgres:17\n        volumeMounts: [{ name: data, mountPath: /data }]\n  \
        volumeClaimTemplates:\n  - metadata: { name: data }\n    spec: { accessModes: \
        [ReadWriteOnce], resources: { requests: { storage: 2Gi } } }\n";
    let all = manifests(stateful);
    assert!(all.contains("kind: stateful\nreplicas: 3\n"), "{all}");
    assert!(
        all.contains("disk: 2GiB\n") && all.contains("volumes: [{ name: data, path: /data }]\n")
    );
}

#[test]
fn volumes_that_shoal_has_not_are_refused() {
    let pod = |volume: &str| format!("volumes: [{{ name: v, {volume} }}]");
    for (volume, mount, wanted) in [
        ("csi: { driver: a }", "{ name: v, mountPath: /v }", "a volume here is a folder"),
        ("emptyDir: {}", "{ name: w, mountPath: /v }", "there is no volume `w`"),
        ("emptyDir: {}", "{ name: v, mountPath: /v, subPath: a }", "a part of a volume cannot"),
        ("configMap: { name: site }", "{ name: v, mountPath: /v, subPath: a }", "has no file `a`"),
        ("emptyDir: {}, hostPath: { path: /a }", "{ name: v, mountPath: /v }", "one source"),
        (
            "emptyDir: {}",
            "{ name: v, mountPath: /v, mountPropagation: Bidirectional }",
            "mounts that are made later",
        ),
    ] {
        let told = refusal(&with_objects(&pod(volume), &format!("volumeMounts: [{mount}]")));
        assert!(told.iter().any(|it| it.contains(wanted)), "{volume}: {told:?}");
    }
}
