//! What this node claims: getting it to run, replacing it, trying again, letting it go. Needs
//! nobody's help.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::claims::SheetFull;
use crate::desired::Workload;
use crate::model::claim::short_reason;
use crate::model::{
    Award, Change, Claim, Digest, Key, NodeId, Phase, ReplicaId, ReplicaName, Signed, Time,
};

use super::artifacts::Local;
use super::contract::{Action, Order, PersistId, ReplicaState, Report};
use super::{Level, Node};

/// Tries on this node before a replica is given up to others.
const MAX_RESTARTS: u32 = 3;
/// Fetches in a row that may fail before a replica that nothing runs of is given up to others: some
/// eight seconds. This device may be the reason, by a full disk for example, and nobody else is
/// asked while it holds the place.
const MAX_FETCHES: u32 = 4;
/// The wait before the first restart; doubles.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A replica that was healthy for so long starts with a clean slate when it fails.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// For how long a claim that was on disk too late is not told to be healthy: its owner may have
/// found another, who says so meanwhile.
const LATE: Duration = Duration::from_secs(1);
/// How long a hopeless failure is shown in the claim before the replica is given up: so that people
/// see the reason.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How running a claim goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    /// The batch that puts the claim on disk: nothing runs before it is there.
    written: Option<PersistId>,
    /// The generation that the runtime was told to run.
    ordered: Option<Digest>,
    restarts: u32,
    healthy_since: Option<Time>,
    /// It was claimed in an earlier life, and has not been told to be healthy in this one.
    is_returning: bool,
    /// Not to be told before then.
    tells_at: Option<Time>,
    next: Option<Next>,
}

impl Running {
    /// It runs, and has been told to.
    pub fn healthy(since: Time, generation: Digest) -> Running {
        Running { ordered: Some(generation), healthy_since: Some(since), ..Running::default() }
    }
}

#[derive(Clone, Debug)]
enum Next {
    Restart(Time),
    GiveUp(Time, String),
}

impl Next {
    fn at(&self) -> Time {
        match self {
            Next::Restart(at) | Next::GiveUp(at, _) => *at,
        }
    }
}

/// What becomes of an own claim.
enum Fate {
    Keep(Box<Workload>),
    LetGo(&'static str, String),
    /// Not known yet, or not understood: goes on as it is.
    Leave,
}

impl Node {
    /// Awards were taken: the claims are made, put on disk in one batch, told, and run.
    pub(super) fn on_won(&mut self, now: Time, awards: Vec<Signed<Award>>) {
        let since = self.wall(now);
        let (mut claims, mut won) = (Vec::new(), Vec::new());
        for award in awards {
            let wish = self
                .desired
                .by_uid(&award.replica.uid)
                .filter(|wish| wish.generation == award.generation);
            let Some(wish) = wish.filter(|_| self.read_only.is_none()).cloned() else {
                const WHY: &str = "the workload changed meanwhile, or the disk takes no writes";
                self.with_auction(now, |auction, now, desk, out| {
                    auction.unclaimed(now, &award, WHY, desk, out)
                });
                continue;
            };
            claims.push(Claim {
                replica: award.replica,
                name: wish.name.clone(),
                generation: wish.generation,
                token: award.token,
                phase: Phase::Starting,
                since,
                award: award.wire(),
            });
            won.push((award, wish));
        }
        let (slots, full) = self.claims.claim_all(claims);
        let full: BTreeMap<ReplicaId, SheetFull> = full.into_iter().collect();
        let written = self.issue(now, &slots);
        for (award, wish) in won {
            let replica = award.replica;
            if let Some(full) = full.get(&replica).map(SheetFull::to_string) {
                self.with_auction(now, |auction, now, desk, out| {
                    auction.unclaimed(now, &award, &full, desk, out)
                });
                continue;
            }
            self.auction.commit(replica, wish.spec.resources);
            // The owner hears of it, also if it asks again, when it is on disk.
            self.claiming.extend(written.map(|batch| (batch, now, award)));
            self.telling.forget(&replica);
            self.running.insert(replica, Running { written, ..Running::default() });
            self.on_own_change(&replica);
            self.run(now, &replica, &wish);
        }
    }

    /// Claims up to this batch are on disk.
    pub(super) fn on_claims_written(&mut self, now: Time, upto: PersistId) {
        let mut claimed = Vec::new();
        for (_, won_at, award) in self.claiming.extract_if(.., |(batch, ..)| *batch <= upto) {
            let is_late = now.since(won_at) >= self.config.auction.claim_within;
            if let Some(running) = self.running.get_mut(&award.replica).filter(|_| is_late) {
                running.tells_at = Some(now + LATE);
            }
            claimed.push(award);
        }
        if !claimed.is_empty() {
            self.with_auction(now, |auction, now, desk, out| {
                auction.claimed(now, &claimed, desk, out)
            });
        }
    }

