//! Artifacts: what is on this device, which nodes hold what, what is being fetched, what users put
//! here, and which guardians still lack what was published here.
//!
//! The bytes themselves are the daemon's; this room keeps the books.

mod replication;
mod stalls;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Digest, NodeId, Queue, Time};

pub use replication::Replication;
pub use stalls::Stalls;
pub use uploads::Uploads;

/// Holders remembered of one artifact: enough to fetch from, however large the cluster.
const MAX_HOLDERS: usize = 16;
/// Artifacts remembered that no workload names: fresh uploads, all of which fit, and versions of a
/// moment ago. Those that workloads name come besides, however many: what is to run must never find
/// the book full.
const MAX_SPARE: usize = 2 * uploads::MAX_UPLOADS;
/// How many of them stay when there are more. So many fewer that a look at all of them pays.
const KEPT_SPARE: usize = MAX_SPARE / 2;
/// The first wait before a fetch that failed is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How far an artifact has come here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Local {
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
    /// The error of the last failed fetch, until one succeeds or nobody wants another.
    failure: Option<String>,
    holders: BTreeSet<NodeId>,
    /// Grows from entry to entry: the least is the oldest.
    number: u64,
}

/// The book of artifacts: those that workloads name, and at most [`MAX_SPARE`] others, besides what
/// is being fetched.
#[derive(Clone, Debug, Default)]
pub struct Artifacts {
    entries: BTreeMap<Digest, Entry>,
    next: u64,
    /// Those that are waiting, and some that were a moment ago: among the entries, all of them.
    waiting: BTreeSet<Digest>,
    /// Peers from whom no bytes come.
    pub stalls: Stalls,
    /// What users put here lately.
    pub uploads: Uploads,
    /// What was published here, as long as guardians lack it.
    pub replication: Replication,
}

impl Artifacts {
    /// How far an artifact has come on this device.
    pub fn local(&self, digest: &Digest) -> &Local {
        self.entries.get(digest).map_or(&Local::Absent, |entry| &entry.local)
    }

    /// Whether it is on this device, and ready to start.
    pub fn is_ready(&self, digest: &Digest) -> bool {
        *self.local(digest) == Local::Ready
    }

    /// Why the last try to get it failed, until one succeeds.
    pub fn failure(&self, digest: &Digest) -> Option<&str> {
        self.entries.get(digest)?.failure.as_deref()
    }

    /// Nodes known to hold it.
    pub fn holders(&self, digest: &Digest) -> impl Iterator<Item = &NodeId> {
        self.entries.get(digest).into_iter().flat_map(|entry| entry.holders.iter())
    }

    /// Whether anything is known of it.
    pub fn knows(&self, digest: &Digest) -> bool {
        self.entries.contains_key(digest)
    }

    /// How many fetches of it failed in a row.
    pub fn tries(&self, digest: &Digest) -> u32 {
        self.entries.get(digest).map_or(0, |entry| entry.tries)
    }

    /// `node` says that it holds what a workload names. Whether that is news.
    pub fn held_by(&mut self, digest: Digest, node: NodeId) -> bool {
        let entry = self.entry(digest);
        entry.holders.len() < MAX_HOLDERS && entry.holders.insert(node)
    }

    /// `node` is gone from the roster, or was found not to hold anything.
    pub fn forget_holder(&mut self, node: &NodeId) {
        for entry in self.entries.values_mut() {
            entry.holders.remove(node);
        }
    }

