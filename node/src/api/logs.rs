//! The logs of a replica, from the node that runs it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Method, Response, StatusCode, header};
use shoal_protocol::model::{NodeId, ReplicaId, ReplicaName, WallClock};
use shoal_runtimes::logs::{LogLine, Tail};
use shoal_runtimes::{InstanceId, LogsError, body};

use super::form::{LogBody, full_name};
use super::{ApiError, Service, Since};
use crate::executor::instance_id;
use crate::ingress::host::node_request;
use crate::ingress::peers::SendError;

/// JSON, one value a line.
pub(super) const JSON_LINES: &str = "application/jsonl";

/// The lines that a reader asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many of the last ones, and whether new ones follow.
    pub tail: Tail,
    /// No older ones than this.
    pub since: Option<Since>,
    /// Those of this container of a group alone.
    pub container: Option<String>,
}

impl Service {
    /// The lines of a replica as JSON: from this node if it runs here, else from the node that
    /// does.
    pub async fn logs(
        &self,
        replica: &ReplicaName,
        wanted: Wanted,
    ) -> Result<Response<Body>, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        let here = |(node, _): &&(NodeId, ReplicaId)| *node == self.about.node;
        if let Some((_, id)) = holders.iter().find(here) {
            return self.logs_of(replica, id, wanted).await;
        }
        let mut last = None;
        for (node, _) in &holders {
            match self.logs_there(*node, replica, &wanted).await {
                Ok(response) => return Ok(response),
                Err(error) => last = Some(error),
            }
        }
        if let Some(error) = last {
            return Err(error);
        }
        let view = self.workload(&replica.workload).await?;
        let id = view.uid.parse().ok().map(|uid| ReplicaId { uid, place: replica.place });
        // It ran here before: its last lines may say why it does not any more.
        match id.filter(|id| self.directory.instance(id).is_some()) {
            Some(id) => {
                let tail = Tail { follow: false, ..wanted.tail };
                self.logs_of(replica, &id, Wanted { tail, ..wanted }).await
            }
            None => Err(self.not_running(replica).await),
        }
    }

    /// The lines of a replica that runs, or ran, on this node.
    pub async fn logs_here(
        &self,
        replica: &ReplicaName,
        wanted: Wanted,
    ) -> Result<Response<Body>, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        match holders.iter().find(|(node, _)| *node == self.about.node) {
            Some((_, id)) => self.logs_of(replica, id, wanted).await,
            None => Err(self.not_running(replica).await),
        }
    }

    async fn logs_of(
        &self,
        replica: &ReplicaName,
        id: &ReplicaId,
        wanted: Wanted,
    ) -> Result<Response<Body>, ApiError> {
        let instance = match self.directory.instance(id) {
            Some(instance) => instance,
            // It ended before this process began: its lines are under the name that it had.
            None => {
                let view = self.workload(&replica.workload).await.ok();
                match view.and_then(|view| view.generation.parse().ok()) {
                    Some(generation) => instance_id(&replica.workload, id, &generation),
                    None => return Ok(lines(Body::empty())),
                }
            }
        };
        let Wanted { tail, since, container } = wanted;
        let logs = match &container {
            None => self.runtimes.logs(&instance, tail).await,
            Some(name) => self.logs_of_container(&instance, name, tail).await,
        };
        match logs {
            Ok(stream) => Ok(lines(Body::from_stream(stream.filter_map(move |line| {
                let is_wanted =
                    since.as_ref().is_none_or(|since| since.wants(line.at, SystemTime::now()));
                let line = is_wanted.then(|| Ok::<_, std::convert::Infallible>(json(&line)));
                std::future::ready(line)
            })))),
            // It has written nothing yet.
            Err(LogsError::Unknown(_)) => Ok(lines(Body::empty())),
            Err(error @ LogsError::Device(_)) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "disk",
                format!("the logs of `{replica}` cannot be read: {error}"),
            )),
        }
    }

    /// The lines of one container of a group, without its name before each.
    async fn logs_of_container(
        &self,
        instance: &InstanceId,
        name: &str,
        Tail { lines, follow }: Tail,
    ) -> Result<BoxStream<'static, LogLine>, LogsError> {
        let tag = format!("[{name}] ");
        let own = move |line: LogLine| {
            let text = line.text.strip_prefix(&tag).map(str::to_owned);
            std::future::ready(text.map(|text| LogLine { text, ..line }))
        };
        // The last lines are counted after the others are left out, so all are read.
        let all = Tail { lines: usize::MAX, follow: false };
        let last = self.runtimes.logs(instance, all).await?.filter_map(own.clone());
        let mut last: Vec<LogLine> = last.collect().await;
        last.drain(..last.len().saturating_sub(lines));
        let last = stream::iter(last);
        if !follow {
            return Ok(last.boxed());
        }
        let new = self.runtimes.logs(instance, Tail { lines: 0, follow }).await?;
        Ok(last.chain(new.filter_map(own)).boxed())
    }

    async fn logs_there(
        &self,
        node: NodeId,
        replica: &ReplicaName,
        Wanted { tail, since, container }: &Wanted,
    ) -> Result<Response<Body>, ApiError> {
        let since = since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let container =
            container.as_ref().map(|name| format!("&container={name}")).unwrap_or_default();
        let query = format!("?lines={}&follow={}{since}{container}", tail.lines, tail.follow);
        Ok(lines(self.ask_holder(node, replica, "logs", &query).await?))
    }

    /// Asks the node that runs a replica for one of the things that it knows of it.
    pub(super) async fn ask_holder(
        &self,
        node: NodeId,
        replica: &ReplicaName,
        what: &str,
        query: &str,
    ) -> Result<Body, ApiError> {
        let unreachable = |why: &str| cannot_be_asked(node, replica, why);
        let (name, place) = (full_name(&replica.workload), replica.place);
        let request = node_request(Method::GET, &format!("/v1/{what}/{name}/{place}{query}"))
            .body(body(""))
            .map_err(|error| unreachable(&error.to_string()))?;
        match self.peers.send(node, request).await {
            Ok(response) if response.status().is_success() => Ok(Body::new(response.into_body())),
            Ok(response) => Err(unreachable(&format!("it answers {}", response.status()))),
            Err(SendError::NotSent { why, .. } | SendError::Sent { why, .. }) => {
                Err(unreachable(&why))
            }
            // The request has no body that a client could stop sending.
            Err(SendError::Client { why }) => Err(unreachable(&why.to_string())),
        }
    }

    pub(super) async fn not_running(&self, replica: &ReplicaName) -> ApiError {
        let view = match self.workload(&replica.workload).await {
            Ok(view) => view,
            Err(error) => return error,
        };
        let name = replica.to_string();
        match view.replicas.iter().find(|view| view.replica == name) {
            None => self.no_such_replica(replica).await,
            Some(view) => {
                let reason =
                    view.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                let message = format!("no node runs `{name}` now; it is {}{reason}", view.phase);
                ApiError::new(StatusCode::NOT_FOUND, "not-running", message)
                    .hint(format!("`shoal explain {name}` tells why."))
            }
        }
    }
}

pub(super) fn cannot_be_asked(node: NodeId, replica: &ReplicaName, why: &str) -> ApiError {
    let message =
        format!("the node that runs `{replica}` ({}) cannot be asked: {why}", node.short());
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unreachable", message)
}

pub(super) fn lines(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(JSON_LINES));
    response
}

fn json(line: &LogLine) -> Bytes {
    let body = LogBody {
        at: rfc3339(line.at),
        stream: line.stream.as_str().into(),
        text: line.text.clone(),
    };
    json_line(&body)
}

/// A value as JSON and a line feed.
pub(super) fn json_line(value: &impl serde::Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("plain values always become JSON");
    bytes.push(b'\n');
    bytes.into()
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    WallClock(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).to_string()
}
