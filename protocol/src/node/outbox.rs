//! What the node asks of the world, in order, and what each of it waits for.

use std::collections::VecDeque;

use super::contract::{Action, Effect, PersistId, Record};

/// The effects not yet taken. The driver takes all of them after every input, so only one input's
/// effects are ever in here.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    effects: VecDeque<Effect>,
    last: u64,
    stored: u64,
}

impl Outbox {
    /// Does it at once.
    pub fn push(&mut self, action: Action) {
        self.effects.push_back(Effect { after: None, action });
    }

    /// Does it once `after` is on disk; at once when it is there already.
    pub fn push_after(&mut self, after: Option<PersistId>, action: Action) {
        let after = after.filter(|id| self.is_waiting(Some(*id)));
        self.effects.push_back(Effect { after, action });
    }

    /// The name of the next batch.
    pub fn next_batch(&self) -> PersistId {
        PersistId(self.last + 1)
    }

    /// Asks for these records on disk; the answer is what to wait for.
    pub fn persist(&mut self, records: Vec<Record>) -> Option<PersistId> {
        if records.is_empty() {
            return None;
        }
        let id = self.next_batch();
        self.last = id.0;
        self.effects.push_back(Effect { after: None, action: Action::Persist { id, records } });
        Some(id)
    }

    /// Whether what waits for `batch` still waits.
    pub fn is_waiting(&self, batch: Option<PersistId>) -> bool {
        batch.is_some_and(|batch| batch.0 > self.stored)
    }

    /// Everything up to `upto` is on disk.
    pub fn stored(&mut self, upto: PersistId) {
        self.stored = self.stored.max(upto.0);
    }

    pub fn pop(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}
