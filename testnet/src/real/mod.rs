//! Real nodes: the `shoal` binary as child processes, used as a user would use it.

mod api;
pub(crate) mod cleanup;
mod cluster;
mod daemon;
pub mod http;
pub(crate) mod resources;
pub mod traffic;

pub use api::{Api, held, shown};
pub use cleanup::leave_to_signal;
pub use cluster::{Cluster, Options};
pub use daemon::{Daemon, Place};

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The longest wait of the harness: far above what a loaded two-core machine needs, so that only a
/// hang exceeds it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Calls `look` until it succeeds; after [`TIMEOUT`] an error with its last failure.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    // Short against the usual waits (milliseconds to seconds), long against the cost of a look.
    eventually_within(TIMEOUT, Duration::from_millis(2), what, look)
}

/// As [`eventually`], with a time-out and a pause between two looks.
pub(crate) fn eventually_within<T>(
    timeout: Duration,
    pause: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what} did not come about within {} s: {error:#}", timeout.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}

/// A duration as people read it.
pub(crate) fn readable(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
