//! Desired state, workloads and the roster: a CRDT that operators write through any node.
//!
//! Each key has one `crdts::MVReg`. A change carries its author's signed clock. Changes that have
//! not seen one another stay side by side as siblings; one of them is effective, the same one on
//! every node. **The state depends on the set of changes applied, never on their order.** `trust`
//! accepts a change before it is applied here as an operation: no register is ever decoded. A whole
//! `Map` register is avoided because it diverges.
//!
//! A removal is a value like any other, so a change that the removal has seen never comes back. A
//! later workload under the same name has seen the removal and names no uid, so it is another
//! workload with a uid of its own: claims, rulings and tokens of the old one do not count for it.
//!
//! Removals and their clocks stay for ever. A removal can be dropped only when every member of the
//! roster has it, and nothing keeps track of that yet. The bound on keys counts them.

mod register;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use imbl::OrdMap;

use crate::model::change::MAX_SERIAL;
use crate::model::{
    Certificate, Change, ChangeBody, Clock, Digest, Key, NodeId, RawChange, Unverified, Value,
    WallClock, WorkloadName,
};

use register::Register;
use workloads::Workloads;

pub use register::MAX_SIBLINGS;
pub use workloads::Workload;

/// A wall clock before this was never set: 2020-01-01.
const EARLIEST: WallClock = WallClock(1_577_836_800_000);
/// A wall clock beyond this is broken: 2200-01-01. It must not push serials so high that honest
/// clocks cannot follow.
const LATEST: WallClock = WallClock(7_258_118_400_000);
/// Bits of a serial below the milliseconds: 65,536 writes to a key within one millisecond.
const SERIAL_SHIFT: u32 = 16;
/// How far an author's clock may be ahead of the clock of the node that takes its change.
const MAX_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// Certificates that are kept once for all changes that carry them. Further operators cost memory
/// only.
const SHARED_CERTIFICATES: usize = 64;

/// Bounds. They must be equal on all nodes of a cluster: a node that keeps fewer keys is never in
/// step with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workload keys, removed ones included. 20,000: at a few hundred bytes each they fit a small
    /// device's memory.
    pub max_workloads: usize,
    /// Member keys, removed ones included. 20,000. Counted apart from workloads, because any node
    /// can admit members: a flood of them must not keep operators from writing.
    pub max_members: usize,
    /// Keys of kinds that only newer programs know. 20,000.
    pub max_others: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_workloads: 20_000, max_members: 20_000, max_others: 20_000 }
    }
}

/// The outcome of applying a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The same change is here already. Nothing changed.
    Known,
    /// A change here has seen it or outranks it. Nothing changed.
    Superseded,
    /// The change was added; [`Desired::item`] and [`Desired::digest`] of its key differ from
    /// before.
    New {
        /// Whether the effective change of the key is another one now.
        effective: bool,
    },
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
}

/// The clock, serial and uid that the next write of a key must carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The merged clock of all changes seen under the key. The author adds its writer at `serial`.
    pub clock: Clock,
    /// Above the serial of every change seen under the key.
    pub serial: u64,
    /// The uid of the living workload that the write alters. None for a member, and if the key is
    /// new or removed.
    pub uid: Option<Digest>,
}

/// A serial that is refused. Nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Implausible {
    #[error(
        "somebody wrote this key with the greatest serial there is: it can be written no more, \
            use another name"
    )]
    Exhausted,
    #[error(
        "the author's clock says {author}, this node's {here}: set the one that is wrong, then \
            write again"
    )]
    Ahead { author: WallClock, here: WallClock },
}

/// The desired state of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    config: Config,
    /// By key hash, the name of a key in sync and on disk.
    registers: OrdMap<Digest, Register>,
    workload_keys: usize,
    other_keys: usize,
    workloads: Workloads,
    roster: OrdMap<NodeId, u64>,
    /// Certificates of known changes, at most [`SHARED_CERTIFICATES`]: all changes of one operator
    /// carry the same one.
    certificates: Vec<Unverified<Certificate>>,
}

impl Desired {
    /// An empty state.
    pub fn new(config: Config) -> Self {
        Desired { config, ..Self::default() }
    }