    /// The disk has failed: what is claimed and not on it is let go, since a restart would not know
    /// of it.
    pub(super) fn unclaim_unwritten(&mut self, now: Time) {
        const WHY: &str = "the disk takes no writes";
        for (_, _, award) in std::mem::take(&mut self.claiming) {
            self.with_auction(now, |auction, now, desk, out| {
                auction.unclaimed(now, &award, WHY, desk, out)
            });
        }
        let unwritten =
            self.running.iter().filter(|(_, running)| self.outbox.is_waiting(running.written));
        for replica in unwritten.map(|(replica, _)| *replica).collect::<Vec<_>>() {
            self.release(now, &replica, "replica-moves", WHY.into());
        }
    }

    /// At boot: everything claimed is committed, and run as soon as `hold` finds it.
    pub(super) fn adopt_own_claims(&mut self, _now: Time) {
        let mine: Vec<ReplicaId> = self.claims.mine().map(|claim| claim.replica).collect();
        for replica in mine {
            if let Some(wish) = self.desired.by_uid(&replica.uid) {
                self.auction.commit(replica, wish.spec.resources);
            }
            self.running.insert(replica, Running { is_returning: true, ..Running::default() });
        }
    }

    /// Compares every own claim with desired state.
    pub(super) fn hold(&mut self, now: Time) {
        let mine: Vec<Claim> = self.claims.mine().cloned().collect();
        for claim in mine {
            match self.fate(&claim) {
                Fate::Leave => {}
                Fate::LetGo(kind, why) => self.release(now, &claim.replica, kind, why),
                Fate::Keep(wish) if wish.generation == claim.generation => {
                    self.run(now, &claim.replica, &wish)
                }
                Fate::Keep(wish) => self.replace(now, &claim, &wish),
            }
        }
    }

    fn fate(&self, claim: &Claim) -> Fate {
        let crate::model::Place::Index(index) = claim.replica.place;
        if let Some(wish) = self.desired.by_uid(&claim.replica.uid) {
            if index >= wish.spec.replicas {
                let why = format!("only {} replicas are wished for", wish.spec.replicas);
                return Fate::LetGo("replica-surplus", why);
            }
            return Fate::Keep(Box::new(wish.clone()));
        }
        let key = Key::Workload(claim.name.clone());
        match self.desired.effective(&key).map(Change::uid) {
            // A newer form of the same workload: kept running by what is known of it.
            Some(uid)
                if self
                    .desired
                    .opaque()
                    .any(|(_, opaque)| opaque == uid && uid == claim.replica.uid) =>
            {
                Fate::Leave
            }
            Some(_) => Fate::LetGo("replica-removed", "the workload was removed".into()),
            None if self.ready => {
                Fate::LetGo("replica-removed", "nobody knows of the workload".into())
            }
            None => Fate::Leave,
        }
    }

    /// Another generation of the same place: replaced here if it fits here.
    fn replace(&mut self, now: Time, claim: &Claim, wish: &Workload) {
        if let Err(unfit) = self.facts.fits(&wish.spec) {
            return self.release(
                now,
                &claim.replica,
                "replica-moves",
                format!("the new version does not fit here: {unfit}"),
            );
        }
        if self.read_only.is_some() {
            let why = "a new version is wished for, and the disk takes no writes".to_owned();
            return self.release(now, &claim.replica, "replica-moves", why);
        }
        let others = self.claims.mine().filter(|other| other.replica != claim.replica);
        let used = others
            .filter_map(|other| self.desired.by_uid(&other.replica.uid))
            .map(|wish| wish.spec.resources);
        let used = used.fold(crate::model::Resources::default(), crate::model::Resources::plus);
        if !self.facts.capacity.holds(used.plus(wish.spec.resources)) {
            return self.release(
                now,
                &claim.replica,
                "replica-moves",
                "the new version finds no room here".into(),
            );
        }
        let since = self.wall(now);
        let Some(slot) = self.claims.set_generation(&claim.replica, wish.generation, since) else {
            return;
        };
        self.auction.commit(claim.replica, wish.spec.resources);
        let after = self.issue(now, &[slot]);
        let others_know_more = !self.has_compared();
        if let Some(running) = self.running.get_mut(&claim.replica) {
            // Back to what the runtime was told before it heard of anything else: it is told once
            // more, and says how that fares.
            let ordered = running.ordered.filter(|ordered| *ordered != wish.generation);
            // Whoever took over may have the new version already.
            let is_returning = running.is_returning || others_know_more;
            *running = Running { written: after, ordered, is_returning, ..Running::default() };
        }
        self.telling.forget(&claim.replica);
        self.on_own_change(&claim.replica);
        self.run(now, &claim.replica, wish);
    }

