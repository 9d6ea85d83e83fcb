//! The connections to each peer, and which of them is the link. Plain bookkeeping: it decides, the
//! swarm's task acts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use shoal_protocol::model::{Lane, NodeId};

use super::last_addresses::PeerAddress;
use super::link::{Lanes, LinkHandle};
use super::types::DialRequester;

/// If the peer dials anew while its link is older than this, the link is dead on the peer's side;
/// with a younger link it is the other half of a simultaneous dial.
const STALE: Duration = Duration::from_secs(10);

/// The state of one peer while there is a connection to it.
#[derive(Default)]
pub(super) struct Peer {
    connections: BTreeMap<ConnectionId, Connection>,
    pub link: Option<Link>,
    /// Requesters of dials that led to this peer and are not yet answered, by connection.
    pub waiting: Vec<(ConnectionId, DialRequester)>,
}

#[derive(Default)]
struct Connection {
    /// The address of its other end.
    remote: Option<PeerAddress>,
    urgent: Option<Stream>,
    bulk: Option<Stream>,
}

pub(super) struct Link {
    pub connection: ConnectionId,
    pub handle: Arc<LinkHandle>,
    since: Instant,
}

/// How to treat a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Open the lanes on it.
    Open,
    /// The peer decides: it opens the lanes, or closes the connection.
    Await,
    /// Another connection is kept.
    Close,
}

impl Peer {
    /// Notes a connection. The node with the lower id decides which connection carries the link, so
    /// that both nodes use the same one.
    pub(super) fn connected(
        &mut self,
        me: &NodeId,
        peer: &NodeId,
        id: ConnectionId,
        inbound: bool,
        now: Instant,
    ) -> Decision {
        let decision = if me > peer {
            Decision::Await
        } else if let Some(link) =
            self.link.as_ref().filter(|link| self.connections.contains_key(&link.connection))
        {
            let stale = inbound && now.saturating_duration_since(link.since) > STALE;
            if stale { Decision::Open } else { Decision::Close }
        } else if self.connections.is_empty() {
            Decision::Open
        } else {
            Decision::Close
        };
        if decision != Decision::Close {
            self.connections.insert(id, Connection::default());
        }
        decision
    }

    /// Notes the remote address of a connection.
    pub(super) fn set_remote(&mut self, id: ConnectionId, remote: Option<PeerAddress>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.remote = remote;
        }
    }

    /// The remote address of a connection.
    pub(super) fn remote(&self, id: ConnectionId) -> Option<PeerAddress> {
        self.connections.get(&id).and_then(|connection| connection.remote)
    }

    /// Notes a lane's stream, opened by either side; returns both streams once both are there. A
    /// surplus one is dropped, which resets it.
    pub(super) fn lane(
        &mut self,
        id: ConnectionId,
        lane: Lane,
        stream: Stream,
    ) -> Option<Lanes<Stream>> {
        let linked = self.link.as_ref().is_some_and(|link| link.connection == id);
        let connection = self.connections.get_mut(&id).filter(|_| !linked)?;
        let stream_slot = match lane {
            Lane::Urgent => &mut connection.urgent,
            Lane::Bulk => &mut connection.bulk,
        };
        stream_slot.get_or_insert(stream);
        match (connection.urgent.take(), connection.bulk.take()) {
            (Some(urgent), Some(bulk)) => Some(Lanes { urgent, bulk }),
            (urgent, bulk) => {
                (connection.urgent, connection.bulk) = (urgent, bulk);
                None
            }
        }
    }

    /// The link's connection, its remote address, and since when it is the link.
    pub(super) fn link_remote(&self) -> Option<(ConnectionId, IpAddr, Instant)> {
        let link = self.link.as_ref()?;
        Some((link.connection, self.remote(link.connection)?.ip(), link.since))
    }

    /// Notes the link; returns the one it replaces.
    pub(super) fn linked(
        &mut self,
        connection: ConnectionId,
        handle: Arc<LinkHandle>,
        now: Instant,
    ) -> Option<Link> {
        self.link.replace(Link { connection, handle, since: now })
    }

    /// Forgets the link if this connection carried it.
    pub(super) fn unlinked(&mut self, id: ConnectionId) -> bool {
        self.link.take_if(|link| link.connection == id).is_some()
    }

    /// Forgets a connection.
    pub(super) fn closed(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// Whether no link came of this connection.
    pub(super) fn is_unlinked(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
            && self.link.as_ref().is_none_or(|link| link.connection != id)
    }

    /// The connections that did not become the link.
    pub(super) fn unlinked_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.keys().copied().filter(|id| self.is_unlinked(*id))
    }

    /// Whether there is neither a connection nor a link left.
    pub(super) fn is_forgettable(&self) -> bool {
        self.connections.is_empty() && self.link.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    const LOW: NodeId = NodeId([1; 32]);
    const HIGH: NodeId = NodeId([2; 32]);

    /// Both nodes dial at the same time. Each sees the two connections in another order, and both
    /// must keep the same one.
    #[test]
    fn lower_node_decides_between_simultaneous_dials() {
        let now = Instant::now();
        let (mut low, mut high) = (Peer::default(), Peer::default());
        // The two ends see the two connections in different orders.
        assert_eq!(low.connected(&LOW, &HIGH, id(1), false, now), Decision::Open);
        assert_eq!(low.connected(&LOW, &HIGH, id(2), true, now), Decision::Close);
        assert_eq!(high.connected(&HIGH, &LOW, id(2), false, now), Decision::Await);
        assert_eq!(high.connected(&HIGH, &LOW, id(1), true, now), Decision::Await);
    }

    /// A peer that restarted dials while its old link still looks alive here. A link younger than
    /// `STALE` stays, since that dial may be half of a simultaneous pair.
    #[test]
    fn redial_replaces_an_old_link_but_not_a_fresh_one() {
        let now = Instant::now();
        let mut low = Peer::default();
        low.connected(&LOW, &HIGH, id(1), true, now);
        assert!(low.linked(id(1), Arc::default(), now).is_none());
        assert_eq!(low.connected(&LOW, &HIGH, id(2), true, now + STALE), Decision::Close);
        assert_eq!(
            low.connected(&LOW, &HIGH, id(3), false, now + STALE * 2),
            Decision::Close,
            "our own second dial"
        );
        assert_eq!(low.connected(&LOW, &HIGH, id(4), true, now + STALE * 2), Decision::Open);
        let old = low.linked(id(4), Arc::default(), now + STALE * 2).unwrap();
        assert_eq!(old.connection, id(1));
        low.closed(id(1));
        assert!(!low.unlinked(id(1)) && low.unlinked(id(4)));
        low.closed(id(4));
        assert!(low.is_forgettable());
    }
}
