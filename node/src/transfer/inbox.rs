//! The fetches that the driver asked for, until somebody takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::{Artifact, Digest, NodeId, RuntimeKind};
use tokio::sync::Notify;

use crate::driver::Fetches;

/// One fetch that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub artifact: Artifact,
    pub runtime: RuntimeKind,
    pub candidates: Vec<NodeId>,
}

/// By digest, of which the latest counts; so it is bounded by what the core keeps track of, which
/// forgets nothing that is being fetched.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<(Mutex<BTreeMap<Digest, Wanted>>, Notify)>);

/// The driver's end.
pub struct FetchSink(pub(super) Inbox);

impl Fetches for FetchSink {
    fn fetch(&mut self, artifact: Artifact, runtime: RuntimeKind, candidates: Vec<NodeId>) {
        self.0.put(Wanted { artifact, runtime, candidates });
    }
}

impl Inbox {
    fn put(&self, wanted: Wanted) {
        let (waiting, wake) = &*self.0;
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(wanted.artifact.digest, wanted);
        wake.notify_one();
    }

    /// Takes one that is not under way; waits for it.
    pub(super) async fn take(&self, under_way: &BTreeSet<Digest>) -> Wanted {
        loop {
            let woken = self.0.1.notified();
            if let Some(wanted) = self.try_take(under_way) {
                return wanted;
            }
            woken.await;
        }
    }

    fn try_take(&self, under_way: &BTreeSet<Digest>) -> Option<Wanted> {
        let mut waiting = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = waiting.keys().find(|digest| !under_way.contains(digest)).copied()?;
        waiting.remove(&digest)
    }
}
