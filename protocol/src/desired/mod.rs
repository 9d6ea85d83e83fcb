//! What should run, and on which roster: a CRDT that operators write through any node.
//!
//! One `crdts::MVReg` a key. A change carries its author's signed clock; changes that have not seen
//! one another stay side by side as siblings, one of which is effective, the same one everywhere.
//! **The state depends on the set of changes applied, never on their order.** Changes come in
//! accepted (see `trust`) and are applied as operations: no register is ever decoded, and a whole
//! `Map` register is avoided because it diverges.
//!
//! A removal is a value like any other, so what has been seen by it never comes back. A later
//! workload under the same name has seen the removal, names no uid and so becomes another workload,
//! with a uid of its own: nothing of the old one - claims, rulings, tokens - is taken for its.
//!
//! Removals stay for ever, as do the clocks in them: dropping one is safe only when every member of
//! the roster has it, and that bookkeeping is not there yet. The bound on keys counts them.

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

/// The clock of a device that was never set starts before this: 2020-01-01.
const EARLIEST: WallClock = WallClock(1_577_836_800_000);
/// A clock beyond this is broken: 2200-01-01. It must not push serials where honest ones cannot
/// follow.
const LATEST: WallClock = WallClock(7_258_118_400_000);
/// The bits of a serial below the milliseconds: 65,536 writes to a key within one.
const SERIAL_SHIFT: u32 = 16;
/// How far an author's clock may be ahead of the node's that takes its change.
const MAX_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// Certificates that are kept once for all changes that bear them. More operators than that pay in
/// memory only.
const SHARED_CERTIFICATES: usize = 64;

/// Bounds. They must be the same at all nodes of a cluster: a node that keeps fewer keys is never
/// in step with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workload keys, removed ones included. 20,000: at a few hundred bytes each they fit a small
    /// device's memory.
    pub max_workloads: usize,
    /// Member keys, removed ones included. 20,000. Counted apart, because any node can admit: a
    /// flood of members must not keep operators from writing.
    pub max_members: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_workloads: 20_000, max_members: 20_000 }
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is here already.
    Known,
    /// Something here has seen it or beats it. Nothing changed.
    Superseded,
    /// It is here now, and its key's [`Desired::item`] and [`Desired::digest`] are others.
    New {
        /// Whether another change is effective now.
        effective: bool,
    },
}

/// There is no room for another key. Nothing changed; keys that are here can still be written.
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
}

/// What an author must know to write a key next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// All that was seen of the key. The author adds its writer at `serial`.
    pub clock: Clock,
    /// Above everything that was seen.
    pub serial: u64,
    /// The living workload that the write alters; none when there is none, removed ones included,
    /// and for members.
    pub uid: Option<Digest>,
}

/// A serial that cannot be. Nothing changed.
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

/// What should run.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    config: Config,
    /// By the hash of the key, as sync and the disk call it.
    registers: OrdMap<Digest, Register>,
    workload_keys: usize,
    workloads: Workloads,
    roster: OrdMap<NodeId, u64>,
    /// Those that came with changes, the first [`SHARED_CERTIFICATES`]: every change of an operator
    /// brings the same one along.
    certificates: Vec<Unverified<Certificate>>,
}

impl Desired {
    /// Nothing desired yet.
    pub fn new(config: Config) -> Self {
        Desired { config, ..Self::default() }
    }

