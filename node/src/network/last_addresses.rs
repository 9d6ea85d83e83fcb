//! Where each peer was last reached: the address that is dialled first, and whose refusal counts
//! most.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use libp2p::core::ConnectedPoint;
use shoal_protocol::model::NodeId;

use super::names;

/// Peers whose way is remembered: all that a full mesh, the links across a large cluster and some
/// thousand requests on demand lead to. One takes some 80 bytes; the oldest makes room.
const MAX_PEERS: usize = 1_024;

/// What is known of the far end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PeerAddress {
    /// This node dialled it: the peer listens there.
    Dialled(SocketAddr),
    /// The peer dialled from there. Its port is any free one; the port to dial stands in its
    /// record.
    Inbound(IpAddr),
}

/// The way of each peer's last link. In memory only: after a start nothing is proven.
#[derive(Default)]
pub(super) struct LastAddresses {
    last: BTreeMap<NodeId, (PeerAddress, u64)>,
    sequence: u64,
}

impl LastAddresses {
    /// A link came up over this way.
    pub(super) fn record(&mut self, node: NodeId, address: PeerAddress) {
        // The same device dialled us this time: the port that was found to be its own still is.
        let address = match (address, self.last.get(&node)) {
            (PeerAddress::Inbound(ip), Some((PeerAddress::Dialled(known), _)))
                if known.ip() == ip =>
            {
                PeerAddress::Dialled(*known)
            }
            _ => address,
        };
        self.sequence += 1;
        if self.last.len() >= MAX_PEERS && !self.last.contains_key(&node) {
            let oldest =
                self.last.iter().min_by_key(|(_, (_, sequence))| *sequence).map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                self.last.remove(&oldest);
            }
        }
        self.last.insert(node, (address, self.sequence));
    }

    /// Whether the last link with this node went over this address.
    pub(super) fn is_last(&self, node: &NodeId, address: &SocketAddr) -> bool {
        self.last.get(node).is_some_and(|(last, _)| last.matches(address))
    }

    /// Another node was met at this address: it is not this node's any more.
    pub(super) fn forget(&mut self, node: &NodeId, address: &SocketAddr) {
        if self.is_last(node, address) {
            self.last.remove(node);
        }
    }
}

impl PeerAddress {
    /// How a connection came about; none where its far end has no address of ours.
    pub(super) fn of(endpoint: &ConnectedPoint) -> Option<PeerAddress> {
        let socket = names::socket(endpoint.get_remote_address())?;
        Some(if endpoint.is_dialer() {
            PeerAddress::Dialled(socket)
        } else {
            PeerAddress::Inbound(socket.ip())
        })
    }

    pub(super) fn ip(&self) -> IpAddr {
        match self {
            PeerAddress::Dialled(address) => address.ip(),
            PeerAddress::Inbound(ip) => *ip,
        }
    }

    fn matches(&self, address: &SocketAddr) -> bool {
        match self {
            PeerAddress::Dialled(known) => known == address,
            PeerAddress::Inbound(ip) => *ip == address.ip(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn last_link_names_the_address_until_another_node_is_met() {
        let node = NodeId([1; 32]);
        let mut addresses = LastAddresses::default();
        addresses.record(node, PeerAddress::Dialled(at("10.0.0.1:7700")));
        addresses.record(node, PeerAddress::Inbound("10.0.0.1".parse().unwrap()));
        assert!(addresses.is_last(&node, &at("10.0.0.1:7700")));
        assert!(!addresses.is_last(&node, &at("10.0.0.1:7701")), "the port was proven, and stays");
        addresses.record(node, PeerAddress::Inbound("10.0.0.2".parse().unwrap()));
        assert!(
            addresses.is_last(&node, &at("10.0.0.2:7700"))
                && !addresses.is_last(&node, &at("10.0.0.1:7700"))
        );
        addresses.forget(&node, &at("10.0.0.1:7700"));
        assert!(addresses.is_last(&node, &at("10.0.0.2:7700")));
        addresses.forget(&node, &at("10.0.0.2:7700"));
        assert!(!addresses.is_last(&node, &at("10.0.0.2:7700")));
    }

    #[test]
    fn memory_of_ways_is_bounded_and_drops_the_oldest() {
        let node = |n: usize| {
            NodeId({
                let mut id = [0; 32];
                id[..8].copy_from_slice(&n.to_be_bytes());
                id
            })
        };
        let mut addresses = LastAddresses::default();
        for n in 0..=MAX_PEERS {
            addresses.record(node(n), PeerAddress::Dialled(at("10.0.0.1:1")));
        }
        assert_eq!(addresses.last.len(), MAX_PEERS);
        assert!(
            !addresses.is_last(&node(0), &at("10.0.0.1:1"))
                && addresses.is_last(&node(MAX_PEERS), &at("10.0.0.1:1"))
        );
    }
}
