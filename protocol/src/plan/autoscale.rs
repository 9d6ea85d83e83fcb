//! The next number of replicas of a workload that is scaled by its load. Pure, so that every owner
//! decides alike; the number in force is a ruling.
//!
//! As in Kubernetes: the number is what brings the load of a replica to its target, the greatest of
//! several targets counts, and a deviation of a tenth changes nothing. A replica whose load is not
//! known counts as idle when there are to be more, and as busy when there are to be fewer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::spec::Autoscale;
use crate::model::{Load, Resources, Time};

/// Samples that a window keeps: of the longest window one in so many seconds, merged beyond.
const MAX_SAMPLES: usize = 256;
/// A deviation from the target that changes nothing: a tenth.
const TOLERANCE: u64 = 10;
/// At one decision the number of replicas at most doubles, or grows by this.
const GROWS_BY: u32 = 4;
/// After it grew, the new replicas get this time to start before it grows again.
pub const SETTLES: Duration = Duration::from_secs(15);

/// What an owner has seen of a workload's load. A new owner begins anew: it takes no replica away
/// before it has seen the load for the whole window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    since: Time,
    /// The wanted numbers, by time.
    samples: VecDeque<(Time, u32)>,
    /// The time of its last growth.
    grew: Option<Time>,
}

/// The load of a workload's replicas.
#[derive(Clone, Copy, Debug)]
pub struct Loads<'a> {
    /// What is reserved for a replica.
    pub reserved: Resources,
    /// The number of replicas in force.
    pub replicas: u32,
    /// Those of them that no node holds: they have nothing to do.
    pub free: u32,
    /// The loads that are known, of at most that many replicas.
    pub known: &'a [Load],
}

impl Watched {
    /// Nothing seen before `now`.
    pub fn new(now: Time) -> Watched {
        Watched { since: now, samples: VecDeque::new(), grew: None }
    }

    /// The number of samples, and their bound.
    pub fn len(&self) -> (usize, usize) {
        (self.samples.len(), MAX_SAMPLES)
    }

    /// The next number of replicas, if it is another one, and why.
    pub fn next(
        &mut self,
        scale: &Autoscale,
        loads: &Loads<'_>,
        now: Time,
    ) -> Option<(u32, String)> {
        let (wanted, why) = wanted(scale, loads);
        self.note(now, wanted, scale.up.max(scale.down));
        let within = |window: Duration| {
            let after = move |at: &Time| now.since(*at) <= window;
            self.samples.iter().filter(move |(at, _)| after(at)).map(|(_, wanted)| *wanted)
        };
        let seen = now.since(self.since);
        let least = within(scale.up).min().filter(|_| seen >= scale.up).unwrap_or(0);
        let most = within(scale.down).max().filter(|_| seen >= scale.down).unwrap_or(u32::MAX);
        let now_has = loads.replicas;
        let is_settled = self.grew.is_none_or(|at| now.since(at) >= SETTLES);
        let next = match () {
            () if least > now_has && is_settled => {
                let most = now_has.saturating_mul(2).max(now_has.saturating_add(GROWS_BY));
                self.grew = Some(now);
                least.min(most)
            }
            () if most < now_has => {
                let window = scale.down.as_secs_f64();
                return Some((
                    most,
                    format!("{why}; for {window}s no more than {most} were needed"),
                ));
            }
            () => return None,
        };
        Some((next, why))
    }

    fn note(&mut self, now: Time, wanted: u32, keep: Duration) {
        self.samples.retain(|(at, _)| now.since(*at) <= keep);
        if self.samples.len() >= MAX_SAMPLES {
            self.thin_out();
        }
        self.samples.push_back((now, wanted));
    }

    /// Halves the number of samples: of two the greater one stays, at the later time.
    fn thin_out(&mut self) {
        let pairs: Vec<(Time, u32)> = self.samples.drain(..).collect();
        let both = |pair: &[(Time, u32)]| {
            let at = pair.iter().map(|(at, _)| *at).max()?;
            Some((at, pair.iter().map(|(_, wanted)| *wanted).max()?))
        };
        self.samples.extend(pairs.chunks(2).filter_map(both));
    }
}

