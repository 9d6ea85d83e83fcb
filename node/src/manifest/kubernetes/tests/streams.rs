//! How files are divided into objects.

use super::*;

fn config(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\ndata: {{ k: v }}\n")
}

fn names(text: &str) -> Vec<String> {
    taken(text).values.into_iter().map(|it| it.name.to_string()).collect()
}

#[test]
fn documents_lists_and_json_are_taken_apart() {
    let (a, b) = (config("a"), config("b"));
    let json = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}},\n\
             \t\"data\":{{\"k\":\"}}{{\",}}}}"
        )
    };
    let item = |name: &str| indented(&config(name), 2).replacen("  ", "- ", 1);
    let untyped = |name: &str| format!("- metadata: {{ name: {name} }}\n  data: {{ k: v }}\n");
    for text in [
        format!("{a}---\n{b}"),
        format!("\u{feff}---# first\n{a}--- # x\n# nothing\n---\n{b}---\n"),
        format!("{a}---\n{b}").replace('\n', "\r\n"),
        format!("{a}...\n---\n{b}"),
        format!("{}\n{}\n", json("a"), json("b")),
        format!("{}{}", json("a"), json("b")),
        format!(
            "apiVersion: v1\nkind: List\nmetadata: {{ resourceVersion: \"\" }}\nitems:\n{}{}",
            item("a"),
            item("b")
        ),
        format!("kind: ConfigMapList\napiVersion: v1\nitems:\n{}{}", untyped("a"), untyped("b")),
    ] {
        assert_eq!(names(&text), ["a-k", "b-k"], "{text}");
    }
}

#[test]
fn what_tools_write_for_themselves_is_ignored() {
    let text = deployment("", "")
        .replace(
            "metadata: { name: web }",
            "metadata:\n  name: web\n  creationTimestamp: null\n  uid: a\n  generation: 1\n  \
             resourceVersion: \"1\"\n  managedFields: [{ manager: x }]\n  annotations:\n    \
             kubectl.kubernetes.io/last-applied-configuration: |\n      {}",
        )
        .replace("labels: { app: web } }", "labels: { app: web }, creationTimestamp: null }")
        + "        resources: {}\n  strategy: {}\nstatus: {}\n";
    assert_eq!(degraded(&text), [""; 0]);
    assert_eq!(manifests(&text), manifests(&deployment("", "")));
}

#[test]
fn streams_that_kubectl_cuts_are_refused() {
    let a = config("a");
    let b = config("b");
    for (text, wanted) in [
        (String::new(), "a.yaml there is nothing in it"),
        ("# only a comment\n---\n".into(), "a.yaml there is nothing in it"),
        (
            format!("{a}...\n{b}"),
            "a.yaml:6:1 what follows `...` is dropped by kubectl, without a word | Write `---` \
             before the next document.",
        ),
        (
            format!("--- !tag\n{a}"),
            "a.yaml:1:1 `--- !tag` is no division: kubectl drops what follows `---` | Write it in \
             the next line.",
        ),
        (format!("{a}---\n{a}"), "a.yaml:8:13 ConfigMap/a: stands here twice, first in line 1"),
        (
            format!("{a}---\nkind: X\napiVersion: v1\n"),
            "a.yaml:6:1 kind: `X` is no kind that shoal knows | Known are Deployment",
        ),
        (
            "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: { name: a }\n".into(),
            "a.yaml:1:1 apiVersion: `apps/v1beta1` has no Deployment that shoal knows | Write \
             `apps/v1`; its fields may differ.",
        ),
        (
            "apiVersion: v1\nkind: Deploymnt\n".into(),
            "a.yaml:2:1 kind: `Deploymnt` is no kind that shoal knows | Did you mean `Deployment`?",
        ),
        (
            "services:\n  web: { image: a }\n".into(),
            "a.yaml:1:1 `kind` is missing, so it is no object of Kubernetes | It looks like a \
             file of Compose",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items: []\n"
                .into(),
            "a.yaml:4:3 items: a list within a list, which kubectl refuses, too",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: [~]\n".into(),
            "a.yaml:3:9 items: nothing in a list of objects",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: { generateName: a- }\n".into(),
            "a.yaml:1:1 metadata.name: the ConfigMap has no name | `generateName` makes a new \
             object each time: name it.",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndata: { k: a }\ndata: {}\n"
                .into(),
            "a.yaml:5:1 `data` stands here twice, first in line 4",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: a }\n".into(),
            "a.yaml:2:1 NetworkPolicy/a: shoal keeps no workloads apart in the network",
        ),
        (
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: { name: a }\n".into(),
            "a.yaml:2:1 ReplicaSet/a: a ReplicaSet belongs to a Deployment | Publish the \
             Deployment.",
        ),
    ] {
        let told = refusal(&text);
        assert_eq!(told.len(), 1, "{text}\n{told:?}");
        assert!(told[0].starts_with(wanted), "{text}\n{told:?}\n{wanted}");
    }
}

