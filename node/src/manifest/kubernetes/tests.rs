//! Files as people bring them, and what becomes of them.

use shoal_protocol::model::spec::ValueKind;

use super::super::bundle::{Bundle, Refusal};
use super::super::verdict::Verdict;
use super::super::write::manifest;
use super::load;

mod kinds;
mod placement;
mod ports;
mod streams;
mod values;

/// The files as they would be loaded by their names.
fn bundle(text: &str) -> Result<Bundle, Refusal> {
    load(vec![("a.yaml".into(), text.into())], None)
}

/// All reasons against a file, each in one line: place, field, fault and mend.
fn refusal(text: &str) -> Vec<String> {
    match bundle(text) {
        Err(refusal) => told(&refusal),
        Ok(bundle) => panic!("it is taken: {:?}", bundle.workloads),
    }
}

fn told(Refusal { problems, sources }: &Refusal) -> Vec<String> {
    let one = |it: &super::super::tree::Problem| {
        let hint = it.hint.as_ref().map(|it| format!(" | {it}")).unwrap_or_default();
        format!("{} {it}{hint}", sources.show(it.at))
    };
    problems.iter().map(one).collect()
}

fn taken(text: &str) -> Bundle {
    bundle(text).unwrap_or_else(|refusal| panic!("{text}\n{}", told(&refusal).join("\n")))
}

/// The workloads as manifests of shoal, without the parts that every one of them has.
fn manifests(text: &str) -> String {
    let all = taken(text).workloads.into_iter().map(|it| {
        let spec = it.workload.spec(None).unwrap();
        manifest(&spec).unwrap_or_else(|why| panic!("{why}"))
    });
    all.collect::<Vec<_>>().join("---\n")
}

/// The fields that count less, with the word about them.
fn degraded(text: &str) -> Vec<String> {
    let notes = taken(text).notes;
    let less = notes.into_iter().filter(|it| it.verdict == Verdict::Degraded);
    less.map(|it| format!("{}: {}", it.field, it.text)).collect()
}

/// A Deployment whose pod has these fields, and whose container has those.
fn deployment(pod: &str, container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    \
         metadata: {{ labels: {{ app: web }} }}\n    spec:\n{}      containers:\n      \
         - name: web\n        image: nginx:1.27\n{}",
        indented(pod, 6),
        indented(container, 8)
    )
}

fn indented(text: &str, by: usize) -> String {
    let blanks = " ".repeat(by);
    text.lines().map(|line| format!("{blanks}{line}\n")).collect()
}

/// The lines of a manifest that an otherwise empty Deployment does not have.
fn more(pod: &str, container: &str) -> Vec<String> {
    let plain = manifests(&deployment("", ""));
    let known: Vec<&str> = plain.lines().collect();
    let all = manifests(&deployment(pod, container));
    all.lines().filter(|it| !known.contains(it)).map(str::to_owned).collect()
}

#[test]
fn well_known_examples_are_taken_as_they_are() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  \
        name: nginx-deployment\n  labels:\n    app: nginx\nspec:\n  replicas: 3\n  selector:\n    \
        matchLabels:\n      app: nginx\n  template:\n    metadata:\n      labels:\n        \
        app: nginx\n    spec:\n      containers:\n      - name: nginx\n        \
        image: nginx:1.14.2\n        ports:\n        - containerPort: 80\n";
    let plain = "name: nginx-deployment\n";
    println!("{}", manifests(deployment));
    assert_eq!(manifests(deployment), plain);
    let _ = ValueKind::Config;
}
