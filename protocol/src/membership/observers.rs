//! The circle of node points that decides which members watch one another.

use imbl::OrdSet;

use crate::model::{Digest, NodeId};

/// Other points than on the ring of owners: a node that owns much must not also watch much.
const POINT_DOMAIN: &[u8] = b"shoal/observers/point/1";
const SHORTCUT_DOMAIN: &[u8] = b"shoal/observers/shortcut/2";

/// Members passed in search of live ones, each way. Members behind more dead neighbours than this
/// in a row are left to others.
pub(super) const MAX_WALK: usize = 64;

/// All members by point, those that are down included. Bounded by the roster.
#[derive(Clone, Debug, Default)]
pub(super) struct Circle {
    points: OrdSet<(u64, NodeId)>,
}

impl Circle {
    pub fn insert(&mut self, node: NodeId, salt: u64) {
        self.points.insert((point(&node, salt), node));
    }

    pub fn remove(&mut self, node: NodeId, salt: u64) {
        self.points.remove(&(point(&node, salt), node));
    }

    /// All others clockwise, the next first.
    pub fn after(&self, node: NodeId, salt: u64) -> impl Iterator<Item = NodeId> + '_ {
        let at = (point(&node, salt), node);
        let next = (std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded);
        self.points.range(next).chain(self.points.range(..at)).map(|(_, node)| *node)
    }

    /// All others counterclockwise, the one before first.
    pub fn before(&self, node: NodeId, salt: u64) -> impl Iterator<Item = NodeId> + '_ {
        let at = (point(&node, salt), node);
        let rest = (std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded);
        self.points.range(..at).rev().chain(self.points.range(rest).rev()).map(|(_, node)| *node)
    }

    /// After each of the points the first member that is `fit`; of these the one nearest to its
    /// point. The choice is stable, so that links are not made and closed again.
    pub fn nearest(
        &self,
        points: &ShortcutPoints,
        fit: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let after = |from: u64| {
            let at = (from, NodeId([0; 32]));
            let (point, node) = self
                .points
                .range(at..)
                .chain(self.points.range(..at))
                .take(MAX_WALK)
                .find(|(_, it)| fit(it))?;
            Some((point.wrapping_sub(from), *node))
        };
        points.iter().filter_map(|from| after(*from)).min().map(|(_, node)| node)
    }
}

/// The random points to which a shortcut may lead. With a single point, a member with a long empty
/// stretch before it would be chosen by a dozen times as many nodes as the average: more than it
/// can bear, so that links would be made and closed without end.
pub(super) type ShortcutPoints = [u64; 8];

/// The points of this node's `n`th shortcut.
pub(super) fn shortcut_points(node: &NodeId, n: u64) -> ShortcutPoints {
    let mut points = [0; 8];
    for (half, four) in (0u8..).zip(points.chunks_mut(4)) {
        let hash = Digest::of_parts(&[SHORTCUT_DOMAIN, node.as_bytes(), &n.to_be_bytes(), &[half]]);
        for (point, bytes) in four.iter_mut().zip(hash.0.chunks_exact(8)) {
            *point = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        }
    }
    points
}

fn point(node: &NodeId, salt: u64) -> u64 {
    first_u64(&Digest::of_parts(&[POINT_DOMAIN, node.as_bytes(), &salt.to_be_bytes()]))
}

/// A hash of a member and its incarnation; the xor of those of all members that are down is the
/// fingerprint of a view.
pub(super) fn fingerprint(node: &NodeId, incarnation: u64) -> u32 {
    let digest = Digest::of_parts(&[b"shoal/down/1", node.as_bytes(), &incarnation.to_be_bytes()]);
    u32::from_be_bytes([digest.0[0], digest.0[1], digest.0[2], digest.0[3]])
}

fn first_u64(digest: &Digest) -> u64 {
    u64::from_be_bytes(digest.0[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Of 3,000 nodes one was chosen as a shortcut by so many that it could not hold all the links.
    /// It closed those that it did not need; their other ends dialled again and suspected it
    /// meanwhile, and some called it down.
    #[test]
    fn shortcuts_spread_evenly_over_nodes() {
        let node = |n: u64| NodeId(Digest::of(&n.to_be_bytes()).0);
        let mut circle = Circle::default();
        (0..3_000).for_each(|n| circle.insert(node(n), n));
        let mut drawn: BTreeMap<NodeId, u32> = BTreeMap::new();
        for (me, n) in (0..3_000).flat_map(|me| (0..4).map(move |n| (node(me), n))) {
            let found = circle.nearest(&shortcut_points(&me, n), |other| *other != me).unwrap();
            *drawn.entry(found).or_default() += 1;
        }
        let most = drawn.values().max().unwrap();
        assert!(*most < 20, "{most}, and four on average");
    }
}
