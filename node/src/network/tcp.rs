//! TCP for the mesh: links use small segments, and one port takes links, carriers and operators.
//!
//! **No packet of a link is longer than every path must carry.** A path that loses full-sized
//! packets (a tunnel that drops instead of refusing) then never blocks the messages that everything
//! else needs. libp2p's TCP transport cannot set the segment size, so this module dials itself;
//! libp2p still listens.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport, tcp};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use super::admission::{Admission, HandshakeGuard};
use super::names;

/// The TCP payload of a packet of 576 bytes, which every IPv4 path carries (RFC 791; IPv6 paths
/// carry 1,280). The dialler's setting limits both directions.
pub(super) const SMALL_SEGMENT: u32 = 536;

/// The first bytes that a carrier's dialler sends. No libp2p handshake begins with a zero.
pub(super) const PREAMBLE: [u8; 9] = *b"\0carrier1";

/// The first bytes that an operator's program sends.
pub(super) const OPERATOR_PREAMBLE: [u8; 9] = *b"\0operate1";

/// An inbound carrier after its preamble, and the address it came from.
pub(super) type InboundCarrier = (TcpStream, SocketAddr);

/// An operator's connection after its preamble, the address it came from, and its place among the
/// strangers.
pub(super) type InboundOperator = (TcpStream, SocketAddr, HandshakeGuard);

/// The connections that are no links, to their parts of the network.
#[derive(Clone)]
pub(super) struct Diversions {
    pub(super) carriers: mpsc::Sender<InboundCarrier>,
    pub(super) operators: mpsc::Sender<InboundOperator>,
}

/// Connects. With `segment`, no packet carries more bytes than that, in either direction.
pub(super) async fn connect(address: SocketAddr, segment: Option<u32>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(segment) = segment {
        SockRef::from(&socket).set_tcp_mss(segment)?;
    }
    socket.connect(address).await
}

pub(super) struct TcpTransport {
    listener: tcp::tokio::Transport,
    diversions: Diversions,
    admission: Arc<Admission>,
}

impl TcpTransport {
    /// Inbound carriers and operators go to `diversions`; one that finds no room there is closed. A
    /// silent connection waits until `admission` evicts it.
    pub(super) fn new(diversions: Diversions, admission: Arc<Admission>) -> Self {
        TcpTransport {
            listener: tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)),
            diversions,
            admission,
        }
    }
}

impl Transport for TcpTransport {
    /// The stream, and for an inbound connection its place at the admission.
    type Output = (tcp::tokio::TcpStream, Option<HandshakeGuard>);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.listener.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let socket = names::socket(&address)
            .filter(|socket| socket.port() != 0 && !socket.ip().is_unspecified());
        let socket = socket.ok_or(TransportError::MultiaddrNotSupported(address))?;
        Ok(async move {
            connect(socket, Some(SMALL_SEGMENT))
                .await
                .map(|stream| (tcp::tokio::TcpStream(stream), None))
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Poll::Ready(event) = Pin::new(&mut self.listener).poll(cx) else {
            return Poll::Pending;
        };
        let from = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => names::socket(send_back_addr),
            _ => None,
        };
        let (diversions, admission) = (self.diversions.clone(), self.admission.clone());
        Poll::Ready(event.map_upgrade(move |accepted| {
            async move {
                let stream = accepted.await?;
                match from {
                    Some(from) => {
                        let guard = admission.admit(from)?;
                        let (stream, guard) = dispatch(stream.0, from, &diversions, guard).await?;
                        Ok((tcp::tokio::TcpStream(stream), Some(guard)))
                    }
                    None => Ok((stream, None)),
                }
            }
            .boxed()
        }))
    }
}

/// Returns the connection of a link, and sends all others where they belong. The caller bounds how
/// long this takes.
async fn dispatch(
    mut stream: TcpStream,
    from: SocketAddr,
    diversions: &Diversions,
    mut guard: HandshakeGuard,
) -> io::Result<(TcpStream, HandshakeGuard)> {
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = stream.peek(&mut first) => peeked?,
        error = guard.evicted() => return Err(error),
    };
    if peeked == 0 || first[0] != PREAMBLE[0] {
        return Ok((stream, guard));
    }
    let mut preamble = PREAMBLE;
    stream.read_exact(&mut preamble).await?;
    let is_taken = match preamble {
        PREAMBLE => diversions.carriers.try_send((stream, from)).is_ok(),
        OPERATOR_PREAMBLE => {
            guard.spoke();
            diversions.operators.try_send((stream, from, guard)).is_ok()
        }
        _ => {
            let why = "neither a link nor a carrier nor an operator";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    };
    match is_taken {
        true => Err(io::Error::other(Diverted)),
        false => Err(io::Error::other("more connections come than can be taken")),
    }
}

/// An error that ends libp2p's work on a connection which is a healthy one of another kind.
#[derive(Debug)]
struct Diverted;

impl fmt::Display for Diverted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is no link")
    }
}

impl Error for Diverted {}

/// Whether an inbound connection failed only because it is no link.
pub(super) fn is_diverted(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Diverted>() {
            return true;
        }
        // An io::Error's source is the source of what it wraps, not what it wraps.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
