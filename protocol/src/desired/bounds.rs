//! How much there may be of each kind of key.

use std::collections::BTreeMap;

use crate::model::{Change, Key, Label};

use super::Desired;
use super::register::Register;

/// Bounds. They must be equal on all nodes of a cluster: a node that keeps fewer keys is never in
/// step with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workload keys, removed ones included. 20,000: at a few hundred bytes each they fit a small
    /// device's memory.
    pub max_workloads: usize,
    /// Member keys, removed ones included, and as many policies of nodes. 20,000. Counted apart
    /// from workloads, because members can admit members: a flood of them must not keep operators
    /// from writing.
    pub max_members: usize,
    /// Keys of kinds that only newer programs know. 20,000.
    pub max_others: usize,
    /// Operators. 4,096.
    pub max_operators: usize,
    /// Revoked keys. 4,096; the root may revoke more, so that nobody can use them up.
    pub max_revocations: usize,
    /// Secrets and configs together, and as many quotas. 4,096: each has up to 48 KiB.
    pub max_values: usize,
    /// Secrets and configs of one namespace, so that no publisher uses them all up. 1,024.
    pub max_values_of_one: usize,
    /// Bytes of changes of kinds that only newer programs know. 16 MiB.
    pub max_other_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_workloads: 20_000,
            max_members: 20_000,
            max_others: 20_000,
            max_operators: 4_096,
            max_revocations: 4_096,
            max_values: 4_096,
            max_values_of_one: 1_024,
            max_other_bytes: 16 << 20,
        }
    }
}

/// There is no room for another key. Nothing changed; keys that exist can still be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Full {
    #[error(
        "the cluster has {0} workload names, removed ones included, and can have no more: use a \
            name again"
    )]
    Workloads(usize),
    #[error("the cluster has {0} members, removed ones included, and can have no more")]
    Members(usize),
    #[error("the cluster has {0} keys of newer programs, and can have no more")]
    Others(usize),
    #[error("the cluster has {0} operators, removed ones included, and can have no more")]
    Operators(usize),
    #[error("the cluster has {0} revoked keys, and only its root can revoke more")]
    Revocations(usize),
    #[error(
        "the cluster has {0} secrets and configs, removed ones included, and can have no more: \
            use a name again"
    )]
    Values(usize),
    #[error(
        "the namespace has {0} secrets and configs, removed ones included, and can have no more: \
            use a name again"
    )]
    ValuesOfOne(usize),
    #[error("the cluster has {0} quotas, removed ones included, and can have no more")]
    Quotas(usize),
    #[error("the cluster has {0} bytes of keys of newer programs, and can have no more")]
    OtherBytes(usize),
    #[error("the cluster has policies of {0} nodes, removed ones included, and can have no more")]
    Policies(usize),
}

/// Kinds of keys that have a bound of their own.
const KINDS: usize = 8;
/// The kind of a key among those that have a bound of their own.
fn kind(key: &Key) -> usize {
    match key {
        Key::Workload(_) => 0,
        Key::Member(_) => 1,
        Key::Other(..) => 2,
        Key::Operator(_) => 3,
        Key::Revocation(_) => 4,
        Key::Secret(_) | Key::Config(_) => 5,
        Key::Policy(_) => 6,
        Key::Quota(_) => 7,
    }
}

/// How much there is of each kind of key.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    keys: [usize; KINDS],
    /// Secrets and configs by namespace; at most as many as there are of them.
    values: BTreeMap<Label, usize>,
    /// Bytes of changes of kinds that only newer programs know.
    other_bytes: usize,
}

impl Counts {
    fn of(&self, key: &Key) -> usize {
        self.keys[kind(key)]
    }

    /// Whether there is a key of the same kind.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.of(key) > 0
    }

    /// Whether there are secrets or configs.
    pub(super) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    fn values_of(&self, namespace: &Label) -> usize {
        self.values.get(namespace).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, key: &Key) {
        self.keys[kind(key)] += 1;
        if let Key::Secret(name) | Key::Config(name) = key {
            *self.values.entry(name.namespace.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.keys[kind(key)] -= 1;
        if let Key::Secret(name) | Key::Config(name) = key
            && let Some(count) = self.values.get_mut(&name.namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.values.remove(&name.namespace);
            }
        }
    }

    /// The changes of a key are others than before.
    pub(super) fn weigh(&mut self, key: &Key, before: Option<&Register>, now: Option<&Register>) {
        let bytes = |register: Option<&Register>| register.map_or(0, |it| other_bytes(key, it));
        self.other_bytes = self.other_bytes - bytes(before) + bytes(now);
    }
}

impl Desired {
    /// Refuses another key when there is no room for it and for `more` before it.
    pub(super) fn check_room(&self, change: &Change, more: usize) -> Result<(), Full> {
        let key = &change.signed.key;
        let count = self.counts.of(key);
        let (max, full): (usize, fn(usize) -> Full) = match key {
            Key::Workload(_) => (self.config.max_workloads, Full::Workloads),
            Key::Member(_) => (self.config.max_members, Full::Members),
            Key::Other(..) => (self.config.max_others, Full::Others),
            Key::Operator(_) => (self.config.max_operators, Full::Operators),
            // By the root: whoever stole an administrator's key must not keep it from being
            // revoked.
            Key::Revocation(_) if change.chain.grants().is_empty() => return Ok(()),
            Key::Revocation(_) => (self.config.max_revocations, Full::Revocations),
            Key::Secret(name) | Key::Config(name) => {
                let of_one = self.counts.values_of(&name.namespace);
                if of_one + more >= self.config.max_values_of_one {
                    return Err(Full::ValuesOfOne(of_one));
                }
                (self.config.max_values, Full::Values)
            }
            Key::Quota(_) => (self.config.max_values, Full::Quotas),
            Key::Policy(_) => (self.config.max_members, Full::Policies),
        };
        if count + more >= max { Err(full(count)) } else { Ok(()) }
    }

    /// Refuses more bytes of what only newer programs know than there is room for. `after`: the
    /// changes of the key as they would be.
    pub(super) fn check_bytes(&self, key: &Key, after: &Register) -> Result<(), Full> {
        let had = self.register(key).map_or(0, |known| other_bytes(key, known));
        let (has, all) = (other_bytes(key, after), self.counts.other_bytes);
        match has > had && all - had + has > self.config.max_other_bytes {
            true => Err(Full::OtherBytes(all)),
            false => Ok(()),
        }
    }
}

/// Bytes of a register whose key only newer programs know; 0 for all others.
fn other_bytes(key: &Key, register: &Register) -> usize {
    let Key::Other(..) = key else { return 0 };
    register.siblings().iter().map(|it| it.signed.wire().raw().len()).sum()
}
