//! The door of a link: what two nodes say before either is told anything about the cluster.
//!
//! A link only proves the key at its other end. **Until that end has shown that it belongs to the
//! cluster, nothing goes over the link but greetings**: the node that dialled shows its admission,
//! and the other one answers with its own. Nodes that know different revocations exchange them
//! first, so that a part of the cluster that slept or was cut off learns of a lost device before it
//! hears anything else. Then the door is open, and the rooms learn of the link.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::membership;
use crate::model::{Key, Lane, NodeId, PublicKey, RawChange, Time, Value};
use crate::trust;

use super::contract::Action;
use super::message::{MAX_CHANGES, MAX_LINEAGE, Message};
use super::{Level, Node};

/// The time that a peer has to show who it is: some round trips of a bad link.
const GREETING: Duration = Duration::from_secs(5);
/// The pause between two answers to greetings of one peer over an open link. Above most round
/// trips: two nodes that each take the other one's answer for a greeting stop at once.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Links behind doors. A link for each of the strangers that the network lets in, and those of
/// members that greet at the same time after a cut.
pub(super) const MAX_DOORS: usize = 1_024;

/// Links whose other end has not shown yet who it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors {
    closed: BTreeMap<NodeId, Door>,
    /// When this node last answered a greeting over an open link. Only peers with a link.
    answered: BTreeMap<NodeId, Time>,
}

#[derive(Clone, Debug)]
struct Door {
    until: Time,
    /// This node has said who it is.
    greeted: bool,
    /// The peer has said who it is, and is a member.
    shown: bool,
}

impl Doors {
    /// Whether the link to `peer` is behind a door.
    pub fn is_closed(&self, peer: &NodeId) -> bool {
        self.closed.contains_key(peer)
    }

    /// The peers behind doors.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.closed.keys().copied()
    }

    /// The number of links behind doors.
    pub fn len(&self) -> usize {
        self.closed.len()
    }

    /// The number of open links over which a greeting was answered.
    pub fn answered(&self) -> usize {
        self.answered.len()
    }

    /// Whether to answer a greeting over an open link.
    fn may_answer(&mut self, now: Time, peer: NodeId) -> bool {
        let is_due = self.answered.get(&peer).is_none_or(|at| now.since(*at) >= ANSWER_EVERY);
        if is_due {
            self.answered.insert(peer, now);
        }
        is_due
    }

    /// When the next link is closed, because its other end does not show who it is.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.closed.values().map(|door| door.until).min()
    }
}

impl Node {
    pub(super) fn on_link_up(&mut self, now: Time, peer: NodeId, dialled: bool) {
        self.back_off_seeds(now);
        self.shown.version += 1;
        // A dial led to the link that there is.
        if self.membership.has_link(&peer) {
            return self.on_link_open(now, peer);
        }
        if self.doors.closed.len() >= MAX_DOORS && !self.doors.is_closed(&peer) {
            self.count("doors_full");
            return self.outbox.push(Action::Disconnect(peer));
        }
        let door = Door { until: now + GREETING, greeted: false, shown: false };
        self.doors.closed.insert(peer, door);
        if !self.admitted() {
            self.ask_to_join(now, peer);
        } else if dialled {
            self.greet(peer);
        }
    }

    /// The link to `peer` is down; whether it was still behind its door.
    pub(super) fn forget_door(&mut self, now: Time, peer: NodeId) -> bool {
        self.doors.answered.remove(&peer);
        if self.doors.closed.remove(&peer).is_none() {
            return false;
        }
        // A dial that led to no link.
        let failure = membership::DialFailure::TimedOut;
        self.with_membership(now, |membership, now, out| {
            membership.handle_dial_failed(now, peer, failure, out)
        });
        self.redirect_pending(now, peer);
        true
    }

