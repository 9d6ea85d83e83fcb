//! Real nodes: the `shoal` binary as child processes, driven as a user would drive them.

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

/// How long the harness waits for anything before it gives up: far above what a loaded two-core
/// machine needs, so that it is met only when something hangs.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks `look` again and again until it has an answer; an error after `TIMEOUT`, with what it said
/// last.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    // Short against what is waited for (milliseconds to seconds), long against what a look costs.
    eventually_within(TIMEOUT, Duration::from_millis(2), what, look)
}

/// The same with a patience of its own, and a pause between looks.
pub(crate) fn eventually_within<T>(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what} did not come about within {} s: {error:#}", patience.as_secs())
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
