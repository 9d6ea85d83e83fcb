//! What people and programs are shown: the bodies of the API's answers, as JSON. Fields are only
//! ever added.
//!
//! Ids are 64 hexadecimal digits, times RFC 3339 in UTC by the answering node's clock, sizes bytes,
//! CPU thousandths of a core.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A workload and how it fares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadView {
    /// The namespace.
    pub namespace: String,
    /// The name within it.
    pub name: String,
    /// The hash of the change that created it.
    pub uid: String,
    /// The hash of what needs a restart.
    pub generation: String,
    /// `wasm`.
    pub runtime: String,
    /// SHA-256 of what it runs.
    pub artifact: String,
    /// Bytes of what it runs.
    pub artifact_size: u64,
    /// Nodes known to hold the artifact, ready to start.
    pub artifact_holders: usize,
    /// Replicas wished for.
    pub desired: u32,
    /// Replicas that run the current generation, healthy, on nodes that are up.
    pub healthy: u32,
    /// Memory limit of a replica.
    pub memory: u64,
    /// CPU limit of a replica.
    pub cpu: u32,
    /// Environment of a replica.
    pub env: BTreeMap<String, String>,
    /// Labels that its nodes must have.
    pub require: BTreeMap<String, String>,
    /// The node that closes its gaps now, by name.
    pub owner: Option<String>,
    /// Its guardians, the owner first, by name.
    pub guardians: Vec<String>,
    /// Two operators changed it without knowing of one another; the later one counts.
    pub conflict: bool,
    /// Each wished replica and each that is still held, by place.
    pub replicas: Vec<ReplicaView>,
}

/// One place of a workload, or one of several holders of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplicaView {
    /// As in `web/0`.
    pub replica: String,
    /// `missing`, `starting`, `healthy`, `failing`, `stopping` or `lost` (its node is down).
    pub phase: String,
    /// Why it is so, where that is not plain.
    pub reason: Option<String>,
    /// The node that claims it, by id.
    pub node: Option<String>,
    /// The node that claims it, by name.
    pub node_name: Option<String>,
    /// Whether it runs the current generation.
    pub current: bool,
    /// The counter of its token.
    pub token: Option<u64>,
    /// Since when it is in this phase.
    pub since: Option<String>,
    /// How many times it was tried again on this node.
    pub restarts: u32,
}

/// A node as the answering node sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `up`, `back-by`, `down` or `unknown`.
    pub state: String,
    /// Why it is held to be down.
    pub reason: Option<String>,
    /// Whether this is the answering node.
    pub me: bool,
    /// Whether it knows enough to own workloads.
    pub ready: bool,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Its architecture.
    pub arch: String,
    /// What it can run.
    pub runtimes: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Memory it offers.
    pub memory: u64,
    /// CPU it offers.
    pub cpu: u32,
    /// Memory that its claims take.
    pub memory_used: u64,
    /// CPU that its claims take.
    pub cpu_used: u32,
    /// How many replicas it claims.
    pub replicas: usize,
    /// Its program's version.
    pub version: String,
    /// The trouble on the path between it and the answering node, though it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Who answers at its addresses in its place, by address; empty while there is a link to it.
    #[serde(default)]
    pub answered_by: BTreeMap<String, String>,
    /// Members that are up and that it cannot dial, nor they it, by name.
    #[serde(default)]
    pub no_way_to: Vec<String>,
    /// The link's round trip in microseconds, where there is a link.
    pub rtt_us: Option<u64>,
}

/// The answering node and the cluster in short.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// The cluster's id.
    pub cluster: String,
    /// This node's id.
    pub node: String,
    /// This node's name.
    pub name: String,
    /// Whether it knows enough to own workloads.
    pub ready: bool,
    /// Members held to be up, this one included.
    pub nodes_up: usize,
    /// Members in all.
    pub nodes: usize,
    /// Links to other nodes.
    pub links: usize,
    /// Workloads wished for.
    pub workloads: usize,
    /// Replicas wished for.
    pub replicas: u64,
    /// Replicas healthy.
    pub healthy: u64,
    /// Why it takes no writes, if it does not.
    pub read_only: Option<String>,
    /// What a person should know, each with what to do.
    pub warnings: Vec<String>,
    /// Counters of this node since its start.
    pub counters: BTreeMap<String, u64>,
    /// The digest of what this node holds, by tree: `desired`, `rulings`, `sheets`, `records`.
    /// Equal at two nodes that are of one mind; for moments after a change they differ.
    #[serde(default)]
    pub roots: BTreeMap<String, String>,
}

/// An auction, for `explain`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AuctionView {
    /// Its name.
    pub auction: String,
    /// What was auctioned, as in `web/0`.
    pub replica: String,
    /// Why there was a gap.
    pub why: String,
    /// Who held it, by name.
    pub owner: String,
    /// When it opened.
    pub opened: String,
    /// Milliseconds from opening to award.
    pub took_ms: f64,
    /// Who bid, the cheapest first.
    pub bids: Vec<BidView>,
    /// Who declined, and why.
    pub declines: Vec<DeclineView>,
    /// Who was not asked, and why.
    pub not_asked: Vec<DeclineView>,
    /// Who won, by name; none when nobody could take it.
    pub winner: Option<String>,
    /// The counter of the token that was awarded.
    pub token: Option<u64>,
    /// In a sentence: why this one won, or why nobody did.
    pub outcome: String,
}

/// A bid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BidView {
    /// The bidder, by name.
    pub node: String,
    /// The sum of the parts, in millionths; the least wins.
    pub price: u64,
    /// The dominant share of the node in use after placement.
    pub share: u64,
    /// For bytes still to fetch.
    pub fetch: u64,
    /// For replicas of the same workload already there.
    pub spread: u64,
}

/// A node that did not bid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeclineView {
    /// The node, by name.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// What `explain` answers: the place as it is, and how it came there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplainView {
    /// As in `web/0`.
    pub replica: String,
    /// The place as it is now, by holder.
    pub now: Vec<ReplicaView>,
    /// The auctions known here, the latest first.
    pub auctions: Vec<AuctionView>,
    /// Nodes that may know more, by id: the winner, the owner, the guardians.
    pub ask: Vec<String>,
}

/// Something that happened here, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// Grows by one at this node since its start.
    pub seq: u64,
    /// When.
    pub at: String,
    /// `info` or `warning`.
    pub level: String,
    /// A word for programs, as in `node-down`.
    pub kind: String,
    /// The workload or replica concerned.
    pub subject: Option<String>,
    /// The node concerned, by name.
    pub node: Option<String>,
    /// A sentence.
    pub message: String,
}
