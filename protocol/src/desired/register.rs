//! The register of a key: its changes that have not seen one another.

use std::sync::Arc;

use crdts::mvreg::Op;
use crdts::{CmRDT, MVReg, VClock};

use crate::model::{Change, Clock, Digest, Key, PublicKey, Value, WriterId};

/// Siblings kept of one key. Each installation that writes while it is cut off adds one; more than
/// a few are a fault or an attack, and all of them travel together.
pub const MAX_SIBLINGS: usize = 32;

/// A total order that never contradicts the order of clocks: a change that has seen another ranks
/// above it, even if a writer used one serial twice. Otherwise dropping the lowest sibling could go
/// round in circles between replicas.
fn rank(change: &Change) -> (u64, u128, PublicKey, Digest) {
    let weight = change.signed.clock.values().map(|serial| u128::from(*serial)).sum();
    (change.signed.serial, weight, change.signed.by(), change.hash())
}

fn is_removal_of_a_member(change: &Change) -> bool {
    change.signed.value == Value::Tombstone && matches!(change.signed.key, Key::Member(_))
}

/// Whether a change was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    New,
    Superseded,
}

/// The siblings of one key. Never empty once a change was applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    /// By precedence, the effective one first. The `MVReg` of these is built on demand: it would
    /// hold each clock a second time, and every member of the cluster has a register.
    siblings: Arc<[Change]>,
}

impl Register {
    /// Whether this change is among the siblings.
    pub(super) fn holds(&self, change: &Change) -> bool {
        self.siblings.iter().any(|sibling| sibling.hash() == change.hash())
    }

    /// Adds a change that it does not hold.
    pub(super) fn apply(&mut self, new: Change) -> Put {
        if self.holds(&new) {
            return Put::Superseded;
        }
        // Equal clocks mean that one dot was used twice: a disk was lost or cloned, or the author
        // cheats. `MVReg` would keep the later arrival, and replicas would differ for ever.
        let twin = self.siblings.iter().find(|sibling| sibling.signed.clock == new.signed.clock);
        if twin.is_some_and(|twin| rank(twin) > rank(&new)) {
            return Put::Superseded;
        }
        let mut values = self.values();
        put(&mut values, &new);
        let mut siblings = values.read().val;
        drop_lowest(&mut siblings);
        resolve(&mut siblings);
        self.siblings = siblings.into();
        if self.holds(&new) { Put::New } else { Put::Superseded }
    }

    /// Takes away the changes that do not count. True if there were any.
    pub(super) fn retain(&mut self, counts: impl Fn(&Change) -> bool) -> bool {
        if self.siblings.iter().all(&counts) {
            return false;
        }
        self.siblings = self.siblings.iter().filter(|it| counts(it)).cloned().collect();
        true
    }

    fn values(&self) -> MVReg<Change, WriterId> {
        let mut values = MVReg::default();
        self.siblings.iter().for_each(|sibling| put(&mut values, sibling));
        values
    }

    pub(super) fn effective(&self) -> Option<&Change> {
        self.siblings.first()
    }

    pub(super) fn siblings(&self) -> &[Change] {
        &self.siblings
    }

    /// The siblings by hash, an order that all replicas share.
    pub(super) fn canonical(&self) -> Vec<&Change> {
        let mut siblings: Vec<&Change> = self.siblings.iter().collect();
        siblings.sort_by_key(|sibling| sibling.hash());
        siblings
    }

    /// The hash of the siblings, whatever order they came in.
    pub(super) fn digest(&self) -> Digest {
        let hashes: Vec<Digest> = self.canonical().into_iter().map(Change::hash).collect();
        let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
        Digest::of_parts(&hashes)
    }

    /// The merged clock of all siblings.
    pub(super) fn clock(&self) -> Clock {
        self.values().read_ctx().add_clock.dots.into()
    }

    /// The greatest serial of a sibling; zero if there is none.
    pub(super) fn highest(&self) -> u64 {
        self.siblings.iter().map(|sibling| sibling.signed.serial).max().unwrap_or(0)
    }
}

/// Drops the lowest ranks above [`MAX_SIBLINGS`]. Replicas may drop in different orders, yet
/// exchanging their siblings ends: each step raises the ranks that are kept, and two replicas with
/// nothing to send one another keep the same.
fn drop_lowest(siblings: &mut Vec<Change>) {
    if siblings.len() > MAX_SIBLINGS {
        siblings.sort_by_key(|sibling| std::cmp::Reverse(rank(sibling)));
        siblings.truncate(MAX_SIBLINGS);
    }
}

/// Sorts the greatest precedence first. Under a member key a removal goes before everything, so
/// that a device whose clock is ahead cannot admit itself again beside its removal.
fn resolve(siblings: &mut [Change]) {
    siblings.sort_by_key(|sibling| {
        std::cmp::Reverse((is_removal_of_a_member(sibling), sibling.precedence()))
    });
}

fn put(values: &mut MVReg<Change, WriterId>, change: &Change) {
    let dots = change.signed.clock.iter().map(|(writer, serial)| (*writer, *serial)).collect();
    values.apply(Op::Put { clock: VClock { dots }, val: change.clone() });
}
