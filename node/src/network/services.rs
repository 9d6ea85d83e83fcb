//! The services that accept inbound streams, and how many of these may live at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::counters::{NetCounters, add};
use super::roster::Members;
use super::stream::{Incoming, MeshStream, Purpose};

/// Inbound streams that may wait for their service.
pub(super) const MAX_WAITING: usize = 32;

/// Inbound streams that may live at once. Artifacts are large, and few at a time are faster;
/// requests are small and many.
const fn max_streams(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Artifact => 16,
        Purpose::Http => 256,
        // Streams to relay and streams that arrive over a relay; `hop.rs` limits the former
        // further.
        Purpose::Hop => 256,
        // Most of them wait for what the node does not have yet either.
        Purpose::Pieces => 32,
    }
}

/// The services by purpose. Locked for a look-up, never across an await.
pub(super) struct Services {
    services: Mutex<BTreeMap<Purpose, Service>>,
    counters: Arc<NetCounters>,
    members: Members,
}

struct Service {
    streams: mpsc::Sender<Incoming>,
    permits: Arc<Semaphore>,
}

impl Services {
    pub(super) fn new(counters: Arc<NetCounters>, members: Members) -> Self {
        Services { services: Mutex::default(), counters, members }
    }

    /// From now on streams of this purpose go to `streams`.
    pub(super) fn accept(&self, purpose: Purpose, streams: mpsc::Sender<Incoming>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let permits = match services.get(&purpose) {
            Some(before) => before.permits.clone(),
            None => Arc::new(Semaphore::new(max_streams(purpose))),
        };
        services.insert(purpose, Service { streams, permits });
    }

    /// Delivers a stream of a member to its service; `wrap` attaches the permit. Without a service
    /// or room the stream is dropped, which resets it: the opener sees that at once.
    pub(super) fn deliver(
        &self,
        from: NodeId,
        purpose: Purpose,
        wrap: impl FnOnce(OwnedSemaphorePermit) -> MeshStream,
    ) {
        let delivered = self.members.has(&from).then(|| {
            let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.get(&purpose).and_then(|service| {
                let permit = service.permits.clone().try_acquire_owned().ok()?;
                service.streams.try_send(Incoming { from, stream: wrap(permit) }).ok()
            })
        });
        if delivered.flatten().is_none() {
            add(&self.counters.streams_refused, 1);
        }
    }
}
