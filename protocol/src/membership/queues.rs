//! The growing collections of this module and their bounds.

use std::collections::BTreeMap;

use crate::model::{NodeId, Queue};

use super::on_demand::{MAX_KEPT_LINKS, MAX_PENDING_LINKS};
use super::suspicions::{MAX_INQUIRERS, MAX_INQUIRIES};
use super::{Membership, Path};

/// Deadlines that one node can have at a time, and those that belong to no node: as many as there
/// are such reasons.
const DEADLINES: (usize, usize) = (8, 6);

impl Membership {
    /// Each growing collection with its bound.
    pub fn queues(&self) -> Vec<Queue> {
        let (members, config) = (self.members.len(), &self.config);
        let has_reason = |(node, path): (&NodeId, &Path)| {
            path.link.is_some() || path.dialling.is_some() || self.members.contains_key(node)
        };
        let most_asked = self.inquiries.values().map(BTreeMap::len).max().unwrap_or_default();
        vec![
            Queue::new("dials", self.dialling.len(), config.dialing.max),
            Queue::new("random contacts", self.random_contacts.len(), config.links.random),
            Queue::new("links on demand", self.on_demand.len(), MAX_KEPT_LINKS + MAX_PENDING_LINKS),
            Queue::new("suspicions", self.suspicions.len(), members),
            Queue::new("nodes asked about", self.inquiries.len(), MAX_INQUIRIES),
            Queue::new("nodes that ask about one", most_asked, MAX_INQUIRERS),
            Queue::new("nodes watched", self.watched.len(), members),
            Queue::new(
                "paths to strangers",
                self.paths.iter().filter(|path| !has_reason(*path)).count(),
                0,
            ),
            Queue::new(
                "deadlines of membership",
                self.timers.len(),
                (members + self.paths.len()) * DEADLINES.0 + DEADLINES.1,
            ),
        ]
    }
}
