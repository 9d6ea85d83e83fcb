//! One key's register: the changes of it that have not seen one another.

use std::sync::Arc;

use crdts::mvreg::Op;
use crdts::{CmRDT, MVReg, VClock};

use crate::model::{Change, Clock, Digest, Key, PublicKey, Value, WriterId};

use super::Applied;

/// Concurrent changes kept of one key. There is one for each installation that wrote while cut off from the others; more
/// than a few is a fault or an attack, and all of them travel together.
pub const MAX_SIBLINGS: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Sibling {
    pub(super) hash: Digest,
    pub(super) change: Change,
}

impl Sibling {
    /// The order in which siblings are resolved.
    fn precedence(&self) -> (u64, PublicKey, Digest) {
        (self.change.signed.serial, self.change.signed.by(), self.hash)
    }

    /// A total order that never contradicts the order of clocks: what has seen more stands higher, even if a writer used one
    /// serial twice. Without that, dropping the lowest could go round in circles between replicas.
    fn rank(&self) -> (u64, u128, PublicKey, Digest) {
        let weight = self.change.signed.clock.values().map(|serial| u128::from(*serial)).sum();
        (self.change.signed.serial, weight, self.change.signed.by(), self.hash)
    }

    fn is_removal(&self) -> bool {
        self.change.signed.value == Value::Tombstone
    }
}

/// Never empty once something was applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    /// By precedence, the effective one first. The `MVReg` of these is made when it is asked: it would keep each one's clock a second
    /// time, and there is a register for every member of the cluster.
    siblings: Vec<Arc<Sibling>>,
}

impl Register {
    /// Whether this change is here.
    pub(super) fn holds(&self, change: &Change) -> bool {
        let hash = change.hash();
        self.siblings.iter().any(|sibling| sibling.hash == hash)
    }

    pub(super) fn apply(&mut self, change: Change) -> Applied {
        let new = Arc::new(Sibling { hash: change.hash(), change });
        if self.siblings.iter().any(|sibling| sibling.hash == new.hash) {
            return Applied::Known;
        }
        // Equal clocks are one dot used twice: a disk was lost or cloned, or the author cheats. `MVReg` would keep whichever
        // came last, and replicas would differ for ever.
        let twin = self.siblings.iter().find(|sibling| sibling.change.signed.clock == new.change.signed.clock);
        if twin.is_some_and(|twin| twin.rank() > new.rank()) {
            return Applied::Superseded;
        }
        let effective = self.effective().map(|sibling| sibling.hash);
        let mut values = self.values();
        put(&mut values, &new);
        self.siblings = values.read().val;
        self.drop_lowest();
        self.resolve();
        if !self.siblings.iter().any(|sibling| sibling.hash == new.hash) {
            return Applied::Superseded;
        }
        Applied::New { effective: effective != self.effective().map(|sibling| sibling.hash) }
    }

    fn values(&self) -> MVReg<Arc<Sibling>, WriterId> {
        let mut values = MVReg::default();
        self.siblings.iter().for_each(|sibling| put(&mut values, sibling));
        values
    }

    /// Holds the bound. Replicas may drop in different orders, yet the exchange of what they kept ends: each step raises the
    /// ranks that are kept, and two that have nothing to tell one another keep the same.
    fn drop_lowest(&mut self) {
        if self.siblings.len() <= MAX_SIBLINGS {
            return;
        }
        self.siblings.sort_by_key(|sibling| std::cmp::Reverse(sibling.rank()));
        self.siblings.truncate(MAX_SIBLINGS);
    }

    /// The greatest precedence comes first; but of a member, a removal does, so that a device whose clock is ahead cannot
    /// admit itself again beside its removal.
    fn resolve(&mut self) {
        self.siblings.sort_by_key(|sibling| {
            let removed = sibling.is_removal() && matches!(sibling.change.signed.key, Key::Member(_));
            std::cmp::Reverse((removed, sibling.precedence()))
        });
    }

    pub(super) fn effective(&self) -> Option<&Sibling> {
        self.siblings.first().map(Arc::as_ref)
    }

    pub(super) fn siblings(&self) -> &[Arc<Sibling>] {
        &self.siblings
    }

    /// By hash: the one order that all replicas share.
    pub(super) fn canonical(&self) -> Vec<&Sibling> {
        let mut siblings: Vec<&Sibling> = self.siblings.iter().map(Arc::as_ref).collect();
        siblings.sort_by_key(|sibling| sibling.hash);
        siblings
    }

    /// The hash of what is kept, whatever the order in which it came.
    pub(super) fn digest(&self) -> Digest {
        let siblings = self.canonical();
        let hashes: Vec<&[u8]> = siblings.iter().map(|sibling| sibling.hash.as_bytes().as_slice()).collect();
        Digest::of_parts(&hashes)
    }

    /// All that was seen.
    pub(super) fn clock(&self) -> Clock {
        self.values().read_ctx().add_clock.dots
    }

    /// The greatest serial; zero when empty.
    pub(super) fn highest(&self) -> u64 {
        self.siblings.iter().map(|sibling| sibling.change.signed.serial).max().unwrap_or(0)
    }
}

fn put(values: &mut MVReg<Arc<Sibling>, WriterId>, sibling: &Arc<Sibling>) {
    let clock = VClock { dots: sibling.change.signed.clock.clone() };
    values.apply(Op::Put { clock, val: Arc::clone(sibling) });
}