    /// Takes a change that `trust` accepted, in any order and any number of times.
    pub fn apply(&mut self, mut change: Change) -> Result<Applied, Full> {
        let at = change.signed.key.hash();
        let mut register = match self.registers.get(&at) {
            Some(known) if known.holds(&change) => return Ok(Applied::Known),
            Some(known) => known.clone(),
            None => {
                self.check_room(&change.signed.key, 0)?;
                self.workload_keys += usize::from(matches!(change.signed.key, Key::Workload(_)));
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

    /// [`Desired::item`] of its key as it would be with this change; none when that would be no
    /// other. `more` further keys of the same kind are about to be taken.
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

    /// For the node that takes a change from its author: whether the serial is near this node's
    /// clock or near what is known. Changes from peers are not judged so, since acceptance must not
    /// depend on local time. A node whose own clock was plainly never set lets all pass.
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

    /// What the next write of `key` must say. A device whose clock stands in 1970 still writes
    /// above what it has seen, and one whose clock is broken the other way does not use it.
    pub fn context(&self, key: &Key, here: WallClock) -> Result<Context, Implausible> {
        let hybrid = if here > LATEST { 0 } else { here.0 << SERIAL_SHIFT };
        let register = self.register(key);
        let next = register.map_or(0, Register::highest) + 1;
        let serial = hybrid.max(next);
        if serial > MAX_SERIAL {
            return Err(Implausible::Exhausted);
        }
        let living = register
            .and_then(Register::effective)
            .filter(|change| matches!(change.signed.value, Value::Workload { .. }));
        Ok(Context {
            clock: register.map(Register::clock).unwrap_or_default(),
            serial,
            uid: living.map(Change::uid),
        })
    }

    /// The change of `key` that counts; it may be a removal.
    pub fn effective(&self, key: &Key) -> Option<&Change> {
        self.register(key)?.effective()
    }

    /// All changes of `key` that have not seen one another, the effective one first.
    pub fn siblings(&self, key: &Key) -> impl Iterator<Item = &Change> {
        self.register(key).into_iter().flat_map(Register::siblings)
    }

    /// The keys that were written at once by authors who did not know of one another, by key.
    pub fn conflicts(&self) -> impl Iterator<Item = &Key> {
        let contested = self.registers.values().filter(|register| register.siblings().len() > 1);
        let keys: BTreeSet<&Key> =
            contested.filter_map(|register| Some(&register.effective()?.signed.key)).collect();
        keys.into_iter()
    }

    /// The living workloads in a form this program knows, by name.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter()
    }

    /// One of [`Desired::workloads`].
    pub fn workload(&self, name: &WorkloadName) -> Option<&Workload> {
        self.workloads.by_name(name)
    }

    /// One of [`Desired::workloads`].
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

    /// The living workloads in a newer form, with their uid: kept and relayed, neither owned nor
    /// bid on here.
    pub fn opaque(&self) -> impl Iterator<Item = (&WorkloadName, Digest)> {
        self.workloads.opaque()
    }

    /// The roster: who was admitted and not removed, alive or not, with the salt of its point on
    /// the ring.
    pub fn members(&self) -> &OrdMap<NodeId, u64> {
        &self.roster
    }

    /// The siblings of the key with this hash, by change hash; empty when there is no such key.
    pub fn item(&self, key_hash: &Digest) -> Vec<RawChange> {
        self.registers.get(key_hash).map(raw).unwrap_or_default()
    }

    /// The hash of `key` and the hash of its siblings, for sync.
    pub fn digest(&self, key: &Key) -> Option<(Digest, Digest)> {
        let at = key.hash();
        Some((at, self.registers.get(&at)?.digest()))
    }

    /// The hash of what is held under the key with this hash.
    pub fn held(&self, key_hash: &Digest) -> Option<Digest> {
        self.registers.get(key_hash).map(Register::digest)
    }

    /// The hash of the roster.
    pub fn roster_digest(&self) -> Digest {
        let members = self
            .roster
            .iter()
            .flat_map(|(node, salt)| node.0.into_iter().chain(salt.to_be_bytes()));
        Digest::of(&members.collect::<Vec<u8>>())
    }

    /// How many keys there are, removed ones included.
    pub fn len(&self) -> usize {
        self.registers.len()
    }

    /// Whether nothing was ever wished for.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    /// [`Desired::digest`] of all keys, by key hash.
    pub fn digests(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.registers.iter().map(|(at, register)| (*at, register.digest()))
    }

    /// Everything, for the disk: each key's hash and siblings, by key hash.
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

    /// Whether there is room for another key, and for `more` before it.
    fn check_room(&self, key: &Key, more: usize) -> Result<(), Full> {
        let member_keys = self.registers.len() - self.workload_keys;
        match key {
            Key::Workload(_) if self.workload_keys + more >= self.config.max_workloads => {
                Err(Full::Workloads(self.workload_keys))
            }
            Key::Member(_) if member_keys + more >= self.config.max_members => {
                Err(Full::Members(member_keys))
            }
            Key::Workload(_) | Key::Member(_) => Ok(()),
        }
    }

    /// Brings the views up to date with the change that counts now.
    fn on_effective(&mut self, change: &Change) {
        match (&change.signed.key, &change.signed.value) {
            (Key::Workload(name), _) => self.workloads.set(name, change),
            (Key::Member(node), Value::Member { salt }) => drop(self.roster.insert(*node, *salt)),
            (Key::Member(node), Value::Workload { .. } | Value::Tombstone) => {
                self.roster.remove(node);
            }
        }
    }
}

fn raw(register: &Register) -> Vec<RawChange> {
    register.canonical().into_iter().map(Change::raw).collect()
}
