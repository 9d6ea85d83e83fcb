use imbl::OrdMap;

use super::super::tests::spec;
use super::*;
use crate::model::{NodeId, Ruling, WallClock};

const MINUTE: u64 = 60_000;

/// A tick at each minute.
struct Minutes;

impl Ticks for Minutes {
    fn next_after(&self, at: u64) -> Option<u64> {
        Some(at - at % MINUTE + MINUTE)
    }

    fn last_before(&self, at: u64) -> Option<u64> {
        Some((at - 1) - (at - 1) % MINUTE)
    }
}

fn result(spec: &Spec, at: u64, index: u32, outcome: Outcome) -> Ruling {
    let ended = WallClock(at + 1);
    Ruling {
        uid: Digest([7; 32]),
        generation: generation_of(spec),
        tick: run_number(at, index),
        sequence: ended.0,
        body: RulingBody::JobResult(JobResult {
            outcome,
            exit_code: None,
            ended,
            lines: Vec::new(),
        }),
    }
}

fn tick(at: u64, outcome: Tick) -> Ruling {
    let (tick, sequence) = if outcome == Tick::Started { (at, 0) } else { (0, at) };
    let body = RulingBody::CronTick(outcome);
    Ruling { uid: Digest([7; 32]), generation: NO_GENERATION, tick, sequence, body }
}

