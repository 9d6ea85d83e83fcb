//! The messages between the holders of one replica, and the facts for the node.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId, ReplicaId, Token};

use super::keeper::KeptBecause;

/// A message between two holders of one replica. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a holder that would yield: asks whether the keeper runs the replica now.
    AskKeeper {
        /// The replica.
        replica: ReplicaId,
        /// The asker's token, which the keeper adopts when it is greater.
        token: Token,
        /// Returned in the answer: an answer to an older question does not count.
        question: u64,
    },
    /// The answer of the keeper; or, unasked, of a holder that does not yield, because it ran the
    /// replica all the time.
    Keeping {
        /// The replica.
        replica: ReplicaId,
        /// The number of the question; `u64::MAX` where it was not asked.
        question: u64,
        /// The revision that the keeper runs.
        generation: Digest,
        /// The replica runs and answers as far as this holder sees now, and it does not yield
        /// itself.
        healthy: bool,
    },
}

/// A fact for the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Another holder of the replica is kept, and healthy now: release the claim, then stop.
    Yield {
        /// The replica.
        replica: ReplicaId,
        /// The kept holder.
        to: NodeId,
        /// The reason why that one is kept.
        because: KeptBecause,
    },
    /// This node is kept and continues under a greater token, without a restart: call `adopt`,
    /// persist the slot, send it.
    Adopt {
        /// The replica.
        replica: ReplicaId,
        /// The greater token.
        token: Token,
    },
    /// The replica has several holders that are up, this node among them. Reported once per
    /// dispute.
    Duplicate {
        /// The replica.
        replica: ReplicaId,
        /// The holder that is to be kept.
        keeper: NodeId,
        /// The reason why that one is kept.
        because: KeptBecause,
    },
    /// Another node claims a replica that this node runs well, and nobody who knew could have
    /// awarded it: this node does not yield to it.
    Doubted {
        /// The replica.
        replica: ReplicaId,
        /// The node that claims it.
        holder: NodeId,
        /// The signer of its award.
        by: NodeId,
    },
    /// A peer sent what cannot be true; it was dropped.
    Misbehaved {
        /// The peer.
        peer: NodeId,
        /// The fault of the message.
        why: &'static str,
    },
}

/// The reason why `reconsider` is to be called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// A keeper did not answer, or is not healthy: ask again.
    AskKeeperAgain,
    /// A holder that is doubted is told again that this node keeps its replica.
    TellDoubted,
    /// A rival has said that it does not yield.
    RivalStays,
}
