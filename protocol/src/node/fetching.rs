//! Bytes: who has them, and getting those that this node guards or claims, before anybody asks.

use std::collections::BTreeSet;

use crate::model::spec::Program;
use crate::model::{Artifact, Digest, NodeId, Phase, ProgramKind, Spec, Time};

use super::contract::{Action, FetchOutcome, Refusal, Reply, Verdict};
use super::message::Message;
use super::{Level, Node};
use crate::artifacts::Local;

/// Whom one fetch may ask, the best first. The next try asks again, and others: see
/// [`Node::candidates`].
const MAX_CANDIDATES: usize = 16;

impl Node {
    /// Gets an artifact, unless it is here or on its way.
    pub(super) fn fetch(&mut self, now: Time, artifact: Artifact, runtime: ProgramKind) {
        if self.artifacts.begin(now, artifact.digest) {
            let candidates = self.candidates(&artifact.digest);
            self.outbox.push(Action::Fetch { artifact, runtime, candidates });
        }
    }

    /// Gets all artifacts that a program needs.
    pub(super) fn fetch_all(&mut self, now: Time, program: &Program) {
        for artifact in program.artifacts() {
            self.fetch(now, artifact, program.kind());
        }
    }

    /// Gets the artifact of a workload that this node guards.
    pub(super) fn want_artifact(&mut self, now: Time, uid: &Digest) {
        let Some(wish) = self.desired.by_uid(uid) else { return };
        if self.is_guardian(uid, &wish.name) {
            let spec = wish.spec.clone();
            self.fetch_all(now, &spec.program);
        }
    }

    /// Known holders first, then nodes that run it, then its guardians, then any; last those on
    /// whose paths transfers stall, and before them those that are reached over a hop, since bytes
    /// cross the network twice. That a node holds it is told by messages that may be lost, and by
    /// members that may lie. So after a failed try half are others than those, in turn, until each
    /// node that is up was asked; and of those, too, each has its turn.
    pub(super) fn candidates(&self, digest: &Digest) -> Vec<NodeId> {
        let mut candidates = self.ordered_candidates(digest);
        candidates.sort_by_key(|node| {
            (self.artifacts.stalls.contains(node), self.membership.unreachable(node).is_some())
        });
        candidates
    }

    fn ordered_candidates(&self, digest: &Digest) -> Vec<NodeId> {
        let is_up = |node: &NodeId| {
            *node != self.me && self.membership.state(node) == crate::membership::State::Up
        };
        let wishes = || self.desired.workloads().filter(|wish| wish.spec.uses(digest));
        let running = wishes().flat_map(|wish| {
            let healthy = self.claims.of_workload(&wish.uid).into_iter();
            healthy.filter(|(_, claim)| {
                claim.phase == Phase::Healthy && claim.generation == wish.generation
            })
        });
        let guardians = wishes().flat_map(|wish| self.guardians(&wish.name));
        let likely = self
            .artifacts
            .holders(digest)
            .copied()
            .chain(running.map(|(node, _)| node))
            .chain(guardians);
        let mut seen = BTreeSet::new();
        let mut likely: Vec<NodeId> =
            likely.filter(|node| is_up(node) && seen.insert(*node)).collect();
        let mut others: Vec<NodeId> =
            self.membership.up().filter(|node| is_up(node) && !seen.contains(node)).collect();
        let tries = usize::try_from(self.artifacts.tries(digest)).unwrap_or(usize::MAX);
        if tries == 0 {
            likely.extend(others);
            likely.truncate(MAX_CANDIDATES);
            return likely;
        }
        // What does not come first comes after the other half, where there is room.
        let half = MAX_CANDIDATES / 2;
        for nodes in [&mut likely, &mut others] {
            let turn = tries
                .saturating_sub(1)
                .saturating_mul(half)
                .checked_rem(nodes.len())
                .unwrap_or_default();
            nodes.rotate_left(turn);
        }
        let (first, later) = likely.split_at(half.min(likely.len()));
        let mut candidates: Vec<NodeId> =
            first.iter().copied().chain(others.iter().copied().take(half)).collect();
        candidates.extend(later.iter().copied().chain(others.iter().copied().skip(half)));
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }

