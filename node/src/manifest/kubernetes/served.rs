//! Additions of an API server to objects, as `kubectl get -o yaml` prints them: defaults, which say
//! nothing; and what is of that cluster alone, which is left out with one word about all of it.

use super::super::tree::{Entry, Position, Tree, Value};
use super::super::verdict::{Judged, Note, Verdict};
use super::table::Kind;

/// The volume of the token that a server gives each pod, with a suffix of its own.
const TOKEN: &str = "kube-api-access-";
/// Values of a pod that say what a pod without the field has.
const DEFAULTS_OF_PODS: [(&str, &str); 6] = [
    ("schedulerName", "default-scheduler"),
    ("preemptionPolicy", "PreemptLowerPriority"),
    ("priority", "0"),
    ("enableServiceLinks", "true"),
    ("serviceAccountName", "default"),
    ("serviceAccount", "default"),
];
/// The same of its containers.
const DEFAULTS_OF_CONTAINERS: [(&str, &str); 2] =
    [("terminationMessagePath", "/dev/termination-log"), ("terminationMessagePolicy", "File")];
/// The same of objects.
const DEFAULTS: [(&str, &str); 2] =
    [("revisionHistoryLimit", "10"), ("podReplacementPolicy", "TerminatingOrFailed")];
/// The taints that a server has each pod tolerate for five minutes.
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Labels by which a controller finds what it made.
const OF_CONTROLLERS: [&str; 4] = [
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
];

/// An object that a controller of the cluster made, and makes anew.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
}

/// The controller of an object. That of a pod of a Deployment is the Deployment.
pub(super) fn owner(tree: &Tree) -> Option<Owner> {
    let owners = tree.at_path(&["metadata", "ownerReferences"])?.as_list()?;
    let text = |tree: &Tree, key: &str| tree.get(key).and_then(Tree::as_text).map(str::to_owned);
    let is_controller = |it: &&Tree| text(it, "controller").as_deref() == Some("true");
    let owner = owners.iter().find(is_controller)?;
    let (kind, name) = (text(owner, "kind")?, text(owner, "name")?);
    let hash = tree.at_path(&["metadata", "labels", "pod-template-hash"]).and_then(Tree::as_text);
    let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    Some(match deployment {
        Some(name) if kind == "ReplicaSet" => {
            Owner { kind: "Deployment".into(), name: name.into() }
        }
        _ => Owner { kind, name },
    })
}

/// Whether an object was read from a server, which alone knows how it is.
pub(super) fn is_served(status: Option<&Tree>) -> bool {
    let Some(status) = status else { return false };
    match &status.value {
        Value::Scalar(_) => !status.is_null(),
        Value::List(items) => items.iter().any(|it| is_served(Some(it))),
        Value::Map(entries) => entries.iter().any(|it| is_served(Some(&it.value))),
    }
}

/// Takes out what a server adds, and notes what counted there.
pub(super) fn without_additions(kind: &Kind, tree: &mut Tree, is_served: bool, out: &mut Judged) {
    let at = tree.entry("metadata").map_or(tree.at, |it| it.at);
    let mut left: Vec<&str> = Vec::new();
    if let Some(spec) = below(tree, &["spec"]) {
        retain(spec, |it| !is_default(it, &DEFAULTS));
        if is_served && kind.name == "PersistentVolumeClaim" && spec.remove("volumeName").is_some()
        {
            left.push("the volume that it was bound to");
        }
        if is_served && kind.name == "Job" {
            _ = (spec.remove("selector"), spec.remove("manualSelector"));
        }
    }
    if is_served {
        for path in [&["metadata"][..], &["spec", "template", "metadata"]] {
            if let Some(metadata) = below(tree, path) {
                without_marks(metadata);
            }
        }
    }
    if let Some(pod) = kind.pod {
        let path: Vec<&str> = pod.split('.').filter(|it| !it.is_empty()).chain(["spec"]).collect();
        if let Some(pod) = below(tree, &path) {
            of_pod(pod, is_served, &mut left);
        }
    }
    if !left.is_empty() {
        let text =
            format!("read from a cluster, and left out is what it added: {}", left.join(", "));
        out.notes.push(Note { at, field: "metadata".into(), verdict: Verdict::Degraded, text });
    }
}

