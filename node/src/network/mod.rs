//! The mesh. The only place that knows libp2p: the rest of the node speaks of NodeIds, messages and
//! byte streams.
//!
//! ```text
//!   driver ── send ───────────────▶ a queue a peer and lane ──▶ link's task ──▶ urgent, bulk ─┐
//!          ── dial, disconnect,                                                             yamux
//!             broadcast, verdict ─▶ swarm's task ◀── gossipsub, connections, limits          noise ── TCP, small segments
//!          ◀─ Input ────────────── link's task, swarm's task
//!   others ── Mesh::open, accept ─▶ a stream of their own ──▶ carrier's task ── yamux, noise ── TCP of its own
//! ```
//!
//! **A link is one connection with both message streams open.** It is up when both can be used and
//! down when the connection closes, which a killed process shows within a millisecond. The core
//! decides whom to dial and when to hang up; here a dial is tried once. Of two connections between
//! the same nodes, the node with the lower id decides which one to keep, so that both keep the
//! same. Artifacts and HTTP travel on `carriers`, connections of their own, so that a transfer that
//! stalls blocks no message.
//!
//! Nothing here waits for the driver while the driver waits for it: what the driver hands over is
//! queued or, when there is no room, dropped and counted; what it is told waits for it.

mod admission;
mod cancellable;
mod carriers;
mod connections;
mod counters;
mod dialing;
mod gossip;
pub mod hop;
mod lane;
mod last_addresses;
mod link;
mod local_addresses;
mod mdns;
mod names;
mod netlink;
mod own_addresses;
mod peers;
mod race;
mod ranking;
mod resolver;
mod services;
mod start;
mod stream;
mod stream_protocols;
mod swarm;
mod tcp;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::{ClusterId, Lane, NodeId};
use shoal_protocol::node::{DialTarget, Input, Message, OwnAddresses, Ticket, Verdict, WayTo};
use shoal_protocol::wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::identity::Identity;

pub use carriers::Limits as CarrierLimits;
pub use counters::NetCounters;
pub use start::{NetworkError, start};
pub use stream::{
    Acceptor, Incoming, Mesh, MeshStream, Moved, OpenError, Purpose, describe_unreachable,
};

use admission::Admission;
use carriers::{Availability, Carrier, Carriers};
use counters::add;
use link::LinkHandle;
use stream_protocols::OpenFailure;
use swarm::Command;

/// How long an asked-for stream may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a dial may take before a common member is asked as well. A handshake over a satellite
/// takes about as long.
const RELAY_AFTER: Duration = Duration::from_millis(750);

/// How long a request waits for a carrier before it takes the link: a handshake on a good path.
const CARRIER_TIMEOUT: Duration = Duration::from_millis(300);

/// What a network needs to start.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The seed of the node's key.
    pub seed: [u8; 32],
    /// The cluster, whose id is in every protocol's name.
    pub cluster: ClusterId,
    /// What only members know: handshakes of others fail.
    pub secret: [u8; 32],
    /// Where to listen. Port 0 takes any free one. An address that the device does not have is
    /// waited for.
    pub listen: SocketAddr,
    /// Where others are told to dial this node; none for the device's own addresses.
    pub advertise: Vec<SocketAddr>,
    /// When a connection for what is large is given up.
    pub carriers: CarrierLimits,
    /// Whether members are looked for on the local network.
    pub mdns: bool,
}

impl NetworkConfig {
    /// The network of this node, listening there.
    pub fn new(identity: &Identity, listen: SocketAddr) -> Self {
        NetworkConfig {
            seed: *identity.node_seed(),
            cluster: identity.cluster(),
            secret: identity.transport_secret(),
            listen,
            advertise: Vec::new(),
            carriers: CarrierLimits::default(),
            mdns: true,
        }
    }
}

/// What the network tells the driver. A link's `LinkUp` is in `urgent` before anything of that link
/// is in one of the others.
#[derive(Debug)]
pub struct Inbox {
    /// Links, dials, and what came on the urgent lanes.
    pub urgent: mpsc::Receiver<Input>,
    /// What came by gossip.
    pub gossip: mpsc::Receiver<Input>,
    /// What came on the bulk lanes.
    pub bulk: mpsc::Receiver<Input>,
}

/// The running network. Dropping all clones stops it.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    links: Links,
    counters: Arc<NetCounters>,
    carriers: Arc<Carriers>,
    admission: Arc<Admission>,
    listening: SocketAddr,
    own_addresses: watch::Receiver<OwnAddresses>,
    directory: Arc<OnceLock<Arc<dyn Directory>>>,
    /// With what streams over a common member are sealed.
    seal: libp2p::noise::Config,
}

