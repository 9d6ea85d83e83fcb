//! The runs of jobs and of cron workloads: which indices of them are to be done, which are overdue,
//! and which ticks are due. Pure functions of the rulings, like the places that follow from them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::ruling::{JobResult, Outcome, Tick, run_number, run_of};
use crate::model::spec::{Cron, Job, Kind, MAX_RUNS, Missed, Overlap};
use crate::model::{Digest, Revision, RulingBody, Spec, View};

/// A tick that is older than this was missed: an owner that takes over needs a few seconds.
const LATE: Duration = Duration::from_secs(60);
/// The generation of rulings that belong to no revision: results of ticks, as a changed schedule
/// runs no tick again, numbers of replicas, and moves.
pub const NO_GENERATION: Digest = Digest([0; 32]);

/// A run that is not over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The instant that it was due, in milliseconds since 1970; 0 for a job without schedule.
    pub at: u64,
    /// The generation of its rulings.
    pub generation: Revision,
    /// The indices that are to run now, the lowest first.
    pub open: Vec<u32>,
}

/// The generation under which results of a spec's runs stand.
pub fn generation_of(spec: &Spec) -> Revision {
    match spec.kind {
        // Another value of a secret is no reason to do again what was done.
        Kind::Job(_) => spec.revision(),
        _ => NO_GENERATION,
    }
}

/// The runs that are not over, the earliest first.
pub fn runs(spec: &Spec, view: &View<'_>) -> Vec<Run> {
    let Some(job) = spec.kind.job() else { return Vec::new() };
    let generation = generation_of(spec);
    let due = match &spec.kind {
        Kind::Cron(_) => started(view),
        _ => vec![0],
    };
    let open = |at: u64| Run { at, generation, open: open(job, at, generation, view) };
    due.into_iter().map(open).filter(|run| !run.open.is_empty()).collect()
}

/// The results of a workload's runs, each with its run and index.
pub fn results<'a>(
    generation: Revision,
    view: &View<'a>,
) -> impl Iterator<Item = (u64, u32, &'a JobResult)> {
    view.rulings.iter().filter_map(move |ruling| match &ruling.body {
        RulingBody::JobResult(result) if ruling.generation == generation => {
            let (at, index) = run_of(ruling.tick);
            Some((at, index, result))
        }
        _ => None,
    })
}

/// The indices of a run that are to run now. None when all are done, or one has failed.
fn open(job: &Job, at: u64, generation: Revision, view: &View<'_>) -> Vec<u32> {
    let mut done = BTreeSet::new();
    for (of, index, result) in results(generation, view) {
        match result.outcome {
            _ if of != at => {}
            Outcome::Done => _ = done.insert(index),
            Outcome::Failed | Outcome::Deadline | Outcome::Replaced => return Vec::new(),
        }
    }
    let open = (0..job.completions).filter(|index| !done.contains(index));
    open.take(usize::try_from(job.parallel).unwrap_or(usize::MAX)).collect()
}

/// The ticks that were started, as many as are kept, the earliest first. Any member can sign a
/// tick; one that no result can name would run again and again, and counts for nothing.
fn started(view: &View<'_>) -> Vec<u64> {
    let mut ticks: Vec<u64> = view
        .rulings
        .iter()
        .filter(|ruling| ruling.body == RulingBody::CronTick(Tick::Started))
        .map(|ruling| ruling.tick)
        .filter(|tick| run_of(run_number(*tick, 0)).0 == *tick)
        .collect();
    ticks.sort_unstable();
    ticks
}

/// The last tick about which something was decided; 0 for none.
fn last_decided(view: &View<'_>) -> u64 {
    let tick = |ruling: &&crate::model::Ruling| match &ruling.body {
        RulingBody::CronTick(Tick::Started) => Some(ruling.tick),
        RulingBody::CronTick(_) => Some(ruling.sequence),
        _ => None,
    };
    view.rulings.iter().filter_map(tick).max().unwrap_or_default()
}

/// The runs whose time is over at `now`, each with its lowest open index; and the time at which the
/// next one's will be. `changed` is the time of the workload's last change.
pub fn overdue(spec: &Spec, view: &View<'_>, changed: u64, now: u64) -> (Vec<Run>, Option<u64>) {
    let Some(deadline) = spec.kind.job().and_then(|job| job.deadline) else {
        return (Vec::new(), None);
    };
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let end = |run: &Run| if run.at == 0 { changed } else { run.at }.saturating_add(deadline);
    let (over, going): (Vec<Run>, Vec<Run>) =
        runs(spec, view).into_iter().partition(|run| end(run) <= now);
    (over, going.iter().map(end).min())
}

/// A schedule, as [`due`] asks it.
pub trait Ticks {
    /// The first tick after an instant, in milliseconds since 1970.
    fn next_after(&self, at: u64) -> Option<u64>;
    /// The last tick before an instant.
    fn last_before(&self, at: u64) -> Option<u64>;
}

/// The decisions about ticks that are due.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Ticks that are decided now, the earliest first.
    pub ticks: Vec<(u64, Tick)>,
    /// Runs that make room for a later one.
    pub replaced: Vec<Run>,
    /// The next tick.
    pub next: Option<u64>,
}

/// The ticks of a cron workload that are due at `now`, in milliseconds since 1970. `changed` is
/// the time of its last change: earlier ticks are not its business.
pub fn due(spec: &Spec, ticks: &dyn Ticks, view: &View<'_>, changed: u64, now: u64) -> Due {
    let Kind::Cron(cron) = &spec.kind else { return Due::default() };
    if cron.suspended {
        return Due::default();
    }
    let after = last_decided(view).max(changed);
    let mut decided = Due { next: ticks.next_after(after.max(now)), ..Due::default() };
    let wanted = wanted(cron, ticks, after, now);
    let mut going = runs(spec, view);
    for (tick, is_missed) in wanted {
        let is_full = going.len() >= MAX_RUNS as usize;
        let outcome = match cron.overlap {
            _ if is_missed => Tick::Missed,
            Overlap::Allow if is_full => Tick::Overlapped,
            Overlap::Forbid if !going.is_empty() => Tick::Overlapped,
            Overlap::Allow | Overlap::Forbid | Overlap::Replace => Tick::Started,
        };
        if outcome == Tick::Started {
            if cron.overlap == Overlap::Replace {
                // Of several ticks at once, only the last is run.
                decided.ticks.retain(|(_, tick)| *tick != Tick::Started);
                decided.replaced.extend(going.drain(..).filter(|run| !run.open.is_empty()));
            }
            going.push(Run { at: tick, generation: NO_GENERATION, open: Vec::new() });
        }
        decided.ticks.push((tick, outcome));
    }
    decided
}

/// The ticks after `after` that are to be decided at `now`, the earliest first, each with whether
/// it is only noted as missed.
fn wanted(cron: &Cron, ticks: &dyn Ticks, after: u64, now: u64) -> Vec<(u64, bool)> {
    let most = match cron.missed {
        Missed::All(most) => most,
        Missed::Skip | Missed::Once => 1,
    };
    let mut wanted = Vec::new();
    let mut before = now.saturating_add(1);
    while wanted.len() < most as usize
        && let Some(tick) = ticks.last_before(before).filter(|tick| *tick > after)
    {
        let late = now.saturating_sub(tick) > LATE.as_millis() as u64;
        wanted.push((tick, cron.missed == Missed::Skip && late));
        before = tick;
    }
    wanted.reverse();
    wanted
}

#[cfg(test)]
mod tests;
