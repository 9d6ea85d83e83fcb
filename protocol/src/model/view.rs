//! Views for people and programs: the bodies of the API's answers, as JSON. Fields are only ever
//! added.
//!
//! Units: ids are 64 hexadecimal digits; times are RFC 3339 in UTC, by the answering node's clock
//! unless stated otherwise; sizes and memory are bytes; CPU is thousandths of a core.

mod spec;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::WorkloadName;
use super::resources::{Amounts, Resources};
use super::spec::{Port, ProgramKind, Spec, Volume};

pub use spec::{ArtifactBody, BadSpec, SpecBody, full_name};

/// A workload as others reach it by name. For the daemon alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceView {
    /// The workload.
    pub name: WorkloadName,
    /// The ports, each with that of the replica that it leads to.
    pub ports: BTreeMap<u16, u16>,
    /// The kind of its program.
    pub kind: ProgramKind,
    /// Whether this node holds a replica of it.
    pub runs_here: bool,
    /// The replicas that are reached by names of their own: those of a stateful workload.
    pub named: u32,
}

/// The state of a workload, as the answering node sees it. Its parts of the spec come from
/// [`SpecBody`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadView {
    /// The namespace, a DNS label.
    pub namespace: String,
    /// The name within the namespace, a DNS label.
    pub name: String,
    /// The id of the workload: the hash of the change that created it.
    pub uid: String,
    /// The hash of the parts of the spec whose change restarts replicas.
    pub generation: String,
    /// The kind: `service`, `daemon`, `job`, `cron` or `stateful`.
    #[serde(default = "service")]
    pub kind: String,
    /// How far a job is: `running`, `done` or `failed`; none for other kinds.
    #[serde(default)]
    pub job: Option<String>,
    /// The results of a job, or of the last runs of a cron workload, by run.
    #[serde(default)]
    pub results: Vec<ResultView>,
    /// How it is scaled by load; none where it is not.
    #[serde(default)]
    pub scale: Option<ScaleView>,
    /// How far its update is; none where replicas are replaced all at once.
    #[serde(default)]
    pub update: Option<UpdateView>,
    /// The runtime: `wasm` or `container`.
    pub runtime: String,
    /// The SHA-256 of the component; empty for a container.
    pub artifact: String,
    /// The bytes that a device of the answering node's architecture must hold to start it.
    pub artifact_size: u64,
    /// The image of a container, as it was published.
    #[serde(default)]
    pub image: Option<String>,
    /// The containers of a group of several, the main one first; none of a container alone.
    #[serde(default)]
    pub containers: Vec<ContainerView>,
    /// Whether it answers HTTP requests.
    #[serde(default = "yes")]
    pub http: bool,
    /// The number of nodes known to hold the artifact, ready to start.
    pub artifact_holders: usize,
    /// The number of replicas that the workload should have.
    pub desired: u32,
    /// The number of its replicas that are healthy in the current generation, on nodes that are up.
    pub healthy: u32,
    /// The memory that is reserved for one replica.
    pub memory: u64,
    /// The CPU that is reserved for one replica.
    pub cpu: u32,
    /// The most that one replica may take, where that is more than what is reserved.
    #[serde(default)]
    pub limit: Option<Resources>,
    /// The environment of each replica.
    pub env: BTreeMap<String, String>,
    /// The options of a container that are not left at their defaults, by the name and in the form
    /// that a manifest has them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels that a node must have to run a replica.
    pub require: BTreeMap<String, String>,
    /// The volumes of each replica.
    #[serde(default)]
    pub storage: Vec<Volume>,
    /// Ports of the device that lead to a replica.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The present owner, by name.
    pub owner: Option<String>,
    /// The guardians, the owner first, by name.
    pub guardians: Vec<String>,
    /// Two operators changed the workload concurrently; the later change counts.
    pub conflict: bool,
    /// Each place that should exist and each claim of a replica, by place.
    pub replicas: Vec<ReplicaView>,
}

/// A container of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerView {
    /// The name within the group.
    pub name: String,
    /// Its part in it: `app`, `init` or `sidecar`.
    pub role: String,
    /// The image, as it was published.
    pub image: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its options that are not left at their defaults, as those of the workload.
    pub options: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

fn service() -> String {
    "service".into()
}

/// How a workload is scaled by its load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScaleView {
    /// The fewest replicas.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// It has none until a request comes.
    pub sleeps: bool,
}

