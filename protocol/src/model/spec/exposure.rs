//! How a workload is reached, and what it stores.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Names and ports besides `NAME.shoal` at the ingress.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exposure {
    /// Further host names. Not supported yet.
    pub hosts: Vec<String>,
    /// Ports of the device that lead to ports of the replica.
    pub ports: Vec<Port>,
}

/// A port of the device that leads to a port of the replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// On the device. One replica of a node has it, of whatever workload.
    pub device: u16,
    /// In the replica.
    pub replica: u16,
    /// UDP instead of TCP.
    #[serde(default)]
    pub udp: bool,
    /// The device's address at which it listens; none for all of them.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// A port of a device, which one replica of a node may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct HostPort {
    /// Its number.
    pub port: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, if self.udp { "udp" } else { "tcp" })
    }
}

/// A file or folder that outlives a replica, or comes from elsewhere. The mounts of its containers
/// say where it is in them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The name, a DNS label.
    pub name: String,
    /// Its source.
    pub source: VolumeSource,
    /// The way to go on when the node that keeps it is down.
    #[serde(default)]
    pub on_loss: OnLoss,
}

/// The way to go on with a replica when the node that keeps its volume is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// It waits for the node.
    #[default]
    Wait,
    /// It starts on another node, with an empty volume.
    Empty,
}

/// The source of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// A volume of the node, which outlives the replica and the workload.
    Kept,
    /// A path of the device.
    Device(String),
    /// A folder that is empty when the replica starts for the first time, is shared by its
    /// containers and goes with it. It came after form 2.
    Scratch,
}
