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

mod bounds;
mod orphans;
mod quota;
mod register;
mod standing;
mod sweep;
mod values;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use crate::model::change::{MAX_SERIAL, Revoked};
use crate::model::{
    Chain, Change, ChangeBody, Clock, Digest, Key, NodeId, NodePolicy, PublicKey, RawChange,
    SpecForm, Unfit, Value, WallClock, WorkloadName,
};

use bounds::Counts;
use orphans::Orphans;
use register::Register;
use standing::Standing;
use workloads::Workloads;

pub use bounds::{Config, Full};
pub use quota::OverQuota;
pub use register::MAX_SIBLINGS;
pub use standing::Barred;
pub use values::version;
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

/// Chains that are kept once for all changes that carry them. Those of further operators cost
/// memory only.
const SHARED_CHAINS: usize = 64;

/// The outcome of applying a change.
#[derive(Clone, PartialEq, Eq, Debug)]
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
        /// Other keys that this changed: a revocation took changes away, or nodes are members now
        /// or no longer.
        also: Vec<Moved>,
    },
    /// The change does not count, and was not added.
    Barred(Barred),
}

/// A key that a change of another key has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The key.
    pub key: Key,
    /// The uid of its effective change before.
    pub before: Option<Digest>,
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
    counts: Counts,
    workloads: Workloads,
    standing: Standing,
    roster: OrdMap<NodeId, u64>,
    policies: BTreeMap<NodeId, NodePolicy>,
    orphans: Orphans,
    /// Chains of known changes, at most [`SHARED_CHAINS`]: all changes of one operator carry the
    /// same one.
    chains: Vec<Chain>,
}

impl Desired {
    /// An empty state.
    pub fn new(config: Config) -> Self {
        Desired { config, ..Self::default() }
    }

    /// Applies a change that `trust` accepted, in any order and any number of times.
    pub fn apply(&mut self, mut change: Change) -> Result<Applied, Full> {
        let key = change.signed.key.clone();
        let at = key.hash();
        if let Some(barred) = self.barred(&change) {
            if barred == Barred::Unrooted {
                self.orphans.keep(change);
            }
            return Ok(Applied::Barred(barred));
        }
        let mut register = match self.registers.get(&at) {
            Some(known) if known.holds(&change) => return Ok(Applied::Known),
            Some(known) => known.clone(),
            None => {
                self.check_room(&change, 0)?;
                Register::default()
            }
        };
        self.share_chain(&mut change);
        if register.apply(change) == register::Put::Superseded {
            return Ok(Applied::Superseded);
        }
        self.check_bytes(&key, &register)?;
        self.counts.weigh(&key, self.registers.get(&at), Some(&register));
        let now = register.effective().map(Change::hash);
        let known = self.registers.insert(at, register);
        let before = known.as_ref().and_then(Register::effective);
        let is_new_key = before.is_none();
        if is_new_key {
            self.counts.add(&key);
        }
        let effective = now != before.map(Change::hash);
        let mut also = Vec::new();
        if effective {
            self.on_effective(&key, at, before, &mut also);
        }
        match key {
            Key::Revocation(_) => self.on_revocations(&mut also),
            Key::Member(node) if is_new_key => self.adopt_orphans(node, &mut also),
            _ => {}
        }
        Ok(Applied::New { effective, also })
    }

    /// Why a change does not count here.
    pub fn barred(&self, change: &Change) -> Option<Barred> {
        if matches!(change.signed.key, Key::Revocation(_)) {
            // They are all kept: which of them count may change with another one.
            return None;
        }
        if let Some(barred) = self.standing.bars(change) {
            return Some(barred);
        }
        // A member whose own admission is not here may be nobody.
        let Key::Member(_) = change.signed.key else { return None };
        let by = standing::admitted_by(change)?;
        let is_known = self.registers.contains_key(&Key::Member(by).hash());
        (!is_known).then_some(Barred::Unrooted)
    }

    /// [`Desired::item`] of the change's key as it would be with this change; none if the change
    /// would not alter it. `more` further keys of the same kind are about to be added.
    pub fn preview(&self, change: &Change, more: usize) -> Result<Option<Vec<RawChange>>, Full> {
        let mut register = match self.register(&change.signed.key) {
            Some(known) => known.clone(),
            None => {
                self.check_room(change, more)?;
                Register::default()
            }
        };
        let is_new = register.apply(change.clone()) == register::Put::New;
        self.check_bytes(&change.signed.key, &register)?;
        Ok(is_new.then(|| raw(&register)))
    }

    /// Goes back from a generation of a workload to the spec that it names as the previous one, or
    /// to none. Returns whether that changed what it is to run.
    pub fn go_back_from(&mut self, uid: &Digest, generation: Option<Digest>) -> bool {
        if !self.workloads.set_bad(uid, generation) {
            return false;
        }
        let Some(workload) = self.workloads.by_uid(uid) else { return false };
        let (name, before) = (workload.name.clone(), workload.generation);
        let Some(change) = self.effective(&Key::Workload(name.clone())).cloned() else {
            return false;
        };
        let registers = &self.registers;
        self.workloads.set(&name, &change, |spec| values::versions(registers, spec));
        self.workloads.by_name(&name).is_some_and(|it| it.generation != before)
    }

