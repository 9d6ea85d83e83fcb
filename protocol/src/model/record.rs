//! What a node says of itself.

use serde::{Deserialize, Serialize};

use super::sign::Signable;
use super::spec::Facts;

/// Addresses in one record.
pub const MAX_ADDRESSES: usize = 16;

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
    /// Its digests agreed with those it can reach: it may own workloads, so it has a place on the ring.
    pub ready: bool,
    /// It has said goodbye and wants no work.
    pub leaving: bool,
}

impl Signable for NodeRecord {
    const DOMAIN: &'static str = "shoal/node/1";
}
