//! `shoal restart`.

use clap::Args;
use shoal_protocol::model::spec::Kind;
use shoal_protocol::model::{Spec, WorkloadName};

use super::context::Context;
use super::error::CliError;
use super::wait::{WaitArgs, healthy};
use crate::publish as writing;

/// Replace all replicas of workloads, which stay as they are
///
/// Each replica is started anew, as after a change of its program: where it runs now, the new one
/// first where that is possible. A job runs again, also what of it was done; of a cron workload
/// only what runs now is replaced.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal restart web\n  shoal restart web shop/till --no-wait")]
pub struct Restart {
    /// The workloads, NAME or NAMESPACE/NAME
    #[arg(required = true)]
    names: Vec<WorkloadName>,
    /// Do it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Restart {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        let mut done: Vec<writing::Published> = Vec::new();
        for name in &self.names {
            if done.iter().all(|it| it.name != *name) {
                let again = writing::restart(&client, &operator, name, self.force).await?;
                context.note(&format!("{name}: {}", told(again.spec.as_ref())));
                done.push(again);
            }
        }
        if let Some(deadline) = deadline {
            for spec in done.iter().filter_map(|it| it.spec.as_ref()) {
                healthy(context, &client, spec, false, deadline).await?;
            }
        }
        Ok(())
    }
}

/// The effect of a restart, by the kind of the workload.
fn told(spec: Option<&Spec>) -> &'static str {
    match spec.map(|spec| &spec.kind) {
        Some(Kind::Job(_)) => "all of it runs again",
        Some(Kind::Cron(_)) => "replicas of runs that go on are replaced",
        _ => "its replicas are replaced",
    }
}