fn of_pod(pod: &mut Tree, is_served: bool, left: &mut Vec<&str>) {
    retain(pod, |it| !is_default(it, &DEFAULTS_OF_PODS));
    if is_served && pod.remove("nodeName").is_some() {
        left.push("the node that it ran on");
    }
    if is_served && let Some(tolerations) = below(pod, &["tolerations"]) {
        keep(tolerations, |it| {
            let is = |key: &str, value: &str| it.get(key).and_then(Tree::as_text) == Some(value);
            let is_known = TAINTS.iter().any(|taint| is("key", taint));
            !(is_known && is("effect", "NoExecute") && is("operator", "Exists"))
        });
    }
    let is_token = |it: &Tree| {
        it.get("name").and_then(Tree::as_text).is_some_and(|name| name.starts_with(TOKEN))
    };
    if let Some(volumes) = below(pod, &["volumes"])
        && keep(volumes, |it| !is_token(it))
    {
        left.push("its token for the API");
    }
    for field in ["containers", "initContainers"] {
        let Some(Tree { value: Value::List(all), .. }) = below(pod, &[field]) else { continue };
        for container in all {
            retain(container, |it| !is_default(it, &DEFAULTS_OF_CONTAINERS));
            if let Some(mounts) = below(container, &["volumeMounts"]) {
                keep(mounts, |it| !is_token(it));
            }
        }
    }
}

/// Takes out by what a cluster finds its own objects again.
fn without_marks(metadata: &mut Tree) {
    for field in ["finalizers", "ownerReferences", "generateName"] {
        metadata.remove(field);
    }
    if let Some(labels) = below(metadata, &["labels"]) {
        retain(labels, |it| !OF_CONTROLLERS.contains(&it.key.as_str()));
    }
    if let Some(annotations) = below(metadata, &["annotations"]) {
        let is_of_cluster = |key: &str| {
            let domain = key.split('/').next().unwrap_or_default();
            domain.ends_with("kubernetes.io") || domain.ends_with("k8s.io")
        };
        retain(annotations, |it| !is_of_cluster(&it.key));
    }
    retain(metadata, |it| it.key != "annotations" || it.value.as_map() != Some(&[]));
}

fn is_default(entry: &Entry, defaults: &[(&str, &str)]) -> bool {
    let value = entry.value.as_text();
    defaults.iter().any(|(key, default)| entry.key == *key && value == Some(default))
}

/// A part below a path, to be changed.
fn below<'a>(tree: &'a mut Tree, path: &[&str]) -> Option<&'a mut Tree> {
    path.iter().try_fold(tree, |tree, key| match &mut tree.value {
        Value::Map(entries) => entries.iter_mut().find(|it| it.key == *key).map(|it| &mut it.value),
        Value::Scalar(_) | Value::List(_) => None,
    })
}

fn retain(tree: &mut Tree, keeps: impl Fn(&Entry) -> bool) {
    if let Value::Map(entries) = &mut tree.value {
        entries.retain(keeps);
    }
}

/// Keeps some items of a list, and tells whether others went.
fn keep(tree: &mut Tree, keeps: impl Fn(&Tree) -> bool) -> bool {
    let Value::List(items) = &mut tree.value else { return false };
    let before = items.len();
    items.retain(keeps);
    items.len() < before
}

/// A note that an object is left out, since another one of the same files makes it.
pub(super) fn made_by(at: Position, shown: String, owner: &Owner) -> Note {
    let text = format!("left out: {}/{} of the same files makes it", owner.kind, owner.name);
    Note { at, field: shown, verdict: Verdict::Degraded, text }
}
