//! The values of desired state beside workloads and members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::codec::Bytes;
use crate::model::id::NodeId;

/// The end of a key's rights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoked {
    /// The last serial of the key that is honoured: statements of a greater one do not count.
    pub last: u64,
    /// Nothing that the key ever stated counts, and no grant that it gave.
    pub withdraw: bool,
    /// The reason, for people.
    pub why: String,
}

/// A secret as it travels: the value under a key of its own, and that key sealed to nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Secret {
    /// The value, encrypted with the secret's key.
    pub sealed: Bytes,
    /// The secret's key, encrypted to the sealing key of each of these nodes.
    pub keys: BTreeMap<NodeId, Bytes>,
    /// Nodes with the key do not pass it on to others, even if they may run the workload.
    pub holders_only: bool,
}

/// How much the workloads of a namespace may reserve together. `None`: no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Thousandths of a core.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Replicas of all its workloads.
    pub replicas: Option<u64>,
}
