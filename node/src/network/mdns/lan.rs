//! The local networks of this device: the interfaces over which other devices can be met.
//!
//! Left out: loopback, point-to-point links (tunnels, modems with a data plan), and bridges that
//! lead only to containers or virtual machines of this device.

use std::net::{IpAddr, SocketAddr};

use super::super::interfaces::{Class, Interface, Interfaces};

/// The number of interfaces that are used. A device has a few.
const MAX_LANS: usize = 16;

/// An interface with at least one address that this node listens at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lan {
    pub index: u32,
    pub name: String,
    /// The addresses at which this node can be dialled over it.
    pub addresses: Vec<SocketAddr>,
}

/// The local networks, for a node that listens there.
pub(super) fn lans(interfaces: &Interfaces, listening: SocketAddr) -> Vec<Lan> {
    let used =
        interfaces.all.iter().filter(|interface| is_lan(interface)).filter_map(|interface| {
            let addresses = dialable(&interface.addresses, listening);
            (!addresses.is_empty()).then(|| Lan {
                index: interface.index,
                name: interface.name.clone(),
                addresses,
            })
        });
    let mut lans: Vec<Lan> = used.collect();
    lans.sort_by_key(|lan| lan.index);
    lans.truncate(MAX_LANS);
    lans
}

/// Whether other devices can be met on the interface.
fn is_lan(interface: &Interface) -> bool {
    interface.is_running
        && interface.is_multicast
        && matches!(interface.class, Class::Default | Class::Lan)
}

/// The addresses of an interface that others can dial and that this node listens on.
fn dialable(found: &[IpAddr], listening: SocketAddr) -> Vec<SocketAddr> {
    let wanted = |ip: &IpAddr| match (listening.ip(), ip) {
        (IpAddr::V4(any), IpAddr::V4(_)) if any.is_unspecified() => true,
        // A link-local address leads nowhere without its scope id, which differs on each device.
        (IpAddr::V6(any), IpAddr::V6(ip)) if any.is_unspecified() => !ip.is_unicast_link_local(),
        (one, _) => one == *ip,
    };
    let mut addresses: Vec<IpAddr> = found.iter().filter(|ip| wanted(ip)).copied().collect();
    // Self-assigned addresses are used only where there are no better ones.
    let is_self_assigned = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    if !addresses.iter().all(is_self_assigned) {
        addresses.retain(|ip| !is_self_assigned(ip));
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|ip| SocketAddr::new(ip, listening.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loopback, bridges of containers, tunnels, and interfaces that are down or without multicast
    /// are left out.
    #[test]
    fn only_networks_with_other_devices_are_used() {
        let interface = |index, name: &str, class, is_running, is_multicast| Interface {
            index,
            name: name.into(),
            class,
            is_running,
            is_multicast,
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
        };
        let all = vec![
            interface(5, "br0", Class::Lan, true, true),
            interface(1, "lo", Class::Loopback, true, true),
            interface(2, "eth0", Class::Default, true, true),
            interface(3, "docker0", Class::Container, true, true),
            interface(4, "wg0", Class::Tunnel, true, true),
            interface(9, "eth2", Class::Lan, false, true),
            interface(10, "can0", Class::Lan, true, false),
        ];
        let found =
            lans(&Interfaces { all, ..Interfaces::default() }, "0.0.0.0:7".parse().unwrap());
        assert_eq!(found.iter().map(|lan| lan.name.as_str()).collect::<Vec<_>>(), ["eth0", "br0"]);
    }

    /// An announced address must lead to this node's listener.
    #[test]
    fn only_addresses_the_node_listens_on_are_used() {
        let found: Vec<IpAddr> = ["169.254.1.1", "10.0.0.2", "fe80::1", "2001:db8::2"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let at = |listening: &str| {
            dialable(&found, listening.parse().unwrap())
                .iter()
                .map(SocketAddr::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(at("0.0.0.0:7"), ["10.0.0.2:7"]);
        assert_eq!(at("[::]:7"), ["[2001:db8::2]:7"]);
        assert_eq!(at("10.0.0.2:7"), ["10.0.0.2:7"]);
        assert_eq!(at("10.0.0.9:7"), [""; 0]);
        let alone = [found[0]];
        assert_eq!(
            dialable(&alone, "0.0.0.0:7".parse().unwrap()).len(),
            1,
            "two devices on one cable"
        );
    }
}
