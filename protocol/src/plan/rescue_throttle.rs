//! How fast an owner may move replicas. When most of a cluster vanishes at once, the likeliest
//! reason is the survivor's own network: moving everything in that second would crush it, moving
//! nothing would fail those who really lost their nodes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{NodeId, Time};

/// When and how moves are paced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RescueThrottleConfig {
    /// Losses within this time count as one. About the time in which a cut is noticed by all. Sane:
    /// 10 s.
    pub window: Duration,
    /// The least number of nodes lost at once that slows moves down. Of fewer, each loss is
    /// plausible. Sane: 3.
    pub at_least: usize,
    /// The time between two moves while paced. Sane: 200 ms, some five starts a second on one
    /// owner.
    pub move_every: Duration,
    /// How long after the last loss moves stay paced; by then the loss is real. Sane: 30 s.
    pub calm_after: Duration,
    /// After a node has returned, what others held that were lost before it is left where it is for
    /// so long: where one comes back, the others are about to. Sane: 2 s, in which all that are
    /// lost are dialled again.
    pub heal_after: Duration,
}

impl Default for RescueThrottleConfig {
    fn default() -> Self {
        RescueThrottleConfig {
            window: Duration::from_secs(10),
            at_least: 3,
            move_every: Duration::from_millis(200),
            calm_after: Duration::from_secs(30),
            heal_after: Duration::from_secs(2),
        }
    }
}

/// Losses that are remembered; more of them change nothing, over half is over half.
const MAX_LOST: usize = 1024;

/// Paces moves after a mass loss. The first move always goes at once, none is ever refused for
/// good.
#[derive(Clone, Debug)]
pub struct RescueThrottle {
    config: RescueThrottleConfig,
    /// With whether that was news.
    lost: VecDeque<(Time, NodeId, bool)>,
    throttled_until: Option<Time>,
    next_move_at: Time,
    /// When a node returned, first of some.
    healing_since: Option<Time>,
    /// Until when others are waited for, until that is over.
    healing_until: Option<Time>,
}

impl RescueThrottle {
    /// Not paced.
    pub fn new(config: RescueThrottleConfig) -> Self {
        RescueThrottle {
            config,
            lost: VecDeque::new(),
            throttled_until: None,
            next_move_at: Time::ZERO,
            healing_since: None,
            healing_until: None,
        }
    }

    /// A node was lost; `up` members are left, this one included. It is no news when it was lost
    /// long ago.
    pub fn lost(&mut self, now: Time, node: NodeId, up: usize, is_news: bool) {
        self.lost.retain(|(at, lost, _)| *lost != node && now.since(*at) <= self.config.calm_after);
        if self.lost.len() == MAX_LOST {
            self.lost.pop_front();
        }
        self.lost.push_back((now, node, is_news));
        let gone = self.lost.iter().filter(|(at, ..)| now.since(*at) <= self.config.window).count();
        if gone >= self.config.at_least && gone > up {
            self.throttled_until = Some(now + self.config.calm_after);
        }
    }

    /// A node that was lost can be reached again, and is about to return.
    pub fn reached(&mut self, now: Time) {
        // One that comes and goes all the time holds nobody up for longer.
        if self.healing_since.is_none_or(|since| now.since(since) > self.config.window) {
            self.healing_since = Some(now);
            self.healing_until = Some(now + self.config.heal_after);
        }
    }

    /// A node is back. When fewer than [`RescueThrottleConfig::at_least`] are still gone, the cut has healed.
    pub fn returned(&mut self, now: Time, node: &NodeId) {
        self.reached(now);
        self.lost.retain(|(_, lost, _)| lost != node);
        if self.lost.len() < self.config.at_least {
            self.throttled_until = None;
        }
    }

    /// Until when nodes return that were lost with this one; none if it was lost after the first of
    /// them, or the time is over. A loss of which one was only told may be an old one.
    pub fn may_return_until(&self, now: Time, holder: &NodeId) -> Option<Time> {
        self.heals_until(now).filter(|_| !self.is_lost_since(holder, false))
    }

    /// Whether a node was lost after the first of those returned, as far as is known.
    fn is_lost_since(&self, holder: &NodeId, is_told: bool) -> bool {
        let is_later = |at: &Time| Some(*at) >= self.healing_since;
        self.lost
            .iter()
            .any(|(at, lost, is_news)| lost == holder && (is_told || *is_news) && is_later(at))
    }

    /// Until when nodes return.
    pub fn heals_until(&self, now: Time) -> Option<Time> {
        self.healing_since.map(|since| since + self.config.heal_after).filter(|until| now < *until)
    }

    /// When nobody is waited for any more.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.healing_until
    }

    /// Whether that time has just come.
    pub fn end_healing(&mut self, now: Time) -> bool {
        self.healing_until.take_if(|until| *until <= now).is_some()
    }

    /// Whether moves are paced now.
    pub fn is_throttled(&self, now: Time) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
    }

    /// Asks to move one replica that this node held: yes, or when to ask again.
    pub fn take(&mut self, now: Time, holder: &NodeId) -> Result<(), Time> {
        // A loss that was told is acted on at once: it may be of this moment, and a rescue too much
        // is mended.
        if let Some(healed) = self.heals_until(now).filter(|_| !self.is_lost_since(holder, true)) {
            return Err(healed);
        }
        if !self.is_throttled(now) {
            self.next_move_at = now;
            return Ok(());
        }
        if now < self.next_move_at {
            return Err(self
                .throttled_until
                .map_or(self.next_move_at, |until| until.min(self.next_move_at)));
        }
        self.next_move_at = now + self.config.move_every;
        Ok(())
    }
}
