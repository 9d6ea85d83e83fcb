//! The addresses on which this node listens, and those that it announces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Swarm;
use libp2p::core::transport::{ListenerId, TransportError};
use shoal_protocol::node::OwnAddresses;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::behaviour::Behaviour;
use super::interfaces::{Class, Interfaces};
use super::local_addresses::LocalAddresses;
use super::names;
use super::ranking::ranked;
use super::types::NetworkError;

/// Pause before another try to listen on an address that the device has, for example while another
/// program has the port.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// The listener of this node, and its announced addresses.
pub(super) struct ListenState {
    /// The address to listen on, with the port.
    wanted: SocketAddr,
    /// The configured multiaddrs to announce; if empty, the device's own addresses.
    advertise: Vec<String>,
    listener: Option<ListenerId>,
    /// Why listening on the address failed though the device has it.
    failed: Option<String>,
    retry: Option<Pin<Box<Sleep>>>,
    /// None where the interfaces cannot be read.
    interfaces: Option<watch::Receiver<Arc<Interfaces>>>,
    known: Option<Arc<Interfaces>>,
    local_addresses: LocalAddresses,
    announced: watch::Sender<OwnAddresses>,
}

/// A port that is kept for the listener.
pub(super) struct HeldPort {
    pub address: SocketAddr,
    _port: Option<TcpSocket>,
}

/// Makes sure that no other program has the port, and picks one for port 0. An address that the
/// device does not have (yet) is no error.
pub(super) fn hold_port(address: SocketAddr) -> Result<HeldPort, NetworkError> {
    if address.port() != 0 {
        // libp2p lets several processes share a listening port, which would split this node's peers
        // between them.
        return match TcpListener::bind(address) {
            Err(error) if !is_missing(&error) => Err(NetworkError::listen(address, error)),
            Ok(_) | Err(_) => Ok(HeldPort { address, _port: None }),
        };
    }
    let picked = match pick_port(address) {
        Err(error) if is_missing(&error) => pick_port(SocketAddr::new(any_address(address), 0)),
        picked => picked,
    };
    let (port, socket) = picked.map_err(|error| NetworkError::listen(address, error))?;
    Ok(HeldPort { address: SocketAddr::new(address.ip(), port), _port: Some(socket) })
}

