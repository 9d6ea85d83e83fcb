//! The answer to "why does this replica run there?".

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auction::{NoBid, NotAsked, Summary};
use crate::model::spec::Kind;
use crate::model::view::{AuctionView, BidView, DeclineView, ExplainView};
use crate::model::{Decline, NodeId, Place, ReplicaId, ReplicaName, Resources, Spec, Unfit};

use super::Node;
use super::replica_views::printable;

impl Node {
    /// The present state of a place, the auctions that this node remembers, and the nodes that may
    /// remember more.
    pub fn explain(&self, name: &ReplicaName) -> Option<ExplainView> {
        let workload = self.desired.workload(&name.workload)?;
        let replica = ReplicaId { uid: workload.uid, place: name.place };
        let now = self.workload(&name.workload)?.replicas;
        let text = format!("{}/{}", name.workload, self.place_text(&name.place));
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
            unfit: self.unfit(&workload.spec, &name.place),
            replica: text,
        })
    }

    /// Why a daemon has no replica on the node of a place.
    fn unfit(&self, spec: &Spec, place: &Place) -> Option<String> {
        let (Kind::Daemon, Place::OnNode(node)) = (&spec.kind, place) else { return None };
        let facts = match *node == self.me {
            true => &self.device.facts,
            false => &self.membership.record(node)?.facts,
        };
        let unfit = self.desired.takes(node, spec).and_then(|()| facts.fits(spec)).err()?;
        let name = self.name_of(node);
        // A requirement is told as it is written.
        Some(printable(&match unfit {
            Unfit::Label { .. } | Unfit::Rule(_) => format!("{name} does not fulfil {unfit}"),
            Unfit::Runtime(_) => format!("{name} has {unfit}"),
            Unfit::Platform(_) | Unfit::Memory(_) | Unfit::Cpu(_) | Unfit::Counted { .. } => {
                format!("{name}: {unfit}")
            }
            _ => format!("{name} {unfit}"),
        }))
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
                    prefer: price.prefer.into(),
                    balance: price.balance.into(),
                })
            })
            .collect();
        let outcome = match won {
            Some(won) => self.why_won(won.to, &bids),
            None => no_taker(summary),
        };
        let decline = |node: &NodeId, reason: String| DeclineView {
            node: self.name_of(node),
            reason: printable(&reason),
        };
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

/// The reason why no node took any place, in a sentence: every reason with the number of its nodes,
/// the most frequent first. Figures that differ from node to node are summed up.
pub(super) fn no_taker(summary: &Summary) -> String {
    let declined = summary.declines.iter().map(|(_, why)| why);
    let lately = summary.not_asked.iter().filter_map(|(_, why)| match why {
        NotAsked::Lately(why) => Some(why),
        NotAsked::Unfit(_) | NotAsked::NotSampled => None,
    });
    let mut most_free: Option<Resources> = None;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for why in declined.chain(lately) {
        let reason = match why {
            NoBid::Declined(Decline::NoRoom { free }) => {
                most_free = most_free.max(Some(*free));
                NO_ROOM.to_owned()
            }
            NoBid::Declined(Decline::Taken { name, .. }) => {
                format!("{}: too few are free", printable(name))
            }
            NoBid::Declined(Decline::Evictable { .. }) => {
                "no room, but that of lower priority, which is asked for".into()
            }
            NoBid::Declined(Decline::DiskFull { .. }) => "its disk is full".into(),
            NoBid::Declined(Decline::Busy { .. }) => "busy with other auctions".into(),
            NoBid::Declined(Decline::NotInStep { .. }) => "does not know this workload yet".into(),
            NoBid::Declined(Decline::Cooling { reason, .. }) => {
                format!("it failed there lately: {}", printable(reason))
            }
            NoBid::Declined(_) | NoBid::Silent | NoBid::Down | NoBid::Refused | NoBid::Taken => {
                why.to_string()
            }
        };
        *reasons.entry(reason).or_default() += 1;
    }
    for (_, why) in &summary.not_asked {
        match why {
            NotAsked::Unfit(unfit) => *reasons.entry(unfit.to_string()).or_default() += 1,
            NotAsked::NotSampled => *reasons.entry("not asked yet".into()).or_default() += 1,
            NotAsked::Lately(_) => {}
        }
    }
    let [_, declined, not_asked] = summary.omitted.map(|count| count as usize);
    if declined + not_asked > 0 {
        *reasons.entry("not listed here".into()).or_default() += declined + not_asked;
    }
    if reasons.is_empty() {
        return "nobody took it: there was no node to ask".into();
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let nodes = |count: usize| if count == 1 { "node" } else { "nodes" };
    let with_room = |why: String| match most_free.filter(|_| why == NO_ROOM) {
        Some(free) => format!(
            "no room: at most {} MiB and {} thousandths of a core are free",
            free.memory / (1024 * 1024),
            free.cpu
        ),
        None => why,
    };
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(why, count)| format!("{count} {}: {}", nodes(count), with_room(why)))
        .collect();
    format!("nobody took it: {}", reasons.join("; "))
}

const NO_ROOM: &str = "no room";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AuctionId, Digest, ProgramKind, WallClock};

    /// The reason of one node hid those of the others, and each figure made a reason of its own.
    #[test]
    fn all_reasons_are_named_with_their_nodes() {
        let node = |n: u8| NodeId([n; 32]);
        let room = |mib: u64| {
            let free = Resources { memory: mib << 20, cpu: 100 };
            NoBid::Declined(Decline::NoRoom { free })
        };
        let cooling = Decline::Cooling { retry_ms: 7, reason: "exited with code 3".into() };
        let mut summary = Summary {
            auction: AuctionId { owner: node(1), number: 1 },
            name: "web".parse().unwrap(),
            uid: Digest([1; 32]),
            generation: Digest([2; 32]),
            resources: Resources { memory: 1, cpu: 1 },
            places: Vec::new(),
            opened: WallClock(1),
            took_us: 1,
            bids: Vec::new(),
            declines: vec![
                (node(1), room(10)),
                (node(2), NoBid::Declined(cooling)),
                (node(3), room(30)),
            ],
            not_asked: vec![
                (node(4), NotAsked::Unfit(Unfit::Runtime(ProgramKind::Container))),
                (node(5), NotAsked::Lately(room(20))),
            ],
            omitted: [0, 0, 2],
            awards: Vec::new(),
        };
        assert_eq!(
            no_taker(&summary),
            "nobody took it: 3 nodes: no room: at most 30 MiB and 100 thousandths of a core are \
             free; 2 nodes: not listed here; 1 node: it failed there lately: exited with code 3; \
             1 node: no container runtime"
        );
        (summary.declines, summary.not_asked, summary.omitted) = (vec![], vec![], [0; 3]);
        assert_eq!(no_taker(&summary), "nobody took it: there was no node to ask");
    }
}