    /// Closes links whose other end does not show who it is.
    pub(super) fn close_doors(&mut self, now: Time) {
        let over = |door: &&Door| door.until <= now;
        let late: Vec<NodeId> = self
            .doors
            .closed
            .iter()
            .filter(|(_, door)| over(door))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.count("doors_closed");
            if let Some(door) = self.doors.closed.get_mut(&peer) {
                // If the driver does not report the end of the link.
                door.until = now + GREETING;
            }
            self.outbox.push(Action::Disconnect(peer));
        }
    }

    /// Sends a greeting.
    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        self.outbox.push(Action::Send { to, lane: Lane::Urgent, message });
    }

    /// Tells a peer who this node is.
    pub(super) fn greet(&mut self, peer: NodeId) {
        let Some(door) = self.doors.closed.get_mut(&peer) else { return };
        if std::mem::replace(&mut door.greeted, true) {
            return;
        }
        self.say_who_it_is(peer);
    }

    fn say_who_it_is(&mut self, peer: NodeId) {
        let lineage = self.desired.lineage(self.me, MAX_LINEAGE);
        let revocations = self.desired.revocations_digest();
        self.say(peer, Message::Greet { lineage, revocations });
    }

    pub(super) fn on_greet(
        &mut self,
        now: Time,
        from: NodeId,
        lineage: Vec<RawChange>,
        revocations: crate::model::Digest,
    ) {
        if !self.admitted() {
            return;
        }
        if !self.doors.is_closed(&from) {
            // The peer took this link for a new one: its end is behind a door, and waits.
            if self.is_member(&from)
                && self.membership.has_link(&from)
                && self.doors.may_answer(now, from)
            {
                self.say_who_it_is(from);
            }
            return;
        }
        if !self.is_member(&from) {
            // Each was admitted by the next.
            for raw in lineage.into_iter().take(MAX_LINEAGE).rev() {
                if let Ok(change) = trust::accept(&self.identity.genesis, raw)
                    && matches!(change.signed.key, Key::Member(_))
                    && !self.is_flood(now, from, &change)
                {
                    _ = self.apply_change(now, change);
                }
            }
        }
        if !self.is_member(&from) {
            return self.turn_away(now, from);
        }
        self.greet(from);
        if let Some(door) = self.doors.closed.get_mut(&from) {
            door.shown = true;
        }
        match revocations == self.desired.revocations_digest() {
            true => self.open_door(now, from),
            false => self.send_revocations(from, true),
        }
    }

    /// Sends all revocations that this node holds.
    pub(super) fn send_revocations(&mut self, to: NodeId, answer: bool) {
        let all: Vec<RawChange> = self.desired.revocations().map(|it| it.raw()).collect();
        let pages = all.len().div_ceil(MAX_CHANGES).max(1);
        for page in 0..pages {
            let changes = all.iter().skip(page * MAX_CHANGES).take(MAX_CHANGES).cloned().collect();
            let more = page + 1 < pages;
            self.say(to, Message::Revocations { changes, more, answer: answer && !more });
        }
    }

    pub(super) fn on_revocations(
        &mut self,
        now: Time,
        from: NodeId,
        changes: Vec<RawChange>,
        more: bool,
        answer: bool,
    ) {
        for raw in changes.into_iter().take(MAX_CHANGES) {
            if let Ok(change) = trust::accept(&self.identity.genesis, raw)
                && matches!(change.signed.key, Key::Revocation(_))
            {
                _ = self.apply_change(now, change);
            }
        }
        if answer && self.is_member(&from) {
            self.send_revocations(from, false);
        }
        let is_shown = self.doors.closed.get(&from).is_some_and(|door| door.shown);
        if is_shown && !more {
            match self.is_member(&from) {
                true => self.open_door(now, from),
                false => self.turn_away(now, from),
            }
        }
    }

    /// The peer belongs to the cluster: the rooms learn of the link.
    pub(super) fn open_door(&mut self, now: Time, peer: NodeId) {
        if self.doors.closed.remove(&peer).is_some() {
            self.on_link_open(now, peer);
        }
    }

    fn on_link_open(&mut self, now: Time, peer: NodeId) {
        // A comparison may bring the peer's state before membership reports it up.
        if self.membership.state(&peer) == membership::State::Down {
            self.rescue_throttle.reached(now);
            self.on_peer_returned(now);
        }
        self.with_membership(now, |membership, now, out| membership.handle_link_up(now, peer, out));
        self.send_pending(now, peer);
        let mut out = crate::model::Out::new();
        let facts = self.repair.handle_link_up(now, peer, &mut out);
        self.post(now, out, Message::Repair);
        facts.into_iter().for_each(|fact| self.on_repair(now, fact));
        self.due.duplicates = true;
        self.shown.version += 1;
    }

    /// Tells a peer that does not belong to the cluster so, and closes the link.
    pub(super) fn turn_away(&mut self, now: Time, peer: NodeId) {
        let key = Key::Revocation(PublicKey(peer.0));
        let changes = self.desired.item(&key.hash());
        let why = match self.desired.effective(&key).map(|it| &it.signed.value) {
            Some(Value::Revoked(it)) if !it.why.is_empty() => {
                format!("this node was revoked: {}", it.why)
            }
            Some(_) => "this node was revoked".to_owned(),
            None => "the node that answered does not know who admitted this node".to_owned(),
        };
        self.emit_turned_away(now, peer, &why);
        self.refuse_peer(peer, why, changes);
    }

    /// The last word to a peer, and the end of its link.
    pub(super) fn refuse_peer(&mut self, peer: NodeId, why: String, changes: Vec<RawChange>) {
        self.say(peer, Message::NotAdmitted { why, changes });
        self.outbox.push(Action::Disconnect(peer));
    }

    fn emit_turned_away(&mut self, now: Time, peer: NodeId, why: &str) {
        self.count("turned_away");
        // An event at each power of two, so that a device that tries again does not fill the log.
        if self.shown.counters.get("turned_away").is_some_and(|count| count.is_power_of_two()) {
            let message = format!("a node that is no member was turned away: {why}");
            self.emit_event(now, Level::Warning, "node-refused", None, Some(peer), message);
        }
    }

    pub(super) fn on_not_admitted(
        &mut self,
        now: Time,
        from: NodeId,
        why: &str,
        changes: Vec<RawChange>,
    ) {
        self.on_revocations(now, from, changes, true, false);
        // A stranger must not write into a member's events and warnings.
        if self.admitted() && !self.is_member(&from) {
            return self.count("dropped_stranger");
        }
        let why: String = why.chars().filter(|it| !it.is_control()).take(400).collect();
        if self.reach.refused.as_ref() != Some(&why) {
            let message = format!("{} does not let this node in: {why}", from.short());
            self.emit_event(now, Level::Warning, "not-admitted", None, Some(self.me), message);
            self.reach.refused = Some(why);
            self.shown.version += 1;
        }
    }
}
