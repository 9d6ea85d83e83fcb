//! This node's replicas: it carries out the plan's steps that are addressed to it, and runs,
//! restarts and releases what it claims, without help from other nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::claims::SheetFull;
use crate::holding::{Bytes, Due, Failed, Next, Waits};
use crate::model::claim::{Update, short_reason};
use crate::model::spec::HostPort;
use crate::model::{
    Artifact, Award, Claim, Digest, InstanceState, NodeId, PersistId, Phase, Place, ReplicaId,
    Revision, Signed, Spec, Time,
};
use crate::plan::{Step, Surplus, Waiting};

use super::contract::{Action, Order, Report};
use super::{Level, Node};
use crate::artifacts::Local;

impl Node {
    /// This node won awards: it makes the claims, writes them in one batch, gossips and runs them.
    pub(super) fn on_won(&mut self, now: Time, awards: Vec<Signed<Award>>) {
        const CHANGED: &str = "the workload changed meanwhile, or the disk takes no writes";
        let since = self.wall(now);
        let (mut claims, mut won) = (Vec::new(), Vec::new());
        for award in awards {
            let belongs = self.demand().revision(&award.replica) == Some(award.generation);
            let workload = self.desired.by_uid(&award.replica.uid).filter(|_| belongs);
            let Some(workload) = workload.filter(|_| self.saving.read_only.is_none()) else {
                self.report_unclaimed(now, &award, CHANGED);
                continue;
            };
            claims.push(Claim {
                replica: award.replica,
                name: workload.name.clone(),
                generation: award.generation,
                token: award.token,
                phase: Phase::Starting,
                since,
                award: award.wire(),
                update: None,
            });
            won.push((award, workload.spec.need(), workload.spec.host_ports()));
        }
        let (slots, full) = self.claims.claim_all(claims);
        let full: BTreeMap<ReplicaId, SheetFull> = full.into_iter().collect();
        let batch = self.issue(now, &slots);
        for (award, resources, ports) in won {
            let replica = award.replica;
            let (None, Some(batch)) = (full.get(&replica), batch) else {
                let full = full.get(&replica).map(SheetFull::to_string);
                self.report_unclaimed(now, &award, full.as_deref().unwrap_or(CHANGED));
                continue;
            };
            // The owner is answered once the claim is on disk, even if it asks again before.
            self.holding.claim(now, award, resources, batch);
            self.holding.require_ports(&replica, ports);
            self.on_own_change(&replica);
            self.advance(now, &replica);
        }
    }

    /// Tells the auction that an award led to no claim.
    fn report_unclaimed(&mut self, now: Time, award: &Signed<Award>, why: &str) {
        self.with_auction(now, |auction, now, context, out| {
            auction.unclaimed(now, award, why, context, out)
        });
    }

    /// Claims up to this batch are on disk: their owners are answered, and they may run.
    pub(super) fn on_claims_written(&mut self, now: Time, upto: PersistId) {
        let late_after = self.config.auction.claim_within;
        let awards = self.holding.claims_written(now, upto, late_after);
        if awards.is_empty() {
            return;
        }
        self.with_auction(now, |auction, now, context, out| {
            auction.claimed(now, &awards, context, out)
        });
        for award in awards {
            self.advance(now, &award.replica);
        }
    }

    /// The disk has failed: claims that are not on it are released, since a restart would not know
    /// of them.
    pub(super) fn release_unwritten(&mut self, now: Time) {
        const WHY: &str = "the disk takes no writes";
        // Orders to stop what has ended waited for the disk.
        for replica in self.holding.stopping_replicas().collect::<Vec<_>>() {
            self.outbox.push(Action::Order(Order::Stop { replica }));
        }
        for award in self.holding.writing() {
            self.report_unclaimed(now, &award, WHY);
            self.release(now, &award.replica, "replica-moves", WHY.into());
        }
    }

