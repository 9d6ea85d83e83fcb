//! The error of a wait that did not end well. Its last line carries the cause.

use shoal_protocol::model::NamedReplica;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::{ExplainView, ReplicaView};
use tokio::time::Instant;

use super::progress::{Failure, MISSING, Progress, State, state};
use crate::api::form::LogBody;
use crate::cli::client::{Client, path_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::out;
use crate::cli::render::seconds;

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
    tail(client, &view.replica).await;
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
    let reason = auction.or(reason);
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

/// Prints a replica's last log lines, if there are any.
async fn tail(client: &Client, replica: &str) {
    let Ok(name) = replica.parse::<NamedReplica>() else { return };
    let path = format!("{}/{}?lines={LOG_LINES}", path_of("logs", &name.workload), name.place);
    let Ok(mut lines) = client.lines(&path).await else { return };
    while let Ok(Some(line)) = lines.next::<LogBody>().await {
        out::complain(&format!("  {replica} | {}", line.text));
    }
}
