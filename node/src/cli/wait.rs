//! Waits until a published workload runs, and shows the progress of each replica.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use shoal_protocol::model::view::{ReplicaView, StatusView, WorkloadView};
use shoal_protocol::model::{Spec, WorkloadName};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out::{self, LiveLines};
use super::render::seconds;
use crate::api::ApiError;
use crate::api::form::LogBody;
use crate::manifest::quantity;

/// Restarts on one node after which a replica counts as failed: the next would most likely fail,
/// too.
const FAILED_AFTER: u32 = 3;
/// Log lines shown with a failure.
const LOG_LINES: usize = 10;
/// Replicas drawn at a time: more do not fit on a screen.
const DRAWN: usize = 20;
/// Redraw interval of a terminal while nothing changes, so that the seconds count up.
const REDRAW: Duration = Duration::from_millis(200);
/// Nodes that must hold the artifact before a publish is done, since one may die at any time.
const HOLDERS: usize = 2;

/// Whether and how long to wait.
#[derive(Args)]
pub struct WaitArgs {
    /// Wait until all replicas are healthy (this is so unless --no-wait is given)
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
    /// The time to give up; `None` with --no-wait.
    pub fn deadline(&self) -> Option<Instant> {
        (self.wait || !self.no_wait).then(|| Instant::now() + self.timeout)
    }
}

/// Waits until all replicas of `spec` run. With `held`, also until enough nodes hold its artifact.
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
        if let Some(failed) = progress.failed(&view) {
            return Err(failure(client, &spec.name, failed).await);
        }
        if !progress.runs(&view) {
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

/// Waits until the workload is gone from desired state.
pub async fn gone(client: &Client, name: &WorkloadName, deadline: Instant) -> Result<(), CliError> {
    let mut lines = match client.lines(&format!("{}?watch=true", path_of("workloads", name))).await
    {
        Ok(lines) => lines,
        Err(error) if error.status == http::StatusCode::NOT_FOUND => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let all = async {
        while lines.next::<WorkloadView>().await?.is_some() {}
        Ok::<(), ApiError>(())
    };
    match timeout_at(deadline, all).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(CliError::new(Exit::Unhealthy, format!("`{name}` is still there"))),
    }
}

/// The progress of each replica.
struct Progress {
    generation: String,
    desired: u32,
    since: Instant,
    rows: BTreeMap<String, Row>,
    live: LiveLines,
    /// Whether the lines are redrawn in place.
    drawn: bool,
}

struct Row {
    view: ReplicaView,
    /// Time from the start until this state was seen.
    at: Duration,
}

impl Progress {
    fn new(spec: &Spec, drawn: bool) -> Self {
        Progress {
            generation: spec.revision().to_string(),
            desired: spec.replicas(),
            since: Instant::now(),
            rows: BTreeMap::new(),
            live: LiveLines::default(),
            drawn,
        }
    }

    /// Applies a view; with `print`, prints what is new in it.
    fn update(&mut self, view: &WorkloadView, print: bool) {
        // A view of the previous spec is no progress.
        if view.generation != self.generation || view.desired != self.desired {
            return;
        }
        let elapsed = self.since.elapsed();
        let mut news = Vec::new();
        let mut best: BTreeMap<&str, &ReplicaView> = BTreeMap::new();
        for replica in &view.replicas {
            let place = best.entry(&replica.replica).or_insert(replica);
            if is_healthy(replica) {
                *place = replica;
            }
        }
        self.rows.retain(|name, _| best.contains_key(name.as_str()));
        for (name, replica) in best {
            let same = self.rows.get(name).is_some_and(|row| {
                row.view.phase == replica.phase
                    && row.view.node == replica.node
                    && row.view.reason == replica.reason
            });
            if !same {
                let row = Row { view: replica.clone(), at: elapsed };
                news.push(text(&row, elapsed));
                self.rows.insert(name.to_owned(), row);
            }
        }
        if self.drawn {
            self.draw();
        } else if print {
            news.iter().for_each(|line| out::complain(line));
        }
    }

    fn draw(&mut self) {
        let elapsed = self.since.elapsed();
        let (done, open): (Vec<&Row>, Vec<&Row>) =
            self.rows.values().partition(|row| is_healthy(&row.view));
        let mut lines: Vec<String> = if self.rows.len() <= DRAWN {
            self.rows.values().map(|row| text(row, elapsed)).collect()
        } else {
            open.iter().take(DRAWN).map(|row| text(row, elapsed)).collect()
        };
        if self.rows.len() > DRAWN {
            lines.push(format!(
                "  {} of {} healthy  {}",
                done.len(),
                self.desired,
                seconds(elapsed)
            ));
        }
        self.live.draw(&lines);
    }

    /// Whether the wanted replicas run, and no others.
    fn runs(&self, view: &WorkloadView) -> bool {
        view.generation == self.generation
            && view.desired == self.desired
            && view.healthy >= view.desired
            // Replicas of a dead node are shown as lost until the node is back; they do not run.
            && view.replicas.iter().all(|replica| is_healthy(replica) || replica.phase == "lost")
    }

    /// A replica that has failed too often.
    fn failed<'a>(&self, view: &'a WorkloadView) -> Option<&'a ReplicaView> {
        let current = view.generation == self.generation;
        view.replicas
            .iter()
            .filter(|_| current)
            .find(|replica| replica.phase == "failing" && replica.restarts >= FAILED_AFTER)
    }
}

