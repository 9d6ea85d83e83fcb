//! The effects: everything that the core asks of the world.

use crate::model::spec::Pieces;
use crate::model::view::EventView;
use crate::model::{Artifact, Digest, Lane, NodeId, ProgramKind, ReplicaId, Spec, WorkloadName};

use super::super::Message;
use super::{DialTarget, PersistId, Record, Reply, RequestId, Ticket};

/// An action, and the batch that it waits for. Effects without a batch are carried out at once;
/// effects of one batch in the order in which the core returned them.
///
/// If the disk fails, the driver drops the actions that wait. Instead of a dropped [`Reply`] it
/// answers `Refusal::ReadOnly` itself.
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
    /// Dial a target. Leads to one `Input::LinkUp` or one `Input::DialFailed`. If a dial of the
    /// target is under way, the addresses are added to it, and the two have one outcome.
    Dial {
        /// The node or seed to dial.
        target: DialTarget,
        /// Multiaddrs, the best first.
        addresses: Vec<String>,
    },
    /// Look up the name of a seed, without a cache: the device may have moved. Leads to one
    /// `Input::Resolved`.
    Resolve {
        /// The seed, as `HOST:PORT`.
        seed: String,
    },
    /// Close the link to this peer. Leads to `Input::LinkDown`.
    Disconnect(NodeId),
    /// Write a batch to disk, in one transaction. Leads to `Input::Stored` or
    /// `Input::StoreFailed`.
    Persist {
        /// The number of the batch: one above that of the batch before.
        id: PersistId,
        /// The rows to write, in order: a later one replaces an earlier one of the same key.
        records: Vec<Record>,
    },
    /// Give an order to the runtime.
    Order(Order),
    /// Obtain an artifact, verify its digest, and prepare it to start. Leads to one
    /// `Input::Fetched`.
    Fetch {
        /// Digest and size of the artifact.
        artifact: Artifact,
        /// The pieces that it is made of, if the spec names them.
        pieces: Option<Pieces>,
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

/// An order to the runtime. Only the last order for a replica counts, and besides a run the last
/// [`Order::Again`] since the last stop; the driver may leave out those before them.
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
    /// Start an older generation again, which was ordered before the last one, served, and ended.
    /// It is to serve until the one that was ordered last answers. Its reports name its generation;
    /// that it cannot be started again is a failure that is not to be retried.
    Again {
        /// The replica.
        replica: ReplicaId,
        /// The generation of the instance that ended.
        generation: Digest,
    },
    /// Stop all that runs of a replica, and forget it. Leads to `InstanceState::Stopped`.
    Stop {
        /// The replica to stop.
        replica: ReplicaId,
    },
}
