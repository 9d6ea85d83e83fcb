//! The one task that owns the [`shoal_protocol::node::Node`]: inputs in, effects out, and nothing
//! decided here.
//!
//! ```text
//!   network ─┐                                  ┌─ network  send, dial, verdict
//!   store   ─┤   handle(now, input)             ├─ store    persist
//!   runtime ─┼─────────────────────▶ Node ──────┼─ runtime  orders, fetches
//!   API     ─┤   poll_effect()                  ├─ API      replies, events
//!   timer   ─┘                                  └─ timer    poll_timeout
//! ```
//!
//! **An effect that names a batch waits here until that batch is on disk; all others go out at
//! once**: a slow flash must not look like death to the neighbours.

mod clock;
mod effects;
mod events;
mod handle;
mod paths;
mod run;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use shoal_protocol::model::Facts;
use shoal_protocol::node::{Config, Node, Saved};
use shoal_protocol::trust::Invite;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::identity::{self, Identity, IdentityError};
use crate::network::{Inbox, Network};
use crate::store::Store;

pub use handle::{Count, DriverHandle, Fetches, Orders, Stopped};
pub use run::DriverError;

pub use clock::wall;

use clock::Alarm;
use effects::Effects;
use handle::Ends;
use run::Driver;

/// Answers of the store that may wait; the store's thread blocks until the driver takes them.
const ANSWERS: usize = 16;

/// The parts that a driver is made of.
pub struct Parts {
    /// The core's configuration. Its addresses are those where the network can be reached, or what
    /// the user advertises instead.
    pub config: Config,
    /// The node's keys and its cluster.
    pub identity: Identity,
    /// The invite with which it joins, while it is no member.
    pub invite: Option<Invite>,
    /// The state that was read from the store.
    pub saved: Saved,
    /// The device's facts.
    pub facts: Facts,
    /// The store, open.
    pub store: Store,
    /// The network, listening.
    pub network: Network,
    /// The network's inputs.
    pub inbox: Inbox,
    /// Takes orders to the runtimes.
    pub orders: Box<dyn Orders>,
    /// Takes fetches of artifacts.
    pub fetches: Box<dyn Fetches>,
}

/// Why the driver did not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the system gives no {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// A driver that does not run yet. Its handle exists already, because its parts need the handle.
pub struct Idle {
    handle: DriverHandle,
    ends: Ends,
}

/// A handle, and the driver that will answer it.
pub fn driver() -> (DriverHandle, Idle) {
    let (handle, ends) = handle::handle();
    (handle.clone(), Idle { handle, ends })
}

impl Idle {
    /// Starts the driver on the current tokio runtime. It ends when it was asked to stop and the
    /// network has stopped after that, or with an error that the node cannot survive.
    pub fn start(self, parts: Parts) -> Result<JoinHandle<Result<(), DriverError>>, StartError> {
        let Parts {
            config,
            identity,
            invite,
            saved,
            facts,
            store,
            network,
            inbox,
            orders,
            fetches,
        } = parts;
        let system = |what| move |source| StartError::System { what, source };
        let (answers_in, answers) = mpsc::channel(ANSWERS);
        let store = store.start(answers_in).map_err(system("thread for the store"))?;
        let alarm = Alarm::new().map_err(system("timer"))?;
        let seed = identity::random()?;
        let now = clock::now();
        let node = Node::new(
            config,
            identity.for_core(invite.as_ref()),
            saved,
            facts,
            clock::wall(),
            seed,
            now,
        );
        self.handle.count(Box::new(network.handshake_counters()));
        let (net, disk) = (network.counters().clone(), store.counters().clone());
        self.handle.count(Box::new(move |all| {
            net.report(all);
            all.insert("disk_commits".into(), disk.commits.load(Relaxed));
            all.insert("disk_bytes".into(), disk.bytes.load(Relaxed));
            all.insert("disk_syncs".into(), disk.syncs.load(Relaxed));
        }));
        network.set_directory(Arc::new(self.handle));
        let effects = Effects::new(network, store, orders, fetches, self.ends.events.clone());
        let driver = Driver::new(node, effects, answers, self.ends, inbox, alarm, now);
        Ok(tokio::spawn(driver.run()))
    }
}
