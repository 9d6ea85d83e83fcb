//! The device's network interfaces, as the modules that use them see them.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// What an interface is to others, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// What is sent to far away leaves by it.
    Default,
    /// Another network of the device, wired or not.
    Lan,
    /// A tunnel, as of a VPN.
    Tunnel,
    /// The device itself; its addresses that are not loopback ones are routed to it.
    Loopback,
    /// A network between containers or virtual machines of this device.
    Container,
}

/// An interface that is not shut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    pub name: String,
    pub class: Class,
    /// It has a carrier, as far as the kernel knows.
    pub is_running: bool,
    /// It carries what is sent to a group.
    pub is_multicast: bool,
    /// Those that others may be told of, the interface's first ones first.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Interfaces {
    pub all: Vec<Interface>,
    /// Every address of the device, those included that others are not told of.
    pub local: BTreeSet<IpAddr>,
}

impl Interfaces {
    /// Addresses whose coming and going counts as a move of the device; what containers come and go
    /// with does not.
    pub(super) fn outer_addresses(&self) -> BTreeSet<IpAddr> {
        let outer = self
            .all
            .iter()
            .filter(|interface| !matches!(interface.class, Class::Container | Class::Loopback));
        outer.flat_map(|interface| interface.addresses.iter().copied()).collect()
    }
}