    /// Applies a change that `trust` accepted, in any order and any number of times.
    pub fn apply(&mut self, mut change: Change) -> Result<Applied, Full> {
        let at = change.signed.key.hash();
        let mut register = match self.registers.get(&at) {
            Some(known) if known.holds(&change) => return Ok(Applied::Known),
            Some(known) => known.clone(),
            None => {
                self.check_room(&change.signed.key, 0)?;
                self.workload_keys += usize::from(matches!(change.signed.key, Key::Workload(_)));
                self.other_keys += usize::from(matches!(change.signed.key, Key::Other(..)));
                Register::default()
            }
        };
        self.share_certificate(&mut change);
        let applied = register.apply(change);
        let effective = register.effective().cloned();
        if applied != Applied::Superseded {
            self.registers.insert(at, register);
        }
        if let (Applied::New { effective: true }, Some(effective)) = (applied, effective) {
            self.on_effective(&effective);
        }
        Ok(applied)
    }

    /// [`Desired::item`] of the change's key as it would be with this change; none if the change
    /// would not alter it. `more` further keys of the same kind are about to be added.
    pub fn preview(&self, change: &Change, more: usize) -> Result<Option<Vec<RawChange>>, Full> {
        let mut register = match self.register(&change.signed.key) {
            Some(known) => known.clone(),
            None => {
                self.check_room(&change.signed.key, more)?;
                Register::default()
            }
        };
        Ok(matches!(register.apply(change.clone()), Applied::New { .. }).then(|| raw(&register)))
    }

    /// For the node that takes a change from its author: refuses a serial that is far above this
    /// node's clock and above the known serials. Changes from peers are not checked so, because
    /// acceptance must not depend on local time. A node whose own clock was never set lets all
    /// pass.
    pub fn plausible(&self, body: &ChangeBody, here: WallClock) -> Result<(), Implausible> {
        if !(EARLIEST..=LATEST).contains(&here) {
            return Ok(());
        }
        let by_clock = (here.0 + MAX_AHEAD_MS) << SERIAL_SHIFT;
        let known = self.register(&body.key).map_or(0, Register::highest);
        if body.serial <= by_clock.max(known.saturating_add(1 << 20)) {
            return Ok(());
        }
        Err(Implausible::Ahead { author: WallClock(body.serial >> SERIAL_SHIFT), here })
    }

    /// The context for the next write of `key`. A device whose clock stands in 1970 still writes
    /// above the serials it has seen; a clock that is broken the other way is not used.
    pub fn context(&self, key: &Key, here: WallClock) -> Result<Context, Implausible> {
        let hybrid = if here > LATEST { 0 } else { here.0 << SERIAL_SHIFT };
        let register = self.register(key);
        let next = register.map_or(0, Register::highest) + 1;
        let serial = hybrid.max(next);
        if serial > MAX_SERIAL {
            return Err(Implausible::Exhausted);
        }
        let living = register.and_then(Register::effective).filter(|change| {
            !matches!(change.signed.value, Value::Tombstone | Value::Member { .. })
        });
        Ok(Context {
            clock: register.map(Register::clock).unwrap_or_default(),
            serial,
            uid: living.map(Change::uid),
        })
    }

    /// The effective change of `key`; it may be a removal.
    pub fn effective(&self, key: &Key) -> Option<&Change> {
        self.register(key)?.effective()
    }

    /// The siblings of `key`, the effective one first.
    pub fn siblings(&self, key: &Key) -> impl Iterator<Item = &Change> {
        self.register(key).into_iter().flat_map(Register::siblings)
    }

    /// Keys with more than one sibling, in order: their authors did not know of one another's
    /// writes.
    pub fn conflicts(&self) -> impl Iterator<Item = &Key> {
        let contested = self.registers.values().filter(|register| register.siblings().len() > 1);
        let keys: BTreeSet<&Key> =
            contested.filter_map(|register| Some(&register.effective()?.signed.key)).collect();
        keys.into_iter()
    }

