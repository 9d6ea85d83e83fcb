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
const LEAST: Duration = Duration::from_millis(1);

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
    rests: BTreeMap<(Work, Digest), Time>,
    /// Something happened to them meanwhile. All of them rest.
    waiting: BTreeSet<(Work, Digest)>,
}

impl PlanningThrottle {
    /// Whether it is done now; if not, it comes back when it may be.
    pub fn may(&mut self, now: Time, work: Work, uid: Digest, replicas: u32) -> bool {
        let key = (work, uid);
        if self.rests.get(&key).is_some_and(|until| now < *until) {
            self.waiting.insert(key);
            return false;
        }
        self.waiting.remove(&key);
        let pause = PER_REPLICA * replicas;
        if pause >= LEAST {
            self.rests.insert(key, now + pause);
        } else {
            self.rests.remove(&key);
        }
        true
    }

    /// When the first of those that wait may be looked at again.
    pub fn due(&self) -> Option<Time> {
        self.waiting.iter().filter_map(|key| self.rests.get(key)).min().copied()
    }

    /// Those whose pause is over are forgotten; of them those that wait come back.
    fn resume(&mut self, now: Time) -> Vec<(Work, Digest)> {
        self.rests.retain(|_, until| now < *until);
        let rests = &self.rests;
        self.waiting.extract_if(.., |key| !rests.contains_key(key)).collect()
    }

    /// The workload is gone.
    pub fn forget(&mut self, uid: &Digest) {
        for work in [Work::Plan, Work::Routes] {
            self.rests.remove(&(work, *uid));
            self.waiting.remove(&(work, *uid));
        }
    }

    /// Workloads that rest, and those that wait.
    pub fn len(&self) -> (usize, usize) {
        (self.rests.len(), self.waiting.len())
    }
}

impl Node {
    /// What waited for its turn is due again.
    pub(super) fn resume_paced(&mut self, now: Time) {
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
        let mut pacing = PlanningThrottle::default();
        assert!(pacing.may(at(0), Work::Plan, UID, 3_000));
        assert_eq!(pacing.due(), None, "nothing waits");
        assert!((1..30).all(|millis| !pacing.may(at(millis), Work::Plan, UID, 3_000)));
        assert!(pacing.may(at(5), Work::Routes, UID, 3_000), "other work of it does not wait");
        assert_eq!(pacing.due(), Some(at(30)));
        assert_eq!(pacing.resume(at(29)), []);
        assert_eq!(pacing.resume(at(30)), [(Work::Plan, UID)]);
        assert!(pacing.may(at(30), Work::Plan, UID, 3_000));
    }

    /// A failover of a few replicas waits for nothing.
    #[test]
    fn small_workload_never_waits() {
        let mut pacing = PlanningThrottle::default();
        assert!((0..100).all(|_| pacing.may(at(0), Work::Plan, UID, 50)));
        assert_eq!((pacing.due(), pacing.len()), (None, (0, 0)));
    }

    #[test]
    fn removed_workload_is_forgotten() {
        let mut pacing = PlanningThrottle::default();
        pacing.may(at(0), Work::Plan, UID, 3_000);
        pacing.may(at(1), Work::Plan, UID, 3_000);
        pacing.forget(&UID);
        assert_eq!((pacing.due(), pacing.len()), (None, (0, 0)));
    }
}
