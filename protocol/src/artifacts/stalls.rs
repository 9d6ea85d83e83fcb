//! Paths that lose full-sized packets: small messages pass, transfers stall.

use std::collections::BTreeMap;

use crate::model::{NodeId, Queue, WallClock};

/// Peers remembered: more than a node has links to. Further ones are not noted.
const MAX_STALLS: usize = 256;

/// The peers on whose paths transfers stall, and since when.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    since: BTreeMap<NodeId, WallClock>,
}

impl Stalls {
    /// Whether transfers stall on the path to a peer.
    pub fn contains(&self, peer: &NodeId) -> bool {
        self.since.contains_key(peer)
    }

    /// The time at which transfers on the path to a peer began to stall.
    pub fn since(&self, peer: &NodeId) -> Option<WallClock> {
        self.since.get(peer).copied()
    }

    /// Notes the state of a path. Returns whether it changed.
    pub fn note(&mut self, peer: NodeId, is_stalling: bool, wall: WallClock) -> bool {
        if !is_stalling {
            return self.since.remove(&peer).is_some();
        }
        let is_news = !self.contains(&peer) && self.since.len() < MAX_STALLS;
        if is_news {
            self.since.insert(peer, wall);
        }
        is_news
    }

    pub(super) fn queue(&self) -> Queue {
        Queue::new("paths that lose full-sized packets", self.since.len(), MAX_STALLS)
    }
}