/// A broken document hides no other, and nothing is taken.
#[test]
fn broken_document_does_not_hide_the_next() {
    let text = format!("{}---\na: [\n---\nkind: X\napiVersion: v1\n", config("a"));
    let told = refusal(&text);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("a.yaml:") && told[1].starts_with("a.yaml:8:1 kind: `X`"));
}

/// A plain `yes:` is the key `true` for kubectl.
#[test]
fn plain_keys_are_what_kubectl_takes_them_for() {
    let pod = "nodeSelector: { yes: a, 1: b, \"on\": c, 010: d }";
    assert_eq!(
        more(pod, ""),
        ["require:", "  \"1\": b", "  \"8\": d", "  \"on\": c", "  \"true\": a"]
    );
}

#[test]
fn hooks_of_helm_run_before_and_after() {
    let job = |name: &str, hook: &str| {
        format!(
            "---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {name}\n  annotations:\n    \
             helm.sh/hook: {hook}\nspec:\n  template:\n    spec:\n      \
             restartPolicy: Never\n      containers: [{{ name: a, image: \"a:1\" }}]\n"
        )
    };
    let text = format!(
        "{}{}{}{}{}{}",
        deployment("", ""),
        job("migrate", "pre-install,pre-upgrade"),
        job("first", "pre-install\n    helm.sh/hook-weight: \"-5\""),
        job("warm", "post-install"),
        job("smoke", "test"),
        job("bye", "pre-delete"),
    );
    let after: Vec<String> = taken(&text)
        .workloads
        .iter()
        .map(|it| {
            let spec = it.workload.spec(None).unwrap();
            let after: Vec<String> = spec.later.after.iter().map(ToString::to_string).collect();
            format!("{}: {}", spec.name, after.join(" "))
        })
        .collect();
    assert_eq!(
        after,
        [
            "web: first:done migrate:done",
            "migrate: first:done",
            "first: ",
            "warm: first:done migrate:done web",
        ]
    );
    assert_eq!(
        degraded(&text),
        [
            "Job/smoke: left out: a hook of Helm for test; shoal runs those of pre-install and \
             post-install",
            "Job/bye: left out: a hook of Helm for pre-delete; shoal runs those of pre-install \
             and post-install",
        ]
    );
}

#[test]
fn names_are_mapped_where_all_see_it() {
    let text = deployment("", "").replace("{ name: web }", "{ name: web.v1, namespace: shop }");
    let bundle = taken(&text);
    assert_eq!(bundle.workloads[0].workload.name().to_string(), "shop/web-v1");
    assert_eq!(bundle.renamed, [("Deployment/web.v1".to_owned(), "web-v1".to_owned())]);
    let both = format!("{text}---\n{}", text.replace("web.v1", "web-v1"));
    let told = refusal(&both);
    assert_eq!(
        told,
        ["a.yaml:15:13 Deployment/web-v1: metadata.name: it becomes the workload `shop/web-v1`, \
          as Deployment/web.v1 does | Rename one of them."]
    );
    let loaded = load(vec![("a".into(), deployment("", ""))], Some("east".parse().unwrap()));
    assert_eq!(loaded.unwrap().workloads[0].workload.name().to_string(), "east/web");
}
