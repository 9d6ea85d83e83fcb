//! Turns connections into links: one link for each peer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use shoal_protocol::model::{Lane, NodeId};
use shoal_protocol::node::{DialFailure, Input};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::counters::add;
use super::last_addresses::PeerAddress;
use super::link::{self, Lanes, LinkHandle};
use super::names;
use super::peers::Decision;
use super::stream_protocols::{StreamEvent, StreamKind, StreamRequest};
use super::task::Task;
use super::types::{DialRequester, Ended, Signal, TaskResult};

/// Time after which a connection without a link is closed: the peer hangs, or keeps another
/// connection.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a node that was removed to be told so.
const FAREWELL: Duration = Duration::from_millis(600);

impl Task {
    pub(super) async fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        end: &ConnectedPoint,
    ) -> TaskResult {
        let inbound = end.is_listener();
        let requesters = self.dials.won(connection);
        let Some(node) = names::node_id(&id) else {
            self.swarm.close_connection(connection);
            return Ok(());
        };
        let peer = self.peers.entry(node).or_default();
        peer.waiting.extend(requesters.into_iter().map(|requester| (connection, requester)));
        let decision = peer.connected(&self.me, &node, connection, inbound, Instant::now());
        match decision {
            Decision::Open => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                streams.open(id, connection, StreamRequest::Lane(Lane::Urgent));
                streams.open(id, connection, StreamRequest::Lane(Lane::Bulk));
            }
            Decision::Await => {}
            Decision::Close => return self.hang_up(node, connection).await,
        }
        peer.set_remote(connection, PeerAddress::of(end));
        self.deadlines
            .push(tokio::time::sleep(LINK_TIMEOUT).map(move |()| (node, connection)).boxed());
        Ok(())
    }

    pub(super) async fn on_closed(&mut self, id: &PeerId, connection: ConnectionId) -> TaskResult {
        let Some(node) = names::node_id(id) else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        peer.closed(connection);
        if let Some(link) = peer.link.as_ref().filter(|link| link.connection == connection) {
            // The link's task reads the peer's last messages, and then ends.
            link.handle.connection_lost();
            return Ok(());
        }
        self.answer_dials(node, connection).await
    }

    /// Closes a connection that is not the link, or no longer.
    pub(super) async fn hang_up(&mut self, node: NodeId, connection: ConnectionId) -> TaskResult {
        self.swarm.close_connection(connection);
        if let Some(peer) = self.peers.get_mut(&node) {
            // It counts as closed from now on: the close may take long when the peer does not
            // acknowledge it.
            peer.closed(connection);
        }
        self.answer_dials(node, connection).await
    }

    /// Answers the dials that led to a closed connection, and forgets a peer without connections.
    async fn answer_dials(&mut self, node: NodeId, connection: ConnectionId) -> TaskResult {
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        let forgettable = peer.is_forgettable();
        let linked = peer.link.is_some();
        // While another connection may still become the link, the dials wait for its outcome.
        let answered: Vec<_> = peer
            .waiting
            .extract_if(.., |(of, _)| forgettable || (linked && *of == connection))
            .collect();
        if forgettable {
            self.peers.remove(&node);
        }
        for (_, requester) in answered {
            if linked {
                self.dial_led_to_link(requester, node).await?;
            } else {
                self.dial_failed(requester, DialFailure::TimedOut).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn on_stream(&mut self, event: StreamEvent) -> TaskResult {
        let (id, connection, lane, stream) = match event {
            StreamEvent::Incoming { peer, kind: StreamKind::Service(purpose), stream, .. } => {
                self.on_service(&peer, purpose, stream);
                return Ok(());
            }
            StreamEvent::Incoming { kind: StreamKind::Signal(Signal::Ping), .. } => return Ok(()),
            StreamEvent::Incoming { peer, kind: StreamKind::Signal(Signal::Stalled), .. } => {
                // A stranger has no carriers, and nobody is told of its paths.
                let node = names::node_id(&peer).filter(|node| self.members.has(node));
                if let Some(node) = node {
                    self.carriers.on_peer_stalled(node);
                }
                return Ok(());
            }
            StreamEvent::Incoming { peer, connection, kind: StreamKind::Lane(lane), stream } => {
                (peer, connection, lane, stream)
            }
            StreamEvent::Opened { peer, connection, lane, result: Ok(stream) } => {
                (peer, connection, lane, stream)
            }
            StreamEvent::Opened { peer, connection, result: Err(error), .. } => {
                tracing::debug!(?error, "a lane could not be opened");
                return match names::node_id(&peer) {
                    Some(node) => self.hang_up(node, connection).await,
                    None => Ok(()),
                };
            }
        };
        let Some(node) = names::node_id(&id) else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        match peer.lane(connection, lane, stream) {
            Some(lanes) => self.establish(node, connection, lanes).await,
            None => Ok(()),
        }
    }

    async fn establish(
        &mut self,
        node: NodeId,
        connection: ConnectionId,
        streams: Lanes<Stream>,
    ) -> TaskResult {
        let Some(peer) = self.peers.get_mut(&node) else { return Ok(()) };
        let remote = peer.remote(connection);
        let (dialled_at, inbound_from) = match remote {
            Some(PeerAddress::Dialled(address)) => (Some(address), None),
            Some(PeerAddress::Inbound(ip)) => (None, Some(ip)),
            None => (None, None),
        };
        let handle = Arc::new(LinkHandle::new(dialled_at, inbound_from));
        let old = peer.linked(connection, handle.clone(), Instant::now());
        let waiting = peer
            .waiting
            .drain(..)
            .map(|(_, requester)| requester)
            .chain(self.dials.linked(node, remote));
        for requester in waiting {
            // The core gets `LinkUp` instead.
            if let DialRequester::Stream(_, linked) = requester {
                let _ = linked.send(());
            }
        }
        self.links.with(|links| links.insert(node, handle.clone()));
        if let Some(old) = old {
            old.handle.close();
            self.tell(Input::LinkDown { peer: node }).await?;
            self.hang_up(node, old.connection).await?;
        }
        add(&self.counters.links_up, 1);
        // Before the link's task can put anything into the other inboxes.
        self.tell(Input::LinkUp { peer: node, dialled: dialled_at.is_some() }).await?;
        let streams = Lanes { urgent: streams.urgent.compat(), bulk: streams.bulk.compat() };
        let inbox = Lanes { urgent: self.inputs.urgent.clone(), bulk: self.inputs.bulk.clone() };
        let (counters, members) = (self.counters.clone(), self.members.clone());
        self.running.spawn(async move {
            // If its task panicked, the link would otherwise stay up for ever.
            let run = AssertUnwindSafe(link::run(
                node,
                handle.clone(),
                streams,
                inbox,
                counters,
                members,
            ))
            .catch_unwind();
            let why =
                run.await.unwrap_or_else(|_| "its task met a state that should not be".into());
            handle.ended.cancel();
            Ended { node, connection, why }
        });
        Ok(())
    }

    pub(super) async fn on_ended(&mut self, ended: Ended) -> TaskResult {
        let Ended { node, connection, why } = ended;
        tracing::debug!(peer = %node.short(), %why, "a link ended");
        if self.peers.get_mut(&node).is_some_and(|peer| peer.unlinked(connection)) {
            self.links.with(|links| links.remove(&node));
            self.carriers.close(&node, "the link to the node is down");
            self.tell(Input::LinkDown { peer: node }).await?;
        }
        self.hang_up(node, connection).await
    }

    /// The members are other ones.
    pub(super) async fn on_roster(&mut self) -> TaskResult {
        let now = self.members.now();
        let gone: Vec<NodeId> = self.seen.iter().filter(|node| !now.has(node)).copied().collect();
        self.seen = now;
        self.admission.on_roster();
        self.swarm.behaviour_mut().gossip.on_roster();
        for node in gone {
            self.carriers.close(&node, "the node was removed from the cluster");
            // The core tells it so over the link, which then ends.
            self.farewells.push(tokio::time::sleep(FAREWELL).map(move |()| node).boxed());
        }
        Ok(())
    }

    /// Closes all connections of a node that was removed.
    pub(super) async fn on_farewell(&mut self, node: NodeId) -> TaskResult {
        if !self.members.has(&node)
            && let Some(peer) = names::peer_id(&node)
        {
            // An error means that it has none.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        Ok(())
    }

    pub(super) async fn on_deadline(
        &mut self,
        node: NodeId,
        connection: ConnectionId,
    ) -> TaskResult {
        if self.peers.get(&node).is_some_and(|peer| peer.is_unlinked(connection)) {
            tracing::debug!(peer = %node.short(), "no link came of a connection");
            self.hang_up(node, connection).await?;
        }
        Ok(())
    }
}
