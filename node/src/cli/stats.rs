//! `shoal stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::stream::{self, StreamExt};
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;
use tokio::time::sleep;

use super::client::{Client, path_of};
use super::context::Context;
use super::error::CliError;
use super::{out, render};
use crate::api::form::UsageBody;

/// The pause between two readings; what a replica used in it is its present use.
const EVERY: Duration = Duration::from_secs(1);
/// Replicas that are asked for at one time.
const ASKED: usize = 16;

/// Show the memory, CPU, network and disks that replicas use, again and again
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal stats                # all workloads\n  \
    shoal stats hello          # the replicas of one\n  shoal stats --no-stream    # once")]
pub struct Stats {
    /// The workload, NAME or NAMESPACE/NAME
    name: Option<WorkloadName>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
}

/// The readings of replicas, by name.
type Readings = BTreeMap<String, UsageBody>;

impl Stats {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        tokio::select! {
            shown = self.show(context) => shown,
            () = out::reader_gone() => Ok(()),
        }
    }

    async fn show(&self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let mut before = read(&client, &self.views(&client).await?).await;
        let mut drawn = out::Redrawn::default();
        loop {
            sleep(EVERY).await;
            let views = self.views(&client).await?;
            let now = read(&client, &views).await;
            if context.json() {
                out::say_json(&now)?;
            } else {
                drawn.draw(&render::stats(&views, &before, &now))?;
            }
            if self.no_stream {
                return Ok(());
            }
            before = now;
        }
    }

    async fn views(&self, client: &Client) -> Result<Vec<WorkloadView>, CliError> {
        match &self.name {
            Some(name) => Ok(vec![client.get(&path_of("workloads", name)).await?]),
            None => Ok(client.get("/v1/workloads").await?),
        }
    }
}

/// Reads all replicas that run. One that cannot be read is left out: it has just ended, or its node
/// cannot be asked.
async fn read(client: &Client, views: &[WorkloadView]) -> Readings {
    let replicas = views.iter().flat_map(|view| {
        let running = view.replicas.iter().filter(|replica| replica.node.is_some());
        running.map(|replica| {
            let place = replica.replica.rsplit('/').next().unwrap_or_default();
            let path = format!("/v1/usage/{}/{}/{place}", view.namespace, view.name);
            (replica.replica.clone(), path)
        })
    });
    let asked = stream::iter(replicas).map(|(replica, path)| async move {
        Some((replica, client.get::<UsageBody>(&path).await.ok()?))
    });
    asked.buffer_unordered(ASKED).filter_map(std::future::ready).collect().await
}
