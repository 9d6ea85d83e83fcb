//! The network, as the driver and the servers hold it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::future::BoxFuture;
use shoal_protocol::model::{Lane, NodeId, Roster};
use shoal_protocol::node::{DialTarget, Message, OwnAddresses, Reachability, Ticket, Verdict};
use shoal_protocol::wire;
use tokio::sync::{mpsc, oneshot, watch};

use super::admission::Admission;
use super::carriers::Carriers;
use super::counters::{NetCounters, add};
use super::link::Links;
use super::operators::OperatorDoor;
use super::services;
use super::stream::{Acceptor, Purpose};
use super::types::Command;

/// The running network. Dropping all clones stops it.
#[derive(Clone)]
pub struct Network {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) links: Links,
    pub(super) counters: Arc<NetCounters>,
    pub(super) carriers: Arc<Carriers>,
    pub(super) admission: Arc<Admission>,
    pub(super) listening: SocketAddr,
    pub(super) own_addresses: watch::Receiver<OwnAddresses>,
    pub(super) directory: Arc<OnceLock<Arc<dyn Directory>>>,
    /// The noise configuration that encrypts relayed streams from end to end.
    pub(super) seal: libp2p::noise::Config,
    /// Tells all parts who is a member.
    pub(super) roster: Arc<watch::Sender<Roster>>,
    /// Where operators knock, until it is taken.
    pub(super) operators: Arc<Mutex<Option<OperatorDoor>>>,
}

/// Knows the addresses of nodes, and the relays to nodes that cannot be dialled.
pub trait Directory: Send + Sync + 'static {
    /// How to reach a node; without addresses when none are known.
    fn way(&self, node: NodeId) -> BoxFuture<'_, Reachability>;
}

impl Network {
    /// From now on these are the members: all others may only greet.
    pub fn set_roster(&self, roster: Roster) {
        self.roster.send_replace(roster);
    }

    /// Queues a message for a peer. Drops and counts it when there is no link or no room.
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

    /// Publishes a message by gossip.
    pub fn broadcast(&self, message: &Message) {
        if self.commands.try_send(Command::Broadcast(wire::encode(message))).is_err() {
            add(&self.counters.gossip_dropped, 1);
        }
    }

    /// Dials once. The outcome comes as a `LinkUp` or a `DialFailed`. False when too many commands
    /// wait.
    #[must_use]
    pub fn dial(&self, target: DialTarget, addresses: Vec<String>) -> bool {
        self.commands.try_send(Command::Dial { target, addresses }).is_ok()
    }

    /// Looks up a seed's name. The answer comes as a `Resolved`. False when too many commands wait.
    #[must_use]
    pub fn resolve(&self, seed: String) -> bool {
        self.commands.try_send(Command::Resolve(seed)).is_ok()
    }

    /// Writes the queues of this link, for a moment, then closes it.
    pub fn disconnect(&self, node: NodeId) {
        // A link is closed directly, so that a full command queue cannot keep it open.
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

    /// Sets the directory, once: from then on [`super::Mesh::open`] makes missing links.
    pub fn set_directory(&self, directory: Arc<dyn Directory>) {
        // A second directory would know the same.
        let _ = self.directory.set(directory);
    }

    /// The inbound streams of a purpose from now on. The last caller gets them.
    pub async fn accept(&self, purpose: Purpose) -> Acceptor {
        let (acceptor, incoming) = mpsc::channel(services::MAX_WAITING);
        // An error means that the network has stopped: no stream will come.
        let _ = self.commands.send(Command::Accept(purpose, acceptor)).await;
        Acceptor::new(incoming)
    }

    /// The connections of operators. None when somebody has taken them already.
    pub fn operators(&self) -> Option<OperatorDoor> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The address it listens on, with the actual port.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// The announced addresses, as multiaddrs, the best first, or why there are none. The core gets
    /// an input when they change.
    pub fn own_addresses(&self) -> OwnAddresses {
        self.own_addresses.borrow().clone()
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }

    /// Reports evicted and refused handshakes, by reason.
    pub fn handshake_counters(&self) -> impl Fn(&mut BTreeMap<String, u64>) + Send + Sync + use<> {
        let admission = self.admission.clone();
        move |all| admission.report(all)
    }

    /// Writes the queues of all links, for a moment, then closes everything.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            // An error means that the network has already stopped.
            let _ = stopped.await;
        }
    }
}
