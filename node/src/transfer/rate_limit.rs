//! A limit of bytes a second, shared by all transfers of one direction.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The burst after a rest, in time at the full rate: a small artifact is not slowed down at all.
const BURST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct RateLimit {
    /// Zero means no limit.
    bytes_per_second: u64,
    /// The time at which the rate has allowed all bytes taken so far.
    paid_until: Mutex<Instant>,
}

impl RateLimit {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        RateLimit { bytes_per_second, paid_until: Mutex::new(Instant::now()) }
    }

    /// Waits until the limit allows these bytes.
    pub(super) async fn take(&self, bytes: usize) {
        let wait = self.wait(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn wait(&self, bytes: usize, now: Instant) -> Duration {
        let Some(cost) =
            (bytes as u64).saturating_mul(1_000_000).checked_div(self.bytes_per_second)
        else {
            return Duration::ZERO;
        };
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now) + Duration::from_micros(cost);
        paid_until.saturating_duration_since(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small artifact passes at once, and a rest earns one burst only.
    #[test]
    fn burst_is_immediate_and_the_rest_is_limited() {
        let (limit, start) = (RateLimit::new(1_000_000), Instant::now());
        assert_eq!(limit.wait(250_000, start), Duration::ZERO);
        assert_eq!(limit.wait(500_000, start), Duration::from_millis(500));
        assert_eq!(limit.wait(500_000, start), Duration::from_secs(1));
        // After a rest there is one burst again, not two.
        let later = start + Duration::from_secs(60);
        assert_eq!(limit.wait(250_000, later), Duration::ZERO);
        assert_eq!(limit.wait(100_000, later), Duration::from_millis(100));
        assert_eq!(RateLimit::new(0).wait(usize::MAX, start), Duration::ZERO);
    }
}
