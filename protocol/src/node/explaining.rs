//! The answer to "why does this replica run there?".

use std::sync::Arc;

use crate::auction::Summary;
use crate::model::view::{AuctionView, BidView, DeclineView, ExplainView};
use crate::model::{NodeId, ReplicaId, ReplicaName};

use super::Node;

impl Node {
    /// The present state of a place, the auctions that this node remembers, and the nodes that may
    /// remember more.
    pub fn explain(&self, name: &ReplicaName) -> Option<ExplainView> {
        let workload = self.desired.workload(&name.workload)?;
        let replica = ReplicaId { uid: workload.uid, place: name.place };
        let now = self.workload(&name.workload)?.replicas;
        let text = name.to_string();
        let mut ask: Vec<NodeId> =
            self.claims.of(&replica).into_iter().map(|(node, _)| node).collect();
        ask.extend(self.guardians(&name.workload));
        let mut seen = Vec::new();
        ask.retain(|node| {
            let new = *node != self.me && self.is_up(node) && !seen.contains(node);
            seen.push(*node);
            new
        });
        Some(ExplainView {
            now: now.into_iter().filter(|view| view.replica == text).collect(),
            auctions: self
                .auction
                .summaries(&replica)
                .iter()
                .map(|summary| self.auction_view(name, summary))
                .collect(),
            ask: ask.iter().map(NodeId::to_string).collect(),
            replica: text,
        })
    }

    fn auction_view(&self, name: &ReplicaName, summary: &Arc<Summary>) -> AuctionView {
        let won = summary.awards.iter().find(|won| won.place == name.place);
        let why = summary.places.iter().find(|(place, _)| *place == name.place);
        let bids: Vec<BidView> = summary
            .bids
            .iter()
            .filter_map(|(node, prices)| {
                // The winner's price for this very place; the others' price for their first place.
                let price = won
                    .filter(|won| won.to == *node)
                    .map(|won| won.price)
                    .or(prices.first().copied())?;
                Some(BidView {
                    node: self.name_of(node),
                    price: price.total(),
                    share: price.share.into(),
                    fetch: price.fetch.into(),
                    spread: price.spread.into(),
                })
            })
            .collect();
        let outcome = match won {
            Some(won) => self.why_won(won.to, &bids),
            None => no_taker(summary),
        };
        let decline =
            |node: &NodeId, reason: String| DeclineView { node: self.name_of(node), reason };
        AuctionView {
            auction: summary.auction.to_string(),
            replica: name.to_string(),
            why: why.map(|(_, why)| why.clone()).unwrap_or_default(),
            owner: self.name_of(&summary.auction.owner),
            opened: summary.opened.to_string(),
            took_ms: summary.took_us as f64 / 1e3,
            declines: summary
                .declines
                .iter()
                .map(|(node, why)| decline(node, why.to_string()))
                .collect(),
            not_asked: summary
                .not_asked
                .iter()
                .map(|(node, why)| decline(node, why.to_string()))
                .collect(),
            winner: won.map(|won| self.name_of(&won.to)),
            token: won.map(|won| won.token.counter),
            bids,
            outcome,
        }
    }

    fn why_won(&self, winner: NodeId, bids: &[BidView]) -> String {
        let winner = self.name_of(&winner);
        let Some(own) = bids.iter().find(|bid| bid.node == winner) else {
            return format!("{winner} won");
        };
        match bids.iter().filter(|bid| bid.node != winner).map(|bid| bid.price).min() {
            None => format!("{winner} won: its was the only bid, at {}", own.price),
            Some(next) if next > own.price => {
                format!(
                    "{winner} won: its price of {} was the lowest, the next was {next}",
                    own.price
                )
            }
            Some(next) if next == own.price => {
                format!("{winner} won by draw: another asked the same, {next}")
            }
            Some(_) => format!(
                "{winner} won at {}, when cheaper bidders had taken other replicas",
                own.price
            ),
        }
    }
}

/// The reason why no node took any place, in a sentence.
pub(super) fn no_taker(summary: &Summary) -> String {
    let mut reasons: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let declined = summary.declines.iter().map(|(_, why)| why.to_string());
    for why in declined.chain(summary.not_asked.iter().map(|(_, why)| why.to_string())) {
        *reasons.entry(why).or_default() += 1;
    }
    if reasons.is_empty() {
        return "nobody took it: there was no node to ask".into();
    }
    let nodes = |count: usize| if count == 1 { "node" } else { "nodes" };
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(why, count)| format!("{count} {}: {why}", nodes(count)))
        .collect();
    format!("nobody took it: {}", reasons.join("; "))
}
