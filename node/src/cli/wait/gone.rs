//! Waits until what was removed is gone: from desired state, and from the nodes that ran it.

use std::time::Duration;

use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::api::ApiError;
use crate::api::form::RunningBody;
use crate::cli::client::{Client, path_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::render::seconds;

/// Pause between two questions to a node whether a replica has ended.
const ASK_AGAIN: Duration = Duration::from_millis(100);

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

/// A replica that is to end, and the node that runs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    /// As in `web/0`.
    pub replica: String,
    uid: String,
    node: String,
    node_name: String,
}

/// The replicas of a view that run and that `ends` picks by their number. Those of a node that is
/// down are not among them: it cannot be asked.
pub fn running(view: &WorkloadView, ends: impl Fn(u32) -> bool) -> Vec<Running> {
    let mut all = Vec::new();
    for replica in view.replicas.iter().filter(|replica| replica.phase != "lost") {
        let Some(node) = &replica.node else { continue };
        let place = replica.replica.rsplit('/').next().and_then(|place| place.parse().ok());
        if place.is_some_and(&ends) {
            all.push(Running {
                replica: replica.replica.clone(),
                uid: view.uid.clone(),
                node: node.clone(),
                node_name: replica.node_name.clone().unwrap_or_else(|| node.clone()),
            });
        }
    }
    all
}

/// Waits until the nodes of these replicas say that nothing of them runs.
pub async fn stopped(
    client: &Client,
    all: Vec<Running>,
    deadline: Instant,
    timeout: Duration,
) -> Result<(), CliError> {
    let mut left = all;
    let mut trouble = None;
    loop {
        let mut still = Vec::new();
        let mut asked: Option<((String, String), Option<RunningBody>)> = None;
        left.sort_by(|a, b| (&a.node, &a.uid).cmp(&(&b.node, &b.uid)));
        for one in left {
            let which = (one.node.clone(), one.uid.clone());
            if asked.as_ref().is_none_or(|(last, _)| *last != which) {
                let path = format!("/v1/running/{}/{}", one.uid, one.node);
                let answer = match timeout_at(deadline, client.get::<RunningBody>(&path)).await {
                    Ok(Ok(answer)) => Some(answer),
                    // A node of an earlier version cannot tell, and one that is down runs nothing
                    // that anybody could wait for.
                    Ok(Err(error)) if error.status == http::StatusCode::NOT_FOUND => {
                        Some(RunningBody::default())
                    }
                    Ok(Err(error)) => {
                        trouble = Some(error.message);
                        None
                    }
                    Err(_) => None,
                };
                asked = Some((which, answer));
            }
            let place = one.replica.rsplit('/').next().unwrap_or_default().to_owned();
            let answer = asked.as_ref().and_then(|(_, answer)| answer.as_ref());
            if answer.is_none_or(|answer| answer.places.contains(&place)) {
                still.push(one);
            }
        }
        left = still;
        let Some(first) = left.first() else { return Ok(()) };
        if Instant::now() + ASK_AGAIN >= deadline {
            let trouble = trouble.map(|why| format!(" ({why})")).unwrap_or_default();
            let more = match left.len() {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            let message = format!(
                "accepted, but {} has not ended on {} after {}{trouble}{more}",
                first.replica,
                first.node_name,
                seconds(timeout)
            );
            return Err(CliError::new(Exit::Unhealthy, message).hint(
                "It is ended all the same: its node stops it as soon as it can. A longer \
                    --timeout waits longer.",
            ));
        }
        sleep_until(Instant::now() + ASK_AGAIN).await;
    }
}
