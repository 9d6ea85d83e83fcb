//! The error of a wait that did not end well. Its last line carries the cause.

use shoal_protocol::model::NamedReplica;
use shoal_protocol::model::Spec;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::{ExplainView, ReplicaView, WorkloadView};
use tokio::time::Instant;

use super::progress::{Failure, MISSING, Progress, State, TO_UPDATE, state};
use crate::api::form::LogBody;
use crate::cli::client::{Client, path_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::out;
use crate::cli::render::{seconds, updating};

/// Log lines shown with a failure.
const LOG_LINES: usize = 10;

/// Not all is done in time.
pub(super) async fn late(client: &Client, progress: &Progress, deadline: Instant) -> CliError {
    let waited = seconds(deadline.saturating_duration_since(progress.since));
    let Some((row, others)) = progress.worst() else {
        return CliError::new(
            Exit::Unhealthy,
            format!("accepted, but not all is done after {waited}"),
        )
        .hint("`shoal ps` shows how it fares; a longer --timeout waits longer.");
    };
    let view = &row.view;
    // Log lines of the old version say nothing of the new one.
    if state(view).word != TO_UPDATE {
        tail(client, &view.replica).await;
    }
    let auction = match state(view).word {
        MISSING => no_taker(client, &view.replica).await,
        _ => None,
    };
    let last = progress.last_failure(&view.replica);
    CliError::new(Exit::Unhealthy, late_text(view, others, auction.as_deref(), last, &waited)).hint(
        format!("`shoal explain {}` tells why; a longer --timeout waits longer.", view.replica),
    )
}

/// `auction` is the outcome of the last auction of the replica, `last` its last failure.
pub(super) fn late_text(
    view: &ReplicaView,
    others: usize,
    auction: Option<&str>,
    last: Option<&Failure>,
    waited: &str,
) -> String {
    let State { word, reason } = state(view);
    // Why the old version still serves.
    let stays = view.reason.as_deref().filter(|_| word == TO_UPDATE);
    let reason = auction.or(reason).or(stays);
    let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let others = match others {
        0 => String::new(),
        1 => " (and another is not healthy)".to_owned(),
        count => format!(" (and {count} others are not healthy)"),
    };
    let mut text =
        format!("accepted, but {} is {word}{others} after {waited}{because}", view.replica);
    // A replica that moves on takes its reason with it.
    if let Some(Failure { reason: failure, node }) = last
        && !reason.is_some_and(|reason| reason.contains(failure.as_str()))
    {
        let node = node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        text.push_str(&format!("; it failed{node}: {failure}"));
    }
    text
}

/// The outcome of the last auction of a replica, if no node took it. The owner knows it, which may
/// be another node than the one that is asked.
async fn no_taker(client: &Client, replica: &str) -> Option<String> {
    let name: NamedReplica = replica.parse().ok()?;
    let path = format!("{}/{}", path_of("explain", &name.workload), name.place);
    let view: ExplainView = client.get(&path).await.ok()?;
    let last = view.auctions.into_iter().next()?;
    last.winner.is_none().then_some(last.outcome)
}

/// A replica failed too often.
pub(super) async fn failure(
    client: &Client,
    name: &WorkloadName,
    (replica, restarts): (&ReplicaView, u32),
) -> CliError {
    tail(client, &replica.replica).await;
    let reason = state(replica).reason.unwrap_or("no reason is known");
    let message = format!("accepted, but {} failed {restarts} times: {reason}", replica.replica);
    // The old version serves, so nobody should remove the workload.
    let hint = match &replica.replacement {
        Some(_) => format!(
            "The old version goes on serving: publish it again to go back. `shoal logs {name}` \
                shows more."
        ),
        None if reason.ends_with("exited with code 0") => format!(
            "What ends is a job: give it `--kind job`, or `kind: job` in its file. As it is, it is \
             started again and again; `shoal rm {name}` ends it."
        ),
        None => {
            format!("It is tried on. `shoal logs {name}` shows more; `shoal rm {name}` ends it.")
        }
    };
    CliError::new(Exit::Unhealthy, message).hint(hint)
}

/// The update failed, and the replicas that have not had their turn keep what they run.
pub(super) async fn update_failure(
    client: &Client,
    spec: &Spec,
    view: &WorkloadView,
    progress: &Progress,
) -> CliError {
    if let Some((replica, _)) = progress.any_failure() {
        tail(client, replica).await;
    }
    let name = &spec.name;
    let how = updating(view).unwrap_or_default();
    let message = format!("accepted, but its update failed: {how}{}", because(progress));
    CliError::new(Exit::Unhealthy, message).hint(format!(
        "Publish a better version, or `shoal rollback {name}`. `shoal logs {name}` shows more."
    ))
}

/// The update failed, and all replicas run the version before again.
pub(super) fn rolled_back(spec: &Spec, progress: &Progress) -> CliError {
    let (name, generation) = (&spec.name, spec.revision().short());
    let message = format!(
        "accepted, but its update failed and was rolled back: `{name}` runs the version before, \
         and not generation {generation}{}",
        because(progress)
    );
    CliError::new(Exit::Unhealthy, message)
        .hint("Change it and publish again. `shoal events` shows what happened.")
}

/// The last failure that was seen, as the end of a sentence.
fn because(progress: &Progress) -> String {
    let Some((replica, Failure { reason, node })) = progress.any_failure() else {
        return String::new();
    };
    let node = node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    format!("; {replica} failed{node}: {reason}")
}

/// Prints a replica's last log lines, if there are any.
async fn tail(client: &Client, replica: &str) {
    tail_lines(client, replica).await.iter().for_each(|line| out::complain(line));
}

/// A replica's last log lines.
pub(super) async fn tail_lines(client: &Client, replica: &str) -> Vec<String> {
    let Ok(name) = replica.parse::<NamedReplica>() else { return Vec::new() };
    let path = format!("{}/{}?lines={LOG_LINES}", path_of("logs", &name.workload), name.place);
    let Ok(mut lines) = client.lines(&path).await else { return Vec::new() };
    let mut all = Vec::new();
    while let Ok(Some(line)) = lines.next::<LogBody>().await {
        all.push(format!("  {replica} | {}", line.text));
    }
    all
}
