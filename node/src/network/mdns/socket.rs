//! Each interface has a socket, which sends and receives there only.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lan::Lan;

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Bytes of the longest packet. Ours have some hundred; longer ones are not ours.
const MAX_BYTES: usize = 1_500;

/// A received packet.
pub(super) struct Received {
    pub bytes: Vec<u8>,
}

pub(super) struct Socket {
    udp: Arc<UdpSocket>,
    to: SocketAddr,
    lan: Lan,
    _reading: DropGuard,
}

impl Socket {
    /// Opens a socket over IPv4 where the interface has it, else over IPv6.
    pub(super) fn open(lan: &Lan, received: mpsc::Sender<Received>) -> io::Result<Socket> {
        let v4 = lan.addresses.iter().find_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        });
        let domain = if v4.is_some() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // The port is shared with the system's own responder and with other daemons.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        let to: SocketAddr = match v4 {
            Some(own) => {
                // Without this it would receive packets of other interfaces, whose groups other
                // sockets joined.
                socket.set_multicast_all_v4(false)?;
                socket.set_multicast_if_v4(&own)?;
                socket.set_multicast_ttl_v4(255)?;
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
                socket
                    .join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(lan.index))?;
                (GROUP_V4, PORT).into()
            }
            None => {
                socket.set_only_v6(true)?;
                socket.set_multicast_all_v6(false)?;
                socket.set_multicast_if_v6(lan.index)?;
                socket.set_multicast_hops_v6(255)?;
                socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
                socket.join_multicast_v6(&GROUP_V6, lan.index)?;
                (GROUP_V6, PORT).into()
            }
        };
        let udp = Arc::new(UdpSocket::from_std(socket.into())?);
        let stop = CancellationToken::new();
        tokio::spawn(read(udp.clone(), received, stop.clone()));
        Ok(Socket { udp, to, lan: lan.clone(), _reading: stop.drop_guard() })
    }

    /// Whether the socket still fits the interface, for one of whose addresses it was opened.
    pub(super) fn is_of(&self, lan: &Lan) -> bool {
        self.lan == *lan
    }

    /// False when the interface refuses the packet: it may be gone already.
    pub(super) fn send(&self, packet: &[u8]) -> bool {
        self.udp.try_send_to(packet, self.to).is_ok()
    }
}

async fn read(udp: Arc<UdpSocket>, received: mpsc::Sender<Received>, stop: CancellationToken) {
    let mut buffer = [0; MAX_BYTES];
    loop {
        let came = tokio::select! {
            came = udp.recv_from(&mut buffer) => came,
            () = stop.cancelled() => return,
        };
        match came {
            // When packets come faster than they are read, some are lost: mDNS repeats itself.
            Ok((length, _)) if length < MAX_BYTES => {
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                let _ = received.try_send(Received { bytes });
            }
            Ok(_) => {}
            // The interface is gone; the next read of the interfaces removes the socket.
            Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
        }
    }
}
