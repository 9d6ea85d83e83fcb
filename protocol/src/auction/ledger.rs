//! The capacity of a bidder, and how much of it is reserved. What is committed to claims is counted
//! by the holder (see [`BidContext::committed`](super::BidContext::committed)).

use crate::model::{Need, NeedSum};

/// Capacity, and the sum of all reservations.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    capacity: Need,
    reserved: NeedSum,
}

impl Ledger {
    pub(super) fn set_capacity(&mut self, capacity: Need) {
        self.capacity = capacity;
    }

    pub(super) fn reserve(&mut self, need: &Need, count: usize) {
        self.reserved.add(need, count);
    }

    pub(super) fn unreserve(&mut self, need: &Need, count: usize) {
        self.reserved.remove(need, count);
    }

    pub(super) fn reserved(&self) -> Need {
        self.reserved.narrow()
    }

    /// Capacity less `used`; reservations are ignored.
    pub(super) fn without(&self, used: &NeedSum) -> Need {
        self.capacity.minus(&used.narrow())
    }

    /// Capacity less `used` and all reservations.
    pub(super) fn unreserved(&self, used: NeedSum) -> Need {
        self.without(&used.plus(&self.reserved))
    }

    /// The number of replicas that fit, at most `limit`.
    pub(super) fn fits(&self, free: &Need, need: &Need, limit: usize) -> usize {
        // A replica that needs nothing of one kind is not limited by it.
        let by_memory = free.size.memory.checked_div(need.size.memory).unwrap_or(u64::MAX);
        let by_cpu = free.size.cpu.checked_div(need.size.cpu).map_or(u64::MAX, u64::from);
        let by_count = need.counted.iter();
        let by_count = by_count.filter_map(|(name, each)| free.counted.of(name).checked_div(each));
        let most = by_count.min().unwrap_or(u64::MAX).min(by_memory).min(by_cpu);
        usize::try_from(most).unwrap_or(usize::MAX).min(limit)
    }

    /// The dominant share in use, in millionths of capacity, if `count` more replicas came to
    /// `used` and the reservations.
    pub(super) fn share_after(&self, used: NeedSum, need: &Need, count: usize) -> u32 {
        let mut sum = used.plus(&self.reserved);
        sum.add(need, count);
        sum.dominant_share(&self.capacity, &need.counted)
    }
}
