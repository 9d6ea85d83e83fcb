//! Artifacts: which are on this device, which nodes hold them, pending fetches, recent uploads, and
//! the guardians that still lack an artifact published here.
//!
//! The daemon stores the bytes; this room only tracks their state.

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
/// Tracked artifacts that no workload names: recent uploads, all of which fit, and recently
/// replaced versions. Artifacts that workloads name do not count: there must always be room for one
/// that is to run.
const MAX_SPARE: usize = 2 * uploads::MAX_UPLOADS;
/// The number of them that [`Artifacts::prune`] keeps. Far below the maximum, because each call
/// scans all entries.
const KEPT_SPARE: usize = MAX_SPARE / 2;
/// The first pause before a failed fetch is retried, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The state of an artifact on this device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Local {
    /// Not on this device, and no fetch was requested.
    #[default]
    Absent,
    /// A fetch was requested and has not ended.
    Fetching,
    /// The last fetch failed.
    Waiting {
        /// The time of the next fetch.
        until: Time,
        /// The number of failed fetches in a row.
        tries: u32,
        /// The error of the last one.
        why: String,
    },
    /// On this device, and ready to start.
    Ready,
    /// On this device, and can never start: the runtime's error.
    Unusable(String),
}

#[derive(Clone, Debug, Default)]
struct Entry {
    local: Local,
    tries: u32,
    /// The error of the last failed fetch, until a fetch succeeds or is not wanted any more.
    failure: Option<String>,
    holders: BTreeSet<NodeId>,
    /// The order of creation: the entry with the least number is the oldest.
    number: u64,
}

/// All tracked artifacts: those that workloads name, those that are being fetched, and at most
/// `MAX_SPARE` others.
#[derive(Clone, Debug, Default)]
pub struct Artifacts {
    entries: BTreeMap<Digest, Entry>,
    next: u64,
    /// Entries in [`Local::Waiting`], and some that just left it. All of them have an entry.
    waiting: BTreeSet<Digest>,
    /// Paths on which transfers stall.
    pub stalls: Stalls,
    /// Recent uploads of users.
    pub uploads: Uploads,
    /// Artifacts published here that guardians may lack.
    pub replication: Replication,
}

impl Artifacts {
    /// The state of an artifact on this device.
    pub fn local(&self, digest: &Digest) -> &Local {
        self.entries.get(digest).map_or(&Local::Absent, |entry| &entry.local)
    }

    /// Whether it is on this device, and ready to start.
    pub fn is_ready(&self, digest: &Digest) -> bool {
        *self.local(digest) == Local::Ready
    }

    /// The error of the last fetch, until one succeeds.
    pub fn failure(&self, digest: &Digest) -> Option<&str> {
        self.entries.get(digest)?.failure.as_deref()
    }

    /// Nodes known to hold it.
    pub fn holders(&self, digest: &Digest) -> impl Iterator<Item = &NodeId> {
        self.entries.get(digest).into_iter().flat_map(|entry| entry.holders.iter())
    }

    /// Whether the artifact is tracked.
    pub fn knows(&self, digest: &Digest) -> bool {
        self.entries.contains_key(digest)
    }

    /// The number of failed fetches in a row.
    pub fn tries(&self, digest: &Digest) -> u32 {
        self.entries.get(digest).map_or(0, |entry| entry.tries)
    }

    /// Notes that `node` holds an artifact that a workload names. Returns whether that is new.
    pub fn add_holder(&mut self, digest: Digest, node: NodeId) -> bool {
        let entry = self.entry(digest);
        entry.holders.len() < MAX_HOLDERS && entry.holders.insert(node)
    }

    /// Removes a node that left the roster from all holders.
    pub fn forget_holder(&mut self, node: &NodeId) {
        for entry in self.entries.values_mut() {
            entry.holders.remove(node);
        }
    }

    /// Whether a fetch is to be requested now; if so, it counts as requested.
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

    /// The artifact is on this device now, verified and ready to start.
    pub fn ready(&mut self, digest: Digest, me: NodeId) {
        let entry = self.entry(digest);
        entry.local = Local::Ready;
        entry.tries = 0;
        entry.failure = None;
        entry.holders.insert(me);
    }

    /// The artifact is on this device, and can never start.
    pub fn unusable(&mut self, digest: Digest, why: String) {
        self.entry(digest).local = Local::Unusable(why);
    }

    /// A fetch failed. The pause before the next one doubles.
    pub fn failed(&mut self, now: Time, digest: Digest, why: String) {
        let entry = self.entry(digest);
        let wait = RETRY.0.saturating_mul(1 << entry.tries.min(8)).min(RETRY.1);
        entry.tries = entry.tries.saturating_add(1);
        entry.failure = Some(why.clone());
        entry.local = Local::Waiting { until: now + wait, tries: entry.tries, why };
        self.waiting.insert(digest);
    }

    /// Drops retries that are due and that the node has not begun: the artifacts are not wanted any
    /// more.
    pub fn drop_due_retries(&mut self, now: Time) {
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

    /// The time of the next retry.
    pub fn next_retry(&self) -> Option<Time> {
        let until = |digest| match self.local(digest) {
            Local::Waiting { until, .. } => Some(*until),
            Local::Absent | Local::Fetching | Local::Ready | Local::Unusable(_) => None,
        };
        self.waiting.iter().filter_map(until).min()
    }

    /// The growing collections, with their bounds. `named` is the number of artifacts that
    /// workloads name.
    pub fn queues(&self, named: usize, is_named: impl Fn(&Digest) -> bool) -> Vec<Queue> {
        // A fetch that is not wanted any more ends by itself. Operators' changes set their rate.
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

    /// Forgets all artifacts that no workload names, that are no recent uploads, and that are not
    /// being fetched.
    pub fn retain(&mut self, is_named: impl Fn(&Digest) -> bool) {
        let uploads = &self.uploads;
        let is_wanted = |digest: &Digest| is_named(digest) || uploads.contains(digest);
        self.entries.retain(|digest, entry| is_wanted(digest) || entry.local == Local::Fetching);
        self.waiting.retain(|digest| self.entries.contains_key(digest));
    }

    /// If more than `named` and `MAX_SPARE` artifacts are tracked: forgets the oldest that
    /// [`Artifacts::retain`] would forget. Returns whether there is room then. Scans all entries
    /// once for each `KEPT_SPARE` new ones.
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

    /// A fetch failed, and then the workload was removed: its retry must not stay for ever.
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

    /// There are far more uploads than the room tracks, and 5,000 artifacts that workloads name.
    /// Only uploads are forgotten, the oldest first, and none that is being fetched.
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
