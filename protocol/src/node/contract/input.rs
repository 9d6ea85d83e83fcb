//! The inputs of a node: everything that can happen to it.

use std::time::Duration;

use crate::model::{
    Artifact, Digest, Facts, InstanceState, Load, NodeId, ReplicaId, WallClock, WorkloadName,
};

use super::super::Message;
use super::{Answerer, Command, PersistId};

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
    /// A message came by gossip. The core answers with exactly one `Action::Verdict`.
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
        /// The part that this program cannot read, for people.
        why: String,
    },
    /// A link to this peer exists now; it has proven its key.
    LinkUp {
        /// The peer, which need not be a member.
        peer: NodeId,
        /// Whether this node dialled it: then it says first who it is.
        dialled: bool,
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
    /// A dial that `Action::Dial` asked for ended without a link.
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
    /// Also sent once at start, unless `Config::addresses` is right.
    Addresses(OwnAddresses),
    /// The name lookup that `Action::Resolve` asked for ended.
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
    /// A user asked for a change. The core answers with exactly one `Action::Reply`, unless the
    /// disk fails while that reply waits for it: see `Effect`.
    Command {
        /// The number that the reply names.
        request: RequestId,
        /// The change that the user asked for.
        command: Command,
    },
    /// The runtime reports the state of a replica. Only the latest report of a replica counts; the
    /// driver may leave out those before it.
    Report(Report),
    /// The loads of replicas that [`Node::measured`](super::super::Node::measured) named, every few
    /// seconds.
    Measured(Vec<(ReplicaId, Load)>),
    /// A request waits for a workload without a replica.
    Wished(WorkloadName),
    /// The device's static facts changed.
    Facts(Facts),
    /// Something about the facts that people publish of this device. For people alone.
    FactsNoted {
        /// Whether something is wrong.
        is_warning: bool,
        /// The event in words.
        message: String,
    },
    /// The bytes of an artifact came from other nodes. For people alone: `Fetched` follows.
    Received {
        /// The artifact.
        artifact: Artifact,
        /// The nodes that gave it, those that gave most of it first.
        from: Vec<NodeId>,
        /// The time that it took.
        took: Duration,
    },
    /// A fetch that `Action::Fetch` asked for ended.
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

/// The state of a replica on this node. The runtime sets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The replica, as `Order::Run` named it.
    pub replica: ReplicaId,
    /// The generation that the state is about: that of the last `Order::Run` for the replica, or
    /// of the one that it replaces.
    pub generation: Digest,
    /// The state of that generation.
    pub state: InstanceState,
}