/// How far an update is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdateView {
    /// `rolling`, `paused`, `canary` (it waits for a person), `done`, `failed` or `rolled-back`.
    pub state: String,
    /// Replicas that run the new generation, healthy.
    pub done: u32,
    /// All replicas.
    pub total: u32,
    /// After a roll-back, the generation that failed, shortened.
    #[serde(default)]
    pub failed: Option<String>,
}

/// The end of one replica of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResultView {
    /// The instant at which its run was due, in milliseconds since 1970; 0 for a job without
    /// schedule.
    pub at: u64,
    /// Its index within the run.
    pub index: u32,
    /// `done`, `failed`, `deadline`, or `replaced` by a later run.
    pub outcome: String,
    /// The exit code, where the program ended by itself.
    pub exit_code: Option<i32>,
    /// The time of its end, in milliseconds since 1970.
    pub ended: u64,
    /// The name of the node that saw it end.
    pub node: String,
    /// The last lines that it wrote.
    pub lines: Vec<String>,
}

/// A free place of a workload, or a claim of a place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplicaView {
    /// The name of the replica, as in `web/0`.
    pub replica: String,
    /// `missing`, `starting`, `not-ready`, `healthy`, `failing`, `stopping` or `lost` (its node is
    /// down).
    pub phase: String,
    /// The reason for the phase, where the phase alone does not explain it.
    pub reason: Option<String>,
    /// The node that claims the replica, by id.
    pub node: Option<String>,
    /// The node that claims the replica, by name.
    pub node_name: Option<String>,
    /// True if the claim is for the current generation.
    pub current: bool,
    /// The counter of the claim's token.
    pub token: Option<u64>,
    /// The time at which the phase began, by its holder's clock.
    pub since: Option<String>,
    /// The number of further tries on its node.
    pub restarts: u32,
    /// The replacement of an older generation that serves until then; absent if none is known to
    /// be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<ReplacementView>,
}

/// The current generation of a replica, while an older one still serves.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplacementView {
    /// `starting` or `failing`.
    pub phase: String,
    /// The reason for the phase, where one is known.
    pub reason: Option<String>,
    /// The number of its further tries.
    pub restarts: u32,
}

/// A node, as the answering node sees it.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// The id of the node.
    pub id: String,
    /// The name of the device, for people; not unique.
    pub name: String,
    /// `up`, `back-by`, `down` or `unknown`.
    pub state: String,
    /// The evidence that the node is down.
    pub reason: Option<String>,
    /// True for the answering node.
    pub me: bool,
    /// True if the node knows enough to own workloads.
    pub ready: bool,
    /// The number of the node's life; it grows at each start.
    pub incarnation: u64,
    /// The addresses of the node, as multiaddrs.
    pub addresses: Vec<String>,
    /// The CPU architecture, as in `aarch64`.
    pub arch: String,
    /// The runtimes of the node, as in `wasm`.
    pub runtimes: Vec<String>,
    /// The rights that the node allows containers beyond those of an ordinary one, as in
    /// `path=/data`.
    #[serde(default)]
    pub allows: Vec<String>,
    /// The volumes that the node keeps, as in `db/0/data`.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// The labels of the node: those of its configuration, and those that operators set.
    pub labels: BTreeMap<String, String>,
    /// The node takes no further replicas: an operator cordoned it.
    #[serde(default)]
    pub cordoned: bool,
    /// An operator has the node emptied.
    #[serde(default)]
    pub drained: bool,
    /// The labels that operators set, or took away (null).
    #[serde(default)]
    pub set_labels: BTreeMap<String, Option<String>>,
    /// The taints of the node, by name, with their values.
    #[serde(default)]
    pub taints: BTreeMap<String, String>,
    /// The memory that the node offers.
    pub memory: u64,
    /// The CPU that the node offers.
    pub cpu: u32,
    /// The memory that its claims take.
    pub memory_used: u64,
    /// The CPU that its claims take.
    pub cpu_used: u32,
    /// What the node offers beside memory and CPU, by name; bytes of `disk`.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub resources: Amounts,
    /// What its claims take of that.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub resources_used: Amounts,
    /// The number of replicas that the node claims.
    pub replicas: usize,
    /// The version of the node's program.
    pub version: String,
    /// The trouble on the path between the node, which is up, and the answering node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Other parties that answer at the node's addresses, by address; empty while there is a link
    /// to the node.
    #[serde(default)]
    pub answered_by: BTreeMap<String, String>,
    /// Members that are up and that the node cannot dial, nor they the node, by name.
    #[serde(default)]
    pub no_way_to: Vec<String>,
    /// The round trip of the link to the node, in microseconds.
    pub rtt_us: Option<u64>,
}

