//! A limit for how often something may be done.

use std::time::Duration;

use super::time::Time;

/// A token bucket: a burst at once, then one per period.
#[derive(Clone, Debug)]
pub struct Bucket {
    burst: u32,
    every: Duration,
    left: u32,
    filled_at: Time,
}

impl Bucket {
    /// A full bucket, of `burst` tokens; one more every `every`.
    pub fn new(burst: u32, every: Duration) -> Self {
        Bucket { burst, every, left: burst, filled_at: Time::ZERO }
    }

    /// Takes one token, or returns the time of the next one.
    pub fn take(&mut self, now: Time) -> Result<(), Time> {
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
