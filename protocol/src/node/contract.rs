//! What can happen to a node, and what it asks of the world. The whole boundary of the core.

use std::time::Duration;

use crate::model::view::EventView;
use crate::model::{
    Artifact, Digest, Facts, Lane, NodeId, ProgramKind, RawChange, ReplicaId, Slot, Spec,
    Unverified, WallClock, WorkloadName,
};
use crate::model::{NodeRecord, Ruling};

use super::Message;
pub use crate::membership::Answerer;
pub use crate::model::PersistId;

/// A request of a user, so that the answer finds its way back. The driver draws it; it is never
/// sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// A gossip message on its way: the mesh waits for a verdict before it relays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer said something over its link.
    Message {
        /// Who.
        from: NodeId,
        /// What, decoded within limits.
        message: Message,
    },
    /// Something came by gossip. Answered by exactly one [`Action::Verdict`].
    Gossip {
        /// For the verdict.
        ticket: Ticket,
        /// Who relayed it, which need not be who wrote it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A peer sent bytes that are no message; they were dropped.
    Garbage {
        /// Who.
        from: NodeId,
        /// What was wrong.
        why: String,
    },
    /// There is a link to this peer now; its key is proven.
    LinkUp {
        /// The peer.
        peer: NodeId,
    },
    /// The link is gone.
    LinkDown {
        /// The peer.
        peer: NodeId,
    },
    /// Transfers on the path to this peer stall while small messages pass, or no longer do. Seen at
    /// either end.
    PathChanged {
        /// The peer.
        peer: NodeId,
        /// Whether they stall.
        is_stalling: bool,
    },
    /// A dial of [`Action::Dial`] led to no link.
    DialFailed {
        /// What was dialled.
        target: DialTarget,
        /// How it failed.
        how: DialFailure,
    },
    /// Somebody says that a node can be reached at these addresses.
    Sighted {
        /// The node.
        node: NodeId,
        /// Multiaddrs.
        addresses: Vec<String>,
    },
    /// The device's addresses, or what else decides where this node can be dialled, changed. Also
    /// at start, unless others can connect at [`Config`](super::Config)'s addresses.
    Addresses(OwnAddresses),
    /// How an [`Action::Resolve`] ended.
    Resolved {
        /// The seed.
        seed: String,
        /// Its addresses, as multiaddrs, or why there are none now.
        found: Result<Vec<String>, String>,
    },
    /// A dial of a node was answered at one of its addresses by somebody else.
    Answered {
        /// The node that was to be met.
        node: NodeId,
        /// Where, as a multiaddr.
        address: String,
        /// Who answers there.
        by: Answerer,
    },
    /// A user wants something.
    Command {
        /// For the reply.
        request: RequestId,
        /// What.
        command: Command,
    },
    /// How a replica fares; level-triggered, the latest counts.
    Report(Report),
    /// The device's facts, at start and when they change.
    Facts(Facts),
    /// How an [`Action::Fetch`] ended.
    Fetched {
        /// What was fetched.
        digest: Digest,
        /// How it ended.
        outcome: FetchOutcome,
    },
    /// Everything up to this batch is on disk.
    Stored {
        /// The last batch that is.
        upto: PersistId,
    },
    /// The disk takes no writes: nothing that was asked of it since the last [`Input::Stored`] is
    /// on it. The node is read-only until [`Input::StoreRecovered`].
    StoreFailed {
        /// What the disk said.
        why: String,
    },
    /// The disk takes writes again. It holds what it held at the last [`Input::Stored`], and
    /// perhaps parts of what failed.
    StoreRecovered,
    /// The device's clock, at start and every second or so.
    WallClock(WallClock),
    /// This process did not run for so long though it wanted to.
    Lag(Duration),
    /// The daemon is about to stop on purpose and hopes to be back.
    Goodbye {
        /// When it hopes to be back.
        back_in: Duration,
    },
}

/// Where this node can be dialled now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnAddresses {
    /// As multiaddrs, the best first. A record takes 16.
    pub addresses: Vec<String>,
    /// Why nobody can connect to this node, and what to do, for people; none when others can.
    pub trouble: Option<String>,
    /// An address of the device came or went: links may be lost, and others may know this node by
    /// addresses that lead nowhere.
    pub moved: bool,
}

/// What is dialled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DialTarget {
    /// A known node, by the addresses the effect names.
    Node(NodeId),
    /// An address whose node is not known: a seed.
    Address(String),
}

