//! `shoal explain`.

use clap::Args;
use shoal_protocol::model::NamedReplica;
use shoal_protocol::model::view::{ExplainView, WorkloadView};

use super::client::path_of;
use super::context::{Context, Form};
use super::error::CliError;
use super::target::Target;
use super::{out, render};

/// Show why a replica is where it is: who bid what, who declined and why, who won
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal explain hello/0\n  shoal explain hello               # all of \
        its replicas\n  shoal explain hello/0 -o wide     # all auctions that are remembered"
)]
pub struct Explain {
    /// The replica, NAME/NUMBER or NAMESPACE/NAME/NUMBER; a workload means all of its replicas
    #[arg(value_name = "REPLICA|WORKLOAD")]
    what: Target,
}

/// Replicas of a workload that are explained at once: more do not help a reader.
const MOST: usize = 20;

impl Explain {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let replicas = match self.what.settled(&client).await? {
            Target::One(replica) => {
                let bytes = client.get_bytes(&path(&replica)).await?;
                if context.json() {
                    return out::say_bytes(&bytes);
                }
                return show(context, &out::parse(&bytes)?);
            }
            Target::All(name) => {
                let view: WorkloadView = client.get(&path_of("workloads", &name)).await?;
                let mut names: Vec<NamedReplica> =
                    view.replicas.iter().filter_map(|it| it.replica.parse().ok()).collect();
                names.dedup();
                if names.is_empty() {
                    context.note(&format!("{name} has no replicas: it is scaled to 0"));
                }
                names
            }
        };
        let mut views: Vec<ExplainView> = Vec::new();
        for replica in replicas.iter().take(MOST) {
            views.push(client.get(&path(replica)).await?);
        }
        if context.json() {
            return out::say_json(&views);
        }
        for (at, view) in views.iter().enumerate() {
            if at > 0 {
                out::say("")?;
            }
            show(context, view)?;
        }
        if replicas.len() > MOST {
            context.note(&format!("the first {MOST} of {} are shown", replicas.len()));
        }
        Ok(())
    }
}

fn path(replica: &NamedReplica) -> String {
    format!("{}/{}", path_of("explain", &replica.workload), replica.place)
}

fn show(context: &Context, view: &ExplainView) -> Result<(), CliError> {
    out::say_raw(&render::explain(view, context.form == Form::Wide, render::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_and_workload_are_told_apart() {
        for (text, is_replica) in
            [("web/0", true), ("shop/web/1", true), ("web", false), ("shop/web", false)]
        {
            let found = text.parse::<Target>().unwrap();
            assert_eq!(matches!(found, Target::One(_)), is_replica, "{text}: {found:?}");
        }
        assert!("Web!".parse::<Target>().is_err());
    }
}
