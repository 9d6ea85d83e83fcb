//! The messages between nodes. Variants are only ever appended: their numbers are on the wire.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId, NodeRecord, RawChange, Ruling, Slot, Unverified};
use crate::{auction, claims, membership, sync};

use super::relay::Sealed;

/// Changes in one message: the admissions of a joining node and of 16 earlier members, each with
/// few concurrent versions.
pub const MAX_CHANGES: usize = 64;

/// A message between two nodes, or to all by gossip.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Failure detection; also by gossip.
    Membership(membership::Message),
    /// Comparison of state.
    Repair(sync::Message),
    /// Disputes between two holders of a replica.
    Claims(claims::Message),
    /// Announcements, bids, awards.
    Auction(auction::Message),
    /// A change of desired state; by gossip.
    Changed {
        /// The signed change.
        change: RawChange,
        /// A node that holds the artifact that the change names.
        holder: Option<NodeId>,
    },
    /// A slot of a claim sheet was issued; by gossip.
    Slot(Unverified<Slot>),
    /// An owner issued a ruling; by gossip.
    Ruled(Unverified<Ruling>),
    /// A node holds an artifact, ready to start; by gossip, or as the answer to `AskHolder`. A
    /// hint: fetched bytes are verified.
    Have {
        /// The holder, which need not be the sender.
        node: NodeId,
        /// The artifact's digest.
        digest: Digest,
    },
    /// The sender asks to be admitted. Its link shows that it knows the join key.
    Join {
        /// The sender's own record.
        record: Unverified<NodeRecord>,
    },
    /// The receiver is admitted: its own admission, then those of some earlier members.
    Admitted {
        /// At most [`MAX_CHANGES`] changes.
        changes: Vec<RawChange>,
    },
    /// Asks whether the receiver holds an artifact, ready to start. Answered by `Have`, or not at
    /// all.
    AskHolder {
        /// The artifact's digest.
        digest: Digest,
    },
    /// Asks whether the receiver holds the same changes of a key of desired state, and the same
    /// roster. Answered by `SameKey`.
    AskKey {
        /// The asker's number of the question.
        question: u64,
        /// The key's hash.
        key: Digest,
        /// The hash of the asker's changes of the key and of its roster.
        holds: Digest,
    },
    /// The answer to `AskKey`.
    SameKey {
        /// The number of the question.
        question: u64,
        /// True if the hashes are equal, and no change of the key is on its way to disk.
        same: bool,
    },
    /// A message to a member that its author cannot dial: on its way to the member that carries it,
    /// or from that one to the addressee.
    Carry(Unverified<Sealed>),
}

impl Message {
    /// Kinds that this program knows: the variants are numbered from 0.
    pub const KINDS: u32 = 14;

    /// The name of the variant in counters and traces.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Membership(_) => "membership",
            Message::Repair(_) => "repair",
            Message::Claims(_) => "claims",
            Message::Auction(_) => "auction",
            Message::Changed { .. } => "changed",
            Message::Slot(_) => "slot",
            Message::Ruled(_) => "ruled",
            Message::Have { .. } => "have",
            Message::Join { .. } => "join",
            Message::Admitted { .. } => "admitted",
            Message::AskHolder { .. } => "ask-holder",
            Message::AskKey { .. } => "ask-key",
            Message::SameKey { .. } => "same-key",
            Message::Carry(_) => "carry",
        }
    }
}
