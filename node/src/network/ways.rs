//! Where each peer was last reached: the address that is dialled first, and whose refusal counts
//! most.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use libp2p::core::ConnectedPoint;
use shoal_protocol::model::NodeId;

use super::names;

/// Peers whose way is remembered: all that a full mesh, the links across a large cluster and some
/// thousand requests on demand lead to. One takes some 80 bytes; the oldest makes room.
const MOST: usize = 1_024;

/// What is known of the far end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// This node dialled it: the peer listens there.
    Dialled(SocketAddr),
    /// The peer dialled from there. Its port is any free one; the port to dial stands in its
    /// record.
    CameFrom(IpAddr),
}

/// The way of each peer's last link. In memory only: after a start nothing is proven.
#[derive(Default)]
pub(super) struct Ways {
    last: BTreeMap<NodeId, (Way, u64)>,
    turn: u64,
}

impl Ways {
    /// A link came up over this way.
    pub(super) fn carried(&mut self, node: NodeId, way: Way) {
        // The same device dialled us this time: the port that was found to be its own still is.
        let way = match (way, self.last.get(&node)) {
            (Way::CameFrom(ip), Some((Way::Dialled(known), _))) if known.ip() == ip => {
                Way::Dialled(*known)
            }
            _ => way,
        };
        self.turn += 1;
        if self.last.len() >= MOST && !self.last.contains_key(&node) {
            let oldest = self.last.iter().min_by_key(|(_, (_, turn))| *turn).map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                self.last.remove(&oldest);
            }
        }
        self.last.insert(node, (way, self.turn));
    }

    /// Whether the last link with this node went over this address.
    pub(super) fn leads_to(&self, node: &NodeId, address: &SocketAddr) -> bool {
        self.last.get(node).is_some_and(|(way, _)| way.is(address))
    }

    /// Another node was met at this address: it is not this node's any more.
    pub(super) fn leads_elsewhere(&mut self, node: &NodeId, address: &SocketAddr) {
        if self.leads_to(node, address) {
            self.last.remove(node);
        }
    }
}

impl Way {
    /// How a connection came about; none where its far end has no address of ours.
    pub(super) fn of(endpoint: &ConnectedPoint) -> Option<Way> {
        let socket = names::socket(endpoint.get_remote_address())?;
        Some(if endpoint.is_dialer() { Way::Dialled(socket) } else { Way::CameFrom(socket.ip()) })
    }

    pub(super) fn ip(&self) -> IpAddr {
        match self {
            Way::Dialled(address) => address.ip(),
            Way::CameFrom(ip) => *ip,
        }
    }

    fn is(&self, address: &SocketAddr) -> bool {
        match self {
            Way::Dialled(known) => known == address,
            Way::CameFrom(ip) => *ip == address.ip(),
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
        let mut ways = Ways::default();
        ways.carried(node, Way::Dialled(at("10.0.0.1:7700")));
        ways.carried(node, Way::CameFrom("10.0.0.1".parse().unwrap()));
        assert!(ways.leads_to(&node, &at("10.0.0.1:7700")));
        assert!(!ways.leads_to(&node, &at("10.0.0.1:7701")), "the port was proven, and stays");
        ways.carried(node, Way::CameFrom("10.0.0.2".parse().unwrap()));
        assert!(
            ways.leads_to(&node, &at("10.0.0.2:7700"))
                && !ways.leads_to(&node, &at("10.0.0.1:7700"))
        );
        ways.leads_elsewhere(&node, &at("10.0.0.1:7700"));
        assert!(ways.leads_to(&node, &at("10.0.0.2:7700")));
        ways.leads_elsewhere(&node, &at("10.0.0.2:7700"));
        assert!(!ways.leads_to(&node, &at("10.0.0.2:7700")));
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
        let mut ways = Ways::default();
        for n in 0..=MOST {
            ways.carried(node(n), Way::Dialled(at("10.0.0.1:1")));
        }
        assert_eq!(ways.last.len(), MOST);
        assert!(
            !ways.leads_to(&node(0), &at("10.0.0.1:1"))
                && ways.leads_to(&node(MOST), &at("10.0.0.1:1"))
        );
    }
}