/// The number of replicas that brings each load to its target, within the bounds, and why.
fn wanted(scale: &Autoscale, loads: &Loads<'_>) -> (u32, String) {
    let Loads { reserved, replicas, free, known } = *loads;
    let sum = |of: fn(&Load) -> u64| known.iter().map(of).fold(0, u64::saturating_add);
    let percent = |of: u64, percent: u32| (of.saturating_mul(u64::from(percent)) / 100).max(1);
    // In thousandths of a core, bytes, and thousandths of a request.
    let cpu = |it: &Load| u64::from(it.cpu);
    let in_flight = |it: &Load| u64::from(it.in_flight);
    let metrics = [
        (scale.cpu, sum(cpu), scale.cpu.map(|it| percent(u64::from(reserved.cpu), it)), "CPU"),
        (
            scale.memory,
            sum(|it| it.memory),
            scale.memory.map(|it| percent(reserved.memory, it)),
            "memory",
        ),
        (
            scale.requests,
            sum(in_flight),
            scale.requests.map(|it| u64::from(it) * 1_000),
            "requests",
        ),
    ];
    let unknown = replicas.saturating_sub(u32::try_from(known.len()).unwrap_or(u32::MAX));
    let mut best: Option<(u32, String)> = None;
    for (target, sum, each, what) in metrics {
        let (Some(target), Some(each)) = (target, each) else { continue };
        let number = number(sum, each, replicas, unknown);
        let share = shown(sum, each, target, replicas.saturating_sub(unknown));
        let why = match what {
            "requests" => format!("{share} requests at a time each, {target} are wanted"),
            what => format!("{share}% of the reserved {what} in use, {target}% are wanted"),
        };
        if best.as_ref().is_none_or(|(most, _)| *most < number) {
            best = Some((number, why));
        }
    }
    let (number, why) = best.unwrap_or((replicas, String::new()));
    let is_asked = known.iter().any(|it| it.requests > 0 || it.in_flight > 0);
    // None only when it is sure that nobody asks.
    if scale.min == 0 && !is_asked && unknown <= free {
        return (0, "no requests came".into());
    }
    (number.max(1).clamp(scale.min, scale.max), why)
}

/// The number of replicas that share `sum` so that each has `each`.
fn number(sum: u64, each: u64, replicas: u32, unknown: u32) -> u32 {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let at_target = each.saturating_mul(u64::from(replicas));
    let tenth = at_target / TOLERANCE;
    let with_unknown = sum.saturating_add(each.saturating_mul(u64::from(unknown)));
    match () {
        () if sum > at_target.saturating_add(tenth) => narrow(sum.div_ceil(each)),
        () if with_unknown < at_target.saturating_sub(tenth) => narrow(with_unknown.div_ceil(each)),
        () => replicas,
    }
}