    /// Tells the runtime to run a claim, unless it was told; gets the bytes first.
    fn run(&mut self, now: Time, replica: &ReplicaId, wish: &Workload) {
        let running = self.running.entry(*replica).or_default();
        if running.ordered == Some(wish.generation) || running.next.is_some() {
            return;
        }
        match self.artifacts.local(&wish.spec.artifact.digest).clone() {
            Local::Ready => {
                running.ordered = Some(wish.generation);
                let order = Order::Run {
                    replica: *replica,
                    name: wish.name.clone(),
                    generation: wish.generation,
                    spec: wish.spec.clone(),
                };
                let written = running.written;
                self.outbox.push_after(written, Action::Order(order));
            }
            Local::Unusable(why) => self.on_failed(now, replica, why, false),
            // What runs of an older generation goes on meanwhile: it is not given up for bytes that
            // may be nowhere.
            Local::Waiting { tries, why, .. }
                if tries > MAX_FETCHES && running.ordered.is_none() =>
            {
                self.on_failed(now, replica, why, false)
            }
            Local::Absent | Local::Fetching | Local::Waiting { .. } => {
                self.fetch(now, wish.spec.artifact)
            }
        }
    }

    /// How a replica fares.
    pub(super) fn on_report(&mut self, now: Time, report: Report) {
        let claim = self.claims.my_claim(&report.replica);
        if claim.is_none_or(|claim| claim.generation != report.generation) {
            return;
        }
        match report.state {
            ReplicaState::Starting => {}
            ReplicaState::Healthy => {
                if let Some(running) = self.running.get_mut(&report.replica) {
                    running.healthy_since.get_or_insert(now);
                    running.next = None;
                    if claim.is_some_and(|claim| claim.phase != Phase::Healthy) {
                        self.telling.runs(&report.replica);
                    }
                }
                self.reroute([report.replica.uid]);
                if self.may_tell_health(now, &report.replica) {
                    self.telling.note(report.replica.slot());
                }
            }
            ReplicaState::Failed { reason, retryable } => {
                self.on_failed(now, &report.replica, reason, retryable)
            }
            ReplicaState::Stopped => {
                self.on_failed(now, &report.replica, "it stopped by itself".into(), true)
            }
        }
    }

    /// What could not be told to be healthy before may be now.
    pub(super) fn tell_health(&mut self, now: Time) {
        let tellable: BTreeSet<u8> = self
            .telling
            .untold()
            .filter(|it| self.may_tell_health(now, it))
            .map(ReplicaId::slot)
            .collect();
        tellable.into_iter().for_each(|slot| self.telling.note(slot));
    }

    /// That something runs is told while nobody else who took over runs it well: else two healthy
    /// holders would be weighed by age, and what runs elsewhere would come back for nothing. What
    /// was claimed in an earlier life is not told before this node knows what the others know.
    pub(super) fn may_tell_health(&self, now: Time, replica: &ReplicaId) -> bool {
        self.running.get(replica).is_some_and(|running| {
            running.tells_at.is_none()
                && (!running.is_returning || self.has_compared())
                && !self.is_taken_over(now, replica)
        })
    }

    /// It has been told that the replica is healthy: in this life, too.
    pub(super) fn has_told(&mut self, replica: &ReplicaId) {
        if let Some(running) = self.running.get_mut(replica) {
            running.is_returning = false;
        }
    }

    /// What is not told to be healthy counts as claimed in an earlier life.
    pub(super) fn return_unhealthy(&mut self) {
        for (replica, running) in &mut self.running {
            running.is_returning |=
                self.telling.is_untold(replica) || running.healthy_since.is_none();
        }
    }

    /// Whether another runs it well, who is up or may be about to return.
    fn is_taken_over(&self, now: Time, replica: &ReplicaId) -> bool {
        let Some(mine) = self.claims.my_claim(replica).map(|claim| claim.generation) else {
            return true;
        };
        let counts = |node: &NodeId| self.is_up(node) || self.pace.heals_for(now, node).is_some();
        let is_good = |claim: &Claim| claim.phase == Phase::Healthy && claim.generation == mine;
        self.claims
            .of(replica)
            .iter()
            .any(|(node, claim)| *node != self.me && is_good(claim) && counts(node))
    }

