//! The fetches that the driver asked for and no task has taken yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::spec::Pieces;
use shoal_protocol::model::{Artifact, Digest, NodeId, ProgramKind};
use tokio::sync::Notify;

use crate::driver::Fetches;

/// A fetch that the driver asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FetchRequest {
    pub artifact: Artifact,
    pub pieces: Option<Pieces>,
    pub runtime: ProgramKind,
    pub candidates: Vec<NodeId>,
}

/// The fetches by digest; a later one replaces an earlier one. So it is bounded by the artifacts
/// that the core tracks, which forgets none that is being fetched.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<(Mutex<BTreeMap<Digest, FetchRequest>>, Notify)>);

/// The driver's end of the queue.
pub struct FetchSink(pub(super) Inbox);

impl Fetches for FetchSink {
    fn fetch(
        &mut self,
        artifact: Artifact,
        pieces: Option<Pieces>,
        runtime: ProgramKind,
        candidates: Vec<NodeId>,
    ) {
        self.0.put(FetchRequest { artifact, pieces, runtime, candidates });
    }
}

impl Inbox {
    fn put(&self, request: FetchRequest) {
        let (pending, wake) = &*self.0;
        pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(request.artifact.digest, request);
        wake.notify_one();
    }

    /// Waits for a fetch whose artifact is not under way, and takes it.
    pub(super) async fn take(&self, under_way: &BTreeSet<Digest>) -> FetchRequest {
        loop {
            let wake_up = self.0.1.notified();
            if let Some(request) = self.try_take(under_way) {
                return request;
            }
            wake_up.await;
        }
    }

    fn try_take(&self, under_way: &BTreeSet<Digest>) -> Option<FetchRequest> {
        let mut pending = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = pending.keys().find(|digest| !under_way.contains(digest)).copied()?;
        pending.remove(&digest)
    }
}
