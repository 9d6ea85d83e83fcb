//! What an owner offers, and what a node must tell of itself to take part.

use std::time::Duration;

use crate::model::{
    Digest, NodeId, Place, ReplicaId, ResourceSum, Resources, Token, Unfit, WallClock, WorkloadName,
};

/// Places in one auction: so that an announcement and its bids stay small. A larger gap takes
/// several auctions.
pub const MAX_PLACES: usize = 64;

/// What an owner puts up: missing places of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The workload.
    pub uid: Digest,
    /// What people call it.
    pub name: WorkloadName,
    /// Which generation is to run.
    pub generation: Digest,
    /// What each replica needs; for `explain`, bidders look into their own copy of the wish.
    pub resources: Resources,
    /// The missing places.
    pub places: Vec<OfferPlace>,
    /// Nodes that are up and fit by their static facts. May hold this node.
    pub candidates: Vec<NodeId>,
    /// Nodes that are up and do not fit, and why.
    pub excluded: Vec<(NodeId, Unfit)>,
    /// The workload's guardians, which are told of open awards. May hold this node.
    pub guardians: Vec<NodeId>,
}

/// One missing place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferPlace {
    /// Which.
    pub place: Place,
    /// The least counter of the token to award it under.
    pub counter: u64,
    /// Why it is missing; for `explain`, cut to [`crate::model::claim::MAX_REASON`] bytes.
    pub why: String,
}

/// What the room asks its node while it works. Answers must not change during one call.
pub trait BidContext {
    /// What this node knows of a generation of a workload, for a bid.
    fn knowledge(&self, uid: &Digest, generation: &Digest) -> Knowledge;
    /// Whether this place of a known workload lacks a healthy replica, as far as this node knows.
    /// The generation does not tell: a spec with fewer or more replicas has the same.
    fn is_open(&self, replica: &ReplicaId) -> bool;
    /// This node's own claim of a replica, if it makes one.
    fn own_claim(&self, replica: &ReplicaId) -> Option<OwnClaim>;
    /// What this node's claims take of its capacity.
    fn committed(&self) -> ResourceSum;
    /// What released replicas still take, until the runtime has stopped them.
    fn stopping(&self) -> ResourceSum;
    /// The greatest token seen for the replica.
    fn seen(&self, replica: &ReplicaId) -> Option<Token>;
    /// Whether the disk takes no writes.
    fn read_only(&self) -> bool;
    /// Whether this node is about to leave and takes no work.
    fn leaving(&self) -> bool;
    /// The round trip to a node, measured or guessed.
    fn rtt(&self, node: &NodeId) -> Duration;
    /// The device's clock, for people.
    fn wall(&self) -> WallClock;
}

/// A claim of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnClaim {
    /// The token of the award that the claim was made under. The claim's own token may have grown
    /// since.
    pub token: Token,
    /// The claim is on disk. One that is on its way there may never arrive.
    pub is_written: bool,
}

/// What a bidder knows of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Knowledge {
    /// Not that generation of it (yet).
    Unknown,
    /// It could be run.
    Known {
        /// What a replica needs.
        resources: Resources,
        /// Whether this device can run it at all.
        fit: Result<(), Unfit>,
        /// Bytes that would have to be fetched first.
        fetch_bytes: u64,
        /// Replicas of the workload that this node claims.
        here: u32,
    },
}
