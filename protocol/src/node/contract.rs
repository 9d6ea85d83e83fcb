//! The whole boundary of the core: [`Input`] in, [`Effect`] out, and what both carry.
//!
//! The *driver* is the program around the core: the daemon, or a simulator. It calls
//! [`Node::handle`](super::Node::handle) with each input, in the order in which they happened, and
//! takes all effects after each call. **An effect whose `after` names a batch waits until that
//! batch is on disk**; all others are carried out at once.
//!
//! Multiaddrs are text as in `/ip4/10.0.0.1/tcp/7700`. Durations are measured by the device's
//! monotonic clock.

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

/// A user's request. The driver numbers requests and never uses a number twice in one run; the
/// number never leaves the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// A gossip message that the network has received and relays only after the core's verdict. The
/// driver numbers the messages and never uses a number twice in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// An event that the driver reports to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message came over the link of a peer.
    Message {
        /// The peer; the link has proven its key. Need not be a member.
        from: NodeId,
        /// The message, decoded within the limits of [`wire`](crate::wire); its signatures are not
        /// verified yet.
        message: Message,
    },
    /// A message came by gossip. The core answers with exactly one [`Action::Verdict`].
    Gossip {
        /// The ticket that the verdict names.
        ticket: Ticket,
        /// The peer that relayed the message, which need not have written it.
        from: NodeId,
        /// The message, decoded within the limits of [`wire`](crate::wire); its signatures are not
        /// verified yet.
        message: Message,
    },
    /// A peer sent bytes that do not decode as a message; the driver dropped them.
    Garbage {
        /// The peer that sent or relayed the bytes.
        from: NodeId,
        /// The decoder's error, for people.
        why: String,
    },
    /// A peer of another version sent a message that this program cannot read; the driver dropped
    /// it. The peer is not to blame.
    OtherVersion {
        /// The peer that sent or relayed it.
        from: NodeId,
        /// What this program cannot read, for people.
        why: String,
    },
    /// A link to this peer exists now; it has proven its key and that it knows the join key.
    LinkUp {
        /// The peer, which need not be a member.
        peer: NodeId,
    },
    /// The link to this peer is closed, by either side or by the network.
    LinkDown {
        /// The peer whose link closed.
        peer: NodeId,
    },
    /// Transfers over the path to this peer began to stall while small messages pass, or stopped
    /// stalling. Either end may have detected it.
    PathChanged {
        /// The peer at the other end of the path.
        peer: NodeId,
        /// True while transfers stall.
        is_stalling: bool,
    },
    /// A dial that [`Action::Dial`] asked for ended without a link.
    DialFailed {
        /// The target of the dial, as the action named it.
        target: DialTarget,
        /// The strongest evidence that the dialled addresses gave.
        how: DialFailure,
    },
    /// The local network announced addresses of a node (mDNS). A hint: nothing about it is proven.
    Sighted {
        /// The announced node.
        node: NodeId,
        /// The announced addresses, as multiaddrs.
        addresses: Vec<String>,
    },
    /// The addresses under which others can dial this node changed, or the reason why they cannot.
    /// Also sent once at start, unless [`Config::addresses`](super::Config::addresses) is right.
    Addresses(OwnAddresses),
    /// The name lookup that [`Action::Resolve`] asked for ended.
    Resolved {
        /// The seed, as the action named it.
        seed: String,
        /// The addresses as multiaddrs, of which the core uses the first 16; or the lookup's error,
        /// for people.
        found: Result<Vec<String>, String>,
    },
    /// Another party answered at an address of a dialled node. A dial may lead to several of
    /// these, and to a link all the same.
    Answered {
        /// The node that was dialled.
        node: NodeId,
        /// The dialled address, as a multiaddr.
        address: String,
        /// The party that answers there.
        by: Answerer,
    },
    /// A user asked for a change. The core answers with exactly one [`Action::Reply`], unless the
    /// disk fails while that reply waits for it: see [`Effect`].
    Command {
        /// The number that the reply names.
        request: RequestId,
        /// The change that the user asked for.
        command: Command,
    },
    /// The runtime reports the state of a replica. Only the latest report of a replica counts; the
    /// driver may leave out those before it.
    Report(Report),
    /// The device's static facts changed.
    Facts(Facts),
    /// A fetch that [`Action::Fetch`] asked for ended.
    Fetched {
        /// The artifact's digest.
        digest: Digest,
        /// The end of the fetch.
        outcome: FetchOutcome,
    },
    /// All batches up to and including this one are on disk.
    Stored {
        /// The last batch that is on disk. Never less than in an earlier `Stored`.
        upto: PersistId,
    },
    /// The disk takes no writes: no batch after the last [`Input::Stored`] counts as written. The
    /// core is read-only until [`Input::StoreRecovered`].
    StoreFailed {
        /// The disk's error, for people.
        why: String,
    },
    /// The disk takes writes again. It holds all batches up to the last [`Input::Stored`], and
    /// perhaps some of those that failed; the core writes what differs again.
    StoreRecovered,
    /// The device's clock. The driver sends it every few seconds, so that the core follows a clock
    /// that is set anew.
    WallClock(WallClock),
    /// The process did not run for this time although a timer or a write was due. The driver sends
    /// it before the inputs that came meanwhile, so that the core does not take its own delay for
    /// the silence of others. Delays of less than some 50 ms need not be reported.
    Lag(Duration),
    /// The daemon is about to stop on purpose. No input undoes it.
    Goodbye {
        /// The time until the node hopes to be back. Others do not replace its replicas before.
        back_in: Duration,
    },
}