/// A summary of the answering node and the cluster.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// The id of the cluster.
    pub cluster: String,
    /// The id of the answering node.
    pub node: String,
    /// The name of the answering node.
    pub name: String,
    /// True if the answering node knows enough to own workloads.
    pub ready: bool,
    /// The number of members that are up, the answering node included.
    pub nodes_up: usize,
    /// The number of members.
    pub nodes: usize,
    /// The number of links to other nodes.
    pub links: usize,
    /// The number of workloads.
    pub workloads: usize,
    /// The number of replicas that all workloads should have.
    pub replicas: u64,
    /// The number of those that are healthy.
    pub healthy: u64,
    /// The disk's error while the answering node takes no writes.
    pub read_only: Option<String>,
    /// Problems that a person should know, each with its remedy.
    pub warnings: Vec<String>,
    /// Counters of the answering node since its start, by name.
    pub counters: BTreeMap<String, u64>,
    /// The digests of the answering node's state, by tree: `desired`, `rulings`, `sheets`,
    /// `records`. Equal at nodes that are in step; for moments after a change they differ.
    #[serde(default)]
    pub roots: BTreeMap<String, String>,
}

/// An operator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OperatorView {
    /// Its name.
    pub name: String,
    /// Its key, 64 hexadecimal digits.
    pub key: String,
    /// Its role: `reader`, `publisher` or `admin`.
    pub role: String,
    /// The namespaces in which it has it; empty for all.
    pub namespaces: Vec<String>,
    /// When its rights end, RFC 3339 in UTC; null for never.
    pub expires: Option<String>,
    /// The name of the operator that gave them, or `root`.
    pub by: String,
    /// The reason of its revocation, if it was revoked.
    pub revoked: Option<String>,
}

/// The quota of a namespace, and what its workloads want.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct QuotaView {
    /// The namespace.
    pub namespace: String,
    /// Thousandths of a core that its workloads may reserve together; null for no limit.
    pub cpu: Option<u64>,
    /// Bytes; null for no limit.
    pub memory: Option<u64>,
    /// Replicas; null for no limit.
    pub replicas: Option<u64>,
    /// The sum that all its workloads want, whether it is placed or waits.
    pub wanted_cpu: u64,
    /// As `wanted_cpu`, bytes.
    pub wanted_memory: u64,
    /// As `wanted_cpu`, replicas.
    pub wanted_replicas: u64,
}

/// A secret or a config, without its contents.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ValueView {
    /// `secret` or `config`.
    pub kind: String,
    /// The namespace, a DNS label.
    pub namespace: String,
    /// The name within the namespace, a DNS label.
    pub name: String,
    /// The bytes of its value.
    pub size: usize,
    /// The version, 64 hexadecimal digits: another one for each value.
    pub version: String,
    /// When it was written, by its author's clock, RFC 3339 in UTC.
    pub written: String,
    /// The name of the operator that wrote it, or `root`.
    pub by: String,
    /// The names of the members to which it was sealed; empty for a config.
    pub readers: Vec<String>,
    /// Nodes do not pass it on to others.
    pub holders_only: bool,
    /// The workloads that use it.
    pub users: Vec<String>,
}

/// The members to which a secret can be sealed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ReadersView {
    /// Members with a sealing key; those that hold a workload that uses the secret come first.
    pub nodes: Vec<ReaderView>,
    /// The names of members without one: their program knows no secrets.
    pub without: Vec<String>,
    /// The workloads that use the secret.
    pub users: Vec<String>,
}

/// A member to which a secret can be sealed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReaderView {
    /// The id of the node.
    pub id: String,
    /// The name of the device.
    pub name: String,
    /// Its sealing key, 64 hexadecimal digits.
    pub key: Option<String>,
    /// It holds a workload that uses the secret.
    pub holds: bool,
}

/// A revoked key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RevokedView {
    /// The key, 64 hexadecimal digits.
    pub key: String,
    /// The name of the node, if it is a node's.
    pub node: Option<String>,
    /// The reason.
    pub why: String,
    /// Whether all that it ever wrote was withdrawn.
    pub withdrawn: bool,
}

