//! The loop of the task that owns the swarm.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Stream, gossipsub};
use shoal_protocol::node::{Input, Verdict};
use shoal_protocol::wire;
use tokio::sync::mpsc;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::behaviour::BehaviourEvent;
use super::counters::add;
use super::gossip::{self, MAX_GOSSIP};
use super::peers::Peer;
use super::stream::{Incoming, MeshStream, Purpose};
use super::stream_protocols::StreamRequest;
use super::task::Task;
use super::types::{Command, DialRequester, OpenFailure, TaskResult};
use super::{names, tcp};

/// Time for all links together to write their queues when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for gossip to leave when the node stops.
const GOSSIP_FLUSH: Duration = Duration::from_millis(50);

impl Task {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        if self.report_trouble().await.is_err() {
            return;
        }
        loop {
            let done = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => {
                        self.stop().await;
                        // The caller may have given up.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_swarm(event).await,
                () = self.listen_state.changed() => self.on_own_addresses().await,
                () = self.members.changed() => self.on_roster().await,
                Some(Ok(ended)) = self.running.join_next() => self.on_ended(ended).await,
                Some(key) = self.dials.wake_ups.next() => self.advance_race(key).await,
                Some((node, connection)) = self.deadlines.next() => {
                    self.on_deadline(node, connection).await
                }
                Some(node) = self.farewells.next() => self.on_farewell(node).await,
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
                    fits && self.gossip.publish(self.swarm.behaviour_mut().gossip.inner(), bytes);
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
                // The caller may have given up.
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
                self.gossip.judge(self.swarm.behaviour_mut().gossip.inner(), ticket, verdict);
            }
            Command::Open { node, purpose, reply } => {
                let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
                match (link, names::peer_id(&node)) {
                    (Some(link), Some(peer)) => {
                        let request =
                            StreamRequest::Service(purpose, link.handle.ended.clone(), reply);
                        self.swarm.behaviour_mut().streams.open(peer, link.connection, request);
                    }
                    // The caller may have given up.
                    _ => drop(reply.send(Err(OpenFailure::NoLink))),
                }
            }
            Command::Accept(purpose, streams) => self.services.accept(purpose, streams),
            Command::Relayed(purpose, Incoming { from, stream }) => {
                self.services.deliver(from, purpose, |permit| stream.counted(permit));
            }
            Command::Signal { node, signal, reply } => {
                let link = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
                // Without a link the sender is dropped, which means that the peer did not get it.
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
                let is_member = names::node_id(&peer_id).is_some_and(|it| self.members.has(&it));
                if num_established > 0 && is_member {
                    gossip::introduce(
                        self.swarm.behaviour_mut().gossip.inner(),
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
            SwarmEvent::IncomingConnectionError { error, .. } if tcp::is_diverted(&error) => {}
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                add(&self.counters.connections_refused, 1);
                tracing::debug!(from = %send_back_addr, %error, "a connection was refused");
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                tracing::error!(%error, "the mesh no longer listens")
            }
            // libp2p's enum is non-exhaustive; the other events are steps that end in one of these.
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
        let behaviour = self.swarm.behaviour_mut().gossip.inner();
        let ticket = self.gossip.ticket(behaviour, message_id, propagation_source);
        add(&self.counters.gossip_received, 1);
        let (input, is_judged) = match wire::decode(&message.data) {
            Ok(message) => (Input::Gossip { ticket, from, message }, false),
            Err(error) if error.is_other_version() => {
                (Input::OtherVersion { from, why: error.to_string() }, true)
            }
            Err(error) => {
                add(&self.counters.garbage, 1);
                (Input::Garbage { from, why: error.to_string() }, true)
            }
        };
        let queued = self.inputs.gossip.try_send(input).is_ok();
        if !queued {
            add(&self.counters.gossip_dropped, 1);
        }
        if is_judged || !queued {
            self.gossip.judge(self.swarm.behaviour_mut().gossip.inner(), ticket, Verdict::Ignore);
        }
    }

    /// Lets the links write their queues. No inputs are reported any more.
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
        // A peer that did not take it in time will not take it later.
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
