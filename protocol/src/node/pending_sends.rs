//! Messages for members without a link. Beyond a full mesh an owner asks nodes that it is not
//! linked to, and of two holders of a replica neither need be linked to the other: the link is made
//! on demand, and what was to be said waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::auction;
use crate::claims::awarded_under;
use crate::membership::MAX_PENDING_LINKS;
use crate::model::{Lane, NodeId, Time};

use super::Node;
use super::contract::Action;
use super::message::Message;

/// What waits for longer is no longer true: who wrote it has its own time-outs, and says it anew.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// Nodes written to at a time: those whose link may be waited for.
pub(super) const MAX_NODES: usize = MAX_PENDING_LINKS;
/// Messages per node: the messages of an auction for a few replicas.
pub(super) const MAX_PER_NODE: usize = 16;

/// What waits for a link, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingSends(BTreeMap<NodeId, VecDeque<PendingSend>>);

/// Something to be said.
#[derive(Clone, Debug)]
pub(super) struct PendingSend {
    pub at: Time,
    pub lane: Lane,
    pub message: Message,
}

impl PendingSends {
    /// Nodes written to, and the most pending to one.
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
    /// Says it over the link, or makes one for it.
    pub(super) fn deliver(&mut self, now: Time, to: NodeId, send: PendingSend) {
        let may_wait = match send.message {
            Message::Claims(_)
            | Message::Auction(_)
            | Message::AskHolder { .. }
            | Message::Have { .. }
            | Message::Carry(_) => true,
            // These speak of a link, or are said to whoever has one.
            Message::Membership(_)
            | Message::Repair(_)
            | Message::Join { .. }
            | Message::Admitted { .. }
            | Message::Changed { .. }
            | Message::Slot(_)
            | Message::Ruled(_)
            | Message::AskKey { .. }
            | Message::SameKey { .. } => false,
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
            // As when a question came over a hop from the other side of a cut.
            self.count("sends_without_way");
        }
    }

    /// There is a link now.
    pub(super) fn send_pending(&mut self, now: Time, to: NodeId) {
        for send in self.pending_sends.0.remove(&to).into_iter().flatten() {
            if now.since(send.at) < STALE_AFTER && self.is_current(&send.message) {
                let PendingSend { lane, message, .. } = send;
                self.outbox.push(Action::Send { to, lane, message });
            }
        }
    }

    /// What was claimed may have been let go while the link was made.
    fn is_current(&self, message: &Message) -> bool {
        let Message::Auction(auction::Message::Claimed { claims, .. }) = message else {
            return true;
        };
        claims.iter().all(|(replica, token)| {
            self.claims.my_claim(replica).map(awarded_under) == Some(*token)
        })
    }

    /// There will be none: what can be goes over a common member.
    pub(super) fn redirect_pending(&mut self, now: Time, to: NodeId) {
        for send in self.pending_sends.0.remove(&to).into_iter().flatten() {
            let is_fresh = now.since(send.at) < STALE_AFTER && self.is_current(&send.message);
            if !is_fresh || !self.carry(now, to, &send.message) {
                self.count("sends_without_way");
            }
        }
    }
}
