//! Messages that travel over one common member, between two members that cannot dial one another,
//! for example an owner behind one router and a bidder behind another.
//!
//! The author signs the message, so the carrier can lose it, but it cannot alter, invent or replay
//! one: the signed part names the addressee, its incarnation, and a number that grows. **Exactly
//! one hop**: a member carries a message only for its author, and only to a member that it reaches
//! itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Bucket, Lane, NodeId, Signable, Signed, Time, Unverified, codec};

use super::Node;
use super::contract::Action;
use super::message::Message;
use super::pending_sends::PendingSend;

/// Bytes of a carried message. An announcement of 64 places and a summary of its bids are smaller.
const MAX_SEALED: usize = 64 * 1024;
/// Messages carried for one author at once, and the pause before each further one. An auction of 64
/// places takes some two hundred messages; two hundred a second are fewer than a small device can
/// sign.
const CARRY_RATE: (u32, Duration) = (512, Duration::from_millis(5));
/// Authors with a rate limit; more than a node has links.
pub(super) const MAX_AUTHORS: usize = 128;

/// A message of an author to a member that it cannot dial.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// The addressee, which alone acts on the message.
    pub to: NodeId,
    /// The addressee's incarnation as the author knows it. After a restart the addressee refuses
    /// messages for an incarnation before that.
    pub incarnation: u64,
    /// Grows with each message that the author seals, also over restarts.
    pub number: u64,
    /// The canonical bytes of a [`Message`]. Not the message itself, so that decoding does not
    /// recurse.
    pub message: Vec<u8>,
}

impl Signable for Sealed {
    const DOMAIN: &'static str = "shoal/carried/1";
}

/// The state of messages over a hop.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    /// This node's incarnation when it started: a message sealed for this or a later one was sealed
    /// since the start.
    first_incarnation: u64,
    next: u64,
    /// The last number of each author, against replay. Members only.
    last_numbers: BTreeMap<NodeId, u64>,
    /// The rate limit of each author. At most [`MAX_AUTHORS`].
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

    /// The numbers of authors heard over a hop, and of authors carried for.
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
    /// Sends a message over a common member to one that this node cannot dial. False if there is no
    /// common member, or messages of this kind are not carried.
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

    /// A sealed message came over a link: it is for this node, or this node is to carry it on.
    pub(super) fn on_carry(&mut self, now: Time, from: NodeId, sealed: Unverified<Sealed>) {
        let author = NodeId(sealed.by().0);
        let Ok(body) = sealed.peek() else {
            return self.on_garbage(now, from, "a sealed message that cannot be read");
        };
        if body.to == self.me {
            return self.open_sealed(now, from, author, sealed);
        }
        // Exactly one hop: a message that does not come from its author has made that hop already.
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

    /// A node left the roster.
    pub(super) fn forget_author(&mut self, node: &NodeId) {
        self.relay.last_numbers.remove(node);
        self.relay.budgets.remove(node);
        self.budgets.forget(node);
    }
}

/// Whether messages of this kind are carried: those between two members that need an answer. All
/// others are about a link, or also come by gossip and by comparison with other members.
pub(super) fn is_carried(message: &Message) -> bool {
    matches!(
        message,
        Message::Claims(_) | Message::Auction(_) | Message::AskHolder { .. } | Message::Have { .. }
    )
}
