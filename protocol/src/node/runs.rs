//! Rulings of this node, and what owners and holders decide about the runs of jobs and cron
//! workloads. Which decisions are due is computed in `workload/runs.rs`.

use std::time::Duration;

use crate::desired::Workload;
use crate::holding::Ended;
use crate::model::claim::short_reason;
use crate::model::ruling::{JobResult, Outcome, Tick, last_lines, run_number, run_of};
use crate::model::spec::{Kind, Schedule};
use crate::model::view::ResultView;
use crate::model::{
    Digest, NodeId, Place, ReplicaId, Revision, Ruling, RulingBody, RulingKey, RulingKind, Signed,
    Time, WallClock,
};
use crate::rulings::MAX_SEQUENCE;
use crate::workload::{self, Run, Ticks};

use super::contract::Action;
use super::events::About;
use super::message::Message;
use super::{Level, Node};

/// A tick is looked for at least so often, whatever the device's clock did meanwhile.
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);

impl Ticks for Schedule {
    fn next_after(&self, at: u64) -> Option<u64> {
        Schedule::next_after(self, at)
    }

    fn last_before(&self, at: u64) -> Option<u64> {
        Schedule::last_before(self, at)
    }
}

impl Node {
    /// Makes a ruling: others hear of it once it is on disk. Returns whether it counts: there may
    /// be no room for it.
    pub(super) fn rule(&mut self, now: Time, ruling: Ruling) -> bool {
        let ruling = Signed::sign(ruling, &self.identity.keys, &self.cluster);
        let Some(batch) = self.enter_ruling(now, ruling.clone()) else { return false };
        self.count("rulings");
        let told = Message::Ruled(ruling.wire());
        self.outbox.push_after(batch, Action::Broadcast(told));
        true
    }

    /// Makes a ruling that counts before all earlier ones of its kind.
    pub(super) fn rule_next(
        &mut self,
        now: Time,
        uid: Digest,
        generation: Revision,
        tick: u64,
        body: RulingBody,
    ) -> bool {
        let ruling = Ruling { uid, generation, tick, sequence: 0, body };
        let sequence = self.next_sequence(now, &uid, ruling.key().kind);
        self.rule(now, Ruling { sequence, ..ruling })
    }

    /// The sequence of the next ruling of a kind: later ones have greater ones, also those of a
    /// device whose clock is behind. Of too many rulings the earliest are dropped.
    fn next_sequence(&self, now: Time, uid: &Digest, kind: RulingKind) -> u64 {
        let of_kind = self.rulings.of(uid).filter(|ruling| ruling.key().kind == kind);
        let last = of_kind.map(|ruling| ruling.sequence).max();
        last.map_or(0, |last| last.saturating_add(1)).max(self.wall(now).0).min(MAX_SEQUENCE)
    }

    /// The owner decides about the runs of a workload: ticks that are due, and runs whose time is
    /// over.
    pub(super) fn decide_runs(&mut self, now: Time, workload: &Workload) {
        if workload.spec.kind.job().is_none() {
            return;
        }
        let (wall, changed) = (self.wall(now).0, workload.changed.0);
        let (over, end) = self
            .demand()
            .with_view(workload, |view| workload::overdue(&workload.spec, view, changed, wall));
        for run in over {
            self.end_run(now, workload, &run, Outcome::Deadline);
        }
        let next = self.decide_ticks(now, workload);
        if let Some(at) = [end, next].into_iter().flatten().min() {
            let wait = Duration::from_millis(at.saturating_sub(wall));
            self.plan_again(now + wait.min(LOOK_AT_LEAST), workload.uid);
        }
    }

    /// Decides about ticks that are due. Returns the next one.
    fn decide_ticks(&mut self, now: Time, workload: &Workload) -> Option<u64> {
        let Kind::Cron(cron) = &workload.spec.kind else { return None };
        let schedule = Schedule::new(&cron.schedule, &cron.zone).ok()?;
        let (wall, changed) = (self.wall(now).0, workload.changed.0);
        let due = self.demand().with_view(workload, |view| {
            workload::due(&workload.spec, &schedule, view, changed, wall)
        });
        for run in due.replaced {
            self.end_run(now, workload, &run, Outcome::Replaced);
        }
        for (tick, outcome) in due.ticks {
            let (key, sequence, word) = match outcome {
                Tick::Started => (tick, 0, "its run is started"),
                Tick::Overlapped => (0, tick, "it is skipped: an earlier run goes on"),
                Tick::Missed => (0, tick, "it is skipped: no node could start it in time"),
            };
            self.rule(
                now,
                Ruling {
                    uid: workload.uid,
                    generation: workload::generation_of(&workload.spec),
                    tick: key,
                    sequence,
                    body: RulingBody::CronTick(outcome),
                },
            );
            let message = format!("the tick of {}: {word}", WallClock(tick));
            self.emit_of(now, Level::Info, "tick", About::workload(&workload.name), message);
        }
        due.next
    }

