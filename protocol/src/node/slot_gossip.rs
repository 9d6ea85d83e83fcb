//! When this node's slots are told. A slot travels as a whole, so that several changes of it are
//! told by one message; and what a node says to all is work for all, so that it says no more than
//! so much a second.
//!
//! A quiet node tells each change at once. One that takes hundreds of replicas tells a slot again
//! when its turn comes, with all that has changed until then: what is outstanding is at most a
//! sheet, however many replicas there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Bucket, Phase, Slot, Time};

use super::message::Message;
use super::{Action, Level, Node};

/// Slots told at once: enough for a step of some hundred replicas, and below what the others'
/// inboxes hold of gossip (256) even if several nodes begin in one moment.
const BURST: u32 = 32;
/// The pause between further ones: 200 a second, of which each costs every other node some 0.2 ms.
const EVERY: Duration = Duration::from_millis(5);
/// How long a claim is not told that was just written and is about to start: most run within
/// milliseconds, and one message says both. The owner and the guardians know of it from the
/// auction.
const ABOUT_TO_START: Duration = Duration::from_millis(20);

/// Rebuttals at once, two for each slot of a sheet, and the pause between further ones. Each costs
/// a disk write.
const REBUTTALS: (u32, Duration) = (128, Duration::from_secs(10));

/// What is still to be told of this node's sheet.
#[derive(Clone, Debug)]
pub(super) struct SlotGossip {
    rate: Bucket,
    /// Slots that changed since they were told, the longest waiting first. Each stands in it once:
    /// at most as many as a sheet has.
    waiting: VecDeque<u8>,
    /// Slots that change again in a moment, and until when that is waited for. None of them is
    /// among those that wait.
    later: BTreeMap<u8, Time>,
    /// When the first of them may be told, while the pace holds them back.
    next_at: Option<Time>,
    /// Limits how often this node re-issues a slot above a version that it did not write: all slots
    /// of a lost disk at once, and not for ever against a copied disk.
    pub rebuttals: Bucket,
    /// Another device uses this node's identity.
    pub is_contested: bool,
}

impl Default for SlotGossip {
    fn default() -> Self {
        SlotGossip {
            rate: Bucket::new(BURST, EVERY),
            waiting: VecDeque::new(),
            later: BTreeMap::new(),
            next_at: None,
            rebuttals: Bucket::new(REBUTTALS.0, REBUTTALS.1),
            is_contested: false,
        }
    }
}

impl SlotGossip {
    /// The slot has changed.
    pub fn note(&mut self, slot: u8) {
        self.later.remove(&slot);
        if !self.waiting.contains(&slot) {
            self.waiting.push_back(slot);
        }
    }

    /// The slot has changed, and is on disk. If something in it is about to start, it is told with
    /// how that went.
    pub fn note_written(&mut self, now: Time, slot: &Slot) {
        if slot.claims.iter().all(|claim| claim.phase != Phase::Starting) {
            self.note(slot.slot);
        } else if !self.waiting.contains(&slot.slot) {
            self.later.entry(slot.slot).or_insert(now + ABOUT_TO_START);
        }
    }

    /// The next slot that may be told now.
    fn next(&mut self, now: Time) -> Option<u8> {
        for (slot, _) in self.later.extract_if(.., |_, at| *at <= now) {
            self.waiting.push_back(slot);
        }
        self.next_at = None;
        self.waiting.front()?;
        match self.rate.take(now) {
            Ok(()) => self.waiting.pop_front(),
            Err(at) => {
                self.next_at = Some(at);
                None
            }
        }
    }

    /// When slots that wait may be told.
    pub fn due(&self) -> Option<Time> {
        self.next_at.into_iter().chain(self.later.values().copied()).min()
    }

    /// Slots that wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.later.len()
    }
}

impl Node {
    /// Tells those of the slots that wait whose turn has come: first how their replicas fare, then
    /// the slot.
    pub(super) fn gossip_slots(&mut self, now: Time) {
        while let Some(slot) = self.slot_gossip.next(now) {
            self.report_healthy(now, slot);
            let Some(current) = self.claims.slot(&self.me, slot) else { continue };
            let wire = current.wire();
            let batch = self.holding.slot_batch(slot);
            if batch.is_some() && self.saving.read_only.is_some() {
                continue; // what never gets to disk is being taken out of it
            }
            // A slot is told as a whole, so it waits for everything in it.
            self.outbox.push_after(batch, Action::Broadcast(Message::Slot(wire)));
        }
    }

    /// Reports the replicas of a slot healthy that run and answer, as far as that may be told now.
    fn report_healthy(&mut self, now: Time, slot: u8) {
        let mut healthy = self.holding.unreported_in(slot);
        healthy.retain(|(replica, _)| self.may_report_healthy(now, replica));
        if healthy.is_empty() {
            return;
        }
        healthy.iter().for_each(|(replica, _)| self.holding.reported(replica));
        let since = self.wall(now);
        let Some(slot) = self.claims.set_healthy(slot, &healthy, since) else { return };
        self.saving.cache.slot(now, self.me, slot.slot);
        if self.holding.slot_batch(slot.slot).is_none() {
            self.note_slot_for_repair(now, &slot);
        }
        for (replica, _) in healthy {
            self.on_own_change(&replica);
            let name = self.replica_name(&replica);
            self.emit_event(
                now,
                Level::Info,
                "replica-healthy",
                Some(name),
                Some(self.me),
                "it runs and answers".into(),
            );
        }
    }
}
