//! The views of a workload's replicas, for people and programs. Read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::auction::Summary;
use crate::desired::Workload;
use crate::membership::State;
use crate::model::spec::{After, Until};
use crate::model::view::{ReplacementView, ReplicaView};
use crate::model::{Artifact, Claim, NodeId, Phase, Place, ReplicaId, WorkloadName};
use crate::plan::{Free, Step, Surplus, Waiting, replacing};

use super::Node;
use super::planning::is_within;
use crate::artifacts::Local;

/// Said of a replica that is to leave its node, where this node knows of no refusal.
const MOVES: &str = "it moves when another node has room for it";

impl Node {
    /// The number of nodes that announced that they hold the artifact, or that run it.
    /// Announcements may be lost; claims are not.
    pub(super) fn artifact_holders(&self, workload: &Workload) -> usize {
        // Of several artifacts the rarest decides.
        let holders = |artifact: Artifact| -> BTreeSet<NodeId> {
            self.artifacts.holders(&artifact.digest).copied().collect()
        };
        let all = workload.spec.program.artifacts().map(holders);
        let mut holders = all.min_by_key(BTreeSet::len).unwrap_or_default();
        let healthy = self.claims.of_workload(&workload.uid).into_iter();
        let healthy = healthy.filter(|(_, claim)| {
            claim.phase == Phase::Healthy && claim.generation == workload.generation
        });
        holders.extend(healthy.map(|(node, _)| node));
        holders.len()
    }

    /// The number of places that need no step: they run the right revision, healthy, on nodes that
    /// are up.
    pub(super) fn healthy_places(&self, workload: &Workload) -> u32 {
        let steps = self.outlook(self.device.clock.1).steps(workload);
        let unhealthy: BTreeSet<Place> =
            steps.iter().filter(|step| step.is_unhealthy()).map(Step::place).collect();
        let places = self.demand().count(workload);
        places.saturating_sub(u32::try_from(unhealthy.len()).unwrap_or(u32::MAX))
    }

    /// Every place and every claim of a workload, by place.
    pub(super) fn replica_views(&self, workload: &Workload) -> Vec<ReplicaView> {
        let steps = self.outlook(self.device.clock.1).steps(workload);
        let mut views: Vec<(Place, ReplicaView)> = Vec::new();
        for (node, claim) in self.claims.of_workload(&workload.uid) {
            let place = claim.replica.place;
            let here = of_place(&steps, place);
            // The last claim of a dead node is of no interest once another node has the place.
            let is_free = here.iter().any(|step| {
                matches!(step, Step::Auction { .. } | Step::Queue { .. } | Step::Await { .. })
                    && !step.is_move()
            });
            let moves = here.iter().find(|step| step.is_move());
            let step = here.iter().find(|step| step.node() == Some(node)).or(moves);
            if self.is_up(&node) || is_free || step.is_some() {
                views.push((place, self.claim_view(workload, node, claim, step)));
            }
        }
        let mut latest: Option<BTreeMap<Place, Arc<Summary>>> = None;
        for step in &steps {
            if let Step::Wait { place, node, why } = step
                && self.claims.of(&ReplicaId { uid: workload.uid, place: *place }).is_empty()
            {
                views.push((
                    *place,
                    missing(self.named(workload, place), self.describe_wait(node, why)),
                ));
            }
            if let Step::Queue { place, behind } = step {
                let behind = self.named(workload, behind);
                let why = format!("waits until {behind} is ready");
                views.push((*place, missing(self.named(workload, place), why)));
            }
            if let Step::Await { place, after } = step {
                views.push((
                    *place,
                    missing(self.named(workload, place), self.why_awaits(workload, after)),
                ));
            }
            let Step::Auction { place, why, .. } = step else { continue };
            if step.is_move() {
                continue;
            }
            let latest = latest.get_or_insert_with(|| self.auction.latest(&workload.uid));
            views.push((*place, self.free_view(workload, *place, why, latest)));
        }
        views.sort_by_key(|(place, _)| *place);
        views.into_iter().map(|(_, view)| view).collect()
    }

    /// The reason why a workload waits for another one.
    fn why_awaits(&self, workload: &Workload, after: &After) -> String {
        let name = &after.workload;
        let namespace = workload.name.namespace.clone();
        let known = self.desired.workload(&WorkloadName { namespace, name: name.clone() });
        match (known.map(|it| self.job_state(it)), after.until) {
            (None, _) => format!("waits for {name}, and there is no such workload"),
            (Some(Some(state)), Until::Done) if state == "failed" => {
                format!("waits until {name} is done, and it has failed")
            }
            (Some(None), Until::Done) => format!("waits until {name} is done, and it is no job"),
            (Some(_), Until::Started) => format!("waits until {name} runs"),
            (Some(_), until) => format!("waits until {name} is {}", until.as_str()),
        }
    }

