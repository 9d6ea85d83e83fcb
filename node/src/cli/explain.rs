//! `shoal explain`.

use clap::Args;
use shoal_protocol::model::view::{ExplainView, WorkloadView};
use shoal_protocol::model::{ReplicaName, WorkloadName};

use super::client::path_of;
use super::context::{Context, Form};
use super::error::CliError;
use super::{out, render};

/// Show why a replica is where it is: who bid what, who declined and why, who won
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal explain hello/0\n  shoal explain hello               # all of \
        its replicas\n  shoal explain hello/0 -o wide     # all auctions that are remembered"
)]
pub struct Explain {
    /// The replica, NAME/NUMBER or NAMESPACE/NAME/NUMBER; a workload means all of its replicas
    #[arg(value_name = "REPLICA|WORKLOAD", value_parser = what)]
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Replica(ReplicaName),
    Workload(WorkloadName),
}

/// `shop/0` is a replica, since no name is a number; `shop/till` is a workload in a namespace.
fn what(text: &str) -> Result<What, String> {
    match (text.parse::<ReplicaName>(), text.parse::<WorkloadName>()) {
        (Ok(replica), _) => Ok(What::Replica(replica)),
        (Err(_), Ok(workload)) => Ok(What::Workload(workload)),
        (Err(error), Err(_)) => Err(error.to_string()),
    }
}

/// Replicas of a workload that are explained at once: more do not help a reader.
const MOST: usize = 20;

impl Explain {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let replicas = match self.what {
            What::Replica(replica) => {
                let bytes = client.get_bytes(&path(&replica)).await?;
                if context.json() {
                    return out::say_bytes(&bytes);
                }
                return show(context, &out::parse(&bytes)?);
            }
            What::Workload(name) => {
                let view: WorkloadView = client.get(&path_of("workloads", &name)).await?;
                let mut names: Vec<ReplicaName> =
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

fn path(replica: &ReplicaName) -> String {
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
            let found = what(text).unwrap();
            assert_eq!(matches!(found, What::Replica(_)), is_replica, "{text}: {found:?}");
        }
        assert!(what("Web!").is_err());
    }
}
