//! Questions about images to all other nodes at once.

use std::time::Duration;

use axum::body::to_bytes;
use futures::{StreamExt, stream};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::model::NodeId;
use shoal_runtimes::body;
use tokio::time::timeout;

use super::form::{AllFreedBody, FreedBody, HereBody, PruneBody, RemoveBody};
use crate::api::{ApiError, Service};
use crate::ingress::host::node_request;
use crate::ingress::peers::SendError;

/// Nodes that are asked at once.
const AT_ONCE: usize = 16;
/// The time for one node's answer: a person waits for the slowest.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The time for a node to remove its files and its engine's images.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of an answer: some thousand artifacts with their names.
const MAX_ANSWER: usize = 4 << 20;

impl Service {
    /// The images of this node and of all others that are up, by the nodes' names, and the nodes
    /// that could not be asked.
    pub(super) async fn images_everywhere(
        &self,
    ) -> Result<(Vec<(String, HereBody)>, Vec<String>), ApiError> {
        let mut heres = vec![(self.name_here().await?, self.images_here())];
        let (others, unasked) = self.ask_all("", None::<&()>, ANSWER_WITHIN).await?;
        heres.extend(others);
        Ok((heres, unasked))
    }

    /// Removes a name on this node and on all others that are up.
    pub(super) async fn remove_everywhere(&self, name: &str) -> Result<AllFreedBody, ApiError> {
        let here = self.remove_image_here(name).await?;
        let body = RemoveBody { name: name.to_owned() };
        let (others, unasked) = self.ask_all("/remove", Some(&body), REMOVED_WITHIN).await?;
        Ok(all(here, others, unasked))
    }

    /// Removes what nothing needs, on this node and on all others that are up.
    pub async fn prune_images(&self, asked: &PruneBody) -> Result<AllFreedBody, ApiError> {
        let here = self.prune_images_here(asked).await?;
        let (others, unasked) = self.ask_all("/prune", Some(asked), REMOVED_WITHIN).await?;
        Ok(all(here, others, unasked))
    }

    /// Asks all other nodes that are up: the answers by the nodes' names, and those who gave none.
    async fn ask_all<T: DeserializeOwned>(
        &self,
        path: &str,
        request: Option<&(impl Serialize + Sync)>,
        within: Duration,
    ) -> Result<(Vec<(String, T)>, Vec<String>), ApiError> {
        let nodes = self.core.nodes().await?;
        let others = nodes.into_iter().filter(|node| !node.me && node.state == "up");
        let others = others.filter_map(|node| Some((node.id.parse().ok()?, node.name)));
        let asked = others.map(|(id, name): (NodeId, String)| async move {
            let answer = timeout(within, self.ask_one(id, path, request)).await;
            let silent = || Err(format!("no answer within {} s", within.as_secs()));
            (name, answer.unwrap_or_else(|_| silent()))
        });
        // Collected first: a stream of borrowing closures is not `Send` for every lifetime.
        let asked: Vec<_> = asked.collect();
        let answers: Vec<(String, Result<T, String>)> =
            stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let (mut told, mut silent) = (Vec::new(), Vec::new());
        for (name, answer) in answers {
            match answer {
                Ok(answer) => told.push((name, answer)),
                Err(why) => silent.push(format!("{name}: {why}")),
            }
        }
        told.sort_by(|one, other| one.0.cmp(&other.0));
        silent.sort();
        Ok((told, silent))
    }

    async fn ask_one<T: DeserializeOwned>(
        &self,
        node: NodeId,
        path: &str,
        request: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, String> {
        let (method, text) = match request {
            None => (Method::GET, String::new()),
            Some(value) => {
                let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
                (Method::POST, text)
            }
        };
        let request = node_request(method, &format!("/v1/images{path}"))
            .body(body(text))
            .map_err(|error| error.to_string())?;
        let answer = self.peers.send(node, request).await.map_err(|error| match error {
            SendError::NotSent { why, .. } | SendError::Sent { why, .. } => why,
            SendError::Client { why } => why.to_string(),
        })?;
        let status = answer.status();
        let bytes = to_bytes(axum::body::Body::new(answer.into_body()), MAX_ANSWER).await;
        let bytes = bytes.map_err(|error| error.to_string())?;
        match status.is_success() {
            true => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            // A node of an older version does not know the path.
            false => Err(format!("it answers {status}")),
        }
    }
}

fn all(here: FreedBody, others: Vec<(String, FreedBody)>, unasked: Vec<String>) -> AllFreedBody {
    let others = others.into_iter().map(|(node, freed)| FreedBody { node, ..freed });
    let is_some =
        |freed: &FreedBody| !freed.images.is_empty() || freed.parts > 0 || freed.engine_images > 0;
    AllFreedBody { freed: std::iter::once(here).chain(others).filter(is_some).collect(), unasked }
}
