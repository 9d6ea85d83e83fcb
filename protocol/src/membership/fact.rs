//! What the node must know of who is alive, and the words for it.

use crate::model::{Facts, NodeId, Time};

use super::evidence::{Evidence, SuspicionCause};

/// What the node must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A member is alive that was unknown, down or away.
    Up {
        /// The member.
        node: NodeId,
    },
    /// A member is down.
    Down {
        /// The member.
        node: NodeId,
        /// Why it is held to be.
        why: Evidence,
    },
    /// A member stops for a moment and hopes to be back.
    BackBy {
        /// The member.
        node: NodeId,
        /// By when.
        until: Time,
    },
    /// The record of this member (or of this node) changed: keep it, note it in sync.
    Record {
        /// The member.
        node: NodeId,
    },
    /// A member can be dialled at other addresses than before; its record names them.
    Moved {
        /// The member.
        node: NodeId,
        /// Where it could be dialled before.
        before: Vec<String>,
    },
    /// Put this incarnation on disk, then call
    /// [`Membership::incarnation_stored`](super::Membership::incarnation_stored).
    Incarnation(u64),
    /// Somebody else goes on speaking in this node's name: another device has a copy of its key.
    Contested,
    /// This node was called down again soon after it had taken that back: it does not do so once
    /// more before then, unless it meets those that did.
    RefutationDelayed {
        /// Until when.
        until: Time,
    },
    /// This node cannot reach a member and asks others; for events.
    Suspected {
        /// The member.
        node: NodeId,
        /// Why.
        why: SuspicionCause,
    },
    /// A member that is up may be reachable over a hop alone from now on, or no longer.
    ReachabilityChanged {
        /// The member.
        node: NodeId,
    },
    /// A member that is up could not be dialled for a while: others are told.
    Unreachable {
        /// The member.
        node: NodeId,
        /// How the last dial failed.
        how: DialFailure,
    },
    /// An accused member showed that it lives; for events.
    Cleared {
        /// The member.
        node: NodeId,
    },
}

/// How a dial that was asked for ended without a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialFailure {
    /// The address that led to it last refused, or all that say anything did: nobody listens there.
    Refused,
    /// No answer, no way, or somebody else answered: nothing is proven.
    TimedOut,
}

/// Who answered at a member's address in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answerer {
    /// This node, which proved its key: the address is its by now.
    Node(NodeId),
    /// A program that is not of this cluster.
    Stranger,
    /// Nobody: the device there refuses.
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

/// How a member is held to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A stranger, or a member not heard of since this node's start or the member's admission.
    Unknown,
    /// Alive.
    Up,
    /// It stopped on purpose and hopes to be back by then. May lie in the past until its observers
    /// agree that it is down.
    BackBy(Time),
    /// Dead, or out of everybody's reach.
    Down,
}

/// What a gossip message is worth to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// Good and new enough: let it travel on.
    Relay,
    /// Old, or cannot be judged here: stop it, blame nobody.
    Ignore,
    /// Bad for everyone for ever: stop it, blame the relay.
    Reject,
}

/// What a node says of itself. Counter and incarnation are kept here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What people call the device, at most 128 bytes.
    pub name: String,
    /// Where it can be dialled, as multiaddrs; at most 16 of at most 300 bytes, the rest is cut
    /// off.
    pub addresses: Vec<String>,
    /// Its static facts.
    pub facts: Facts,
    /// The version of its program.
    pub version: String,
    /// It may own workloads.
    pub ready: bool,
    /// It wants no work.
    pub leaving: bool,
}
