//! This node's own addresses: where it listens, where others are told to dial it, and what a change
//! of them means.
//!
//! ```text
//!   kernel ── interfaces ──▶ listener: opened when its address is there, closed when it is gone
//!                       ├──▶ core:     Input::Addresses, which tells the others and dials them anew
//!                       └──▶ links:    those that hang on an address that is gone are closed
//! ```
//!
//! In this order: the core must know that it has moved before it hears that its links are gone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::{PeerId, Swarm};
use shoal_protocol::node::{Input, OwnAddresses};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::local_addresses::LocalAddresses;
use super::names;
use super::netlink::Interfaces;
use super::peers::Peer;
use super::ranking::{Class, ranked};
use super::start::{Behaviour, NetworkError, refused};
use super::swarm::{Task, TaskResult};

/// When an address that is there could not be listened on, as where another program has the port,
/// it is tried again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// A link older than this that its peer dials anew from elsewhere is one that the peer has lost;
/// two simultaneous dials, which a device of several addresses may receive from two of them, are
/// over by then.
const CROSSING: Duration = Duration::from_millis(600);

/// A node's own addresses.
pub(super) struct ListenState {
    /// Where it listens or shall listen, with the port.
    wanted: SocketAddr,
    /// Where others are told to dial it instead, as multiaddrs; none for the device's own
    /// addresses.
    advertise: Vec<String>,
    listener: Option<ListenerId>,
    /// Why the address cannot be listened on though it is there.
    failed: Option<String>,
    retry: Option<Pin<Box<Sleep>>>,
    /// None where the kernel does not tell of interfaces.
    interfaces: Option<watch::Receiver<Arc<Interfaces>>>,
    known: Option<Arc<Interfaces>>,
    local_addresses: LocalAddresses,
    announced: watch::Sender<OwnAddresses>,
}

/// A port that is kept for the listener until it has it.
pub(super) struct HeldPort {
    pub address: SocketAddr,
    _port: Option<TcpSocket>,
}

/// Makes sure that no other program has the port, and draws one where any will do. An address that
/// the device does not have (yet) is no error.
pub(super) fn hold_port(address: SocketAddr) -> Result<HeldPort, NetworkError> {
    if address.port() != 0 {
        // libp2p lets several processes share a listening port, which would split this node's peers
        // between them.
        return match TcpListener::bind(address) {
            Err(error) if !is_missing(&error) => Err(refused(address, error)),
            Ok(_) | Err(_) => Ok(HeldPort { address, _port: None }),
        };
    }
    let picked = match pick_port(address) {
        Err(error) if is_missing(&error) => pick_port(SocketAddr::new(any_address(address), 0)),
        picked => picked,
    };
    let (port, socket) = picked.map_err(|error| refused(address, error))?;
    Ok(HeldPort { address: SocketAddr::new(address.ip(), port), _port: Some(socket) })
}

