//! Carriers: connections of their own for what is large. A link never waits for them.
//!
//! ```text
//!   Mesh::open ──▶ ready? ──▶ carrier's task ── yamux ── noise ── TCP, made on demand, closed when idle
//!                  │ dial                 │ each second: does what was sent arrive?
//!                  └─ cannot: the link    └─ no: does a word over the link? then the path is noted, the carrier reset;
//!                                            the next one uses small segments
//! ```
//!
//! Artifacts and HTTP travel on carriers; the link keeps messages and gossip. **One packet that
//! never arrives blocks a carrier and nothing else.** A carrier is no connection of libp2p's swarm:
//! gossip and the choice of the link know nothing of it. It lives at most as long as the link to
//! its peer, and streams go both ways on it, whoever dialled. Where none can be made (a peer whose
//! router lets nobody in) the link takes the stream.

mod connection;
mod dial;
mod paths;
mod progress;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use libp2p::identity::Keypair;
use shoal_protocol::model::NodeId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::counters::{NetCounters, add};
use super::services::Services;
use super::tcp::{InboundCarrier, SMALL_SEGMENT};
use super::types::{Command, Signal};
use paths::{Direction, Paths};

pub(super) use connection::Carrier;

/// Carriers to one peer: one that each side dialled, and some that are about to end.
const MAX_PER_PEER: usize = 4;
/// Carriers in all: more than a node has busy peers at a time; each takes some 70 KB. Beyond, links
/// take the streams.
const MAX_CARRIERS: usize = 256;
/// Handshakes of others at once; each ends within the dial's time-out.
pub(super) const MAX_PENDING_IN: usize = 64;
/// How long no carrier is tried after a dial that failed. The link serves meanwhile.
const UNREACHABLE_FOR: Duration = Duration::from_secs(30);
/// Peers of whom a failed dial is remembered.
const MAX_PEERS: usize = 1024;
/// How long the word of a stall may take over the link. A small packet passes within a round trip,
/// or not at all.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a peer may take to act on a word that it has.
const SIGNAL_GRACE: Duration = Duration::from_millis(250);

type Dialing = Shared<BoxFuture<'static, Option<Arc<Carrier>>>>;

/// When a carrier is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For how long nothing that was sent may arrive.
    pub stall_after: Duration,
    /// How long one stays open without streams. The next request then finds it; after that its
    /// memory is given back.
    pub idle_after: Duration,
}

impl Default for Limits {
    /// 4 s, and half of that again: a lost packet is sent again after 0.2, 0.6, 1.4, 3 and 6.2 s,
    /// and so many losses in a row are no weather. 30 s: a carrier takes some 70 KB, and three
    /// round trips to make.
    fn default() -> Self {
        Limits { stall_after: Duration::from_secs(4), idle_after: Duration::from_secs(30) }
    }
}

/// All carriers of a node.
pub(super) struct Carriers {
    keys: Keypair,
    secret: [u8; 32],
    counters: Arc<NetCounters>,
    services: Arc<Services>,
    /// Weak, since a carrier must not keep the network going.
    swarm: mpsc::WeakSender<Command>,
    limits: Limits,
    stop: CancellationToken,
    /// Locked for a look-up, never across an await.
    state: Mutex<State>,
    pending_in: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<NodeId, Peer>,
    paths: Paths,
}

#[derive(Default)]
struct Peer {
    carriers: Vec<Arc<Carrier>>,
    dialing: Option<Dialing>,
    unreachable_until: Option<Instant>,
}

impl Peer {
    fn is_idle(&self, now: Instant) -> bool {
        self.carriers.is_empty()
            && self.dialing.is_none()
            && self.unreachable_until.is_none_or(|until| until <= now)
    }
}

/// How a carrier is to be had.
pub(super) enum Availability {
    /// It is there.
    Open(Arc<Carrier>),
    /// A dial is under way.
    Dialing(Dialing),
    /// It must be dialled.
    NotDialled,
    /// A dial failed lately.
    Unreachable,
}

