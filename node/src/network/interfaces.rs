//! The device's network interfaces: the types that netlink fills and the other modules read.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The use of an interface to other nodes, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// The default route leaves by it.
    Default,
    /// Another network of the device, wired or not.
    Lan,
    /// A tunnel, for example of a VPN.
    Tunnel,
    /// The device itself. Addresses on it other than loopback ones are routed to the device.
    Loopback,
    /// A network between containers or virtual machines of this device.
    Container,
}

/// An interface that is up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    /// The kernel's index of the interface.
    pub index: u32,
    pub name: String,
    pub class: Class,
    /// The interface has a carrier signal, as far as the kernel knows.
    pub is_running: bool,
    /// The interface supports multicast.
    pub is_multicast: bool,
    /// The addresses that may be announced, the interface's primary ones first.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Interfaces {
    pub all: Vec<Interface>,
    /// Every address of the device, also those that are not announced.
    pub local: BTreeSet<IpAddr>,
}

impl Interfaces {
    /// The addresses whose change means that the device moved; those of containers are not among
    /// them.
    pub(super) fn outer_addresses(&self) -> BTreeSet<IpAddr> {
        let outer = self
            .all
            .iter()
            .filter(|interface| !matches!(interface.class, Class::Container | Class::Loopback));
        outer.flat_map(|interface| interface.addresses.iter().copied()).collect()
    }
}
