//! The effects that a room asks of its node: messages to send, in the room's own type.

use std::collections::VecDeque;

use super::id::NodeId;

/// The stream of a link that a message takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Small and urgent: probes, votes, auctions.
    Urgent,
    /// Large, and not urgent: repair.
    Bulk,
}

/// An effect that a room asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing<M> {
    /// A message to one peer, over the link; may be dropped when its queue is full.
    Send {
        /// The peer.
        to: NodeId,
        /// The stream that it takes.
        lane: Lane,
        /// The message itself.
        message: M,
    },
    /// A message to all, by gossip; may be lost.
    Broadcast(M),
    /// Try once to get a link to this node.
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

    /// Asks for an urgent message to `to`.
    pub fn send(&mut self, to: NodeId, message: M) {
        self.queue.push_back(Outgoing::Send { to, lane: Lane::Urgent, message });
    }

    /// Asks for a bulk message to `to`.
    pub fn send_bulk(&mut self, to: NodeId, message: M) {
        self.queue.push_back(Outgoing::Send { to, lane: Lane::Bulk, message });
    }

    /// Asks for gossip.
    pub fn broadcast(&mut self, message: M) {
        self.queue.push_back(Outgoing::Broadcast(message));
    }

    /// Asks for a link.
    pub fn dial(&mut self, node: NodeId) {
        self.queue.push_back(Outgoing::Dial(node));
    }

    /// Asks for a link's end.
    pub fn hangup(&mut self, node: NodeId) {
        self.queue.push_back(Outgoing::Hangup(node));
    }

    /// The next effect.
    pub fn pop(&mut self) -> Option<Outgoing<M>> {
        self.queue.pop_front()
    }
}
