//! Chooses the addresses of the device that are announced, the best first.
//!
//! A record holds sixteen addresses, and each that leads nowhere costs a dialling peer time. So
//! interfaces are ranked before the list is cut: **the default route's, then other networks of the
//! device, then tunnels.** Bridges of containers have the same addresses on every device; they are
//! announced only where there is nothing better, a link-local address only where there is nothing
//! else, and loopback never, since on another device it is that device.

use std::net::IpAddr;

use super::interfaces::{Class, Interfaces};

/// Addresses of one interface that come before those of the other interfaces, so that an interface
/// with many does not push the others out.
const PER_INTERFACE: usize = 4;

/// The technical kind of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkKind {
    /// Hardware, or its equivalents: bonds, VLANs, MAC-VLANs.
    Hardware,
    /// A bridge between other interfaces.
    Bridge,
    /// An end of a veth pair: the way out inside a container, the container's end outside.
    Veth,
    Tunnel,
    /// Local to the device: dummies, overlays of containers.
    Inner,
    Loopback,
}

/// The properties of an interface that decide its class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RawInterface {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub is_up: bool,
    pub is_running: bool,
    pub is_multicast: bool,
    /// The index of the bridge whose port the interface is.
    pub controller: Option<u32>,
}

/// Prefixes of the names that container engines and hypervisors give to interfaces that other
/// devices cannot reach, where the kind does not show it.
const INNER_NAMES: [&str; 18] = [
    "docker",
    "br-",
    "cni",
    "podman",
    "virbr",
    "veth",
    "vnet",
    "vmnet",
    "vboxnet",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "lxd",
    "incusbr",
    "kube-",
    "nodelocaldns",
    "weave",
];

/// The class of an interface; `is_default` where a default route leaves by it.
pub(super) fn classify(raw: &RawInterface, all: &[RawInterface], is_default: bool) -> Class {
    let is_inner_name = INNER_NAMES.iter().any(|name| raw.name.starts_with(name));
    match raw.kind {
        LinkKind::Loopback => Class::Loopback,
        LinkKind::Tunnel => Class::Tunnel,
        LinkKind::Hardware | LinkKind::Bridge | LinkKind::Veth | LinkKind::Inner if is_default => {
            Class::Default
        }
        LinkKind::Inner => Class::Container,
        // A bridge with a hardware port is the device's own way out, whatever its name.
        LinkKind::Bridge => {
            let has_hardware = all
                .iter()
                .any(|port| port.controller == Some(raw.index) && port.kind == LinkKind::Hardware);
            if has_hardware { Class::Lan } else { Class::Container }
        }
        LinkKind::Hardware | LinkKind::Veth if is_inner_name => Class::Container,
        LinkKind::Hardware | LinkKind::Veth => Class::Lan,
    }
}

/// The addresses of a family to announce, the best first.
pub(super) fn ranked(interfaces: &Interfaces, is_v6: bool) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for interface in &interfaces.all {
        let addresses = interface.addresses.iter().filter(|ip| ip.is_ipv6() == is_v6);
        let addresses =
            addresses.filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast());
        for (number, ip) in addresses.enumerate() {
            let tier = match (is_link_local(ip), interface.class) {
                // Without a scope id it leads nowhere.
                (true, _) if is_v6 => continue,
                (true, Class::Container) => continue,
                (true, _) => Tier::LinkLocal,
                (false, Class::Container) => Tier::Inner,
                (false, _) => Tier::Routable,
            };
            found.push((
                (tier, number / PER_INTERFACE, !interface.is_running, interface.class),
                *ip,
            ));
        }
    }
    // A stable sort: interfaces of one rank keep the kernel's order.
    found.sort_by_key(|(rank, _)| *rank);
    let best = found.first().map(|((tier, ..), _)| *tier);
    let mut ranked: Vec<IpAddr> = Vec::new();
    for (_, ip) in found.into_iter().filter(|((tier, ..), _)| Some(*tier) == best) {
        if !ranked.contains(&ip) {
            ranked.push(ip);
        }
    }
    ranked
}

