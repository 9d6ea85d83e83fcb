//! The tables that ingress and the network read.

use crate::model::{Digest, NodeId, ReplicaId, WorkloadName};

/// A replica that requests for its workload can go to.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The replica that answers.
    pub replica: ReplicaId,
    /// The generation that answers; during a replacement it may be the old one.
    pub generation: Digest,
    /// The node that runs the replica.
    pub node: NodeId,
    /// True if that is this node.
    pub local: bool,
    /// True if this node has a link to `node`, or may dial it. Otherwise requests need a relay at
    /// best, and should go elsewhere first.
    pub direct: bool,
}

/// The ways to reach a node, for a driver that opens streams to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reachability {
    /// Addresses to dial, as multiaddrs, the best first.
    pub addresses: Vec<String>,
    /// The reason why a dial is of no use now, for people. `None` if the node may be dialled.
    pub unreachable: Option<String>,
    /// Members that can relay to the node, the best first, at most four.
    pub hops: Vec<NodeId>,
}

/// The routing table of ingress: for each workload its healthy replicas on nodes that are up. A
/// workload without any has no entry or an empty one. A persistent map: a copy costs nothing.
pub type Routes = imbl::OrdMap<WorkloadName, std::sync::Arc<[Route]>>;
