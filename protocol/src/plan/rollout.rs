//! The steps of an update: how far its frontier goes next. Pure, so that every owner decides alike;
//! which places are due follows from the rulings, in the room `workload`.

use std::time::Duration;

use crate::model::Time;
use crate::model::spec::Rollout;

/// The progress of one place with the new revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It runs the new revision, healthy.
    Done,
    /// It does not yet.
    Behind,
    /// No node holds it.
    Free,
    /// The new revision failed there, as often as a node tries before it gives a replica up.
    Failing,
}

/// Since when an owner has seen an update as it is. A new owner begins to count anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The frontier.
    pub below: u32,
    /// The first time that this owner saw it.
    pub since: Time,
    /// The time since which all places below it are done.
    pub ready: Option<Time>,
}

/// The next step of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextStep {
    /// All places run the new revision: it is good.
    Good,
    /// The frontier goes to this place.
    Raise(u32),
    /// Nothing, until the time if there is one.
    Wait(Option<Time>),
    /// The new revision does not become ready.
    Failed,
}

/// The next step of an update whose frontier is `seen.below`, by the progress of all places, in
/// their order. Updates what was seen.
pub fn next_step(rollout: &Rollout, places: &[Progress], now: Time, seen: &mut Seen) -> NextStep {
    if places.iter().all(|place| *place == Progress::Done) {
        return NextStep::Good;
    }
    if rollout.paused {
        return NextStep::Wait(None);
    }
    let total = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let below = usize::try_from(seen.below).unwrap_or(usize::MAX).min(places.len());
    let due = &places[..below];
    if due.contains(&Progress::Failing) {
        return NextStep::Failed;
    }
    if due.iter().all(|place| *place == Progress::Done) {
        let ready = *seen.ready.get_or_insert(now);
        let wait = if below == 0 { Duration::ZERO } else { rollout.min_ready };
        return match rollout.canary {
            _ if now.since(ready) < wait => NextStep::Wait(Some(ready + wait)),
            // It waits for a person.
            canary if canary > 0 && seen.below >= canary => NextStep::Wait(None),
            0 => raise(seen.below.saturating_add(rollout.parallel).min(total), seen.below),
            canary => raise(canary.min(total), seen.below),
        };
    }
    seen.ready = None;
    let end = seen.since + rollout.deadline;
    if now < end {
        return NextStep::Wait(Some(end));
    }
    // That no node takes a place says nothing about the revision.
    match due.contains(&Progress::Behind) {
        true => NextStep::Failed,
        false => NextStep::Wait(None),
    }
}

fn raise(to: u32, from: u32) -> NextStep {
    if to > from { NextStep::Raise(to) } else { NextStep::Wait(None) }
}

#[cfg(test)]
mod tests {
    use super::Progress::{Behind, Done, Failing, Free};
    use super::*;

    fn second(at: u64) -> Time {
        Time::from_micros(at * 1_000_000)
    }

    fn seen(below: u32) -> Seen {
        Seen { below, since: second(0), ready: None }
    }

    fn step(rollout: &Rollout, places: &[Progress], at: u64, below: u32) -> NextStep {
        next_step(rollout, places, second(at), &mut seen(below))
    }

    #[test]
    fn frontier_goes_on_when_all_below_it_are_ready() {
        let two = Rollout { parallel: 2, ..Rollout::default() };
        assert_eq!(step(&two, &[Behind; 5], 0, 0), NextStep::Raise(2));
        let half = [Done, Behind, Behind, Behind, Behind];
        assert_eq!(step(&two, &half, 1, 2), NextStep::Wait(Some(second(600))));
        let first = [Done, Done, Behind, Behind, Behind];
        assert_eq!(step(&two, &first, 1, 2), NextStep::Raise(4));
        let four = [Done, Done, Done, Done, Behind];
        assert_eq!(step(&two, &four, 1, 4), NextStep::Raise(5));
        assert_eq!(step(&two, &[Done; 5], 1, 5), NextStep::Good);
        assert_eq!(step(&two, &[Done; 5], 1, 0), NextStep::Good, "a new workload");
    }

    #[test]
    fn new_replicas_stay_ready_for_a_time_first() {
        let slow = Rollout { min_ready: Duration::from_secs(10), ..Rollout::default() };
        let places = [Done, Behind];
        let mut seen = seen(1);
        let at = |at, seen: &mut Seen| next_step(&slow, &places, second(at), seen);
        assert_eq!(at(5, &mut seen), NextStep::Wait(Some(second(15))));
        assert_eq!(at(14, &mut seen), NextStep::Wait(Some(second(15))));
        let down = next_step(&slow, &[Behind, Behind], second(14), &mut seen);
        assert_eq!(down, NextStep::Wait(Some(second(600))), "it was not ready all the time");
        assert_eq!(at(15, &mut seen), NextStep::Wait(Some(second(25))));
        assert_eq!(at(25, &mut seen), NextStep::Raise(2));
    }

    #[test]
    fn canary_waits_for_a_person() {
        let canary = Rollout { canary: 2, ..Rollout::default() };
        assert_eq!(step(&canary, &[Behind; 4], 0, 0), NextStep::Raise(2));
        let places = [Done, Done, Behind, Behind];
        assert_eq!(step(&canary, &places, 0, 2), NextStep::Wait(None));
        assert_eq!(step(&Rollout::default(), &places, 0, 2), NextStep::Raise(3), "promoted");
    }

    #[test]
    fn update_fails_by_its_replicas_or_its_deadline() {
        let plain = Rollout::default();
        assert_eq!(step(&plain, &[Failing, Behind], 1, 1), NextStep::Failed);
        assert_eq!(step(&plain, &[Behind, Failing], 1, 1), NextStep::Wait(Some(second(600))));
        assert_eq!(step(&plain, &[Behind, Behind], 600, 1), NextStep::Failed);
        assert_eq!(step(&plain, &[Free, Behind], 600, 1), NextStep::Wait(None), "no room for it");
        let paused = Rollout { paused: true, ..Rollout::default() };
        assert_eq!(step(&paused, &[Behind, Behind], 600, 1), NextStep::Wait(None));
    }
}
