//! Admissions that came before that of the member which made them: they wait for it.

use std::collections::BTreeMap;

use crate::model::{Change, NodeId};

use super::standing;
use super::{Applied, Desired, Moved};

/// Waiting admissions. A comparison brings a few at a time, in no order; further ones come with the
/// next one. Each takes some 500 bytes.
const MAX_ORPHANS: usize = 1_024;

/// Admissions by members that are not known yet, by member.
#[derive(Clone, Debug, Default)]
pub(super) struct Orphans {
    waiting: BTreeMap<NodeId, Vec<Change>>,
    count: usize,
}

impl Orphans {
    pub(super) fn keep(&mut self, change: Change) {
        let Some(by) = standing::admitted_by(&change) else { return };
        if self.count >= MAX_ORPHANS {
            return;
        }
        let waiting = self.waiting.entry(by).or_default();
        if waiting.iter().all(|other| other.hash() != change.hash()) {
            waiting.push(change);
            self.count += 1;
        }
    }

    fn take(&mut self, by: &NodeId) -> Vec<Change> {
        let taken = self.waiting.remove(by).unwrap_or_default();
        self.count -= taken.len();
        taken
    }
}

impl Desired {
    /// The admission of `by` is here: applies those that it made.
    pub(super) fn adopt_orphans(&mut self, by: NodeId, also: &mut Vec<Moved>) {
        for orphan in self.orphans.take(&by) {
            let key = orphan.signed.key.clone();
            let before = self.effective(&key).map(Change::uid);
            // Without room it is left out, as any other change.
            if let Ok(Applied::New { also: more, .. }) = self.apply(orphan) {
                also.push(Moved { key, before });
                also.extend(more);
            }
        }
    }
}
