//! A token bucket of bytes.

use std::time::Duration;

use crate::model::Time;

/// A budget of bytes. It goes below zero by one message, then refills.
#[derive(Clone, Debug)]
pub(super) struct RateLimit {
    per_second: u64,
    burst: i64,
    tokens: i64,
    at: Time,
}

impl RateLimit {
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        let burst = i64::try_from(burst).unwrap_or(i64::MAX).max(1);
        RateLimit { per_second: per_second.max(1), burst, tokens: burst, at: Time::ZERO }
    }

    /// Whether something may be sent now.
    pub(super) fn is_ready(&mut self, now: Time) -> bool {
        let micros = now.since(self.at).as_micros();
        let earned = micros * u128::from(self.per_second) / 1_000_000;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        // Fractions of a byte keep accumulating.
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.at = now;
        }
        self.tokens > 0
    }

    /// `bytes` were sent.
    pub(super) fn take(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When [`RateLimit::is_ready`] will be true.
    pub(super) fn ready_at(&self) -> Time {
        if self.tokens > 0 {
            return self.at;
        }
        let missing = self.tokens.unsigned_abs() + 1;
        let micros = u128::from(missing) * 1_000_000 / u128::from(self.per_second) + 1;
        self.at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}