/// An auction, for `explain`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AuctionView {
    /// The id of the auction, as in `1a2b3c4d-5.17`.
    pub auction: String,
    /// The replica that was auctioned, as in `web/0`.
    pub replica: String,
    /// The reason why the place was free.
    pub why: String,
    /// The node that ran the auction, by name.
    pub owner: String,
    /// The time at which the auction opened, by its owner's clock.
    pub opened: String,
    /// Milliseconds from the opening to the award.
    pub took_ms: f64,
    /// The bids, the cheapest first.
    pub bids: Vec<BidView>,
    /// The nodes that declined, each with its reason.
    pub declines: Vec<DeclineView>,
    /// The nodes that were not asked, each with the reason.
    pub not_asked: Vec<DeclineView>,
    /// The winner, by name; absent if no node took the replica.
    pub winner: Option<String>,
    /// The counter of the awarded token.
    pub token: Option<u64>,
    /// The reason why the winner won, or why no node did, in a sentence.
    pub outcome: String,
}

/// A bid in an auction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BidView {
    /// The bidder, by name.
    pub node: String,
    /// The sum of the parts below, in millionths of a full node; the least wins.
    pub price: u64,
    /// The greater of the shares of memory and CPU in use after placement, in millionths.
    pub share: u64,
    /// The surcharge for bytes that the bidder has to fetch.
    pub fetch: u64,
    /// The surcharge for replicas of the same workload that the bidder has.
    pub spread: u64,
    /// The surcharge for preferences of the workload that the bidder does not fulfil.
    #[serde(default)]
    pub prefer: u64,
    /// The surcharge for replicas of the same workload on nodes with the same label.
    #[serde(default)]
    pub balance: u64,
}

/// A node that did not bid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeclineView {
    /// The node that did not bid, by name.
    pub node: String,
    /// The reason, in words.
    pub reason: String,
}

/// The answer of `explain`: the present state of a place, and its auctions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExplainView {
    /// The name of the replica, as in `web/0`.
    pub replica: String,
    /// The present state of the place: one entry for each claim, or one for a free place.
    pub now: Vec<ReplicaView>,
    /// The auctions that the answering node remembers, the latest first.
    pub auctions: Vec<AuctionView>,
    /// Nodes that may remember more, by id: holders and guardians.
    pub ask: Vec<String>,
    /// Of a daemon's place: why its node does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
}

/// An event at the answering node, for people.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// The number of the event at its node: 1 is the first one since the start.
    pub seq: u64,
    /// The time of the event.
    pub at: String,
    /// `info` or `warning`.
    pub level: String,
    /// The kind of the event, for programs, as in `node-down`.
    pub kind: String,
    /// The name of the workload or replica concerned.
    pub subject: Option<String>,
    /// The namespace of what is concerned, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The node concerned, by name.
    pub node: Option<String>,
    /// The description of the event, in a sentence.
    pub message: String,
}

/// A device that a node let in: `GET /v1/admissions/{node}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AdmissionView {
    /// The id of the device.
    pub node: String,
    /// Its name.
    pub name: String,
    /// The hash of its admission.
    pub change: String,
}

/// A change of desired state that a node took as new: `GET /v1/history`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// When this node took it.
    pub at: String,
    /// The kind of what was changed: `workload`, `node`, `operator`, `key`, `secret`, `config` or
    /// `quota`.
    pub kind: String,
    /// Its name; `namespace/name` where it has a namespace.
    pub name: String,
    /// The change itself, as in `scaled from 1 to 3`.
    pub what: String,
    /// The name in the author's grant; of a member that admits a device, the member's.
    pub by: String,
    /// The author's key.
    pub key: String,
    /// The node at which it was submitted, if it was this one.
    pub through: Option<String>,
    /// The node from which this one heard of it.
    pub heard_from: Option<String>,
    /// The spec that it left, for a workload that is there after it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "noted")]
    pub spec: Option<Spec>,
}

/// A spec in a note, as the API's JSON. One that this program cannot read any more is left out.
mod noted {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::super::spec::Spec;
    use super::SpecBody;

    pub fn serialize<S: Serializer>(spec: &Option<Spec>, to: S) -> Result<S::Ok, S::Error> {
        spec.as_ref().map(SpecBody::from).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Spec>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Noted {
            Known(Box<SpecBody>),
            Other(serde::de::IgnoredAny),
        }
        Ok(match Option::<Noted>::deserialize(from)? {
            Some(Noted::Known(body)) => Spec::try_from(*body).ok(),
            Some(Noted::Other(_)) | None => None,
        })
    }
}
