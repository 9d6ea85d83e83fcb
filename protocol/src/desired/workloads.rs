//! The effective workloads, decoded once.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::SERIAL_SHIFT;
use crate::model::{Artifact, Change, Digest, Key, Spec, Value, WallClock, WorkloadName};

/// A living workload in a form that this program can decode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// The key under which it was written.
    pub name: WorkloadName,
    /// Its identity: the hash of the change that created it.
    pub uid: Digest,
    /// The hash of all whose change needs a restart: parts of the spec, and the versions of the
    /// secrets and configs that it uses.
    pub generation: Digest,
    /// The hash of the versions of the secrets and configs that it uses; `None` if it uses none.
    pub versions: Option<Digest>,
    /// The spec of the effective change; after a roll-back the one that it names as the previous.
    pub spec: Spec,
    /// The generation of the spec as it was written. It differs from `generation` after a
    /// roll-back.
    pub written: Digest,
    /// The hash of the effective change.
    pub change: Digest,
    /// The time that its author gave the effective change.
    pub changed: WallClock,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Workloads {
    known: OrdMap<WorkloadName, Arc<Workload>>,
    opaque: OrdMap<WorkloadName, Digest>,
    by_uid: OrdMap<Digest, Arc<Workload>>,
    /// The workloads of `known` that use a secret or a config.
    users: OrdMap<Key, BTreeSet<WorkloadName>>,
    /// Workloads of `known` per artifact; never more keys than `known`.
    artifacts: OrdMap<Digest, u32>,
    /// Names whose uid belongs to another workload: only when an operator forged a uid. The first
    /// name has it on every node; the others are no workloads, because their claims could not be
    /// told apart.
    rivals: BTreeSet<(Digest, WorkloadName)>,
    /// By uid, the generation that an owner ruled to go back from. At most as many as there are
    /// workloads.
    bad: OrdMap<Digest, Digest>,
}

/// All artifacts that a workload may need: those of the spec to go back to as well.
fn artifacts_of(spec: &Spec) -> impl Iterator<Item = Artifact> {
    let previous = spec.later.previous.iter().flat_map(|it| it.program.artifacts());
    spec.program.artifacts().chain(previous)
}

impl Workloads {
    /// Notes the generation to go back from, if any. Returns whether that is another one.
    pub(super) fn set_bad(&mut self, uid: &Digest, generation: Option<Digest>) -> bool {
        if self.bad.get(uid).copied() == generation {
            return false;
        }
        match generation {
            Some(generation) => _ = self.bad.insert(*uid, generation),
            None => _ = self.bad.remove(uid),
        }
        true
    }

    /// Replaces the workload `name` by what `change`, now effective, says. `versions` are those of
    /// the secrets and configs that a spec uses.
    pub(super) fn set(
        &mut self,
        name: &WorkloadName,
        change: &Change,
        versions: impl Fn(&Spec) -> Option<Digest>,
    ) {
        self.remove(name);
        match (&change.signed.value, change.signed.value.spec()) {
            (_, Some(written)) => self.enter({
                let generation = written.revision_with(versions(&written));
                let is_bad = self.bad.get(&change.uid()) == Some(&generation);
                let previous = written.later.previous.clone().filter(|_| is_bad);
                let spec = previous.unwrap_or(written);
                Workload {
                    name: name.clone(),
                    uid: change.uid(),
                    generation: spec.revision_with(versions(&spec)),
                    versions: versions(&spec),
                    spec,
                    written: generation,
                    change: change.hash(),
                    changed: WallClock(change.signed.serial >> SERIAL_SHIFT),
                }
            }),
            (Value::Workload { .. } | Value::Other(..), None) => {
                self.opaque.insert(name.clone(), change.uid());
            }
            (_, None) => {}
        }
    }

    /// Forgets the workload `name`.
    pub(super) fn remove(&mut self, name: &WorkloadName) {
        if self.opaque.contains_key(name) {
            self.opaque.remove(name);
        }
        if let Some(workload) = self.known.remove(name) {
            self.leave(&workload);
            for artifact in artifacts_of(&workload.spec) {
                self.runs_no_more(&artifact.digest);
            }
            for used in workload.spec.values() {
                self.uses_no_more(&used.key(&name.namespace), name);
            }
        }
    }

    fn enter(&mut self, workload: Workload) {
        let workload = Arc::new(workload);
        self.known.insert(workload.name.clone(), Arc::clone(&workload));
        for artifact in artifacts_of(&workload.spec) {
            *self.artifacts.entry(artifact.digest).or_default() += 1;
        }
        for used in workload.spec.values() {
            let key = used.key(&workload.name.namespace);
            self.users.entry(key).or_default().insert(workload.name.clone());
        }
        match self.by_uid.get(&workload.uid) {
            Some(first) if first.name < workload.name => {
                _ = self.rivals.insert((workload.uid, workload.name.clone()))
            }
            first => {
                self.rivals.extend(first.map(|later| (workload.uid, later.name.clone())));
                self.by_uid.insert(workload.uid, workload);
            }
        }
    }

    fn leave(&mut self, workload: &Workload) {
        if self.rivals.remove(&(workload.uid, workload.name.clone())) {
            return;
        }
        self.by_uid.remove(&workload.uid);
        let next = self.rivals.iter().find(|(uid, _)| *uid == workload.uid).cloned();
        if let Some(heir) = next.as_ref().and_then(|(_, name)| self.known.get(name)) {
            self.by_uid.insert(workload.uid, Arc::clone(heir));
        }
        next.map(|next| self.rivals.remove(&next));
    }

    fn uses_no_more(&mut self, key: &Key, name: &WorkloadName) {
        if let Some(users) = self.users.get_mut(key) {
            users.remove(name);
            if users.is_empty() {
                self.users.remove(key);
            }
        }
    }

    /// The workloads that use a secret or a config.
    pub(super) fn users(&self, key: &Key) -> impl Iterator<Item = &WorkloadName> {
        self.users.get(key).into_iter().flatten()
    }

    fn runs_no_more(&mut self, artifact: &Digest) {
        match self.artifacts.get_mut(artifact) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(self.artifacts.remove(artifact)),
        }
    }

    pub(super) fn artifacts(&self) -> &OrdMap<Digest, u32> {
        &self.artifacts
    }

    fn has_its_uid(&self, workload: &Workload) -> bool {
        self.rivals.is_empty() || !self.rivals.contains(&(workload.uid, workload.name.clone()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.known.values().map(Arc::as_ref).filter(|workload| self.has_its_uid(workload))
    }

    pub(super) fn by_name(&self, name: &WorkloadName) -> Option<&Workload> {
        self.known.get(name).map(Arc::as_ref).filter(|workload| self.has_its_uid(workload))
    }

    pub(super) fn by_uid(&self, uid: &Digest) -> Option<&Workload> {
        self.by_uid.get(uid).map(Arc::as_ref)
    }

    pub(super) fn opaque(&self) -> impl Iterator<Item = (&WorkloadName, Digest)> {
        self.opaque.iter().map(|(name, uid)| (name, *uid))
    }
}
