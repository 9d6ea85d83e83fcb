//! Artifacts: their holders, and the fetches of those that this node guards or claims, before a
//! replica needs them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::spec::{Pieces, Program};
use crate::model::{Artifact, Digest, NodeId, Phase, ProgramKind, Spec, Time};

use super::contract::{Action, FetchOutcome, Refusal, Reply, Verdict};
use super::message::Message;
use super::{Level, Node};
use crate::artifacts::Local;

/// Nodes that one fetch may ask. The next try asks partly other nodes: see [`Node::candidates`].
const MAX_CANDIDATES: usize = 16;

impl Node {
    /// Fetches an artifact, unless it is here or on its way.
    pub(super) fn fetch(
        &mut self,
        now: Time,
        artifact: Artifact,
        pieces: Option<Pieces>,
        runtime: ProgramKind,
    ) {
        if self.artifacts.begin(now, artifact.digest) {
            let mut candidates = self.candidates(&artifact.digest);
            if pieces.is_some()
                && let Some((_, rest)) = candidates.split_first_mut()
            {
                self.mix(rest);
            }
            self.outbox.push(Action::Fetch { artifact, pieces, runtime, candidates });
        }
    }

    /// Gives nodes another order at each node, except that those behind a hop and on bad paths stay
    /// last. Pieces spread only if every node that gets some is asked by a few others.
    fn mix(&self, nodes: &mut [NodeId]) {
        nodes
            .sort_by_cached_key(|node| (self.way(node), Digest::of(&[self.me.0, node.0].concat())));
    }

    /// Whether the way to a node is bad, or over another node.
    fn way(&self, node: &NodeId) -> (bool, bool) {
        (self.artifacts.stalls.contains(node), self.membership.unreachable(node).is_some())
    }

    /// Fetches all artifacts of a program.
    pub(super) fn fetch_all(&mut self, now: Time, program: &Program) {
        let all: Vec<_> = program.in_pieces_on(&self.device.facts.arch).collect();
        for (artifact, pieces) in all {
            self.fetch(now, artifact, pieces, program.kind());
        }
    }

    /// Fetches the artifact of a workload if this node guards it.
    pub(super) fn want_artifact(&mut self, now: Time, uid: &Digest) {
        let Some(workload) = self.desired.by_uid(uid) else { return };
        if self.is_guardian(uid, &workload.name) {
            let spec = workload.spec.clone();
            self.fetch_all(now, &spec.program);
        }
    }

    /// The nodes to ask for an artifact, in this order: known holders, nodes that run it, its
    /// guardians, other nodes. The first holder differs by artifact and by node, so that the parts
    /// of an image come from several holders at once, and none serves all. Nodes behind a hop come
    /// after these, because the bytes cross the network twice; nodes on whose paths transfers stall
    /// come last.
    ///
    /// Announcements of holders may be lost, and a member may lie. So after a failed try half of
    /// the candidates are not likely holders; both halves rotate with each try, until every node
    /// that is up was asked.
    pub(super) fn candidates(&self, digest: &Digest) -> Vec<NodeId> {
        let mut candidates = self.ordered_candidates(digest);
        candidates.sort_by_key(|node| self.way(node));
        candidates
    }

