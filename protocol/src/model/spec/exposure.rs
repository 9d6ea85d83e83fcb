//! How a workload is reached, and what it stores. Not supported yet beyond the names that every
//! workload has: the forms may change until they are.

use serde::{Deserialize, Serialize};

/// Names and ports besides `NAME.shoal` at the ingress.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exposure {
    /// Further host names.
    pub hosts: Vec<String>,
    /// Ports of the device that lead to ports of the replica.
    pub ports: Vec<Port>,
}

/// A port of the device that leads to a port of the replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// On the device; none for any.
    pub device: Option<u16>,
    /// In the replica.
    pub replica: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// A file or folder that outlives a replica, or comes from elsewhere. The mounts of its containers
/// say where it is in them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// The name, a DNS label.
    pub name: String,
    /// Its source.
    pub source: VolumeSource,
}

/// The source of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A folder that shoal keeps on the node.
    Kept,
    /// A path of the device.
    Device(String),
}
