//! Facts about members for the node, and the types in them.

use crate::model::{Facts, NodeId, Time};

use super::evidence::{Evidence, SuspicionCause};

/// An event for the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A member that was unknown, down or away is up.
    Up {
        /// The member's id.
        node: NodeId,
    },
    /// A member is down.
    Down {
        /// The member's id.
        node: NodeId,
        /// The evidence for it.
        why: Evidence,
    },
    /// A member stops on purpose and plans to be back.
    BackBy {
        /// The member's id.
        node: NodeId,
        /// The planned end of its absence.
        until: Time,
    },
    /// The record of this member (or of this node) changed: the node keeps it and notes it in sync.
    Record {
        /// The member's id.
        node: NodeId,
    },
    /// A member can be dialled at other addresses than before; its record names them.
    Moved {
        /// The member's id.
        node: NodeId,
        /// Its addresses before.
        before: Vec<String>,
    },
    /// The node is to put this incarnation on disk, then call
    /// [`Membership::incarnation_stored`](super::Membership::incarnation_stored).
    Incarnation(u64),
    /// Another device keeps signing records with a copy of this node's key.
    Contested,
    /// This node was called down again soon after a refutation. It does not refute again before
    /// `until`, unless it meets the nodes that called it down.
    RefutationDelayed {
        /// When it may refute again.
        until: Time,
    },
    /// This node suspects a member on evidence that is worth a vote; for events.
    Suspected {
        /// The member's id.
        node: NodeId,
        /// Why the suspicion began.
        why: SuspicionCause,
    },
    /// A member that is up may now be reachable over a hop only, or directly again.
    ReachabilityChanged {
        /// The member's id.
        node: NodeId,
    },
    /// A member that is up could not be dialled for a while: this node's record tells others.
    Unreachable {
        /// The member's id.
        node: NodeId,
        /// How the last dial failed.
        how: DialFailure,
    },
    /// A suspected member showed that it lives; for events.
    Cleared {
        /// The member's id.
        node: NodeId,
    },
}

/// How a dial ended without a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// The address of the last link refused, or all addresses with any answer did: nothing listens
    /// there.
    Refused,
    /// No answer, no route, or another node answered: nothing is proven.
    TimedOut,
}

/// The answerer at a member's address that is not the member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answerer {
    /// Another node, which proved its key: the address is its own by now.
    Node(NodeId),
    /// A program that does not belong to this cluster.
    Stranger,
    /// No program: the device refuses the connection.
    Nobody,
}

impl std::fmt::Display for DialFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DialFailure::Refused => "every address refused",
            DialFailure::TimedOut => "no address answered",
        })
    }
}

/// The state of a member, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not a member, or not heard of since this node's start or the member's admission.
    Unknown,
    /// Held to be alive.
    Up,
    /// It stopped on purpose and plans to be back by then. May lie in the past until its observers
    /// agree that it is down.
    BackBy(Time),
    /// Held to be dead, or out of reach of all others.
    Down,
}

/// Whether a gossip message is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// Valid and new enough: pass it on.
    Relay,
    /// Old, or cannot be judged here: drop it, the relay is not at fault.
    Ignore,
    /// Invalid on every node: drop it, the relay is at fault.
    Reject,
}

/// The content of a node's record. This module adds counter and incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The name of the device, at most 128 bytes.
    pub name: String,
    /// Addresses to dial it at, as multiaddrs: at most 16 of at most 300 bytes; the rest is
    /// dropped.
    pub addresses: Vec<String>,
    /// Facts that do not change while it runs.
    pub facts: Facts,
    /// The version of its program, at most 128 bytes.
    pub version: String,
    /// Whether it may own workloads.
    pub ready: bool,
    /// Whether it refuses new work.
    pub leaving: bool,
}
