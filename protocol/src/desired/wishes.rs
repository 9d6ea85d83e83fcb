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
    /// The names under each uid. More than one only when an operator forged a uid: then the first name has it, everywhere,
    /// and the others are no workloads, since nobody could tell their claims apart.
    names: OrdMap<Digest, BTreeSet<WorkloadName>>,
}

impl Wishes {
    /// `change` is what counts for `name` now.
    pub(super) fn set(&mut self, name: &WorkloadName, change: Option<&Change>) {
        if self.opaque.contains_key(name) {
            self.opaque.remove(name);
        }
        if let Some(wish) = self.known.remove(name) {
            self.leave(&wish);
        }
        let Some(change) = change else {
            return;
        };
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
        self.names.entry(wish.uid).or_default().insert(wish.name.clone());
        self.known.insert(wish.name.clone(), Arc::new(wish));
    }

    fn leave(&mut self, wish: &Wish) {
        if let Some(names) = self.names.get_mut(&wish.uid) {
            names.remove(&wish.name);
            if names.is_empty() {
                self.names.remove(&wish.uid);
            }
        }
    }

    fn has_its_uid(&self, wish: &Wish) -> bool {
        self.names.get(&wish.uid).and_then(BTreeSet::first) == Some(&wish.name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Wish> {
        self.known.values().map(Arc::as_ref).filter(|wish| self.has_its_uid(wish))
    }

    pub(super) fn by_name(&self, name: &WorkloadName) -> Option<&Wish> {
        self.known.get(name).map(Arc::as_ref).filter(|wish| self.has_its_uid(wish))
    }

    pub(super) fn by_uid(&self, uid: &Digest) -> Option<&Wish> {
        self.known.get(self.names.get(uid)?.first()?).map(Arc::as_ref)
    }

    pub(super) fn opaque(&self) -> impl Iterator<Item = (&WorkloadName, Digest)> {
        self.opaque.iter().map(|(name, uid)| (name, *uid))
    }
}
