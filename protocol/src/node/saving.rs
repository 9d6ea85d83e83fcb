//! State that is not on this node's disk yet: changes that no other node holds, rows on their way,
//! and rows that a failed disk refused.
//!
//! **A change that no other node holds is only in [`Saving::staged`] until it is on disk.** It is
//! not effective, gossiped, shown or compared. If the disk refuses it, it is dropped, and its
//! author gets the answer that nothing changed. A change from a peer is on that peer's disk: it is
//! effective at once, and written when this disk takes it.

use std::collections::BTreeMap;

use crate::model::{Change, Digest, Key, NodeId, NodeRecord, Revision, Signed, Time};

use super::contract::{Action, Command, PersistId, Record, Refusal, Reply, RequestId};
use super::message::Message;
use super::persisting::Cache;
use super::{Level, Node};

/// Changes on their way to disk. A user or a joining node waits for each of them.
pub(super) const MAX_STAGED: usize = 1_024;
/// Commands that wait for a change of the same workload. A user waits for each of them.
pub(super) const MAX_DEFERRED: usize = 1_024;

/// State that is not on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Saving {
    /// The disk's error while it takes no writes.
    pub read_only: Option<String>,
    /// Statements of others, and phases of own claims, that may be written late.
    pub cache: Cache,
    /// Incarnations on their way to disk.
    pub incarnations: Vec<(PersistId, u64)>,
    /// The highest incarnation that the disk refused; membership waits for it.
    pub refused_incarnation: Option<u64>,
    /// Rows that differ between memory and disk, each with its batch; `None` if the disk refused
    /// it.
    pub rows: BTreeMap<Row, Option<PersistId>>,
    /// Staged changes, by the hash of their key: one for a key at a time.
    pub staged: BTreeMap<Digest, Staged>,
    /// Commands about keys of staged changes, in the order in which they came.
    pub deferred: Vec<(RequestId, Command)>,
}

/// The key of a row on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Row {
    Desired(Digest),
    Slot(NodeId, u8),
    Ruling(Digest),
    OldVersion(Digest, Revision),
}

/// A change on its way to disk, which no other node holds.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub batch: PersistId,
    pub change: Change,
    then: Then,
}

/// The step that follows once a staged change is on disk.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// Answer the author.
    Answer(RequestId),
    /// Tell the node that it is admitted. It sent its record.
    Admit(NodeId, Box<Signed<NodeRecord>>),
}

impl Row {
    /// The row of a record. `None` for records that other fields track: incarnations, and node
    /// records, which are in the cache. A dropped ruling may stay on a failed disk, because it is
    /// dropped again at the next start.
    pub fn of(record: &Record) -> Option<Row> {
        match record {
            Record::Desired { key, .. } => Some(Row::Desired(*key)),
            Record::Slot { node, slot } => Some(Row::Slot(*node, slot.peek().ok()?.slot)),
            Record::Ruling { key, .. } => Some(Row::Ruling(*key)),
            Record::OldVersion { uid, generation, .. } => Some(Row::OldVersion(*uid, *generation)),
            Record::Incarnation(_) | Record::Node { .. } | Record::NoRuling { .. } => None,
        }
    }
}

impl Saving {
    /// Notes rows that go to disk in `batch`, or that are not written because the disk takes no
    /// writes.
    pub fn note(&mut self, records: &[Record], batch: Option<PersistId>) {
        for record in records {
            if let Record::NoRuling { key } = record {
                self.rows.remove(&Row::Ruling(*key));
            }
            self.rows.extend(Row::of(record).map(|row| (row, batch)));
        }
    }

    /// Drops the rows of a node that left the roster.
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
    /// Stages a change that no other node holds: it takes effect once it is on disk, and `then`
    /// follows.
    pub(super) fn stage(&mut self, now: Time, change: Change, then: Then) -> Result<(), Refusal> {
        let (key, at) = (&change.signed.key, change.signed.key.hash());
        if self.saving.staged.len() >= MAX_STAGED {
            return Err(Refusal::Busy(format!("{MAX_STAGED} changes wait for the disk")));
        }
        let is_new_key = |other: &Change| {
            std::mem::discriminant(&other.signed.key) == std::mem::discriminant(key)
                && self.desired.effective(&other.signed.key).is_none()
        };
        let more = self.saving.staged.values().filter(|staged| is_new_key(&staged.change)).count();
        let Some(changes) =
            self.desired.preview(&change, more).map_err(|full| Refusal::Full(full.to_string()))?
        else {
            self.on_saved(now, change, then);
            return Ok(());
        };
        // In one batch: a crash after it leaves the version that serves.
        let mut records = vec![Record::Desired { key: at, changes }];
        let revision = |change: &Change| Some(change.signed.value.spec()?.revision());
        let old = self.claimed_version(&change.signed.key);
        let old = old.filter(|(_, _, old, _)| revision(old) != revision(&change));
        records.extend(old.and_then(|old| self.keep_version(old)));
        let Some(batch) = self.persist(records) else {
            return Err(Refusal::ReadOnly(self.saving.read_only.clone().unwrap_or_default()));
        };
        self.saving.staged.insert(at, Staged { batch, change, then });
        Ok(())
    }

