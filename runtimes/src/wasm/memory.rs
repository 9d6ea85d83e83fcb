//! The memory that all requests of one replica share.
//!
//! ***A request reserves its instance's memory before it makes the instance.** So an instance is
//! made once and fits, a waiting request uses no CPU until it gets memory, and is not woken in
//! vain. Waiting requests get memory in the order in which they came. Running guests may grow
//! before them: they hold the memory that the others wait for, and would fail instead of giving it
//! back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wasmtime::ResourceLimiter;

/// Core instances, memories and tables of one component: plain ones have four, one and two.
const MAX_INSTANCES: usize = 128;
const MAX_MEMORIES: usize = 16;
const MAX_TABLES: usize = 64;
/// Bytes that the engine needs for an element of a table.
const TABLE_ELEMENT: u64 = size_of::<usize>() as u64;

pub(super) struct MemoryPool {
    limit: u64,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    used: u64,
    /// Waiting requests in the order in which they came: at most as many as the replica has slots,
    /// and those that were cancelled since the last one came.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    bytes: u64,
    given: oneshot::Sender<Reserved>,
}

impl Waiting {
    fn gave_up(&self) -> bool {
        self.given.is_closed()
    }
}

/// Memory reserved for one instance; released on drop.
pub(super) struct Reserved {
    pool: Arc<MemoryPool>,
    bytes: u64,
}

impl MemoryPool {
    pub fn new(limit: u64) -> Self {
        MemoryPool { limit, state: Mutex::default() }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Reserves `bytes`, after the requests that asked before; never returns when that is more than
    /// the limit.
    pub async fn reserve(self: &Arc<Self>, bytes: u64) -> Reserved {
        let (given, waits) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.retain(|waiting| !waiting.gave_up());
            state.waiting.push_back(Waiting { bytes, given });
        }
        self.give_to_waiting();
        waits.await.expect("the pool keeps the sender until it gives")
    }

