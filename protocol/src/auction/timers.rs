//! Deadlines, each with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Time;

use super::fact::Reason;

/// At most one deadline per reason. Bounded by the things that reasons name: rounds, awards,
/// reservations, notices.
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

/// Milliseconds for a message, rounded up.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}
