//! Conversions between the names of shoal and those of libp2p.

use std::net::SocketAddr;

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, StreamProtocol};
use shoal_protocol::model::{ClusterId, NodeId};

/// The bytes before a NodeId in a PeerId: an identity multihash holds a protobuf of key type and 32
/// bytes of key.
const KEY_PROTOBUF: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

pub(super) fn keypair(seed: &[u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(*seed).expect("any 32 bytes are an Ed25519 seed")
}

/// None for bytes that are no point of the curve: no node can have such a key.
pub(super) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// None for a key that is not Ed25519.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    let key = hash.digest().strip_prefix(&KEY_PROTOBUF).filter(|_| hash.code() == 0)?;
    Some(NodeId(key.try_into().ok()?))
}

/// `/shoal/CLUSTER/WHAT`: two clusters on one network share no protocol.
pub(super) fn protocol(cluster: &ClusterId, what: &str) -> StreamProtocol {
    let name = format!("/shoal/{}/{what}", cluster.short());
    StreamProtocol::try_from_owned(name).expect("it starts with a slash")
}

pub(super) fn multiaddr(address: &SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// Parses a multiaddr, as the core writes it, or a plain `IP:PORT`, as people do.
pub(super) fn parse(text: &str) -> Option<Multiaddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| multiaddr(&address)))
}

/// The socket address of an IP and TCP multiaddr.
pub(super) fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The address as `IP:PORT`, for people.
pub(super) fn show(address: &Multiaddr) -> String {
    socket(address).map_or_else(|| address.to_string(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::KeyPair;

    use super::*;

    /// The conversions are inverse to one another.
    #[test]
    fn node_id_and_peer_id_hold_the_same_key() {
        for seed in 0..20 {
            let node = NodeId(KeyPair::from_seed(&[seed; 32]).public().0);
            let peer = keypair(&[seed; 32]).public().to_peer_id();
            assert_eq!(peer_id(&node), Some(peer));
            assert_eq!(node_id(&peer), Some(node));
        }
    }

    /// The core writes multiaddrs, people write `IP:PORT`.
    #[test]
    fn addresses_parse_as_multiaddr_and_as_ip_and_port() {
        let written = parse("127.0.0.1:7700").unwrap();
        assert_eq!(written, parse("/ip4/127.0.0.1/tcp/7700").unwrap());
        assert_eq!(socket(&written), Some("127.0.0.1:7700".parse().unwrap()));
        assert_eq!(socket(&parse("[::1]:9").unwrap()), Some("[::1]:9".parse().unwrap()));
        assert!(parse("kitchen").is_none());
    }
}
