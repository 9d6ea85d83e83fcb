//! Reads the device's network interfaces from the kernel, and follows their changes.
//!
//! An event of the kernel only triggers a full read. So a lost or truncated event costs nothing:
//! the next read sees the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::interfaces::{Interface, Interfaces};
use super::ranking::{LinkKind, RawInterface, classify};

/// Events within this time after the first are handled together: an address that moves is removed
/// and added.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The shortest time between two reads: a flapping interface must not keep the device busy. With
/// `DEBOUNCE` a change is announced well within a second.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Time limit of a read, which takes a millisecond.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed read.
const RETRY: Duration = Duration::from_secs(1);
/// Examples of far addresses, for which the kernel names the interface of its default route. No
/// packet is sent to them.
const FAR: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(1, 1, 1, 1), Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1));
/// Events of links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes: bits of the kernel's `RTMGRP_*`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x40 | 0x400;
/// `RTM_NEWROUTE` and `RTM_DELROUTE`.
const ROUTE_EVENTS: [u16; 2] = [24, 25];
/// Bytes of an event that are read; the rest is cut off.
const EVENT_HEAD: usize = 8 * 1024;

/// The interfaces now, and each later state. The task ends with the last receiver.
pub(super) async fn watch() -> io::Result<watch::Receiver<Arc<Interfaces>>> {
    // Subscribe before the first read, so that no change is missed between them.
    let events = events()?;
    let (known, receiver) = watch::channel(Arc::new(read().await?));
    tokio::spawn(follow(events, known));
    Ok(receiver)
}

async fn follow(events: TokioSocket, known: watch::Sender<Arc<Interfaces>>) {
    let mut events = Some(events);
    loop {
        let woken = async {
            match &events {
                Some(socket) => next_event(socket).await,
                None => sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = woken => {}
            () = known.closed() => return,
        }
        sleep(DEBOUNCE).await;
        if events.is_none() {
            events = self::events().ok();
        }
        match read().await {
            Ok(now) => {
                known.send_if_modified(|known| {
                    let is_news = **known != now;
                    if is_news {
                        *known = Arc::new(now);
                    }
                    is_news
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the network interfaces cannot be read; they are read \
                    again");
                events = None;
            }
        }
        sleep(MIN_INTERVAL).await;
    }
}

fn events() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
    Ok(socket)
}

/// Returns after an event that may matter, and when the kernel lost events.
async fn next_event(socket: &TokioSocket) {
    let mut buffer = vec![0; EVENT_HEAD];
    loop {
        let mut room = &mut buffer[..];
        if let Err(error) = socket.recv(&mut room).await {
            tracing::debug!(%error, "events of network interfaces were lost");
            return;
        }
        let length = EVENT_HEAD - room.len();
        if matters(&buffer[..length]) {
            return;
        }
    }
}

/// Whether an event may matter. Changes of single routes do not: routers have hundreds of thousands
/// of them.
fn matters(message: &[u8]) -> bool {
    let Some((head, body)) = message.split_at_checked(16) else { return true };
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    let prefix = body.get(1).copied().unwrap_or_default();
    // Some tunnels add 0.0.0.0/1 and 128.0.0.0/1 instead of a default route.
    !ROUTE_EVENTS.contains(&kind) || prefix <= 1
}

async fn read() -> io::Result<Interfaces> {
    let (connection, handle, _unasked) = rtnetlink::new_connection()?;
    tokio::select! {
        read = timeout(READ_TIMEOUT, query(&handle)) => {
            read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
        () = connection => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
    }
}

async fn query(handle: &Handle) -> io::Result<Interfaces> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(io::Error::other)?;
    let addresses: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(io::Error::other)?;
    let far = [IpAddr::from(FAR.0), IpAddr::from(FAR.1)];
    let mut defaults = BTreeSet::new();
    for far in far {
        // The kernel answers with an error where no route leads there.
        let route = handle.route().get(route_query(far)).execute().try_next().await.ok().flatten();
        defaults.extend(route.and_then(|route| outgoing_interface(&route)));
    }
    Ok(assemble(&links, &addresses, &defaults))
}

/// The query by which interface this address is reached.
fn route_query(far: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match far {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(far)));
    message
}

fn outgoing_interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn assemble(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    defaults: &BTreeSet<u32>,
) -> Interfaces {
    let links: Vec<RawInterface> = links.iter().map(raw_interface).collect();
    let mut of: BTreeMap<u32, Vec<(bool, IpAddr)>> = BTreeMap::new();
    let mut local = BTreeSet::new();
    for address in addresses {
        let Some(ip) = ip(address) else { continue };
        local.insert(ip);
        let flags = flags(address);
        if !flags.intersects(
            AddressFlags::Dadfailed | AddressFlags::Tentative | AddressFlags::Deprecated,
        ) {
            // For IPv6 this flag marks temporary addresses, which change every day.
            of.entry(address.header.index)
                .or_default()
                .push((flags.contains(AddressFlags::Secondary), ip));
        }
    }
    let all = links.iter().filter(|raw| raw.is_up).map(|raw| {
        let mut addresses = of.remove(&raw.index).unwrap_or_default();
        addresses.sort_by_key(|(is_secondary, _)| *is_secondary);
        Interface {
            index: raw.index,
            name: raw.name.clone(),
            class: classify(raw, &links, defaults.contains(&raw.index)),
            is_running: raw.is_running,
            is_multicast: raw.is_multicast,
            addresses: addresses.into_iter().map(|(_, ip)| ip).collect(),
        }
    });
    Interfaces { all: all.collect(), local }
}

fn raw_interface(message: &LinkMessage) -> RawInterface {
    let flags = message.header.flags;
    let mut raw = RawInterface {
        index: message.header.index,
        name: String::new(),
        kind: if flags.contains(LinkFlags::Pointopoint) {
            LinkKind::Tunnel
        } else {
            LinkKind::Hardware
        },
        is_up: flags.contains(LinkFlags::Up),
        is_running: flags.contains(LinkFlags::Running),
        is_multicast: flags.contains(LinkFlags::Multicast),
        controller: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => raw.name.clone_from(name),
            LinkAttribute::Controller(index) => raw.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                let named = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(named) => Some(named),
                    _ => None,
                });
                raw.kind = named.map_or(raw.kind, |named| kind(named, raw.kind));
            }
            _ => {}
        }
    }
    if flags.contains(LinkFlags::Loopback) {
        raw.kind = LinkKind::Loopback;
    }
    raw
}

