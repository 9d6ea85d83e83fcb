//! Carriers: connections for large transfers. A link never waits for them.
//!
//! ```text
//!   Mesh::open ──▶ open? ──▶ carrier's task ── yamux ── noise ── TCP, dialled on demand
//!                  │ dial        │ each second: do sent bytes arrive?
//!                  └─ fails:     └─ no: does a ping over the link? then the path is noted as
//!                     the link      lossy, the carrier reset, and the next one uses small segments
//! ```
//!
//! Artifacts and HTTP travel on carriers; the link keeps messages and gossip. **A packet that never
//! arrives blocks a carrier and nothing else.** A carrier is no connection of libp2p's swarm:
//! gossip and the choice of the link ignore it. It ends at the latest with the link to its peer,
//! and both nodes open streams on it. Where none can be made (behind a router that blocks inbound
//! connections) the link carries the streams.

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
use super::roster::Members;
use super::services::Services;
use super::tcp::{InboundCarrier, SMALL_SEGMENT};
use super::types::{Command, Signal};
use paths::{Direction, Paths};

pub(super) use connection::Carrier;

/// Carriers to one peer: one that each side dialled, and some that are about to end.
const MAX_PER_PEER: usize = 4;
/// All carriers: more than a node has busy peers at a time; each takes some 70 KB. Beyond, links
/// carry the streams.
const MAX_CARRIERS: usize = 256;
/// Inbound handshakes at once; each ends within the dial's time limit.
pub(super) const MAX_PENDING_IN: usize = 64;
/// How long no carrier is dialled after a failed dial. The link serves meanwhile.
const UNREACHABLE_FOR: Duration = Duration::from_secs(30);
/// Peers whose failed dial is remembered.
const MAX_PEERS: usize = 1024;
/// Time limit of a signal over the link. A small packet passes within a round trip, or not at all.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a peer may take to act on a signal.
const SIGNAL_GRACE: Duration = Duration::from_millis(250);

type Dialing = Shared<BoxFuture<'static, Option<Arc<Carrier>>>>;

/// When a carrier is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How long sent bytes may stay unacknowledged.
    pub stall_after: Duration,
    /// How long a carrier stays open without streams. The next request finds it; after that its
    /// memory is freed.
    pub idle_after: Duration,
}

impl Default for Limits {
    /// `stall_after` is 4 s, and a stall is confirmed after half of that again: a lost packet is
    /// sent again after 0.2, 0.6, 1.4, 3 and 6.2 s, and so many losses in a row are no chance.
    /// `idle_after` is 30 s: a carrier takes some 70 KB, and three round trips to make.
    fn default() -> Self {
        Limits { stall_after: Duration::from_secs(4), idle_after: Duration::from_secs(30) }
    }
}

/// All carriers of a node.
pub(super) struct Carriers {
    keys: Keypair,
    prologue: [u8; 32],
    members: Members,
    counters: Arc<NetCounters>,
    services: Arc<Services>,
    /// Weak, so that a carrier does not keep the network running.
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

/// Whether there is a carrier to a peer.
pub(super) enum Availability {
    /// A carrier is open.
    Open(Arc<Carrier>),
    /// A dial is under way.
    Dialing(Dialing),
    /// A carrier must be dialled.
    NotDialled,
    /// A dial failed within [`UNREACHABLE_FOR`].
    Unreachable,
}

impl Carriers {
    pub(super) fn new(
        keys: Keypair,
        prologue: [u8; 32],
        members: Members,
        counters: Arc<NetCounters>,
        services: Arc<Services>,
        swarm: mpsc::WeakSender<Command>,
        limits: Limits,
    ) -> Self {
        Carriers {
            keys,
            prologue,
            members,
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

    /// Whether there is a carrier to this peer.
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

    /// Dials a carrier; all callers meanwhile get the same one.
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
                    // On a task of its own, so that a caller that gives up does not end the dial of
                    // the others.
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

    /// Accepts inbound carriers, as long as the network runs.
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
                    Ok((node, _)) if !carriers.members.has(&node) => {
                        Some("the node is no member".to_owned())
                    }
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

    /// Starts a carrier; none when there are too many already.
    fn start(self: &Arc<Self>, node: NodeId, connected: dial::Connection) -> Option<Arc<Carrier>> {
        let (carrier, wanted) = Carrier::new(self, node, connected.flow, &connected.socket);
        {
            let mut state = self.lock();
            let all: usize = state.peers.values().map(|peer| peer.carriers.len()).sum();
            let theirs = state.peers.get(&node).map_or(0, |peer| peer.carriers.len());
            if theirs >= MAX_PER_PEER || all >= MAX_CARRIERS {
                return None;
            }
            // The latest first: it has the segment size that the path needs.
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

    /// Handles bytes that were sent on a carrier and not acknowledged for a while. A ping over the
    /// link shows whether anything arrives.
    async fn on_stall(self: Arc<Self>, carrier: Arc<Carrier>) {
        let node = carrier.node;
        let before = carrier.flow.acknowledged.load(Relaxed);
        let answers = self.signal(node, Signal::Ping).await;
        if answers {
            // A network cut that has just ended looks the same until the lost packets are sent
            // again.
            tokio::time::sleep(self.limits.stall_after / 2).await;
            if carrier.flow.acknowledged.load(Relaxed) != before {
                carrier.is_suspected.store(false, Relaxed);
                return;
            }
        }
        add(&self.counters.carriers_stalled, 1);
        carrier.is_stalled.store(true, Relaxed);
        if answers {
            // Both ends give this reason for the end of the streams, whichever of them closes the
            // connection first.
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

    /// Handles the peer's signal that its bytes to this node do not arrive.
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

    /// Notes that packets of full size arrived.
    fn on_full_packets(self: &Arc<Self>, node: NodeId, direction: Direction) {
        if self.lock().paths.note_passed(node, direction) {
            let carriers = self.clone();
            tokio::spawn(async move { carriers.report_path(node, false).await });
        }
    }

    async fn report_path(&self, node: NodeId, is_stalling: bool) {
        if let Some(swarm) = self.swarm.upgrade() {
            // An error means that the network has stopped.
            let _ = swarm.send(Command::PathChanged { node, is_stalling }).await;
        }
    }
}

/// Hooks for tests.
#[cfg(test)]
impl Carriers {
    /// From now on the kernel seems to report that no sent byte arrives on the open carriers to
    /// this peer.
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

/// The reason for the end of a carrier whose path loses full-sized packets.
fn stall_reason(direction: &str, node: &NodeId) -> String {
    format!(
        "small messages pass, transfers stall: packets of full size {direction} node {} are lost \
            on the way",
        node.short()
    )
}