    /// Ends a run that is not over, by a result of its lowest open index.
    fn end_run(&mut self, now: Time, workload: &Workload, run: &Run, outcome: Outcome) {
        let Some(index) = run.open.first() else { return };
        let replica =
            ReplicaId { uid: workload.uid, place: Place::Run { at: run.at, index: *index } };
        self.rule_result(now, &replica, run.generation, (outcome, None), Vec::new());
        let why = match outcome {
            Outcome::Replaced => "a later run takes its place",
            Outcome::Done | Outcome::Failed | Outcome::Deadline => "its deadline has passed",
        };
        let message = format!("the run ends before it is done: {why}");
        self.emit_of(now, Level::Warning, "run-ended", About::workload(&workload.name), message);
    }

    fn rule_result(
        &mut self,
        now: Time,
        replica: &ReplicaId,
        generation: Revision,
        (outcome, exit_code): (Outcome, Option<i32>),
        lines: Vec<String>,
    ) -> bool {
        let Place::Run { at, index } = replica.place else { return false };
        let ended = self.wall(now);
        let lines = last_lines(lines);
        let result = JobResult { outcome, exit_code, ended, lines };
        let (tick, body) = (run_number(at, index), RulingBody::JobResult(result));
        self.rule_next(now, replica.uid, generation, tick, body)
    }

    /// The program of a replica of this node came to its end.
    pub(super) fn on_done(
        &mut self,
        now: Time,
        replica: &ReplicaId,
        revision: Revision,
        exit_code: i32,
        lines: Vec<String>,
    ) {
        let reason = short_reason(format!("it ended with exit code {exit_code}"));
        let job = self.desired.by_uid(&replica.uid).and_then(|it| {
            // Another one belongs there by now: its end says nothing.
            let job = it.spec.kind.job().filter(|_| it.generation == revision)?;
            Some((job.retries, workload::generation_of(&it.spec)))
        });
        let Some((retries, generation)) = job else {
            return self.on_failed(now, replica, revision, &reason, true);
        };
        let outcome = match self.holding.ended(replica, revision, exit_code, retries) {
            Ended::Known => return,
            Ended::Again => return self.on_failed(now, replica, revision, &reason, true),
            Ended::Done => Outcome::Done,
            Ended::Failed => Outcome::Failed,
        };
        let result = (outcome, Some(exit_code));
        if !self.rule_result(now, replica, generation, result, lines) {
            return self.on_failed(now, replica, revision, &reason, true);
        }
        let level = if outcome == Outcome::Done { Level::Info } else { Level::Warning };
        let name = self.replica_name(replica);
        self.emit_event(now, level, "replica-done", Some(name), Some(self.me), reason);
    }

    /// The node that ruled on the end of a replica, if it is up.
    pub(super) fn saw_end(&self, replica: &ReplicaId) -> Option<NodeId> {
        let Place::Run { at, index } = replica.place else { return None };
        let workload = self.desired.by_uid(&replica.uid)?;
        let generation = workload::generation_of(&workload.spec);
        let is_it = |ruling: &&Signed<Ruling>| {
            matches!(ruling.body, RulingBody::JobResult(_))
                && ruling.generation == generation
                && ruling.tick == run_number(at, index)
        };
        let ruling = self.rulings.of(&replica.uid).find(is_it)?;
        Some(NodeId(ruling.by().0)).filter(|node| self.is_up(node))
    }

    /// How far a job is, in a word.
    pub(super) fn job_state(&self, workload: &Workload) -> Option<String> {
        let word = match self.demand().job(workload)? {
            (_, true) => "failed",
            (true, false) => "running",
            (false, false) => "done",
        };
        Some(word.to_owned())
    }

    /// The results of a workload's runs, by run and index.
    pub(super) fn result_views(&self, workload: &Workload) -> Vec<ResultView> {
        let generation = workload::generation_of(&workload.spec);
        let results = self.rulings.of(&workload.uid).filter_map(|ruling| {
            let RulingKey { generation: of, tick, .. } = ruling.key();
            let RulingBody::JobResult(result) = &ruling.body else { return None };
            let (at, index) = run_of(tick);
            (of == generation).then(|| ResultView {
                at,
                index,
                outcome: result.outcome.as_str().to_owned(),
                exit_code: result.exit_code,
                ended: result.ended.0,
                node: self.name_of(&NodeId(ruling.by().0)),
                lines: result.lines.clone(),
            })
        });
        results.collect()
    }
}
