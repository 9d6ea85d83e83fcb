//! The offers of an owner, and what the room asks the node for a bid.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::spec::HostPort;
use crate::model::{
    Decline, Digest, Need, NeedSum, NodeId, Place, ReplicaId, Resources, Token, Unfit, WallClock,
    WorkloadName,
};

use super::eviction::Evictable;

/// Places in one auction, so that an announcement and its bids stay small. More places take several
/// auctions.
pub const MAX_PLACES: usize = 64;

/// Missing places of one workload, which an owner auctions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The workload.
    pub uid: Digest,
    /// The workload's name.
    pub name: WorkloadName,
    /// The generation that is to run.
    pub generation: Digest,
    /// The resources of each replica; for `explain`, bidders look into their own copy of the
    /// workload.
    pub resources: Resources,
    /// The missing places.
    pub places: Vec<OfferPlace>,
    /// Nodes that are up and fit by their static facts. May contain this node.
    pub candidates: Vec<NodeId>,
    /// Nodes that are up and do not fit, with reasons.
    pub excluded: Vec<(NodeId, Unfit)>,
    /// Candidates are in the order in which to ask them; otherwise it is random.
    pub is_ordered: bool,
    /// The labels over whose values the replicas are spread.
    pub spread: Vec<String>,
    /// The weights of the workload's preferences in all.
    pub weights: u32,
    /// The workload's guardians, which receive notices of open awards. May contain this node.
    pub guardians: Vec<NodeId>,
}

/// A missing place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferPlace {
    /// The place itself.
    pub place: Place,
    /// The least counter of the token to award it under.
    pub counter: u64,
    /// The reason why it is missing; for `explain`, cut to [`crate::model::claim::MAX_REASON`]
    /// bytes.
    pub why: String,
}

/// Questions of the room to its node. Answers must not change during one call.
pub trait BidContext {
    /// This node's knowledge of a generation of a workload, for a bid.
    fn knowledge(&self, uid: &Digest, generation: &Digest) -> Knowledge;
    /// Whether this place of a known workload lacks a healthy replica, as far as this node knows.
    /// The generation does not show it: a spec with more or fewer replicas has the same one.
    fn is_open(&self, replica: &ReplicaId) -> bool;
    /// This node's own claim of a replica, if there is one.
    fn own_claim(&self, replica: &ReplicaId) -> Option<OwnClaim>;
    /// The resources of this node's claims.
    fn committed(&self) -> NeedSum;
    /// The resources that released replicas still take, until the runtime has stopped them.
    fn stopping(&self) -> NeedSum;
    /// The holder of a port of this device, in words; `None` if it is free. Reservations are not
    /// among the holders.
    fn port_holder(&self, port: &HostPort) -> Option<String>;
    /// A replica here that has some of what is counted under a name, in words.
    fn user_of(&self, name: &str) -> Option<String>;
    /// The replicas here that may be stopped for one of a higher priority than theirs, `below` it.
    /// None that has a volume here: it would find its data nowhere else.
    fn evictable(&self, below: i32) -> Vec<Evictable>;
    /// Owner: the replicas of a workload that nodes claim which are up.
    fn holders(&self, uid: &Digest) -> Vec<(Place, NodeId)>;
    /// Owner: the value of a label or fact of a node.
    fn label(&self, node: &NodeId, name: &str) -> Option<String>;
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
    /// The claim is on disk. A claim on its way there may never arrive.
    pub is_written: bool,
}

/// A bidder's knowledge of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made for an announcement, and none is kept")]
pub enum Knowledge {
    /// The generation is not known (yet).
    Unknown,
    /// The generation is known, whether or not it fits.
    Known {
        /// All that a replica takes of its node.
        need: Need,
        /// The priority of the workload.
        priority: i32,
        /// Whether this device can run it at all.
        fit: Result<(), Unfit>,
        /// Ports of the device that each replica needs for itself.
        ports: BTreeSet<HostPort>,
        /// Bytes that would have to be fetched first.
        fetch_bytes: u64,
        /// Whether these, and the disk that a replica reserves, fit on the disk as it is now.
        disk: Result<(), Decline>,
        /// Replicas of the workload that this node claims.
        here: u32,
        /// Whether each replica changes what the next one would find here, by the workload's rules:
        /// then the node takes one of them at a time.
        one_at_a_time: bool,
        /// The weights of the workload's preferences in all, and of those not fulfilled here.
        weights: (u32, u32),
    },
}
