//! The effects that the driver has not taken yet, in order, each with the batch that it waits for.

use std::collections::VecDeque;

use super::contract::{Action, Effect, PersistId, Record};

/// Effects not taken yet. The driver takes all of them after every input, so these are the effects
/// of one input.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    effects: VecDeque<Effect>,
    last: u64,
    stored: u64,
}

impl Outbox {
    /// Requests an action, to be carried out at once.
    pub fn push(&mut self, action: Action) {
        self.effects.push_back(Effect { after: None, action });
    }

    /// Requests an action, to be carried out once `after` is on disk; at once if it is there.
    pub fn push_after(&mut self, after: Option<PersistId>, action: Action) {
        let after = after.filter(|id| self.is_waiting(Some(*id)));
        self.effects.push_back(Effect { after, action });
    }

    /// The id of the next batch.
    pub fn next_batch(&self) -> PersistId {
        PersistId(self.last + 1)
    }

    /// Requests that records are written. Returns the batch to wait for; `None` for no records.
    pub fn persist(&mut self, records: Vec<Record>) -> Option<PersistId> {
        if records.is_empty() {
            return None;
        }
        let id = self.next_batch();
        self.last = id.0;
        self.effects.push_back(Effect { after: None, action: Action::Persist { id, records } });
        Some(id)
    }

    /// Whether `batch` is not on disk yet.
    pub fn is_waiting(&self, batch: Option<PersistId>) -> bool {
        batch.is_some_and(|batch| batch.0 > self.stored)
    }

    /// All batches up to `upto` are on disk.
    pub fn stored(&mut self, upto: PersistId) {
        self.stored = self.stored.max(upto.0);
    }

    pub fn pop(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
