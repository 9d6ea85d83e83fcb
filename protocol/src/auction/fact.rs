//! What the node must know of auctions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AuctionId, Award, Decline, Digest, NodeId, Place, ReplicaId, Signed, Token, Unfit,
};

use super::message::Refusal;
use super::summary::Summary;

/// What the node must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Bidder: this node shall run a replica. Its resources are committed. Make the claim, persist
    /// it, then call `claimed`; if it cannot be made, call `unclaimed`.
    Won {
        /// The award, verified.
        award: Signed<Award>,
        /// How it went.
        summary: Arc<Summary>,
    },
    /// Owner: awarded, not yet claimed. For events.
    Awarded {
        /// What.
        replica: ReplicaId,
        /// To whom.
        node: NodeId,
        /// Under which right.
        token: Token,
        /// How it went.
        summary: Arc<Summary>,
    },
    /// Owner: the winner has its claim on disk. The claim itself comes with its sheet.
    Settled {
        /// What.
        replica: ReplicaId,
        /// Who.
        node: NodeId,
        /// Under which right.
        token: Token,
    },
    /// Owner: the award came to nothing. Plan again, and open again, now.
    Reopen {
        /// What.
        replica: ReplicaId,
        /// To whom it had been awarded.
        node: NodeId,
        /// What happened.
        why: NotTaken,
    },
    /// Owner: a bidder says that it holds this already, so it is not awarded. Its claim comes with
    /// its sheet; if not, open again.
    Held {
        /// What.
        replica: ReplicaId,
        /// Who.
        node: NodeId,
    },
    /// Owner: nobody takes these. Open again after `retry_after`, or when nodes or wishes change.
    Unplaceable {
        /// The workload.
        uid: Digest,
        /// Its places.
        places: Vec<Place>,
        /// Which reason excluded how many nodes, the most frequent first.
        why: Vec<Excluded>,
        /// When another try makes sense by itself.
        retry_after: Duration,
    },
    /// Owner: too many auctions under way. Open again when one has ended.
    Full {
        /// The workload.
        uid: Digest,
        /// Places that were not put up.
        places: Vec<Place>,
    },
    /// Guardian: the time for an award of another owner is over, or its winner is down. If the
    /// claim has not come, the place can be auctioned.
    AwardLapsed {
        /// What.
        replica: ReplicaId,
    },
    /// A peer said what no honest peer says; it was dropped.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What was wrong.
        why: &'static str,
    },
}

/// What became of an award that was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotTaken {
    #[error("the winner refused: {0}")]
    Refused(Refusal),
    #[error("the winner did not answer")]
    Silent,
    #[error("the winner went down")]
    Down,
}

/// One reason, and how many nodes it excluded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excluded {
    /// The reason.
    pub why: Exclusion,
    /// How many nodes.
    pub nodes: usize,
}

/// A reason without the figures that differ from node to node, so that nodes can be counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Exclusion {
    #[error("{0}")]
    Unfit(Unfit),
    #[error("no room")]
    NoRoom,
    #[error("busy with other auctions")]
    Busy,
    #[error("do not know the workload yet")]
    NotInStep,
    #[error("it failed there lately")]
    Cooling,
    #[error("disk takes no writes")]
    ReadOnly,
    #[error("leaving")]
    Leaving,
    #[error("hold this replica already")]
    Holds,
    #[error("did not answer")]
    Silent,
    #[error("went down")]
    Down,
    #[error("did not take what they had bid for")]
    Refused,
    #[error("full after taking other places of it")]
    Taken,
    #[error("could not be asked in time")]
    NotAsked,
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = if self.nodes == 1 { "node" } else { "nodes" };
        write!(f, "{} {nodes}: {}", self.nodes, self.why)
    }
}

impl From<&Decline> for Exclusion {
    fn from(decline: &Decline) -> Self {
        match decline {
            Decline::Unfit(unfit) => Exclusion::Unfit(unfit.clone()),
            Decline::NoRoom { .. } => Exclusion::NoRoom,
            Decline::Busy { .. } => Exclusion::Busy,
            Decline::NotInStep { .. } => Exclusion::NotInStep,
            Decline::Cooling { .. } => Exclusion::Cooling,
            Decline::ReadOnly => Exclusion::ReadOnly,
            Decline::Leaving => Exclusion::Leaving,
            Decline::Holds => Exclusion::Holds,
        }
    }
}

/// What the room waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Answers to an auction are due.
    RoundCloses(u64),
    /// A bidder that was busy is to be asked again, or a widening is allowed.
    RoundAsksAgain(u64),
    /// A winner has not answered.
    AwardUnanswered(ReplicaId),
    /// A reservation lapses, or a remembered announcement does.
    ReservationLapses(AuctionId),
    /// An open award of another owner lapses.
    NoticeLapses(ReplicaId, NodeId),
}
