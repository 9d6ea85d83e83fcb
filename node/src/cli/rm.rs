//! `shoal rm`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;

use super::client::path_of;
use super::context::Context;
use super::error::CliError;
use super::publish::told;
use super::wait::{WaitArgs, gone};
use crate::publish as writing;

/// Remove workloads: they stop everywhere, and stay removed
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal rm hello\n  shoal rm hello shop/till --no-wait")]
pub struct Rm {
    /// The workloads, NAME or NAMESPACE/NAME
    #[arg(required = true)]
    names: Vec<WorkloadName>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Each once: a name that is given twice must not fail after its first removal, with others left
/// undone.
fn distinct(names: &[WorkloadName]) -> BTreeSet<&WorkloadName> {
    names.iter().collect()
}

impl Rm {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let names = distinct(&self.names);
        // A slip in one name removes nothing.
        for name in &names {
            client.get::<WorkloadView>(&path_of("workloads", name)).await?;
        }
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        for name in &names {
            context.note(&told(&writing::remove(&client, &operator, name).await?));
        }
        if let Some(deadline) = deadline {
            for name in &names {
                gone(&client, name, deadline).await?;
            }
        }
        Ok(())
    }
}