fn with<T>(rulings: &[Ruling], work: impl FnOnce(&View<'_>) -> T) -> T {
    let members: OrdMap<NodeId, u64> = OrdMap::new();
    let rulings: Vec<&Ruling> = rulings.iter().collect();
    work(&View { members: &members, suits: &|_| true, rulings: &rulings, versions: None })
}

fn job(completions: u32, parallel: u32) -> Job {
    Job { completions, parallel, ..Job::default() }
}

fn cron(change: impl FnOnce(&mut Cron)) -> Spec {
    let mut cron = Cron {
        schedule: "* * * * *".into(),
        zone: "UTC".into(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
        suspended: false,
        job: Job::default(),
    };
    change(&mut cron);
    spec(Kind::Cron(cron))
}

fn indices(spec: &Spec, rulings: &[Ruling]) -> Vec<u32> {
    with(rulings, |view| runs(spec, view).into_iter().flat_map(|run| run.open).collect())
}

/// Each index is done once, so many at a time, and a finished job has no place for ever.
#[test]
fn job_has_places_for_what_is_not_done() {
    let spec = spec(Kind::Job(job(4, 2)));
    let done = |index| result(&spec, 0, index, Outcome::Done);
    assert_eq!(indices(&spec, &[]), [0, 1]);
    assert_eq!(indices(&spec, &[done(0)]), [1, 2]);
    assert_eq!(indices(&spec, &[done(0), done(2)]), [1, 3]);
    assert_eq!(indices(&spec, &[done(0), done(1), done(2), done(3)]), [0; 0]);
    let failed = result(&spec, 0, 1, Outcome::Failed);
    assert_eq!(indices(&spec, &[done(0), failed]), [0; 0], "one that failed ends the job");
}

/// A job that is published with another program begins anew; its old results do not count.
#[test]
fn results_count_for_their_revision() {
    let (one, other) = (spec(Kind::Job(job(1, 1))), cron(|_| {}));
    let of_other = Ruling { generation: Digest([9; 32]), ..result(&one, 0, 0, Outcome::Done) };
    assert_eq!(indices(&one, &[of_other]), [0]);
    let rulings = [tick(MINUTE, Tick::Started), result(&other, MINUTE, 0, Outcome::Done)];
    assert_eq!(indices(&other, &rulings), [0; 0], "a tick is run once, whatever changed since");
}

#[test]
fn tick_is_started_once() {
    let spec = cron(|_| {});
    let at =
        |rulings: &[Ruling], now| with(rulings, |view| due(&spec, &Minutes, view, 30_000, now));
    let first = at(&[], MINUTE);
    assert_eq!(first.ticks, [(MINUTE, Tick::Started)]);
    assert_eq!(first.next, Some(2 * MINUTE));
    let rulings = [tick(MINUTE, Tick::Started)];
    assert_eq!(at(&rulings, MINUTE + 5).ticks, []);
    assert_eq!(at(&rulings, 2 * MINUTE).ticks, [(2 * MINUTE, Tick::Started)]);
    // The clock of an owner that is behind: nothing is due twice, nor before its time.
    assert_eq!(at(&rulings, 10_000), Due { next: Some(2 * MINUTE), ..Due::default() });
    assert_eq!(indices(&spec, &rulings), [0]);
}

/// Nobody could start ticks for an hour.
#[test]
fn missed_ticks_follow_their_policy() {
    let now = 60 * MINUTE + 90_000;
    let decided = |missed| {
        let spec = cron(|cron| cron.missed = missed);
        with(&[tick(MINUTE, Tick::Started)], |view| due(&spec, &Minutes, view, 0, now)).ticks
    };
    let last = 61 * MINUTE;
    assert_eq!(decided(Missed::Once), [(last, Tick::Started)]);
    let all = decided(Missed::All(3));
    assert_eq!(all, [59, 60, 61].map(|n| (n * MINUTE, Tick::Started)));
    assert_eq!(decided(Missed::Skip), [(last, Tick::Started)], "30 s late is in time");
    let spec = cron(|cron| cron.missed = Missed::Skip);
    let late = with(&[], |view| due(&spec, &Days, view, 0, DAY + 2 * MINUTE)).ticks;
    assert_eq!(late, [(DAY, Tick::Missed)]);
    let known = [tick(DAY, Tick::Missed)];
    assert_eq!(with(&known, |view| due(&spec, &Days, view, 0, DAY + 3 * MINUTE)).ticks, []);
}

const DAY: u64 = 24 * 60 * MINUTE;

/// A tick at each midnight.
struct Days;

impl Ticks for Days {
    fn next_after(&self, at: u64) -> Option<u64> {
        Some(at - at % DAY + DAY)
    }

    fn last_before(&self, at: u64) -> Option<u64> {
        Some((at - 1) - (at - 1) % DAY)
    }
}

#[test]
fn overlapping_ticks_follow_their_policy() {
    let started = [tick(MINUTE, Tick::Started)];
    let decided = |overlap| {
        let spec = cron(|cron| cron.overlap = overlap);
        with(&started, |view| due(&spec, &Minutes, view, 0, 2 * MINUTE))
    };
    assert_eq!(decided(Overlap::Allow).ticks, [(2 * MINUTE, Tick::Started)]);
    assert_eq!(decided(Overlap::Forbid).ticks, [(2 * MINUTE, Tick::Overlapped)]);
    let replaced = decided(Overlap::Replace);
    assert_eq!(replaced.ticks, [(2 * MINUTE, Tick::Started)]);
    assert_eq!(replaced.replaced.iter().map(|run| run.at).collect::<Vec<_>>(), [MINUTE]);
    // An hour of skipped ticks hides the run that goes on from nobody.
    let spec = cron(|cron| cron.overlap = Overlap::Forbid);
    let rulings = [started[0].clone(), tick(60 * MINUTE, Tick::Overlapped)];
    assert_eq!(indices(&spec, &rulings), [0]);
}

#[test]
fn suspended_schedule_starts_nothing() {
    let spec = cron(|cron| cron.suspended = true);
    assert_eq!(with(&[], |view| due(&spec, &Minutes, view, 0, MINUTE)), Due::default());
}

#[test]
fn run_is_overdue_after_its_deadline() {
    let second = Duration::from_secs(1);
    let spec = spec(Kind::Job(Job { deadline: Some(10 * second), ..job(2, 2) }));
    let at = |rulings: &[Ruling], now| with(rulings, |view| overdue(&spec, view, 5_000, now));
    assert_eq!(at(&[], 14_999), (Vec::new(), Some(15_000)));
    let (over, next) = at(&[], 15_000);
    assert_eq!((over.len(), next), (1, None));
    let done = [0, 1].map(|index| result(&spec, 0, index, Outcome::Done));
    assert_eq!(at(&done, 15_000), (Vec::new(), None));
}

/// A stolen device invented ticks between the seconds: their results had the number of another run,
/// so they ran again and again.
#[test]
fn invented_tick_between_the_seconds_runs_nothing() {
    let spec = cron(|_| {});
    let places = |rulings: &[Ruling]| with(rulings, |view| runs(&spec, view).len());
    assert_eq!(places(&[tick(MINUTE, Tick::Started)]), 1);
    assert_eq!(places(&[tick(124, Tick::Started), tick(MINUTE + 1, Tick::Started)]), 0);
}

/// A run that takes long is not forgotten because later ones were started and are done.
#[test]
fn long_run_outlives_later_ones() {
    let spec = cron(|_| {});
    let mut rulings: Vec<Ruling> = (1..=25).map(|n| tick(n * MINUTE, Tick::Started)).collect();
    rulings.extend((2..=25).map(|n| result(&spec, n * MINUTE, 0, Outcome::Done)));
    let going: Vec<u64> =
        with(&rulings, |view| runs(&spec, view)).into_iter().map(|run| run.at).collect();
    assert_eq!(going, [MINUTE]);
}