    /// Whether what this node claims runs here and answers, told or not.
    pub(super) fn is_running(&self, replica: &ReplicaId) -> bool {
        self.running.get(replica).is_some_and(|running| running.healthy_since.is_some())
    }

    fn on_failed(&mut self, now: Time, replica: &ReplicaId, reason: String, retryable: bool) {
        let Some(running) = self.running.get_mut(replica) else { return };
        if running.next.is_some() {
            return;
        }
        if running.healthy_since.take().is_some_and(|since| now.since(since) >= FORGIVEN_AFTER) {
            running.restarts = 0;
        }
        let reason = short_reason(reason);
        self.telling.forget(replica);
        running.ordered = None;
        running.next = Some(if retryable && running.restarts < MAX_RESTARTS {
            let wait = RESTART_AFTER.saturating_mul(1 << running.restarts);
            running.restarts += 1;
            Next::Restart(now + wait)
        } else {
            Next::GiveUp(now + LAST_WORDS, reason.clone())
        });
        let restarts = running.restarts;
        let name = self.replica_name(replica);
        self.tell(now, Level::Warning, "replica-failed", Some(name), Some(self.me), reason.clone());
        self.count("replica_failures");
        self.set_phase(now, replica, Phase::Failing { reason, restarts });
    }

    fn set_phase(&mut self, now: Time, replica: &ReplicaId, phase: Phase) {
        let since = self.wall(now);
        let Some(slot) = self.claims.set_phase(replica, phase, since) else { return };
        self.issue_lightly(now, slot);
        self.on_own_change(replica);
    }

    /// Lets a claim go: what runs is stopped, what was committed is free.
    pub(super) fn release(&mut self, now: Time, replica: &ReplicaId, kind: &str, why: String) {
        let name = self.replica_name(replica);
        let Some(slot) = self.claims.release(replica) else { return };
        let written = self.running.remove(replica).and_then(|running| running.written);
        self.claiming.retain(|(_, _, award)| award.replica != *replica);
        self.auction.free(replica);
        self.telling.forget(replica);
        self.issue(now, &[slot]);
        let stop = || Action::Order(Order::Stop { replica: *replica });
        self.outbox.push(stop());
        // An order to run it may still wait for the disk; it must not come last.
        if self.outbox.is_waiting(written) {
            self.outbox.push_after(written, stop());
        }
        self.tell(now, Level::Info, kind, Some(name), Some(self.me), format!("let go: {why}"));
        self.on_own_change(replica);
        if self.desired.by_uid(&replica.uid).is_none() {
            self.claims.forget_workload(&replica.uid);
        }
    }

    /// What is due of restarts, last words and late news.
    pub(super) fn retry_replicas(&mut self, now: Time) {
        for running in self.running.values_mut() {
            self.due.duplicates |= running.tells_at.take_if(|at| *at <= now).is_some();
        }
        let due = |running: &Running| running.next.as_ref().is_some_and(|next| next.at() <= now);
        let due: Vec<ReplicaId> =
            self.running.iter().filter(|(_, it)| due(it)).map(|(replica, _)| *replica).collect();
        for replica in due {
            match self.running.get_mut(&replica).and_then(|running| running.next.take()) {
                Some(Next::Restart(_)) => self.due.holding = true,
                Some(Next::GiveUp(_, reason)) => {
                    if let Some(claim) = self.claims.my_claim(&replica) {
                        let generation = claim.generation;
                        self.auction.cool(now, replica, generation, &reason);
                    }
                    self.release(
                        now,
                        &replica,
                        "replica-given-up",
                        format!("it fails here: {reason}"),
                    );
                }
                None => {}
            }
        }
    }

    pub(super) fn next_restart(&self) -> Option<Time> {
        self.running
            .values()
            .flat_map(|running| {
                running.next.as_ref().map(Next::at).into_iter().chain(running.tells_at)
            })
            .min()
    }

    pub(super) fn on_own_change(&mut self, replica: &ReplicaId) {
        self.due.dirty.insert(replica.uid);
        self.due.duplicates = true;
        self.reroute([replica.uid]);
        self.views += 1;
    }

    /// What people call a replica.
    pub(super) fn replica_name(&self, replica: &ReplicaId) -> String {
        let wish = self.desired.by_uid(&replica.uid).map(|wish| wish.name.clone());
        let claimed = || self.claims.of(replica).first().map(|(_, claim)| claim.name.clone());
        match wish.or_else(claimed) {
            Some(workload) => ReplicaName { workload, place: replica.place }.to_string(),
            None => replica.to_string(),
        }
    }
}