/// The kind that the kernel's name stands for; `otherwise` for the various kinds of Ethernet.
fn kind(named: &InfoKind, otherwise: LinkKind) -> LinkKind {
    match named {
        InfoKind::Bridge => LinkKind::Bridge,
        InfoKind::Veth | InfoKind::Netkit => LinkKind::Veth,
        InfoKind::Dummy | InfoKind::Ifb | InfoKind::Nlmon | InfoKind::Vxlan | InfoKind::Geneve => {
            LinkKind::Inner
        }
        InfoKind::Tun
        | InfoKind::IpIp
        | InfoKind::Ip6Tnl
        | InfoKind::SitTun
        | InfoKind::GreTun
        | InfoKind::GreTun6
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::Vti
        | InfoKind::Gtp
        | InfoKind::Wireguard
        | InfoKind::Xfrm => LinkKind::Tunnel,
        _ => otherwise,
    }
}

fn ip(message: &AddressMessage) -> Option<IpAddr> {
    // Where both exist, `Address` is the far end of a point-to-point link.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let all = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    // Old kernels send only the first eight flags.
    all.unwrap_or_else(|| AddressFlags::from_bits_retain(message.header.flags.bits().into()))
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::Class;
    use super::*;

    /// Reads the interfaces of the device that runs the test.
    #[tokio::test]
    async fn loopback_is_found_with_its_class_and_address() {
        let interfaces = read().await.unwrap();
        let loopback = interfaces.all.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!(loopback.class, Class::Loopback);
        assert!(loopback.addresses.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
        assert!(interfaces.local.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }

    /// On a router thousands of route events must not trigger reads.
    #[test]
    fn only_default_routes_among_route_events_matter() {
        let event = |kind: u16, prefix: u8| {
            let mut message = vec![0; 28];
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            message[17] = prefix;
            matters(&message)
        };
        assert!(event(24, 0) && event(25, 1) && event(20, 24) && event(16, 0));
        assert!(!event(24, 24) && !event(25, 64));
        assert!(matters(b"short"), "an unreadable event may be anything");
    }
}
