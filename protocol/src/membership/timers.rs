//! Deadlines, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeId, Time};

/// Why membership wants to be called. A spurious call is harmless: the handler looks at the state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Beat to the observers.
    Beat,
    /// A watched node should have been heard by now.
    Quiet(NodeId),
    /// Ask about a suspected node again, or judge it.
    Suspicion(NodeId),
    /// Dial, or give up a dial whose outcome was not reported.
    Dial(NodeId),
    /// Measure a link's round trip.
    Rtt(NodeId),
    /// A member has been unknown for long enough.
    Unknown(NodeId),
    /// A planned absence ends.
    BackBy(NodeId),
    /// Gossip that a member is down, unless another observer has.
    GossipDown(NodeId),
    /// A neighbour's view of who is down still differs.
    Repair(NodeId),
    /// Answer nodes that hold a newer record of this node, or hold it to be down.
    Reissue,
    /// Gossip this node's record again.
    Announce,
    /// Dial random members, while all neighbours are out of reach.
    Explore,
    /// A link kept on demand may be let go, or a surplus link is idle.
    OnDemand,
    /// The set of unreachable members may have to be announced anew.
    Unreachable,
}

/// At most one deadline a reason; a few reasons for each member.
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

    /// Removes and returns a reason that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<Reason> {
        let (at, reason) = self.next()?;
        if at > now {
            return None;
        }
        self.clear(reason);
        Some(reason)
    }
}
