//! `shoal explain`.

use clap::Args;
use shoal_protocol::model::view::{ExplainView, NodeView, ResultView, WorkloadView};
use shoal_protocol::model::{NamedReplica, Place, WorkloadName};

use super::client::path_of;
use super::context::{Context, Form};
use super::error::CliError;
use super::logs::replicas_of;
use super::target::Target;
use super::{job, out, render};

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
        let (replicas, of) = match self.what.settled(&client).await? {
            Target::One(replica) => {
                let bytes = client.get_bytes(&path(&replica)).await?;
                if context.json() {
                    return out::say_bytes(&bytes);
                }
                let of = path_of("workloads", &replica.workload);
                let of = client.get::<WorkloadView>(&of).await.ok();
                return show(context, &out::parse(&bytes)?, of.as_ref());
            }
            Target::All(name) => {
                let view: WorkloadView = client.get(&path_of("workloads", &name)).await?;
                let mut names = replicas_of(&view, &name);
                if view.kind == "daemon" {
                    let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
                    names.extend(without(&names, &nodes, &name));
                }
                if names.is_empty() {
                    context.note(&render::no_replicas(&view, render::now()));
                }
                (names, Some(view))
            }
        };
        let mut views: Vec<ExplainView> = Vec::new();
        for replica in replicas.iter().take(MOST) {
            match client.get(&path(replica)).await {
                Ok(view) => views.push(view),
                // It came or went meanwhile.
                Err(error) if error.code == "no-such-replica" => {}
                Err(error) => return Err(error.into()),
            }
        }
        if context.json() {
            return out::say_json(&views);
        }
        for (at, view) in views.iter().enumerate() {
            if at > 0 {
                out::say("")?;
            }
            show(context, view, of.as_ref())?;
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

/// The places of a daemon on the nodes that have no replica of it.
fn without(
    replicas: &[NamedReplica],
    nodes: &[NodeView],
    name: &WorkloadName,
) -> Vec<NamedReplica> {
    let has = |node: &str| replicas.iter().any(|it| it.place == node);
    let others = nodes.iter().filter(|it| it.state == "up" && !has(&it.name));
    let place = |node: &NodeView| node.name.clone();
    others.map(|it| NamedReplica { workload: name.clone(), place: place(it) }).collect()
}

fn show(context: &Context, view: &ExplainView, of: Option<&WorkloadView>) -> Result<(), CliError> {
    let place = view.replica.rsplit('/').next().unwrap_or_default();
    let results = of.into_iter().flat_map(|of| &of.results);
    let place_of = |it: &ResultView| Place::Run { at: it.at, index: it.index }.to_string();
    let ended = results.into_iter().find(|it| place_of(it) == place).map(job::ending);
    out::say_raw(&render::explain(
        view,
        ended.as_deref(),
        context.form == Form::Wide,
        render::now(),
    ))
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
