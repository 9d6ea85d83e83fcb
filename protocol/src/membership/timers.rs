//! Deadlines, each with its name.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeId, Time};

/// Why this room wants to be called. A call that comes for nothing is harmless: the state is looked
/// at anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Show the observers that we live.
    Beat,
    /// A node we watch should have been heard by then.
    Quiet(NodeId),
    /// Ask about a node in doubt again, or judge it.
    Suspicion(NodeId),
    /// Dial, or give up on a dial whose outcome nobody told.
    Dial(NodeId),
    /// Measure a link's round trip.
    Rtt(NodeId),
    /// A member has been unknown for long enough.
    Unknown(NodeId),
    /// A planned absence ends.
    BackBy(NodeId),
    /// Gossip a fall, if those before us in line have not.
    GossipDown(NodeId),
    /// A neighbour's view of who is down still differs.
    Repair(NodeId),
    /// Answer those who know a newer record of ours, or hold us down.
    Reissue,
    /// Tell those far away that we are here.
    Announce,
    /// Look for others, where nearly all members are out of reach.
    Explore,
    /// A link that was kept for some business may be let go.
    OnDemand,
    /// Others may have to be told of members without a way.
    Unreachable,
}

/// One deadline a reason. Bounded by the reasons: a few for each member.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, Reason)>,
    by_reason: BTreeMap<Reason, Time>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, reason: Reason, at: Time) {
        self.clear(reason);
        self.by_time.insert((at, reason));
        self.by_reason.insert(reason, at);
    }

    /// Sets a deadline, or moves it forward if it is later than `at`.
    pub fn set_by(&mut self, reason: Reason, at: Time) {
        if self.by_reason.get(&reason).is_none_or(|set| *set > at) {
            self.set(reason, at);
        }
    }

    pub fn clear(&mut self, reason: Reason) {
        if let Some(at) = self.by_reason.remove(&reason) {
            self.by_time.remove(&(at, reason));
        }
    }

    pub fn len(&self) -> usize {
        self.by_reason.len().max(self.by_time.len())
    }

    pub fn is_set(&self, reason: Reason) -> bool {
        self.by_reason.contains_key(&reason)
    }

    pub fn next(&self) -> Option<(Time, Reason)> {
        self.by_time.first().copied()
    }

    /// Takes one that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<Reason> {
        let (at, reason) = self.next()?;
        if at > now {
            return None;
        }
        self.clear(reason);
        Some(reason)
    }
}
