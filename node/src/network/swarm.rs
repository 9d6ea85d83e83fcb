//! The task that owns the swarm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Stream, Swarm, gossipsub};
use shoal_protocol::model::NodeId;
use shoal_protocol::node::{DialTarget, Input, Ticket, Verdict};
use shoal_protocol::wire;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::carriers::Carriers;
use super::dialing::{DialRequester, Dials};
use super::gossip::{self, Gossip, MAX_GOSSIP};
use super::own_addresses::ListenState;
use super::peers::Peer;
use super::resolver::Resolver;
use super::services::Services;
use super::start::{Behaviour, BehaviourEvent};
use super::stream::{Incoming, MeshStream, Purpose};
use super::stream_protocols::{LinkStream, OpenFailure, Signal, StreamRequest};
use super::{Links, NetCounters, NetworkConfig, add, names, tcp};

/// How long all links together may take to write what waits when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// How long gossip may take to go out when the node stops.
const GOSSIP_FLUSH: Duration = Duration::from_millis(50);

pub(super) enum Command {
    Broadcast(Vec<u8>),
    Dial {
        target: DialTarget,
        addresses: Vec<String>,
    },
    Reach {
        node: NodeId,
        addresses: Vec<String>,
        linked: oneshot::Sender<()>,
    },
    Resolve(String),
    Disconnect(NodeId),
    Verdict(Ticket, Verdict),
    Open {
        node: NodeId,
        purpose: Purpose,
        reply: oneshot::Sender<Result<LinkStream, OpenFailure>>,
    },
    Accept(Purpose, mpsc::Sender<Incoming>),
    /// Says something to a peer over the link, and answers whether it has heard.
    Signal {
        node: NodeId,
        signal: Signal,
        reply: oneshot::Sender<bool>,
    },
    /// Transfers on the path to this peer stall while small messages pass, or no longer do.
    PathChanged {
        node: NodeId,
        is_stalling: bool,
    },
    /// A stream came over a common member.
    Arrived(Purpose, Incoming),
    Stop(oneshot::Sender<()>),
}

/// The driver's inbox, from inside.
pub(super) struct Inputs {
    pub urgent: mpsc::Sender<Input>,
    pub gossip: mpsc::Sender<Input>,
    pub bulk: mpsc::Sender<Input>,
}

/// How a link ended.
pub(super) struct Ended {
    pub node: NodeId,
    pub connection: ConnectionId,
    pub why: String,
}

/// The driver is gone: there is nobody to work for.
pub(super) struct DriverGone;

pub(super) type TaskResult = Result<(), DriverGone>;

pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    gossip: Gossip,
    pub(super) me: NodeId,
    pub(super) links: Links,
    pub(super) counters: Arc<NetCounters>,
    pub(super) inputs: Inputs,
    pub(super) own: ListenState,
    resolver: Resolver,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) dials: Dials,
    services: Arc<Services>,
    pub(super) carriers: Arc<Carriers>,
    pub(super) running: JoinSet<Ended>,
    pub(super) deadlines: FuturesUnordered<BoxFuture<'static, (NodeId, ConnectionId)>>,
}

