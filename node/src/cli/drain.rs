//! `shoal drain`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use shoal_protocol::model::NodePolicy;
use shoal_protocol::model::view::{NodeView, ReplicaView, WorkloadView};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::context::Context;
use super::error::{CliError, Exit};
use super::policy::{find, policy_of, put};
use crate::manifest::quantity;

/// The pause between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// For so long nothing that is left may have found another place until this is reported.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Empty a node: what it runs moves to other nodes, and it takes nothing further
///
/// Each replica stays until another node has started it and says that it is healthy, so a drain
/// interrupts nothing. What has no other place stays where it is and is named. The node remains
/// drained, also over restarts, until `shoal uncordon`.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal drain till-7\n  shoal drain till-7 --deadline 2m\n  \
    shoal drain till-7 --no-wait && shoal ps -o wide\n  shoal uncordon till-7\n\n\
    Exit codes: 0 the node is empty, 5 something stays there, or the deadline has passed (the node \
    is drained all the same).")]
pub struct Drain {
    /// The node, by name or by at least eight digits of its id
    node: String,
    /// How long to wait until it is empty
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = quantity::duration)]
    deadline: Duration,
    /// Return as soon as the change is on a node's disk
    #[arg(long)]
    no_wait: bool,
}

impl Drain {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let node = find(&client, &self.node).await?;
        let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
        let takes =
            |it: &&NodeView| it.id != node.id && it.state == "up" && !it.cordoned && !it.drained;
        if !nodes.iter().any(|it| takes(&it)) {
            let why =
                format!("{} is the last node that takes work: nothing was changed", node.name);
            return Err(CliError::new(Exit::Refused, why)
                .hint("Let another one in, or `shoal uncordon` one, and drain it then."));
        }
        let policy = NodePolicy { cordoned: true, drained: true, ..policy_of(&node) };
        put(context, &client, &node, policy).await?;
        context.note(&format!("{} is drained", node.name));
        if self.no_wait {
            return Ok(());
        }
        self.follow(context, &client, &node).await
    }

    /// Shows what moves, until nothing is left.
    async fn follow(
        &self,
        context: &Context,
        client: &Client,
        node: &NodeView,
    ) -> Result<(), CliError> {
        let begun = Instant::now();
        let mut left: BTreeMap<String, String> = BTreeMap::new();
        let mut changed = begun;
        loop {
            let views: Vec<WorkloadView> = client.get("/v1/workloads").await?;
            // Daemons run on a drained node, too.
            let moved = views.into_iter().filter(|it| it.kind != "daemon");
            let replicas: Vec<ReplicaView> = moved.flat_map(|it| it.replicas).collect();
            let here = held(&replicas, &node.id);
            for name in left.keys().filter(|name| !here.contains_key(*name)) {
                let now = replicas.iter().find(|it| it.replica == *name && it.node.is_some());
                let now = now.and_then(|it| it.node_name.as_deref());
                let to = now.map_or("gone".to_owned(), |now| format!("on {now}"));
                let after = begun.elapsed().as_secs_f64();
                context.note(&format!("✓ {name} {to}  {after:.1}s"));
                changed = Instant::now();
            }
            if here.is_empty() {
                context.note(&format!("{} is empty", node.name));
                return Ok(());
            }
            let is_stuck = here.values().all(|why| why.contains("it stays"));
            if is_stuck && changed.elapsed() >= STUCK_AFTER || begun.elapsed() >= self.deadline {
                return Err(stays(node, &here));
            }
            left = here;
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// The replicas that a node holds, each with the reason why it is still there.
fn held(replicas: &[ReplicaView], node: &str) -> BTreeMap<String, String> {
    let here = replicas.iter().filter(|it| it.node.as_deref() == Some(node) && it.phase != "lost");
    here.map(|it| (it.replica.clone(), it.reason.clone().unwrap_or_default())).collect()
}

fn stays(node: &NodeView, left: &BTreeMap<String, String>) -> CliError {
    let lines: Vec<String> = left
        .iter()
        .map(|(name, why)| match why.is_empty() {
            true => format!("\n  {name}"),
            false => format!("\n  {name}: {why}"),
        })
        .collect();
    let why = format!(
        "{} is drained, and {} of its replicas stay until they have another place:{}",
        node.name,
        left.len(),
        lines.concat()
    );
    CliError::new(Exit::Unhealthy, why).hint(format!(
        "They move as soon as another node can run them; `shoal uncordon {}` lets it be as it was.",
        node.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{NODE, node_view, replica_view};

    #[test]
    fn drained_node_names_what_stays() {
        let mut stuck = replica_view("db/0", "healthy", Some("n1"));
        stuck.reason = Some("its node is drained, and it stays: its volume `data` is there".into());
        let mut elsewhere = replica_view("web/0", "healthy", Some("n2"));
        elsewhere.node = Some("ff".into());
        let node = node_view(NODE, "n1");
        stuck.node = Some(node.id.clone());
        let left = held(&[stuck, elsewhere], &node.id);
        assert_eq!(left.keys().collect::<Vec<_>>(), ["db/0"]);
        let error = stays(&node, &left);
        assert!(error.message.contains("db/0: its node is drained, and it stays: its volume"));
        assert_eq!(error.exit, Exit::Unhealthy);
    }
}
