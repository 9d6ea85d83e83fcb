//! Gossip with members only: gossipsub learns of a peer once it is a member.
//!
//! gossipsub tells its topics to whoever connects, and relays to whoever asks. It has no call that
//! keeps a peer out, so its events of other peers wait here. A stranger gets no bytes of gossip and
//! none of its own are read, except the first ones, with which a device that is about to be
//! admitted says which topic it wants.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::gossipsub::{Behaviour, Event};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::names;
use super::roster::Members;

/// Events of a stranger's connection that wait: the kind of its protocol, and its subscription.
const MAX_WAITING: usize = 3;

/// gossipsub, for members.
pub(super) struct MembersOnly {
    gossip: Behaviour,
    members: Members,
    /// Connections of strangers, by connection: as many as the swarm's limits let in.
    strangers: BTreeMap<ConnectionId, Stranger>,
}

struct Stranger {
    peer: PeerId,
    endpoint: ConnectedPoint,
    waiting: Vec<THandlerOutEvent<Behaviour>>,
}

impl MembersOnly {
    pub(super) fn new(gossip: Behaviour, members: Members) -> Self {
        MembersOnly { gossip, members, strangers: BTreeMap::new() }
    }

    pub(super) fn inner(&mut self) -> &mut Behaviour {
        &mut self.gossip
    }

    /// The members are other ones: tells gossipsub of those that are connected.
    pub(super) fn on_roster(&mut self) {
        let members = &self.members;
        let joined = self.strangers.extract_if(.., |_, it| is_member(members, &it.peer));
        for (connection_id, stranger) in joined {
            let Stranger { peer: peer_id, endpoint, waiting } = stranger;
            let established = ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            };
            self.gossip.on_swarm_event(FromSwarm::ConnectionEstablished(established));
            for event in waiting {
                self.gossip.on_connection_handler_event(peer_id, connection_id, event);
            }
        }
    }
}

fn is_member(members: &Members, peer: &PeerId) -> bool {
    names::node_id(peer).is_some_and(|node| members.has(&node))
}

impl NetworkBehaviour for MembersOnly {
    type ConnectionHandler = THandler<Behaviour>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.gossip.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.gossip
            .handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(it) if !is_member(&self.members, &it.peer_id) => {
                let stranger = Stranger {
                    peer: it.peer_id,
                    endpoint: it.endpoint.clone(),
                    waiting: Vec::new(),
                };
                self.strangers.insert(it.connection_id, stranger);
            }
            // gossipsub has not heard of it.
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
                if self.strangers.remove(&connection_id).is_some() => {}
            event => self.gossip.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Some(stranger) = self.strangers.get_mut(&connection) {
            if stranger.waiting.len() < MAX_WAITING {
                stranger.waiting.push(event);
            }
            return;
        }
        // A node that was removed says nothing any more until its connection is closed.
        if is_member(&self.members, &peer) {
            self.gossip.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.gossip.poll(cx)
    }
}