impl Task {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, by start, which has just made them all"
    )]
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        gossip: Gossip,
        config: &NetworkConfig,
        links: Links,
        counters: Arc<NetCounters>,
        inputs: Inputs,
        own: ListenState,
        dials: Dials,
        services: Arc<Services>,
        carriers: Arc<Carriers>,
    ) -> Self {
        let me = names::node_id(swarm.local_peer_id()).expect("our own key is an Ed25519 key");
        debug_assert_eq!(
            Some(*swarm.local_peer_id()),
            names::peer_id(&me),
            "of {:?}",
            config.cluster
        );
        Task {
            swarm,
            gossip,
            me,
            links,
            counters,
            inputs,
            own,
            resolver: Resolver::default(),
            peers: BTreeMap::new(),
            dials,
            services,
            carriers,
            running: JoinSet::new(),
            deadlines: FuturesUnordered::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        if self.report_trouble().await.is_err() {
            return;
        }
        loop {
            let done = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => {
                        self.stop().await;
                        // The asker may have given up.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_swarm(event).await,
                () = self.own.changed() => self.on_own_addresses().await,
                Some(Ok(ended)) = self.running.join_next() => self.on_ended(ended).await,
                Some(key) = self.dials.wake_ups.next() => self.advance_race(key).await,
                Some((node, connection)) = self.deadlines.next() => self.on_deadline(node, connection).await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn on_command(&mut self, command: Command) -> TaskResult {
        match command {
            Command::Broadcast(bytes) => {
                let fits = bytes.len() <= MAX_GOSSIP;
                debug_assert!(fits, "the core keeps what it broadcasts within {MAX_GOSSIP} bytes");
                let sent =
                    fits && self.gossip.publish(&mut self.swarm.behaviour_mut().gossip, bytes);
                add(
                    if sent { &self.counters.gossip_sent } else { &self.counters.gossip_dropped },
                    1,
                );
            }
            Command::Dial { target, addresses } => {
                return self.on_dial(DialRequester::Core(target), addresses).await;
            }
            Command::Reach { node, addresses, linked } => {
                if self.peers.get(&node).is_none_or(|peer| peer.link.is_none()) {
                    return self.on_dial(DialRequester::Stream(node, linked), addresses).await;
                }
                // The asker may have given up.
                let _ = linked.send(());
            }
            Command::Resolve(seed) => self.resolver.look_up(seed, self.inputs.urgent.clone()),
            Command::Disconnect(node) => {
                let unlinked: Vec<_> =
                    self.peers.get(&node).into_iter().flat_map(Peer::unlinked_ids).collect();
                for connection in unlinked {
                    self.hang_up(node, connection).await?;
                }
            }
            Command::Verdict(ticket, verdict) => {
                self.gossip.judge(&mut self.swarm.behaviour_mut().gossip, ticket, verdict);
            }
            Command::Open { node, purpose, reply } => {
                let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
                match (link, names::peer_id(&node)) {
                    (Some(link), Some(peer)) => {
                        let request =
                            StreamRequest::Service(purpose, link.handle.ended.clone(), reply);
                        self.swarm.behaviour_mut().streams.open(peer, link.connection, request);
                    }
                    // The asker may have given up.
                    _ => drop(reply.send(Err(OpenFailure::NoLink))),
                }
            }
            Command::Accept(purpose, streams) => self.services.accept(purpose, streams),
            Command::Arrived(purpose, Incoming { from, stream }) => {
                self.services.deliver(from, purpose, |permit| stream.counted(permit));
            }
            Command::Signal { node, signal, reply } => {
                let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
                // Without a link the asker's sender is dropped, which says that it was not heard.
                if let Some((link, peer)) = link.zip(names::peer_id(&node)) {
                    self.swarm.behaviour_mut().streams.open(
                        peer,
                        link.connection,
                        StreamRequest::Signal(signal, reply),
                    );
                }
            }
            Command::PathChanged { node, is_stalling } => {
                return self.tell(Input::PathChanged { peer: node, is_stalling }).await;
            }
            Command::Stop(_) => unreachable!("run takes it"),
        }
        Ok(())
    }

    async fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) -> TaskResult {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => {
                return self.on_stream(event).await;
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.replace_moved_link(&peer_id, &endpoint).await?;
                return self.on_connected(peer_id, connection_id, &endpoint).await;
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                if num_established > 0 {
                    gossip::introduce(
                        &mut self.swarm.behaviour_mut().gossip,
                        peer_id,
                        connection_id,
                        &endpoint,
                    );
                }
                return self.on_closed(&peer_id, connection_id).await;
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                return self.on_dial_error(connection_id, &error).await;
            }
            SwarmEvent::IncomingConnectionError { error, .. } if tcp::is_carrier(&error) => {}
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                add(&self.counters.connections_refused, 1);
                tracing::debug!(from = %send_back_addr, %error, "a connection was refused");
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                tracing::error!(%error, "the mesh no longer listens")
            }
            // libp2p's enum is open; the others tell of steps that end in one of these.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_service(&mut self, id: &PeerId, purpose: Purpose, stream: Stream) {
        if let Some(from) = names::node_id(id) {
            self.services
                .deliver(from, purpose, |permit| MeshStream::new(stream.compat()).counted(permit));
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let Some(from) = names::node_id(&propagation_source) else { return };
        let behaviour = &mut self.swarm.behaviour_mut().gossip;
        let ticket = self.gossip.ticket(behaviour, message_id, propagation_source);
        add(&self.counters.gossip_received, 1);
        let (input, is_judged) = match wire::decode(&message.data) {
            Ok(message) => (Input::Gossip { ticket, from, message }, false),
            Err(error) => {
                add(&self.counters.garbage, 1);
                // A newer program may say what this one does not know, so the relay is not blamed.
                (Input::Garbage { from, why: error.to_string() }, true)
            }
        };
        let queued = self.inputs.gossip.try_send(input).is_ok();
        if !queued {
            add(&self.counters.gossip_dropped, 1);
        }
        if is_judged || !queued {
            self.gossip.judge(&mut self.swarm.behaviour_mut().gossip, ticket, Verdict::Ignore);
        }
    }

    pub(super) async fn tell(&mut self, input: Input) -> TaskResult {
        self.inputs.urgent.send(input).await.map_err(|_| DriverGone)
    }

    /// Lets the links write what waits. Nobody is told anything any more.
    async fn stop(&mut self) {
        self.links.with(|links| links.values().for_each(|link| link.close()));
        let all_written = async {
            loop {
                tokio::select! {
                    ended = self.running.join_next() => if ended.is_none() { return },
                    // Links make progress only while the swarm is polled.
                    _ = self.swarm.select_next_some() => {}
                }
            }
        };
        // Who does not take it in time will not take it.
        let _ = tokio::time::timeout(STOP_TIMEOUT, all_written).await;
        self.carriers.stop();
        let gossip_flushed = async {
            loop {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(GOSSIP_FLUSH, gossip_flushed).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.carriers.stop();
    }
}
