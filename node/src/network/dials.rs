//! The state of the dials under way.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::DialTarget;

use super::cancellable::DialCanceller;
use super::last_addresses::{LastAddresses, PeerAddress};
use super::mdns::Mdns;
use super::race::Race;
use super::types::DialRequester;

impl DialRequester {
    pub(super) fn key(&self) -> RaceKey {
        match self {
            DialRequester::Core(DialTarget::Node(node)) | DialRequester::Stream(node, _) => {
                RaceKey::Node(*node)
            }
            DialRequester::Core(DialTarget::Address(address)) => RaceKey::Seed(address.clone()),
        }
    }
}

/// The target of a race.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RaceKey {
    Node(NodeId),
    /// Any member that answers at this seed.
    Seed(String),
}

impl RaceKey {
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            RaceKey::Node(node) => Some(*node),
            RaceKey::Seed(_) => None,
        }
    }
}

/// All dials under way, and the last known addresses.
pub(super) struct Dials {
    /// A race for each peer or seed. The core dials few at a time, and a stream waits for the dial
    /// that is under way.
    pub(super) races: BTreeMap<RaceKey, Race>,
    /// The dials of all races, one for each address.
    pub(super) by_connection: BTreeMap<ConnectionId, (RaceKey, Multiaddr)>,
    pub(super) last_addresses: LastAddresses,
    pub(super) canceller: DialCanceller,
    /// Searches members that cannot be dialled.
    pub(super) mdns: Option<Mdns>,
    /// Timers after which a race is advanced.
    pub(super) wake_ups: FuturesUnordered<BoxFuture<'static, RaceKey>>,
}

impl Dials {
    pub(super) fn new(canceller: DialCanceller, mdns: Option<Mdns>) -> Dials {
        Dials {
            races: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            last_addresses: LastAddresses::default(),
            canceller,
            mdns,
            wake_ups: FuturesUnordered::new(),
        }
    }

    /// Ends the race that led to this connection, if this node dialled it, and cancels its other
    /// dials. Returns the requesters.
    pub(super) fn won(&mut self, connection: ConnectionId) -> Vec<DialRequester> {
        let race =
            self.by_connection.remove(&connection).and_then(|(key, _)| self.races.remove(&key));
        race.map(|race| race.requesters).unwrap_or_default()
    }

    /// Notes the address of a new link, and ends the race for its node. Returns the requesters.
    pub(super) fn linked(
        &mut self,
        node: NodeId,
        address: Option<PeerAddress>,
    ) -> Vec<DialRequester> {
        if let Some(address) = address {
            self.last_addresses.record(node, address);
        }
        self.races.remove(&RaceKey::Node(node)).map(|race| race.requesters).unwrap_or_default()
    }
}