/// The addresses under which other nodes can dial this one. The driver's network sets them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnAddresses {
    /// Multiaddrs, the best first. The core publishes the first 16.
    pub addresses: Vec<String>,
    /// The reason why no node can connect to this one, and the remedy, for people. `None` if others
    /// can connect.
    pub trouble: Option<String>,
    /// An address of the device came or went since the last input: links may be lost, and others
    /// may know this node by addresses that are gone.
    pub moved: bool,
}

/// The target of a dial.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DialTarget {
    /// A node by its id. Only a link to this very node counts as success.
    Node(NodeId),
    /// A seed: a multiaddr or `HOST:PORT` whose node is not known. A link to any node of the
    /// cluster counts as success.
    Address(String),
}

/// The evidence that a failed dial gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// The address that carried the last link refused; or no address did carry one, and all that
    /// answered refused. No program listens there, so the process is gone.
    Refused,
    /// No address answered, or there is no route to any. The network may be cut, so this does not
    /// show that the process is gone.
    TimedOut,
    /// A program answered that is not of this cluster, or that is another node. The text is for
    /// people.
    Stranger(String),
}

/// The end of a fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchOutcome {
    /// The artifact is on this device, verified, and ready to start.
    Ready,
    /// The artifact is on this device and can never start. The runtime's error, for people.
    Unusable(String),
    /// No candidate provided the bytes, or the device cannot store them. The last error, for
    /// people.
    Failed(String),
}

/// Names of members in [`Reply::Prepared`]; for further ones it has a single entry with their
/// number.
pub const MAX_UNHEARD: usize = 8;

/// A user's request to change something.
#[derive(Clone, Debug)]
pub enum Command {
    /// Validate a workload's new spec, and return what its author must sign. Changes nothing.
    /// Answered by [`Reply::Prepared`], after up to a second if the members have to be asked.
    Prepare {
        /// The workload to create, change or remove.
        name: WorkloadName,
        /// The new spec. `None` removes the workload.
        spec: Option<Spec>,
        /// Accept a spec that fits no member that is up, and the removal of a workload that this
        /// node does not know but other members may.
        force: bool,
    },
    /// Accept a change that its author has signed. Answered by [`Reply::Accepted`] once the change
    /// is on this node's disk.
    Submit {
        /// The signed change. The core verifies it.
        change: RawChange,
    },
    /// A user put an artifact into this node's store. Answered by [`Reply::Done`]. The store keeps
    /// it for ten minutes even if no workload names it.
    Uploaded {
        /// Digest and size of the stored bytes, as the driver measured them.
        artifact: Artifact,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The spec is valid, and this is what its author must sign.
    Prepared {
        /// The parts of the change that the author must sign.
        draft: Draft,
        /// The present spec. `None` if the workload does not exist, as far as this node knows.
        current: Option<Spec>,
        /// Empty if `current` differs from the requested spec.
        ///
        /// If they are equal: the members that may hold another version, because they do not
        /// answer or hold one, by name. Empty then means that every member has confirmed `current`,
        /// and nothing need be written. Otherwise the author should write the change all the same,
        /// so that it supersedes a version that one of them may bring. At most [`MAX_UNHEARD`]
        /// names, then one entry with the number of the others.
        unheard: Vec<String>,
    },
    /// The change is on this node's disk, and this node has begun to gossip it.
    Accepted {
        /// The id of the workload that the change created or altered.
        uid: Digest,
        /// The hash of the change.
        change: Digest,
    },
    /// The command was carried out and has no result.
    Done,
    /// The command was not carried out, and nothing changed.
    Refused(Refusal),
}

/// The parts of a change that its author takes from the cluster's state. The author adds its key,
/// its writer id and its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The writes of this workload that this node has seen: the highest serial of each writer. The
    /// author adds its own entry, with `serial`.
    pub clock: crate::model::Clock,
    /// The serial of the new write, above all that this node has seen of the workload.
    pub serial: u64,
    /// The workload that the change alters. `None` if the change creates one.
    pub uid: Option<Digest>,
}

