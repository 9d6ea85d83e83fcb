//! The paths to peers on which full-sized packets are lost. Plain bookkeeping.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::model::NodeId;

/// Paths remembered. A node talks to some tens of others; beyond, the oldest trouble is forgotten
/// and found anew.
const MAX_PATHS: usize = 1024;
/// How long only small segments are tried on a path that lost full ones. Then the path may have
/// been mended, and one transfer finds out.
pub(super) const SMALL_FOR: Duration = Duration::from_secs(600);

/// A direction, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// From here to the peer.
    Out,
    /// From the peer to here.
    In,
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    troubled: BTreeMap<NodeId, BTreeMap<Way, Instant>>,
}

impl Paths {
    /// Transfers stalled on this way; whether the path was thought good until now.
    pub(super) fn stalled(&mut self, node: NodeId, way: Way, now: Instant) -> bool {
        let is_news = !self.troubled.contains_key(&node);
        if is_news
            && self.troubled.len() >= MAX_PATHS
            && let Some(oldest) = self
                .troubled
                .iter()
                .min_by_key(|(_, ways)| ways.values().max())
                .map(|(node, _)| *node)
        {
            self.troubled.remove(&oldest);
        }
        self.troubled.entry(node).or_default().insert(way, now);
        is_news
    }

    /// Full-sized packets arrived on this way; whether all is well with the path now and was not
    /// before.
    pub(super) fn passed(&mut self, node: NodeId, way: Way) -> bool {
        let Some(ways) = self.troubled.get_mut(&node) else { return false };
        ways.remove(&way);
        let is_mended = ways.is_empty();
        if is_mended {
            self.troubled.remove(&node);
        }
        is_mended
    }

    /// Whether the next connection to this peer uses small segments.
    pub(super) fn is_small(&self, node: &NodeId, now: Instant) -> bool {
        let latest = self.troubled.get(node).and_then(|ways| ways.values().max());
        latest.is_some_and(|at| now.saturating_duration_since(*at) < SMALL_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn a_stalled_path_is_small_for_a_while_then_tried_again() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        assert!(!paths.is_small(&NODE, now));
        assert!(paths.stalled(NODE, Way::Out, now));
        assert!(!paths.stalled(NODE, Way::Out, now + Duration::from_secs(1)), "it is known");
        assert!(paths.is_small(&NODE, now + SMALL_FOR));
        assert!(!paths.is_small(&NODE, now + SMALL_FOR + Duration::from_secs(1)));
    }

    #[test]
    fn a_path_is_mended_once_both_ways_carry_full_packets() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        assert!(!paths.passed(NODE, Way::Out), "nothing was wrong");
        paths.stalled(NODE, Way::Out, now);
        paths.stalled(NODE, Way::In, now);
        assert!(!paths.passed(NODE, Way::In));
        assert!(paths.is_small(&NODE, now));
        assert!(paths.passed(NODE, Way::Out));
        assert!(!paths.is_small(&NODE, now));
    }

    #[test]
    fn the_oldest_trouble_is_forgotten_beyond_the_bound() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        for number in 0..=MAX_PATHS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            paths.stalled(NodeId(id), Way::Out, now + Duration::from_millis(number));
        }
        assert_eq!(paths.troubled.len(), MAX_PATHS);
        assert!(!paths.troubled.contains_key(&NodeId([0; 32])));
    }
}
