//! The ring of owners: multi-probe consistent hashing (Appleton and O'Reilly, 2015).
//!
//! A node has one point on a circle of 2^64. A key has [`PROBES`] points, and a node's distance to
//! a key is the least clockwise way from any of them to the node's point. The nearest node owns the
//! key; the `k` nearest guard it.
//!
//! **A node's distance to a key depends on these two alone.** All else follows: a new node takes
//! keys from others and moves none between them, the next guardian inherits the keys of a node that
//! leaves, and nodes that know the same members rank them alike. 21 probes keep the busiest of many
//! nodes within some 10 % of the average, with one point a node instead of hundreds.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::model::{Digest, NodeId};

/// Points of a key. More would balance better and look up slower; the paper's curve flattens at 21.
pub const PROBES: usize = 21;

/// Never change a domain: that moves every key in every cluster.
const POINT_DOMAIN: &[u8] = b"shoal/ring/point/1";
const PROBE_DOMAIN: &[u8] = b"shoal/ring/probe/1";

/// The points of a key, computed once; clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes(Arc<[u64; PROBES]>);

impl Probes {
    /// The points of `key`: each hash gives four.
    pub fn of(key: &Digest) -> Probes {
        let mut probes = [0; PROBES];
        for (round, four) in (0u8..).zip(probes.chunks_mut(4)) {
            let hash = Digest::of_parts(&[PROBE_DOMAIN, key.as_bytes(), &[round]]);
            for (probe, bytes) in four.iter_mut().zip(hash.0.chunks_exact(8)) {
                *probe = first_u64(bytes);
            }
        }
        Probes(Arc::new(probes))
    }

    /// The distance of the key to a node at this point.
    pub fn distance(&self, point: u64) -> u64 {
        self.0.iter().map(|probe| point.wrapping_sub(*probe)).min().unwrap_or(u64::MAX)
    }
}

/// The ring. Bounded by the roster, whose members are its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    salts: OrdMap<NodeId, u64>,
    /// Sorted; the node id breaks ties.
    points: OrdSet<(u64, NodeId)>,
}

impl Ring {
    /// The ring of these nodes. A salt is drawn at random when its node is admitted.
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, u64)>) -> Ring {
        let salts: OrdMap<NodeId, u64> = nodes.into_iter().collect();
        let points = salts.iter().map(|(node, salt)| (point(node, *salt), *node)).collect();
        Ring { salts, points }
    }

    /// Adds a node, or moves it to the point of another salt. True if that changed anything.
    pub fn insert(&mut self, node: NodeId, salt: u64) -> bool {
        if self.salts.get(&node) == Some(&salt) {
            return false;
        }
        self.remove(&node);
        self.salts.insert(node, salt);
        self.points.insert((point(&node, salt), node));
        true
    }

    /// Removes a node. True if it was there.
    pub fn remove(&mut self, node: &NodeId) -> bool {
        let Some(salt) = self.salts.get(node).copied() else { return false };
        self.salts.remove(node);
        self.points.remove(&(point(node, salt), *node));
        true
    }

    /// The salt of a node that is on the ring.
    pub fn salt(&self, node: &NodeId) -> Option<u64> {
        self.salts.get(node).copied()
    }

    /// Whether the node is on the ring.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.salts.contains_key(node)
    }

    /// Number of nodes on the ring.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether no node is on the ring.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The nodes and their salts, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, u64)> {
        self.salts.iter().map(|(node, salt)| (node, *salt))
    }

    /// The nearest node; none if the ring is empty.
    pub fn owner(&self, key: &Probes) -> Option<NodeId> {
        let first = |probe: &u64| {
            self.clockwise(*probe).next().map(|(point, node)| (point.wrapping_sub(*probe), node))
        };
        key.0.iter().filter_map(first).min().map(|(_, node)| node)
    }

    /// The `k` nearest nodes, the owner first; if there are fewer, all of them, ranked.
    pub fn guardians(&self, key: &Probes, k: usize) -> Vec<NodeId> {
        // Each node between one of the k nearest and that node's best probe is nearer still, so
        // there are fewer than k of those: the first k nodes after every probe are enough.
        let mut nearest: BTreeMap<NodeId, u64> = BTreeMap::new();
        for &probe in key.0.iter() {
            for (point, node) in self.clockwise(probe).take(k) {
                let distance = point.wrapping_sub(probe);
                nearest
                    .entry(node)
                    .and_modify(|least| *least = distance.min(*least))
                    .or_insert(distance);
            }
        }
        let mut ranked: Vec<(u64, NodeId)> =
            nearest.into_iter().map(|(node, distance)| (distance, node)).collect();
        ranked.sort_unstable();
        ranked.into_iter().take(k).map(|(_, node)| node).collect()
    }

    /// All nodes once around, from `start`.
    fn clockwise(&self, start: u64) -> impl Iterator<Item = (u64, NodeId)> + '_ {
        let at = (start, NodeId([0; 32]));
        self.points.range(at..).chain(self.points.range(..at)).copied()
    }
}

/// The point of a node with this salt.
pub fn point(node: &NodeId, salt: u64) -> u64 {
    first_u64(&Digest::of_parts(&[POINT_DOMAIN, node.as_bytes(), &salt.to_be_bytes()]).0)
}

fn first_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().expect("a hash has at least eight bytes"))
}

#[cfg(test)]
mod tests;
