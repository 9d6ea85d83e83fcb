//! `shoal volume`.

mod files;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use shoal_protocol::model::ReplicaName;
use shoal_protocol::model::view::{NodeView, WorkloadView};

use super::context::Context;
use super::error::CliError;
use super::{out, render};
pub(super) use files::VolumeName;

/// List, back up, restore and remove the volumes that nodes keep for replicas
///
/// A volume stays where it was made when its replica moves, and when its workload is removed: a
/// later workload of the same name finds it again.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal volume ls\n  \
    shoal volume backup db/0/data data.tar\n  \
    shoal scale db=0 && shoal volume restore db/0/data data.tar && shoal scale db=1\n  \
    shoal volume rm db/0/data\n\n\
    All work from any node, for volumes of any node that is up; all but `ls` take the operator's \
    key.")]
pub struct Volume {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the volumes of all nodes
    Ls,
    /// Write all files of a volume into a tar archive, also while its replica runs
    ///
    /// A program that writes meanwhile may be caught between two files that belong together, as
    /// with any copy of files in use: stop it first (`shoal scale NAME=0`), or use its own way of
    /// backup.
    Backup {
        /// The volume, as `shoal volume ls` lists it: WORKLOAD/NUMBER/NAME
        volume: VolumeName,
        /// The file; `-` for standard output
        file: String,
        /// The node that keeps it, if several keep one of this name
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Replace all files of a volume by those of a tar archive
    ///
    /// Its replica must not run; it starts on the volume only when all files are there. The archive
    /// is received and checked before anything is replaced: one with an entry that leads out of the
    /// volume by `..` is refused whole.
    Restore {
        /// The volume, as `shoal volume ls` lists it: WORKLOAD/NUMBER/NAME
        volume: VolumeName,
        /// The archive; `-` for standard input
        file: String,
        /// Also while its replica, a container, runs: the files are unpacked over those that it is
        /// using. A component must be stopped all the same: the node itself writes its files, and
        /// a program that changes them meanwhile could lead it elsewhere
        #[arg(long)]
        force: bool,
        /// The node that keeps it, or on which it is made if no node does
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Remove volumes that no replica uses, with all that is in them
    Rm {
        /// The volumes, as `shoal volume ls` lists them: WORKLOAD/NUMBER/NAME
        #[arg(required = true)]
        volumes: Vec<VolumeName>,
        /// The node that keeps them, if several keep one of this name
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
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
            Verb::Backup { volume, file, node } => {
                files::backup(context, &volume, &file, node.as_deref()).await
            }
            Verb::Restore { volume, file, force, node } => {
                files::restore(context, &volume, &file, force, node.as_deref()).await
            }
            Verb::Rm { volumes, node } => files::remove(context, &volumes, node.as_deref()).await,
        }
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let client = context.client();
    let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
    let workloads: Vec<WorkloadView> = client.get("/v1/workloads").await?;
    let replicas = workloads.iter().flat_map(|view| &view.replicas);
    // The volumes of a run are those of its index, whichever tick or try it is.
    let owner = |replica: &str| -> String {
        let name: Option<ReplicaName> = replica.parse().ok();
        name.map_or(replica.to_owned(), |it| format!("{}/{}", it.workload, it.place.of_volumes()))
    };
    let users: BTreeSet<(&str, String)> =
        replicas.filter_map(|it| Some((it.node.as_deref()?, owner(&it.replica)))).collect();
    let mut all: Vec<Listed> = nodes
        .iter()
        .flat_map(|node| node.volumes.iter().map(move |name| (node, name)))
        .map(|(node, name)| {
            let replica = name.rsplit_once('/').map_or("", |(replica, _)| replica);
            let used = users.contains(&(node.id.as_str(), replica.to_owned()));
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
