//! Messages that travel over one common member, for two members that have no way to one another: an
//! owner behind one router and a bidder behind another.
//!
//! The author seals what it says, so the member that carries it can lose it, but neither alter nor
//! invent it, nor play it again: the seal names the addressee, its incarnation, and a number that grows.
//! **Exactly one hop**: carried is only what comes from its author, and only to a member that the
//! carrier reaches itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Bucket, Lane, NodeId, Signable, Signed, Time, Unverified, codec};

use super::Node;
use super::contract::Action;
use super::message::Message;
use super::pending_sends::PendingSend;

/// Bytes of a message that is carried. An announcement of an auction's 64 places and a summary of
/// its bids stay below.
const MAX_SEALED: usize = 64 * 1024;
/// What is carried for one author at once, and how often one more. An owner's auction of 64 places
/// takes some two hundred messages, and a second of a hundred auctions keeps within what a small
/// device signs.
const CARRY_RATE: (u32, Duration) = (512, Duration::from_millis(5));
/// Authors for whom it is counted; more than a node has links.
pub(super) const MAX_AUTHORS: usize = 128;

/// What an author says to a member that it has no way to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// To whom.
    pub to: NodeId,
    /// In which of the addressee's accepted: an older one's is not heard after a restart.
    pub incarnation: u64,
    /// Grows with each that the author seals, over restarts as well.
    pub number: u64,
    /// The canonical bytes of a [`Message`]; not the message itself, so that none can hold another
    /// without end.
    pub message: Vec<u8>,
}

impl Signable for Sealed {
    const DOMAIN: &'static str = "shoal/carried/1";
}

/// What is known of messages over a hop.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    /// This node's life when it started. What is sealed for that one or a later one was sealed
    /// since.
    first_incarnation: u64,
    next: u64,
    /// The last number of each author. Members only.
    last_numbers: BTreeMap<NodeId, u64>,
    /// How much is carried for each author. At most [`MAX_AUTHORS`].
    budgets: BTreeMap<NodeId, Bucket>,
}

impl Relay {
    pub fn new(incarnation: u64) -> Self {
        let next = incarnation.saturating_mul(1 << 32).saturating_add(1);
        Relay {
            first_incarnation: incarnation,
            next,
            last_numbers: BTreeMap::new(),
            budgets: BTreeMap::new(),
        }
    }

    /// Authors heard over a hop, and authors carried for.
    pub fn len(&self) -> (usize, usize) {
        (self.last_numbers.len(), self.budgets.len())
    }

    fn may_carry_for(
        &mut self,
        now: Time,
        author: NodeId,
        is_linked: impl Fn(&NodeId) -> bool,
    ) -> bool {
        if self.budgets.len() >= MAX_AUTHORS && !self.budgets.contains_key(&author) {
            self.budgets.retain(|other, _| is_linked(other));
            if self.budgets.len() >= MAX_AUTHORS {
                return false;
            }
        }
        self.budgets
            .entry(author)
            .or_insert_with(|| Bucket::new(CARRY_RATE.0, CARRY_RATE.1))
            .take(now)
            .is_ok()
    }
}

impl Node {
    /// Says something over a common member to a member that this node cannot dial. False when there
    /// is no such member, or the message is none that is carried.
    pub(super) fn carry(&mut self, now: Time, to: NodeId, message: &Message) -> bool {
        let Some(hop) = self.membership.hops(&to).first().copied().filter(|_| is_carried(message))
        else {
            return false;
        };
        let Some(incarnation) = self.membership.incarnation_of(&to) else { return false };
        let message = codec::encode(message);
        if message.len() > MAX_SEALED {
            self.count("sends_undeliverable");
            return true;
        }
        let number = self.relay.next;
        self.relay.next = number.saturating_add(1);
        let sealed = Signed::sign(
            Sealed { to, incarnation, number, message },
            &self.identity.keys,
            &self.cluster,
        );
        self.membership.note_link_used(now, &hop);
        self.count("carried_sent");
        self.outbox.push(Action::Send {
            to: hop,
            lane: Lane::Urgent,
            message: Message::Carry(sealed.wire()),
        });
        true
    }

    /// Something sealed came over a link: for this node, or to be carried on.
    pub(super) fn on_carry(&mut self, now: Time, from: NodeId, sealed: Unverified<Sealed>) {
        let author = NodeId(sealed.by().0);
        let Ok(body) = sealed.peek() else {
            return self.on_garbage(now, from, "a sealed message that cannot be read");
        };
        if body.to == self.me {
            return self.open_sealed(now, from, author, sealed);
        }
        // One hop: what comes from another than its author has made that hop.
        let is_last = author == from
            && self.is_member(&body.to)
            && self.membership.unreachable(&body.to).is_none();
        let membership = &self.membership;
        if !is_last || !self.relay.may_carry_for(now, author, |node| membership.has_link(node)) {
            return self.count("carried_refused");
        }
        self.count("carried_on");
        self.deliver(
            now,
            body.to,
            PendingSend { at: now, lane: Lane::Urgent, message: Message::Carry(sealed) },
        );
    }

    fn open_sealed(&mut self, now: Time, from: NodeId, author: NodeId, sealed: Unverified<Sealed>) {
        if !self.is_member(&author) {
            return self.count("dropped_stranger");
        }
        let Ok(sealed) = sealed.verify(&self.cluster) else {
            return self.on_garbage(now, from, "a sealed message that its author did not sign");
        };
        let accepted = self.relay.first_incarnation..=self.membership.incarnation();
        let is_new = self.relay.last_numbers.get(&author).is_none_or(|last| sealed.number > *last);
        if !accepted.contains(&sealed.incarnation) || !is_new {
            return self.count("carried_stale");
        }
        self.relay.last_numbers.insert(author, sealed.number);
        match codec::decode::<Message>(&sealed.message) {
            Ok(message) if is_carried(&message) => {
                self.count("carried_received");
                self.on_message(now, author, message);
            }
            // A newer program may carry more than this one knows.
            Ok(_) | Err(_) => self.count("carried_unknown"),
        }
    }

    /// A node is no member any more.
    pub(super) fn forget_author(&mut self, node: &NodeId) {
        self.relay.last_numbers.remove(node);
        self.relay.budgets.remove(node);
    }
}

/// Business between two members; all else speaks of a link, or comes by gossip and comparison with
/// others as well.
pub(super) fn is_carried(message: &Message) -> bool {
    matches!(
        message,
        Message::Claims(_) | Message::Auction(_) | Message::AskHolder { .. } | Message::Have { .. }
    )
}