/// Every address of this one's family.
fn any_address(address: SocketAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A free port. Held so that nobody draws it too; libp2p, which shares, can have it nevertheless.
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
    /// Begins to listen, if that can be done now. Without `interfaces` only an address that the
    /// user names can be told.
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
                return Err(refused(wanted, error));
            }
            Ok(()) | Err(_) => {}
        }
        own.announced.send_replace(own.announcement(false));
        Ok(own)
    }

    /// What others are told, and whether they can connect.
    pub(super) fn announced(&self) -> watch::Receiver<OwnAddresses> {
        self.announced.subscribe()
    }

    /// Returns when there is something to look at.
    pub(super) async fn changed(&mut self) {
        let retry = async {
            match self.retry.as_mut() {
                Some(sleep) => sleep.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            // When its sender is gone nothing changes any more.
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

    /// The address to listen on is one of the device's; where the kernel does not tell, it has to
    /// be tried.
    fn is_present(&self) -> bool {
        let wanted = self.wanted.ip();
        wanted.is_unspecified()
            || self.known.as_ref().is_none_or(|known| known.local.contains(&wanted))
    }

    /// Listens where that can be done, and no longer where it cannot: libp2p would take the address
    /// for this node's own, and so never dial another device that has it now. Unless the port is
    /// claimed, another program may have it meanwhile.
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

    /// Where others can dial this node while it listens, the best first.
    fn reachable(&self) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let ips = match (self.wanted.ip(), &self.known) {
            (ip, Some(known)) if ip.is_unspecified() => ranked(known, ip.is_ipv6()),
            (ip, _) if ip.is_unspecified() => Vec::new(),
            // Without a scope, it leads nowhere.
            (IpAddr::V6(ip), _) if ip.is_unicast_link_local() => Vec::new(),
            (ip, _) => vec![ip],
        };
        ips.into_iter()
            .map(|ip| names::multiaddr(&SocketAddr::new(ip, self.wanted.port())).to_string())
            .collect()
    }
}

/// What of the interfaces decides which ways there may be. Containers come and go without changing
/// any.
fn reachability(interfaces: &Interfaces) -> Vec<(IpAddr, bool, Class)> {
    let outer = interfaces
        .all
        .iter()
        .filter(|interface| !matches!(interface.class, Class::Container | Class::Loopback));
    let each = outer.flat_map(|it| it.addresses.iter().map(|ip| (*ip, it.is_running, it.class)));
    each.collect()
}

/// A connection from here shows that the link, which is so old, leads to where the peer no longer
/// is.
fn has_moved(was: IpAddr, now: IpAddr, age: Duration) -> bool {
    was != now && age > CROSSING
}

impl Task {
    /// The interfaces changed, or it is time to try to listen again.
    pub(super) async fn on_own_addresses(&mut self) -> TaskResult {
        let before = self.own.known.clone();
        if let Some(interfaces) = &mut self.own.interfaces {
            self.own.known = Some(interfaces.borrow_and_update().clone());
        }
        if let Err(error) = self.own.listen(&mut self.swarm, false) {
            tracing::debug!(%error, address = %self.own.wanted, "cannot listen");
        }
        let (moved, has_new_reachability) = match (&before, &self.own.known) {
            (Some(before), Some(now)) => (
                before.outer_addresses() != now.outer_addresses(),
                reachability(before) != reachability(now),
            ),
            _ => (false, false),
        };
        let state = self.own.announcement(moved);
        let announced = self.own.announced.send_replace(state.clone());
        if has_new_reachability
            || (&announced.addresses, &announced.trouble) != (&state.addresses, &state.trouble)
        {
            self.tell(Input::Addresses(state)).await?;
        }
        if let Some(known) = &self.own.known {
            self.own.local_addresses.close_missing(&known.local);
        }
        Ok(())
    }

    /// What the driver's configuration does not say.
    pub(super) async fn report_trouble(&mut self) -> TaskResult {
        let state = self.own.announced.borrow().clone();
        if state.trouble.is_some() { self.tell(Input::Addresses(state)).await } else { Ok(()) }
    }

    /// A peer that has moved comes anew, while the link it had has not failed here yet: that one
    /// makes way. Of two nodes the one with the lower id decides which connection carries the link.
    pub(super) async fn replace_moved_link(
        &mut self,
        id: &PeerId,
        endpoint: &ConnectedPoint,
    ) -> TaskResult {
        let (Some(node), Some(remote)) =
            (names::node_id(id), names::socket(endpoint.get_remote_address()))
        else {
            return Ok(());
        };
        if endpoint.is_dialer() || self.me > node {
            return Ok(());
        }
        let link = self.peers.get(&node).and_then(Peer::link_remote);
        if let Some((link, was, since)) = link
            && has_moved(was, remote.ip(), since.elapsed())
        {
            tracing::debug!(peer = %node.short(), %was, now = %remote.ip(), "a peer has moved");
            self.hang_up(node, link).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that was younger than ten seconds was kept, though its peer had moved: of two that
    /// moved one after the other the one refused the other.
    #[test]
    fn a_link_makes_way_for_its_peer_from_elsewhere() {
        let [was, now] = [[10, 0, 0, 2], [10, 0, 0, 102]].map(IpAddr::from);
        assert!(has_moved(was, now, Duration::from_secs(3)));
        assert!(!has_moved(was, now, Duration::from_millis(100)), "two dials that cross");
        assert!(!has_moved(was, was, Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn a_port_that_was_drawn_is_drawn_by_nobody_else() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let held: Vec<HeldPort> = (0..50).map(|_| hold_port(any).unwrap()).collect();
        let ports: std::collections::BTreeSet<u16> =
            held.iter().map(|port| port.address.port()).collect();
        assert_eq!(ports.len(), held.len());
        // An address that the device does not have gets a port all the same.
        let missing = hold_port("192.0.2.1:0".parse().unwrap()).unwrap();
        assert!(
            missing.address.port() != 0 && missing.address.ip() == IpAddr::from([192, 0, 2, 1])
        );
    }
}
