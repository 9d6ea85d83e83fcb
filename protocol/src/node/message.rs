//! The messages between nodes. Variants are only ever appended: their numbers are on the wire.

use serde::{Deserialize, Serialize};

use crate::model::{
    Chain, Digest, Load, NodeId, NodeRecord, RawChange, ReplicaId, Ruling, Slot, Unverified,
};
use crate::{auction, claims, membership, sync};

use super::relay::Sealed;

/// Changes in one message: the admissions of a joining node and of 16 earlier members, each with
/// few concurrent versions.
pub const MAX_CHANGES: usize = 64;

/// Admissions in a greeting: a device that was let in by one that was let in, and so on. Further
/// ones are learned by comparison.
pub const MAX_LINEAGE: usize = 8;

/// Loads in one message.
pub const MAX_LOADS: usize = 256;

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
    /// The sender asks to be admitted.
    Join {
        /// The sender's own record.
        record: Unverified<NodeRecord>,
        /// The invite's grants, and its ticket for the receiver to admit the sender.
        chain: Chain,
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
    /// The first word of a member over a new link: who it is, and which revocations it knows.
    Greet {
        /// Its admission, and those of the members that lead from it to an operator; at most
        /// [`MAX_LINEAGE`].
        lineage: Vec<RawChange>,
        /// The hash of all revocations that it holds.
        revocations: Digest,
    },
    /// Revocations, before anything else is exchanged between nodes that know different ones.
    Revocations {
        /// At most [`MAX_CHANGES`] at a time.
        changes: Vec<RawChange>,
        /// Whether more of them follow.
        more: bool,
        /// Whether the receiver answers with its own.
        answer: bool,
    },
    /// The receiver does not belong to the cluster, or no longer; the link is closed.
    NotAdmitted {
        /// The reason, for people.
        why: String,
        /// The revocation that shows it, if it is that.
        changes: Vec<RawChange>,
    },
    /// The loads of replicas of the sender, whose workloads the receiver owns.
    Loads {
        /// At most [`MAX_LOADS`].
        loads: Vec<(ReplicaId, Load)>,
    },
    /// The sender has a request for a workload of the receiver that has no replica until one comes.
    Wake {
        /// The workload.
        uid: Digest,
    },
}

impl Message {
    /// Kinds that this program knows: the variants are numbered from 0.
    pub const KINDS: u32 = 19;

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
            Message::Greet { .. } => "greet",
            Message::Revocations { .. } => "revocations",
            Message::NotAdmitted { .. } => "not-admitted",
            Message::Loads { .. } => "loads",
            Message::Wake { .. } => "wake",
        }
    }

    /// Whether it may be said over a link whose other end has not shown yet that it belongs to the
    /// cluster.
    pub fn is_greeting(&self) -> bool {
        matches!(
            self,
            Message::Join { .. }
                | Message::Admitted { .. }
                | Message::Greet { .. }
                | Message::Revocations { .. }
                | Message::NotAdmitted { .. }
        )
    }
}
