//! What the network needs to start.

use std::net::SocketAddr;

use shoal_protocol::model::ClusterId;

use super::carriers;
use crate::identity::Identity;

/// What a network needs to start.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The seed of the node's key.
    pub seed: [u8; 32],
    /// The cluster, whose id is in every protocol's name.
    pub cluster: ClusterId,
    /// What only members know: handshakes of others fail.
    pub secret: [u8; 32],
    /// Where to listen. Port 0 takes any free one. An address that the device does not have is
    /// waited for.
    pub listen: SocketAddr,
    /// Where others are told to dial this node; none for the device's own addresses.
    pub advertise: Vec<SocketAddr>,
    /// When a connection for what is large is given up.
    pub carriers: carriers::Limits,
    /// Whether members are looked for on the local network.
    pub mdns: bool,
}

impl NetworkConfig {
    /// The network of this node, listening there.
    pub fn new(identity: &Identity, listen: SocketAddr) -> Self {
        NetworkConfig {
            seed: *identity.node_seed(),
            cluster: identity.cluster(),
            secret: identity.transport_secret(),
            listen,
            advertise: Vec::new(),
            carriers: carriers::Limits::default(),
            mdns: true,
        }
    }
}