    /// At boot: every own claim is held again, and `hold` runs it.
    pub(super) fn adopt_own_claims(&mut self, now: Time) {
        let mine = self.claims.mine().map(|claim| (claim.replica, claim.generation));
        for (replica, generation) in mine.collect::<Vec<_>>() {
            let wished = self.desired.by_uid(&replica.uid).map(|workload| &workload.spec);
            let spec = self.spec_of(&replica.uid, generation).or(wished);
            let need = spec.map(|spec| spec.need()).unwrap_or_default();
            let ports = spec.map(|spec| spec.host_ports()).unwrap_or_default();
            self.holding.adopt(now, replica, need);
            self.holding.require_ports(&replica, ports);
        }
    }

    /// Carries out the steps of the plan that are addressed to this node.
    pub(super) fn hold(&mut self, now: Time) {
        self.drop_versions();
        for replica in self.holding.replicas().collect::<Vec<_>>() {
            let outlook = self.outlook(now);
            match outlook.own_step(&replica) {
                Some(Step::Stop { why, .. }) => {
                    let kind = match why {
                        Surplus::NoSuchPlace { .. } => "replica-surplus",
                        Surplus::Ended => "replica-ended",
                        Surplus::Removed | Surplus::Unfit | Surplus::Duplicate { .. } => {
                            "replica-removed"
                        }
                    };
                    self.end(now, &replica, kind, why.to_string());
                }
                // What runs serves until its turn comes. What does not run takes the new revision.
                Some(Step::Wait { why: Waiting::Turn { from, .. }, .. })
                    if self.holding.serving(&replica) == Some(from)
                        && self.holding.target(&replica) == Some(from) => {}
                Some(Step::Replace { to, .. }) => self.replace(now, &replica, to),
                Some(
                    Step::Auction { .. }
                    | Step::Queue { .. }
                    | Step::Await { .. }
                    | Step::Wait { .. },
                )
                | None => match outlook.demand.revision(&replica) {
                    Some(revision) => self.replace(now, &replica, revision),
                    None => self.advance(now, &replica),
                },
            }
        }
    }

    /// The revision `to` belongs in a place that this node holds. If it is another one than before,
    /// this node replaces it where it fits here. The old revision serves until its replacement is
    /// ready, here or on another node; a claim of which nothing serves is released.
    fn replace(&mut self, now: Time, replica: &ReplicaId, to: Revision) {
        let to = self.first_version(now, replica, to);
        if self.holding.target(replica) == Some(to) {
            if self.holding.keeps_target(replica) {
                self.show_progress(now, replica);
                self.on_own_change(replica);
            }
            return self.advance(now, replica);
        }
        let Some(spec) = self.spec_of(&replica.uid, to) else { return };
        let (need, ports) = (spec.need(), spec.host_ports());
        let is_new = self.claims.my_claim(replica).is_some_and(|claim| claim.generation != to);
        if let Some(why) = self.no_replacement(replica, spec).filter(|_| is_new) {
            if self.holding.target(replica).is_none() || !self.holding.has_served(replica) {
                return self.end(now, replica, "replica-moves", why);
            }
            self.refuse_revision(now, replica, to, &why);
            return self.advance(now, replica);
        }
        let used = self.holding.committed_after(replica, need.clone());
        let used = used.plus(self.holding.stopping());
        if is_new && !self.device.facts.offer().holds(&used.narrow()) {
            self.holding.await_room();
            return self.advance(now, replica);
        }
        let has_compared = self.has_compared();
        if !self.holding.replace(replica, to, need, has_compared || !is_new) {
            return;
        }
        self.holding.require_ports(replica, ports);
        self.show_progress(now, replica);
        self.on_own_change(replica);
        self.advance(now, replica);
    }

    /// A new revision has no place here: the old one serves until another node runs the new one.
    fn refuse_revision(&mut self, now: Time, replica: &ReplicaId, to: Revision, why: &str) {
        if !self.holding.refuse(replica, to, why) {
            return;
        }
        let message = format!("{why}: the old one serves until another node runs the new one");
        let name = self.replica_name(replica);
        self.emit_event(now, Level::Info, "replica-moves", Some(name), Some(self.me), message);
        self.show_progress(now, replica);
        self.on_own_change(replica);
    }