    /// An empty reservation, for an instance that takes memory as it grows.
    pub fn nothing(self: &Arc<Self>) -> Reserved {
        Reserved { pool: self.clone(), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        let grown = state.used.checked_add(bytes).filter(|used| *used <= self.limit);
        if let Some(used) = grown {
            state.used = used;
        }
        grown.is_some()
    }

    fn give_back(self: &Arc<Self>, bytes: u64) {
        if bytes > 0 {
            self.lock().used -= bytes;
            self.give_to_waiting();
        }
    }

    fn give_to_waiting(self: &Arc<Self>) {
        while let Some((given, bytes)) = self.next_that_fits() {
            // A request that is cancelled at this moment drops the reservation, which calls this
            // again for the next request.
            let _ = given.send(Reserved { pool: self.clone(), bytes });
        }
    }

    fn next_that_fits(&self) -> Option<(oneshot::Sender<Reserved>, u64)> {
        let mut state = self.lock();
        while state.waiting.front().is_some_and(Waiting::gave_up) {
            state.waiting.pop_front();
        }
        let bytes = state.waiting.front()?.bytes;
        let used = state.used.checked_add(bytes).filter(|used| *used <= self.limit)?;
        state.used = used;
        state.waiting.pop_front().map(|waiting| (waiting.given, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Each change is complete before the lock is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

/// The part of a replica's pool that one guest has.
pub(super) struct Memory {
    /// Never fewer bytes than `own`.
    held: Reserved,
    own: u64,
    /// Bytes of the growth that was allowed last, and bytes taken from the pool for it: both are
    /// undone when the system refuses the growth.
    last: (u64, u64),
    /// Bytes that the guest would have had with the greatest growth that was refused.
    wanted: Option<u64>,
}

impl Memory {
    pub fn new(held: Reserved) -> Self {
        Memory { held, own: 0, last: (0, 0), wanted: None }
    }

    pub fn own(&self) -> u64 {
        self.own
    }

    /// Bytes that the guest would have had; set when a growth was refused, which explains a later
    /// failure.
    pub fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let own = self.own.saturating_add(bytes);
        let more = own.saturating_sub(self.held.bytes);
        let allowed = more == 0 || self.held.pool.take(more);
        if allowed {
            self.own = own;
            self.held.bytes += more;
            self.last = (bytes, more);
        } else {
            self.wanted = self.wanted.max(Some(own));
        }
        allowed
    }

    fn grow_failed(&mut self) {
        let (bytes, more) = std::mem::take(&mut self.last);
        self.wanted = self.wanted.max(Some(self.own));
        self.own -= bytes;
        self.held.bytes -= more;
        self.held.pool.give_back(more);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = (0, 0);
        // Growth beyond the guest's own maximum is not our refusal.
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(within && self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = (0, 0);
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(within
            && self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT)))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn pool() -> Arc<MemoryPool> {
        Arc::new(MemoryPool::new(10))
    }

    #[tokio::test]
    async fn waiting_requests_get_memory_in_order() {
        let pool = pool();
        let all = pool.reserve(10).await;
        let mut first = Box::pin(pool.reserve(6));
        let mut second = Box::pin(pool.reserve(2));
        assert!(
            futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending()
        );
        let mut running = Memory::new(pool.nothing());
        drop(all);
        assert!(running.grow(2), "a guest that runs grows with what is free");
        let (first, second) = (first.now_or_never().unwrap(), second.now_or_never().unwrap());
        assert_eq!((first.bytes, second.bytes, pool.used()), (6, 2, 10));
        // A small request must not overtake a large one, or the large one might wait for ever.
        let mut large = Box::pin(pool.reserve(5));
        let mut small = Box::pin(pool.reserve(1));
        assert!(futures::poll!(&mut large).is_pending() && futures::poll!(&mut small).is_pending());
        drop(second);
        assert!(futures::poll!(&mut large).is_pending() && futures::poll!(&mut small).is_pending());
        drop(first);
        assert!(large.now_or_never().is_some() && small.now_or_never().is_some());
        drop(running);
        assert_eq!(pool.used(), 0);
    }

    /// Futures of `reserve` are dropped while they wait, and right after they got the memory:
    /// nothing stays reserved, and the queue stays short.
    #[tokio::test]
    async fn cancelled_requests_leave_nothing_behind() {
        let pool = pool();
        let all = pool.reserve(10).await;
        for _ in 0..100 {
            let mut gives_up = Box::pin(pool.reserve(10));
            assert!(futures::poll!(&mut gives_up).is_pending());
        }
        assert!(pool.lock().waiting.len() <= 2);
        let mut waits = Box::pin(pool.reserve(10));
        let mut given_unseen = Box::pin(pool.reserve(10));
        assert!(
            futures::poll!(&mut waits).is_pending()
                && futures::poll!(&mut given_unseen).is_pending()
        );
        drop(all);
        drop(waits.now_or_never().unwrap());
        // It got the memory, and is dropped before it is polled.
        drop(given_unseen);
        assert_eq!(pool.used(), 0);
    }

    /// 4 bytes are reserved. Growth beyond takes from the pool, and growth that the system refused
    /// is given back.
    #[test]
    fn guest_uses_its_reservation_before_taking_more() {
        let pool = pool();
        let mut memory = Memory::new(pool.reserve(4).now_or_never().unwrap());
        assert!(memory.grow(3) && memory.grow(3));
        assert_eq!((memory.own(), pool.used(), memory.wanted()), (6, 6, None));
        memory.grow_failed();
        assert_eq!((memory.own(), pool.used(), memory.wanted()), (3, 4, Some(6)));
        assert!(!memory.grow(8));
        assert_eq!((memory.own(), memory.wanted()), (3, Some(11)));
        drop(memory);
        assert_eq!(pool.used(), 0);
    }
}