    fn ordered_candidates(&self, digest: &Digest) -> Vec<NodeId> {
        let is_up = |node: &NodeId| *node != self.me && self.is_up(node);
        let workloads = || self.desired.workloads().filter(|workload| workload.spec.uses(digest));
        let running = workloads().flat_map(|workload| {
            let healthy = self.claims.of_workload(&workload.uid).into_iter();
            healthy.filter(|(_, claim)| {
                claim.phase == Phase::Healthy && claim.generation == workload.generation
            })
        });
        let guardians = workloads().flat_map(|workload| self.guardians(&workload.name));
        let mut holders: Vec<NodeId> =
            self.artifacts.holders(digest).copied().filter(is_up).collect();
        if !holders.is_empty() {
            let turn = usize::from(digest.0[0]) + usize::from(self.me.0[0]);
            let count = holders.len();
            holders.rotate_left(turn % count);
        }
        // Those that start it now may hold pieces already.
        let claims = workloads().flat_map(|workload| self.claims.of_workload(&workload.uid));
        let mut starting: Vec<NodeId> = claims.map(|(node, _)| node).collect();
        self.mix(&mut starting);
        let likely = holders
            .into_iter()
            .chain(running.map(|(node, _)| node))
            .chain(guardians)
            .chain(starting);
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
        // The rest of both follows, as far as there is room.
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

    /// Whether a workload names the artifact, or a user uploaded it lately.
    pub(super) fn is_wanted(&self, digest: &Digest) -> bool {
        self.desired.names_artifact(digest) || self.artifacts.uploads.contains(digest)
    }

    /// Forgets artifacts if the room `artifacts` is full. Returns whether it has space then.
    pub(super) fn prune_artifacts(&mut self) -> bool {
        let (desired, old) = (&self.desired, &self.old_versions);
        let is_named =
            |digest: &Digest| desired.names_artifact(digest) || old.names_artifact(digest);
        self.artifacts.prune(desired.artifacts(), is_named)
    }

    /// Forgets artifacts that neither a workload names nor a user uploaded lately.
    pub(super) fn forget_unwanted(&mut self) {
        let (desired, old) = (&self.desired, &self.old_versions);
        self.artifacts
            .retain(|digest| desired.names_artifact(digest) || old.names_artifact(digest));
    }

    /// A user uploaded an artifact. One that a workload names is always accepted.
    pub(super) fn uploaded(
        &mut self,
        now: Time,
        artifact: Artifact,
        kind: ProgramKind,
    ) -> Result<Reply, Refusal> {
        let digest = artifact.digest;
        let is_known = self.desired.names_artifact(&digest) || self.artifacts.knows(&digest);
        if !is_known && !self.prune_artifacts() {
            let why = "as many uploads as it remembers are still being made ready; the bytes are \
                here, and can be published";
            return Err(Refusal::Busy(why.into()));
        }
        self.artifacts.uploads.note(now, digest);
        self.fetch(now, artifact, None, kind);
        if !is_known {
            self.emit_event(
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

    /// Tells people which nodes gave the bytes.
    pub(super) fn on_artifact_received(
        &mut self,
        now: Time,
        artifact: Artifact,
        from: Vec<NodeId>,
        took: Duration,
    ) {
        let mut names: Vec<String> = from.iter().take(3).map(|node| self.name_of(node)).collect();
        if let more @ 1.. = from.len().saturating_sub(names.len()) {
            names.push(format!("{more} more"));
        }
        let (digest, size, from) = (artifact.digest.short(), artifact.size, names.join(", "));
        let message =
            format!("{digest} ({size} bytes) came from {from} in {:.1} s", took.as_secs_f64());
        self.emit_event(now, Level::Info, "artifact-received", None, Some(self.me), message);
    }

    pub(super) fn on_fetched(&mut self, now: Time, digest: Digest, outcome: FetchOutcome) {
        if !self.is_wanted(&digest) && !self.artifacts.knows(&digest) {
            return;
        }
        match outcome {
            FetchOutcome::Ready => {
                self.artifacts.ready(digest, self.me);
                self.announce_artifact(digest);
            }
            FetchOutcome::Unusable(why) => {
                let message = format!("{} cannot be run: {why}", digest.short());
                self.artifacts.unusable(digest, why);
                self.emit_event(
                    now,
                    Level::Warning,
                    "artifact-unusable",
                    None,
                    Some(self.me),
                    message,
                );
            }
            FetchOutcome::Failed(why) => {
                self.artifacts.failed(now, digest, why.clone());
                if let Local::Waiting { tries: 1, .. } = self.artifacts.local(&digest) {
                    let message = format!(
                        "{} could not be fetched: {why}; it is tried again",
                        digest.short()
                    );
                    self.emit_event(
                        now,
                        Level::Warning,
                        "fetch-failed",
                        None,
                        Some(self.me),
                        message,
                    );
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
        // Failed fetches that nothing needs any more are not retried.
        self.forget_unwanted();
        self.artifacts.drop_due_retries(now);
    }

    /// Gossips that this node holds an artifact. Only if a workload names it: others would drop the
    /// message.
    pub(super) fn announce_artifact(&mut self, digest: Digest) {
        if self.desired.names_artifact(&digest) && self.artifacts.is_ready(&digest) {
            self.outbox.push(Action::Broadcast(Message::Have { node: self.me, digest }));
        }
    }

    /// An announcement that `node` holds an artifact; nothing proves it. Noted only if a workload
    /// names the artifact, because a member could invent any number of others. A message that
    /// overtakes the change that names its artifact is dropped; [`super::replication`] has how it
    /// comes again.
    pub(super) fn on_have(&mut self, node: NodeId, digest: Digest) -> Verdict {
        let is_relevant = self.desired.names_artifact(&digest) && self.is_member(&node);
        if is_relevant && self.artifacts.add_holder(digest, node) {
            self.shown.version += 1;
            return Verdict::Accept;
        }
        Verdict::Ignore
    }
}
