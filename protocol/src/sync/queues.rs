//! The growing collections of this module and their bounds.

use crate::model::Queue;

use super::Repair;
use super::peer::{MAX_TRIED, Peer};
use super::state::MAX_QUEUED;

impl Repair {
    /// Each growing collection with its bound, while this node has so many links.
    pub fn queues(&self, links: usize) -> Vec<Queue> {
        let most = |len: fn(&Peer) -> usize| self.peers.values().map(len).max().unwrap_or_default();
        vec![
            Queue::new("peers to compare with", self.peers.len(), links),
            Queue::new("entries wanted of one peer", most(|peer| peer.intake.len()), MAX_QUEUED),
            Queue::new("entries wanted", self.wanted.len(), self.peers.len() * MAX_QUEUED),
            Queue::new("answers owed", self.serving.len(), self.peers.len() * 2),
            Queue::new("differences tried", most(|peer| peer.tried.len()), MAX_TRIED),
        ]
    }
}