/// The load of one replica, in the unit of its target.
fn shown(sum: u64, each: u64, target: u32, replicas: u32) -> u64 {
    let one = sum / u64::from(replicas.max(1));
    one.saturating_mul(u64::from(target)).div_ceil(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: Resources = Resources { memory: 100 << 20, cpu: 1_000 };

    fn second(at: u64) -> Time {
        Time::from_micros(at * 1_000_000)
    }

    fn requests(in_flight: u32) -> Load {
        Load { in_flight: in_flight * 1_000, requests: in_flight, ..Load::default() }
    }

    fn cpu(cpu: u32) -> Load {
        Load { cpu, requests: 1, ..Load::default() }
    }

    fn by_requests(min: u32, max: u32) -> Autoscale {
        Autoscale { min, max, requests: Some(10), ..Autoscale::default() }
    }

    fn next(watched: &mut Watched, scale: &Autoscale, known: &[Load], at: u64) -> Option<u32> {
        let replicas = u32::try_from(known.len()).unwrap();
        next_of(watched, scale, known, replicas, at)
    }

    fn next_of(
        watched: &mut Watched,
        scale: &Autoscale,
        known: &[Load],
        replicas: u32,
        at: u64,
    ) -> Option<u32> {
        let loads = Loads { reserved: RESERVED, replicas, free: 0, known };
        watched.next(scale, &loads, second(at)).map(|(number, _)| number)
    }

    #[test]
    fn grows_at_once_to_what_its_load_needs_and_waits_for_the_new_ones() {
        let (scale, mut seen) = (by_requests(1, 100), Watched::new(second(0)));
        assert_eq!(next(&mut seen, &scale, &[requests(10), requests(11)], 0), None, "a tenth");
        assert_eq!(next(&mut seen, &scale, &[requests(15), requests(15)], 5), Some(3));
        assert_eq!(next(&mut seen, &scale, &[requests(15); 3], 10), None, "it has just grown");
        assert_eq!(next(&mut seen, &scale, &[requests(15); 3], 20), Some(5));
        assert_eq!(next(&mut seen, &scale, &[requests(500)], 40), Some(5), "four more at a time");
        assert_eq!(next(&mut seen, &scale, &[requests(500); 10], 60), Some(20), "or twice as many");
        assert_eq!(next(&mut seen, &by_requests(1, 12), &[requests(99); 10], 80), Some(12));
    }

    /// A lull of a minute takes no replica away.
    #[test]
    fn shrinks_to_the_most_that_was_needed_within_the_window() {
        let (scale, mut seen) = (by_requests(1, 100), Watched::new(second(0)));
        let five = |load: u32| [requests(load); 5];
        for at in (0..300).step_by(5) {
            let load = if at == 100 { 8 } else { 1 };
            assert_eq!(next(&mut seen, &scale, &five(load), at), None, "at {at}");
        }
        assert_eq!(next(&mut seen, &scale, &five(1), 300), Some(4), "four were needed at 100");
        assert_eq!(next(&mut seen, &scale, &[requests(1); 4], 400), None);
        assert_eq!(next(&mut seen, &scale, &[requests(1); 4], 405), Some(1));
        let mut next_owner = Watched::new(second(405));
        assert_eq!(next(&mut next_owner, &scale, &five(1), 700), None, "it has not seen enough");
    }

    #[test]
    fn greatest_target_counts_and_a_growing_window_is_waited_for() {
        let up = Duration::from_secs(30);
        let scale = Autoscale { cpu: Some(50), up, ..by_requests(1, 10) };
        let mut seen = Watched::new(second(0));
        let busy = [cpu(900), cpu(900)];
        assert_eq!(next(&mut seen, &scale, &busy, 0), None);
        assert_eq!(next(&mut seen, &scale, &[cpu(400); 2], 20), None, "it was calm meanwhile");
        assert_eq!(next(&mut seen, &scale, &busy, 40), None);
        assert_eq!(next(&mut seen, &scale, &busy, 51), Some(4), "900 of 500 each");
    }

    /// While replicas start, their load is not known.
    #[test]
    fn unknown_replicas_neither_grow_nor_shrink_it() {
        let scale = by_requests(1, 10);
        let mut seen = Watched::new(second(0));
        let known = [requests(15), requests(15)];
        assert_eq!(next_of(&mut seen, &scale, &known, 4, 0), None);
        assert_eq!(next_of(&mut seen, &scale, &[requests(1)], 4, 301), None, "31 of 40");
        assert_eq!(next_of(&mut seen, &scale, &[requests(1); 2], 4, 700), Some(3), "22 of 40");
    }

    #[test]
    fn sleeps_only_when_nobody_asked_for_the_whole_window() {
        let down = Duration::from_secs(60);
        let scale = Autoscale { down, ..by_requests(0, 3) };
        let mut seen = Watched::new(second(0));
        let (rare, idle) = (Load { requests: 1, ..Load::default() }, Load::default());
        assert_eq!(next(&mut seen, &scale, &[rare], 0), None);
        assert_eq!(next(&mut seen, &scale, &[idle], 60), None, "a request within the window");
        assert_eq!(next_of(&mut seen, &scale, &[], 1, 65), None, "its load is not known");
        assert_eq!(next(&mut seen, &scale, &[idle], 130), Some(0));
        // No node has room for it: there is nothing to know.
        let mut nowhere = Watched::new(second(0));
        let none = Loads { reserved: RESERVED, replicas: 1, free: 1, known: &[] };
        assert_eq!(nowhere.next(&scale, &none, second(0)), None);
        assert_eq!(nowhere.next(&scale, &none, second(60)).map(|it| it.0), Some(0));
        let awake = Autoscale { min: 1, ..scale };
        assert_eq!(next(&mut seen, &awake, &[idle], 131), None);
    }

    #[test]
    fn samples_are_bounded_and_none_is_forgotten() {
        let scale = Autoscale { down: Duration::from_secs(3_600), ..by_requests(1, 100) };
        let mut seen = Watched::new(second(0));
        for at in 0..3_600 {
            let load = if at == 1_234 { 9 } else { 1 };
            assert_eq!(next(&mut seen, &scale, &[requests(load); 9], at), None);
            assert!(seen.len().0 <= seen.len().1);
        }
        let after = next(&mut seen, &scale, &[requests(1); 9], 3_600);
        assert_eq!(after, None, "nine were needed within the hour");
    }
}
