//! Deadlines, each with its reason, and small budgets of time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Time;

use super::fact::Reason;

/// At most one deadline a reason. Bounded by what the reasons speak of: rounds, awards, reservations, notices.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, Reason)>,
    by_reason: BTreeMap<Reason, Time>,
}

impl Timers {
    /// Sets the deadline for `reason`, in place of the one it had.
    pub(super) fn set(&mut self, reason: Reason, at: Time) {
        if let Some(before) = self.by_reason.insert(reason, at) {
            self.by_time.remove(&(before, reason));
        }
        self.by_time.insert((at, reason));
    }

    pub(super) fn cancel(&mut self, reason: Reason) {
        if let Some(at) = self.by_reason.remove(&reason) {
            self.by_time.remove(&(at, reason));
        }
    }

    pub(super) fn first(&self) -> Option<(Time, Reason)> {
        self.by_time.first().copied()
    }

    /// Takes the first deadline that is due.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Reason> {
        let (_, reason) = self.first().filter(|(at, _)| *at <= now)?;
        self.cancel(reason);
        Some(reason)
    }
}

/// A token bucket: a burst at once, then one a period.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    burst: u32,
    every: Duration,
    left: u32,
    filled_at: Time,
}

impl Bucket {
    /// Full.
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Bucket { burst, every, left: burst, filled_at: Time::ZERO }
    }

    /// Takes one, or tells when to come again.
    pub(super) fn take(&mut self, now: Time) -> Result<(), Time> {
        let periods = now.since(self.filled_at).as_micros() / self.every.as_micros().max(1);
        let gained = u32::try_from(periods).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(self.burst);
        if self.left == self.burst {
            self.filled_at = now;
        } else {
            self.filled_at = self.filled_at + self.every * gained;
        }
        if self.left == 0 {
            return Err(self.filled_at + self.every);
        }
        self.left -= 1;
        Ok(())
    }
}

/// Milliseconds for a message, rounded up.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}
