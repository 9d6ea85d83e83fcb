//! The replicas of a workload of which something still runs, from the node that runs it. A claim is
//! gone as soon as its holder lets go, some seconds before a container has ended.

use axum::body::{Body, to_bytes};
use http::{Method, StatusCode};
use shoal_protocol::model::{Digest, NodeId};
use shoal_runtimes::body;

use super::form::RunningBody;
use super::{ApiError, Service};
use crate::ingress::host::node_request;
use crate::ingress::peers::SendError;

/// Bytes of an answer: ten thousand places fit.
const MAX_ANSWER: usize = 256 * 1024;

impl Service {
    /// The replicas of a workload that this node has begun and not ended.
    pub fn running_here(&self, uid: &Digest) -> RunningBody {
        let places = self.directory.running(uid);
        RunningBody { places: places.iter().map(ToString::to_string).collect() }
    }

    /// The same of another node; `not-up` for one that is known to be down.
    pub async fn running(&self, uid: &Digest, node: NodeId) -> Result<RunningBody, ApiError> {
        if node == self.about.node {
            return Ok(self.running_here(uid));
        }
        let id = node.to_string();
        if !self.nodes().await?.iter().any(|view| view.id == id && view.state == "up") {
            let message = format!("node {} is not up", node.short());
            return Err(ApiError::new(StatusCode::NOT_FOUND, "not-up", message));
        }
        let failed = |status, why: &str| {
            let message = format!("node {} cannot be asked what it runs: {why}", node.short());
            ApiError::new(status, "unreachable", message)
        };
        let unreachable = |why: &str| failed(StatusCode::SERVICE_UNAVAILABLE, why);
        let request = node_request(Method::GET, &format!("/v1/running/{uid}"))
            .body(body(""))
            .map_err(|error| unreachable(&error.to_string()))?;
        let answer = match self.peers.send(node, request).await {
            Ok(answer) if answer.status().is_success() => answer,
            // It is of an earlier version.
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                return Err(failed(StatusCode::NOT_FOUND, "its version cannot tell"));
            }
            Ok(answer) => return Err(unreachable(&format!("it answers {}", answer.status()))),
            Err(SendError::NotSent { why, .. } | SendError::Sent { why, .. }) => {
                return Err(unreachable(&why));
            }
            Err(SendError::Client { why }) => return Err(unreachable(&why.to_string())),
        };
        let bytes = to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await;
        let bytes = bytes.map_err(|error| unreachable(&error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| unreachable(&error.to_string()))
    }
}
