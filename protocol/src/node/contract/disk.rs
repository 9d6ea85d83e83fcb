//! The records on disk.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId, NodeRecord, RawChange, Revision, Ruling, Slot, Unverified};

/// A row on disk. A row replaces the one with the same key.
#[derive(Clone, Debug)]
pub enum Record {
    /// This node's incarnation. It is on disk before the node uses it. A single row.
    Incarnation(u64),
    /// All concurrent changes of one key of desired state. The row's key is the hash.
    Desired {
        /// The hash of the key.
        key: Digest,
        /// The changes, tombstones included. Empty: delete the row.
        changes: Vec<RawChange>,
    },
    /// A slot of a claim sheet, of this node or of another. The row's key is the node and the
    /// slot's number.
    Slot {
        /// The node that issued the slot.
        node: NodeId,
        /// The slot as its issuer signed it.
        slot: Unverified<Slot>,
    },
    /// The record of a node. The row's key is the node.
    Node {
        /// The node that the record describes, and that signed it.
        node: NodeId,
        /// The record as the node signed it.
        record: Unverified<NodeRecord>,
    },
    /// A ruling. The row's key is the hash.
    Ruling {
        /// The hash of the ruling's key.
        key: Digest,
        /// The ruling as its owner signed it.
        ruling: Unverified<Ruling>,
    },
    /// Delete the row of a ruling.
    NoRuling {
        /// The hash of the ruling's key.
        key: Digest,
    },
    /// A version that this node serves and that is wished for no more. The row's key is the
    /// workload and the version.
    OldVersion {
        /// The workload.
        uid: Digest,
        /// The version.
        generation: Revision,
        /// The version. `None`: delete the row.
        version: Option<OldVersion>,
    },
}

/// The spec of a version that is wished for no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OldVersion {
    /// The change that wished for it, as its author signed it.
    pub change: RawChange,
    /// It is the version that the change names as the one to go back to.
    pub is_previous: bool,
}

/// The state on disk at start; empty for a fresh node. No list needs an order, but changes in the
/// order of their keys take less memory.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The incarnation of this run. The driver draws it, one above the last one on disk, and writes
    /// it to disk before it starts the node: no incarnation is used twice, not even after a crash.
    pub incarnation: u64,
    /// All changes of desired state.
    pub changes: Vec<RawChange>,
    /// Claim slots of this node and of others, each with its issuer.
    pub slots: Vec<(NodeId, Unverified<Slot>)>,
    /// The records of this node and of others.
    pub nodes: Vec<Unverified<NodeRecord>>,
    /// All rulings that were not deleted.
    pub rulings: Vec<Unverified<Ruling>>,
    /// Versions that this node served and that were wished for no more, each with its workload.
    pub old_versions: Vec<(Digest, Revision, OldVersion)>,
}
