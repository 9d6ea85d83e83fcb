//! When records are written to disk.
//!
//! This node's own statements must be on disk before it sends them. The statements of others are
//! cached: they go with the next batch, or after a while, so that gossip does not wear out the
//! flash and a restart without network still knows most of them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::claims::Claims;
use crate::model::{Key, NodeId, Signed, Slot, Time};
use crate::sync::Tree;

use super::contract::{PersistId, Record};
use super::{Level, Node};

/// The longest time that a statement of another node waits for the disk. After a restart within it,
/// a comparison brings it again.
const CACHE_AFTER: Duration = Duration::from_secs(60);
/// The same for the first record of a node, and for one that tells of volumes. Not zero: a node
/// that joins a large cluster gets many records within seconds.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// Cached statements in one batch; the rest goes with the next.
const CACHE_BATCH: usize = 512;

/// Statements of others, and phases of this node's own claims, that are not on disk yet. At most
/// one entry for each node and each slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    slots: BTreeSet<(NodeId, u8)>,
    records: BTreeSet<NodeId>,
    due: Option<Time>,
}

impl Cache {
    /// The numbers of slots and of records.
    pub fn len(&self) -> (usize, usize) {
        (self.slots.len(), self.records.len())
    }

    pub fn slot(&mut self, now: Time, node: NodeId, slot: u8) {
        self.slots.insert((node, slot));
        self.due.get_or_insert(now + CACHE_AFTER);
    }

    /// A node's first record has the addresses to find it again, and one with volumes binds
    /// replicas to its node: they wait less long.
    pub fn record(&mut self, now: Time, node: NodeId, is_urgent: bool) {
        self.records.insert(node);
        let due = now + if is_urgent { FIRST_AFTER } else { CACHE_AFTER };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Makes everything due now.
    pub fn make_due(&mut self, now: Time) {
        self.due = (!self.slots.is_empty() || !self.records.is_empty()).then_some(now);
    }

    /// Drops everything of a node that left the roster.
    pub fn forget(&mut self, node: &NodeId) {
        self.records.remove(node);
        self.slots.retain(|(of, _)| of != node);
    }

    /// The time to write the cache in a batch of its own.
    pub fn due(&self) -> Option<Time> {
        self.due
    }
}

impl Node {
    /// Writes `records`, with some of the cache. Returns the batch that dependent effects must wait
    /// for; `None` if the disk takes no writes, or there is nothing to write.
    pub(super) fn persist(&mut self, mut records: Vec<Record>) -> Option<PersistId> {
        if self.saving.read_only.is_some() {
            self.saving.note(&records, None);
            return None;
        }
        let mut room = CACHE_BATCH;
        while room > 0 {
            let Some((node, slot)) = self.saving.cache.slots.pop_first() else { break };
            if let Some(slot) = self.claims.slot(&node, slot) {
                records.push(Record::Slot { node, slot: slot.wire() });
                room -= 1;
            }
        }
        while room > 0 {
            let Some(node) = self.saving.cache.records.pop_first() else { break };
            if let Some(record) = self.membership.record(&node) {
                records.push(Record::Node { node, record: record.wire() });
                room -= 1;
            }
        }
        if self.saving.cache.slots.is_empty() && self.saving.cache.records.is_empty() {
            self.saving.cache.due = None;
        }
        let batch = self.outbox.next_batch();
        self.saving.note(&records, Some(batch));
        self.outbox.persist(records)
    }

    /// Writes all of the cache: after an orderly stop, the next start knows what this one did.
    pub(super) fn write_cache(&mut self) {
        while self.saving.cache.due.is_some() && self.persist(Vec::new()).is_some() {}
    }

    pub(super) fn flush_cache(&mut self, now: Time) {
        if self.saving.cache.due.is_some_and(|at| at <= now) {
            // While the disk takes no writes the cache waits until it does again.
            self.saving.cache.due = self.saving.read_only.is_none().then(|| now + CACHE_AFTER);
            self.persist(Vec::new());
        }
    }

    /// Writes all concurrent changes of a key, and `also` in the same batch.
    pub(super) fn persist_key(&mut self, key: &Key, also: Option<Record>) {
        let hash = key.hash();
        let changes = self.changes_for_row(&hash);
        let records = std::iter::once(Record::Desired { key: hash, changes }).chain(also);
        self.persist(records.collect());
    }