/// How a dial failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// The address that led there last refused, or all that say anything did: nobody listens, so
    /// the process is gone.
    Refused,
    /// No answer, or no way: the network may be cut.
    TimedOut,
    /// Somebody answered who is not of this cluster, or not that node.
    Stranger(String),
}

/// How a fetch ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchOutcome {
    /// It is here, verified, and ready to start.
    Ready,
    /// It is here, and can never be started: what the runtime said.
    Unusable(String),
    /// None of the candidates gave it: what the last one said.
    Failed(String),
}

/// Members named in [`Reply::Prepared`]; of more it says how many.
pub const MAX_UNHEARD: usize = 8;

/// What a user can ask for that changes something.
#[derive(Clone, Debug)]
pub enum Command {
    /// Check a wish and tell what its author must sign. Answered by [`Reply::Prepared`].
    Prepare {
        /// The workload.
        name: WorkloadName,
        /// The wish; none to remove it.
        spec: Option<Spec>,
        /// Accept a wish that no known node can fulfil now, and the removal of a workload that only
        /// others may know.
        force: bool,
    },
    /// Take a signed change. Answered by [`Reply::Accepted`] once it is on disk.
    Submit {
        /// The change.
        change: RawChange,
    },
    /// An artifact was put into this node's store by a user.
    Uploaded {
        /// Which.
        artifact: Artifact,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// What to sign.
    Prepared {
        /// The body without its writer: the author puts itself and its serial into writer and
        /// clock.
        draft: Draft,
        /// What is there now, if anything.
        current: Option<Spec>,
        /// Where the wish is what is there already: names of members that may know of another,
        /// because they cannot be asked now or hold something else. None of them: nothing need be
        /// written. Some: whoever acknowledges the wish writes it with this draft, so that it
        /// outlasts what they bring. At most [`MAX_UNHEARD`] names, and a count of the others.
        unheard: Vec<String>,
    },
    /// The change is on this node's disk and on its way to the others.
    Accepted {
        /// The workload's identity.
        uid: Digest,
        /// The change's hash.
        change: Digest,
    },
    /// Done; nothing to tell.
    Done,
    /// Not done, and nothing changed.
    Refused(Refusal),
}

/// What an author needs to know to write a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// What has been seen of the key. The author adds itself.
    pub clock: crate::model::Clock,
    /// The serial to use.
    pub serial: u64,
    /// The workload that the change alters; none when it creates one.
    pub uid: Option<Digest>,
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("there is no workload `{0}`")]
    NoSuchWorkload(WorkloadName),
    #[error(
        "there is no workload `{name}` on this node, but it may be known to others that cannot be \
            asked now: {}",
        unheard.join(", ")
    )]
    MayBeElsewhere { name: WorkloadName, unheard: Vec<String> },
    #[error("no node can run this: {}", .0.join("; "))]
    Unplaceable(Vec<String>),
    #[error("this node takes no writes: {0}")]
    ReadOnly(String),
    #[error("the change was refused: {0}")]
    Invalid(String),
    #[error("the workload was changed by somebody else meanwhile")]
    Stale,
    #[error("this node is full: {0}")]
    Full(String),
    #[error("this node is too busy, try again: {0}")]
    Busy(String),
    #[error("this node has not joined the cluster yet: {0}")]
    NotJoined(String),
}

/// How a replica fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which.
    pub replica: ReplicaId,
    /// Of which generation.
    pub generation: Digest,
    /// How.
    pub state: ReplicaState,
}

/// The states a runtime knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaState {
    /// Being fetched, compiled or started.
    Starting,
    /// Running and answering.
    Healthy,
    /// It ended or could not start.
    Failed {
        /// For the user.
        reason: String,
        /// Whether another try on this node could help.
        retryable: bool,
    },
    /// Stopped, as was ordered.
    Stopped,
}

