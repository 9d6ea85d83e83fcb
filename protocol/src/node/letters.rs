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
pub(super) const MOST_NODES: usize = MAX_PENDING_LINKS;
/// Letters a node; an auction's turns for a few replicas.
pub(super) const MOST_EACH: usize = 16;

/// What waits for a link, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Letters(BTreeMap<NodeId, VecDeque<Letter>>);

/// Something to be said.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub at: Time,
    pub lane: Lane,
    pub message: Message,
}

impl Letters {
    /// Nodes written to, and the most letters to one.
    pub fn len(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(VecDeque::len).max().unwrap_or_default())
    }

    fn keep(&mut self, now: Time, to: NodeId, letter: Letter) {
        self.0.retain(|_, letters| {
            letters.back().is_some_and(|last| now.since(last.at) < STALE_AFTER)
        });
        if self.0.len() >= MOST_NODES && !self.0.contains_key(&to) {
            return;
        }
        let letters = self.0.entry(to).or_default();
        if letters.len() == MOST_EACH {
            letters.pop_front();
        }
        letters.push_back(letter);
    }
}

impl Node {
    /// Says it over the link, or makes one for it.
    pub(super) fn deliver(&mut self, now: Time, to: NodeId, letter: Letter) {
        let is_business = match letter.message {
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
        if !is_business || self.membership.has_link(&to) {
            if is_business {
                self.membership.note_link_used(now, &to);
            }
            let Letter { lane, message, .. } = letter;
            self.outbox.push(Action::Send { to, lane, message });
            return;
        }
        if self.membership.unreachable(&to).is_some() && self.carry(now, to, &letter.message) {
            return;
        }
        let mut is_coming = false;
        self.with_membership(now, |room, now, out| {
            let (coming, facts) = room.link_on_demand(now, to, out);
            is_coming = coming;
            facts
        });
        if is_coming {
            self.letters.keep(now, to, letter);
        } else if self.is_up(&to) {
            self.count("letters_undeliverable");
        } else {
            // As when a question came over a hop from the other side of a cut.
            self.count("letters_without_way");
        }
    }

    /// There is a link now.
    pub(super) fn send_letters(&mut self, now: Time, to: NodeId) {
        for letter in self.letters.0.remove(&to).into_iter().flatten() {
            if now.since(letter.at) < STALE_AFTER && self.is_still_true(&letter.message) {
                let Letter { lane, message, .. } = letter;
                self.outbox.push(Action::Send { to, lane, message });
            }
        }
    }

    /// What was claimed may have been let go while the link was made.
    fn is_still_true(&self, message: &Message) -> bool {
        let Message::Auction(auction::Message::Claimed { claims, .. }) = message else {
            return true;
        };
        claims.iter().all(|(replica, token)| {
            self.claims.my_claim(replica).map(awarded_under) == Some(*token)
        })
    }

    /// There will be none: what can be goes over a common member.
    pub(super) fn redirect_letters(&mut self, now: Time, to: NodeId) {
        for letter in self.letters.0.remove(&to).into_iter().flatten() {
            let is_fresh =
                now.since(letter.at) < STALE_AFTER && self.is_still_true(&letter.message);
            if !is_fresh || !self.carry(now, to, &letter.message) {
                self.count("letters_without_way");
            }
        }
    }
}
