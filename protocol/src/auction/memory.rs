//! The memory of an owner from one auction to the next: recent answers, failures, and the counters
//! of its tokens.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Decline, Digest, NodeId, Queue, ReplicaId, Time, Unfit};

use super::config::Config;
use super::cooling::doubled;
use super::summary::NoBid;

/// Remembered answers. A cache: if it is full of valid ones, it starts again empty.
const MAX_REMEMBERED: usize = 8_192;
/// Workloads whose failed auctions are counted; a cache, too.
const MAX_FAILED: usize = 4_096;
/// Remembered counters; beyond it the oldest is forgotten, whose award is long claimed or void.
const MAX_DRAWN: usize = 16_384;

/// Recent answers of nodes without a bid, each with the time until which it counts; and failed
/// auctions.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    refusals: BTreeMap<(Digest, Digest, NodeId), (Time, NoBid)>,
    failed: BTreeMap<Digest, u32>,
}

impl Memory {
    pub(super) fn remember(
        &mut self,
        config: &Config,
        now: Time,
        what: (Digest, Digest),
        node: NodeId,
        why: &NoBid,
    ) {
        let Some(wait) = remember_for(config, why) else { return };
        if self.refusals.len() >= MAX_REMEMBERED {
            self.refusals.retain(|_, (until, _)| now < *until);
        }
        if self.refusals.len() >= MAX_REMEMBERED {
            self.refusals.clear();
        }
        self.refusals.insert((what.0, what.1, node), (now + wait, why.clone()));
    }

    /// Forgets all answers of a node.
    pub(super) fn forget_answers(&mut self, node: NodeId) {
        self.refusals.retain(|(_, _, of), _| *of != node);
    }

    /// Forgets that a node had no room.
    pub(super) fn forget_no_room(&mut self, what: (Digest, Digest), node: NodeId) {
        let key = (what.0, what.1, node);
        let had_none = |(_, why): &(Time, NoBid)| {
            matches!(
                why,
                NoBid::Declined(
                    Decline::NoRoom { .. } | Decline::PortTaken { .. } | Decline::Taken { .. }
                )
            )
        };
        if self.refusals.get(&key).is_some_and(had_none) {
            self.refusals.remove(&key);
        }
    }

    /// The recent answer of `node` about this generation of this workload.
    pub(super) fn recent_answer(
        &self,
        now: Time,
        what: (Digest, Digest),
        node: NodeId,
    ) -> Option<&NoBid> {
        self.refusals
            .get(&(what.0, what.1, node))
            .filter(|(until, _)| now < *until)
            .map(|(_, why)| why)
    }

    /// No node took it: the wait before another try.
    pub(super) fn failed(&mut self, config: &Config, uid: Digest) -> Duration {
        if self.failed.len() >= MAX_FAILED && !self.failed.contains_key(&uid) {
            self.failed.clear();
        }
        let times = self.failed.entry(uid).or_default();
        let wait = doubled(config.retry_at_least, *times, config.retry_at_most);
        *times += 1;
        wait
    }

    pub(super) fn queues(&self) -> [Queue; 2] {
        [
            Queue::new("refusals remembered", self.refusals.len(), MAX_REMEMBERED),
            Queue::new("failed workloads remembered", self.failed.len(), MAX_FAILED),
        ]
    }

    pub(super) fn succeeded(&mut self, uid: &Digest) {
        self.failed.remove(uid);
    }
}

/// How long an answer counts: only one that is about the node and the workload, not about a place
/// or a moment.
fn remember_for(config: &Config, why: &NoBid) -> Option<Duration> {
    match why {
        NoBid::Declined(Decline::Unfit(Unfit::Rule(rule))) if rule.is_measured() => {
            Some(config.remember_no_room)
        }
        // Other replicas come and go.
        NoBid::Declined(Decline::Unfit(Unfit::Near(_) | Unfit::Apart(_))) => {
            Some(config.remember_no_room)
        }
        NoBid::Declined(Decline::Unfit(_)) => Some(config.remember_unfit),
        NoBid::Declined(
            Decline::NoRoom { .. }
            | Decline::PortTaken { .. }
            | Decline::Taken { .. }
            | Decline::DiskFull { .. }
            | Decline::ReadOnly
            | Decline::Leaving,
        ) => Some(config.remember_no_room),
        NoBid::Silent | NoBid::Refused => Some(config.remember_silent),
        NoBid::Declined(
            Decline::Busy { .. }
            | Decline::NotInStep { .. }
            | Decline::Cooling { .. }
            | Decline::Holds
            // It is asked again once it has made room.
            | Decline::Evictable { .. },
        )
        | NoBid::Down
        | NoBid::Taken => None,
    }
}

/// The counters of this node's tokens. None is used twice, whatever became of its award.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenCounters {
    counters: BTreeMap<ReplicaId, u64>,
    /// Replicas in the order of their first counters.
    order: VecDeque<ReplicaId>,
}

impl TokenCounters {
    /// A counter of at least `least`, and above every one drawn before.
    pub(super) fn draw(&mut self, replica: ReplicaId, least: u64) -> u64 {
        let counter =
            self.counters.get(&replica).map_or(least, |drawn| least.max(drawn.saturating_add(1)));
        self.raise(replica, counter);
        counter
    }

    pub(super) fn queue(&self) -> Queue {
        Queue::new("counters drawn", self.counters.len().max(self.order.len()), MAX_DRAWN)
    }

    /// A bidder has seen this counter: the next one is above it.
    pub(super) fn raise(&mut self, replica: ReplicaId, seen: u64) {
        match self.counters.get_mut(&replica) {
            Some(drawn) => *drawn = (*drawn).max(seen),
            None => {
                if self.order.len() >= MAX_DRAWN
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.counters.remove(&oldest);
                }
                self.order.push_back(replica);
                self.counters.insert(replica, seen);
            }
        }
    }
}
