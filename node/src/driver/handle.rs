//! The driver's handle: it can be cloned, and never touches the node from another task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::spec::Pieces;
use shoal_protocol::model::view::EventView;
use shoal_protocol::model::{
    Artifact, Digest, Facts, Load, NodeId, ProgramKind, ReplicaId, WorkloadName,
};
use shoal_protocol::node::{
    Command, FetchOutcome, Node, Order, Reachability, Reply, Report, Routes,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::history::Trail;
use crate::network::Directory;

use super::events::Events;
use super::paths::Paths;

/// Requests that may wait for the driver, which takes them between inputs. Above this bound the
/// callers wait.
const REQUESTS: usize = 256;
/// Reports of the executor and the transfer that may wait for the driver.
const NOTICES: usize = 256;

/// The driver has stopped, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node is stopping")]
pub struct Stopped;

/// Takes orders to the runtimes. Called on the driver's task, so it must return at once: store the
/// order and wake the executor. Only the latest order for a replica counts, and one that starts its
/// old version again, so the number of stored orders is bounded by the number of replicas.
pub trait Orders: Send + 'static {
    /// Stores an order for the executor.
    fn order(&mut self, order: Order);
}

/// Takes fetches. Called on the driver's task, so it must return at once. The outcome comes by
/// [`DriverHandle::fetched`].
pub trait Fetches: Send + 'static {
    /// Stores a fetch; a fetch under way for the same artifact gets the new candidates.
    fn fetch(
        &mut self,
        artifact: Artifact,
        pieces: Option<Pieces>,
        runtime: ProgramKind,
        candidates: Vec<NodeId>,
    );
}

type Look = Box<dyn FnOnce(&Node) + Send>;

pub(super) enum Request {
    Command { command: Box<Command>, reply: oneshot::Sender<Reply> },
    Query(Look),
    Stop { back_in: Duration, done: oneshot::Sender<()> },
}

pub(super) enum Notice {
    Report(Report),
    Measured(Vec<(ReplicaId, Load)>),
    Wished(WorkloadName),
    Facts(Facts),
    FactsNoted { is_warning: bool, message: String },
    Received { artifact: Artifact, from: Vec<NodeId>, took: Duration },
    Fetched { digest: Digest, outcome: FetchOutcome },
}

/// Adds the counters of one part of the daemon to the map.
pub type Count = Box<dyn Fn(&mut BTreeMap<String, u64>) + Send + Sync>;

/// The driver, as the rest of the daemon uses it.
#[derive(Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
    notices: mpsc::Sender<Notice>,
    routes: watch::Receiver<Arc<Routes>>,
    changes: watch::Receiver<u64>,
    events: Events,
    history: Trail,
    counts: Arc<Mutex<Vec<Count>>>,
    paths: Paths,
}

/// The driver's ends of a handle's channels.
pub(super) struct Ends {
    pub requests: mpsc::Receiver<Request>,
    pub notices: mpsc::Receiver<Notice>,
    pub routes: watch::Sender<Arc<Routes>>,
    pub changes: watch::Sender<u64>,
    pub events: Events,
    pub history: Trail,
}

pub(super) fn handle() -> (DriverHandle, Ends) {
    let (requests_in, requests) = mpsc::channel(REQUESTS);
    let (notices_in, notices) = mpsc::channel(NOTICES);
    let (routes, routes_out) = watch::channel(Arc::default());
    let (changes, changes_out) = watch::channel(0);
    let (events, history) = (Events::default(), Trail::default());
    let handle = DriverHandle {
        requests: requests_in,
        notices: notices_in,
        routes: routes_out,
        changes: changes_out,
        events: events.clone(),
        history: history.clone(),
        counts: Arc::default(),
        paths: Paths::default(),
    };
    (handle, Ends { requests, notices, routes, changes, events, history })
}