    /// Whether a fetch shall be asked for now; if so, it counts as asked.
    pub fn begin(&mut self, now: Time, digest: Digest) -> bool {
        let entry = self.entry(digest);
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

    /// It is on this device now, verified and ready to start.
    pub fn ready(&mut self, digest: Digest, me: NodeId) {
        let entry = self.entry(digest);
        entry.local = Local::Ready;
        entry.tries = 0;
        entry.failure = None;
        entry.holders.insert(me);
    }

    /// It is on this device, and can never start.
    pub fn unusable(&mut self, digest: Digest, why: String) {
        self.entry(digest).local = Local::Unusable(why);
    }

    /// A fetch failed; the next try is after a pause that doubles.
    pub fn failed(&mut self, now: Time, digest: Digest, why: String) {
        let entry = self.entry(digest);
        let wait = RETRY.0.saturating_mul(1 << entry.tries.min(8)).min(RETRY.1);
        entry.tries = entry.tries.saturating_add(1);
        entry.failure = Some(why.clone());
        entry.local = Local::Waiting { until: now + wait, tries: entry.tries, why };
        self.waiting.insert(digest);
    }

    /// Retries that were due and that nobody took up: they are not wanted now.
    pub fn drop_due(&mut self, now: Time) {
        let entries = &mut self.entries;
        self.waiting.retain(|digest| {
            let Some(entry) = entries.get_mut(digest) else { return false };
            let Local::Waiting { until, .. } = entry.local else { return false };
            if until <= now {
                entry.local = Local::Absent;
                entry.failure = None;
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

    /// What grows, with its bound: `named` artifacts are named by workloads.
    pub fn queues(&self, named: usize, is_named: impl Fn(&Digest) -> bool) -> Vec<Queue> {
        // A fetch of what nobody wants any more ends by itself; operators set their rate.
        let leaving = |(digest, entry): &(&Digest, &Entry)| {
            entry.local == Local::Fetching && !is_named(digest)
        };
        let leaving = self.entries.iter().filter(leaving).count();
        vec![
            Queue::new("artifacts known", self.entries.len(), named + MAX_SPARE + leaving),
            Queue::new("artifacts waited for", self.waiting.len(), self.entries.len()),
            self.stalls.queue(),
            self.uploads.queue(),
            self.replication.queue(),
        ]
    }

    /// Forgets all that neither a workload names nor a user put here lately, but for those that are
    /// being fetched.
    pub fn retain(&mut self, is_named: impl Fn(&Digest) -> bool) {
        let uploads = &self.uploads;
        let is_wanted = |digest: &Digest| is_named(digest) || uploads.contains(digest);
        self.entries.retain(|digest, entry| is_wanted(digest) || entry.local == Local::Fetching);
        self.waiting.retain(|digest| self.entries.contains_key(digest));
    }

    /// Forgets the oldest that are not wanted, but for those that are being fetched, when there are
    /// more than `named` and [`MAX_SPARE`]. Whether there is room then. Looks at all of them once
    /// for each [`KEPT_SPARE`] that came.
    pub fn prune(&mut self, named: usize, is_named: impl Fn(&Digest) -> bool) -> bool {
        if self.entries.len() < named + MAX_SPARE {
            return true;
        }
        let uploads = &self.uploads;
        let is_wanted = |digest: &Digest| is_named(digest) || uploads.contains(digest);
        let spare = self
            .entries
            .iter()
            .filter(|(digest, entry)| !is_wanted(digest) && entry.local != Local::Fetching);
        let mut spare: Vec<(u64, Digest)> =
            spare.map(|(digest, entry)| (entry.number, *digest)).collect();
        spare.sort_unstable();
        let surplus = self.entries.len().saturating_sub(named + KEPT_SPARE);
        for (_, digest) in spare.into_iter().take(surplus) {
            self.entries.remove(&digest);
            self.waiting.remove(&digest);
        }
        self.entries.len() < named + MAX_SPARE
    }

    fn entry(&mut self, digest: Digest) -> &mut Entry {
        let next = &mut self.next;
        self.entries.entry(digest).or_insert_with(|| {
            *next += 1;
            Entry { number: *next, ..Entry::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_artifacts_are_forgotten_though_never_fetched() {
        let mut artifacts = Artifacts::default();
        for n in 0..100u64 {
            let digest = Digest::of(&n.to_be_bytes());
            assert!(artifacts.begin(Time::ZERO, digest));
            artifacts.failed(Time::ZERO, digest, "nobody has it".into());
            assert!(artifacts.next_retry().is_some());
            artifacts.retain(|_| false);
        }
        assert_eq!(
            (artifacts.next_retry(), artifacts.entries.len(), artifacts.waiting.len()),
            (None, 0, 0)
        );
    }

    #[test]
    fn oldest_unnamed_artifacts_are_dropped_first() {
        let digest = |n: u64| Digest::of(&n.to_be_bytes());
        let mut artifacts = Artifacts::default();
        let named: BTreeSet<Digest> = (0..5_000).map(digest).collect();
        let most = named.len() + MAX_SPARE;
        for n in 0..20_000 {
            assert!(artifacts.prune(named.len(), |digest| named.contains(digest)));
            assert!(artifacts.begin(Time::ZERO, digest(n)), "{n}");
            // The first upload's fetch never ends.
            if n != 5_000 {
                artifacts.ready(digest(n), NodeId([1; 32]));
            }
        }
        assert!(artifacts.entries.len() <= most, "{}", artifacts.entries.len());
        assert!(named.iter().all(|digest| artifacts.knows(digest)), "what is named stays");
        assert!(artifacts.knows(&digest(5_000)), "what is being fetched stays");
        let kept: Vec<u64> = (5_001..20_000).filter(|n| artifacts.knows(&digest(*n))).collect();
        assert_eq!(kept, (20_000 - kept.len() as u64..20_000).collect::<Vec<_>>(), "the latest");
        assert!(kept.len() >= KEPT_SPARE - 1);
    }
}