    /// The reason why a new revision cannot run here.
    fn no_replacement(&self, replica: &ReplicaId, spec: &Spec) -> Option<String> {
        if let Err(unfit) = self.device.facts.fits(spec) {
            return Some(format!("the new version does not fit here: {unfit}"));
        }
        if self.saving.read_only.is_some() {
            return Some("there is a new version, and the disk takes no writes".into());
        }
        let taken = |port: &HostPort| Some((*port, self.holding.port_holder(port, Some(replica))?));
        if let Some((port, by)) = spec.host_ports().iter().find_map(taken) {
            let by = self.replica_name(&by);
            return Some(format!("the new version needs port {port}, which {by} has here"));
        }
        let used = self.holding.committed_after(replica, spec.need());
        let has_room = self.device.facts.offer().holds(&used.narrow());
        (!has_room).then(|| "the new version finds no room here".into())
    }

    /// Takes the next step for a replica: fetches its artifact, or orders the runtime to run it.
    fn advance(&mut self, now: Time, replica: &ReplicaId) {
        let Some(workload) = self.desired.by_uid(&replica.uid) else { return };
        let generation = self.holding.target(replica).unwrap_or(workload.generation);
        let Some(spec) = self.spec_of(&replica.uid, generation) else { return };
        let (spec, name) = (spec.clone(), workload.name.clone());
        let local = |artifact: Artifact| match self.artifacts.local(&artifact.digest) {
            Local::Ready => Bytes::Ready,
            Local::Unusable(why) => Bytes::Unusable(why.clone()),
            Local::Waiting { tries, why, .. } => Bytes::Missing { tries: *tries, why: why.clone() },
            Local::Absent | Local::Fetching => Bytes::Missing { tries: 0, why: String::new() },
        };
        // The worst of all that the program needs.
        let artifacts = spec.program.artifacts_on(Some(&self.device.facts.arch));
        let bytes = artifacts.map(local).max().unwrap_or(Bytes::Ready);
        if bytes == Bytes::Ready && self.handed_over_by(replica).is_some() {
            return;
        }
        match self.holding.next(replica, &bytes) {
            Next::Nothing => {}
            Next::Fetch => self.fetch_all(now, &spec.program),
            Next::Run { after } => {
                let order = Order::Run { replica: *replica, name, generation, spec };
                self.outbox.push_after(after, Action::Order(order));
            }
            Next::Fail(why) => {
                if let Some(target) = self.holding.target(replica) {
                    self.on_failed(now, replica, target, &why, false);
                }
            }
        }
    }

    /// The node that is to stop a replica before this one starts it: **a stateful workload never
    /// has two of one**, so a replica that leaves its node stops there first.
    pub(super) fn handed_over_by(&self, replica: &ReplicaId) -> Option<NodeId> {
        let workload = self.desired.by_uid(&replica.uid)?;
        if !workload.spec.kind.is_stateful() || self.holding.is_begun(replica) {
            return None;
        }
        let sight = self.sight();
        let claims = self.claims.of(replica);
        let others = claims.into_iter().filter(|(node, _)| *node != self.me && self.is_up(node));
        others.filter(|(node, claim)| sight.leaves(node, claim).is_some()).map(|it| it.0).next()
    }

    /// The runtime reports the state of a replica.
    pub(super) fn on_report(&mut self, now: Time, report: Report) {
        let Report { replica, generation, state } = report;
        match state {
            InstanceState::Starting => {}
            InstanceState::Waiting { reason } => {
                self.on_waiting(now, &replica, generation, &reason)
            }
            InstanceState::Running => self.on_ready(now, &replica, generation),
            InstanceState::Failed { reason, retryable } => {
                self.on_failed(now, &replica, generation, &reason, retryable)
            }
            InstanceState::Done { exit_code, lines } => {
                self.on_done(now, &replica, generation, exit_code, lines)
            }
            InstanceState::Stopped => self.on_stopped(now, &replica),
        }
    }