impl DriverHandle {
    /// Sends a command and waits for the core's reply. The reply to a submitted change comes after
    /// the change is on disk.
    pub async fn command(&self, command: Command) -> Result<Reply, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request::Command { command: Box::new(command), reply })
            .await
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Reads the node between two inputs, on the driver's task: keep `look` short, and return owned
    /// values.
    pub async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |node| {
            // An error means that the caller gave up.
            let _ = reply.send(look(node));
        });
        self.requests.send(Request::Query(look)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The notes of who changed what, which somebody has to keep.
    pub fn history(&self) -> Trail {
        self.history.clone()
    }

    /// The routing table of the ingress. Empty until the node has routes.
    pub fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// A number that grows whenever a view may have changed. Bursts come as one change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The kept events with a `seq` above `since`, the oldest first, and a receiver of new ones.
    ///
    /// Each event is in exactly one of the two. A receiver that lags is told how many it missed.
    pub fn events(&self, since: u64) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        self.events.since(since)
    }

    /// Tells the core the state of a replica.
    pub async fn report(&self, report: Report) -> Result<(), Stopped> {
        self.notices.send(Notice::Report(report)).await.map_err(|_| Stopped)
    }

    /// Tells the core the loads of replicas.
    pub async fn measured(&self, loads: Vec<(ReplicaId, Load)>) -> Result<(), Stopped> {
        self.notices.send(Notice::Measured(loads)).await.map_err(|_| Stopped)
    }

    /// Tells the core that a request waits for a workload without a replica.
    pub async fn wished(&self, name: WorkloadName) -> Result<(), Stopped> {
        self.notices.send(Notice::Wished(name)).await.map_err(|_| Stopped)
    }

    /// Tells the core that the device's facts have changed.
    pub async fn facts(&self, facts: Facts) -> Result<(), Stopped> {
        self.notices.send(Notice::Facts(facts)).await.map_err(|_| Stopped)
    }

    /// Tells people, through the core, about the facts that they publish of this device.
    pub async fn facts_noted(&self, is_warning: bool, message: String) -> Result<(), Stopped> {
        let notice = Notice::FactsNoted { is_warning, message };
        self.notices.send(notice).await.map_err(|_| Stopped)
    }

    /// Tells people, through the core, which nodes gave an artifact.
    pub async fn received(
        &self,
        artifact: Artifact,
        from: Vec<NodeId>,
        took: Duration,
    ) -> Result<(), Stopped> {
        let notice = Notice::Received { artifact, from, took };
        self.notices.send(notice).await.map_err(|_| Stopped)
    }

    /// Tells the core how a fetch ended.
    pub async fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> Result<(), Stopped> {
        self.notices.send(Notice::Fetched { digest, outcome }).await.map_err(|_| Stopped)
    }

    /// Tells the other nodes that this one stops and expects to be back in `back_in`. Returns when
    /// all pending writes are on disk.
    ///
    /// The driver goes on, so that HTTP requests under way can end. It ends when the network is
    /// stopped.
    pub async fn stop(&self, back_in: Duration) {
        let (done, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop { back_in, done }).await.is_ok() {
            // An error means that the driver has stopped already.
            let _ = stopped.await;
        }
    }

    /// Counters of this daemon since its start, by name: `net_bytes_sent`, `disk_commits` and so
    /// on.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for count in self.counts.lock().iter().flat_map(|counts| counts.iter()) {
            count(&mut all);
        }
        all
    }

    /// Adds the counters of another part of the daemon.
    pub fn count(&self, count: Count) {
        if let Ok(mut counts) = self.counts.lock() {
            counts.push(count);
        }
    }
}

impl Directory for DriverHandle {
    fn way(&self, node: NodeId) -> BoxFuture<'_, Reachability> {
        // A stopped driver knows no addresses and no hops.
        Box::pin(async move {
            let version = *self.changes.borrow();
            let ask = self.query(move |known| known.reachability(&node));
            self.paths.get(version, node, ask).await.unwrap_or_default()
        })
    }
}