/// The unspecified address of the same family.
fn any_address(address: SocketAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A free port, and a socket that keeps others from picking it. libp2p shares ports, so it can
/// still bind it.
fn pick_port(address: SocketAddr) -> io::Result<(u16, TcpSocket)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok((socket.local_addr()?.port(), socket))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

impl ListenState {
    /// Begins to listen, if possible now. Without `interfaces` only configured addresses can be
    /// announced.
    pub(super) fn start(
        swarm: &mut Swarm<Behaviour>,
        wanted: SocketAddr,
        advertise: &[SocketAddr],
        interfaces: io::Result<watch::Receiver<Arc<Interfaces>>>,
        local_addresses: LocalAddresses,
    ) -> Result<ListenState, NetworkError> {
        let interfaces = match interfaces {
            Ok(interfaces) => Some(interfaces),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell of network interfaces: changes \
                    will not be noticed");
                None
            }
        };
        let mut own = ListenState {
            wanted,
            advertise: advertise
                .iter()
                .map(|address| names::multiaddr(address).to_string())
                .collect(),
            listener: None,
            failed: None,
            retry: None,
            known: interfaces.as_ref().map(|interfaces| interfaces.borrow().clone()),
            interfaces,
            local_addresses,
            announced: watch::channel(OwnAddresses::default()).0,
        };
        match own.listen(swarm, true) {
            Err(error) if wanted.ip().is_unspecified() || !is_missing(&error) => {
                return Err(NetworkError::listen(wanted, error));
            }
            Ok(()) | Err(_) => {}
        }
        own.announced.send_replace(own.announcement(false));
        Ok(own)
    }

    /// The announced addresses, and whether others can connect.
    pub(super) fn announced(&self) -> watch::Receiver<OwnAddresses> {
        self.announced.subscribe()
    }

    /// Returns when the interfaces changed, or listening should be tried again.
    pub(super) async fn changed(&mut self) {
        let retry = async {
            match self.retry.as_mut() {
                Some(sleep) => sleep.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            // Without a sender nothing changes any more.
            match self.interfaces.as_mut() {
                Some(interfaces) => {
                    if interfaces.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = retry => {}
            () = changed => {}
        }
    }

    /// Adopts the current interfaces, and tries to listen. Returns the announcement if the core
    /// must get it.
    pub(super) fn refresh(&mut self, swarm: &mut Swarm<Behaviour>) -> Option<OwnAddresses> {
        let before = self.known.clone();
        if let Some(interfaces) = &mut self.interfaces {
            self.known = Some(interfaces.borrow_and_update().clone());
        }
        if let Err(error) = self.listen(swarm, false) {
            tracing::debug!(%error, address = %self.wanted, "cannot listen");
        }
        let (moved, has_new_reachability) = match (&before, &self.known) {
            (Some(before), Some(now)) => (
                before.outer_addresses() != now.outer_addresses(),
                reachability(before) != reachability(now),
            ),
            _ => (false, false),
        };
        let state = self.announcement(moved);
        let announced = self.announced.send_replace(state.clone());
        let is_news = has_new_reachability
            || (&announced.addresses, &announced.trouble) != (&state.addresses, &state.trouble);
        is_news.then_some(state)
    }

    /// Ends the connections whose local address the device has lost.
    pub(super) fn close_lost_connections(&self) {
        if let Some(known) = &self.known {
            self.local_addresses.close_missing(&known.local);
        }
    }

    /// Whether the device has the address to listen on; assumed where the interfaces cannot be
    /// read.
    fn is_present(&self) -> bool {
        let wanted = self.wanted.ip();
        wanted.is_unspecified()
            || self.known.as_ref().is_none_or(|known| known.local.contains(&wanted))
    }

    /// Listens while the device has the address, and stops when it does not: libp2p would take the
    /// address for this node's own and never dial another device that has it now. Unless the port
    /// is held, another program may have taken it.
    fn listen(&mut self, swarm: &mut Swarm<Behaviour>, is_port_held: bool) -> io::Result<()> {
        self.retry = None;
        if !self.is_present() {
            self.failed = None;
            if let Some(listener) = self.listener.take() {
                swarm.remove_listener(listener);
            }
            return Ok(());
        }
        if self.listener.is_some() {
            return Ok(());
        }
        let is_free = if is_port_held { Ok(()) } else { TcpListener::bind(self.wanted).map(drop) };
        let listened = is_free.and_then(|()| {
            swarm.listen_on(names::multiaddr(&self.wanted)).map_err(|error| match error {
                TransportError::Other(error) => error,
                other => io::Error::other(other),
            })
        });
        match listened {
            Ok(listener) => {
                (self.listener, self.failed) = (Some(listener), None);
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.to_string());
                self.retry = Some(Box::pin(tokio::time::sleep(LISTEN_RETRY)));
                Err(error)
            }
        }
    }

    fn announcement(&self, moved: bool) -> OwnAddresses {
        let wanted = self.wanted;
        let mut addresses = Vec::new();
        let trouble = if !self.is_present() {
            let follows = SocketAddr::new(any_address(wanted), wanted.port());
            Some(format!(
                "{wanted}, where this node listens, is no address of this device: nobody can \
                    connect to it until the address \
                 is there; `shoal up --listen {follows}` follows the device's addresses"
            ))
        } else if self.listener.is_none() {
            let why = self.failed.as_deref().unwrap_or("no listener");
            Some(format!(
                "{wanted} cannot be listened on ({why}): nobody can connect to this node; it is \
                    tried again"
            ))
        } else {
            addresses = self.reachable();
            addresses.is_empty().then(|| {
                "no network interface of this device has an address that others could reach: \
                    nobody can connect to this node \
                 until one has"
                    .to_owned()
            })
        };
        OwnAddresses { addresses, trouble, moved }
    }

    /// The addresses at which others can dial this node while it listens, the best first.
    fn reachable(&self) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let ips = match (self.wanted.ip(), &self.known) {
            (ip, Some(known)) if ip.is_unspecified() => ranked(known, ip.is_ipv6()),
            (ip, _) if ip.is_unspecified() => Vec::new(),
            // Without a scope id it leads nowhere.
            (IpAddr::V6(ip), _) if ip.is_unicast_link_local() => Vec::new(),
            (ip, _) => vec![ip],
        };
        ips.into_iter()
            .map(|ip| names::multiaddr(&SocketAddr::new(ip, self.wanted.port())).to_string())
            .collect()
    }
}

/// The part of the interfaces that decides which peers can be reached. Containers that start and
/// stop do not change it.
fn reachability(interfaces: &Interfaces) -> Vec<(IpAddr, bool, Class)> {
    let outer = interfaces
        .all
        .iter()
        .filter(|interface| !matches!(interface.class, Class::Container | Class::Loopback));
    let each = outer.flat_map(|it| it.addresses.iter().map(|ip| (*ip, it.is_running, it.class)));
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that start at once with port 0 must get different ports.
    #[tokio::test]
    async fn held_port_is_not_picked_twice() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let held: Vec<HeldPort> = (0..50).map(|_| hold_port(any).unwrap()).collect();
        let ports: std::collections::BTreeSet<u16> =
            held.iter().map(|port| port.address.port()).collect();
        assert_eq!(ports.len(), held.len());
        // An address that the device does not have gets a port too.
        let missing = hold_port("192.0.2.1:0".parse().unwrap()).unwrap();
        assert!(
            missing.address.port() != 0 && missing.address.ip() == IpAddr::from([192, 0, 2, 1])
        );
    }
}
