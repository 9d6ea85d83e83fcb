//! The bodies of the API's answers, as JSON, for people and programs. Fields are only ever added.
//!
//! Ids are 64 hexadecimal digits, times RFC 3339 in UTC by the answering node's clock, sizes bytes,
//! CPU thousandths of a core.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A workload and the state of its replicas.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadView {
    /// The namespace.
    pub namespace: String,
    /// The name within it.
    pub name: String,
    /// The hash of the change that created it.
    pub uid: String,
    /// The hash of the parts of the spec that need a restart.
    pub generation: String,
    /// The runtime: `wasm`.
    pub runtime: String,
    /// The artifact's SHA-256.
    pub artifact: String,
    /// The artifact's size in bytes.
    pub artifact_size: u64,
    /// Nodes known to hold the artifact, ready to start.
    pub artifact_holders: usize,
    /// The desired number of replicas.
    pub desired: u32,
    /// Replicas that run the current generation, healthy, on nodes that are up.
    pub healthy: u32,
    /// The memory limit of a replica, in bytes.
    pub memory: u64,
    /// The CPU limit of a replica, in thousandths of a core.
    pub cpu: u32,
    /// The environment of a replica.
    pub env: BTreeMap<String, String>,
    /// Labels that its nodes must have.
    pub require: BTreeMap<String, String>,
    /// The node that owns it now, by name.
    pub owner: Option<String>,
    /// Its guardians, the owner first, by name.
    pub guardians: Vec<String>,
    /// Whether two operators changed it without knowing of one another's change; the later one
    /// counts.
    pub conflict: bool,
    /// Each desired replica and each that is still held, by place.
    pub replicas: Vec<ReplicaView>,
}

/// A place of a workload, or one of several holders of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplicaView {
    /// The replica's name, as in `web/0`.
    pub replica: String,
    /// `missing`, `starting`, `healthy`, `failing`, `stopping` or `lost` (its node is down).
    pub phase: String,
    /// The reason for the phase, where it is not plain.
    pub reason: Option<String>,
    /// The node that claims it, by id.
    pub node: Option<String>,
    /// The node that claims it, by name.
    pub node_name: Option<String>,
    /// Whether it runs the current generation.
    pub current: bool,
    /// The counter of its token.
    pub token: Option<u64>,
    /// The time since when it is in this phase.
    pub since: Option<String>,
    /// The number of further tries on this node.
    pub restarts: u32,
}

/// A node, as the answering node sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// The node's id.
    pub id: String,
    /// The node's name.
    pub name: String,
    /// `up`, `back-by`, `down` or `unknown`.
    pub state: String,
    /// The reason why it counts as down.
    pub reason: Option<String>,
    /// Whether this is the answering node.
    pub me: bool,
    /// Whether the node knows enough to own workloads.
    pub ready: bool,
    /// The node's incarnation.
    pub incarnation: u64,
    /// The addresses at which it can be dialled.
    pub addresses: Vec<String>,
    /// The device's architecture.
    pub arch: String,
    /// The runtimes that it has.
    pub runtimes: Vec<String>,
    /// The node's labels.
    pub labels: BTreeMap<String, String>,
    /// The memory that it offers, in bytes.
    pub memory: u64,
    /// The CPU that it offers, in thousandths of a core.
    pub cpu: u32,
    /// The memory that its claims take, in bytes.
    pub memory_used: u64,
    /// The CPU that its claims take, in thousandths of a core.
    pub cpu_used: u32,
    /// The number of replicas that it claims.
    pub replicas: usize,
    /// The version of its program.
    pub version: String,
    /// The trouble on the path between it and the answering node, though it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The node or program that answers at one of its addresses in its place, by address; empty
    /// while there is a link to it.
    #[serde(default)]
    pub answered_by: BTreeMap<String, String>,
    /// Members that are up and that it cannot dial, nor they it, by name.
    #[serde(default)]
    pub no_way_to: Vec<String>,
    /// The link's round trip in microseconds, where there is a link.
    pub rtt_us: Option<u64>,
}

/// A summary of the answering node and the cluster.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// The cluster's id.
    pub cluster: String,
    /// This node's id.
    pub node: String,
    /// This node's name.
    pub name: String,
    /// Whether the node knows enough to own workloads.
    pub ready: bool,
    /// Members that are up, the answering node included.
    pub nodes_up: usize,
    /// All members of the cluster.
    pub nodes: usize,
    /// Links to other nodes.
    pub links: usize,
    /// The number of workloads.
    pub workloads: usize,
    /// The desired number of replicas.
    pub replicas: u64,
    /// The number of healthy replicas.
    pub healthy: u64,
    /// The reason why this node takes no writes; none if it takes them.
    pub read_only: Option<String>,
    /// Warnings for people, each with what to do.
    pub warnings: Vec<String>,
    /// Counters of this node since its start.
    pub counters: BTreeMap<String, u64>,
    /// The digests of what this node holds, by tree: `desired`, `rulings`, `sheets`, `records`.
    /// They are equal at two nodes that hold the same; for moments after a change they differ.
    #[serde(default)]
    pub roots: BTreeMap<String, String>,
}

/// An auction, for `explain`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AuctionView {
    /// The auction's id.
    pub auction: String,
    /// The auctioned replica, as in `web/0`.
    pub replica: String,
    /// The reason why the place was free.
    pub why: String,
    /// The node that held the auction, by name.
    pub owner: String,
    /// The time when it opened.
    pub opened: String,
    /// Milliseconds from opening to award.
    pub took_ms: f64,
    /// The bids, the cheapest first.
    pub bids: Vec<BidView>,
    /// The nodes that declined, with reasons.
    pub declines: Vec<DeclineView>,
    /// The nodes that were not asked, with reasons.
    pub not_asked: Vec<DeclineView>,
    /// The winner, by name; none if no node could take the replica.
    pub winner: Option<String>,
    /// The counter of the token that was awarded.
    pub token: Option<u64>,
    /// A sentence: why this node won, or why none did.
    pub outcome: String,
}

/// The bid of a node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BidView {
    /// The bidder, by name.
    pub node: String,
    /// The sum of the parts, in millionths; the least wins.
    pub price: u64,
    /// The dominant share of the node in use after placement.
    pub share: u64,
    /// The price of the bytes still to fetch.
    pub fetch: u64,
    /// The price of the replicas of the same workload that are already there.
    pub spread: u64,
}

/// A node that did not bid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeclineView {
    /// The node, by name.
    pub node: String,
    /// The reason.
    pub reason: String,
}

/// The answer of `explain`: the place as it is, and how it came there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplainView {
    /// The replica's name, as in `web/0`.
    pub replica: String,
    /// The place as it is now, by holder.
    pub now: Vec<ReplicaView>,
    /// The auctions that this node knows, the latest first.
    pub auctions: Vec<AuctionView>,
    /// The nodes that may know more, by id: the winner, the owner, the guardians.
    pub ask: Vec<String>,
}

/// An event of the answering node, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// A number that grows by one with each event since the node's start.
    pub seq: u64,
    /// The time of the event.
    pub at: String,
    /// `info` or `warning`.
    pub level: String,
    /// The kind, for programs, as in `node-down`.
    pub kind: String,
    /// The workload or replica concerned.
    pub subject: Option<String>,
    /// The node concerned, by name.
    pub node: Option<String>,
    /// The message, a sentence.
    pub message: String,
}