    /// Whether a workload names it, or a user put it here lately.
    pub(super) fn is_wanted(&self, digest: &Digest) -> bool {
        self.desired.names_artifact(digest) || self.artifacts.uploads.contains(digest)
    }

    /// Makes room in the book of artifacts, where there is need. Whether there is some.
    pub(super) fn prune_artifacts(&mut self) -> bool {
        let desired = &self.desired;
        self.artifacts.prune(desired.artifacts(), |digest| desired.names_artifact(digest))
    }

    /// Forgets artifacts that nothing wants any more.
    pub(super) fn forget_unwanted(&mut self) {
        let desired = &self.desired;
        self.artifacts.retain(|digest| desired.names_artifact(digest));
    }

    /// An artifact was put here by a user. There is always room for one that a workload names.
    pub(super) fn uploaded(&mut self, now: Time, artifact: Artifact) -> Result<Reply, Refusal> {
        let digest = artifact.digest;
        let is_known = self.desired.names_artifact(&digest) || self.artifacts.knows(&digest);
        if !is_known && !self.prune_artifacts() {
            let why = "as many uploads as it remembers are still being made ready; the bytes are \
                here, and can be published";
            return Err(Refusal::Busy(why.into()));
        }
        self.artifacts.uploads.note(now, digest);
        self.fetch(now, artifact, ProgramKind::Wasm);
        if !is_known {
            self.tell(
                now,
                Level::Info,
                "artifact-uploaded",
                None,
                None,
                format!("{} bytes", artifact.size),
            );
        }
        Ok(Reply::Done)
    }

    pub(super) fn on_fetched(&mut self, now: Time, digest: Digest, outcome: FetchOutcome) {
        if !self.is_wanted(&digest) && !self.artifacts.knows(&digest) {
            return;
        }
        match outcome {
            FetchOutcome::Ready => {
                self.artifacts.ready(digest, self.me);
                self.say_held(digest);
            }
            FetchOutcome::Unusable(why) => {
                let message = format!("{} cannot be run: {why}", digest.short());
                self.artifacts.unusable(digest, why);
                self.tell(now, Level::Warning, "artifact-unusable", None, Some(self.me), message);
            }
            FetchOutcome::Failed(why) => {
                self.artifacts.failed(now, digest, why.clone());
                if let Local::Waiting { tries: 1, .. } = self.artifacts.local(&digest) {
                    let message = format!(
                        "{} could not be fetched: {why}; it is tried again",
                        digest.short()
                    );
                    self.tell(now, Level::Warning, "fetch-failed", None, Some(self.me), message);
                }
            }
        }
        self.due.holding = true;
        self.shown.version += 1;
    }

    pub(super) fn retry_fetches(&mut self, now: Time) {
        if self.artifacts.next_retry().is_none_or(|at| at > now) {
            return;
        }
        let claimed =
            self.claims.mine().filter_map(|claim| self.desired.by_uid(&claim.replica.uid));
        let wanted: Vec<Spec> =
            claimed.chain(self.guarded()).map(|workload| workload.spec.clone()).collect();
        for spec in wanted {
            self.fetch_all(now, &spec.program);
        }
        // What nobody wants any more is not tried again.
        self.forget_unwanted();
        self.artifacts.drop_due(now);
    }

    /// Tells all that this node holds what a workload names. Of other artifacts nobody would take
    /// it.
    pub(super) fn say_held(&mut self, digest: Digest) {
        if self.desired.names_artifact(&digest) && self.artifacts.is_ready(&digest) {
            self.outbox.push(Action::Broadcast(Message::Have { node: self.me, digest }));
        }
    }

    /// `node` says that it holds an artifact; it, too, says so without proof. Taken for those alone
    /// that a workload names: a member could speak of any number of others. A word that comes
    /// before the change which names its artifact is dropped; see [`super::replication`] how it comes
    /// again.
    pub(super) fn on_have(&mut self, node: NodeId, digest: Digest) -> Verdict {
        let counts = self.desired.names_artifact(&digest) && self.is_member(&node);
        if counts && self.artifacts.held_by(digest, node) {
            self.shown.version += 1;
            return Verdict::Accept;
        }
        Verdict::Ignore
    }
}