fn is_healthy(replica: &ReplicaView) -> bool {
    replica.phase == "healthy" && replica.current
}

fn text(row: &Row, elapsed: Duration) -> String {
    let ReplicaView { replica, phase, reason, node_name, .. } = &row.view;
    let (mark, at) = match phase.as_str() {
        _ if is_healthy(&row.view) => ("✓", row.at),
        "failing" => ("✗", elapsed),
        _ => ("·", elapsed),
    };
    let node = node_name.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{mark} {replica} {phase}{node}{reason}  {}", seconds(at))
}

async fn late(client: &Client, progress: &Progress, deadline: Instant) -> CliError {
    let waited = seconds(deadline.saturating_duration_since(progress.since));
    let open = progress.rows.values().find(|row| !is_healthy(&row.view));
    let Some(row) = open else {
        return CliError::new(
            Exit::Unhealthy,
            format!("accepted, but not all is done after {waited}"),
        )
        .hint("`shoal ps` shows how it fares; a longer --timeout waits longer.");
    };
    let ReplicaView { replica, phase, reason, .. } = &row.view;
    tail(client, replica).await;
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    CliError::new(
        Exit::Unhealthy,
        format!("accepted, but {replica} is {phase} after {waited}{reason}"),
    )
    .hint(format!("`shoal explain {replica}` tells why; a longer --timeout waits longer."))
}

async fn failure(client: &Client, name: &WorkloadName, replica: &ReplicaView) -> CliError {
    tail(client, &replica.replica).await;
    let reason = replica.reason.as_deref().unwrap_or("no reason is known");
    let message =
        format!("accepted, but {} failed {} times: {reason}", replica.replica, replica.restarts);
    // The old version serves, so nobody should remove the workload.
    let hint = match replica.phase.as_str() {
        "failing" if reason.starts_with("generation ") => format!(
            "The old version goes on serving: publish it again to go back. `shoal logs {name}` \
                shows more."
        ),
        _ => format!("It is tried on. `shoal logs {name}` shows more; `shoal rm {name}` ends it."),
    };
    CliError::new(Exit::Unhealthy, message).hint(hint)
}

/// Prints a replica's last log lines, if there are any.
async fn tail(client: &Client, replica: &str) {
    let Ok(name) = replica.parse::<shoal_protocol::model::ReplicaName>() else { return };
    let path = format!("{}/{}?lines={LOG_LINES}", path_of("logs", &name.workload), name.place);
    let Ok(mut lines) = client.lines(&path).await else { return };
    while let Ok(Some(line)) = lines.next::<LogBody>().await {
        out::complain(&format!("  {replica} | {}", line.text));
    }
}

#[cfg(test)]
mod tests;
