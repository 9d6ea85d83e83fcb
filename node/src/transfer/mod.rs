//! Transfers artifacts between nodes, until they are here, verified and ready to start.
//!
//! ```text
//!   driver ── fetch(artifact, candidates) ──▶ Inbox ──▶ a task for each fetch
//!      a fetch ── Mesh ──▶ candidate, the next one, ...
//!         └── chunks ──▶ Partial ──▶ ArtifactStore (SHA-256) ──▶ Runtime::prepare
//!   driver ◀── fetched(ready | unusable | failed) ── a fetch
//!   other nodes ── Mesh ──▶ serve ── ArtifactStore
//! ```
//!
//! **No unverified byte is started or passed on.** A broken transfer continues at its offset, with
//! the next candidate or after a restart. The core decides which nodes to ask and when to try
//! again; each fetch asks each candidate once.

mod exchange;
mod fetch;
pub(crate) mod fuzzing;
mod inbox;
mod pieces;
mod rate_limit;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::{Artifact, Digest, NodeId};
use shoal_protocol::node::FetchOutcome;
use shoal_runtimes::artifacts::ArtifactStore;
use tokio::task::JoinHandle;

use crate::driver::{Count, DriverHandle};
use crate::network::{Acceptor, Mesh, Moved};
use crate::runtimes::RuntimeSet;

pub use inbox::FetchSink;
use inbox::Inbox;
use rate_limit::RateLimit;

/// Bounds of transfers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferConfig {
    /// Fetches at once. More would share the same link; the rest wait.
    pub fetches: usize,
    /// Transfers to others at once; further requests are answered with "busy", so that the node
    /// asks another holder.
    pub serves: usize,
    /// Nodes at once that ask for pieces. Most wait for what is not here yet, so they may be more.
    pub askers: usize,
    /// Bytes a second in each direction, over all transfers, so that a large artifact leaves room
    /// for requests and probes.
    pub bytes_per_second: u64,
    /// How long a step may wait for the other side while nothing moves. A transfer that moves,
    /// however slowly, goes on.
    pub stall_timeout: Duration,
}

impl Default for TransferConfig {
    /// 4 fetches, 8 serves, 16 askers, 48 MiB a second, 10 s.
    fn default() -> Self {
        TransferConfig {
            fetches: 4,
            serves: 8,
            askers: 16,
            bytes_per_second: 48 << 20,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// How many times `stall_timeout` a step may take while something moves: the stream's connection
/// may be busy with other streams, and a peer that is silent on this one must not hold it for ever.
const MAX_STALL_CHECKS: u32 = 12;

/// Runs a step until it ends, or nothing moves for `stall_timeout`. The size of the step does not
/// matter: at 5 KB/s an encrypted frame of 64 KiB takes 13 seconds, and some of it arrives in each.
async fn unless_stalled<T>(
    stall_timeout: Duration,
    moved: &Moved,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut step = std::pin::pin!(step);
    let mut before = moved.bytes();
    for _ in 0..MAX_STALL_CHECKS {
        if let Ok(ended) = tokio::time::timeout(stall_timeout, step.as_mut()).await {
            return ended;
        }
        let now = moved.bytes();
        if now == before {
            break;
        }
        before = now;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("nothing moved for {} s", stall_timeout.as_secs()),
    ))
}

/// The user of the transfers, which is the core.
pub trait Client: Send + Sync + 'static {
    /// Takes the note that nodes gave an artifact, those that gave most of it first.
    fn received(&self, artifact: Artifact, from: Vec<NodeId>, took: Duration) -> BoxFuture<'_, ()>;
    /// Takes the outcome of a fetch.
    fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()>;
    /// The artifacts that must not be evicted to make room.
    fn pinned(&self) -> BoxFuture<'_, BTreeSet<Digest>>;
}

impl Client for DriverHandle {
    fn received(&self, artifact: Artifact, from: Vec<NodeId>, took: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A driver that has stopped has no readers.
            let _ = DriverHandle::received(self, artifact, from, took).await;
        })
    }

    fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A driver that has stopped needs no outcome.
            let _ = DriverHandle::fetched(self, digest, outcome).await;
        })
    }

    fn pinned(&self) -> BoxFuture<'_, BTreeSet<Digest>> {
        Box::pin(async move { self.query(|node| node.pinned()).await.unwrap_or_default() })
    }
}

/// Counters of transfers since the start.
#[derive(Debug, Default)]
struct Counters {
    bytes_fetched: AtomicU64,
    bytes_served: AtomicU64,
    fetched: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
}

/// The parts that transfers use.
pub struct Parts {
    /// The bounds of transfers.
    pub config: TransferConfig,
    /// Opens streams to other nodes.
    pub mesh: Arc<dyn Mesh>,
    /// Accepts artifact streams of other nodes.
    pub acceptor: Acceptor,
    /// Accepts streams of other nodes that ask for pieces.
    pub pieces: Acceptor,
    /// Stores artifacts.
    pub store: ArtifactStore,
    /// Prepares artifacts, by kind.
    pub runtimes: RuntimeSet,
    /// Takes outcomes, and names pinned artifacts.
    pub client: Arc<dyn Client>,
}

/// Transfers that have not started. Fetches are queued meanwhile: the driver needs its end before
/// transfers can have the driver's handle.
pub struct NotStarted {
    inbox: Inbox,
}

/// The driver's end, and the transfers to start.
pub fn transfer() -> (FetchSink, NotStarted) {
    let inbox = Inbox::default();
    (FetchSink(inbox.clone()), NotStarted { inbox })
}

/// The running transfers. Dropping this ends them; received bytes are kept for the next try.
pub struct Transfer {
    tasks: [JoinHandle<()>; 3],
    counters: Arc<Counters>,
}

impl NotStarted {
    /// Starts fetching and serving, on the current tokio runtime.
    pub fn start(self, parts: Parts) -> Transfer {
        let Parts { config, mesh, acceptor, pieces, store, runtimes, client } = parts;
        let counters = Arc::<Counters>::default();
        let serve = serve::Server::new(&config, store.clone(), counters.clone());
        let giving =
            pieces::Server::new(&config, store.clone(), serve.rate_limit.clone(), counters.clone());
        let fetcher = fetch::Fetcher {
            mesh,
            store,
            runtimes,
            client,
            rate_limit: RateLimit::new(config.bytes_per_second),
            stall_timeout: config.stall_timeout,
            counters: counters.clone(),
            forgers: fetch::Forgers::default(),
        };
        let fetching = tokio::spawn(fetch::run(self.inbox, Arc::new(fetcher), config.fetches));
        let serving = tokio::spawn(serve.run(acceptor));
        Transfer { tasks: [fetching, serving, tokio::spawn(giving.run(pieces))], counters }
    }
}

impl Transfer {
    /// The counters, for [`DriverHandle::count`].
    pub fn count(&self) -> Count {
        let counters = self.counters.clone();
        Box::new(move |all| {
            for (name, counter) in [
                ("artifact_bytes_fetched", &counters.bytes_fetched),
                ("artifact_bytes_served", &counters.bytes_served),
                ("artifact_fetches", &counters.fetched),
                ("artifact_fetches_failed", &counters.failed),
                ("artifact_serves_refused", &counters.busy),
            ] {
                all.insert(name.to_owned(), counter.load(Relaxed));
            }
        })
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
