//! `shoal volume`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use http::Method;
use shoal_protocol::model::ReplicaName;
use shoal_protocol::model::view::{NodeView, WorkloadView};

use super::context::Context;
use super::error::CliError;
use super::{out, render};
use crate::api::form::full_name;

/// List and remove the volumes that nodes keep for replicas
///
/// A volume stays where it was made when its replica moves, and when its workload is removed: a
/// later workload of the same name finds it again.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal volume ls\n  \
    shoal volume rm db/0/data      # on the node that keeps it")]
pub struct Volume {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the volumes of all nodes
    Ls,
    /// Remove volumes of this node, with all that is in them
    Rm {
        /// The volumes, as `shoal volume ls` lists them: WORKLOAD/NUMBER/NAME
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// A volume in `ls -o json`.
#[derive(serde::Serialize)]
struct Listed<'a> {
    name: &'a str,
    node: &'a str,
    node_name: &'a str,
    state: &'a str,
    used: bool,
}

impl Volume {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Ls => list(context).await,
            Verb::Rm { names } => remove(context, &names).await,
        }
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let client = context.client();
    let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
    let workloads: Vec<WorkloadView> = client.get("/v1/workloads").await?;
    let replicas = workloads.iter().flat_map(|view| &view.replicas);
    let users: BTreeSet<(&str, &str)> =
        replicas.filter_map(|it| Some((it.node.as_deref()?, it.replica.as_str()))).collect();
    let mut all: Vec<Listed> = nodes
        .iter()
        .flat_map(|node| node.volumes.iter().map(move |name| (node, name)))
        .map(|(node, name)| {
            let replica = name.rsplit_once('/').map_or("", |(replica, _)| replica);
            let used = users.contains(&(node.id.as_str(), replica));
            Listed { name, node: &node.id, node_name: &node.name, state: &node.state, used }
        })
        .collect();
    all.sort_by_key(|it| (it.name, it.node_name));
    if context.json() {
        return out::say_json(&all);
    }
    out::say_raw(&render::volumes(
        all.iter().map(|it| [it.name, it.node_name, it.state, if it.used { "yes" } else { "no" }]),
    ))
}

async fn remove(context: &Context, names: &[String]) -> Result<(), CliError> {
    let mut paths = Vec::new();
    // A wrong name removes nothing.
    for name in names {
        let parsed = name
            .rsplit_once('/')
            .and_then(|(replica, volume)| Some((replica.parse::<ReplicaName>().ok()?, volume)));
        let Some((replica, volume)) = parsed.filter(|(_, volume)| !volume.is_empty()) else {
            let why = format!("`{name}` is no volume: WORKLOAD/NUMBER/NAME, as in `db/0/data`");
            return Err(CliError::usage(why));
        };
        let workload = full_name(&replica.workload);
        paths.push((name, format!("/v1/volumes/{workload}/{}/{volume}", replica.place)));
    }
    let client = context.client();
    for (name, path) in paths {
        client.ask(Method::DELETE, &path).await?;
        context.note(&format!("{name} removed"));
    }
    Ok(())
}
