//! Decisions of owners that must outlive them: rollout verdicts, cron ticks, autoscale values, job
//! results.
//!
//! Under each key the ruling with the greatest `(sequence, owner, hash)` counts. A decision that is
//! made once has sequence 0, and an owner decides only if it knows of no decision; a number that
//! goes up and down takes the sequence above the one it replaces. **The state depends on the set of
//! rulings applied, never on their order.**
//!
//! The caller has checked that the signature holds, that the signer is or was a member and was not
//! revoked, and that the workload lives.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ruling::{JobResult, MAX_LINE_BYTES, MAX_LINES};
use crate::model::spec::MAX_REPLICAS;
use crate::model::{Digest, PublicKey, Ruling, RulingBody, RulingKey, RulingKind, Signed, codec};

/// Bounds. They must be equal on all nodes of a cluster: a node that keeps fewer rulings is never
/// in step with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workloads that may have rulings. 20,000, as many as there may be workloads.
    pub max_workloads: usize,
    /// Rulings of one kind of one workload. 32, the last ones by tick, then by sequence: older cron
    /// runs and rollouts are only in the events.
    pub max_per_kind: usize,
    /// Results of one job or cron workload. 512, the latest decided: twice the completions of a
    /// job, and those of all kept ticks of a cron workload, whose runs have at most
    /// [`MAX_RUNS`](crate::model::spec::MAX_RUNS).
    pub max_results: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_workloads: 20_000, max_per_kind: 32, max_results: 512 }
    }
}

/// The outcome of applying a ruling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The ruling counts now: the caller stores it and passes it on.
    New {
        /// The key hash of an earlier ruling that made room for it: the caller removes that from
        /// disk and sync.
        dropped: Option<Digest>,
    },
    /// Nothing changed: the ruling is known, a greater one of its key is here, as many later ones
    /// of its kind are here as are kept, there is no room for another workload, or no spec allows
    /// it, as a sequence beyond [`MAX_SEQUENCE`].
    NotNews,
}

/// The greatest sequence, far from where adding one would overflow.
pub const MAX_SEQUENCE: u64 = 1 << 62;

/// Kinds of programs to come that a workload has room for. It keeps so many times `max_per_kind`
/// rulings of all of them together, because a member could invent any number of kinds.
const UNKNOWN_KINDS: usize = 8;
/// Bytes of a decision of a kind that this program does not know.
const MAX_BODY: usize = 64;

/// The rulings that count.
#[derive(Clone, Debug, Default)]
pub struct Rulings {
    config: Config,
    by_uid: BTreeMap<Digest, BTreeMap<RulingKey, Signed<Ruling>>>,
    /// Keys by their hash, their name in sync and on disk.
    keys: BTreeMap<Digest, RulingKey>,
}

impl Rulings {
    /// No rulings.
    pub fn new(config: Config) -> Self {
        Rulings { config, ..Self::default() }
    }

    /// Applies a ruling, in any order and any number of times.
    pub fn apply(&mut self, ruling: Signed<Ruling>) -> Applied {
        let key = ruling.key();
        let full =
            !self.by_uid.contains_key(&key.uid) && self.by_uid.len() >= self.config.max_workloads;
        let beaten = self.get(&key).is_some_and(|known| rank(known) >= rank(&ruling));
        if full || beaten || !is_within_bounds(&ruling) {
            return Applied::NotNews;
        }
        self.by_uid.entry(key.uid).or_default().insert(key, ruling);
        self.keys.insert(key_hash(&key), key);
        match self.drop_earliest(&key) {
            Some(dropped) if dropped == key => Applied::NotNews,
            dropped => Applied::New { dropped: dropped.as_ref().map(key_hash) },
        }
    }

    /// The ruling that counts under this key.
    pub fn get(&self, key: &RulingKey) -> Option<&Signed<Ruling>> {
        self.by_uid.get(&key.uid)?.get(key)
    }

    /// All rulings of one workload, by key.
    pub fn of(&self, uid: &Digest) -> impl Iterator<Item = &Signed<Ruling>> {
        self.by_uid.get(uid).into_iter().flat_map(BTreeMap::values)
    }

    /// All rulings, by workload and key.
    pub fn iter(&self) -> impl Iterator<Item = &Signed<Ruling>> {
        self.by_uid.values().flat_map(BTreeMap::values)
    }

    /// The ruling whose key has this hash.
    pub fn item(&self, key_hash: &Digest) -> Option<&Signed<Ruling>> {
        self.get(self.keys.get(key_hash)?)
    }

