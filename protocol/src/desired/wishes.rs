//! The effective workloads, decoded once.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{Change, Digest, Spec, Value, WorkloadName, generation};

/// A living workload in a form this program knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// What people call it.
    pub name: WorkloadName,
    /// What it is: the hash of the change that created it.
    pub uid: Digest,
    /// The hash of what needs a restart.
    pub generation: Digest,
    /// What shall be.
    pub spec: Spec,
    /// The change that says so.
    pub change: Digest,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    known: OrdMap<WorkloadName, Arc<Wish>>,
    opaque: OrdMap<WorkloadName, Digest>,
    by_uid: OrdMap<Digest, Arc<Wish>>,
    /// How many of `known` run each artifact. At most as many as those.
    artifacts: OrdMap<Digest, u32>,
    /// Names whose uid another has: only when an operator forged one. Then the first name has it,
    /// everywhere, and the others are no workloads, since nobody could tell their claims apart.
    rivals: BTreeSet<(Digest, WorkloadName)>,
}

impl Wishes {
    /// `change` is what counts for `name` now.
    pub(super) fn set(&mut self, name: &WorkloadName, change: &Change) {
        if self.opaque.contains_key(name) {
            self.opaque.remove(name);
        }
        if let Some(wish) = self.known.remove(name) {
            self.leave(&wish);
            self.runs_no_more(&wish.spec.artifact.digest);
        }
        match (&change.signed.value, change.signed.value.spec()) {
            (_, Some(spec)) => self.enter(Wish {
                name: name.clone(),
                uid: change.uid(),
                generation: generation(&spec),
                spec,
                change: change.hash(),
            }),
            (Value::Workload { .. }, None) => {
                self.opaque.insert(name.clone(), change.uid());
            }
            (Value::Member { .. } | Value::Tombstone, None) => {}
        }
    }

    fn enter(&mut self, wish: Wish) {
        let wish = Arc::new(wish);
        self.known.insert(wish.name.clone(), Arc::clone(&wish));
        *self.artifacts.entry(wish.spec.artifact.digest).or_default() += 1;
        match self.by_uid.get(&wish.uid) {
            Some(first) if first.name < wish.name => {
                _ = self.rivals.insert((wish.uid, wish.name.clone()))
            }
            first => {
                self.rivals.extend(first.map(|later| (wish.uid, later.name.clone())));
                self.by_uid.insert(wish.uid, wish);
            }
        }
    }

    fn leave(&mut self, wish: &Wish) {
        if self.rivals.remove(&(wish.uid, wish.name.clone())) {
            return;
        }
        self.by_uid.remove(&wish.uid);
        let next = self.rivals.iter().find(|(uid, _)| *uid == wish.uid).cloned();
        if let Some(heir) = next.as_ref().and_then(|(_, name)| self.known.get(name)) {
            self.by_uid.insert(wish.uid, Arc::clone(heir));
        }
        next.map(|next| self.rivals.remove(&next));
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

    fn has_its_uid(&self, wish: &Wish) -> bool {
        self.rivals.is_empty() || !self.rivals.contains(&(wish.uid, wish.name.clone()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Wish> {
        self.known.values().map(Arc::as_ref).filter(|wish| self.has_its_uid(wish))
    }

    pub(super) fn by_name(&self, name: &WorkloadName) -> Option<&Wish> {
        self.known.get(name).map(Arc::as_ref).filter(|wish| self.has_its_uid(wish))
    }

    pub(super) fn by_uid(&self, uid: &Digest) -> Option<&Wish> {
        self.by_uid.get(uid).map(Arc::as_ref)
    }

    pub(super) fn opaque(&self) -> impl Iterator<Item = (&WorkloadName, Digest)> {
        self.opaque.iter().map(|(name, uid)| (name, *uid))
    }
}
