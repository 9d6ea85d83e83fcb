//! The local networks of this device: interfaces that other devices can be met on.
//!
//! Left out: loopback, point-to-point links (tunnels, modems with a data plan), and bridges that
//! lead only to containers or virtual machines of this device.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection, sys};
use tokio::task::AbortHandle;

/// Interfaces that are used, the rest is not: a device has a few.
const MOST_LANS: usize = 16;

/// An interface with at least one address that this node listens at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lan {
    pub index: u32,
    pub name: String,
    /// Where this node can be dialled over it.
    pub addresses: Vec<SocketAddr>,
}

/// The system's word on them.
pub(super) struct Lans {
    handle: Handle,
    changes: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, sys::SocketAddr)>,
    connection: AbortHandle,
    listening: SocketAddr,
    /// Something changed that was not read yet. Kept, because whoever waits may turn to something else meanwhile.
    is_unread: bool,
}

impl Lans {
    pub(super) fn watch(listening: SocketAddr) -> io::Result<Lans> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, changes) = new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Lans { handle, changes, connection, listening, is_unread: true })
    }

    /// All of them: at once the first time, then after each change; none when the system tells no more.
    /// Changes that come within `settle` count as one.
    pub(super) async fn changed(&mut self, settle: Duration) -> Option<Vec<Lan>> {
        if !self.is_unread {
            self.changes.next().await?;
            self.is_unread = true;
        }
        // A program that alters addresses all the time must not keep the others from being heard.
        let settled = async { while let Ok(Some(_)) = tokio::time::timeout(settle, self.changes.next()).await {} };
        let _ = tokio::time::timeout(settle * 10, settled).await;
        let read = self.read().await;
        self.is_unread = false;
        match read {
            Ok(lans) => Some(lans),
            Err(error) => {
                tracing::warn!(%error, "the interfaces could not be read");
                Some(Vec::new())
            }
        }
    }

    async fn read(&self) -> Result<Vec<Lan>, rtnetlink::Error> {
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        let mut found = self.handle.address().get().execute();
        while let Some(message) = found.try_next().await? {
            // `Local` is one's own, `Address` the other end's of a point-to-point link.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            addresses.entry(message.header.index).or_default().extend(local.or(address));
        }
        let ports: Vec<(u32, bool)> = links.iter().filter_map(port_of).collect();
        let mut lans: Vec<Lan> = links
            .iter()
            .filter(|link| is_lan(link, &ports))
            .filter_map(|link| {
                let index = link.header.index;
                let addresses = dialled(addresses.get(&index)?, self.listening);
                (!addresses.is_empty()).then(|| Lan { index, name: name(link).to_owned(), addresses })
            })
            .collect();
        lans.sort_by_key(|lan| lan.index);
        lans.truncate(MOST_LANS);
        Ok(lans)
    }
}

impl Drop for Lans {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Of an interface's addresses those that others can dial on its network and that this node listens at.
fn dialled(found: &[IpAddr], listening: SocketAddr) -> Vec<SocketAddr> {
    let wanted = |ip: &IpAddr| match (listening.ip(), ip) {
        (IpAddr::V4(any), IpAddr::V4(_)) if any.is_unspecified() => true,
        // Without a scope, which is another on each device, a link-local address leads nowhere.
        (IpAddr::V6(any), IpAddr::V6(ip)) if any.is_unspecified() => !ip.is_unicast_link_local(),
        (one, _) => one == *ip,
    };
    let mut addresses: Vec<IpAddr> = found.iter().filter(|ip| wanted(ip)).copied().collect();
    // Addresses that a device gave itself are for want of better ones.
    let is_makeshift = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    if !addresses.iter().all(is_makeshift) {
        addresses.retain(|ip| !is_makeshift(ip));
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|ip| SocketAddr::new(ip, listening.port())).collect()
}

/// Whether other devices can be met there.
fn is_lan(link: &LinkMessage, ports: &[(u32, bool)]) -> bool {
    let flags = link.header.flags;
    let is_ready = flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Multicast);
    if !is_ready || flags.intersects(LinkFlags::Loopback | LinkFlags::Pointopoint) {
        return false;
    }
    match kind(link) {
        // A bridge of a router has a port to the world; one of an engine has none but its guests'.
        Some(InfoKind::Bridge) => {
            !is_engines(name(link)) && ports.iter().any(|(bridge, real)| *bridge == link.header.index && *real)
        }
        _ => true,
    }
}

/// Bridges that container engines and hypervisors make.
fn is_engines(name: &str) -> bool {
    ["docker", "br-", "podman", "cni", "virbr", "lxc", "lxd", "incus", "flannel"].iter().any(|it| name.starts_with(it))
}

/// The bridge that an interface is a port of, and whether it leads out of this device.
fn port_of(link: &LinkMessage) -> Option<(u32, bool)> {
    let bridge = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })?;
    Some((bridge, !matches!(kind(link), Some(InfoKind::Veth | InfoKind::Tun))))
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn name(link: &LinkMessage) -> &str {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, flags: LinkFlags, kind: Option<InfoKind>, bridge: Option<u32>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = flags;
        link.attributes.push(LinkAttribute::IfName(name.into()));
        link.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        link.attributes.extend(bridge.map(LinkAttribute::Controller));
        link
    }

    #[test]
    fn only_networks_with_other_devices_are_used() {
        let up = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Multicast;
        let links = [
            link(1, "lo", up | LinkFlags::Loopback, None, None),
            link(2, "eth0", up, None, None),
            link(3, "docker0", up, Some(InfoKind::Bridge), None),
            link(4, "wg0", up | LinkFlags::Pointopoint, Some(InfoKind::Tun), None),
            link(5, "br0", up, Some(InfoKind::Bridge), None),
            link(6, "eth1", up, None, Some(5)),
            link(7, "br1", up, Some(InfoKind::Bridge), None),
            link(8, "veth1", up, Some(InfoKind::Veth), Some(7)),
            link(9, "eth2", LinkFlags::Up | LinkFlags::Multicast, None, None),
            link(10, "eth3", up, Some(InfoKind::Veth), None),
        ];
        let ports: Vec<_> = links.iter().filter_map(port_of).collect();
        let used: Vec<_> = links.iter().filter(|link| is_lan(link, &ports)).map(name).collect();
        assert_eq!(used, ["eth0", "br0", "eth1", "veth1", "eth3"], "ports of bridges have no address");
    }

    #[test]
    fn addresses_are_those_that_the_node_listens_at() {
        let found: Vec<IpAddr> =
            ["169.254.1.1", "10.0.0.2", "fe80::1", "2001:db8::2"].map(|ip| ip.parse().unwrap()).into();
        let at = |listening: &str| {
            dialled(&found, listening.parse().unwrap()).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(at("0.0.0.0:7"), ["10.0.0.2:7"]);
        assert_eq!(at("[::]:7"), ["[2001:db8::2]:7"]);
        assert_eq!(at("10.0.0.2:7"), ["10.0.0.2:7"]);
        assert_eq!(at("10.0.0.9:7"), [""; 0]);
        let alone = [found[0]];
        assert_eq!(dialled(&alone, "0.0.0.0:7".parse().unwrap()).len(), 1, "two devices on one cable");
    }
}
