//! The hostile side of the mesh's port: it speaks the daemon's protocols, and breaks them.
//!
//! An attacker is one of three. **Anybody** has a TCP connection ([`connect`]). **A stranger** has
//! a key of its own and knows the cluster's id, so that it can complete a handshake
//! ([`Attacker::stranger`]). **A stolen member** has the key from the state folder of a daemon
//! ([`Attacker::stolen`]), and is let in like that daemon.
//!
//! Every wait has a limit, and every flood a number: an attack ends by itself.

mod attacker;
mod connection;
mod flood;
mod gossip;
mod link;
mod multistream;

pub use attacker::{Attacker, Target};
pub use connection::{Connection, Stream, connect};
pub use flood::Flood;
pub use gossip::Gossip;
pub use link::Link;

use std::time::Duration;

use anyhow::{Context, Result};

/// The longest wait for a daemon: far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits at most [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.with_context(|| format!("{what}: not within {} s", PATIENCE.as_secs()))
}