/// What the core asks of the world. One whose `after` is set waits until that batch is on disk; if
/// the disk fails first, it is dropped.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The batch it waits for.
    pub after: Option<PersistId>,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Say something to a peer. May be dropped when its queue is full or it has no link.
    Send {
        /// The peer.
        to: NodeId,
        /// Which of the link's streams.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// Say something to all, by gossip.
    Broadcast(Message),
    /// Dial once: the outcome is a `LinkUp` or a `DialFailed`. What is dialled already gets these
    /// addresses as well, and the two have one outcome.
    Dial {
        /// Whom.
        target: DialTarget,
        /// Where, as multiaddrs.
        addresses: Vec<String>,
    },
    /// Look up the name in a seed, `HOST:PORT`, anew: what was found a minute ago may be another
    /// device's address now. Answered by one [`Input::Resolved`].
    Resolve {
        /// The seed.
        seed: String,
    },
    /// Close the link.
    Disconnect(NodeId),
    /// Put these on disk, in one transaction, before anything that waits for them.
    Persist {
        /// The batch.
        id: PersistId,
        /// What.
        records: Vec<Record>,
    },
    /// To the runtime.
    Order(Order),
    /// Get these bytes, verify them, make them ready to start.
    Fetch {
        /// Which.
        artifact: Artifact,
        /// For which runtime.
        runtime: ProgramKind,
        /// Whom to ask, best first. Empty when only this node can have it.
        candidates: Vec<NodeId>,
    },
    /// Answer a user.
    Reply {
        /// Whom.
        request: RequestId,
        /// What.
        reply: Reply,
    },
    /// Whether a gossip message may go on.
    Verdict {
        /// Which.
        ticket: Ticket,
        /// Whether.
        verdict: Verdict,
    },
    /// Tell people.
    Notify(EventView),
}

/// What becomes of a gossip message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Good: relay it.
    Accept,
    /// Cannot be judged, or is old: do not relay it, blame nobody.
    Ignore,
    /// Bad for everyone for ever: do not relay it, blame the relay.
    Reject,
}

/// What a runtime shall do. Orders are levels: the last one for a replica counts.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// Run this. With another generation than what runs: start the new, then stop the old. Again
    /// with the same generation: start it anew if it does not run.
    Run {
        /// Which.
        replica: ReplicaId,
        /// What people call its workload.
        name: WorkloadName,
        /// Of which generation.
        generation: Digest,
        /// What it needs.
        spec: Spec,
    },
    /// Stop it and forget it.
    Stop {
        /// Which.
        replica: ReplicaId,
    },
}

/// What is put on disk. Each has a key; a later one with the same key replaces the earlier.
#[derive(Clone, Debug)]
pub enum Record {
    /// This node's incarnation, before it is used.
    Incarnation(u64),
    /// All siblings of one key of desired state, by the key's hash.
    Desired {
        /// The key's hash.
        key: Digest,
        /// The siblings.
        changes: Vec<RawChange>,
    },
    /// A slot of a sheet: this node's own, or another's as last seen.
    Slot {
        /// Whose.
        node: NodeId,
        /// The slot.
        slot: Unverified<Slot>,
    },
    /// A node's record.
    Node {
        /// Whose.
        node: NodeId,
        /// The record.
        record: Unverified<NodeRecord>,
    },
    /// A ruling, by its key's hash.
    Ruling {
        /// The key's hash.
        key: Digest,
        /// The ruling.
        ruling: Unverified<Ruling>,
    },
    /// A ruling is no longer kept.
    NoRuling {
        /// Its key's hash.
        key: Digest,
    },
}

/// What was found on disk at start; empty for a fresh node.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The incarnation of this start: whoever loads this draws it, one above the last on disk, and
    /// has it on disk before it starts the node. Never the same twice, also after a crash.
    pub incarnation: u64,
    /// Desired state.
    pub changes: Vec<RawChange>,
    /// Slots, this node's own and others'.
    pub slots: Vec<(NodeId, Unverified<Slot>)>,
    /// Node records.
    pub nodes: Vec<Unverified<NodeRecord>>,
    /// Rulings.
    pub rulings: Vec<Unverified<Ruling>>,
}

/// Where requests for a workload can go.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Which replica.
    pub replica: ReplicaId,
    /// Of which generation.
    pub generation: Digest,
    /// The node that runs it.
    pub node: NodeId,
    /// Whether that is this node.
    pub local: bool,
    /// Whether the node is linked, or may be dialled. Else it is reached over one common member at
    /// best: last choice.
    pub direct: bool,
}

/// How a node can be reached, for whoever opens streams.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WayTo {
    /// Where it can be dialled, as multiaddrs.
    pub addresses: Vec<String>,
    /// Why dialling it is of no use now, in words; none when it may be dialled.
    pub unreachable: Option<String>,
    /// Members that may reach it in one hop, the best first.
    pub hops: Vec<NodeId>,
}

/// The table that ingress reads: healthy replicas on nodes that are up, by workload. A copy costs
/// nothing.
pub type Routes = imbl::OrdMap<WorkloadName, std::sync::Arc<[Route]>>;
