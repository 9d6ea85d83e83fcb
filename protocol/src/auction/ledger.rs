//! The capacity of a bidder, and how much of it is reserved. What is committed to claims is counted
//! by the holder (see [`BidContext::committed`](super::BidContext::committed)).

use crate::model::{ResourceSum, Resources};

/// Capacity, and the sum of all reservations.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    capacity: Resources,
    reserved: ResourceSum,
}

impl Ledger {
    pub(super) fn set_capacity(&mut self, capacity: Resources) {
        self.capacity = capacity;
    }

    pub(super) fn reserve(&mut self, resources: Resources, count: usize) {
        self.reserved.add(resources, count);
    }

    pub(super) fn unreserve(&mut self, resources: Resources, count: usize) {
        self.reserved.remove(resources, count);
    }

    pub(super) fn reserved(&self) -> Resources {
        self.reserved.narrow()
    }

    /// Capacity less `used`; reservations are ignored.
    pub(super) fn without(&self, used: ResourceSum) -> Resources {
        self.capacity.minus(used.narrow())
    }

    /// Capacity less `used` and all reservations.
    pub(super) fn unreserved(&self, used: ResourceSum) -> Resources {
        self.without(used.plus(self.reserved))
    }

    /// The number of replicas that fit, at most `limit`.
    pub(super) fn fits(&self, free: Resources, resources: Resources, limit: usize) -> usize {
        // A replica that needs nothing of one kind is not limited by it.
        let by_memory = free.memory.checked_div(resources.memory).unwrap_or(u64::MAX);
        let by_cpu = free.cpu.checked_div(resources.cpu).map_or(u64::MAX, u64::from);
        usize::try_from(by_memory.min(by_cpu)).unwrap_or(usize::MAX).min(limit)
    }

    /// The dominant share in use, in millionths of capacity, if `count` more replicas came to
    /// `used` and the reservations.
    pub(super) fn share_after(&self, used: ResourceSum, resources: Resources, count: usize) -> u32 {
        let mut sum = used.plus(self.reserved);
        sum.add(resources, count);
        sum.dominant_share(self.capacity)
    }
}
