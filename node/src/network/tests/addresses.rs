//! A node's own addresses, on a device with invented interfaces. Nodes are dialled on loopback,
//! which always exists.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::interfaces::{Class, Interface, Interfaces};
use super::super::start::start_among;
use super::*;

type Device = watch::Sender<Arc<Interfaces>>;

/// Interfaces by class, each with its addresses, and loopback.
fn interfaces(all: &[(Class, &str)]) -> Arc<Interfaces> {
    let all: Vec<Interface> = all
        .iter()
        .map(|(class, ip)| Interface {
            index: 1,
            is_multicast: true,
            name: format!("{class:?}"),
            class: *class,
            is_running: true,
            addresses: vec![ip.parse().unwrap()],
        })
        .collect();
    let local: BTreeSet<IpAddr> =
        all.iter().flat_map(|interface| interface.addresses.iter().copied()).collect();
    Arc::new(Interfaces { all, local })
}

async fn peer_on(seed: u8, listen: &str, found: Arc<Interfaces>) -> (Peer, Device) {
    let (device, found) = watch::channel(found);
    let config = NetworkConfig { listen: listen.parse().unwrap(), ..config(seed, PROLOGUE) };
    let (network, inbox) = start_among(config, Ok(found)).await.unwrap();
    (Peer { id: id(seed), network, inbox }, device)
}

async fn own(peer: &mut Peer) -> OwnAddresses {
    match peer.urgent().await {
        Input::Addresses(own) => own,
        other => panic!("own addresses were expected, not {other:?}"),
    }
}

fn at(ip: &str, peer: &Peer) -> String {
    format!("/ip4/{ip}/tcp/{}", peer.network.listening().port())
}

/// TCP keeps a connection for minutes after the device lost its local address. The link must end at
/// once.
#[tokio::test]
async fn link_ends_with_its_local_address() {
    let here = interfaces(&[(Class::Lan, "127.0.0.1"), (Class::Lan, "10.0.0.5")]);
    let (mut a, device) = peer_on(1, "127.0.0.1:0", here.clone()).await;
    let mut b = peer(2).await;
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    // An address that the link does not use.
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    assert!(own(&mut a).await.moved);
    a.network.send(&b.id, Lane::Urgent, &numbered(1));
    assert_eq!(b.received().await, (a.id, numbered(1)));
    device.send_replace(interfaces(&[(Class::Lan, "10.0.0.6")]));
    // The core knows of the move before it gets the ends of links.
    assert!(own(&mut a).await.moved);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == b.id));
    assert!(matches!(b.urgent().await, Input::LinkDown { peer } if peer == a.id));
}

/// A daemon whose `--listen` address was missing did not start; a daemon that lost it went on
/// announcing it.
#[tokio::test]
async fn missing_listen_address_is_awaited() {
    let (mut a, device) = peer_on(1, "127.0.0.1:0", interfaces(&[(Class::Lan, "10.0.0.5")])).await;
    let mut b = peer(2).await;
    let announced = own(&mut a).await;
    assert!(
        announced.addresses.is_empty()
            && announced.trouble.unwrap().contains("is no address of this device")
    );
    let target = || DialTarget::Node(a.id);
    assert!(b.network.dial(target(), vec![at("127.0.0.1", &a)]));
    assert_eq!(b.dial_failed().await, DialFailure::Refused);
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    let announced = own(&mut a).await;
    assert_eq!((announced.addresses, announced.trouble), (vec![at("127.0.0.1", &a)], None));
    assert!(b.network.dial(DialTarget::Node(a.id), vec![at("127.0.0.1", &a)]));
    assert_eq!((b.link_up().await, a.link_up().await), (a.id, b.id));
    // The address is gone again, and no longer this node's own: another device may have it now.
    device.send_replace(interfaces(&[(Class::Lan, "10.0.0.5")]));
    assert!(own(&mut a).await.trouble.is_some());
    assert!(a.network.own_addresses().addresses.is_empty());
}

/// The device has no network at first; addresses come and change, beside those of containers.
#[tokio::test]
async fn unspecified_listen_address_announces_current_addresses() {
    let (mut a, device) =
        peer_on(1, "0.0.0.0:0", interfaces(&[(Class::Loopback, "127.0.0.1")])).await;
    let announced = own(&mut a).await;
    assert!(
        announced.addresses.is_empty()
            && announced.trouble.unwrap().contains("no network interface")
    );
    let bridge = (Class::Container, "172.17.0.1");
    device.send_replace(interfaces(&[bridge, (Class::Default, "192.168.1.7")]));
    let announced = own(&mut a).await;
    assert_eq!(
        (announced.addresses, announced.trouble, announced.moved),
        (vec![at("192.168.1.7", &a)], None, true)
    );
    // Changes of containers are not reported; the next report is the move.
    device.send_replace(interfaces(&[(Class::Default, "192.168.1.7")]));
    device.send_replace(interfaces(&[bridge, (Class::Default, "192.168.1.8")]));
    assert_eq!(own(&mut a).await.addresses, [at("192.168.1.8", &a)]);
}

/// Behind a router the device's own address leads nowhere.
#[tokio::test]
async fn configured_addresses_replace_the_devices_own() {
    let (_device, found) = watch::channel(interfaces(&[(Class::Lan, "10.0.0.5")]));
    let (listen, advertise) =
        ("0.0.0.0:0".parse().unwrap(), vec!["203.0.113.9:7700".parse().unwrap()]);
    let config = NetworkConfig { listen, advertise, ..config(1, PROLOGUE) };
    let (network, _inbox) = start_among(config, Ok(found)).await.unwrap();
    assert_eq!(network.own_addresses().addresses, ["/ip4/203.0.113.9/tcp/7700"]);
}

/// A service without permission to use netlink can still listen on a configured address.
#[tokio::test]
async fn without_netlink_configured_address_is_announced() {
    let denied = || Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    let (network, _inbox) = start_among(config(1, PROLOGUE), denied()).await.unwrap();
    let port = network.listening().port();
    assert_eq!(network.own_addresses().addresses, [format!("/ip4/127.0.0.1/tcp/{port}")]);
}

/// The address came back, and another program had taken the port meanwhile.
#[tokio::test]
async fn taken_port_is_reported_and_tried_again() {
    let (mut a, device) = peer_on(1, "127.0.0.1:0", interfaces(&[(Class::Lan, "10.0.0.5")])).await;
    assert!(own(&mut a).await.trouble.is_some());
    let other = std::net::TcpListener::bind(a.network.listening()).unwrap();
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    let announced = own(&mut a).await;
    assert!(
        announced.addresses.is_empty()
            && announced.trouble.as_ref().unwrap().contains("cannot be listened on"),
        "{announced:?}"
    );
    drop(other);
    let announced = own(&mut a).await;
    assert_eq!((announced.addresses, announced.trouble), (vec![at("127.0.0.1", &a)], None));
}
