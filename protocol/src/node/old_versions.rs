//! Versions that this node serves and that are wished for no more.
//!
//! ```text
//!   change arrives ──▶ kept, on disk ──▶ the daemon restarts: it is the target again, with its
//!   (a claim names                       tries and a time; then the wished version replaces it
//!    the version before)                 as if nothing had happened
//!                      ──▶ no claim names it any more: dropped
//! ```
//!
//! **An update leaves the old version in service until the new one is ready**, and desired state
//! has no spec of it then. So the node keeps that spec itself: a device that restarts in the middle
//! of an update, or beside a version that does not run here, serves what it served before. At most
//! one for each own claim.

use std::collections::BTreeMap;

use crate::claims::Claims;
use crate::model::{Change, Digest, Key, NodeId, ReplicaId, Revision, Spec, Time};
use crate::trust;

use super::Node;
use super::contract::{OldVersion, Record};

/// The kept versions, by workload and version.
#[derive(Clone, Debug, Default)]
pub(super) struct OldVersions(BTreeMap<(Digest, Revision), Old>);

#[derive(Clone, Debug)]
struct Old {
    /// The change that wished for it.
    change: Change,
    /// It is the version that the change names as the one to go back to.
    is_previous: bool,
    spec: Spec,
}

impl Old {
    fn new(change: Change, is_previous: bool) -> Option<Old> {
        let written = change.signed.value.spec()?;
        let spec = if is_previous { written.later.previous.clone()? } else { written };
        Some(Old { change, is_previous, spec })
    }

    fn names(&self, artifact: &Digest) -> bool {
        self.spec.program.artifacts().any(|it| it.digest == *artifact)
    }
}

impl OldVersions {
    fn spec(&self, uid: &Digest, generation: Revision) -> Option<&Spec> {
        self.0.get(&(*uid, generation)).map(|old| &old.spec)
    }

    /// Whether one of them needs an artifact.
    pub fn names_artifact(&self, artifact: &Digest) -> bool {
        self.0.values().any(|old| old.names(artifact))
    }

    /// The artifacts that they need.
    pub fn artifacts(&self) -> impl Iterator<Item = Digest> {
        self.0.values().flat_map(|old| old.spec.program.artifacts()).map(|it| it.digest)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row of a version, as it is in memory.
    pub fn record(&self, uid: Digest, generation: Revision) -> Record {
        let old = self.0.get(&(uid, generation));
        let version =
            old.map(|old| OldVersion { change: old.change.raw(), is_previous: old.is_previous });
        Record::OldVersion { uid, generation, version }
    }
}

impl Node {
    /// The spec of a version of a workload: the wished one, or one that this node serves.
    pub(super) fn spec_of(&self, uid: &Digest, generation: Revision) -> Option<&Spec> {
        let workload = self.desired.by_uid(uid).filter(|it| it.generation == generation);
        workload.map(|it| &it.spec).or_else(|| self.old_versions.spec(uid, generation))
    }

    /// The version of a workload that counts until a change of `key`, if a claim of this node names
    /// it. Ask before the change, and pass it to [`Node::keep_version`].
    pub(super) fn claimed_version(&self, key: &Key) -> Option<(Digest, Revision, Change, bool)> {
        let Key::Workload(name) = key else { return None };
        let workload = self.desired.workload(name)?;
        let (uid, generation) = (workload.uid, workload.generation);
        if !names(&self.claims, &self.me, &uid, generation) {
            return None;
        }
        let change = self.desired.effective(key)?.clone();
        Some((uid, generation, change, generation != workload.written))
    }

    /// Keeps a version that counted until now. Returns its record, unless it is kept already.
    pub(super) fn keep_version(
        &mut self,
        (uid, generation, change, is_previous): (Digest, Revision, Change, bool),
    ) -> Option<Record> {
        if self.old_versions.0.contains_key(&(uid, generation)) {
            return None;
        }
        self.old_versions.0.insert((uid, generation), Old::new(change, is_previous)?);
        Some(self.old_versions.record(uid, generation))
    }

    /// Takes the kept versions from disk. Returns how many cannot be read.
    pub(super) fn restore_versions(&mut self, saved: Vec<(Digest, Revision, OldVersion)>) -> usize {
        let all = saved.len();
        for (uid, generation, OldVersion { change, is_previous }) in saved {
            let change = trust::accept(&self.identity.genesis, change).ok();
            if let Some(old) = change.and_then(|change| Old::new(change, is_previous)) {
                self.old_versions.0.insert((uid, generation), old);
            }
        }
        all.saturating_sub(self.old_versions.0.len())
    }

    /// Drops the versions that no claim of this node names any more, or that are wished for again.
    pub(super) fn drop_versions(&mut self) {
        if self.old_versions.is_empty() {
            return;
        }
        let is_needed = |(uid, generation): &(Digest, Revision), old: &Old| {
            let is_wished = self.desired.by_uid(uid).is_some_and(|it| it.generation == *generation);
            let is_changing = self.saving.is_staged(&old.change.signed.key.hash());
            names(&self.claims, &self.me, uid, *generation) && (!is_wished || is_changing)
        };
        let over = self.old_versions.0.iter().filter(|(key, old)| !is_needed(key, old));
        let over: Vec<(Digest, Revision)> = over.map(|(key, _)| *key).collect();
        if over.is_empty() {
            return;
        }
        over.iter().for_each(|key| _ = self.old_versions.0.remove(key));
        let records = over.into_iter().map(|(uid, generation)| Record::OldVersion {
            uid,
            generation,
            version: None,
        });
        self.persist(records.collect());
        self.forget_unwanted();
    }

    /// Whether a replica that has become healthy in a version had an old one that is kept.
    pub(super) fn ends_update(&self, replica: &ReplicaId, to: Revision) -> bool {
        let before = self.claims.my_claim(replica).map(|claim| claim.generation);
        before.is_some_and(|before| {
            before != to && self.old_versions.spec(&replica.uid, before).is_some()
        })
    }

    /// The version that a place which this node holds is to have now, where `to` is wished for. One
    /// that it served when the daemon ended comes first, until it is ready or had its tries.
    pub(super) fn first_version(&self, now: Time, replica: &ReplicaId, to: Revision) -> Revision {
        let served = self.claims.my_claim(replica).map(|claim| claim.generation);
        let old =
            served.filter(|it| *it != to && self.old_versions.spec(&replica.uid, *it).is_some());
        let target = self.holding.target(replica);
        old.filter(|old| {
            target.is_none_or(|target| target == *old) && self.holding.returns(now, replica)
        })
        .unwrap_or(to)
    }
}

/// Whether a claim of a node names a version.
fn names(claims: &Claims, me: &NodeId, uid: &Digest, generation: Revision) -> bool {
    let mut all = claims.of_workload(uid).into_iter();
    all.any(|(node, claim)| node == *me && claim.generation == generation)
}
