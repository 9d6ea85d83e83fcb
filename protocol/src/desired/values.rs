//! Secrets and configs: their versions, and the workloads that use them.
//!
//! **A workload's revision contains the versions of the values that it uses**, so a new value
//! replaces its replicas by the same rules as a new image, on all nodes alike.

use imbl::OrdMap;

use crate::model::{Change, Digest, Key, Spec, Value, WorkloadName};

use super::register::Register;
use super::{Desired, Moved};

/// The hash of the versions of the values that a spec uses; `None` if it uses none.
pub(super) fn versions(registers: &OrdMap<Digest, Register>, spec: &Spec) -> Option<Digest> {
    spec.values().next()?;
    let version = |key: Key| {
        let change = registers.get(&key.hash()).and_then(Register::effective)?;
        version(change)
    };
    let uses = spec.values();
    let all = uses.map(|it| version(it.key(&spec.name.namespace)).unwrap_or(Digest([0; 32])));
    Some(Digest::of(&all.flat_map(|it| it.0).collect::<Vec<u8>>()))
}

/// The version of a value; none if it was removed, or is of a newer form. A config that is set to
/// the same bytes again keeps it. Nobody here can tell whether that is so of a secret.
pub fn version(change: &Change) -> Option<Digest> {
    match &change.signed.value {
        Value::Secret(_) => Some(change.hash()),
        Value::Config(bytes) => Some(Digest::of(&bytes.0)),
        _ => None,
    }
}

impl Desired {
    /// A secret or config has another value now: the workloads that use it have another revision.
    pub(super) fn on_value(&mut self, key: &Key, also: &mut Vec<Moved>) {
        let users: Vec<WorkloadName> = self.workloads.users(key).cloned().collect();
        for name in users {
            let of = Key::Workload(name.clone());
            let Some(change) = self.effective(&of).cloned() else { continue };
            let before = self.workloads.by_name(&name).map(|it| it.versions);
            let registers = &self.registers;
            self.workloads.set(&name, &change, |spec| versions(registers, spec));
            if self.workloads.by_name(&name).map(|it| it.versions) != before {
                also.push(Moved { key: of, before: Some(change.uid()) });
            }
        }
    }

    /// The effective secrets and configs.
    pub fn values(&self) -> impl Iterator<Item = &Change> {
        let any = self.counts.has_values();
        let registers = any.then(|| self.registers.values().filter_map(Register::effective));
        registers.into_iter().flatten().filter(|it| version(it).is_some())
    }

    /// The workloads that use a secret or config.
    pub fn users(&self, key: &Key) -> impl Iterator<Item = &WorkloadName> {
        self.workloads.users(key)
    }
}
