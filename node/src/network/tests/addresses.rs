//! A node's own addresses, on a device whose interfaces the test makes up. What is dialled is
//! loopback, which is always there.

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
    let config = NetworkConfig { listen: listen.parse().unwrap(), ..config(seed, SECRET) };
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

/// TCP goes on for minutes with a connection whose own address is gone.
#[tokio::test]
async fn a_link_ends_with_the_address_it_hangs_on() {
    let here = interfaces(&[(Class::Lan, "127.0.0.1"), (Class::Lan, "10.0.0.5")]);
    let (mut a, device) = peer_on(1, "127.0.0.1:0", here.clone()).await;
    let mut b = peer(2).await;
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    // An address that the link does not hang on.
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    assert!(own(&mut a).await.moved);
    a.network.send(&b.id, Lane::Urgent, &word(1));
    assert_eq!(b.heard().await, (a.id, word(1)));
    device.send_replace(interfaces(&[(Class::Lan, "10.0.0.6")]));
    // The core knows of the move before it hears that links are gone.
    assert!(own(&mut a).await.moved);
    assert!(matches!(a.urgent().await, Input::LinkDown { peer } if peer == b.id));
    assert!(matches!(b.urgent().await, Input::LinkDown { peer } if peer == a.id));
}

/// A daemon whose `--listen` address was not there did not start; one that lost it said nothing and
/// told it for ever.
#[tokio::test]
async fn a_missing_listen_address_is_waited_for() {
    let (mut a, device) = peer_on(1, "127.0.0.1:0", interfaces(&[(Class::Lan, "10.0.0.5")])).await;
    let mut b = peer(2).await;
    let told = own(&mut a).await;
    assert!(
        told.addresses.is_empty() && told.trouble.unwrap().contains("is no address of this device")
    );
    let target = || DialTarget::Node(a.id);
    assert!(b.network.dial(target(), vec![at("127.0.0.1", &a)]));
    assert_eq!(b.dial_failed().await, DialFailure::Refused);
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    let told = own(&mut a).await;
    assert_eq!((told.addresses, told.trouble), (vec![at("127.0.0.1", &a)], None));
    assert!(b.network.dial(DialTarget::Node(a.id), vec![at("127.0.0.1", &a)]));
    assert_eq!((b.link_up().await, a.link_up().await), (a.id, b.id));
    // It is gone again, and is no more this node's own: another device may have it now.
    device.send_replace(interfaces(&[(Class::Lan, "10.0.0.5")]));
    assert!(own(&mut a).await.trouble.is_some());
    assert!(a.network.own_addresses().addresses.is_empty());
}

#[tokio::test]
async fn a_node_that_listens_everywhere_tells_the_addresses_of_now() {
    let (mut a, device) =
        peer_on(1, "0.0.0.0:0", interfaces(&[(Class::Loopback, "127.0.0.1")])).await;
    let told = own(&mut a).await;
    assert!(told.addresses.is_empty() && told.trouble.unwrap().contains("no network interface"));
    let bridge = (Class::Container, "172.17.0.1");
    device.send_replace(interfaces(&[bridge, (Class::Default, "192.168.1.7")]));
    let told = own(&mut a).await;
    assert_eq!(
        (told.addresses, told.trouble, told.moved),
        (vec![at("192.168.1.7", &a)], None, true)
    );
    // Containers come and go without a word; the next that is told is the move.
    device.send_replace(interfaces(&[(Class::Default, "192.168.1.7")]));
    device.send_replace(interfaces(&[bridge, (Class::Default, "192.168.1.8")]));
    assert_eq!(own(&mut a).await.addresses, [at("192.168.1.8", &a)]);
}

#[tokio::test]
async fn what_is_advertised_is_told_instead() {
    let (_device, found) = watch::channel(interfaces(&[(Class::Lan, "10.0.0.5")]));
    let (listen, advertise) =
        ("0.0.0.0:0".parse().unwrap(), vec!["203.0.113.9:7700".parse().unwrap()]);
    let config = NetworkConfig { listen, advertise, ..config(1, SECRET) };
    let (network, _inbox) = start_among(config, Ok(found)).await.unwrap();
    assert_eq!(network.own_addresses().addresses, ["/ip4/203.0.113.9/tcp/7700"]);
}

/// A service that may not speak netlink can still listen where it was told to.
#[tokio::test]
async fn a_kernel_that_tells_nothing_leaves_what_the_user_names() {
    let denied = || Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
    let (network, _inbox) = start_among(config(1, SECRET), denied()).await.unwrap();
    let port = network.listening().port();
    assert_eq!(network.own_addresses().addresses, [format!("/ip4/127.0.0.1/tcp/{port}")]);
}

/// The address came back, and another program had taken the port meanwhile.
#[tokio::test]
async fn a_taken_port_is_told_and_tried_again() {
    let (mut a, device) = peer_on(1, "127.0.0.1:0", interfaces(&[(Class::Lan, "10.0.0.5")])).await;
    assert!(own(&mut a).await.trouble.is_some());
    let other = std::net::TcpListener::bind(a.network.listening()).unwrap();
    device.send_replace(interfaces(&[(Class::Lan, "127.0.0.1")]));
    let told = own(&mut a).await;
    assert!(
        told.addresses.is_empty()
            && told.trouble.as_ref().unwrap().contains("cannot be listened on"),
        "{told:?}"
    );
    drop(other);
    let told = own(&mut a).await;
    assert_eq!((told.addresses, told.trouble), (vec![at("127.0.0.1", &a)], None));
}
