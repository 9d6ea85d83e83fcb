//! What holders of one replica say to one another, and what the node must know.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, NodeId, ReplicaId, Token};

use super::keeper::KeptBecause;

/// Between two holders of one replica. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From one that would yield: do you run it, now?
    AskKeeper {
        /// What.
        replica: ReplicaId,
        /// The asker's token, which the keeper adopts when it is greater.
        token: Token,
        /// Comes back in the answer: an answer to an older question does not count.
        question: u64,
    },
    /// The answer.
    Keeping {
        /// What.
        replica: ReplicaId,
        /// The question.
        question: u64,
        /// What the keeper runs.
        generation: Digest,
        /// It runs, answers, and is going to be kept.
        healthy: bool,
    },
}

/// What the node must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Another holder of the replica, healthy now, is kept: release the claim, then stop.
    Yield {
        /// What.
        replica: ReplicaId,
        /// Who is kept.
        to: NodeId,
        /// Why that one.
        because: KeptBecause,
    },
    /// This node is kept and goes on under a greater token, without a restart: call `adopt`,
    /// persist, tell.
    Adopt {
        /// What.
        replica: ReplicaId,
        /// The token.
        token: Token,
    },
    /// The replica turned out to have several holders that are up, this one among them. Told once a
    /// dispute.
    Duplicate {
        /// What.
        replica: ReplicaId,
        /// Who is to be kept.
        keeper: NodeId,
        /// Why that one.
        because: KeptBecause,
    },
    /// A peer said what cannot be true; it was dropped.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What was wrong.
        why: &'static str,
    },
}

/// Why `reconsider` wants to be called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// A keeper did not answer, or not healthy: ask again.
    AskKeeperAgain,
}