/// Only addresses of the best tier are announced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Routable,
    Inner,
    LinkLocal,
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::Interface;
    use super::*;

    fn raw(index: u32, name: &str, kind: LinkKind) -> RawInterface {
        RawInterface {
            index,
            name: name.into(),
            kind,
            is_up: true,
            is_running: true,
            is_multicast: true,
            controller: None,
        }
    }

    fn interface(name: &str, class: Class, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Interface {
            index: 1,
            name: name.into(),
            class,
            is_running: true,
            is_multicast: true,
            addresses,
        }
    }

    fn announced(all: Vec<Interface>) -> Vec<String> {
        ranked(&Interfaces { all, ..Interfaces::default() }, false)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Eighteen container bridges, listed before the LAN, filled the sixteen addresses of a record
    /// and pushed the LAN address out.
    #[test]
    fn container_bridges_never_push_out_the_lan_address() {
        let mut all: Vec<_> = (0..18)
            .map(|n| {
                interface(&format!("br-{n}"), Class::Container, &[&format!("172.{}.0.1", 16 + n)])
            })
            .collect();
        all.push(interface("eth0", Class::Lan, &["192.168.1.7"]));
        assert_eq!(announced(all.clone()), ["192.168.1.7"]);
        all.pop();
        assert_eq!(announced(all).len(), 18, "better than nothing");
    }

    /// Peers dial the announced addresses in order, so the best must come first.
    #[test]
    fn default_route_comes_first_then_lans_then_tunnels() {
        let all = vec![
            interface("lo", Class::Loopback, &["127.0.0.1", "10.255.0.1"]),
            interface("wg0", Class::Tunnel, &["10.8.0.2"]),
            interface("eth1", Class::Lan, &["10.1.0.2", "169.254.3.4"]),
            interface("eth0", Class::Default, &["10.0.0.2"]),
        ];
        assert_eq!(announced(all), ["10.0.0.2", "10.1.0.2", "10.8.0.2", "10.255.0.1"]);
    }

    /// On another device a loopback address leads to that device itself.
    #[test]
    fn loopback_is_never_announced_and_link_local_last() {
        let lo = || interface("lo", Class::Loopback, &["127.0.0.1"]);
        assert!(announced(vec![lo()]).is_empty());
        assert_eq!(
            announced(vec![lo(), interface("eth0", Class::Lan, &["169.254.3.4"])]),
            ["169.254.3.4"]
        );
    }

    /// A wired interface without a cable keeps its address, which leads nowhere.
    #[test]
    fn interface_without_carrier_ranks_behind_one_with() {
        let mut unplugged = interface("eth0", Class::Default, &["10.0.0.2"]);
        unplugged.is_running = false;
        assert_eq!(
            announced(vec![unplugged, interface("wlan0", Class::Lan, &["10.1.0.2"])]),
            ["10.1.0.2", "10.0.0.2"]
        );
    }

    /// An interface with thirty addresses must not fill the record.
    #[test]
    fn many_addresses_of_one_interface_leave_room_for_others() {
        let many: Vec<String> = (1..=30).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = vec![
            interface("eth0", Class::Default, &many),
            interface("eth1", Class::Lan, &["10.1.0.2"]),
        ];
        assert_eq!(announced(all)[4], "10.1.0.2");
    }

    /// The kind decides, and the name only where the kind does not.
    #[test]
    fn class_follows_the_kind_of_interface() {
        let class = |raw: &RawInterface| classify(raw, std::slice::from_ref(raw), false);
        assert_eq!(class(&raw(1, "eth0", LinkKind::Hardware)), Class::Lan);
        assert_eq!(class(&raw(1, "eth0", LinkKind::Veth)), Class::Lan, "a container's way out");
        assert_eq!(class(&raw(1, "veth12ab", LinkKind::Veth)), Class::Container);
        assert_eq!(
            class(&raw(1, "mynet", LinkKind::Bridge)),
            Class::Container,
            "whatever it is called"
        );
        assert_eq!(class(&raw(1, "wg0", LinkKind::Tunnel)), Class::Tunnel);
        let bridge = raw(1, "br-lan", LinkKind::Bridge);
        let port = RawInterface { controller: Some(1), ..raw(2, "eth0", LinkKind::Hardware) };
        assert_eq!(
            classify(&bridge, &[bridge.clone(), port], false),
            Class::Lan,
            "a router's bridge"
        );
        assert_eq!(classify(&bridge, std::slice::from_ref(&bridge), true), Class::Default);
        assert_eq!(
            classify(&raw(1, "tun0", LinkKind::Tunnel), &[], true),
            Class::Tunnel,
            "others cannot dial into it"
        );
    }
}