/// The reason why a command was refused. Nothing was changed.
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

/// The state of a replica on this node. The runtime sets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The replica, as [`Order::Run`] named it.
    pub replica: ReplicaId,
    /// The generation that the state is about: that of the last [`Order::Run`] for the replica, or
    /// of the one that it replaces.
    pub generation: Digest,
    /// The state of that generation.
    pub state: ReplicaState,
}

/// The states of a replica in its runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaState {
    /// The runtime prepares or starts the replica.
    Starting,
    /// The replica runs and answers.
    Healthy,
    /// The replica ended by itself, or could not start.
    Failed {
        /// The runtime's error, for people. The core cuts it to 256 bytes.
        reason: String,
        /// True if another try on this node may help.
        retryable: bool,
    },
    /// Nothing of the replica runs any more. Without an [`Order::Stop`] before it, this is a
    /// failure.
    Stopped,
}

/// An action, and the batch that it waits for. Effects without a batch are carried out at once;
/// effects of one batch in the order in which the core returned them.
///
/// If the disk fails, the driver drops the actions that wait. Instead of a dropped [`Reply`] it
/// answers [`Refusal::ReadOnly`] itself.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The batch that must be on disk first. `None`: carry it out at once.
    pub after: Option<PersistId>,
    /// The action to carry out.
    pub action: Action,
}

/// A request of the core to the driver.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send a message to a peer. The driver may drop it if there is no link or its queue is full.
    Send {
        /// The peer that gets the message.
        to: NodeId,
        /// The stream of the link that carries the message.
        lane: Lane,
        /// The message to encode and send.
        message: Message,
    },
    /// Send a message to all nodes, by gossip. May be lost anywhere on its way.
    Broadcast(Message),
    /// Dial a target. Leads to one [`Input::LinkUp`] or one [`Input::DialFailed`]. If a dial of the
    /// target is under way, the addresses are added to it, and the two have one outcome.
    Dial {
        /// The node or seed to dial.
        target: DialTarget,
        /// Multiaddrs, the best first.
        addresses: Vec<String>,
    },
    /// Look up the name of a seed, without a cache: the device may have moved. Leads to one
    /// [`Input::Resolved`].
    Resolve {
        /// The seed, as `HOST:PORT`.
        seed: String,
    },
    /// Close the link to this peer. Leads to [`Input::LinkDown`].
    Disconnect(NodeId),
    /// Write a batch to disk, in one transaction. Leads to [`Input::Stored`] or
    /// [`Input::StoreFailed`].
    Persist {
        /// The number of the batch: one above that of the batch before.
        id: PersistId,
        /// The rows to write, in order: a later one replaces an earlier one of the same key.
        records: Vec<Record>,
    },
    /// Give an order to the runtime.
    Order(Order),
    /// Obtain an artifact, verify its digest, and prepare it to start. Leads to one
    /// [`Input::Fetched`].
    Fetch {
        /// Digest and size of the artifact.
        artifact: Artifact,
        /// The runtime that prepares it.
        runtime: ProgramKind,
        /// Nodes to ask, the best first, at most 16. Empty if no other node is up; the bytes may
        /// be in this node's own store.
        candidates: Vec<NodeId>,
    },
    /// Answer a user.
    Reply {
        /// The number of the command.
        request: RequestId,
        /// The answer to the command.
        reply: Reply,
    },
    /// Decide what the network does with a gossip message.
    Verdict {
        /// The ticket of the message.
        ticket: Ticket,
        /// The decision about it.
        verdict: Verdict,
    },
    /// Show an event to people. Programs must not depend on it.
    Notify(EventView),
}

