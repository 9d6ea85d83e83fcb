//! The circle of node points that says who watches whom.

use imbl::OrdSet;

use crate::model::{Digest, NodeId};

/// Apart from the ring of owners: whoever owns much must not also watch much.
const POINT_DOMAIN: &[u8] = b"shoal/observers/point/1";
const SHORTCUT_DOMAIN: &[u8] = b"shoal/observers/shortcut/1";

/// All members by point, dead ones included. Bounded by the roster.
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

    /// All others once around, the next first.
    pub fn after(&self, node: NodeId, salt: u64) -> impl Iterator<Item = NodeId> + '_ {
        let at = (point(&node, salt), node);
        let next = (std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded);
        self.points.range(next).chain(self.points.range(..at)).map(|(_, node)| *node)
    }

    /// All others once around, the one before first.
    pub fn before(&self, node: NodeId, salt: u64) -> impl Iterator<Item = NodeId> + '_ {
        let at = (point(&node, salt), node);
        let rest = (std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded);
        self.points.range(..at).rev().chain(self.points.range(rest).rev()).map(|(_, node)| *node)
    }

    /// Where this node's `n`th shortcut begins: members from there on. Steady, so that links are not made and unmade.
    pub fn shortcut(&self, node: &NodeId, n: u64) -> impl Iterator<Item = NodeId> + '_ {
        let start = first_u64(&Digest::of_parts(&[SHORTCUT_DOMAIN, node.as_bytes(), &n.to_be_bytes()]));
        let at = (start, NodeId([0; 32]));
        self.points.range(at..).chain(self.points.range(..at)).map(|(_, node)| *node)
    }
}

fn point(node: &NodeId, salt: u64) -> u64 {
    first_u64(&Digest::of_parts(&[POINT_DOMAIN, node.as_bytes(), &salt.to_be_bytes()]))
}

/// A number for a member in a life: xor of these is the fingerprint of who is down.
pub(super) fn fingerprint(node: &NodeId, incarnation: u64) -> u32 {
    let digest = Digest::of_parts(&[b"shoal/down/1", node.as_bytes(), &incarnation.to_be_bytes()]);
    u32::from_be_bytes([digest.0[0], digest.0[1], digest.0[2], digest.0[3]])
}

fn first_u64(digest: &Digest) -> u64 {
    u64::from_be_bytes(digest.0[..8].try_into().expect("a digest has 32 bytes"))
}
