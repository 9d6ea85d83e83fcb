//! `shoal node rm`.

use clap::{Args, Subcommand};
use shoal_protocol::model::view::NodeView;
use shoal_protocol::model::{Key, NodeId, Value};

use super::context::Context;
use super::error::{CliError, Exit};
use super::policy::find;
use super::rights::submit;
use super::terminal;

/// Remove nodes from the cluster
///
/// `shoal nodes` lists them; `drain`, `cordon`, `label` and `taint` decide about those that stay.
#[derive(Args)]
#[command(after_help = "Example:\n  shoal node rm till-7")]
pub struct Node {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Rm(Rm),
}

/// Remove nodes that will not return: they leave all lists, and nothing waits for them any more
///
/// The replicas of such a node are placed elsewhere, also those that waited for a volume on it: the
/// data there counts as lost. A device that was removed joins again with an empty state folder and
/// a new invite. One that was stolen is revoked instead (`shoal revoke`), so that its key is
/// trusted by nobody.
#[derive(Args)]
#[command(
    visible_alias = "remove",
    after_help = "Examples:\n  shoal node rm till-7\n  shoal node rm 1a2b3c4d 5e6f7a8b --yes\n\n\
    Exit codes: 0 removed, 2 nothing was changed."
)]
pub struct Rm {
    /// The nodes, by name or by at least eight digits of their ids
    #[arg(required = true)]
    nodes: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Node {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Rm(rm) => rm.run(context).await,
        }
    }
}

impl Rm {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        // All are looked up first: a typing mistake changes nothing.
        let mut found = Vec::new();
        for name in &self.nodes {
            let node = find(&client, name).await?;
            refuse_living(&node)?;
            found.push(node);
        }
        let question = question(&found);
        if !self.yes && !terminal::confirm(&question).unwrap_or(false) {
            return Err(CliError::usage(format!("{question} Nothing was changed; --yes does it")));
        }
        let operator = context.operator()?;
        for node in found {
            let id: NodeId =
                node.id.parse().map_err(|_| CliError::failed("a node has a strange id"))?;
            if node.cordoned || node.drained || !node.set_labels.is_empty() {
                submit(&client, &operator, Key::Policy(id), Value::Tombstone).await?;
            }
            submit(&client, &operator, Key::Member(id), Value::Tombstone).await?;
            context.note(&format!("{} is removed", node.name));
        }
        Ok(())
    }
}

/// A node that runs would be cut off from what it runs.
fn refuse_living(node: &NodeView) -> Result<(), CliError> {
    match node.state.as_str() {
        "up" => {
            let why = format!("{} is up: nothing was changed", node.name);
            Err(CliError::new(Exit::Refused, why).hint(format!(
                "`shoal drain {0}` empties it; then stop its daemon and remove it. `shoal revoke \
                    {0}` cuts off a device that was stolen.",
                node.name
            )))
        }
        _ => Ok(()),
    }
}

fn question(nodes: &[NodeView]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let volumes: Vec<&str> =
        nodes.iter().flat_map(|node| &node.volumes).map(String::as_str).collect();
    let lost = match volumes.is_empty() {
        true => String::new(),
        false => format!(" The data of {} is given up.", volumes.join(", ")),
    };
    format!("{} will be removed from the cluster.{lost}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes;

    #[test]
    fn node_that_runs_is_not_removed() {
        let node = |state: &str| NodeView {
            state: state.into(),
            ..fakes::node_view(NodeId([7; 32]), "till-7")
        };
        let error = refuse_living(&node("up")).unwrap_err();
        assert!(error.message.contains("nothing was changed"), "{}", error.message);
        for state in ["down", "unknown", "back-by"] {
            assert!(refuse_living(&node(state)).is_ok(), "{state}");
        }
    }

    #[test]
    fn data_that_is_given_up_is_named() {
        let plain = fakes::node_view(NodeId([7; 32]), "till-7");
        assert_eq!(
            question(std::slice::from_ref(&plain)),
            "till-7 will be removed from the cluster."
        );
        let keeps = NodeView { volumes: vec!["db/0/data".into()], ..plain };
        assert!(question(&[keeps]).contains("The data of db/0/data is given up."));
    }
}