    /// For the node that takes a change from its author: refuses a serial that is far above this
    /// node's clock and above the known serials. Changes from peers are not checked so, because
    /// acceptance must not depend on local time. A node whose own clock was never set lets all
    /// pass.
    pub fn plausible(&self, body: &ChangeBody, here: WallClock) -> Result<(), Implausible> {
        if !is_set(here) {
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
        let has_uid = matches!(key, Key::Workload(_) | Key::Secret(_) | Key::Config(_));
        let living = register
            .and_then(Register::effective)
            .filter(|change| has_uid && change.signed.value != Value::Tombstone);
        Ok(Context {
            clock: register.map(Register::clock).unwrap_or_default(),
            serial,
            uid: living.map(Change::uid),
        })
    }

    /// What operators decided about nodes; a node without an entry has the default policy.
    pub fn policies(&self) -> &BTreeMap<NodeId, NodePolicy> {
        &self.policies
    }

    /// Whether operators let a node take a workload that it does not run yet.
    ///
    /// # Errors
    /// The reason why not.
    pub fn takes(&self, node: &NodeId, spec: &SpecForm) -> Result<(), Unfit> {
        self.policies.get(node).map_or(Ok(()), |policy| policy.takes(spec))
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

    /// The effective entries of operators.
    pub fn operators(&self) -> impl Iterator<Item = &Change> {
        let is_one = |change: &&Change| matches!(change.signed.key, Key::Operator(_));
        let any = self.counts.has(&Key::Operator(PublicKey([0; 32])));
        let registers = any.then(|| self.registers.values().filter_map(Register::effective));
        registers.into_iter().flatten().filter(is_one)
    }

    /// The revoked keys.
    pub fn revoked(&self) -> &OrdMap<PublicKey, Revoked> {
        self.standing.revoked()
    }

    /// The key by whose revocation the holder of `by`, with this chain, has no rights now: its own,
    /// or that of a giver, if it gave them afterwards or all is withdrawn.
    pub fn ended(&self, chain: &Chain, by: &PublicKey) -> Option<PublicKey> {
        self.standing.ended(chain, by)
    }

    /// The admissions that a node made, and that count now.
    pub fn admissions_by(&self, by: &NodeId) -> impl Iterator<Item = &Change> {
        let admissions = self.registers.values().filter_map(Register::effective);
        admissions.filter(move |it| standing::admitted_by(it) == Some(*by))
    }

    /// All revocations held, for a node that may not know them.
    pub fn revocations(&self) -> impl Iterator<Item = &Change> {
        let is_one = |register: &&Register| {
            register.effective().is_some_and(|it| matches!(it.signed.key, Key::Revocation(_)))
        };
        // Most clusters have none, and need not look.
        let registers = self
            .counts
            .has(&Key::Revocation(PublicKey([0; 32])))
            .then(|| self.registers.values().filter(is_one));
        registers.into_iter().flatten().flat_map(Register::siblings)
    }

    /// The hash of all revocations held.
    pub fn revocations_digest(&self) -> Digest {
        let hashes: BTreeSet<Digest> = self.revocations().map(Change::hash).collect();
        let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
        Digest::of_parts(&hashes)
    }

    /// How many devices an invite has admitted, as far as is known here, and the first of them.
    pub fn invite_uses(&self, invite: &PublicKey) -> (usize, Option<NodeId>) {
        self.standing.uses(invite)
    }

    /// The admission of `node`, and those of the members that lead from it to an operator: each was
    /// admitted by the next. At most `max`.
    pub fn lineage(&self, node: NodeId, max: usize) -> Vec<RawChange> {
        let mut lineage = Vec::new();
        let mut next = Some(node);
        while let Some(node) = next.filter(|_| lineage.len() < max) {
            let register = self.register(&Key::Member(node));
            let mut siblings = register.into_iter().flat_map(Register::siblings);
            let Some(admission) =
                siblings.find(|it| matches!(it.signed.value, Value::Member { .. }))
            else {
                break;
            };
            next = standing::admitted_by(admission);
            lineage.push(admission.raw());
        }
        lineage
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

    fn share_chain(&mut self, change: &mut Change) {
        if change.chain.grants().is_empty() {
            return;
        }
        // Tickets differ in any case; invites may be of one device each.
        let most = change.chain.grants().len().min(2);
        let best = self.chains.iter().max_by_key(|known| known.common(&change.chain)).cloned();
        let common = best.as_ref().map_or(0, |known| known.common(&change.chain));
        if let Some(known) = best.filter(|_| common > 0) {
            change.chain.share(&known);
        }
        if common < most && self.chains.len() < SHARED_CHAINS {
            self.chains.push(change.chain.clone());
        }
    }

    fn register(&self, key: &Key) -> Option<&Register> {
        self.registers.get(&key.hash())
    }

    /// Updates the views after another change of `key` became effective, or none is any more.
    fn on_effective(
        &mut self,
        key: &Key,
        at: Digest,
        before: Option<&Change>,
        also: &mut Vec<Moved>,
    ) {
        let change = self.registers.get(&at).and_then(Register::effective).cloned();
        match key {
            Key::Workload(name) => match &change {
                Some(change) => {
                    let registers = &self.registers;
                    self.workloads.set(name, change, |spec| values::versions(registers, spec));
                }
                None => self.workloads.remove(name),
            },
            Key::Member(node) => self.on_admission(*node, before, change.as_ref(), also),
            Key::Secret(_) | Key::Config(_) => self.on_value(key, also),
            Key::Policy(node) => match change.as_ref().map(|it| &it.signed.value) {
                Some(Value::Policy(policy)) => _ = self.policies.insert(*node, policy.clone()),
                _ => _ = self.policies.remove(node),
            },
            Key::Revocation(_) | Key::Operator(_) | Key::Quota(_) | Key::Other(..) => {}
        }
    }
}

/// Whether a clock can be right: one that was never set says 1970.
pub fn is_set(clock: WallClock) -> bool {
    (EARLIEST..=LATEST).contains(&clock)
}

fn raw(register: &Register) -> Vec<RawChange> {
    register.canonical().into_iter().map(Change::raw).collect()
}
