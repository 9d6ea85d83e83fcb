//! Recent uploads of users, which no workload may name yet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Digest, Queue, Time};

/// Uploads remembered: as many as one manifest can name workloads. A user who uploads more must
/// publish before the oldest is forgotten.
pub(super) const MAX_UPLOADS: usize = 256;
/// The time for which an upload is kept that no workload names.
const KEPT: Duration = Duration::from_secs(600);

/// Uploads, each with the time at which it came.
#[derive(Clone, Debug, Default)]
pub struct Uploads(BTreeMap<Digest, Time>);

impl Uploads {
    /// A user uploaded an artifact.
    pub fn note(&mut self, now: Time, digest: Digest) {
        self.0.insert(digest, now);
        while self.0.len() > MAX_UPLOADS {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| *digest);
            oldest.map(|digest| self.0.remove(&digest));
        }
    }

    /// Whether an artifact is a recent upload.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }

    /// All recent uploads, by digest.
    pub fn iter(&self) -> impl Iterator<Item = &Digest> {
        self.0.keys()
    }

    /// Forgets old uploads, so that the store may evict them.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_some_and(|end| end <= now) {
            self.0.retain(|_, at| now.since(*at) < KEPT);
        }
    }

    /// The time at which the oldest upload is forgotten.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.0.values().min().map(|at| *at + KEPT)
    }

    pub(super) fn queue(&self) -> Queue {
        Queue::new("uploads", self.0.len(), MAX_UPLOADS)
    }
}
