//! The two steps of a change, as types: an embedding program passes them as they are, the HTTP API
//! as JSON (see [`form`](super::form)).

use shoal_protocol::model::{ClusterId, Digest, Spec, WorkloadName};
use shoal_protocol::node::{Draft, Version};

/// A change that its author wants to make, not yet signed.
#[derive(Clone, PartialEq, Debug)]
pub struct Proposal {
    /// The workload to create, change or remove.
    pub name: WorkloadName,
    /// The wanted spec, with the same name; `None` to remove the workload.
    pub spec: Option<Spec>,
    /// Accept a spec that no known node can run now, and the removal of a workload that only nodes
    /// that cannot be asked may know.
    pub force: bool,
}

/// The answer to a [`Proposal`]: the node would take the change now.
#[derive(Clone, PartialEq, Debug)]
pub struct Prepared {
    /// The parts of the change that the author takes from the cluster's state.
    pub draft: Draft,
    /// The current spec; `None` when there is none.
    pub current: Option<Spec>,
    /// When the spec equals the current one: nodes that may hold another one. If there are none,
    /// nothing need be written. Otherwise write it all the same, or a change that those nodes bring
    /// back may replace it.
    pub unheard: Vec<String>,
    /// Whether the current spec has proven good: an update that fails goes back to such a one.
    pub is_good: bool,
    /// Parts of the requested spec that are mostly a slip, in words.
    pub warnings: Vec<String>,
    /// The versions that the change would supersede, the one that counts first.
    pub versions: Vec<Version>,
    /// The cluster that the signature is for.
    pub cluster: ClusterId,
}

/// The answer to a signed change: it is on the node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The workload's identity, new for each creation.
    pub uid: Digest,
    /// The hash of the signed change.
    pub change: Digest,
}
