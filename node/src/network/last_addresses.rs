//! The address of each peer's last link: it is dialled first, and its refusal counts most.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use libp2p::core::ConnectedPoint;
use shoal_protocol::model::NodeId;

use super::names;

/// Remembered peers: enough for a full mesh, the links across a large cluster and some thousand
/// requests on demand. One takes some 80 bytes; the oldest is forgotten first.
const MAX_PEERS: usize = 1_024;

/// The remote address of a link, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PeerAddress {
    /// This node dialled the peer there: the peer listens at this address.
    Dialled(SocketAddr),
    /// The peer dialled from there. Its port there is ephemeral; the port to dial is in its record.
    Inbound(IpAddr),
}

/// The address of each peer's last link. In memory only: after a start no address is proven.
#[derive(Default)]
pub(super) struct LastAddresses {
    last: BTreeMap<NodeId, (PeerAddress, u64)>,
    sequence: u64,
}

impl LastAddresses {
    /// Notes that a link came up over this address.
    pub(super) fn record(&mut self, node: NodeId, address: PeerAddress) {
        // The same device dialled this node: the port that is known from an earlier dial stays.
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

    /// Forgets the address, because another node was met there.
    pub(super) fn forget(&mut self, node: &NodeId, address: &SocketAddr) {
        if self.is_last(node, address) {
            self.last.remove(node);
        }
    }
}

impl PeerAddress {
    /// The remote address of a connection; none where libp2p names it in another form.
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

    /// The peer is met at an address, then dials from there, then from elsewhere; then another node
    /// answers.
    #[test]
    fn last_address_counts_until_another_node_answers_there() {
        let node = NodeId([1; 32]);
        let mut addresses = LastAddresses::default();
        addresses.record(node, PeerAddress::Dialled(at("10.0.0.1:7700")));
        addresses.record(node, PeerAddress::Inbound("10.0.0.1".parse().unwrap()));
        assert!(addresses.is_last(&node, &at("10.0.0.1:7700")));
        assert!(!addresses.is_last(&node, &at("10.0.0.1:7701")), "the proven port stays");
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

    /// Memory for last addresses is bounded.
    #[test]
    fn last_addresses_are_bounded_and_drop_the_oldest() {
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
