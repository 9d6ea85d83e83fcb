//! How a replica was placed. The summary of an auction is kept by its owner and its winner, so
//! other nodes are asked too.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use shoal_protocol::model::view::{AuctionView, ExplainView, ReplicaView};
use shoal_protocol::model::{NodeId, Place, ReplicaName};
use shoal_runtimes::{Body, body};
use tokio::time::timeout;
use tracing::debug;

use super::form::full_name;
use super::{ApiError, Service};
use crate::ingress::host::node_request;

/// Nodes asked: hardly more than the winner, the owner and the guardians.
const MAX_ASKED: usize = 8;
/// Time for one node's answer; a dead node gives none.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of one answer.
const MAX_ANSWER: usize = 1024 * 1024;
/// Auctions in the answer.
const MAX_AUCTIONS: usize = 16;

impl Service {
    /// The placement as this node alone knows it.
    pub async fn explain_here(&self, replica: &ReplicaName) -> Result<ExplainView, ApiError> {
        match self.core.explain(replica.clone()).await? {
            // A place above the wanted number exists only if a node holds it or held it.
            Some(view)
                if view.now.is_empty()
                    && view.auctions.is_empty()
                    && view.unfit.is_none()
                    && !self.has_ended(replica).await? =>
            {
                Err(self.no_such_replica(replica).await)
            }
            Some(view) => Ok(view),
            None => Err(self.no_such_replica(replica).await),
        }
    }

    /// Whether a replica came to its end: its result is known, and mostly nothing else.
    async fn has_ended(&self, replica: &ReplicaName) -> Result<bool, ApiError> {
        let Place::Run { at, index } = replica.place else { return Ok(false) };
        let view = self.core.workload(replica.workload.clone()).await?;
        let ended = view.iter().flat_map(|view| &view.results);
        Ok(ended.clone().any(|it| it.at == at && it.index == index))
    }

    /// The placement as this node and the nodes it names know it.
    pub async fn explain(&self, replica: &ReplicaName) -> Result<ExplainView, ApiError> {
        let mut view = self.explain_here(replica).await?;
        let others = view
            .ask
            .iter()
            .filter_map(|id| id.parse::<NodeId>().ok())
            .filter(|id| *id != self.about.node);
        let asked =
            others.take(MAX_ASKED).map(|node| timeout(ANSWER_WITHIN, self.ask(node, replica)));
        for (answer, node) in futures::future::join_all(asked).await.into_iter().zip(&view.ask) {
            match answer {
                Ok(Ok(theirs)) => {
                    adopt_reasons(&mut view.now, &theirs.now, node);
                    view.auctions.extend(theirs.auctions);
                }
                Ok(Err(why)) => debug!(node, "does not explain: {why}"),
                Err(_) => debug!(node, "does not explain: no answer"),
            }
        }
        view.auctions = merged(view.auctions);
        Ok(view)
    }

    async fn ask(&self, node: NodeId, replica: &ReplicaName) -> Result<ExplainView, String> {
        let path = format!("/v1/explain/{}/{}", full_name(&replica.workload), replica.place);
        let request =
            node_request(Method::GET, &path).body(body("")).map_err(|error| error.to_string())?;
        let response =
            self.peers.send(node, request).await.map_err(|error| format!("{error:?}"))?;
        if !response.status().is_success() {
            return Err(response.status().to_string());
        }
        let bytes = read_body(response.into_body(), MAX_ANSWER).await?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }
}

/// Takes over reasons that only a replica's own node knows, such as an artifact that cannot be
/// fetched.
fn adopt_reasons(now: &mut [ReplicaView], theirs: &[ReplicaView], node: &str) {
    for view in
        now.iter_mut().filter(|view| view.reason.is_none() && view.node.as_deref() == Some(node))
    {
        let told = theirs.iter().find(|told| told.node == view.node && told.phase == view.phase);
        view.reason = told.and_then(|told| told.reason.clone());
    }
}

/// The whole body, if it is not larger than `most`.
async fn read_body(mut from: Body, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = from.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        bytes.extend_from_slice(frame.data_ref().map(|data| data.as_ref()).unwrap_or_default());
        if bytes.len() > most {
            return Err(format!("more than {most} bytes"));
        }
    }
    Ok(bytes)
}

/// Merges views of the same auction to the one with the most details; the latest first.
fn merged(all: Vec<AuctionView>) -> Vec<AuctionView> {
    let mut by_name: BTreeMap<(String, String), AuctionView> = BTreeMap::new();
    for view in all {
        let told =
            |view: &AuctionView| view.bids.len() + view.declines.len() + view.not_asked.len();
        match by_name.entry((view.auction.clone(), view.replica.clone())) {
            std::collections::btree_map::Entry::Occupied(mut known)
                if told(&view) > told(known.get()) =>
            {
                known.insert(view);
            }
            std::collections::btree_map::Entry::Occupied(_) => {}
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(view);
            }
        }
    }
    let mut views: Vec<AuctionView> = by_name.into_values().collect();
    views.sort_by(|a, b| b.opened.cmp(&a.opened).then_with(|| a.auction.cmp(&b.auction)));
    views.truncate(MAX_AUCTIONS);
    views
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_protocol::model::view::BidView;

    fn auction(name: &str, opened: &str, bids: usize) -> AuctionView {
        let bid = BidView {
            node: "n".into(),
            price: 1,
            share: 1,
            fetch: 0,
            spread: 0,
            prefer: 0,
            balance: 0,
        };
        AuctionView {
            auction: name.into(),
            replica: "web/0".into(),
            why: String::new(),
            owner: "n1".into(),
            opened: opened.into(),
            took_ms: 1.0,
            bids: vec![bid; bids],
            declines: vec![],
            not_asked: vec![],
            winner: None,
            token: None,
            outcome: String::new(),
        }
    }

    /// Owner and winner both tell of one auction: the view with more bids is kept.
    #[test]
    fn auctions_merge_to_fullest_view_latest_first() {
        let views = merged(vec![
            auction("a", "2026-01-01", 1),
            auction("b", "2026-01-02", 0),
            auction("a", "2026-01-01", 3),
        ]);
        let told: Vec<_> =
            views.iter().map(|view| (view.auction.as_str(), view.bids.len())).collect();
        assert_eq!(told, [("b", 0), ("a", 3)]);
    }
}
