//! `shoal rm`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::WorkloadName;

use super::context::Context;
use super::error::CliError;
use super::publish::outcome_line;
use super::wait::{WaitArgs, gone};
use crate::publish as writing;

/// Remove workloads: they stop everywhere, and stay removed
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

/// Each once: a name that is given twice must not fail after its first removal, with others left
/// undone.
fn distinct(names: &[WorkloadName]) -> Vec<WorkloadName> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

impl Rm {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        // Before the key is looked for: without a daemon that is the thing to say.
        client.get_bytes("/v1/status").await?;
        let names = distinct(&self.names);
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        // A slip in one name removes nothing.
        for removed in writing::remove_all(&client, &operator, &names, self.force).await? {
            context.note(&outcome_line(&removed));
        }
        if let Some(deadline) = deadline {
            for name in &names {
                gone(&client, name, deadline).await?;
            }
        }
        Ok(())
    }
}
