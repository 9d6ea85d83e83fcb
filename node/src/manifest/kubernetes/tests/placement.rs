//! Where workloads run.

use super::*;

const HOST: &str = "topologyKey: kubernetes.io/hostname";

#[test]
fn conditions_on_nodes_become_rules() {
    let required = |terms: &str| {
        format!(
            "affinity:\n  nodeAffinity:\n    requiredDuringSchedulingIgnoredDuringExecution:\n    \
             \x20 nodeSelectorTerms:\n{}",
            indented(terms, 6)
        )
    };
    let term = |all: &str| format!("- matchExpressions: [{all}]");
    for (pod, wanted) in [
        ("nodeSelector: { disk: ssd }".to_owned(), "require:\n  disk: ssd"),
        (
            "nodeSelector: { kubernetes.io/arch: arm64, kubernetes.io/os: linux }".into(),
            "require:\n  arch: arm64\n  os: linux",
        ),
        (
            required(&term(
                "{ key: zone, operator: In, values: [a, b] }, { key: gpu, operator: DoesNotExist \
                 }, { key: cores, operator: Gt, values: [\"2\"] }",
            )),
            "require: [\"zone in (a, b)\", \"!gpu\", \"cores > 2\"]",
        ),
        (
            required(&format!(
                "{}\n{}",
                term("{ key: zone, operator: In, values: [a] }"),
                term("{ key: zone, operator: In, values: [b] }")
            )),
            "require: [\"zone in (a, b)\"]",
        ),
        (
            "affinity:\n  nodeAffinity:\n    preferredDuringSchedulingIgnoredDuringExecution:\n    \
             - weight: 80\n      preference: { matchExpressions: [{ key: disk, operator: In, \
             values: [ssd] }] }"
                .into(),
            "prefer: [{ rule: \"disk = ssd\", weight: 80 }]",
        ),
        (
            "tolerations: [{ operator: Exists }, { key: a, operator: Exists }, { key: b, value: c \
             }]"
                .into(),
            "tolerate: [\"*\", a, \"b=c\"]",
        ),
        (
            "topologySpreadConstraints: [{ topologyKey: zone, maxSkew: 1, whenUnsatisfiable: \
             ScheduleAnyway, labelSelector: { matchLabels: { app: web } } }]"
                .into(),
            "spread: [zone]",
        ),
        ("topologySpreadConstraints: [{ topologyKey: kubernetes.io/hostname }]".into(), ""),
    ] {
        assert_eq!(more(&pod, "").join("\n"), wanted, "{pod}");
    }
    let either = required(&format!(
        "{}\n{}",
        term("{ key: zone, operator: In, values: [a] }"),
        term("{ key: disk, operator: Exists }")
    ));
    assert!(refusal(&deployment(&either, ""))[0].contains("one of several terms must hold"));
}

/// Left out, it would let replicas run where they must not.
#[test]
fn spread_that_must_be_is_refused_where_it_keeps_replicas_away() {
    let pod = "topologySpreadConstraints: [{ topologyKey: zone, maxSkew: 1, whenUnsatisfiable: \
               DoNotSchedule, labelSelector: { matchLabels: { app: web } } }]";
    let one = deployment(pod, "");
    assert!(manifests(&one).contains("spread: [zone]"), "a single one differs from none by one");
    let told = refusal(&one.replacen("spec:\n", "spec:\n  replicas: 3\n", 1));
    assert!(told.len() == 1 && told[0].contains("whenUnsatisfiable: a replica"), "{told:?}");
    assert!(told[0].contains("| Write `ScheduleAnyway`; or"), "{told:?}");
}

#[test]
fn relations_find_workloads_by_their_labels() {
    let term = |of: &str, app: &str, topology: &str| {
        format!(
            "affinity:\n  {of}:\n    requiredDuringSchedulingIgnoredDuringExecution:\n    - \
             labelSelector: {{ matchExpressions: [{{ key: app, operator: In, values: [{app}] }}] \
             }}\n      {topology}"
        )
    };
    let wish = |of: &str, topology: &str| {
        format!(
            "affinity:\n  {of}:\n    preferredDuringSchedulingIgnoredDuringExecution:\n    - \
             weight: 30\n      podAffinityTerm: {{ labelSelector: {{ matchLabels: {{ app: web }} \
             }}, {topology} }}"
        )
    };
    let with_db = |pod: &str| {
        let db = deployment("", "").replace("name: web", "name: db").replace("app: web", "app: db");
        format!("{}---\n{db}", deployment(pod, ""))
    };
    for (pod, wanted) in [
        (term("podAffinity", "db", HOST), "affinity:\n  near: [db]\n"),
        (term("podAntiAffinity", "web", HOST), "affinity:\n  apart: [web]\n"),
        (wish("podAntiAffinity", HOST), "affinity:\n  apart: [\"web:30\"]\n"),
        (wish("podAntiAffinity", "topologyKey: zone"), "spread: [zone]\n"),
    ] {
        let all = manifests(&with_db(&pod));
        assert!(all.contains(wanted), "{pod}\n{all}");
    }
    for (pod, wanted) in [
        (term("podAffinity", "cache", HOST), "no workload of these files has the labels app"),
        (term("podAffinity", "db", "topologyKey: zone"), "nodes with one value of `zone`"),
        (term("podAffinity", "web", HOST), "all replicas on one node"),
    ] {
        let told = refusal(&with_db(&pod));
        assert!(told.len() == 1 && told[0].contains(wanted), "{pod}: {told:?}");
    }
}

#[test]
fn priority_comes_from_a_class() {
    let class = |value: i64, default: bool| {
        format!(
            "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{ name: high \
             }}\nvalue: {value}\nglobalDefault: {default}\n"
        )
    };
    let named = deployment("priorityClassName: high", "");
    for (text, wanted) in [
        (format!("{named}{}", class(100, false)), "priority: 100\n"),
        (format!("{named}{}", class(1_000_000, false)), "priority: 1000\n"),
        (format!("{}{}", deployment("", ""), class(7, true)), "priority: 7\n"),
    ] {
        assert!(manifests(&text).contains(wanted), "{text}");
    }
    assert_eq!(
        degraded(&named),
        ["Deployment/web: spec.template.spec.priorityClassName: PriorityClass `high` is not in \
          these files: taken as 0"]
    );
}
