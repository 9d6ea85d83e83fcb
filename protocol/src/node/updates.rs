//! What the owner of a workload decides about its update: how far it goes, whether it is good, and
//! whether all go back. The decisions are rulings; `plan/rollout.rs` computes them.

use std::collections::BTreeMap;

use crate::desired::Workload;
use crate::model::spec::{MAX_REPLICAS, OnFailure};
use crate::model::view::UpdateView;
use crate::model::{
    Claim, Digest, Phase, Place, Revision, RulingBody, RulingKey, RulingKind, Time,
};
use crate::plan::{NextStep, Progress, Seen, next_step};
use crate::workload;

use super::events::About;
use super::{Level, Node};

/// An update as this owner has seen it.
#[derive(Clone, Debug)]
pub(super) struct SeenUpdate {
    generation: Revision,
    seen: Seen,
    /// People were told that it failed.
    is_told: bool,
}

impl Node {
    /// The owner raises the frontier of an update, or rules whether it is good.
    pub(super) fn decide_rollout(&mut self, now: Time, workload: &Workload) {
        let Some(rollout) = workload.spec.rollout() else {
            self.planning.updates.remove(&workload.uid);
            return;
        };
        let generation = workload.generation;
        let (below, verdict) =
            self.demand().with_view(workload, |view| workload::frontier(generation, view));
        if verdict.is_some() {
            self.planning.updates.remove(&workload.uid);
            return;
        }
        // Steps count places, rulings count ranks.
        let first = workload::first_rank(&workload.spec);
        let below = below.saturating_sub(first);
        let fresh = SeenUpdate {
            generation,
            seen: Seen { below, since: now, ready: None },
            is_told: false,
        };
        let mut update = self.planning.updates.remove(&workload.uid).unwrap_or(fresh.clone());
        if (update.generation, update.seen.below) != (generation, below) {
            update = fresh;
        }
        let progress = self.progress(workload);
        let step = next_step(&rollout, &progress, now, &mut update.seen);
        match step {
            NextStep::Wait(until) => {
                if let Some(until) = until {
                    self.plan_again(until, workload.uid);
                }
            }
            NextStep::Raise(below) => {
                let below = below.saturating_add(first);
                self.rule_update(now, workload, RulingBody::Frontier { below });
                let which = match workload.spec.kind.is_stateful() {
                    true => format!("from {} on", MAX_REPLICAS.saturating_sub(below)),
                    false => format!("below {below}"),
                };
                let message =
                    format!("replicas {which} are to run generation {}", generation.short());
                self.emit_of(now, Level::Info, "update", About::workload(&workload.name), message);
            }
            NextStep::Good => {
                self.rule_update(now, workload, RulingBody::RolloutVerdict { is_good: true });
                let message = format!("all replicas run generation {}", generation.short());
                self.emit_of(now, Level::Info, "updated", About::workload(&workload.name), message);
            }
            NextStep::Failed => {
                let goes_back = rollout.on_failure == OnFailure::RollBack
                    && workload.spec.later.previous.is_some();
                if goes_back {
                    self.rule_update(now, workload, RulingBody::RolloutVerdict { is_good: false });
                } else if !update.is_told {
                    let message = format!(
                        "generation {} does not become ready: the replicas that have not had their \
                            turn keep what they run",
                        generation.short()
                    );
                    let about = About::workload(&workload.name);
                    self.emit_of(now, Level::Warning, "update-failed", about, message);
                    update.is_told = true;
                }
            }
        }
        self.planning.updates.insert(workload.uid, update);
    }

    fn rule_update(&mut self, now: Time, workload: &Workload, body: RulingBody) {
        self.rule_next(now, workload.uid, workload.generation, 0, body);
    }

