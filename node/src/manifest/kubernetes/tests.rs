//! Files as people bring them, and what becomes of them.

use super::super::bundle::{Bundle, Refusal};
use super::super::verdict::Verdict;
use super::super::write::manifest;
use super::load;

mod created;
mod groups;
mod kinds;
mod placement;
mod ports;
mod served;
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

fn told(Refusal { problems, sources, .. }: &Refusal) -> Vec<String> {
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
    let plain = "name: nginx-deployment\nimage: \"nginx:1.14.2\"\nreplicas: 3\nlimit:\n  \
        memory: 1024GiB\nreserve: none\nhealth: none\nupdate:\n  parallel: 1\nlabels:\n  \
        app: nginx\nstop_grace: 30s\nexposed: [80]\n";
    assert_eq!(manifests(deployment), plain);
    let scaled = format!(
        "{deployment}---\napiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata:\n  \
         name: nginx\nspec:\n  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    \
         name: nginx-deployment\n  minReplicas: 1\n  maxReplicas: 10\n  \
         targetCPUUtilizationPercentage: 50\n"
    );
    let with_scale = plain
        .replace("reserve: none\n", "")
        .replace("labels:\n", "autoscale:\n  min: 1\n  max: 10\n  cpu: 50\nlabels:\n");
    assert_eq!(manifests(&scaled), with_scale);
    assert_eq!(
        degraded(&scaled),
        ["HorizontalPodAutoscaler/nginx: spec.scaleTargetRef: the container requests no CPU: \
          percents are those of 0.1, which is reserved"]
    );
    let served = format!(
        "{deployment}---\napiVersion: v1\nkind: Service\nmetadata:\n  name: my-service\nspec:\n  \
         type: NodePort\n  selector:\n    app: nginx\n  ports:\n  - port: 80\n    \
         targetPort: 80\n    nodePort: 30007\n"
    );
    let with_ports = plain
        .replace("labels:\n", "port: 80\nlabels:\n")
        .replace("stop_grace", "ports: [\"30007:80\"]\nstop_grace")
        .replace("exposed: [80]\n", "")
        + "aliases: [my-service]\n";
    let (mut got, mut wanted): (Vec<_>, Vec<_>) =
        (manifests(&served).lines().map(str::to_owned).collect(), with_ports.lines().collect());
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
    assert!(degraded(&served).is_empty());
}

/// Two MiB of objects are read in a time that grows with their number alone: each field was
/// compared with each row.
#[test]
fn many_objects_are_all_read() {
    let all: Vec<String> = (0..1_000)
        .map(|number| {
            let name = format!("web-{number}");
            deployment("terminationGracePeriodSeconds: 5", "env: [{ name: A, value: b }]")
                .replace("name: web }", &format!("name: {name} }}"))
                .replace("app: web", &format!("app: {name}"))
        })
        .collect();
    let bundle = taken(&all.join("---\n"));
    assert_eq!(bundle.workloads.len(), 1_000);
    assert!(bundle.notes.len() > 9_000);
}

#[test]
fn every_reason_is_told_at_once_with_its_place() {
    let text = deployment(
        "nodeName: n1\nhostPID: true\nvolumes: [{ name: a, nfs: { server: b, path: /c } }]",
        "imagePullPolicy: Sometimes\nenv: [{ name: A, value: yes }, { name: B, valu: c }]\n\
         resources: { limits: { memory: 512MB } }\nports: [{ containerPort: \"80\" }]",
    );
    let pod = "Deployment/web: spec.template.spec";
    let container = format!("{pod}.containers[0]");
    assert_eq!(
        refusal(&text),
        [
            format!(
                "a.yaml:9:7 {pod}.nodeName: give the node a label, and write it as `nodeSelector`"
            ),
            format!(
                "a.yaml:10:7 {pod}.hostPID: it would see all programs of the device, and no node \
                 allows that | Write `hostPID: false`, or leave it away."
            ),
            format!(
                "a.yaml:11:28 {pod}.volumes[0].nfs: a volume here is a folder of the node: write \
                 `hostPath`, `emptyDir` or a claim"
            ),
            format!(
                "a.yaml:15:9 {container}.imagePullPolicy: `Sometimes` is no policy | Write \
                 `Always`, `IfNotPresent` or `Never`."
            ),
            format!(
                "a.yaml:16:26 {container}.env[0].value: `yes` without quotes is the value true, \
                 and a text is expected | Write it in quotes: \"yes\""
            ),
            format!(
                "a.yaml:16:51 {container}.env[1].valu: there is no such field | Did you mean \
                 `value`?"
            ),
            format!(
                "a.yaml:17:32 {container}.resources.limits.memory: `512MB` is no quantity: a \
                 number with a unit is expected, as in `64Mi` | Write `512M` for a power of 1000, \
                 or `512Mi` for one of 1024."
            ),
            format!(
                "a.yaml:18:19 {container}.ports[0].containerPort: \"80\" is a text, and a number \
                 is expected | Write it without quotes: 80"
            ),
        ]
    );
}

/// A container that is refused is not told to be missing as well.
#[test]
fn faulty_container_is_told_once() {
    let pod = |containers: &str| {
        let kind = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:";
        refusal(&format!("{kind} {containers}\n"))
    };
    let faults = pod("[{name: web, image: nginx, imagePullPolicy: Sometimes}]");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("Sometimes"), "{faults:?}");
    let empty = pod("[]");
    assert_eq!(empty.len(), 1, "{empty:?}");
    assert!(empty[0].contains("there is no container"), "{empty:?}");
}
