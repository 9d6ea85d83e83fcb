//! The takers of streams that others open, and how many streams may live at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::counters::{NetCounters, add};
use super::stream::{Incoming, MeshStream, Purpose};

/// Streams of others that may wait for whoever takes them.
pub(super) const MAX_WAITING: usize = 32;

/// Streams of others that may live at once. An artifact is large, and few at a time are faster;
/// requests are small and many.
const fn max_streams(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Artifact => 16,
        Purpose::Http => 256,
        // Those that are carried on, and those that arrive; `hop.rs` holds the former to less.
        Purpose::Hop => 256,
    }
}

/// The takers, by purpose. Locked for a look-up, never across an await.
pub(super) struct Services {
    services: Mutex<BTreeMap<Purpose, Service>>,
    counters: Arc<NetCounters>,
}

struct Service {
    streams: mpsc::Sender<Incoming>,
    room: Arc<Semaphore>,
}

impl Services {
    pub(super) fn new(counters: Arc<NetCounters>) -> Self {
        Services { services: Mutex::default(), counters }
    }

    /// From now on these streams go there.
    pub(super) fn accept(&self, purpose: Purpose, streams: mpsc::Sender<Incoming>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let room = match services.get(&purpose) {
            Some(before) => before.room.clone(),
            None => Arc::new(Semaphore::new(max_streams(purpose))),
        };
        services.insert(purpose, Service { streams, room });
    }

    /// Hands a stream on; `wrap` makes it one that counts. When nobody takes it, it is dropped,
    /// which resets it: the opener sees that at once.
    pub(super) fn deliver(
        &self,
        from: NodeId,
        purpose: Purpose,
        wrap: impl FnOnce(OwnedSemaphorePermit) -> MeshStream,
    ) {
        let delivered = {
            let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.get(&purpose).and_then(|service| {
                let permit = service.room.clone().try_acquire_owned().ok()?;
                service.streams.try_send(Incoming { from, stream: wrap(permit) }).ok()
            })
        };
        if delivered.is_none() {
            add(&self.counters.streams_refused, 1);
        }
    }
}
