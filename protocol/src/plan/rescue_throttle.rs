//! How fast an owner may move replicas of lost nodes. When most of a cluster is lost at once, the
//! likeliest reason is this node's own network: to move every replica in that second would overload
//! the node, to move none would fail users who really lost their nodes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{NodeId, Time};

/// Bounds and pauses of the throttle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RescueThrottleConfig {
    /// Losses within this time count as one loss: about the time in which all nodes notice a cut.
    /// Sane: 10 s.
    pub window: Duration,
    /// The least number of nodes lost at once that throttles moves; the loss of fewer is plausible.
    /// Sane: 3.
    pub at_least: usize,
    /// The pause between two throttled moves. Sane: 200 ms, five starts a second on one owner.
    pub move_every: Duration,
    /// The time after the last loss for which moves stay throttled; after it the loss is real.
    /// Sane: 30 s.
    pub calm_after: Duration,
    /// The time after a node's return for which replicas of nodes that were lost before it are not
    /// moved, because those are likely to return, too. Sane: 2 s, in which all lost nodes are
    /// dialled again.
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

/// Remembered losses; beyond it the oldest is forgotten. Enough to recognise the loss of most of
/// two thousand nodes.
const MAX_LOST: usize = 1024;

/// Throttles moves after the loss of most nodes. The first move goes at once, and none is refused
/// for good.
#[derive(Clone, Debug)]
pub struct RescueThrottle {
    config: RescueThrottleConfig,
    /// When a node was lost, and whether the loss was just observed; otherwise it may be an old
    /// one.
    lost: VecDeque<(Time, NodeId, bool)>,
    throttled_until: Option<Time>,
    next_move_at: Time,
    /// When the first node of a heal window returned.
    healing_since: Option<Time>,
    /// The end of the heal window, until `end_healing` has taken it.
    healing_until: Option<Time>,
}

impl RescueThrottle {
    /// A throttle that lets all moves pass.
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

    /// A node was lost; `up` members are left, this one included. `is_news` is false for a loss
    /// that may be an old one.
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
        // A node that comes and goes all the time does not prolong the window.
        if self.healing_since.is_none_or(|since| now.since(since) > self.config.window) {
            self.healing_since = Some(now);
            self.healing_until = Some(now + self.config.heal_after);
        }
    }

    /// A node is back. When fewer than [`RescueThrottleConfig::at_least`] nodes are still lost, the
    /// cut has healed.
    pub fn returned(&mut self, now: Time, node: &NodeId) {
        self.reached(now);
        self.lost.retain(|(_, lost, _)| lost != node);
        if self.lost.len() < self.config.at_least {
            self.throttled_until = None;
        }
    }

    /// The end of the heal window, for a holder that was lost before the window began and so may
    /// return in it. A loss that is no news may be an old one, so its holder may return, too.
    pub fn may_return_until(&self, now: Time, holder: &NodeId) -> Option<Time> {
        self.heals_until(now).filter(|_| !self.is_lost_since(holder, false))
    }

    /// Whether a node was lost after the heal window began; with `counts_old` also by a loss that
    /// may be an old one.
    fn is_lost_since(&self, holder: &NodeId, counts_old: bool) -> bool {
        let is_later = |at: &Time| Some(*at) >= self.healing_since;
        self.lost
            .iter()
            .any(|(at, lost, is_news)| lost == holder && (counts_old || *is_news) && is_later(at))
    }

    /// The end of the heal window, while it lasts.
    pub fn heals_until(&self, now: Time) -> Option<Time> {
        self.healing_since.map(|since| since + self.config.heal_after).filter(|until| now < *until)
    }

    /// The time when [`RescueThrottle::end_healing`] has something.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.healing_until
    }

    /// Whether a heal window has just ended.
    pub fn end_healing(&mut self, now: Time) -> bool {
        self.healing_until.take_if(|until| *until <= now).is_some()
    }

    /// Whether moves are throttled now.
    pub fn is_throttled(&self, now: Time) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
    }

    /// Asks to move one replica that `holder` held: yes, or when to ask again.
    pub fn take(&mut self, now: Time, holder: &NodeId) -> Result<(), Time> {
        // A loss that is no news is acted on at once: it may have happened just now, and a needless
        // rescue is mended later.
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
