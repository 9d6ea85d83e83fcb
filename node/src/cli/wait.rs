//! Waits until a published workload runs, and shows the progress of each replica.

mod gone;
mod progress;
#[cfg(test)]
mod tests;
mod update;
mod verdict;

use std::time::Duration;

use clap::Args;

use shoal_protocol::model::Spec;
use shoal_protocol::model::spec::Kind;
use shoal_protocol::model::view::{StatusView, WorkloadView};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::render::seconds;
use super::{job, out};
use crate::manifest::quantity;

pub use gone::{gone, running, stopped};
use progress::Progress;
use update::Stands;
use verdict::{failure, late, rolled_back, tail_lines, update_failure};

/// Redraw interval of a terminal while nothing changes, so that the seconds count up.
const REDRAW: Duration = Duration::from_millis(200);
/// Nodes that must hold the artifact before a publish is done, since one may die at any time.
const HOLDERS: usize = 2;

/// Whether and how long to wait.
#[derive(Args)]
pub struct WaitArgs {
    /// Wait until it is done: all replicas are healthy, those that go have ended (this is so unless
    /// --no-wait is given)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the change is on a node's disk
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = quantity::duration)]
    timeout: Duration,
}

impl WaitArgs {
    /// No wait.
    pub fn none() -> WaitArgs {
        WaitArgs { wait: false, no_wait: true, timeout: Duration::ZERO }
    }

    /// Whether --wait was given.
    pub fn is_asked(&self) -> bool {
        self.wait
    }

    /// How long to wait.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The time to give up; `None` with --no-wait.
    pub fn deadline(&self) -> Option<Instant> {
        (self.wait || !self.no_wait).then(|| Instant::now() + self.timeout)
    }
}

/// Whether a job has begun, or is done; a cron workload needs nothing before its first tick.
fn has_begun(spec: &Spec, view: &WorkloadView) -> Result<bool, CliError> {
    match (&spec.kind, view.job.as_deref()) {
        (Kind::Cron(_), _) => Ok(true),
        // The code of its program would say that something else went wrong.
        (Kind::Job(_), Some("failed")) => {
            Err(CliError { exit: Exit::Failed, ..job::failure(view) })
        }
        (Kind::Job(_), Some("done")) => Ok(true),
        (Kind::Job(_), _) => Ok(view.healthy > 0 || !view.results.is_empty()),
        _ => Ok(false),
    }
}

/// Waits until all replicas of `spec` run; a job has begun then, or is done. With `held`, also
/// until enough nodes hold its artifact.
pub async fn healthy(
    context: &Context,
    client: &Client,
    spec: &Spec,
    held: bool,
    deadline: Instant,
) -> Result<WorkloadView, CliError> {
    let mut progress = Progress::new(spec, !context.quiet && out::is_watched());
    let mut lines =
        client.lines(&format!("{}?watch=true", path_of("workloads", &spec.name))).await?;
    loop {
        let next = loop {
            tokio::select! {
                next = timeout_at(deadline, lines.next::<WorkloadView>()) => break next,
                () = sleep_until(Instant::now() + REDRAW), if progress.drawn => progress.draw(),
            }
        };
        let view = match next {
            Ok(view) => view?.ok_or_else(|| {
                CliError::new(Exit::Unhealthy, format!("`{}` was removed meanwhile", spec.name))
            })?,
            Err(_) => return Err(late(client, &progress, deadline).await),
        };
        progress.update(&view, !context.quiet);
        if view.generation == spec.revision().to_string() && has_begun(spec, &view)? {
            return Ok(view);
        }
        match update::stands(spec, &view) {
            Stands::Failed => return Err(update_failure(client, spec, &view, &progress).await),
            Stands::RolledBack => {
                let error = rolled_back(spec, &progress);
                progress.log_lines().iter().for_each(|line| out::complain(line));
                return Err(error);
            }
            Stands::Held(why) => {
                context.note(&format!("{}: {why}", spec.name));
                return Ok(view);
            }
            Stands::RollsBack => {
                if let Some(replica) = progress.fails_anew(&view) {
                    let lines = tail_lines(client, &replica).await;
                    progress.note_log(lines);
                }
                if !progress.runs(&view) {
                    continue;
                }
            }
            Stands::Open => {
                if let Some(failed) = progress.failed(&view) {
                    return Err(failure(client, &spec.name, failed).await);
                }
                if !progress.runs(&view) {
                    continue;
                }
            }
        }
        if !update::is_over(&view) {
            continue;
        }
        // An image that engines pull is in no node's store.
        if !held || view.artifact_size == 0 {
            return Ok(view);
        }
        let up = client.get::<StatusView>("/v1/status").await?.nodes_up;
        if view.artifact_holders >= HOLDERS.min(up) {
            let nodes = if view.artifact_holders == 1 { "node holds" } else { "nodes hold" };
            context.note(&format!(
                "✓ {} {nodes} the artifact  {}",
                view.artifact_holders,
                seconds(progress.since.elapsed())
            ));
            return Ok(view);
        }
    }
}
