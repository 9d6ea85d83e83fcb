//! The takers of streams that others open, and how many streams may live at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::counters::{NetCounters, add};
use super::stream::{Incoming, MeshStream, Purpose};

/// Streams of others that may wait for whoever takes them.
pub(super) const MAX_UNTAKEN: usize = 32;

/// Streams of others that may live at once. An artifact is large, and few at a time are faster;
/// requests are small and many.
const fn most(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Artifact => 16,
        Purpose::Http => 256,
        // Those that are carried on, and those that arrive; `hop.rs` holds the former to less.
        Purpose::Hop => 256,
    }
}

/// The takers, by purpose. Locked for a look-up, never across an await.
pub(super) struct Services {
    takers: Mutex<BTreeMap<Purpose, Taker>>,
    counters: Arc<NetCounters>,
}

struct Taker {
    streams: mpsc::Sender<Incoming>,
    room: Arc<Semaphore>,
}

impl Services {
    pub(super) fn new(counters: Arc<NetCounters>) -> Self {
        Services { takers: Mutex::default(), counters }
    }

    /// From now on these streams go there.
    pub(super) fn accept(&self, purpose: Purpose, streams: mpsc::Sender<Incoming>) {
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let room = match takers.get(&purpose) {
            Some(before) => before.room.clone(),
            None => Arc::new(Semaphore::new(most(purpose))),
        };
        takers.insert(purpose, Taker { streams, room });
    }

    /// Hands a stream on; `wrap` makes it one that counts. When nobody takes it, it is dropped,
    /// which resets it: the opener sees that at once.
    pub(super) fn hand(
        &self,
        from: NodeId,
        purpose: Purpose,
        wrap: impl FnOnce(OwnedSemaphorePermit) -> MeshStream,
    ) {
        let taken = {
            let takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
            takers.get(&purpose).and_then(|taker| {
                let permit = taker.room.clone().try_acquire_owned().ok()?;
                taker.streams.try_send(Incoming { from, stream: wrap(permit) }).ok()
            })
        };
        if taken.is_none() {
            add(&self.counters.streams_refused, 1);
        }
    }
}
