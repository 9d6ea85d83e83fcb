//! The connections to replicas with an address: how many each may have, and which are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use shoal_runtimes::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::ReplicaLimits;

/// Idle connections in all. Each takes a file on both ends, of the 1024 that a process often has.
const MAX_IDLE: usize = 128;

pub(super) struct Pool {
    limits: ReplicaLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The replicas that are asked or have idle connections; others are removed once a second.
    replicas: BTreeMap<SocketAddr, Replica>,
    /// Idle connections of all replicas.
    idle: usize,
    /// A task removes what is no longer needed.
    is_swept: bool,
}

struct Replica {
    slots: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// The latest at the end.
    idle: Vec<Idle>,
}

struct Idle {
    connection: SendRequest<Body>,
    since: Instant,
}

/// As many requests of a replica are under way or waiting as it takes.
#[derive(Debug)]
pub(super) struct Busy {
    pub limit: usize,
}

/// The right to have one request answered by a replica.
pub(super) struct Permit {
    pool: Arc<Pool>,
    address: SocketAddr,
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// A connection with an answer that is being read. Kept for another request when this is dropped,
/// unless it broke.
pub(super) struct Lease {
    permit: Permit,
    connection: Option<SendRequest<Body>>,
}

impl Pool {
    pub(super) fn new(limits: ReplicaLimits) -> Arc<Self> {
        Arc::new(Pool { limits, state: Mutex::default() })
    }

    /// Waits until the replica may be sent another request. Waiting requests are served in order.
    pub(super) async fn enter(self: &Arc<Self>, address: SocketAddr) -> Result<Permit, Busy> {
        let ReplicaLimits { concurrent, waiting, progress, .. } = self.limits;
        let busy = || Busy { limit: concurrent + waiting };
        let (slots, place) = {
            let mut state = self.lock();
            let replica = state.replicas.entry(address).or_insert_with(|| Replica {
                slots: Arc::new(Semaphore::new(concurrent)),
                room: Arc::new(Semaphore::new(concurrent + waiting)),
                idle: Vec::new(),
            });
            let place = replica.room.clone().try_acquire_owned().map_err(|_| busy())?;
            let slots = replica.slots.clone();
            if !std::mem::replace(&mut state.is_swept, true) {
                tokio::spawn(sweep(Arc::downgrade(self), self.limits.idle));
            }
            (slots, place)
        };
        let slot = timeout(progress, slots.acquire_owned()).await.map_err(|_| busy())?;
        let slot = slot.expect("the semaphore is never closed");
        Ok(Permit { pool: self.clone(), address, _slot: slot, _place: place })
    }

    fn keep(&self, address: SocketAddr, connection: SendRequest<Body>) {
        if connection.is_closed() {
            return;
        }
        let mut state = self.lock();
        let State { replicas, idle, .. } = &mut *state;
        if let Some(replica) = replicas.get_mut(&address)
            && *idle < MAX_IDLE
        {
            *idle += 1;
            replica.idle.push(Idle { connection, since: Instant::now() });
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.replicas.is_empty() && state.idle == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes idle connections of which `is_over`, and forgets replicas that need no entry.
    fn retain(&mut self, limits: &ReplicaLimits, is_over: impl Fn(&Idle) -> bool) {
        let all = limits.concurrent + limits.waiting;
        self.replicas.retain(|_, replica| {
            replica.idle.retain(|idle| !is_over(idle));
            !replica.idle.is_empty() || replica.room.available_permits() < all
        });
        self.idle = self.replicas.values().map(|replica| replica.idle.len()).sum();
    }
}

impl Permit {
    /// A kept connection that is free, the latest first.
    pub(super) fn kept(&self) -> Option<SendRequest<Body>> {
        let limit = self.pool.limits.idle;
        let mut state = self.pool.lock();
        let State { replicas, idle, .. } = &mut *state;
        let kept = &mut replicas.get_mut(&self.address)?.idle;
        let before = kept.len();
        kept.retain(|idle| !idle.connection.is_closed() && idle.since.elapsed() < limit);
        let free = kept.iter().rposition(|idle| idle.connection.is_ready());
        let free = free.map(|at| kept.remove(at).connection);
        *idle -= before - kept.len();
        free
    }

    /// Binds a connection to the answer that comes over it.
    pub(super) fn lease(self, connection: SendRequest<Body>) -> Lease {
        Lease { permit: self, connection: Some(connection) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A connection whose answer was not read to its end is about to close, and removed when
        // that is seen.
        if let Some(connection) = self.connection.take() {
            self.permit.pool.keep(self.permit.address, connection);
        }
    }
}

/// Removes what is no longer needed, until nothing is left or the pool is gone.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.lock();
        state.retain(&pool.limits, |idle| {
            idle.connection.is_closed() || idle.since.elapsed() >= every
        });
        if state.replicas.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}
