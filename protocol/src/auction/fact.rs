//! The facts that the room reports to the node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::spec::HostPort;
use crate::model::{
    AuctionId, Award, Decline, Digest, NodeId, Place, ReplicaId, Signed, Token, Unfit,
};

use super::message::Refusal;
use super::summary::Summary;

/// A fact for the node, from one of the roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Bidder: this node shall run a replica. Commit its resources, make the claim, persist it,
    /// then call `claimed`; if the claim cannot be made, call `unclaimed`.
    Won {
        /// The award, verified.
        award: Signed<Award>,
        /// The summary of the auction.
        summary: Arc<Summary>,
    },
    /// Owner: awarded, not yet claimed. For events.
    Awarded {
        /// The replica.
        replica: ReplicaId,
        /// The winner.
        node: NodeId,
        /// The token of the award.
        token: Token,
        /// The summary of the auction.
        summary: Arc<Summary>,
    },
    /// Owner: the winner has its claim on disk. The claim itself comes with its sheet.
    Settled {
        /// The replica.
        replica: ReplicaId,
        /// The winner.
        node: NodeId,
        /// The token of the award.
        token: Token,
    },
    /// Owner: the award came to nothing. Plan again and open again at once.
    Reopen {
        /// The replica.
        replica: ReplicaId,
        /// The node that it was awarded to.
        node: NodeId,
        /// The reason.
        why: NotTaken,
    },
    /// Owner: a bidder holds this place already, so it is not awarded. The bidder's claim comes
    /// with its sheet; if it does not come, open again.
    Held {
        /// The replica.
        replica: ReplicaId,
        /// The holder.
        node: NodeId,
    },
    /// Owner: no node takes these places. Open again after `retry_after`, or when nodes or
    /// workloads change.
    Unplaceable {
        /// The workload.
        uid: Digest,
        /// Its places.
        places: Vec<Place>,
        /// The reasons, each with the number of nodes that it excluded, the most frequent first.
        why: Vec<Excluded>,
        /// The wait before another try.
        retry_after: Duration,
    },
    /// Owner: too many auctions or places are under way. Open again when one has ended.
    Full {
        /// The workload.
        uid: Digest,
        /// The places that were not opened.
        places: Vec<Place>,
    },
    /// Guardian or owner: the wait for the claim of an award has ended, or its winner is down. If
    /// the claim has not come, the place can be auctioned.
    AwardLapsed {
        /// The replica.
        replica: ReplicaId,
    },
    /// Bidder: these replicas of this node give their places to one of a higher priority.
    Evict {
        /// The replicas.
        victims: Vec<ReplicaId>,
        /// The replica that is to come.
        replica: ReplicaId,
    },
    /// A peer sent a message that no honest peer sends; it was dropped.
    Misbehaved {
        /// The peer.
        peer: NodeId,
        /// The fault of the message.
        why: &'static str,
    },
}

/// The reason why an award was not taken.
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

/// A reason, with the number of nodes that it excluded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excluded {
    /// The reason.
    pub why: Exclusion,
    /// The number of nodes.
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
    #[error("port {0} is taken there")]
    PortTaken(HostPort),
    #[error("{0}: too few are free")]
    NoneFree(String),
    #[error("the disk is full")]
    DiskFull,
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
            Decline::NoRoom { .. } | Decline::Evictable { .. } => Exclusion::NoRoom,
            Decline::Busy { .. } => Exclusion::Busy,
            Decline::NotInStep { .. } => Exclusion::NotInStep,
            Decline::Cooling { .. } => Exclusion::Cooling,
            Decline::ReadOnly => Exclusion::ReadOnly,
            Decline::Leaving => Exclusion::Leaving,
            Decline::Holds => Exclusion::Holds,
            Decline::PortTaken { port, .. } => Exclusion::PortTaken(*port),
            Decline::Taken { name, .. } => Exclusion::NoneFree(name.clone()),
            Decline::DiskFull { .. } => Exclusion::DiskFull,
        }
    }
}

/// The reason of a deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// The answers to an auction are due.
    RoundCloses(u64),
    /// A bidder that was busy is to be asked again, or a widening is allowed.
    RoundAsksAgain(u64),
    /// A winner has not answered.
    AwardUnanswered(ReplicaId),
    /// A reservation lapses, or a remembered announcement does.
    ReservationLapses(AuctionId),
    /// The wait for the claim of an open award ends.
    NoticeLapses(ReplicaId, NodeId),
}