impl Carriers {
    pub(super) fn new(
        keys: Keypair,
        secret: [u8; 32],
        counters: Arc<NetCounters>,
        services: Arc<Services>,
        swarm: mpsc::WeakSender<Command>,
        limits: Limits,
    ) -> Self {
        Carriers {
            keys,
            secret,
            counters,
            services,
            swarm,
            limits,
            stop: CancellationToken::new(),
            state: Mutex::default(),
            pending_in: Arc::new(Semaphore::new(MAX_PENDING_IN)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a carrier to this peer is to be had.
    pub(super) fn availability(&self, node: &NodeId) -> Availability {
        let state = self.lock();
        let Some(peer) = state.peers.get(node) else { return Availability::NotDialled };
        if let Some(carrier) = peer.carriers.iter().find(|carrier| carrier.is_fresh()) {
            return Availability::Open(carrier.clone());
        }
        match &peer.dialing {
            Some(dialing) => Availability::Dialing(dialing.clone()),
            None if peer.unreachable_until.is_some_and(|until| Instant::now() < until) => {
                Availability::Unreachable
            }
            None => Availability::NotDialled,
        }
    }

    /// Dials a carrier; all who ask meanwhile get the same.
    pub(super) async fn dial(
        self: &Arc<Self>,
        node: NodeId,
        addresses: Vec<SocketAddr>,
    ) -> Option<Arc<Carrier>> {
        let dialing = {
            let mut state = self.lock();
            let now = Instant::now();
            let segment = state.paths.is_small(&node, now).then_some(SMALL_SEGMENT);
            if state.peers.len() >= MAX_PEERS {
                state.peers.retain(|_, peer| !peer.is_idle(now));
            }
            let peer = state.peers.entry(node).or_default();
            match &peer.dialing {
                Some(dialing) => dialing.clone(),
                None => {
                    // On a task of its own: an asker that gives up leaves the others theirs.
                    let dialled = tokio::spawn(self.clone().dialled(node, addresses, segment));
                    let dialing = dialled.map(|ended| ended.ok().flatten()).boxed().shared();
                    peer.dialing = Some(dialing.clone());
                    dialing
                }
            }
        };
        dialing.await
    }

    async fn dialled(
        self: Arc<Self>,
        node: NodeId,
        addresses: Vec<SocketAddr>,
        segment: Option<u32>,
    ) -> Option<Arc<Carrier>> {
        let connection = dial::dial(&self, node, &addresses, segment).await;
        if let Err(why) = &connection {
            tracing::debug!(peer = %node.short(), %why, "no carrier: the link takes its streams");
        }
        let started = connection.ok().and_then(|connected| self.start(node, connected));
        let mut state = self.lock();
        let peer = state.peers.entry(node).or_default();
        peer.dialing = None;
        peer.unreachable_until = started.is_none().then(|| Instant::now() + UNREACHABLE_FOR);
        started
    }

    /// Takes connections that others dial, as long as the network runs.
    pub(super) async fn accept(self: Arc<Self>, mut arrived: mpsc::Receiver<InboundCarrier>) {
        loop {
            let next = tokio::select! {
                next = arrived.recv() => next,
                () = self.stop.cancelled() => None,
            };
            let Some((stream, from)) = next else { return };
            let Ok(permit) = self.pending_in.clone().try_acquire_owned() else {
                add(&self.counters.connections_refused, 1);
                continue;
            };
            let carriers = self.clone();
            tokio::spawn(async move {
                let connected = dial::accept(&carriers, stream).await;
                drop(permit);
                let refused = match connected {
                    Ok((node, connected)) => carriers
                        .start(node, connected)
                        .is_none()
                        .then_some("there are too many".to_owned()),
                    Err(why) => Some(why.to_string()),
                };
                if let Some(why) = refused {
                    add(&carriers.counters.connections_refused, 1);
                    tracing::debug!(%from, %why, "a carrier was refused");
                }
            });
        }
    }

    /// Runs a carrier; none when there are too many already.
    fn start(self: &Arc<Self>, node: NodeId, connected: dial::Connection) -> Option<Arc<Carrier>> {
        let (carrier, wanted) = Carrier::new(self, node, connected.flow, &connected.socket);
        {
            let mut state = self.lock();
            let all: usize = state.peers.values().map(|peer| peer.carriers.len()).sum();
            let theirs = state.peers.get(&node).map_or(0, |peer| peer.carriers.len());
            if theirs >= MAX_PER_PEER || all >= MAX_CARRIERS {
                return None;
            }
            // The latest first: it has the segments that the path needs.
            state.peers.entry(node).or_default().carriers.insert(0, carrier.clone());
        }
        add(&self.counters.carriers_up, 1);
        tokio::spawn(connection::run(
            self.clone(),
            carrier.clone(),
            connected.muxer,
            wanted,
            connected.socket,
        ));
        Some(carrier)
    }

    fn forget(&self, carrier: &Arc<Carrier>) {
        let mut state = self.lock();
        if let Some(peer) = state.peers.get_mut(&carrier.node) {
            peer.carriers.retain(|other| !Arc::ptr_eq(other, carrier));
            if peer.is_idle(Instant::now()) {
                state.peers.remove(&carrier.node);
            }
        }
    }

    /// Ends all carriers to a peer.
    pub(super) fn close(&self, node: &NodeId, why: &str) {
        let carriers =
            self.lock().peers.get(node).map(|peer| peer.carriers.clone()).unwrap_or_default();
        carriers.iter().for_each(|carrier| carrier.end(why.to_owned()));
    }

    /// Ends all carriers, for good.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Bytes sent on a carrier have not arrived for a while. Whether anything arrives, the link
    /// shows.
    async fn on_stall(self: Arc<Self>, carrier: Arc<Carrier>) {
        let node = carrier.node;
        let before = carrier.flow.acknowledged.load(Relaxed);
        let answers = self.signal(node, Signal::Ping).await;
        if answers {
            // A cut that has just ended looks the same until what was lost in it is sent again.
            tokio::time::sleep(self.limits.stall_after / 2).await;
            if carrier.flow.acknowledged.load(Relaxed) != before {
                carrier.is_suspected.store(false, Relaxed);
                return;
            }
        }
        add(&self.counters.carriers_stalled, 1);
        carrier.is_stalled.store(true, Relaxed);
        if answers {
            // At both ends this is why its streams end, whichever of them closes the connection
            // first.
            carrier.set_reason(stall_reason("to", &node));
            if self.signal(node, Signal::Stalled).await {
                self.note_loss(node, Direction::Out).await;
                tokio::time::sleep(SIGNAL_GRACE).await;
            }
        }
        carrier.end(format!("nothing that was sent to node {} arrives", node.short()));
    }

    async fn signal(&self, node: NodeId, signal: Signal) -> bool {
        let Some(swarm) = self.swarm.upgrade() else { return false };
        let (reply, said) = oneshot::channel();
        if swarm.send(Command::Signal { node, signal, reply }).await.is_err() {
            return false;
        }
        drop(swarm);
        matches!(tokio::time::timeout(SIGNAL_TIMEOUT, said).await, Ok(Ok(true)))
    }

    /// The peer says that what it sends here does not arrive.
    pub(super) fn on_peer_stalled(self: &Arc<Self>, node: NodeId) {
        self.close(&node, &stall_reason("from", &node));
        let carriers = self.clone();
        tokio::spawn(async move { carriers.note_loss(node, Direction::In).await });
    }

    async fn note_loss(&self, node: NodeId, direction: Direction) {
        if self.lock().paths.note_loss(node, direction, Instant::now()) {
            self.report_path(node, true).await;
        }
    }

    /// Packets of full size have arrived.
    fn on_full_packets(self: &Arc<Self>, node: NodeId, direction: Direction) {
        if self.lock().paths.note_passed(node, direction) {
            let carriers = self.clone();
            tokio::spawn(async move { carriers.report_path(node, false).await });
        }
    }

    async fn report_path(&self, node: NodeId, is_stalling: bool) {
        if let Some(swarm) = self.swarm.upgrade() {
            // An error means that the network has stopped: nobody wants to know.
            let _ = swarm.send(Command::PathChanged { node, is_stalling }).await;
        }
    }
}

/// For tests.
#[cfg(test)]
impl Carriers {
    /// From now on nothing that is sent to this peer on the carriers there are arrives, as their
    /// kernel tells it.
    pub(super) fn pretend_stuck(&self, node: &NodeId) {
        let carriers =
            self.lock().peers.get(node).map(|peer| peer.carriers.clone()).unwrap_or_default();
        carriers.iter().for_each(|carrier| carrier.is_stuck.store(true, Relaxed));
    }

    /// Whether each carrier to this peer sends packets of full size.
    pub(super) fn full_sized(&self, node: &NodeId) -> Vec<bool> {
        let state = self.lock();
        let carriers = state.peers.get(node).into_iter().flat_map(|peer| &peer.carriers);
        carriers.map(|carrier| carrier.is_full_sized).collect()
    }
}

/// Why a carrier was given up whose path loses what is large.
fn stall_reason(direction: &str, node: &NodeId) -> String {
    format!(
        "small messages pass, transfers stall: packets of full size {direction} node {} are lost on the \
            way",
        node.short()
    )
}
