//! The paths to peers that lose full-sized packets. Plain bookkeeping.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::model::NodeId;

/// Remembered paths. A node talks to some tens of others; beyond, the oldest entry is forgotten,
/// and found again if need be.
const MAX_PATHS: usize = 1024;
/// How long only small segments are used on a path that lost full-sized packets. Then the path may
/// be repaired, and one transfer tries it.
pub(super) const SMALL_FOR: Duration = Duration::from_secs(600);

/// A direction, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Direction {
    /// From here to the peer.
    Out,
    /// From the peer to here.
    In,
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    lossy: BTreeMap<NodeId, BTreeMap<Direction, Instant>>,
}

impl Paths {
    /// Notes a stall in this direction. True if the path counted as good until now.
    pub(super) fn note_loss(&mut self, node: NodeId, direction: Direction, now: Instant) -> bool {
        let is_news = !self.lossy.contains_key(&node);
        if is_news
            && self.lossy.len() >= MAX_PATHS
            && let Some(oldest) = self
                .lossy
                .iter()
                .min_by_key(|(_, directions)| directions.values().max())
                .map(|(node, _)| *node)
        {
            self.lossy.remove(&oldest);
        }
        self.lossy.entry(node).or_default().insert(direction, now);
        is_news
    }

    /// Notes full-sized packets that arrived in this direction. True if the path was lossy and is
    /// good now.
    pub(super) fn note_passed(&mut self, node: NodeId, direction: Direction) -> bool {
        let Some(directions) = self.lossy.get_mut(&node) else { return false };
        directions.remove(&direction);
        let is_mended = directions.is_empty();
        if is_mended {
            self.lossy.remove(&node);
        }
        is_mended
    }

    /// Whether the next connection to this peer uses small segments.
    pub(super) fn is_small(&self, node: &NodeId, now: Instant) -> bool {
        let latest = self.lossy.get(node).and_then(|directions| directions.values().max());
        latest.is_some_and(|at| now.saturating_duration_since(*at) < SMALL_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    /// After a stall small segments are used, until the path is tried again.
    #[test]
    fn lossy_path_uses_small_segments_for_a_while() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        assert!(!paths.is_small(&NODE, now));
        assert!(paths.note_loss(NODE, Direction::Out, now));
        assert!(
            !paths.note_loss(NODE, Direction::Out, now + Duration::from_secs(1)),
            "it is known"
        );
        assert!(paths.is_small(&NODE, now + SMALL_FOR));
        assert!(!paths.is_small(&NODE, now + SMALL_FOR + Duration::from_secs(1)));
    }

    /// Both directions stalled. One that works again is not enough.
    #[test]
    fn path_is_good_once_both_directions_carry_full_packets() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        assert!(!paths.note_passed(NODE, Direction::Out), "nothing was wrong");
        paths.note_loss(NODE, Direction::Out, now);
        paths.note_loss(NODE, Direction::In, now);
        assert!(!paths.note_passed(NODE, Direction::In));
        assert!(paths.is_small(&NODE, now));
        assert!(paths.note_passed(NODE, Direction::Out));
        assert!(!paths.is_small(&NODE, now));
    }

    /// Memory for lossy paths is bounded.
    #[test]
    fn oldest_lossy_path_is_forgotten_beyond_the_bound() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        for number in 0..=MAX_PATHS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            paths.note_loss(NodeId(id), Direction::Out, now + Duration::from_millis(number));
        }
        assert_eq!(paths.lossy.len(), MAX_PATHS);
        assert!(!paths.lossy.contains_key(&NodeId([0; 32])));
    }
}