    /// Staged changes up to this batch are on disk: they take effect.
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
                // Changes from other nodes took the last room meanwhile: delete it from disk.
                Err(full) => {
                    self.persist_key(&key, None);
                    self.refuse(now, then, Refusal::Full(full));
                }
            }
        }
        self.resume_commands(now);
    }

    /// The disk failed: refuses all staged changes.
    pub(super) fn drop_staged(&mut self, now: Time, why: &str) {
        for (_, staged) in std::mem::take(&mut self.saving.staged) {
            self.refuse(now, staged.then, Refusal::ReadOnly(why.to_owned()));
        }
        self.resume_commands(now);
    }

    /// A change is on disk, or was there already: answers, and gossips it.
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
                artifacts.into_iter().for_each(|digest| self.track_replication(now, digest));
            }
            Then::Admit(node, record) => {
                self.outbox.push(Action::Broadcast(Message::Changed { change: raw, holder: None }));
                self.send_admission(now, node, *record);
            }
        }
    }

    fn refuse(&mut self, now: Time, then: Then, refusal: Refusal) {
        match then {
            Then::Answer(request) => {
                self.outbox.push(Action::Reply { request, reply: Reply::Refused(refusal) })
            }
            Then::Admit(node, _) => {
                self.emit_not_admitted(now, node, &refusal.to_string());
                self.refuse_peer(node, refusal.to_string(), Vec::new());
            }
        }
    }

    /// Lets a command wait until the staged change of the same key is on disk, or refused.
    pub(super) fn defer_command(&mut self, request: RequestId, command: Command) {
        if self.saving.deferred.len() >= MAX_DEFERRED {
            let busy = Refusal::Busy(format!("{MAX_DEFERRED} commands wait for the disk"));
            return self.outbox.push(Action::Reply { request, reply: Reply::Refused(busy) });
        }
        self.saving.deferred.push((request, command));
    }

    /// Runs the commands that waited; some may have to wait again.
    fn resume_commands(&mut self, now: Time) {
        for (request, command) in std::mem::take(&mut self.saving.deferred) {
            self.on_command(now, request, command);
        }
    }

    /// The changes of a key that its row should have: those in memory, with a staged one.
    pub(super) fn changes_for_row(&self, key: &Digest) -> Vec<crate::model::RawChange> {
        let staged = self
            .saving
            .staged
            .get(key)
            .and_then(|staged| self.desired.preview(&staged.change, 0).ok()?);
        staged.unwrap_or_else(|| self.desired.item(key))
    }

    /// Whether this node holds a change, effective or superseded. For tests.
    pub fn holds_change(&self, key: &Key, hash: &Digest) -> bool {
        self.desired.siblings(key).any(|sibling| sibling.hash() == *hash)
    }

    /// The disk takes writes again: writes the rows that differ from memory, and takes part as
    /// before.
    pub(super) fn on_store_recovered(&mut self, now: Time) {
        if self.saving.read_only.take().is_none() {
            return;
        }
        let message = "the disk takes writes again: this node takes changes and new replicas";
        self.emit_event(now, Level::Info, "store-recovered", None, Some(self.me), message.into());
        let rows = std::mem::take(&mut self.saving.rows);
        let mut records: Vec<Record> =
            rows.into_keys().filter_map(|row| self.record_of(row)).collect();
        let incarnation = self.saving.refused_incarnation.take();
        records.extend(incarnation.map(Record::Incarnation));
        let batch = self.persist(records);
        self.saving.incarnations.extend(batch.zip(incarnation));
        self.saving.cache.make_due(now);
        self.due.all();
        self.due.facts = true;
        self.mark_all_dirty();
        self.shown.version += 1;
    }

    /// The record of a row as it is in memory.
    fn record_of(&self, row: Row) -> Option<Record> {
        match row {
            Row::Desired(key) => Some(Record::Desired { key, changes: self.changes_for_row(&key) }),
            Row::Slot(node, slot) => {
                self.claims.slot(&node, slot).map(|slot| Record::Slot { node, slot: slot.wire() })
            }
            Row::Ruling(key) => Some(match self.rulings.item(&key) {
                Some(ruling) => Record::Ruling { key, ruling: ruling.wire() },
                None => Record::NoRuling { key },
            }),
            Row::OldVersion(uid, generation) => Some(self.old_versions.record(uid, generation)),
        }
    }
}
