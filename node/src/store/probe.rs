//! Whether a disk that failed takes writes again. Tried only while it is known not to, ever more
//! rarely, and with one small transaction, so that neither a flash nor a person's log is worn out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::file::{StateFile, StoreLocation};

/// The first wait before a look, and the longest.
const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A disk that fails again within this time after it recovered is looked at as rarely as before.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Bytes that must be free. Less is used up by the next few changes, and the node would come and
/// go.
const MIN_FREE: u64 = 1024 * 1024;

/// How long to wait before the next look.
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

/// Opens the file anew, checked as at a start, and writes to it. The error is for people.
pub(super) fn probe(location: &StoreLocation) -> Result<StateFile, String> {
    // Where that much is free and yet not for this user, the write below shows it.
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

    #[test]
    fn looks_get_rarer_up_to_half_a_minute() {
        let mut backoff = ProbeBackoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        // A disk that fails again at once is not looked at more often.
        backoff.recovered();
        assert_eq!(backoff.next().as_secs(), 30);
    }
}