    fn free_view(
        &self,
        workload: &Workload,
        place: Place,
        why: &Free,
        latest: &BTreeMap<Place, Arc<Summary>>,
    ) -> ReplicaView {
        if let Some(over) = self.desired.over_quota(workload)
            && !is_within(Some(over.allowed), place)
        {
            return missing(self.named(workload, &place), format!("waits: {over}"));
        }
        // The reason why the last auction of the place found no taker, if this node held it.
        let untaken = |summary: &&Arc<Summary>| summary.awards.iter().all(|won| won.place != place);
        let reason = latest.get(&place).filter(untaken);
        let reason = reason.map(|summary| super::explaining::no_taker(summary));
        missing(self.named(workload, &place), reason.unwrap_or_else(|| self.describe_free(why)))
    }

    /// The reason why a place waits, with names of nodes, for people.
    fn describe_wait(&self, node: &NodeId, why: &Waiting) -> String {
        match why {
            Waiting::Volume { volume, evidence } => {
                let name = self.name_of(node);
                format!("its volume `{volume}` is on {name}, which is down: {evidence}")
            }
            why => why.to_string(),
        }
    }

    fn claim_view(
        &self,
        workload: &Workload,
        node: NodeId,
        claim: &Claim,
        step: Option<&Step>,
    ) -> ReplicaView {
        let is_lost = self.membership.state(&node) == State::Down && node != self.me;
        let mut phase = claim.phase.clone();
        let mut shown_phase = None;
        let mut replacement = None;
        let reason = match step {
            Some(Step::Wait { why: why @ Waiting::Volume { .. }, .. }) => {
                shown_phase = Some("lost");
                Some(self.describe_wait(&node, why))
            }
            _ if is_lost => {
                shown_phase = Some("lost");
                self.membership.why_down(&node)
            }
            // It serves until all others are ready.
            Some(Step::Stop { why: Surplus::Duplicate { keeper }, .. })
                if self.waits_to_leave(workload, &node, claim) =>
            {
                let keeper = self.name_of(keeper);
                Some(format!("it moves to {keeper} when all others are ready"))
            }
            Some(Step::Stop { why, .. }) => {
                shown_phase = Some("stopping");
                Some(match why {
                    Surplus::Duplicate { keeper }
                        if self.sight().leaves(&node, claim).is_some() =>
                    {
                        format!("it moves to {}", self.name_of(keeper))
                    }
                    Surplus::Duplicate { keeper } => {
                        format!("a duplicate: the one on {} is kept", self.name_of(keeper))
                    }
                    why => why.to_string(),
                })
            }
            Some(Step::Replace { from, to, progress, .. }) => {
                replacement = progress.as_ref().map(|update| replacement_view(&update.phase));
                // Show that the replacement fails, although the old revision runs.
                if let Some(update) = progress
                    && matches!(update.phase, Phase::Failing { .. })
                {
                    phase = update.phase.clone();
                }
                let replacing = replacing(from, to, progress.as_ref());
                // The old one does not answer now.
                match details(&claim.phase).0 {
                    Some(why) if claim.update.is_some() => {
                        phase = claim.phase.clone();
                        Some(format!("{why} (the old version); {replacing}"))
                    }
                    _ => Some(replacing),
                }
            }
            Some(Step::Wait { why: why @ (Waiting::BackBy { .. } | Waiting::Grace), .. }) => {
                match &claim.phase {
                    Phase::Failing { reason, .. } => Some(reason.clone()),
                    Phase::Starting | Phase::Waiting { .. } | Phase::Healthy | Phase::Other(_) => {
                        Some(why.to_string())
                    }
                }
            }
            Some(Step::Wait {
                why: why @ (Waiting::OtherPhase | Waiting::NotYet { .. }), ..
            }) => Some(why.to_string()),
            Some(Step::Wait { why: Waiting::Failing { reason, .. }, .. }) => Some(reason.clone()),
            Some(Step::Wait { why: Waiting::Starting, .. }) if node == self.me => {
                let handed_over = self.handed_over_by(&claim.replica);
                let waits = |node| format!("it starts when {} has stopped it", self.name_of(&node));
                self.why_no_artifact(workload).or(handed_over.map(waits))
            }
            Some(Step::Auction { place, why: Free::Drained { .. }, .. }) => {
                Some(self.why_not_moved(workload, *place))
            }
            Some(Step::Auction { place, why: why @ Free::Outgrown { .. }, .. }) => {
                let why = self.describe_free(why);
                let taker = self.why_no_taker(workload, *place).unwrap_or_else(|| MOVES.into());
                Some(format!("generation {} serves: {why}: {taker}", claim.generation.short()))
            }
            Some(Step::Auction { why: why @ Free::Moves { .. }, .. }) => {
                Some(format!("it moves: {}", self.describe_free(why)))
            }
            Some(Step::Wait {
                why: why @ (Waiting::Kept { .. } | Waiting::Turn { .. }), ..
            }) => Some(why.to_string()),
            Some(Step::Wait { why: Waiting::Order { after }, .. }) => {
                shown_phase = Some("stopping");
                Some(format!("stops when {} is gone", self.named(workload, after)))
            }
            Some(
                Step::Wait { .. } | Step::Queue { .. } | Step::Await { .. } | Step::Auction { .. },
            )
            | None => None,
        };
        let (_, restarts) = details(&phase);
        let replica = claim.replica;
        ReplicaView {
            replica: self.named(workload, &replica.place),
            phase: shown_phase.unwrap_or(phase.as_str()).into(),
            reason: reason.as_deref().map(printable),
            node: Some(node.to_string()),
            node_name: Some(self.name_of(&node)),
            current: self.demand().revision(&replica) == Some(claim.generation),
            token: Some(claim.token.counter),
            since: Some(claim.since.to_string()),
            restarts,
            replacement,
        }
    }