/// Knows where nodes can be dialled, and over whom they are reached where that fails.
pub trait Directory: Send + Sync + 'static {
    /// How a node can be reached; no addresses when they are not known.
    fn way(&self, node: NodeId) -> BoxFuture<'_, WayTo>;
}

/// The links that are up, and what waits for each. Locked for a look-up, never across an await.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<BTreeMap<NodeId, Arc<LinkHandle>>>>);

impl Links {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<NodeId, Arc<LinkHandle>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Network {
    /// Queues a message for a peer. Dropped, and counted, when there is no link or no room.
    pub fn send(&self, to: &NodeId, lane: Lane, message: &Message) {
        let Some(link) = self.links.with(|links| links.get(to).cloned()) else {
            return add(&self.counters.messages_dropped, 1);
        };
        let frame = wire::encode(message);
        let fits = frame.len() <= wire::MAX_MESSAGE;
        debug_assert!(fits, "the core keeps its messages within {} bytes", wire::MAX_MESSAGE);
        if !fits || !link.send(lane, frame) {
            add(&self.counters.messages_dropped, 1);
        }
    }

    /// Says something to all, by gossip.
    pub fn broadcast(&self, message: &Message) {
        if self.commands.try_send(Command::Broadcast(wire::encode(message))).is_err() {
            add(&self.counters.gossip_dropped, 1);
        }
    }

    /// Dials once. The outcome comes as a `LinkUp` or a `DialFailed`. False when the network has no
    /// time to try.
    #[must_use]
    pub fn dial(&self, target: DialTarget, addresses: Vec<String>) -> bool {
        self.commands.try_send(Command::Dial { target, addresses }).is_ok()
    }

    /// Looks up a seed's name. The answer comes as a `Resolved`. False when the network has no time
    /// to try.
    #[must_use]
    pub fn resolve(&self, seed: String) -> bool {
        self.commands.try_send(Command::Resolve(seed)).is_ok()
    }

    /// Writes what waits for this peer, for a moment, then closes the link.
    pub fn disconnect(&self, node: NodeId) {
        // A link hears it directly, so that no flood of commands can keep it open.
        match self.links.with(|links| links.get(&node).cloned()) {
            Some(link) => link.close(),
            None => drop(self.commands.try_send(Command::Disconnect(node))),
        }
    }

    /// Relays a gossip message, or not.
    pub fn verdict(&self, ticket: Ticket, verdict: Verdict) {
        if self.commands.try_send(Command::Verdict(ticket, verdict)).is_err() {
            add(&self.counters.gossip_dropped, 1);
        }
    }

    /// Gives it a directory, once: from then on [`Mesh::open`] makes a link where there is none.
    pub fn set_directory(&self, directory: Arc<dyn Directory>) {
        // A second one would know the same.
        let _ = self.directory.set(directory);
    }

    /// The streams of a purpose that others open from now on. The last one who asks gets them.
    pub async fn accept(&self, purpose: Purpose) -> Acceptor {
        let (acceptor, incoming) = mpsc::channel(services::MAX_WAITING);
        // The network has stopped: then nothing will ever come.
        let _ = self.commands.send(Command::Accept(purpose, acceptor)).await;
        Acceptor { incoming }
    }

    /// Where it listens, with the port that was taken.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Where others may reach it now, as multiaddrs, the best first, or why they cannot. The core
    /// is told when that changes.
    pub fn own_addresses(&self) -> OwnAddresses {
        self.own_addresses.borrow().clone()
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }

    /// Reports handshakes that were given up for others, and why.
    pub fn handshake_counters(&self) -> impl Fn(&mut BTreeMap<String, u64>) + Send + Sync + use<> {
        let admission = self.admission.clone();
        move |all| admission.report(all)
    }

    /// Writes what waits on all links, for a moment, then closes everything.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            // An error means that it has stopped.
            let _ = stopped.await;
        }
    }
}

impl Network {
    /// A stream to a node that there is a link to: on a carrier, or, where none can be had, on the
    /// link.
    async fn open_linked(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let link =
            self.links.with(|links| links.get(&node).cloned()).ok_or(OpenError::NoLink(node))?;
        // A carrier that is ready may end at this moment; a fresh one does not.
        for _ in 0..2 {
            // A request does not wait long for a carrier; the dial goes on, and the next request
            // finds it.
            let deadline =
                if purpose == Purpose::Artifact { OPEN_TIMEOUT } else { CARRIER_TIMEOUT };
            let carrier = tokio::time::timeout(deadline, self.carrier(node, &link)).await;
            let Ok(Some(carrier)) = carrier else { break };
            if let Some(stream) = carrier.open(purpose).await {
                return Ok(stream);
            }
        }
        self.open_on_link(node, purpose).await
    }

