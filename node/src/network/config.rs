//! The configuration of the network.

use std::net::SocketAddr;

use shoal_protocol::model::ClusterId;

use super::carriers;
use crate::identity::Identity;

/// The configuration of the network.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The seed of the node's key.
    pub seed: [u8; 32],
    /// The cluster; its id is part of every protocol's name.
    pub cluster: ClusterId,
    /// The bytes that both ends of a handshake must know, made from the cluster's root key: those
    /// with other clusters fail. It keeps nobody out: that is what the roster does.
    pub prologue: [u8; 32],
    /// The address to listen on. Port 0 takes any free one. If the device does not have the
    /// address, the node waits for it.
    pub listen: SocketAddr,
    /// Addresses to announce; if empty, the device's own.
    pub advertise: Vec<SocketAddr>,
    /// The time limits of carriers.
    pub carriers: carriers::Limits,
    /// Whether to search members on the local network by mDNS.
    pub mdns: bool,
}

impl NetworkConfig {
    /// The defaults for this node, listening there.
    pub fn new(identity: &Identity, listen: SocketAddr) -> Self {
        NetworkConfig {
            seed: *identity.node_seed(),
            cluster: identity.cluster(),
            prologue: identity.prologue(),
            listen,
            advertise: Vec::new(),
            carriers: carriers::Limits::default(),
            mdns: true,
        }
    }
}