    /// The living workloads in a form that this program can decode, by name.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter()
    }

    /// The workload of this name among [`Desired::workloads`].
    pub fn workload(&self, name: &WorkloadName) -> Option<&Workload> {
        self.workloads.by_name(name)
    }

    /// The workload with this uid among [`Desired::workloads`].
    pub fn by_uid(&self, uid: &Digest) -> Option<&Workload> {
        self.workloads.by_uid(uid)
    }

    /// Whether one of [`Desired::workloads`] runs this artifact.
    pub fn names_artifact(&self, artifact: &Digest) -> bool {
        self.workloads.artifacts().contains_key(artifact)
    }

    /// How many artifacts [`Desired::workloads`] run.
    pub fn artifacts(&self) -> usize {
        self.workloads.artifacts().len()
    }

    /// Living workloads in a newer form, with their uid. This node keeps and relays them, but
    /// neither owns nor bids on them.
    pub fn opaque(&self) -> impl Iterator<Item = (&WorkloadName, Digest)> {
        self.workloads.opaque()
    }

    /// Whether a workload lives, in a form that this program can decode or in a newer one.
    pub fn is_living(&self, uid: &Digest) -> bool {
        self.by_uid(uid).is_some() || self.opaque().any(|(_, opaque)| opaque == *uid)
    }

    /// The roster: nodes that were admitted and not removed, alive or not, with the salt of their
    /// point on the ring.
    pub fn members(&self) -> &OrdMap<NodeId, u64> {
        &self.roster
    }

    /// The siblings of the key with this hash, by change hash; empty if there is no such key.
    pub fn item(&self, key_hash: &Digest) -> Vec<RawChange> {
        self.registers.get(key_hash).map(raw).unwrap_or_default()
    }

    /// The hash of `key` and the hash of its siblings, for sync.
    pub fn digest(&self, key: &Key) -> Option<(Digest, Digest)> {
        let at = key.hash();
        Some((at, self.registers.get(&at)?.digest()))
    }

    /// The hash of the siblings of the key with this hash.
    pub fn held(&self, key_hash: &Digest) -> Option<Digest> {
        self.registers.get(key_hash).map(Register::digest)
    }

    /// The hash of all members and their salts.
    pub fn roster_digest(&self) -> Digest {
        let members = self
            .roster
            .iter()
            .flat_map(|(node, salt)| node.0.into_iter().chain(salt.to_be_bytes()));
        Digest::of(&members.collect::<Vec<u8>>())
    }

    /// Number of keys, removed ones included.
    pub fn len(&self) -> usize {
        self.registers.len()
    }

    /// Whether no key was ever written.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    /// [`Desired::digest`] of all keys, by key hash.
    pub fn digests(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.registers.iter().map(|(at, register)| (*at, register.digest()))
    }

    /// Everything, for the disk: the hash and the siblings of each key, by key hash.
    pub fn iter(&self) -> impl Iterator<Item = (Digest, Vec<RawChange>)> {
        self.registers.iter().map(|(at, register)| (*at, raw(register)))
    }

    fn share_certificate(&mut self, change: &mut Change) {
        let Some(certificate) = &mut change.certificate else { return };
        match self.certificates.iter().find(|known| *known == certificate) {
            Some(known) => *certificate = known.clone(),
            None if self.certificates.len() < SHARED_CERTIFICATES => {
                self.certificates.push(certificate.clone())
            }
            None => {}
        }
    }

    fn register(&self, key: &Key) -> Option<&Register> {
        self.registers.get(&key.hash())
    }

    /// Refuses another key when there is no room for it and for `more` before it.
    fn check_room(&self, key: &Key, more: usize) -> Result<(), Full> {
        let member_keys = self.registers.len() - self.workload_keys - self.other_keys;
        match key {
            Key::Workload(_) if self.workload_keys + more >= self.config.max_workloads => {
                Err(Full::Workloads(self.workload_keys))
            }
            Key::Member(_) if member_keys + more >= self.config.max_members => {
                Err(Full::Members(member_keys))
            }
            Key::Other(..) if self.other_keys + more >= self.config.max_others => {
                Err(Full::Others(self.other_keys))
            }
            Key::Workload(_) | Key::Member(_) | Key::Other(..) => Ok(()),
        }
    }

    /// Updates the views after `change` became effective.
    fn on_effective(&mut self, change: &Change) {
        match (&change.signed.key, &change.signed.value) {
            (Key::Workload(name), _) => self.workloads.set(name, change),
            (Key::Member(node), Value::Member { salt }) => drop(self.roster.insert(*node, *salt)),
            // Without a salt it has no point on the ring.
            (Key::Member(node), Value::Workload { .. } | Value::Tombstone | Value::Other(..)) => {
                self.roster.remove(node);
            }
            (Key::Other(..), _) => {}
        }
    }
}

fn raw(register: &Register) -> Vec<RawChange> {
    register.canonical().into_iter().map(Change::raw).collect()
}
