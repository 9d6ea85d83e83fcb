//! Messages for members without a link. Above the size of a full mesh an owner asks nodes that it
//! has no link to, and two holders of a replica need not be linked: a link is made on demand, and
//! the message waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::auction;
use crate::claims::awarded_under;
use crate::membership::MAX_PENDING_LINKS;
use crate::model::{Lane, NodeId, Time};

use super::Node;
use super::contract::Action;
use super::message::Message;

/// The age at which a waiting message is dropped: its sender has its own time-out, and repeats it.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// Nodes with waiting messages: as many as links can be made at a time.
pub(super) const MAX_NODES: usize = MAX_PENDING_LINKS;
/// Waiting messages per node: those of an auction for a few replicas.
pub(super) const MAX_PER_NODE: usize = 16;

/// Messages that wait for a link, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingSends(BTreeMap<NodeId, VecDeque<PendingSend>>);

/// A message to send.
#[derive(Clone, Debug)]
pub(super) struct PendingSend {
    pub at: Time,
    pub lane: Lane,
    pub message: Message,
}

impl PendingSends {
    /// The number of nodes with waiting messages, and the greatest number for one node.
    pub fn len(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(VecDeque::len).max().unwrap_or_default())
    }

    fn keep(&mut self, now: Time, to: NodeId, send: PendingSend) {
        self.0.retain(|_, pending| {
            pending.back().is_some_and(|last| now.since(last.at) < STALE_AFTER)
        });
        if self.0.len() >= MAX_NODES && !self.0.contains_key(&to) {
            return;
        }
        let pending = self.0.entry(to).or_default();
        if pending.len() == MAX_PER_NODE {
            pending.pop_front();
        }
        pending.push_back(send);
    }
}

impl Node {
    /// Sends a message over the link, or over a common member, or asks for a link and lets the
    /// message wait for it.
    pub(super) fn deliver(&mut self, now: Time, to: NodeId, send: PendingSend) {
        let may_wait = match send.message {
            Message::Claims(_)
            | Message::Auction(_)
            | Message::AskHolder { .. }
            | Message::Have { .. }
            | Message::Loads { .. }
            | Message::Wake { .. }
            | Message::Carry(_) => true,
            // These are about a link, or go only to nodes that have one.
            Message::Membership(_)
            | Message::Repair(_)
            | Message::Join { .. }
            | Message::Admitted { .. }
            | Message::Changed { .. }
            | Message::Slot(_)
            | Message::Ruled(_)
            | Message::AskKey { .. }
            | Message::SameKey { .. }
            | Message::Greet { .. }
            | Message::Revocations { .. }
            | Message::NotAdmitted { .. } => false,
        };
        if !may_wait || self.membership.has_link(&to) {
            if may_wait {
                self.membership.note_link_used(now, &to);
            }
            let PendingSend { lane, message, .. } = send;
            self.outbox.push(Action::Send { to, lane, message });
            return;
        }
        if self.membership.unreachable(&to).is_some() && self.carry(now, to, &send.message) {
            return;
        }
        let mut is_coming = false;
        self.with_membership(now, |room, now, out| {
            let (coming, facts) = room.link_on_demand(now, to, out);
            is_coming = coming;
            facts
        });
        if is_coming {
            self.pending_sends.keep(now, to, send);
        } else if self.is_up(&to) {
            self.count("sends_undeliverable");
        } else {
            // For example the answer to a question that came over a hop, across a cut.
            self.count("sends_without_way");
        }
    }

    /// There is a link to `to` now: sends the messages that waited for it.
    pub(super) fn send_pending(&mut self, now: Time, to: NodeId) {
        for send in self.pending_sends.0.remove(&to).into_iter().flatten() {
            if now.since(send.at) < STALE_AFTER && self.is_current(&send.message) {
                let PendingSend { lane, message, .. } = send;
                self.outbox.push(Action::Send { to, lane, message });
            }
        }
    }

    /// Whether a message still holds: its claims may have been released while the link was made.
    fn is_current(&self, message: &Message) -> bool {
        let Message::Auction(auction::Message::Claimed { claims, .. }) = message else {
            return true;
        };
        claims.iter().all(|(replica, token)| {
            self.claims.my_claim(replica).map(awarded_under) == Some(*token)
        })
    }

    /// There will be no link to `to`: messages that may be carried go over a common member.
    pub(super) fn redirect_pending(&mut self, now: Time, to: NodeId) {
        for send in self.pending_sends.0.remove(&to).into_iter().flatten() {
            let is_fresh = now.since(send.at) < STALE_AFTER && self.is_current(&send.message);
            if !is_fresh || !self.carry(now, to, &send.message) {
                self.count("sends_without_way");
            }
        }
    }
}
