//! What a bidder has, and what of it is promised. The one place where capacity is counted.

use std::collections::BTreeMap;

use crate::model::{ReplicaId, Resources};

/// Capacity, commitments by replica, and the sum of all reservations.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    capacity: Resources,
    /// Bounded by the sheet: one entry a claim, or a claim about to be made.
    committed: BTreeMap<ReplicaId, Resources>,
    committed_sum: Sum,
    reserved_sum: Sum,
}

/// A sum of resources. Wider than `Resources`, so that no sum of what one node can promise
/// saturates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    memory: u128,
    cpu: u64,
}

impl Ledger {
    pub(super) fn set_capacity(&mut self, capacity: Resources) {
        self.capacity = capacity;
    }

    /// Replicas that something is committed for.
    pub(super) fn len(&self) -> usize {
        self.committed.len()
    }

    /// Replaces what was committed for the replica.
    pub(super) fn commit(&mut self, replica: ReplicaId, resources: Resources) {
        self.free(&replica);
        self.committed.insert(replica, resources);
        self.committed_sum.add(resources, 1);
    }

    pub(super) fn free(&mut self, replica: &ReplicaId) {
        if let Some(resources) = self.committed.remove(replica) {
            self.committed_sum.remove(resources, 1);
        }
    }

    pub(super) fn is_committed(&self, replica: &ReplicaId) -> bool {
        self.committed.contains_key(replica)
    }

    pub(super) fn reserve(&mut self, resources: Resources, count: usize) {
        self.reserved_sum.add(resources, count);
    }

    pub(super) fn unreserve(&mut self, resources: Resources, count: usize) {
        self.reserved_sum.remove(resources, count);
    }

    pub(super) fn committed(&self) -> Resources {
        self.committed_sum.narrow()
    }

    pub(super) fn reserved(&self) -> Resources {
        self.reserved_sum.narrow()
    }

    /// Capacity less commitments, without regard to reservations.
    pub(super) fn uncommitted(&self) -> Resources {
        self.left(self.committed_sum)
    }

    /// Capacity less commitments and reservations.
    pub(super) fn unreserved(&self) -> Resources {
        self.left(self.committed_sum.plus(self.reserved_sum))
    }

    /// How many replicas fit, at most `limit`.
    pub(super) fn fits(&self, free: Resources, resources: Resources, limit: usize) -> usize {
        // A replica that needs nothing of one kind is not limited by it.
        let by_memory = free.memory.checked_div(resources.memory).unwrap_or(u64::MAX);
        let by_cpu = free.cpu.checked_div(resources.cpu).map_or(u64::MAX, u64::from);
        usize::try_from(by_memory.min(by_cpu)).unwrap_or(usize::MAX).min(limit)
    }

    /// The dominant share in use, in millionths of capacity, if `count` more replicas came to what
    /// is promised.
    pub(super) fn share_after(&self, resources: Resources, count: usize) -> u32 {
        let mut used = self.committed_sum.plus(self.reserved_sum);
        used.add(resources, count);
        let memory = share(used.memory, u128::from(self.capacity.memory));
        let cpu = share(u128::from(used.cpu), u128::from(self.capacity.cpu));
        memory.max(cpu)
    }

    fn left(&self, used: Sum) -> Resources {
        self.capacity.minus(used.narrow())
    }
}

/// Millionths, rounded up; a part of nothing is all of it.
fn share(used: u128, of: u128) -> u32 {
    let millionths =
        (used * 1_000_000).checked_add(of.saturating_sub(1)).and_then(|sum| sum.checked_div(of));
    millionths.map_or(if used == 0 { 0 } else { u32::MAX }, |share| {
        u32::try_from(share).unwrap_or(u32::MAX)
    })
}

impl Sum {
    fn add(&mut self, resources: Resources, count: usize) {
        self.memory += u128::from(resources.memory) * count as u128;
        self.cpu += u64::from(resources.cpu) * count as u64;
    }

    fn remove(&mut self, resources: Resources, count: usize) {
        self.memory -= u128::from(resources.memory) * count as u128;
        self.cpu -= u64::from(resources.cpu) * count as u64;
    }

    fn plus(self, other: Sum) -> Sum {
        Sum { memory: self.memory + other.memory, cpu: self.cpu + other.cpu }
    }

    fn narrow(self) -> Resources {
        Resources {
            memory: u64::try_from(self.memory).unwrap_or(u64::MAX),
            cpu: u32::try_from(self.cpu).unwrap_or(u32::MAX),
        }
    }
}