    fn on_ready(&mut self, now: Time, replica: &ReplicaId, revision: Revision) {
        if !self.holding.ready(now, replica, revision) {
            return;
        }
        self.reroute([replica.uid]);
        if self.holding.target(replica) != Some(revision) {
            let name = self.replica_name(replica);
            let message = "the old version answers again".to_owned();
            self.emit_event(
                now,
                Level::Info,
                "replica-healthy",
                Some(name),
                Some(self.me),
                message,
            );
            self.show_progress(now, replica);
            return self.on_own_change(replica);
        }
        if self.may_report_healthy(now, replica) {
            self.slot_gossip.note(replica.slot());
        }
    }

    /// A replica takes no requests: not yet, or no longer.
    fn on_waiting(&mut self, now: Time, replica: &ReplicaId, revision: Revision, reason: &str) {
        let level = match self.holding.wait(replica, revision, reason) {
            Waits::Known => return,
            Waits::NotYet => Level::Info,
            Waits::Down => Level::Warning,
        };
        let name = self.replica_name(replica);
        let reason = short_reason(reason.to_owned());
        self.emit_event(now, level, "replica-waits", Some(name), Some(self.me), reason);
        self.show_progress(now, replica);
        self.on_own_change(replica);
    }

    /// Queues the slots of ready replicas that may be reported healthy by now.
    pub(super) fn mark_reportable_slots(&mut self, now: Time) {
        let slots: BTreeSet<u8> = self
            .holding
            .unreported()
            .filter(|replica| self.may_report_healthy(now, replica))
            .map(|replica| replica.slot())
            .collect();
        slots.into_iter().for_each(|slot| self.slot_gossip.note(slot));
    }

    /// Whether a replica may be reported healthy: not while another node that took it over runs it
    /// well. A dispute between two healthy holders is decided by age, so the replica would move
    /// back here for no benefit.
    pub(super) fn may_report_healthy(&self, now: Time, replica: &ReplicaId) -> bool {
        self.holding.may_report(replica, self.has_compared()) && !self.is_taken_over(now, replica)
    }

    /// Whether another node that is up, or may return soon, runs the same revision well, and sees
    /// that it does.
    fn is_taken_over(&self, now: Time, replica: &ReplicaId) -> bool {
        let Some(mine) = self.holding.target(replica) else { return true };
        let matters = |node: &crate::model::NodeId| {
            self.is_up(node) || self.rescue_throttle.may_return_until(now, node).is_some()
        };
        let is_good = |claim: &Claim| claim.phase == Phase::Healthy && claim.generation == mine;
        let sight = self.sight();
        // From a node that it is to leave it is to come here.
        let mine_stays =
            self.claims.my_claim(replica).is_none_or(|it| sight.leaves(&self.me, it).is_none());
        let leaves = |node: &crate::model::NodeId, claim: &Claim| {
            mine_stays && sight.leaves(node, claim).is_some()
        };
        let sees = |node: &crate::model::NodeId| sight.knows(node, replica);
        self.claims.of(replica).iter().any(|(node, claim)| {
            let leaves = leaves(node, claim);
            *node != self.me && is_good(claim) && matters(node) && sees(node) && !leaves
        })
    }

    pub(super) fn on_failed(
        &mut self,
        now: Time,
        replica: &ReplicaId,
        revision: Revision,
        reason: &str,
        is_retryable: bool,
    ) {
        if self.holding.fail(now, replica, revision, reason, is_retryable) == Failed::Known {
            return;
        }
        let name = self.replica_name(replica);
        let reason = short_reason(reason.to_owned());
        self.emit_event(now, Level::Warning, "replica-failed", Some(name), Some(self.me), reason);
        self.count("replica_failures");
        self.show_progress(now, replica);
        self.on_own_change(replica);
    }

