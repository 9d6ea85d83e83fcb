//! Bytes: who has them, and getting those that this node guards or claims, before anybody asks.

use std::time::Duration;

use crate::model::{Artifact, Digest, NodeId, Phase, RuntimeKind, Time};

use super::artifacts::Local;
use super::contract::{Action, FetchOutcome};
use super::message::Message;
use super::{Level, Node};

/// Whom a fetch may ask, the best first; the next try asks again.
const MAX_CANDIDATES: usize = 16;
/// How long an upload is kept that nobody published.
const UPLOAD_KEPT: Duration = Duration::from_secs(600);

impl Node {
    /// Gets an artifact, unless it is here or on its way.
    pub(super) fn fetch(&mut self, now: Time, artifact: Artifact) {
        if self.artifacts.begin(now, artifact.digest) {
            let candidates = self.candidates(&artifact.digest);
            self.outbox.push(Action::Fetch { artifact, runtime: RuntimeKind::Wasm, candidates });
        }
    }

    /// Gets the artifact of a workload that this node guards.
    pub(super) fn want_artifact(&mut self, now: Time, uid: &Digest) {
        let Some(wish) = self.desired.by_uid(uid) else { return };
        let artifact = wish.spec.artifact;
        if self.is_guardian(uid, &wish.name) {
            self.fetch(now, artifact);
        }
    }

    /// Known holders first, then who runs it, then the guardians, then anybody.
    fn candidates(&self, digest: &Digest) -> Vec<NodeId> {
        let wishes = || self.desired.workloads().filter(|wish| wish.spec.artifact.digest == *digest);
        let running = wishes().flat_map(|wish| {
            let healthy = self.claims.of_workload(&wish.uid).into_iter();
            healthy.filter(|(_, claim)| claim.phase == Phase::Healthy && claim.generation == wish.generation)
        });
        let guardians = wishes().flat_map(|wish| self.guardians(&wish.name));
        let ordered = self.artifacts.holders(digest).copied().chain(running.map(|(node, _)| node)).chain(guardians);
        let mut candidates = Vec::new();
        for node in ordered.chain(self.membership.up()) {
            let up = self.membership.state(&node) == crate::membership::State::Up;
            if node != self.me && up && !candidates.contains(&node) {
                candidates.push(node);
            }
            if candidates.len() == MAX_CANDIDATES {
                break;
            }
        }
        candidates
    }

    pub(super) fn on_fetched(&mut self, now: Time, digest: Digest, outcome: FetchOutcome) {
        match outcome {
            FetchOutcome::Ready => {
                self.artifacts.ready(digest, self.me);
                self.outbox.push(Action::Broadcast(Message::Have { node: self.me, digest }));
            }
            FetchOutcome::Unusable(why) => {
                let message = format!("{} cannot be run: {why}", digest.short());
                self.artifacts.unusable(digest, why);
                self.tell(now, Level::Warning, "artifact-unusable", None, Some(self.me), message);
            }
            FetchOutcome::Failed(why) => {
                self.artifacts.failed(now, digest, why.clone());
                if let Local::Waiting { tries: 1, .. } = self.artifacts.local(&digest) {
                    let message = format!("{} could not be fetched: {why}; it is tried again", digest.short());
                    self.tell(now, Level::Warning, "fetch-failed", None, Some(self.me), message);
                }
            }
        }
        self.due.holding = true;
        self.views += 1;
    }

    pub(super) fn retry_fetches(&mut self, now: Time) {
        if self.artifacts.next_retry().is_none_or(|at| at > now) {
            return;
        }
        let claimed = self.claims.mine().filter_map(|claim| self.desired.by_uid(&claim.replica.uid));
        let wanted: Vec<Artifact> = claimed.chain(self.guarded()).map(|wish| wish.spec.artifact).collect();
        for artifact in wanted {
            self.fetch(now, artifact);
        }
        self.uploads.retain(|_, at| now.since(*at) < UPLOAD_KEPT);
        // What nobody wants any more is not tried again.
        let wanted = self.desired.workloads().map(|wish| wish.spec.artifact.digest).chain(self.uploads.keys().copied());
        let wanted = wanted.collect();
        self.artifacts.retain(&wanted);
        self.artifacts.drop_due(now);
    }
}
