//! When this node's slots are told. A slot travels as a whole, so that several changes of it are
//! told by one message; and what a node says to all is work for all, so that it says no more than
//! so much a second.
//!
//! A quiet node tells each change at once. One that takes hundreds of replicas tells a slot again
//! when its turn comes, with all that has changed until then: what is outstanding is at most a
//! sheet, however many replicas there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::{Bucket, Phase, ReplicaId, Slot, Time};

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

/// What is still to be told of this node's sheet.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    pace: Bucket,
    /// Slots that changed since they were told, the longest waiting first. Each stands in it once:
    /// at most as many as a sheet has.
    waiting: VecDeque<u8>,
    /// Slots that change again in a moment, and until when that is waited for. None of them is
    /// among those that wait.
    later: BTreeMap<u8, Time>,
    /// When the first of them may be told, while the pace holds them back.
    next_at: Option<Time>,
    /// Replicas that run and answer, which is still to be told, by slot. At most as many as there
    /// are claims.
    untold: BTreeSet<(u8, ReplicaId)>,
}

impl Default for Telling {
    fn default() -> Self {
        Telling {
            pace: Bucket::new(BURST, EVERY),
            waiting: VecDeque::new(),
            later: BTreeMap::new(),
            next_at: None,
            untold: BTreeSet::new(),
        }
    }
}

impl Telling {
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
        match self.pace.take(now) {
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

    /// Slots that wait, and replicas whose health is to be told.
    pub fn len(&self) -> (usize, usize) {
        (self.waiting.len() + self.later.len(), self.untold.len())
    }

    /// This replica runs, and answers.
    pub fn runs(&mut self, replica: &ReplicaId) {
        self.untold.insert((replica.slot(), *replica));
    }

    /// This replica does not, or that has been told.
    pub fn forget(&mut self, replica: &ReplicaId) {
        self.untold.remove(&(replica.slot(), *replica));
    }

    /// Whether it is still to be told that this replica runs.
    pub fn is_untold(&self, replica: &ReplicaId) -> bool {
        self.untold.contains(&(replica.slot(), *replica))
    }

    /// All whose health is still to be told.
    pub fn untold(&self) -> impl Iterator<Item = &ReplicaId> {
        self.untold.iter().map(|(_, replica)| replica)
    }

    fn untold_of(&self, slot: u8) -> Vec<ReplicaId> {
        self.untold.iter().filter(|(of, _)| *of == slot).map(|(_, replica)| *replica).collect()
    }
}

impl Node {
    /// Tells those of the slots that wait whose turn has come: first how their replicas fare, then
    /// the slot.
    pub(super) fn tell_slots(&mut self, now: Time) {
        while let Some(slot) = self.telling.next(now) {
            self.tell_healthy(now, slot);
            let Some(current) = self.claims.slot(&self.me, slot) else { continue };
            let wire = current.wire();
            let batch = self.saving.unwritten.get(&slot).copied();
            if batch.is_some() && self.read_only.is_some() {
                continue; // what never gets to disk is being taken out of it
            }
            // A slot is told as a whole, so it waits for everything in it.
            self.outbox.push_after(batch, Action::Broadcast(Message::Slot(wire)));
        }
    }

    /// States of the replicas of a slot that run and answer that they do, as far as that may be
    /// told now.
    fn tell_healthy(&mut self, now: Time, slot: u8) {
        let mut told = self.telling.untold_of(slot);
        told.retain(|replica| self.may_tell_health(now, replica));
        if told.is_empty() {
            return;
        }
        for replica in &told {
            self.telling.forget(replica);
            self.has_told(replica);
        }
        let since = self.wall(now);
        let Some(slot) = self.claims.set_healthy(slot, &told, since) else { return };
        self.saving.cache.slot(now, self.me, slot.slot);
        if !self.saving.unwritten.contains_key(&slot.slot) {
            self.note_slot(now, &slot);
        }
        for replica in told {
            self.on_own_change(&replica);
            let name = self.replica_name(&replica);
            self.tell(
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
