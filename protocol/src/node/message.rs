//! Everything that peers say to one another. Variants are only ever appended: their numbers are on
//! the wire.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId, NodeRecord, RawChange, Ruling, Slot, Unverified};
use crate::{auction, claims, membership, sync};

use super::relay::Sealed;

/// Changes in one message. A key has few siblings, and a joiner is handed its own admission only.
pub const MAX_CHANGES: usize = 64;

/// What peers say to one another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Who is alive.
    Membership(membership::Message),
    /// What differs.
    Repair(sync::Message),
    /// Who keeps a replica that two hold.
    Claims(claims::Message),
    /// Who takes a replica.
    Auction(auction::Message),
    /// Desired state was written; by gossip.
    Changed {
        /// The change.
        change: RawChange,
        /// A node that holds the artifact it names.
        holder: Option<NodeId>,
    },
    /// A slot of a sheet was issued; by gossip.
    Slot(Unverified<Slot>),
    /// An owner ruled; by gossip.
    Ruled(Unverified<Ruling>),
    /// A node holds an artifact and can start it; by gossip. A hint: what it leads to is verified.
    Have {
        /// Who.
        node: NodeId,
        /// What.
        digest: Digest,
    },
    /// Admit me: I hold the join key, or we could not talk.
    Join {
        /// What the joiner says of itself.
        record: Unverified<NodeRecord>,
    },
    /// You are admitted: the joiner's own admission, then those of some that were there before.
    Admitted {
        /// At most [`MAX_CHANGES`].
        changes: Vec<RawChange>,
    },
    /// Do you hold this artifact, ready to start? Answered by `Have`, or not.
    AskHolder {
        /// What.
        digest: Digest,
    },
    /// Do you hold the same of this key of desired state, and the same roster? Answered by
    /// `SameKey`.
    AskKey {
        /// The asker's number for it.
        question: u64,
        /// The key's hash.
        key: Digest,
        /// The hash of what the asker holds of both.
        holds: Digest,
    },
    /// The answer to `AskKey`.
    SameKey {
        /// The question's number.
        question: u64,
        /// Whether it is the same, and nothing else is being written.
        same: bool,
    },
    /// For a member that its author cannot dial: to be carried on by one that reaches both, or
    /// arrived.
    Carry(Unverified<Sealed>),
}

impl Message {
    /// A word for counters and traces.
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
