//! The cluster as far as it decides which places a workload has.

use std::collections::BTreeMap;

use imbl::OrdMap;

use super::id::{Digest, NodeId};
use super::ruling::Ruling;

/// State that all nodes agree on once they are in step: the members, what operators decided about
/// nodes, and what owners decided about one workload. It holds nothing of the moment, such as who
/// is up: two nodes with the same view compute the same places.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The roster: every admitted node with the salt of its point on the ring.
    pub members: &'a OrdMap<NodeId, u64>,
    /// The policies of operators; a node without an entry has the default policy.
    pub policies: &'a BTreeMap<NodeId, NodePolicy>,
    /// The rulings about the workload, by key.
    pub rulings: &'a [&'a Ruling],
    /// The versions of the secrets and configs that the workload uses; `None` if it uses none.
    pub versions: Option<Digest>,
}

/// The policy of an operator for a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePolicy {
    /// The node takes no further replicas; what it runs stays.
    pub cordoned: bool,
}
