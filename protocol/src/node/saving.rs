//! The books of what is not on this node's disk: changes it is the first to take, rows on their
//! way, and rows that a failed disk refused.
//!
//! **A change of which this node would be the only holder is nowhere but in here until it is on
//! disk.** It is not effective, not told, not shown and not compared; when the disk refuses it, it
//! is gone, and its author is told that nothing changed. A change from a peer is on that peer's
//! disk: it is effective at once, and is written when this disk takes it.

use std::collections::BTreeMap;

use crate::model::{Change, Digest, Key, NodeId, NodeRecord, Signed, Time};

use super::contract::{Action, Command, PersistId, Record, Refusal, Reply, RequestId};
use super::message::Message;
use super::persisting::Cache;
use super::{Level, Node};

/// Changes on their way to disk. Each has a user or a joining node that waits for it.
pub(super) const MAX_STAGED: usize = 1_024;
/// Commands that wait for a change of the same workload. Each has a user who waits.
pub(super) const MAX_DEFERRED: usize = 1_024;

/// The books of what is not on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Saving {
    /// Why the disk takes no writes.
    pub read_only: Option<String>,
    /// Facts of others, and phases of own claims, that may be written late.
    pub cache: Cache,
    /// Incarnations on their way to disk.
    pub incarnations: Vec<(PersistId, u64)>,
    /// The highest incarnation that membership waits for and the disk refused.
    pub refused_incarnation: Option<u64>,
    /// Rows that differ between memory and disk: with the batch they are in, or refused.
    pub rows: BTreeMap<Row, Option<PersistId>>,
    /// By the key's hash: one change of a key at a time.
    pub staged: BTreeMap<Digest, Staged>,
    /// Commands about keys of which a change is staged, in the order they came.
    pub deferred: Vec<(RequestId, Command)>,
}

/// Where a record lies on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Row {
    Desired(Digest),
    Slot(NodeId, u8),
    Ruling(Digest),
}

/// A change on its way to disk.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub batch: PersistId,
    pub change: Change,
    then: Then,
}

/// The step that follows when a change is on disk.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// Its author is answered.
    Answer(RequestId),
    /// A node was admitted; one that asked for it is told.
    Admit(NodeId, Option<Box<Signed<NodeRecord>>>),
}

impl Row {
    /// Where a record lies. None for what is looked after elsewhere: incarnations, and node
    /// records, which the cache has. A ruling that was dropped may stay on a failed disk, since it
    /// is dropped again at a start.
    pub fn of(record: &Record) -> Option<Row> {
        match record {
            Record::Desired { key, .. } => Some(Row::Desired(*key)),
            Record::Slot { node, slot } => Some(Row::Slot(*node, slot.peek().ok()?.slot)),
            Record::Ruling { key, .. } => Some(Row::Ruling(*key)),
            Record::Incarnation(_) | Record::Node { .. } | Record::NoRuling { .. } => None,
        }
    }
}

impl Saving {
    /// These records are asked for in `batch`, or are not asked for because the disk is known to
    /// refuse them.
    pub fn note(&mut self, records: &[Record], batch: Option<PersistId>) {
        for record in records {
            if let Record::NoRuling { key } = record {
                self.rows.remove(&Row::Ruling(*key));
            }
            self.rows.extend(Row::of(record).map(|row| (row, batch)));
        }
    }

    /// A node has left the roster: nothing of it is written any more.
    pub fn forget(&mut self, node: &NodeId) {
        self.cache.forget(node);
        self.rows.retain(|row, _| !matches!(row, Row::Slot(of, _) if of == node));
    }

    /// Whether a change of this key is on its way to disk.
    pub fn is_staged(&self, key: &Digest) -> bool {
        self.staged.contains_key(key)
    }
}

impl Node {
    /// Takes a change of which nobody else knows: it counts once it is on disk, and so does what
    /// follows from it.
    pub(super) fn stage(&mut self, now: Time, change: Change, then: Then) -> Result<(), Refusal> {
        let (key, at) = (&change.signed.key, change.signed.key.hash());
        if self.saving.staged.len() >= MAX_STAGED {
            return Err(Refusal::Busy(format!("{MAX_STAGED} changes wait for the disk")));
        }
        let is_new = |it: &Change| {
            std::mem::discriminant(&it.signed.key) == std::mem::discriminant(key)
                && self.desired.effective(&it.signed.key).is_none()
        };
        let more = self.saving.staged.values().filter(|staged| is_new(&staged.change)).count();
        let Some(changes) =
            self.desired.preview(&change, more).map_err(|full| Refusal::Full(full.to_string()))?
        else {
            self.on_saved(now, change, then);
            return Ok(());
        };
        let Some(batch) = self.persist(vec![Record::Desired { key: at, changes }]) else {
            return Err(Refusal::ReadOnly(self.saving.read_only.clone().unwrap_or_default()));
        };
        self.saving.staged.insert(at, Staged { batch, change, then });
        Ok(())
    }

