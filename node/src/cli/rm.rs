//! `shoal rm`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;

use super::client::path_of;
use super::context::Context;
use super::error::CliError;
use super::publish::outcome_line;
use super::wait::{WaitArgs, gone, running, stopped};
use crate::publish as writing;

/// Remove workloads: they stop everywhere, and stay removed
///
/// Returns when the nodes that ran them say that nothing of them runs any more.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal rm hello\n  shoal rm hello shop/till --no-wait\n  shoal rm \
        hello --force   # also while the node that knows it is away"
)]
pub struct Rm {
    /// The workloads, NAME or NAMESPACE/NAME
    #[arg(required = true)]
    names: Vec<WorkloadName>,
    /// Do it even if this node does not know them, while others that may cannot be asked
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The distinct names: a name given twice would fail after its first removal, before the names
/// behind it.
fn distinct(names: &[WorkloadName]) -> Vec<WorkloadName> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

impl Rm {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        // Before the operator's key is read: a missing daemon is the more important error.
        client.get_bytes("/v1/status").await?;
        let names = distinct(&self.names);
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        let mut ending = Vec::new();
        if deadline.is_some() {
            for name in &names {
                // A workload that this node does not know, and that is removed by force: no holder
                // is known that could be asked.
                if let Ok(view) = client.get::<WorkloadView>(&path_of("workloads", name)).await {
                    ending.extend(running(&view, |_| true));
                }
            }
        }
        // A wrong name removes nothing.
        for removed in writing::remove_all(&client, &operator, &names, self.force).await? {
            context.note(&outcome_line(&removed));
        }
        if let Some(deadline) = deadline {
            for name in &names {
                gone(&client, name, deadline).await?;
            }
            stopped(&client, ending, deadline, self.wait.timeout()).await?;
        }
        Ok(())
    }
}
