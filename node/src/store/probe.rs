//! Probes whether a failed disk takes writes again: only after a failure, ever more rarely, and
//! with one small transaction, so that neither the flash wears out nor the log fills.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::file::{StateFile, StoreLocation};

/// The first and the longest wait before a probe.
const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// If a disk fails again within this time after it recovered, the wait stays as long as before.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Bytes that must be free. The next few changes would use up less, and the node would fail again.
const MIN_FREE: u64 = 1024 * 1024;

/// The wait before the next probe.
#[derive(Debug, Default)]
pub(super) struct ProbeBackoff {
    probes: u32,
    recovered_at: Option<Instant>,
}

impl ProbeBackoff {
    pub(super) fn next(&mut self) -> Duration {
        if self.recovered_at.take().is_some_and(|at| at.elapsed() >= STABLE_AFTER) {
            self.probes = 0;
        }
        let wait = PROBE_AFTER.0.saturating_mul(1 << self.probes.min(5)).min(PROBE_AFTER.1);
        self.probes = self.probes.saturating_add(1);
        wait
    }

    pub(super) fn recovered(&mut self) {
        self.recovered_at = Some(Instant::now());
    }
}

/// Opens the file again, checked as at a start, and writes to it. The error is text for people.
pub(super) fn probe(location: &StoreLocation) -> Result<StateFile, String> {
    // Space that is free but not for this user is found by the write below.
    if let Ok(stat) = rustix::fs::statvfs(&location.folder)
        && stat.f_bfree.saturating_mul(stat.f_frsize) < MIN_FREE
    {
        return Err(format!("less than {} MiB is free", MIN_FREE >> 20));
    }
    let (file, _) = StateFile::open(location).map_err(|error| error.to_string())?;
    catch_unwind(AssertUnwindSafe(|| file.commit(&BTreeMap::new())))
        .unwrap_or_else(|_| Err("the store met a state that should not be".into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probing must wear out neither the flash nor the log.
    #[test]
    fn probes_back_off_to_half_a_minute() {
        let mut backoff = ProbeBackoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        // A disk that fails again at once is not probed more often.
        backoff.recovered();
        assert_eq!(backoff.next().as_secs(), 30);
    }
}
