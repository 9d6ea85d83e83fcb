//! What everybody else holds of the driver: a handle that can be cloned and that never touches the
//! node from another task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::view::EventView;
use shoal_protocol::model::{Artifact, Digest, Facts, NodeId, RuntimeKind};
use shoal_protocol::node::{Command, FetchOutcome, Node, Order, Reply, Report, Routes, WayTo};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::network::Directory;

use super::events::Events;

/// Requests that may wait for the driver. It takes them between inputs; more waiting than this is a
/// flood, and the askers wait too.
const REQUESTS: usize = 256;
/// Answers of runtimes and fetches that may wait for the driver.
const NOTICES: usize = 256;

/// The driver has stopped, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node is stopping")]
pub struct Stopped;

/// Where orders to the runtimes go. Called from the driver's own task, so it must return at once:
/// note the order, wake somebody. Orders are levels: only the latest for a replica counts, so what
/// is noted is bounded by the number of replicas.
pub trait Orders: Send + 'static {
    /// Notes an order.
    fn order(&mut self, order: Order);
}

/// Where fetches go. Called from the driver's own task, so it must return at once. The answer comes
/// by [`DriverHandle::fetched`].
pub trait Fetches: Send + 'static {
    /// Notes a fetch; one under way for the same artifact learns of the new candidates.
    fn fetch(&mut self, artifact: Artifact, runtime: RuntimeKind, candidates: Vec<NodeId>);
}

type Look = Box<dyn FnOnce(&Node) + Send>;

pub(super) enum Request {
    Command { command: Box<Command>, reply: oneshot::Sender<Reply> },
    Query(Look),
    Stop { back_in: Duration, done: oneshot::Sender<()> },
}

pub(super) enum Notice {
    Report(Report),
    Facts(Facts),
    Fetched { digest: Digest, outcome: FetchOutcome },
}

/// A part of the node that counts: adds its counters to the map.
pub type Count = Box<dyn Fn(&mut BTreeMap<String, u64>) + Send + Sync>;

/// The driver as others see it.
#[derive(Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
    notices: mpsc::Sender<Notice>,
    routes: watch::Receiver<Arc<Routes>>,
    changes: watch::Receiver<u64>,
    events: Events,
    counts: Arc<Mutex<Vec<Count>>>,
}

/// The driver's ends of a handle's channels.
pub(super) struct Ends {
    pub requests: mpsc::Receiver<Request>,
    pub notices: mpsc::Receiver<Notice>,
    pub routes: watch::Sender<Arc<Routes>>,
    pub changes: watch::Sender<u64>,
    pub events: Events,
}

pub(super) fn handle() -> (DriverHandle, Ends) {
    let (requests_in, requests) = mpsc::channel(REQUESTS);
    let (notices_in, notices) = mpsc::channel(NOTICES);
    let (routes, routes_out) = watch::channel(Arc::default());
    let (changes, changes_out) = watch::channel(0);
    let events = Events::default();
    let handle = DriverHandle {
        requests: requests_in,
        notices: notices_in,
        routes: routes_out,
        changes: changes_out,
        events: events.clone(),
        counts: Arc::default(),
    };
    (handle, Ends { requests, notices, routes, changes, events })
}

impl DriverHandle {
    /// Asks for a change, and waits for the core's answer; for a submitted change that is after it
    /// is on disk.
    pub async fn command(&self, command: Command) -> Result<Reply, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request::Command { command: Box::new(command), reply })
            .await
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Looks at the node, between two inputs, on the driver's task: keep it short, and take out
    /// owned values.
    pub async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |node| {
            // Nobody waits any more: then nobody misses it.
            let _ = reply.send(look(node));
        });
        self.requests.send(Request::Query(look)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The table that ingress reads. Empty until the node has routes.
    pub fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// A number that grows whenever a view may have changed. Bursts come as one change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The latest events, the oldest first, of which `seq` is above `since`; and those to come.
    ///
    /// Nothing is lost or doubled between the two. A receiver that lags learns how many it missed.
    pub fn events(&self, since: u64) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        self.events.since(since)
    }

    /// How a replica fares.
    pub async fn report(&self, report: Report) -> Result<(), Stopped> {
        self.notices.send(Notice::Report(report)).await.map_err(|_| Stopped)
    }

    /// The device's facts have changed.
    pub async fn facts(&self, facts: Facts) -> Result<(), Stopped> {
        self.notices.send(Notice::Facts(facts)).await.map_err(|_| Stopped)
    }

    /// How a fetch ended.
    pub async fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> Result<(), Stopped> {
        self.notices.send(Notice::Fetched { digest, outcome }).await.map_err(|_| Stopped)
    }

    /// Says goodbye to the others, and when this node hopes to be back. Returns when all that was
    /// to be on disk is there.
    ///
    /// The driver goes on, so that requests under way can end; it ends when the network is stopped.
    pub async fn stop(&self, back_in: Duration) {
        let (done, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop { back_in, done }).await.is_ok() {
            // An error means that it has stopped, too.
            let _ = stopped.await;
        }
    }

    /// Counters of this body since its start, by name: `net_bytes_sent`, `disk_commits` and so on.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for count in self.counts.lock().iter().flat_map(|counts| counts.iter()) {
            count(&mut all);
        }
        all
    }

    /// Adds a part that counts.
    pub fn count(&self, count: Count) {
        if let Ok(mut counts) = self.counts.lock() {
            counts.push(count);
        }
    }
}

impl Directory for DriverHandle {
    fn way(&self, node: NodeId) -> BoxFuture<'_, WayTo> {
        // A driver that has stopped knows no way.
        Box::pin(
            async move { self.query(move |known| known.way_to(&node)).await.unwrap_or_default() },
        )
    }
}