    /// Writes own slots that were just issued, in one batch. No peer gets them, by gossip or
    /// comparison, before they are on disk.
    pub(super) fn issue(&mut self, now: Time, slots: &[Signed<Slot>]) -> Option<PersistId> {
        let records =
            slots.iter().map(|slot| Record::Slot { node: self.me, slot: slot.wire() }).collect();
        let batch = self.persist(records);
        if let Some(batch) = batch {
            slots.iter().for_each(|slot| self.holding.slot_issued(slot.slot, batch));
        }
        slots.iter().for_each(|slot| self.queue_slot(now, slot));
        batch
    }

    /// As `issue`, for phases of claims, which need not survive a crash: a restarted node finds
    /// them again.
    pub(super) fn issue_cached(&mut self, now: Time, slot: Signed<Slot>) {
        self.saving.cache.slot(now, self.me, slot.slot);
        self.queue_slot(now, &slot);
    }

    /// Queues an own slot for gossip; a slot on its way to disk is queued when it is there. A slot
    /// that a read-only node issues only releases claims, or says what it has no place for, so it
    /// need not be on disk.
    fn queue_slot(&mut self, now: Time, slot: &Signed<Slot>) {
        let is_unwritten = self.holding.slot_batch(slot.slot).is_some();
        if is_unwritten && self.saving.read_only.is_some() {
            return; // the claims that the disk refused are being released from it
        }
        if !is_unwritten {
            self.note_slot_for_repair(now, slot);
            self.slot_gossip.note(slot.slot);
        }
    }

    /// These own slots no longer wait for the disk: comparisons may offer them.
    fn note_own_slots_for_repair(&mut self, now: Time, numbers: &[u8]) -> Vec<Signed<Slot>> {
        let slots: Vec<_> = numbers
            .iter()
            .filter_map(|number| self.claims.slot(&self.me, *number).cloned())
            .collect();
        slots.iter().for_each(|slot| self.note_slot_for_repair(now, slot));
        slots
    }

    /// Notes the hash of a slot, of this node or another, for comparisons.
    pub(super) fn note_slot_for_repair(&mut self, now: Time, slot: &Signed<Slot>) {
        let node = NodeId(slot.by().0);
        self.repair.note(now, Tree::Sheets, Claims::key(&node, slot.slot), slot.hash());
    }

    /// All batches up to `upto` are on disk: what waited for them goes on.
    pub(super) fn on_stored(&mut self, now: Time, upto: PersistId) {
        self.outbox.stored(upto);
        self.saving.rows.retain(|_, batch| batch.is_none_or(|batch| batch > upto));
        let written = self.holding.slots_written(upto);
        for slot in self.note_own_slots_for_repair(now, &written) {
            self.slot_gossip.note_written(now, &slot);
        }
        self.on_claims_written(now, upto);
        let (done, waiting) =
            self.saving.incarnations.drain(..).partition::<Vec<_>, _>(|(id, _)| *id <= upto);
        self.saving.incarnations = waiting;
        for (_, incarnation) in done {
            self.with_membership(now, |membership, now, out| {
                membership.incarnation_stored(now, incarnation, out)
            });
        }
        self.on_changes_written(now, upto);
    }

    /// Writes an incarnation; membership uses it once it is on disk.
    pub(super) fn persist_incarnation(&mut self, incarnation: u64) {
        match self.persist(vec![Record::Incarnation(incarnation)]) {
            Some(batch) => self.saving.incarnations.push((batch, incarnation)),
            None => {
                self.saving.refused_incarnation =
                    self.saving.refused_incarnation.max(Some(incarnation))
            }
        }
    }

    pub(super) fn on_store_failed(&mut self, now: Time, why: String) {
        if self.saving.read_only.is_some() {
            return;
        }
        self.emit_event(
            now,
            Level::Warning,
            "store-failed",
            None,
            Some(self.me),
            format!(
                "the disk takes no writes ({why}): this node keeps running what it runs, and \
                takes nothing new until the disk does"
            ),
        );
        self.saving.read_only = Some(why.clone());
        // No pending row is on disk.
        self.saving.rows.values_mut().for_each(|batch| *batch = None);
        let refused = self.saving.incarnations.drain(..).map(|(_, incarnation)| incarnation).max();
        self.saving.refused_incarnation = self.saving.refused_incarnation.max(refused);
        self.drop_staged(now, &why);
        self.release_unwritten(now);
        // The driver dropped the gossip that waited for these slots, some of which release claims:
        // send them now.
        let dropped = self.holding.slots_dropped();
        for slot in self.note_own_slots_for_repair(now, &dropped) {
            self.outbox.push(super::Action::Broadcast(super::Message::Slot(slot.wire())));
        }
        self.shown.version += 1;
    }
}
