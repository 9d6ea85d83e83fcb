//! The rate at which this node gossips its slots. A slot is sent as a whole, so one message carries
//! several changes of it; and a message to all costs every node work, so a node sends a limited
//! number a second.
//!
//! A quiet node sends each change at once. A node that takes hundreds of replicas sends a slot when
//! its turn comes, with all changes up to then: at most one sheet is waiting, however many replicas
//! there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Bucket, Phase, Slot, Time};

use super::message::Message;
use super::{Action, Level, Node};

/// Slots sent at once: enough for some hundred replicas, and even from several nodes in one moment
/// fewer than the 256 gossip messages that an inbox holds.
const BURST: u32 = 32;
/// The pause between further slots: 200 a second, each of which costs every other node some 0.2 ms.
const EVERY: Duration = Duration::from_millis(5);
/// The delay of a slot with a claim that was just written and is about to start: most replicas run
/// within milliseconds, and one message shows both. The owner and the guardians know the claim from
/// the auction.
const ABOUT_TO_START: Duration = Duration::from_millis(20);

/// Re-issues above foreign versions at once, two for each slot of a sheet, and the pause between
/// further ones. Each costs a disk write.
const REBUTTALS: (u32, Duration) = (128, Duration::from_secs(10));

/// The slots of this node's sheet that wait to be gossiped.
#[derive(Clone, Debug)]
pub(super) struct SlotGossip {
    rate: Bucket,
    /// Slots that changed since they were sent, the longest waiting first. Each is in it once: at
    /// most as many as a sheet has.
    waiting: VecDeque<u8>,
    /// Slots that are about to change again, each with the end of its delay. None of them is in
    /// `waiting`.
    later: BTreeMap<u8, Time>,
    /// The time of the next slot while the rate limit holds them back.
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
    /// The slot has changed: send it.
    pub fn note(&mut self, slot: u8) {
        self.later.remove(&slot);
        if !self.waiting.contains(&slot) {
            self.waiting.push_back(slot);
        }
    }

    /// The slot has changed, and is on disk. If one of its replicas is about to start, the slot
    /// waits a moment for it.
    pub fn note_written(&mut self, now: Time, slot: &Slot) {
        if slot.claims.iter().all(|claim| claim.phase != Phase::Starting) {
            self.note(slot.slot);
        } else if !self.waiting.contains(&slot.slot) {
            self.later.entry(slot.slot).or_insert(now + ABOUT_TO_START);
        }
    }

    /// The next slot that may be sent now.
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

    /// The time when a waiting slot may be sent.
    pub fn due(&self) -> Option<Time> {
        self.next_at.into_iter().chain(self.later.values().copied()).min()
    }

    /// The number of waiting slots.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.later.len()
    }
}

impl Node {
    /// Gossips the waiting slots that the rate limit lets pass. First it sets the phases of their
    /// replicas that became healthy.
    pub(super) fn gossip_slots(&mut self, now: Time) {
        while let Some(slot) = self.slot_gossip.next(now) {
            self.report_healthy(now, slot);
            let Some(current) = self.claims.slot(&self.me, slot) else { continue };
            let wire = current.wire();
            let batch = self.holding.slot_batch(slot);
            if batch.is_some() && self.saving.read_only.is_some() {
                continue; // the claims that the disk refused are being released from it
            }
            // A slot is sent as a whole, so it waits for all its claims.
            self.outbox.push_after(batch, Action::Broadcast(Message::Slot(wire)));
        }
    }

    /// Sets the phase of the slot's replicas that run and answer to healthy, as far as they may be
    /// reported now.
    fn report_healthy(&mut self, now: Time, slot: u8) {
        let mut healthy = self.holding.unreported_in(slot);
        healthy.retain(|(replica, _)| self.may_report_healthy(now, replica));
        if healthy.is_empty() {
            return;
        }
        healthy.iter().for_each(|(replica, _)| self.holding.reported(replica));
        let since = self.wall(now);
        let is_over = healthy.iter().any(|(replica, to)| self.ends_update(replica, *to));
        let Some(slot) = self.claims.set_healthy(slot, &healthy, since) else { return };
        if is_over {
            // On disk before anyone hears of it: a restart must not go back to the old version.
            self.issue(now, &[slot]);
        } else {
            self.saving.cache.slot(now, self.me, slot.slot);
            if self.holding.slot_batch(slot.slot).is_none() {
                self.note_slot_for_repair(now, &slot);
            }
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