    /// How far each place is with the generation of its workload, in the order of their turns.
    fn progress(&self, workload: &Workload) -> Vec<Progress> {
        let places =
            self.demand().with_view(workload, |view| workload::in_turn(&workload.spec, view));
        let mut claims: BTreeMap<Place, Vec<&Claim>> = BTreeMap::new();
        for (node, claim) in self.claims.of_workload(&workload.uid) {
            if self.is_up(&node) {
                claims.entry(claim.replica.place).or_default().push(claim);
            }
        }
        let most = self.config.holding.max_restarts;
        let of = |place: Place| {
            let here = claims.get(&place).map(Vec::as_slice).unwrap_or_default();
            let phase = |claim: &Claim| match &claim.update {
                _ if claim.generation == workload.generation => Some(claim.phase.clone()),
                Some(update) if update.revision == workload.generation => {
                    Some(update.phase.clone())
                }
                _ => None,
            };
            let phases: Vec<Phase> = here.iter().filter_map(|claim| phase(claim)).collect();
            let is_given_up = |phase: &Phase| match phase {
                Phase::Failing { restarts, .. } => *restarts >= most,
                _ => false,
            };
            match () {
                () if here.is_empty() => Progress::Free,
                () if phases.contains(&Phase::Healthy) => Progress::Done,
                () if phases.iter().any(is_given_up) => Progress::Failing,
                () => Progress::Behind,
            }
        };
        places.into_iter().map(of).collect()
    }

    /// A workload whose update was ruled to be bad runs its previous spec again. Returns whether
    /// that changed what it is to run.
    pub(super) fn heed_verdict(&mut self, uid: &Digest) -> bool {
        let Some(workload) = self.desired.by_uid(uid) else { return false };
        let key = RulingKey {
            uid: *uid,
            kind: RulingKind::RolloutVerdict,
            generation: workload.written,
            tick: 0,
        };
        let verdict = self.rulings.get(&key).map(|ruling| ruling.body.clone());
        let is_bad = verdict == Some(RulingBody::RolloutVerdict { is_good: false });
        self.desired.go_back_from(uid, is_bad.then_some(workload.written))
    }

    /// A workload runs the spec of before again.
    pub(super) fn on_rolled_back(&mut self, now: Time, uid: &Digest) {
        let Some(workload) = self.desired.by_uid(uid).cloned() else { return };
        self.due.holding = true;
        self.due.duplicates = true;
        self.due.routes.insert(workload.name.clone());
        self.with_auction(now, |auction, now, context, out| {
            auction.learned(now, uid, context, out)
        });
        self.want_artifact(now, uid);
        if workload.written != workload.generation {
            let message = format!(
                "generation {} did not become ready: all replicas run generation {} again",
                workload.written.short(),
                workload.generation.short()
            );
            let about = About::workload(&workload.name);
            self.emit_of(now, Level::Warning, "rolled-back", about, message);
        }
    }

    /// Whether a workload's spec has proven good: it was ruled to be, or all its replicas run it.
    pub(super) fn is_proven(&self, workload: &Workload) -> bool {
        let (_, verdict) =
            self.demand().with_view(workload, |view| workload::frontier(workload.generation, view));
        let runs = || self.progress(workload).iter().all(|it| *it == Progress::Done);
        verdict.unwrap_or_else(runs)
    }

    /// How far an update is, for people; none for a workload without a policy for updates.
    pub(super) fn update_view(&self, workload: &Workload) -> Option<UpdateView> {
        if workload.written != workload.generation {
            let failed = Some(workload.written.short());
            return Some(UpdateView { state: "rolled-back".into(), done: 0, total: 0, failed });
        }
        let rollout = workload.spec.rollout()?;
        let (below, verdict) =
            self.demand().with_view(workload, |view| workload::frontier(workload.generation, view));
        let below = below.saturating_sub(workload::first_rank(&workload.spec));
        let progress = self.progress(workload);
        let count = |of: Progress| progress.iter().filter(|it| **it == of).count();
        let done = count(Progress::Done);
        let due = progress.iter().take(usize::try_from(below).unwrap_or(usize::MAX));
        let state = match verdict {
            Some(true) => "done",
            _ if due.into_iter().any(|it| *it == Progress::Failing) => "failed",
            // Its deadline has passed; the owner alone knows.
            _ if self.planning.updates.get(&workload.uid).is_some_and(|it| {
                it.is_told && it.generation == workload.generation && it.seen.below == below
            }) =>
            {
                "failed"
            }
            _ if rollout.paused => "paused",
            _ if rollout.canary > 0 && below >= rollout.canary && done >= below as usize => {
                "canary"
            }
            _ => "rolling",
        };
        let total = u32::try_from(progress.len()).unwrap_or(u32::MAX);
        let done = u32::try_from(done).unwrap_or(u32::MAX);
        Some(UpdateView { state: state.into(), done, total, failed: None })
    }
}