    async fn carrier(&self, node: NodeId, link: &LinkHandle) -> Option<Arc<Carrier>> {
        match self.carriers.availability(&node) {
            Availability::Open(carrier) => Some(carrier),
            Availability::Dialing(dialing) => dialing.await,
            Availability::NotDialled => {
                self.carriers.dial(node, self.carrier_addresses(node, link).await).await
            }
            Availability::Unreachable => None,
        }
    }

    /// Where to dial a linked node: there where the link found it, else where it says to be, the
    /// address it came from first.
    async fn carrier_addresses(&self, node: NodeId, link: &LinkHandle) -> Vec<SocketAddr> {
        if let Some(address) = link.dialled_at {
            return vec![address];
        }
        let Some(directory) = self.directory.get() else { return Vec::new() };
        let recorded = directory.way(node).await.addresses;
        let mut addresses: Vec<_> = recorded
            .iter()
            .filter_map(|text| names::parse(text))
            .filter_map(|address| names::socket(&address))
            .collect();
        addresses.sort_by_key(|address| Some(address.ip()) != link.inbound_from);
        addresses
    }

    async fn open_on_link(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { node, purpose, reply };
        self.commands.send(command).await.map_err(|_| OpenError::Stopping)?;
        match answer.await {
            Ok(Ok((stream, link_ended))) => Ok(MeshStream::on_link(stream.compat(), link_ended)),
            Ok(Err(OpenFailure::NoLink)) => Err(OpenError::NoLink(node)),
            Ok(Err(OpenFailure::NotOffered)) => Err(OpenError::NotOffered(node)),
            Ok(Err(OpenFailure::TimedOut)) => Err(OpenError::TimedOut(node)),
            Ok(Err(OpenFailure::Broken(why))) => Err(OpenError::Broken { node, why }),
            Err(_) => Err(OpenError::Broken { node, why: "its connection closed".into() }),
        }
    }

    /// Makes a link to a node that there is none to. In a large cluster that is most of them.
    async fn reach(&self, node: NodeId, addresses: Vec<String>) -> Result<(), OpenError> {
        let (linked, outcome) = oneshot::channel();
        let command = Command::Reach { node, addresses, linked };
        self.commands.send(command).await.map_err(|_| OpenError::Stopping)?;
        outcome.await.map_err(|_| OpenError::NoLink(node))
    }

    /// Over the link, or over one that is made for it; never over a common member.
    async fn open_direct(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        match self.open_linked(node, purpose).await {
            Err(OpenError::NoLink(_)) => {}
            opened => return opened,
        }
        let way = self.way(node).await?;
        match way.unreachable {
            Some(dial) => Err(OpenError::Unreachable { node, dial, tried: Vec::new() }),
            None => self.make_link(node, purpose, way.addresses).await,
        }
    }

    async fn make_link(
        &self,
        node: NodeId,
        purpose: Purpose,
        addresses: Vec<String>,
    ) -> Result<MeshStream, OpenError> {
        self.reach(node, addresses).await?;
        self.open_linked(node, purpose).await
    }

    async fn way(&self, node: NodeId) -> Result<WayTo, OpenError> {
        Ok(self.directory.get().ok_or(OpenError::NoLink(node))?.way(node).await)
    }

    /// Without a link: by a dial, and where that fails or takes long, over a common member.
    async fn open_unlinked(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let WayTo { addresses, unreachable, hops } = self.way(node).await?;
        if let Some(dial) = unreachable {
            return self.open_relayed(node, purpose, &hops, dial).await;
        }
        let dialled = self.make_link(node, purpose, addresses);
        if hops.is_empty() {
            return dialled.await;
        }
        let relayed = async {
            tokio::time::sleep(RELAY_AFTER).await;
            self.open_relayed(node, purpose, &hops, "no address has answered yet".into()).await
        };
        tokio::pin!(dialled, relayed);
        tokio::select! {
            dialled = &mut dialled => match dialled {
                // Sooner than the head start is over: nothing was asked yet.
                Err(OpenError::NoLink(_)) => self.open_relayed(node, purpose, &hops, "no address led \
                    to it".into()).await,
                dialled => dialled,
            },
            opened = &mut relayed => match opened {
                Err(OpenError::Unreachable { tried, .. }) => match dialled.await {
                    Err(OpenError::NoLink(_)) => Err(OpenError::Unreachable { node, dial: "no address \
                        led to it".into(), tried }),
                    dialled => dialled,
                },
                opened => opened,
            },
        }
    }
}

impl Mesh for Network {
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>> {
        async move {
            let opened = async {
                match self.open_linked(node, purpose).await {
                    Err(OpenError::NoLink(_)) => self.open_unlinked(node, purpose).await,
                    opened => opened,
                }
            };
            tokio::time::timeout(OPEN_TIMEOUT, opened)
                .await
                .unwrap_or(Err(OpenError::TimedOut(node)))
        }
        .boxed()
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        self.links.with(|links| links.contains_key(node))
    }
}