/// A decision about a gossip message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The message is new and valid: relay it.
    Accept,
    /// The message is old, or this node cannot judge it: do not relay it, and blame no peer.
    Ignore,
    /// The message is invalid at every node and for ever: do not relay it, and blame the peer that
    /// relayed it.
    Reject,
}

/// An order to the runtime. Only the last order for a replica counts; the driver may leave out
/// those before it.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// Run a replica. If another generation of it runs: start the new one, and stop the old one
    /// once the new one answers. If the same generation runs: only report its state again.
    Run {
        /// The replica to run.
        replica: ReplicaId,
        /// The name of its workload, for logs and for the replica's environment.
        name: WorkloadName,
        /// The generation of `spec`, which reports must name.
        generation: Digest,
        /// The spec to run. Its artifact is on this device, ready to start.
        spec: Spec,
    },
    /// Stop all that runs of a replica, and forget it. Leads to [`ReplicaState::Stopped`].
    Stop {
        /// The replica to stop.
        replica: ReplicaId,
    },
}

/// A row on disk. A row replaces the one with the same key.
#[derive(Clone, Debug)]
pub enum Record {
    /// This node's incarnation. It is on disk before the node uses it. A single row.
    Incarnation(u64),
    /// All concurrent changes of one key of desired state. The row's key is the hash.
    Desired {
        /// The hash of the key.
        key: Digest,
        /// The changes, tombstones included. Empty: delete the row.
        changes: Vec<RawChange>,
    },
    /// A slot of a claim sheet, of this node or of another. The row's key is the node and the
    /// slot's number.
    Slot {
        /// The node that issued the slot.
        node: NodeId,
        /// The slot as its issuer signed it.
        slot: Unverified<Slot>,
    },
    /// The record of a node. The row's key is the node.
    Node {
        /// The node that the record describes, and that signed it.
        node: NodeId,
        /// The record as the node signed it.
        record: Unverified<NodeRecord>,
    },
    /// A ruling. The row's key is the hash.
    Ruling {
        /// The hash of the ruling's key.
        key: Digest,
        /// The ruling as its owner signed it.
        ruling: Unverified<Ruling>,
    },
    /// Delete the row of a ruling.
    NoRuling {
        /// The hash of the ruling's key.
        key: Digest,
    },
}

/// The state on disk at start; empty for a fresh node. No list needs an order, but changes in the
/// order of their keys take less memory.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The incarnation of this run. The driver draws it, one above the last one on disk, and writes
    /// it to disk before it starts the node: no incarnation is used twice, not even after a crash.
    pub incarnation: u64,
    /// All changes of desired state.
    pub changes: Vec<RawChange>,
    /// Claim slots of this node and of others, each with its issuer.
    pub slots: Vec<(NodeId, Unverified<Slot>)>,
    /// The records of this node and of others.
    pub nodes: Vec<Unverified<NodeRecord>>,
    /// All rulings that were not deleted.
    pub rulings: Vec<Unverified<Ruling>>,
}

/// A replica that requests for its workload can go to.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// The replica that answers.
    pub replica: ReplicaId,
    /// The generation that answers; during a replacement it may be the old one.
    pub generation: Digest,
    /// The node that runs the replica.
    pub node: NodeId,
    /// True if that is this node.
    pub local: bool,
    /// True if this node has a link to `node`, or may dial it. Otherwise requests need a relay at
    /// best, and should go elsewhere first.
    pub direct: bool,
}

/// The ways to reach a node, for a driver that opens streams to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reachability {
    /// Addresses to dial, as multiaddrs, the best first.
    pub addresses: Vec<String>,
    /// The reason why a dial is of no use now, for people. `None` if the node may be dialled.
    pub unreachable: Option<String>,
    /// Members that can relay to the node, the best first, at most four.
    pub hops: Vec<NodeId>,
}

/// The routing table of ingress: for each workload its healthy replicas on nodes that are up. A
/// workload without any has no entry or an empty one. A persistent map: a copy costs nothing.
pub type Routes = imbl::OrdMap<WorkloadName, std::sync::Arc<[Route]>>;
