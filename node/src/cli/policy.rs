//! `shoal cordon`, `uncordon`, `label` and `taint`: what operators decide about a node.

use std::collections::BTreeMap;

use clap::Args;
use shoal_protocol::model::spec::is_label_text;
use shoal_protocol::model::view::NodeView;
use shoal_protocol::model::{Key, NodeId, NodePolicy, Value};

use super::client::Client;
use super::context::Context;
use super::error::CliError;
use super::render::short;
use super::rights::submit;

/// Let nodes take no further replicas; what they run stays
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal cordon till-7\n  shoal uncordon till-7\n\n\
    `shoal drain` also moves what the node runs.")]
pub struct Cordon {
    /// The nodes, by name or by at least eight digits of their ids
    #[arg(required = true)]
    nodes: Vec<String>,
}

/// Let nodes take replicas again that were cordoned or drained
#[derive(Args)]
#[command(after_help = "Example:\n  shoal uncordon till-7")]
pub struct Uncordon {
    /// The nodes, by name or by at least eight digits of their ids
    #[arg(required = true)]
    nodes: Vec<String>,
}

/// Set labels of a node, over those that its own configuration gives it
///
/// They count at once: what requires them can be placed there, what runs stays where it is.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal label till-7 zone=front camera=yes\n  shoal label till-7 \
    camera-          # without it, whatever its configuration says\n  shoal label till-7 \
    --reset          # as its configuration says"
)]
pub struct Label {
    /// The node, by name or by at least eight digits of its id
    node: String,
    /// NAME=VALUE to set, NAME- to take away
    #[arg(value_name = "LABEL", required_unless_present = "reset")]
    labels: Vec<String>,
    /// Forget all that was set before
    #[arg(long)]
    reset: bool,
}

/// Set taints of a node: only workloads that tolerate them are placed there
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal taint till-7 payment\n  shoal taint till-7 metered=lte\n  \
    shoal taint till-7 payment-        # without it"
)]
pub struct Taint {
    /// The node, by name or by at least eight digits of its id
    node: String,
    /// NAME or NAME=VALUE to set, NAME- to take away
    #[arg(value_name = "TAINT", required = true)]
    taints: Vec<String>,
}

impl Cordon {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let of = |before: &NodePolicy| NodePolicy { cordoned: true, ..before.clone() };
        set_all(context, &self.nodes, of, "cordoned").await
    }
}

impl Uncordon {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let of =
            |before: &NodePolicy| NodePolicy { cordoned: false, drained: false, ..before.clone() };
        set_all(context, &self.nodes, of, "uncordoned").await
    }
}

impl Label {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let node = find(&client, &self.node).await?;
        let mut policy = policy_of(&node);
        if self.reset {
            policy.labels.clear();
        }
        for text in &self.labels {
            let (name, value) = entry(text, "label")?;
            policy.labels.insert(name, value);
        }
        put(context, &client, &node, policy).await?;
        context.note(&format!("{} has other labels now: `shoal nodes` shows them", node.name));
        Ok(())
    }
}

impl Taint {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let node = find(&client, &self.node).await?;
        let mut policy = policy_of(&node);
        for text in &self.taints {
            if !text.contains('=') && !text.ends_with('-') {
                let (name, _) = entry(&format!("{text}=any"), "taint")?;
                policy.taints.insert(name, String::new());
                continue;
            }
            match entry(text, "taint")? {
                (name, Some(value)) => _ = policy.taints.insert(name, value),
                (name, None) if policy.taints.remove(&name).is_some() => {}
                (name, None) => {
                    let why = format!("{} has no taint `{name}`: nothing was changed", node.name);
                    return Err(CliError::not_found(why));
                }
            }
        }
        put(context, &client, &node, policy).await?;
        context.note(&format!("{} has other taints now: `shoal nodes` shows them", node.name));
        Ok(())
    }
}

/// `NAME=VALUE`, or `NAME-` for none.
fn entry(text: &str, what: &str) -> Result<(String, Option<String>), CliError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => match text.strip_suffix('-') {
            Some(name) => (name, None),
            None => {
                return Err(CliError::usage(format!(
                    "`{text}` is no {what}: NAME=VALUE sets it, NAME- takes it away; nothing was \
                        changed"
                )));
            }
        },
    };
    if let Some(bad) = [Some(name), value].into_iter().flatten().find(|it| !is_label_text(it)) {
        return Err(CliError::usage(format!(
            "`{bad}` in `{text}` is not 1 to 63 letters, digits, `-`, `_`, `.` and `/`; nothing \
                was changed"
        )));
    }
    Ok((name.to_owned(), value.map(str::to_owned)))
}

async fn set_all(
    context: &Context,
    nodes: &[String],
    policy: impl Fn(&NodePolicy) -> NodePolicy,
    done: &str,
) -> Result<(), CliError> {
    let client = context.client();
    // All are looked up first: a typing mistake changes nothing.
    let mut found = Vec::new();
    for name in nodes {
        found.push(find(&client, name).await?);
    }
    for node in found {
        let before = policy_of(&node);
        let after = policy(&before);
        if before == after {
            context.note(&format!("{} is {done} already", node.name));
            continue;
        }
        put(context, &client, &node, after).await?;
        context.note(&format!("{} is {done}", node.name));
    }
    Ok(())
}

/// A node by its name, or by the beginning of its id.
pub(super) async fn find(client: &Client, name: &str) -> Result<NodeView, CliError> {
    let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
    let is_id = |id: &str| name.len() >= 8 && id.starts_with(&name.to_lowercase());
    let mut found: Vec<NodeView> =
        nodes.iter().filter(|it| it.name == name || is_id(&it.id)).cloned().collect();
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => {
            let known: Vec<&str> = nodes.iter().map(|it| it.name.as_str()).collect();
            let why = format!("there is no node `{name}`, nothing was changed");
            Err(CliError::not_found(why).hint(format!("The nodes are {}.", known.join(", "))))
        }
        _ => {
            let ids: Vec<String> = found.iter().map(|it| short(&it.id)).collect();
            let ids = ids.join(" and ");
            let why = format!("several nodes are called `{name}`: name one by its id, {ids}");
            Err(CliError::usage(why))
        }
    }
}

pub(super) fn policy_of(node: &NodeView) -> NodePolicy {
    let (labels, taints): (BTreeMap<_, _>, _) = (node.set_labels.clone(), node.taints.clone());
    NodePolicy { cordoned: node.cordoned, drained: node.drained, labels, taints }
}

pub(super) async fn put(
    context: &Context,
    client: &Client,
    node: &NodeView,
    policy: NodePolicy,
) -> Result<(), CliError> {
    let operator = context.operator()?;
    let id: NodeId = node.id.parse().map_err(|_| CliError::failed("a node has a strange id"))?;
    let value = match policy == NodePolicy::default() {
        true => Value::Tombstone,
        false => Value::Policy(policy),
    };
    submit(client, &operator, Key::Policy(id), value).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_taken_away() {
        let entry = |text| entry(text, "label");
        assert_eq!(entry("zone=front").unwrap(), ("zone".into(), Some("front".into())));
        assert_eq!(entry("zone-").unwrap(), ("zone".into(), None));
        for wrong in ["zone", "=front", "zone=", "zo ne=x", "zone=a b", "-"] {
            let error = entry(wrong).unwrap_err();
            assert!(error.message.contains("nothing was changed"), "{wrong}: {}", error.message);
        }
    }
}