    /// Whether a replica of a stateful workload is to leave its node, and serves until its turn.
    fn waits_to_leave(&self, workload: &Workload, node: &NodeId, claim: &Claim) -> bool {
        workload.spec.kind.is_stateful()
            && claim.phase == Phase::Healthy
            && self.sight().leaves(node, claim).is_some()
            && !self.outlook(self.device.clock.1).others_are_ready(workload, &claim.replica)
    }

    /// The reason why a replica is still on a node that is drained.
    fn why_not_moved(&self, workload: &Workload, place: Place) -> String {
        match self.why_no_taker(workload, place) {
            Some(why) => format!("its node is drained, and it stays: {why}"),
            None => format!("its node is drained: {MOVES}"),
        }
    }

    /// The reason why no node took a place that was auctioned last.
    fn why_no_taker(&self, workload: &Workload, place: Place) -> Option<String> {
        let latest = self.auction.latest(&workload.uid);
        let untaken = |summary: &&Arc<Summary>| summary.awards.iter().all(|won| won.place != place);
        latest.get(&place).filter(untaken).map(|summary| super::explaining::no_taker(summary))
    }

    /// The reason why a replica that starts here still waits for its artifact.
    fn why_no_artifact(&self, workload: &Workload) -> Option<String> {
        let is_missing = |artifact: &Artifact| !self.artifacts.is_ready(&artifact.digest);
        let digest = workload
            .spec
            .program
            .artifacts_on(Some(&self.device.facts.arch))
            .find(is_missing)?
            .digest;
        match self.artifacts.local(&digest) {
            Local::Absent => Some("its artifact is not here yet".into()),
            Local::Fetching => Some(match self.artifacts.failure(&digest) {
                Some(why) => format!("its artifact could not be fetched, it is tried again: {why}"),
                None => "its artifact is being fetched and made ready".into(),
            }),
            Local::Waiting { tries, why, .. } => {
                Some(format!("its artifact could not be fetched, {tries} times: {why}"))
            }
            Local::Ready | Local::Unusable(_) => None,
        }
    }
}

/// Words of another device, in which nothing moves a terminal's cursor or ends a line.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn replacement_view(phase: &Phase) -> ReplacementView {
    let (reason, restarts) = details(phase);
    ReplacementView {
        phase: phase.as_str().into(),
        reason: reason.map(|it| printable(it)),
        restarts,
    }
}

/// The reason and the number of further tries that a phase carries.
fn details(phase: &Phase) -> (Option<&String>, u32) {
    match phase {
        Phase::Failing { reason, restarts } => (Some(reason), *restarts),
        Phase::Waiting { reason } => (Some(reason), 0),
        Phase::Starting | Phase::Healthy | Phase::Other(_) => (None, 0),
    }
}

fn missing(replica: String, reason: String) -> ReplicaView {
    ReplicaView {
        replica,
        phase: "missing".into(),
        reason: Some(reason),
        node: None,
        node_name: None,
        current: false,
        token: None,
        since: None,
        restarts: 0,
        replacement: None,
    }
}

/// The steps of one place. `steps` are ordered by place, so a binary search finds them.
fn of_place(steps: &[Step], place: Place) -> &[Step] {
    let first = steps.partition_point(|step| step.place() < place);
    let here = &steps[first..];
    &here[..here.partition_point(|step| step.place() == place)]
}
