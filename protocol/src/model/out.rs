//! What a room asks of its node: messages to send, in the room's own words.

use std::collections::VecDeque;

use super::id::NodeId;

/// Which of a link's two streams a message takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Small and soon: probes, votes, auctions.
    Urgent,
    /// Large and later: repair.
    Bulk,
}

/// One thing a room wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing<M> {
    /// To one peer, over the link; may be dropped when its queue is full.
    Send {
        /// The peer.
        to: NodeId,
        /// By which stream.
        lane: Lane,
        /// What.
        message: M,
    },
    /// To all, by gossip; lossy.
    Broadcast(M),
    /// Try to get a link to this node, once.
    Dial(NodeId),
    /// Close the link to this node.
    Hangup(NodeId),
}

/// A room's outbox. The node empties it after every call and wraps what is in it.
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

    /// The next thing asked for.
    pub fn pop(&mut self) -> Option<Outgoing<M>> {
        self.queue.pop_front()
    }
}
