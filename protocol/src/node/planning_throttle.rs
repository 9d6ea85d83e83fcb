//! Limits how often work is done whose cost grows with the replicas of a workload: planning it, and
//! updating its routes. A thousand replicas that start in one second are a thousand changes of the
//! workload; planning all places after each of them would be a million steps.
//!
//! After each run, the next one of the same workload waits for a multiple of the time that a run
//! takes. For a workload of some dozen replicas that is nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Digest, Time};

use super::Node;

/// The pause after a run, for each replica: some ten times the cost of a replica on a small
/// computer.
const PER_REPLICA: Duration = Duration::from_micros(10);
/// A shorter pause is left out.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// The kinds of throttled work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Work {
    /// Planning a workload.
    Plan,
    /// Updating its routes.
    Routes,
}

/// Large workloads with a recent run. At most two entries a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanningThrottle {
    /// The earliest time of the next run.
    not_before: BTreeMap<(Work, Digest), Time>,
    /// Runs that were asked for during the pause. Each has an entry in `not_before`.
    waiting: BTreeSet<(Work, Digest)>,
}

impl PlanningThrottle {
    /// Whether the work may run now, which starts its pause. If not, `resume` returns it after the
    /// pause.
    pub fn may_run(&mut self, now: Time, work: Work, uid: Digest, replicas: u32) -> bool {
        let key = (work, uid);
        if self.not_before.get(&key).is_some_and(|until| now < *until) {
            self.waiting.insert(key);
            return false;
        }
        self.waiting.remove(&key);
        let pause = PER_REPLICA * replicas;
        if pause >= MIN_PAUSE {
            self.not_before.insert(key, now + pause);
        } else {
            self.not_before.remove(&key);
        }
        true
    }

    /// The end of the first pause that work waits for.
    pub fn due(&self) -> Option<Time> {
        self.waiting.iter().filter_map(|key| self.not_before.get(key)).min().copied()
    }

    /// Ends pauses that are over, and returns the work that waited for them.
    fn resume(&mut self, now: Time) -> Vec<(Work, Digest)> {
        self.not_before.retain(|_, until| now < *until);
        let not_before = &self.not_before;
        self.waiting.extract_if(.., |key| !not_before.contains_key(key)).collect()
    }

    /// A workload was removed.
    pub fn forget(&mut self, uid: &Digest) {
        for work in [Work::Plan, Work::Routes] {
            self.not_before.remove(&(work, *uid));
            self.waiting.remove(&(work, *uid));
        }
    }

    /// The numbers of pauses and of waiting work.
    pub fn len(&self) -> (usize, usize) {
        (self.not_before.len(), self.waiting.len())
    }
}

impl Node {
    /// Makes work due whose pause is over.
    pub(super) fn resume_throttled(&mut self, now: Time) {
        for (work, uid) in self.planning.throttle.resume(now) {
            match work {
                Work::Plan => _ = self.due.dirty.insert(uid),
                Work::Routes => self.reroute([uid]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: Digest = Digest([1; 32]);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(1_000 + millis)
    }

    /// The first run is at once. Changes during the pause share one run at its end.
    #[test]
    fn large_workload_pauses_between_runs() {
        let mut throttle = PlanningThrottle::default();
        assert!(throttle.may_run(at(0), Work::Plan, UID, 3_000));
        assert_eq!(throttle.due(), None, "nothing waits");
        assert!((1..30).all(|millis| !throttle.may_run(at(millis), Work::Plan, UID, 3_000)));
        assert!(
            throttle.may_run(at(5), Work::Routes, UID, 3_000),
            "other work of it does not wait"
        );
        assert_eq!(throttle.due(), Some(at(30)));
        assert_eq!(throttle.resume(at(29)), []);
        assert_eq!(throttle.resume(at(30)), [(Work::Plan, UID)]);
        assert!(throttle.may_run(at(30), Work::Plan, UID, 3_000));
    }

    /// A failover of a few replicas must not be delayed.
    #[test]
    fn small_workload_never_waits() {
        let mut throttle = PlanningThrottle::default();
        assert!((0..100).all(|_| throttle.may_run(at(0), Work::Plan, UID, 50)));
        assert_eq!((throttle.due(), throttle.len()), (None, (0, 0)));
    }

    /// The throttle holds entries of existing workloads only, or it would grow for ever.
    #[test]
    fn removed_workload_is_forgotten() {
        let mut throttle = PlanningThrottle::default();
        throttle.may_run(at(0), Work::Plan, UID, 3_000);
        throttle.may_run(at(1), Work::Plan, UID, 3_000);
        throttle.forget(&UID);
        assert_eq!((throttle.due(), throttle.len()), (None, (0, 0)));
    }
}