    /// Updates the claim to the stage of the revision that serves, or else of the one that starts.
    /// A revision that became ready is reported by `report_healthy` instead.
    fn show_progress(&mut self, now: Time, replica: &ReplicaId) {
        let since = self.wall(now);
        let (Some(target), Some(phase)) =
            (self.holding.target(replica), self.holding.phase(replica))
        else {
            return;
        };
        if let Some(former) = self.holding.former(replica) {
            let update = Update { revision: target, phase };
            if let Some(slot) = self.claims.set_former(replica, former, update, since) {
                self.issue_cached(now, slot);
            }
            return;
        }
        let claimed = self.claims.my_claim(replica).map(|claim| claim.generation);
        let refused = self.holding.refused(replica);
        let refused = refused.map(|(revision, why)| Update::refused(revision, why));
        match (self.holding.serving(replica), refused) {
            (Some(serving), refused) => {
                let under_way = (serving != target).then_some(Update { revision: target, phase });
                let update = refused.or(under_way);
                if let Some(slot) = self.claims.set_update(replica, update) {
                    self.issue_cached(now, slot);
                }
            }
            // It is to serve again: the new version has no place here.
            (None, Some(refused)) => {
                if let Some(slot) = self.claims.set_former(replica, (target, phase), refused, since)
                {
                    self.issue_cached(now, slot);
                }
            }
            (None, None) if claimed == Some(target) => {
                if let Some(slot) = self.claims.set_phase(replica, phase, since) {
                    self.issue_cached(now, slot);
                }
            }
            // On disk, so that a restart starts the target and not a revision that is gone.
            (None, None) => {
                if let Some(slot) = self.claims.set_generation(replica, target, phase, since) {
                    self.issue(now, &[slot]);
                }
            }
        }
    }

    /// Gives a replica up. **One of a stateful workload keeps its claim until it has stopped**: no
    /// other node starts it before, and the one before it does not end before.
    pub(super) fn end(&mut self, now: Time, replica: &ReplicaId, kind: &str, why: String) {
        let workload = self.desired.by_uid(&replica.uid);
        let is_stateful = workload.is_some_and(|it| it.spec.kind.is_stateful());
        if !is_stateful || !self.holding.is_begun(replica) {
            return self.release(now, replica, kind, why);
        }
        let name = self.replica_name(replica);
        self.holding.release(replica);
        let phase = Phase::Waiting { reason: short_reason(format!("stops: {why}")) };
        if let Some(slot) = self.claims.set_phase(replica, phase, self.wall(now)) {
            self.issue_cached(now, slot);
        }
        self.outbox.push(Action::Order(Order::Stop { replica: *replica }));
        let message = format!("let go: {why}");
        self.emit_event(now, Level::Info, kind, Some(name), Some(self.me), message);
        self.on_own_change(replica);
    }

    /// Nothing of a replica runs here any more. If it is held again by now, the report is about an
    /// earlier claim.
    fn on_stopped(&mut self, now: Time, replica: &ReplicaId) {
        if !self.holding.stopped(replica) {
            return;
        }
        // There is more room than before.
        self.due.holding |= self.holding.has_more_room();
        self.on_room(now, self.me);
        if let Some(slot) = self.claims.release(replica) {
            self.issue(now, &[slot]);
            self.on_own_change(replica);
            if self.desired.by_uid(&replica.uid).is_none() {
                self.claims.forget_workload(&replica.uid);
            }
        }
    }

    /// Replicas of this node that are to stop in order, or to start when another node has stopped
    /// them, look again whether it is their turn.
    pub(super) fn await_turn(&mut self, uid: &Digest) {
        let workload = self.desired.by_uid(uid).filter(|it| it.spec.kind.is_stateful());
        // One that leaves this node stops when all others are ready.
        self.due.duplicates |=
            workload.is_some() && self.claims.contested().any(|replica| replica.uid == *uid);
        self.due.holding |= workload.is_some_and(|workload| {
            let places = self.demand().count(workload);
            let mine = self.claims.last_place(uid, |node| *node == self.me);
            let ends = workload.spec.kind.is_ordered()
                && mine.is_some_and(|place| place >= Place::Ordinal(places));
            ends || mine.is_some() && self.holding.has_unbegun(uid)
        });
    }

