//! Artifacts from node to node, until they are here, verified and ready to start.
//!
//! ```text
//!   driver ── fetch(artifact, candidates) ──▶ Inbox ──▶ one task a fetch ── Mesh ──▶ candidate, the next one, ...
//!                                                          │ chunks ──▶ Partial ──▶ ArtifactStore (SHA-256)
//!   driver ◀── fetched(ready | unusable | failed) ◀────────┴─ Runtime::prepare
//!   other nodes ── Mesh ──▶ serve ── ArtifactStore
//! ```
//!
//! **No byte that was not verified is started or passed on.** A transfer that breaks off goes on
//! where it was, with the next candidate, or after a restart. The core decides whom to ask and when
//! to try again; here each candidate is asked once.

mod exchange;
mod fetch;
mod inbox;
mod rate_limit;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::{Digest, RuntimeKind};
use shoal_protocol::node::FetchOutcome;
use shoal_runtimes::Runtime;
use shoal_runtimes::artifacts::ArtifactStore;
use tokio::task::JoinHandle;

use crate::driver::{Count, DriverHandle};
use crate::network::{Acceptor, Mesh, Moved};

pub use inbox::FetchSink;
use inbox::Inbox;
use rate_limit::RateLimit;

/// Bounds of transfers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferConfig {
    /// Fetches at once. More would share the same link; the rest waits.
    pub fetches: usize,
    /// Transfers to others at once; whoever comes above is told to ask somebody else.
    pub serves: usize,
    /// Bytes a second in each direction, over all transfers, so that a large artifact leaves room
    /// for requests and probes.
    pub bytes_per_second: u64,
    /// How long nothing at all may move while the other side is waited for: to ask or to answer, to
    /// send bytes or to take them. A transfer that moves, however slowly, is not given up.
    pub stall_timeout: Duration,
}

impl Default for TransferConfig {
    /// 4 in, 8 out, 48 MiB a second, 10 s.
    fn default() -> Self {
        TransferConfig {
            fetches: 4,
            serves: 8,
            bytes_per_second: 48 << 20,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// Times that a step may use up its patience while something moves: the stream's way may be busy
/// with other streams, and a peer that sends nothing on this one shall not hold it for ever.
const MAX_STALL_CHECKS: u32 = 12;

/// Gives up a step during which nothing moves for `stall_timeout`. The size of a step does not count: at
/// 5 KB/s one encrypted frame of 64 KiB takes 13 seconds, of which each brings some of it.
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

/// Whom transfers work for.
pub trait Client: Send + Sync + 'static {
    /// How a fetch ended.
    fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()>;
    /// What must not be evicted to make room.
    fn pinned(&self) -> BoxFuture<'_, BTreeSet<Digest>>;
}

impl Client for DriverHandle {
    fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A driver that has stopped wants nothing.
            let _ = DriverHandle::fetched(self, digest, outcome).await;
        })
    }

    fn pinned(&self) -> BoxFuture<'_, BTreeSet<Digest>> {
        Box::pin(async move { self.query(|node| node.pinned()).await.unwrap_or_default() })
    }
}

/// What was transferred since the start.
#[derive(Debug, Default)]
struct Counters {
    bytes_fetched: AtomicU64,
    bytes_served: AtomicU64,
    fetched: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
}

/// What transfers need.
pub struct Parts {
    /// Bounds.
    pub config: TransferConfig,
    /// How other nodes are reached.
    pub mesh: Arc<dyn Mesh>,
    /// The artifact streams that others open.
    pub acceptor: Acceptor,
    /// Where artifacts lie.
    pub store: ArtifactStore,
    /// What makes them ready to start.
    pub runtimes: BTreeMap<RuntimeKind, Arc<dyn Runtime>>,
    /// Whom to tell.
    pub client: Arc<dyn Client>,
}

/// Fetches are noted before transfers run: the driver needs this end before transfers can have the
/// driver's.
pub struct Waiting {
    inbox: Inbox,
}

/// The two ends.
pub fn transfer() -> (FetchSink, Waiting) {
    let inbox = Inbox::default();
    (FetchSink(inbox.clone()), Waiting { inbox })
}

/// The running transfers. Dropping this ends them; what came so far is kept for the next time.
pub struct Transfer {
    tasks: [JoinHandle<()>; 2],
    counters: Arc<Counters>,
}

impl Waiting {
    /// Starts to fetch and to serve, on the current tokio runtime.
    pub fn start(self, parts: Parts) -> Transfer {
        let Parts { config, mesh, acceptor, store, runtimes, client } = parts;
        let counters = Arc::<Counters>::default();
        let serve = serve::Server::new(&config, store.clone(), counters.clone());
        let fetcher = fetch::Fetcher {
            mesh,
            store,
            runtimes,
            client,
            rate_limit: RateLimit::new(config.bytes_per_second),
            stall_timeout: config.stall_timeout,
            counters: counters.clone(),
        };
        let fetching = tokio::spawn(fetch::run(self.inbox, Arc::new(fetcher), config.fetches));
        Transfer { tasks: [fetching, tokio::spawn(serve.run(acceptor))], counters }
    }
}

impl Transfer {
    /// For [`DriverHandle::count`].
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
