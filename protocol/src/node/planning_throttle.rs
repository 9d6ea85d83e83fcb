//! How often that is done which costs as much as a workload has replicas: looking for its gaps,
//! drawing its routes. Each of a thousand replicas that start in one second is news of the
//! workload; to look at all of them each time would be a million looks.
//!
//! After each look the next waits for as long as some looks of this size take. Of a workload of
//! some dozen replicas that is nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Digest, Time};

use super::Node;

/// The pause after a look, for each replica: some ten times what a look at it costs a small
/// computer.
const PER_REPLICA: Duration = Duration::from_micros(10);
/// Pauses below this are none.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// What is paced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Work {
    /// Looking for a workload's gaps.
    Plan,
    /// Drawing its routes.
    Routes,
}

/// Large workloads that were looked at a moment ago. At most two entries a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanningThrottle {
    /// Not before then again.
    not_before: BTreeMap<(Work, Digest), Time>,
    /// Something happened to them meanwhile. All of them rest.
    waiting: BTreeSet<(Work, Digest)>,
}

impl PlanningThrottle {
    /// Whether it is done now; if not, it comes back when it may be.
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

    /// When the first of those that wait may be looked at again.
    pub fn due(&self) -> Option<Time> {
        self.waiting.iter().filter_map(|key| self.not_before.get(key)).min().copied()
    }

    /// Those whose pause is over are forgotten; of them those that wait come back.
    fn resume(&mut self, now: Time) -> Vec<(Work, Digest)> {
        self.not_before.retain(|_, until| now < *until);
        let not_before = &self.not_before;
        self.waiting.extract_if(.., |key| !not_before.contains_key(key)).collect()
    }

    /// The workload is gone.
    pub fn forget(&mut self, uid: &Digest) {
        for work in [Work::Plan, Work::Routes] {
            self.not_before.remove(&(work, *uid));
            self.waiting.remove(&(work, *uid));
        }
    }

    /// Workloads that rest, and those that wait.
    pub fn len(&self) -> (usize, usize) {
        (self.not_before.len(), self.waiting.len())
    }
}

impl Node {
    /// What waited for its turn is due again.
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

    /// The first look is at once; what happens meanwhile is looked at together, when the pause is
    /// over.
    #[test]
    fn large_workload_rests_between_looks() {
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

    /// A failover of a few replicas waits for nothing.
    #[test]
    fn small_workload_never_waits() {
        let mut throttle = PlanningThrottle::default();
        assert!((0..100).all(|_| throttle.may_run(at(0), Work::Plan, UID, 50)));
        assert_eq!((throttle.due(), throttle.len()), (None, (0, 0)));
    }

    #[test]
    fn removed_workload_is_forgotten() {
        let mut throttle = PlanningThrottle::default();
        throttle.may_run(at(0), Work::Plan, UID, 3_000);
        throttle.may_run(at(1), Work::Plan, UID, 3_000);
        throttle.forget(&UID);
        assert_eq!((throttle.due(), throttle.len()), (None, (0, 0)));
    }
}
