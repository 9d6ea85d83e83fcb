//! The environment of a container: what is known when it is published is written out, and the
//! values of ConfigMaps and Secrets are named.

use std::collections::BTreeMap;

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{LaunchFact, ValueKind};

use super::super::verdict::Judged;
use super::container::Asked;
use super::pod::Around;
use super::quantity::Quantity;
use super::scalar::Part;
use super::values::Held;

/// A variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Env {
    pub name: String,
    pub value: Content,
}

/// The content of a variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Plain(String),
    /// A value of shoal; the text of a config, if it is known.
    Value {
        kind: ValueKind,
        label: Label,
        text: Option<String>,
    },
    /// A fact that the node knows when it starts the replica.
    Fact(LaunchFact),
}

/// The variables of a container.
pub(super) struct Environment {
    pub all: Vec<Env>,
}

impl Environment {
    fn set(&mut self, name: String, value: Content) {
        match self.all.iter_mut().find(|it| it.name == name) {
            Some(known) => known.value = value,
            None => self.all.push(Env { name, value }),
        }
    }

    /// Replaces each `$(NAME)` of a text by the variable that was set before, as Kubernetes does:
    /// a name that is not set stays, and `$$(NAME)` becomes `$(NAME)`.
    ///
    /// # Errors
    /// It is a secret, or not known.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = behind;
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|it| it.split_once(')'));
            let Some((name, after)) = name else {
                expanded.push('$');
                continue;
            };
            match self.all.iter().find(|it| it.name == name).map(|it| &it.value) {
                Some(Content::Plain(value) | Content::Value { text: Some(value), .. }) => {
                    expanded.push_str(value);
                }
                Some(Content::Value { kind, label, text: None }) => {
                    let kind = kind.word();
                    return Err(format!(
                        "`$({name})` is the {kind} `{label}`, which is not known \
                        when it is published"
                    ));
                }
                Some(Content::Fact(_)) => {
                    return Err(format!(
                        "`$({name})` is not known before a node starts the replica"
                    ));
                }
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

/// The facts that a node knows when it starts a replica, by the fields of Kubernetes.
const OF_THE_NODE: [(&str, LaunchFact); 3] = [
    ("metadata.name", LaunchFact::Name),
    ("metadata.uid", LaunchFact::Uid),
    ("spec.nodeName", LaunchFact::Node),
];

/// Fields that nobody knows when a container is made, why, and the way on.
const UNKNOWN: [(&str, &str, &str); 4] = [
    ("status.podIP", NO_ADDRESS, "Let the program ask for it, as `hostname -i` does."),
    ("status.podIPs", NO_ADDRESS, "Let the program ask for it, as `hostname -i` does."),
    ("status.hostIP", NO_HOST, "Name other workloads, or write the address."),
    ("status.hostIPs", NO_HOST, "Name other workloads, or write the address."),
];
const NO_ADDRESS: &str = "the engine gives it when the container starts, behind its variables";
const NO_HOST: &str = "a node has several, and none at which all others reach it";

/// Reads the variables of a container.
pub(super) fn environment(
    part: &Part<'_>,
    resources: &Asked,
    labels: &BTreeMap<String, String>,
    around: &Around<'_>,
    out: &mut Judged,
) -> Environment {
    let mut all = Environment { all: Vec::new() };
    for from in part.get("envFrom").items(out) {
        let prefix = from.get("prefix").text(out).unwrap_or_default();
        for (field, kind) in [("configMapRef", ValueKind::Config), ("secretRef", ValueKind::Secret)]
        {
            let reference = from.get(field);
            let Some(name) = reference.get("name").text(out) else { continue };
            for (key, held) in around.values.all(kind, around.namespace, &name, &reference, out) {
                let name = format!("{prefix}{key}");
                if is_variable(&name) {
                    all.set(name, of_value(kind, held));
                } else {
                    let text = format!("`{name}` is no name of a variable, and is left out");
                    out.degrade(reference.at, format!("{}.{key}", reference.path), text);
                }
            }
        }
    }
    for variable in part.get("env").items(out) {
        let name = variable.get("name");
        if !name.is_there() {
            out.refuse(name.wrong("it is missing"));
        }
        let Some(name) = name.text(out) else { continue };
        let from = variable.get("valueFrom");
        if from.is_there() {
            if let Some(value) = from_elsewhere(&from, resources, labels, around, out) {
                all.set(name, value);
            }
            continue;
        }
        let value = variable.get("value");
        let Some(text) = value.text_or_empty(out) else { continue };
        if text.contains(".svc.cluster.local") || text.contains(".svc:") {
            let why = "names of workloads end with `.NAMESPACE.shoal` here";
            out.degrade(value.at, value.path.clone(), why);
        }
        match all.expand(&text) {
            Ok(text) => all.set(name, Content::Plain(text)),
            Err(why) => {
                let problem = value.wrong(why);
                out.refuse(problem.hint("Let the program put the two together."));
            }
        }
    }
    all
}

fn of_value(kind: ValueKind, held: Held) -> Content {
    Content::Value { kind, label: held.label, text: held.text }
}

fn is_variable(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(good) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

fn from_elsewhere(
    part: &Part<'_>,
    resources: &Asked,
    labels: &BTreeMap<String, String>,
    around: &Around<'_>,
    out: &mut Judged,
) -> Option<Content> {
    for (field, kind) in
        [("configMapKeyRef", ValueKind::Config), ("secretKeyRef", ValueKind::Secret)]
    {
        let reference = part.get(field);
        if reference.is_there() {
            let held = around.values.key(kind, around.namespace, &reference, out)?;
            return Some(of_value(kind, held));
        }
    }
    let field = part.get("fieldRef");
    if field.is_there() {
        return of_field(&field.get("fieldPath"), labels, around, out);
    }
    let resource = part.get("resourceFieldRef");
    if resource.is_there() {
        return of_resource(&resource, resources, out).map(Content::Plain);
    }
    None
}

fn of_field(
    part: &Part<'_>,
    labels: &BTreeMap<String, String>,
    around: &Around<'_>,
    out: &mut Judged,
) -> Option<Content> {
    let path = part.text(out)?;
    if path == "metadata.namespace" {
        return Some(Content::Plain(around.namespace.to_string()));
    }
    if path == "spec.serviceAccountName" {
        return Some(Content::Plain("default".into()));
    }
    let label = path.strip_prefix("metadata.labels[").and_then(|it| it.strip_suffix(']'));
    if let Some(label) = label {
        // A label that is not there is an empty text.
        let text = labels.get(label.trim_matches(['\'', '"'])).cloned().unwrap_or_default();
        return Some(Content::Plain(text));
    }
    if let Some((_, fact)) = OF_THE_NODE.iter().find(|(theirs, _)| *theirs == path) {
        return Some(Content::Fact(*fact));
    }
    out.refuse(match UNKNOWN.iter().find(|(theirs, ..)| *theirs == path) {
        Some((_, why, mend)) => part.wrong(format!("`{path}`: {why}")).hint(*mend),
        None => {
            let problem = format!("`{path}` is not known before a node starts the replica");
            part.wrong(problem).hint("Leave it away, or write the value.")
        }
    });
    None
}

fn of_resource(part: &Part<'_>, resources: &Asked, out: &mut Judged) -> Option<String> {
    let name = part.get("resource").text(out)?;
    let divisor = part.get("divisor").quantity(out).filter(|it| *it > Quantity::whole(0));
    let amount = match name.split_once('.') {
        Some(("limits", name)) => resources.limits.get(name).copied(),
        Some(("requests", name)) => resources.request(name),
        _ => None,
    };
    match amount {
        Some(amount) => Some(amount.divided(divisor.unwrap_or(Quantity::whole(1))).to_string()),
        None => {
            let problem = part.wrong(format!("the container has no `{name}`"));
            out.refuse(problem.hint("Write it below `resources`."));
            None
        }
    }
}
