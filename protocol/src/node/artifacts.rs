//! Which artifacts this node has, which it is getting, and who else has them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Digest, NodeId, Time};

/// Holders remembered of one artifact: enough to fetch from, however large the cluster.
const MAX_HOLDERS: usize = 16;
/// Artifacts remembered. More workloads than this share artifacts, or are fetched from whoever claims them.
const MAX_ARTIFACTS: usize = 4_096;
/// The first wait before a fetch that failed is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How far an artifact has come here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Local {
    /// Not here, nobody asked.
    #[default]
    Absent,
    /// Asked for.
    Fetching,
    /// The last try failed.
    Waiting {
        /// When to try again.
        until: Time,
        /// How many tries failed in a row.
        tries: u32,
        /// What the last one said.
        why: String,
    },
    /// Here, and ready to start.
    Ready,
    /// Here, and can never start.
    Unusable(String),
}

#[derive(Clone, Debug, Default)]
struct Entry {
    local: Local,
    tries: u32,
    holders: BTreeSet<NodeId>,
}

/// The book of artifacts.
#[derive(Clone, Debug, Default)]
pub(super) struct Artifacts {
    entries: BTreeMap<Digest, Entry>,
    /// Those that are waiting, and some that were a moment ago: among the entries, all of them.
    waiting: BTreeSet<Digest>,
}

impl Artifacts {
    pub fn local(&self, digest: &Digest) -> &Local {
        self.entries.get(digest).map_or(&Local::Absent, |entry| &entry.local)
    }

    pub fn is_ready(&self, digest: &Digest) -> bool {
        *self.local(digest) == Local::Ready
    }

    /// Nodes known to hold it.
    pub fn holders(&self, digest: &Digest) -> impl Iterator<Item = &NodeId> {
        self.entries.get(digest).into_iter().flat_map(|entry| entry.holders.iter())
    }

    /// `node` says that it holds it. Whether that is news.
    pub fn held_by(&mut self, digest: Digest, node: NodeId) -> bool {
        match self.entry(digest) {
            Some(entry) if entry.holders.len() < MAX_HOLDERS => entry.holders.insert(node),
            _ => false,
        }
    }

    /// `node` is gone from the roster, or was found not to hold anything.
    pub fn forget_holder(&mut self, node: &NodeId) {
        for entry in self.entries.values_mut() {
            entry.holders.remove(node);
        }
    }

    /// Whether a fetch shall be asked for now; if so, it counts as asked.
    pub fn begin(&mut self, now: Time, digest: Digest) -> bool {
        let Some(entry) = self.entry(digest) else { return false };
        let due = match &entry.local {
            Local::Absent => true,
            Local::Waiting { until, .. } => *until <= now,
            Local::Fetching | Local::Ready | Local::Unusable(_) => false,
        };
        if due {
            entry.local = Local::Fetching;
        }
        due
    }

    pub fn ready(&mut self, digest: Digest, me: NodeId) {
        if let Some(entry) = self.entry(digest) {
            entry.local = Local::Ready;
            entry.tries = 0;
            entry.holders.insert(me);
        }
    }

    pub fn unusable(&mut self, digest: Digest, why: String) {
        if let Some(entry) = self.entry(digest) {
            entry.local = Local::Unusable(why);
        }
    }

    pub fn failed(&mut self, now: Time, digest: Digest, why: String) {
        if let Some(entry) = self.entry(digest) {
            let wait = RETRY.0.saturating_mul(1 << entry.tries.min(8)).min(RETRY.1);
            entry.tries = entry.tries.saturating_add(1);
            entry.local = Local::Waiting { until: now + wait, tries: entry.tries, why };
            self.waiting.insert(digest);
        }
    }

    /// Retries that were due and that nobody took up: they are not wanted now.
    pub fn drop_due(&mut self, now: Time) {
        let entries = &mut self.entries;
        self.waiting.retain(|digest| {
            let Some(entry) = entries.get_mut(digest) else { return false };
            let Local::Waiting { until, .. } = entry.local else { return false };
            if until <= now {
                entry.local = Local::Absent;
            }
            until > now
        });
    }

    /// When the next failed fetch is due.
    pub fn next_retry(&self) -> Option<Time> {
        let until = |digest| match self.local(digest) {
            Local::Waiting { until, .. } => Some(*until),
            Local::Absent | Local::Fetching | Local::Ready | Local::Unusable(_) => None,
        };
        self.waiting.iter().filter_map(until).min()
    }

    /// Artifacts that something is known of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Those that are waited for, or were.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets all that are not in `wanted`, but for those that are being fetched.
    pub fn retain(&mut self, wanted: &BTreeSet<Digest>) {
        self.entries.retain(|digest, entry| wanted.contains(digest) || entry.local == Local::Fetching);
        self.waiting.retain(|digest| self.entries.contains_key(digest));
    }

    fn entry(&mut self, digest: Digest) -> Option<&mut Entry> {
        if self.entries.len() >= MAX_ARTIFACTS && !self.entries.contains_key(&digest) {
            return None;
        }
        Some(self.entries.entry(digest).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_workloads_that_are_gone_nothing_is_kept_though_their_bytes_never_came() {
        let mut artifacts = Artifacts::default();
        for n in 0..100u64 {
            let digest = Digest::of(&n.to_be_bytes());
            assert!(artifacts.begin(Time::ZERO, digest));
            artifacts.failed(Time::ZERO, digest, "nobody has it".into());
            assert!(artifacts.next_retry().is_some());
            artifacts.retain(&BTreeSet::new());
        }
        assert_eq!((artifacts.next_retry(), artifacts.entries.len(), artifacts.waiting.len()), (None, 0, 0));
    }
}