    /// Releases a claim and orders its replica to stop. Its resources are free once it has stopped.
    pub(super) fn release(&mut self, now: Time, replica: &ReplicaId, kind: &str, why: String) {
        let name = self.replica_name(replica);
        let Some(slot) = self.claims.release(replica) else { return };
        let waiting = self.holding.release(replica);
        let batch = self.issue(now, &[slot]);
        // What has ended is removed once its result is on disk, which was written before.
        let after = batch.filter(|_| matches!(replica.place, Place::Run { .. }));
        self.outbox.push_after(after, Action::Order(Order::Stop { replica: *replica }));
        if waiting.is_some() {
            // The order to run it comes after the first stop, unless the disk fails.
            self.outbox.push_after(waiting, Action::Order(Order::Stop { replica: *replica }));
        }
        self.emit_event(
            now,
            Level::Info,
            kind,
            Some(name),
            Some(self.me),
            format!("let go: {why}"),
        );
        self.on_own_change(replica);
        if self.desired.by_uid(&replica.uid).is_none() {
            self.claims.forget_workload(&replica.uid);
        }
    }

    /// Replicas of this node give their places to one of a higher priority, which starts when they
    /// have stopped.
    pub(super) fn on_evict(&mut self, now: Time, victims: &[ReplicaId], replica: &ReplicaId) {
        let workload = self.desired.by_uid(&replica.uid);
        let priority = workload.map_or(0, |workload| workload.spec.later.priority);
        let why = format!("gave its place to {} (priority {priority})", self.replica_name(replica));
        for victim in victims {
            self.count("preemptions");
            self.release(now, victim, "replica-preempted", why.clone());
        }
    }

    /// Releases all that this node holds.
    pub(super) fn release_all(&mut self, now: Time, why: &str) {
        let all: Vec<ReplicaId> = self.claims.mine().map(|claim| claim.replica).collect();
        for replica in all {
            self.release(now, &replica, "replica-removed", why.to_owned());
        }
    }

    /// Handles retries, releases and delayed health reports that are due.
    pub(super) fn retry_replicas(&mut self, now: Time) {
        self.due.duplicates |= self.holding.end_report_delays(now);
        for (replica, due) in self.holding.take_due(now) {
            match due {
                Due::Retry => self.due.holding = true,
                Due::Again(generation) => {
                    self.outbox.push(Action::Order(Order::Again { replica, generation }));
                    self.show_progress(now, &replica);
                    self.on_own_change(&replica);
                }
                Due::Release(reason) => {
                    if let Some(revision) = self.holding.target(&replica) {
                        self.auction.cool(now, replica, revision, &reason);
                    }
                    let why = format!("it fails here: {reason}");
                    self.end(now, &replica, "replica-given-up", why);
                }
            }
        }
    }

    /// A claim or the serving revision of an own replica changed.
    pub(super) fn on_own_change(&mut self, replica: &ReplicaId) {
        self.due.dirty.insert(replica.uid);
        self.await_turn(&replica.uid);
        self.due.duplicates = true;
        // One that was wished for before may have its replacement now, or be over.
        self.due.holding |= !self.old_versions.is_empty();
        self.reroute([replica.uid]);
        self.shown.version += 1;
    }

    /// The name of a replica, for people.
    pub(super) fn replica_name(&self, replica: &ReplicaId) -> String {
        let known = self.desired.by_uid(&replica.uid).map(|workload| workload.name.clone());
        let claimed = || self.claims.of(replica).first().map(|(_, claim)| claim.name.clone());
        match known.or_else(claimed) {
            Some(workload) => format!("{workload}/{}", self.place_text(&replica.place)),
            None => replica.to_string(),
        }
    }

    /// The revision of an own replica that runs and answers, reported or not.
    pub(super) fn serving(&self, replica: &ReplicaId) -> Option<Digest> {
        self.holding.serving(replica)
    }
}