    /// The hash of each key and of its ruling, for sync, by key hash.
    pub fn digests(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.keys.iter().filter_map(|(hash, key)| Some((*hash, self.get(key)?.hash())))
    }

    /// Drops all rulings of a workload that was removed, and returns the hashes of their keys.
    pub fn forget(&mut self, uid: &Digest) -> Vec<Digest> {
        let rulings = self.by_uid.remove(uid).unwrap_or_default();
        let hashes: Vec<Digest> = rulings.keys().map(key_hash).collect();
        for hash in &hashes {
            self.keys.remove(hash);
        }
        hashes
    }

    /// Drops all rulings of these signers. Returns the workload of each and the hash of its key.
    pub fn forget_signers(&mut self, signers: &BTreeSet<PublicKey>) -> Vec<(Digest, Digest)> {
        let theirs: Vec<RulingKey> = self
            .iter()
            .filter(|ruling| signers.contains(&ruling.by()))
            .map(|ruling| ruling.key())
            .collect();
        theirs
            .into_iter()
            .map(|key| {
                if let Some(rulings) = self.by_uid.get_mut(&key.uid) {
                    rulings.remove(&key);
                    if rulings.is_empty() {
                        self.by_uid.remove(&key.uid);
                    }
                }
                let hash = key_hash(&key);
                self.keys.remove(&hash);
                (key.uid, hash)
            })
            .collect()
    }

    /// Drops the earliest ruling of the kind of `key` if there are too many, or of all unknown
    /// kinds if there are too many of these, and returns its key.
    fn drop_earliest(&mut self, key: &RulingKey) -> Option<RulingKey> {
        let is_result = key.kind == RulingKind::JobResult;
        let Config { max_per_kind, max_results, .. } = self.config;
        let most = if is_result { max_results } else { max_per_kind };
        let of_kind = |other: &RulingKey| other.kind == key.kind;
        self.drop_earliest_of(key, &of_kind, most).or_else(|| {
            let unknown = |other: &RulingKey| matches!(other.kind, RulingKind::Other(_));
            self.drop_earliest_of(key, &unknown, most.saturating_mul(UNKNOWN_KINDS))
        })
    }

    fn drop_earliest_of(
        &mut self,
        key: &RulingKey,
        is_of_it: &dyn Fn(&RulingKey) -> bool,
        most: usize,
    ) -> Option<RulingKey> {
        let rulings = self.by_uid.get_mut(&key.uid)?;
        let of_kind = || rulings.iter().filter(|(other, _)| is_of_it(other));
        if of_kind().count() <= most {
            return None;
        }
        let earliest =
            of_kind().min_by_key(|(other, ruling)| (order(other), rank(ruling), **other))?.0;
        let earliest = *earliest;
        rulings.remove(&earliest);
        self.keys.remove(&key_hash(&earliest));
        Some(earliest)
    }
}

/// Whether a spec can allow such a ruling at all. A signature does not check that.
fn is_within_bounds(ruling: &Ruling) -> bool {
    ruling.sequence <= MAX_SEQUENCE
        && match &ruling.body {
            RulingBody::Autoscale { replicas: places } | RulingBody::Frontier { below: places } => {
                *places <= MAX_REPLICAS
            }
            RulingBody::Other(_, bytes) => bytes.0.len() <= MAX_BODY,
            RulingBody::JobResult(JobResult { lines, .. }) => {
                let bytes: usize = lines.iter().map(String::len).sum();
                lines.len() <= MAX_LINES && bytes <= MAX_LINE_BYTES
            }
            RulingBody::RolloutVerdict { .. } | RulingBody::CronTick(_) | RulingBody::Move(_) => {
                true
            }
        }
}

/// The order in which rulings of a kind are dropped. Results and moves are ordered by their
/// sequence, a time: the indices of a job that is published anew begin at 0 again.
fn order(key: &RulingKey) -> u64 {
    match key.kind {
        RulingKind::JobResult | RulingKind::Move => 0,
        // The last skipped tick is under 0, and stays.
        RulingKind::CronTick if key.tick == 0 => u64::MAX,
        _ => key.tick,
    }
}

/// The hash under which sync and the disk keep a ruling.
pub fn key_hash(key: &RulingKey) -> Digest {
    Digest::of(&codec::encode(key))
}

/// The rank of a ruling: of two under one key, the greater counts.
fn rank(ruling: &Signed<Ruling>) -> (u64, PublicKey, Digest) {
    (ruling.sequence, ruling.by(), ruling.hash())
}
