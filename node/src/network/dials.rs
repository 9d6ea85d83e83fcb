//! The dials under way.

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

/// Whom a dial is to meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RaceKey {
    Node(NodeId),
    /// Whoever of the cluster answers for this seed.
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

/// All dials under way, and what is remembered of where they led.
pub(super) struct Dials {
    /// One for each peer or seed. The core dials few at a time, and whoever wants a stream waits
    /// for the dial that is under way.
    pub(super) races: BTreeMap<RaceKey, Race>,
    /// The dials that these consist of, one for each address.
    pub(super) by_connection: BTreeMap<ConnectionId, (RaceKey, Multiaddr)>,
    pub(super) last_addresses: LastAddresses,
    pub(super) canceller: DialCanceller,
    /// Asked for members that cannot be dialled.
    pub(super) mdns: Option<Mdns>,
    /// When a race is looked at again.
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

    /// A connection is there: those who wait for its dial, if this node made it. The dials of the
    /// other addresses are given up.
    pub(super) fn won(&mut self, connection: ConnectionId) -> Vec<DialRequester> {
        let race =
            self.by_connection.remove(&connection).and_then(|(key, _)| self.races.remove(&key));
        race.map(|race| race.requesters).unwrap_or_default()
    }

    /// There is a link with a node, this way: its address is proven, and nobody needs to dial the
    /// node. Gives back those who wanted it dialled.
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
