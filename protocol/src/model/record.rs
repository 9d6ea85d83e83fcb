//! What a node says of itself.

use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::sign::Signable;
use super::spec::Facts;

/// Addresses in one record.
pub const MAX_ADDRESSES: usize = 16;
/// Members without a way in one record: 32 bytes each, in a record that everybody keeps. A node
/// with more of them is as good as cut off.
pub const MAX_NO_WAY: usize = 16;

/// A node's word about itself; the signer is the node. The greater `(counter, hash)` counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Grows with each issue.
    pub counter: u64,
    /// Grows with each start of the daemon, and when others held it dead.
    pub incarnation: u64,
    /// What people call the device.
    pub name: String,
    /// Where it can be dialled, as multiaddrs.
    pub addresses: Vec<String>,
    /// Its static facts.
    pub facts: Facts,
    /// The version of its program.
    pub version: String,
    /// Its digests agreed with those it can reach: it may own workloads, so it has a place on the
    /// ring.
    pub ready: bool,
    /// It has said goodbye and wants no work.
    pub leaving: bool,
    /// Members that are up and that it could not dial for a while, nor they it; by id, at most
    /// [`MAX_NO_WAY`].
    pub no_way_to: Vec<NodeId>,
}

impl Signable for NodeRecord {
    const DOMAIN: &'static str = "shoal/node/1";
}
