//! Which piece is asked for next, and of which node.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::NodeId;
use shoal_runtimes::artifacts::Arrived;
use tokio::time::Instant;

/// How long a piece that a whole holder gave to another node is waited for, at the least.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pieces that are still wanted, and the peers of a fetch.
pub(super) struct Wanted {
    arrived: Arc<Arrived>,
    in_flight: BTreeSet<u32>,
    peers: BTreeMap<NodeId, Peer>,
    /// By how many peers with some of the pieces each piece is offered.
    offers: Vec<u16>,
    /// Makes each fetch ask in another order.
    order: RandomState,
    /// The longest time that a piece took lately.
    took: Duration,
}

/// A peer that is asked now.
enum Peer {
    /// It has all pieces. Those that it gave to others, and since when that is known.
    Whole { taken: BTreeMap<u32, Instant> },
    /// It has some.
    Partly { has: BTreeSet<u32> },
}

/// A piece to ask a peer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pick {
    pub index: u32,
    pub insist: bool,
}

impl Wanted {
    pub fn new(arrived: Arc<Arrived>) -> Wanted {
        Wanted {
            offers: vec![0; arrived.pieces()],
            arrived,
            in_flight: BTreeSet::new(),
            peers: BTreeMap::new(),
            order: RandomState::new(),
            took: Duration::ZERO,
        }
    }

    /// The peer has all pieces.
    pub fn has_all(&mut self, peer: NodeId) {
        self.gone(&peer);
        self.peers.insert(peer, Peer::Whole { taken: BTreeMap::new() });
    }

    /// The peer has these pieces, too. Numbers beyond the last are ignored.
    pub fn has(&mut self, peer: NodeId, pieces: &[u32]) {
        let entry = self.peers.entry(peer).or_insert(Peer::Partly { has: BTreeSet::new() });
        let Peer::Partly { has } = entry else { return };
        for index in pieces {
            if let Some(offers) = self.offers.get_mut(*index as usize)
                && has.insert(*index)
            {
                *offers = offers.saturating_add(1);
            }
        }
    }

    /// A whole holder gave the piece to another node.
    pub fn taken(&mut self, peer: &NodeId, index: u32, now: Instant) {
        self.in_flight.remove(&index);
        if let Some(Peer::Whole { taken }) = self.peers.get_mut(peer) {
            taken.insert(index, now);
        }
    }

    /// A piece came, or will not come any more from where it was asked for. `took`: how long.
    pub fn ended(&mut self, index: u32, took: Option<Duration>) {
        self.in_flight.remove(&index);
        if let Some(took) = took {
            self.took = took.max(self.took / 2);
        }
    }

    /// The peer is not asked any more.
    pub fn gone(&mut self, peer: &NodeId) {
        if let Some(Peer::Partly { has }) = self.peers.remove(peer) {
            for index in has {
                let offers = &mut self.offers[index as usize];
                *offers = offers.saturating_sub(1);
            }
        }
    }

    /// The time for which a piece is waited for that a whole holder gave to another node.
    pub fn patience(&self) -> Duration {
        PATIENCE.max(self.took * 2)
    }

    /// The piece to ask this peer for, which counts as under way then. A peer with some of them is
    /// asked for what fewest peers have. A peer with all is asked for what no other peer has, so
    /// that its link is spared; what it gave to others is asked for again only when none of them
    /// passed it on in time.
    pub fn pick(&mut self, peer: &NodeId, now: Instant) -> Option<Pick> {
        let patience = self.patience();
        let is_free = |index: &u32| !self.in_flight.contains(index) && !self.arrived.has(*index);
        let rank = |index: &u32| (self.offers[*index as usize], self.order.hash_one(index));
        let all = 0..u32::try_from(self.arrived.pieces()).unwrap_or(u32::MAX);
        let pick = match self.peers.get(peer)? {
            Peer::Partly { has } => {
                let index = has.iter().copied().filter(is_free).min_by_key(rank)?;
                Pick { index, insist: false }
            }
            Peer::Whole { taken } => {
                let unoffered = |index: &u32| is_free(index) && self.offers[*index as usize] == 0;
                let fresh = all.clone().filter(|it| unoffered(it) && !taken.contains_key(it));
                let late = |index: &u32| {
                    taken.get(index).is_some_and(|since| now.duration_since(*since) >= patience)
                };
                match fresh.min_by_key(rank) {
                    Some(index) => Pick { index, insist: false },
                    None => {
                        let index = all.filter(is_free).filter(late).min_by_key(rank)?;
                        Pick { index, insist: true }
                    }
                }
            }
        };
        self.in_flight.insert(pick.index);
        Some(pick)
    }
}
