//! The outbox of a room: messages to send and links to make, with the room's own message type.

use std::collections::VecDeque;

use super::id::NodeId;

/// The stream of a link that carries a message. A link has two, so that large messages do not delay
/// small ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Small messages that must not wait: probes, votes, auctions.
    Urgent,
    /// Large messages that may wait: comparisons.
    Bulk,
}

/// A request of a room to its node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing<M> {
    /// Send a message to a node. It may be lost.
    Send {
        /// The node that gets the message; it may be the sender itself.
        to: NodeId,
        /// The stream that carries it.
        lane: Lane,
        /// The message to send.
        message: M,
    },
    /// Send a message to all nodes, by gossip. It may be lost.
    Broadcast(M),
    /// Dial this node once.
    Dial(NodeId),
    /// Close the link to this node.
    Hangup(NodeId),
}

/// The outbox of a room. The node empties it after every call.
#[derive(Debug)]
pub struct Out<M> {
    queue: VecDeque<Outgoing<M>>,
}

impl<M> Default for Out<M> {
    fn default() -> Self {
        Out { queue: VecDeque::new() }
    }
}

impl<M> Out<M> {
    /// An empty outbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests an urgent message to `to`.
    pub fn send(&mut self, to: NodeId, message: M) {
        self.queue.push_back(Outgoing::Send { to, lane: Lane::Urgent, message });
    }

    /// Requests a bulk message to `to`.
    pub fn send_bulk(&mut self, to: NodeId, message: M) {
        self.queue.push_back(Outgoing::Send { to, lane: Lane::Bulk, message });
    }

    /// Requests a message to all nodes.
    pub fn broadcast(&mut self, message: M) {
        self.queue.push_back(Outgoing::Broadcast(message));
    }

    /// Requests a dial of a node.
    pub fn dial(&mut self, node: NodeId) {
        self.queue.push_back(Outgoing::Dial(node));
    }

    /// Requests that a link is closed.
    pub fn hangup(&mut self, node: NodeId) {
        self.queue.push_back(Outgoing::Hangup(node));
    }

    /// Takes the next request.
    pub fn pop(&mut self) -> Option<Outgoing<M>> {
        self.queue.pop_front()
    }
}