    /// Changes up to this batch are on disk: they count.
    pub(super) fn on_changes_written(&mut self, now: Time, upto: PersistId) {
        let mut done: Vec<Staged> = self
            .saving
            .staged
            .extract_if(.., |_, staged| staged.batch <= upto)
            .map(|(_, staged)| staged)
            .collect();
        done.sort_by_key(|staged| staged.batch);
        for Staged { change, then, .. } in done {
            let key = change.signed.key.clone();
            match self.take_change(now, change.clone()) {
                Ok(()) => self.on_saved(now, change, then),
                // Changes from others took the last room meanwhile: the disk forgets this one
                // again.
                Err(full) => {
                    self.persist_key(&key);
                    self.refuse(now, then, Refusal::Full(full));
                }
            }
        }
        self.resume(now);
    }

    /// The disk refused them: nothing changed.
    pub(super) fn drop_staged(&mut self, now: Time, why: &str) {
        for (_, staged) in std::mem::take(&mut self.saving.staged) {
            self.refuse(now, staged.then, Refusal::ReadOnly(why.to_owned()));
        }
        self.resume(now);
    }

    /// The change is on disk, or was there already.
    fn on_saved(&mut self, now: Time, change: Change, then: Then) {
        let (uid, hash, raw) = (change.uid(), change.hash(), change.raw());
        match then {
            Then::Answer(request) => {
                let artifacts = change.signed.value.artifacts();
                let are_here = artifacts.iter().all(|digest| self.artifacts.is_ready(digest));
                let holder = (are_here && !artifacts.is_empty()).then_some(self.me);
                self.outbox
                    .push(Action::Reply { request, reply: Reply::Accepted { uid, change: hash } });
                self.outbox.push(Action::Broadcast(Message::Changed { change: raw, holder }));
                artifacts.into_iter().for_each(|digest| self.follow_up(now, digest));
            }
            Then::Admit(node, record) => {
                self.outbox.push(Action::Broadcast(Message::Changed { change: raw, holder: None }));
                if let Some(record) = record {
                    self.welcome(now, node, *record);
                }
            }
        }
    }

    fn refuse(&mut self, now: Time, then: Then, refusal: Refusal) {
        match then {
            Then::Answer(request) => {
                self.outbox.push(Action::Reply { request, reply: Reply::Refused(refusal) })
            }
            Then::Admit(node, _) => {
                self.tell(
                    now,
                    Level::Warning,
                    "node-refused",
                    None,
                    Some(node),
                    format!("not admitted: {refusal}"),
                );
            }
        }
    }

    /// Lets a command wait until the change of the same key that is on its way to disk counts, or
    /// is gone.
    pub(super) fn defer(&mut self, request: RequestId, command: Command) {
        if self.saving.deferred.len() >= MAX_DEFERRED {
            let busy = Refusal::Busy(format!("{MAX_DEFERRED} commands wait for the disk"));
            return self.outbox.push(Action::Reply { request, reply: Reply::Refused(busy) });
        }
        self.saving.deferred.push((request, command));
    }

    /// Commands that waited go on; some may have to wait again.
    fn resume(&mut self, now: Time) {
        for (request, command) in std::mem::take(&mut self.saving.deferred) {
            self.on_command(now, request, command);
        }
    }

    /// The changes that are to lie on disk under a key: effective ones, and one that is on its way.
    pub(super) fn to_lie_under(&self, key: &Digest) -> Vec<crate::model::RawChange> {
        let staged = self
            .saving
            .staged
            .get(key)
            .and_then(|staged| self.desired.preview(&staged.change, 0).ok()?);
        staged.unwrap_or_else(|| self.desired.item(key))
    }

    /// Whether this node holds a change, effective or not: for tests.
    pub fn holds_change(&self, key: &Key, hash: &Digest) -> bool {
        self.desired.siblings(key).any(|sibling| sibling.hash() == *hash)
    }

    /// The disk takes writes again: what memory holds otherwise is written, and the node takes part
    /// in everything as before.
    pub(super) fn on_store_recovered(&mut self, now: Time) {
        if self.saving.read_only.take().is_none() {
            return;
        }
        let message = "the disk takes writes again: this node takes changes and new replicas";
        self.tell(now, Level::Info, "store-recovered", None, Some(self.me), message.into());
        let rows = std::mem::take(&mut self.saving.rows);
        let mut records: Vec<Record> =
            rows.into_keys().filter_map(|row| self.record_of(row)).collect();
        let incarnation = self.saving.refused_incarnation.take();
        records.extend(incarnation.map(Record::Incarnation));
        let batch = self.persist(records);
        self.saving.incarnations.extend(batch.zip(incarnation));
        self.saving.cache.hurry(now);
        // A founder's own admission may be what was refused.
        self.found(now);
        self.due.all();
        self.due.facts = true;
        self.mark_all();
        self.shown.version += 1;
    }

    /// A row as memory holds it.
    fn record_of(&self, row: Row) -> Option<Record> {
        match row {
            Row::Desired(key) => Some(Record::Desired { key, changes: self.to_lie_under(&key) }),
            Row::Slot(node, slot) => {
                self.claims.slot(&node, slot).map(|slot| Record::Slot { node, slot: slot.wire() })
            }
            Row::Ruling(key) => Some(match self.rulings.item(&key) {
                Some(ruling) => Record::Ruling { key, ruling: ruling.wire() },
                None => Record::NoRuling { key },
            }),
        }
    }
}
