//! TCP, then noise with the cluster's secret, then yamux; and what it means when that fails.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, TransportError};
use libp2p::core::upgrade::{NegotiationError, ProtocolError, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, Transport, noise, yamux};
use tokio::sync::mpsc;

use super::admission::{Admission, HandshakeGuard};
use super::cancellable::{CancellableTransport, DialCanceller};
use super::counters::{NetCounters, add};
use super::local_addresses::LocalAddresses;
use super::names;
use super::tcp::{self, InboundCarrier};
use super::types::DialOutcome;

/// A dial and its handshake must be done by then; so must the handshake of one who dialled us.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams at once on one connection, both ways: four that stand, and requests. Also bounds what
/// yamux may buffer.
const MAX_STREAMS: usize = 256;

pub(super) fn transport(
    keys: &Keypair,
    secret: [u8; 32],
    counters: &Arc<NetCounters>,
    local_addresses: &LocalAddresses,
    admission: &Arc<Admission>,
    carriers: mpsc::Sender<InboundCarrier>,
) -> Result<(Boxed<(PeerId, StreamMuxerBox)>, DialCanceller), noise::Error> {
    let (counters, local_addresses, handshakes) =
        (counters.clone(), local_addresses.clone(), admission.clone());
    // Who does not know the secret cannot complete the handshake, so gossip never greets a
    // stranger.
    let noise = noise::Config::new(keys)?.with_prologue(secret.to_vec());
    let transport = tcp::TcpTransport::new(carriers, admission.clone())
        .map(move |(stream, guard), _| {
            let local = stream.0.local_addr().ok().map(|address| address.ip());
            local_addresses.bind(Counted { stream, counters, guard }, local)
        })
        .map_err(TcpError)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux())
        .timeout(DIAL_TIMEOUT)
        .boxed()
        .map(move |connection, point| {
            handshakes.on_proven(&point);
            connection
        })
        .boxed();
    let (transport, canceller) = CancellableTransport::new(transport);
    Ok((transport.boxed(), canceller))
}

/// Streams on one connection, of links and of carriers.
pub(super) fn yamux() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    yamux
}

/// TCP's own errors, kept apart so that they can be found again under what wraps them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TcpError(#[source] io::Error);

/// What the end of a dial to one address says.
pub(super) fn outcome_of(error: &DialError) -> DialOutcome {
    match error {
        // libp2p leaves out the addresses that this node listens on.
        DialError::LocalPeerId { .. } | DialError::NoAddresses => DialOutcome::ThisNode,
        DialError::WrongPeerId { obtained, address } => match names::node_id(obtained) {
            Some(node) => DialOutcome::OtherNode(node),
            None => other_cluster(address),
        },
        DialError::Transport(errors) => errors
            .first()
            .map_or(DialOutcome::Silent, |(address, error)| outcome_at(address, error)),
        // The limit on dials at once, or a dial that was given up.
        DialError::DialPeerConditionFalse(_) | DialError::Aborted | DialError::Denied { .. } => {
            DialOutcome::Unreachable
        }
    }
}

fn outcome_at(address: &Multiaddr, error: &TransportError<io::Error>) -> DialOutcome {
    let error = match error {
        TransportError::MultiaddrNotSupported(address) => {
            return DialOutcome::Stranger(format!(
                "{address} cannot be dialled: an IP address and a TCP port are expected"
            ));
        }
        TransportError::Other(error) => error,
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<noise::Error>() {
            // A handshake that does not decrypt comes wrapped, bytes that are no handshake at all
            // come bare.
            Some(noise::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return if error.get_ref().is_some() {
                    other_cluster(address)
                } else {
                    not_shoal(address)
                };
            }
            // It hides its cause.
            Some(noise::Error::Io(error)) => Some(error),
            Some(_) => return other_cluster(address),
            None => error.downcast_ref::<io::Error>(),
        };
        match error.downcast_ref::<NegotiationError>() {
            // Not what it said, but that it went away: the cause tells.
            Some(NegotiationError::ProtocolError(ProtocolError::IoError(_))) | None => {}
            Some(NegotiationError::Failed | NegotiationError::ProtocolError(_)) => {
                return not_shoal(address);
            }
        }
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return DialOutcome::Refused,
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof,
            ) => return DialOutcome::Closed,
            // No route, no neighbour, no source address, no such family, or a firewall of our own.
            Some(
                io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::Unsupported
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::PermissionDenied,
            ) => return DialOutcome::Unreachable,
            _ => {}
        }
        // EAFNOSUPPORT has no kind of its own.
        if io.and_then(io::Error::raw_os_error)
            == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        {
            return DialOutcome::Unreachable;
        }
        // An io::Error's source is the source of what it wraps, not what it wraps.
        cause = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    DialOutcome::Silent
}

fn other_cluster(address: &Multiaddr) -> DialOutcome {
    DialOutcome::Stranger(format!(
        "{} is of another cluster, or the join line is not its",
        names::show(address)
    ))
}

fn not_shoal(address: &Multiaddr) -> DialOutcome {
    DialOutcome::Stranger(format!("what answers at {} is not shoal", names::show(address)))
}

/// A TCP stream whose bytes are counted.
struct Counted {
    stream: libp2p::tcp::tokio::TcpStream,
    counters: Arc<NetCounters>,
    /// While somebody unproven is at the other end.
    guard: Option<HandshakeGuard>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            add(&self.counters.bytes_received, bytes);
        }
        if self.guard.as_ref().is_some_and(HandshakeGuard::is_done) {
            self.guard = None;
        }
        match &mut self.guard {
            Some(guard) => guard.read(cx, polled),
            None => polled,
        }
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            add(&self.counters.bytes_sent, bytes);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::{DialOpts, PortUse};
    use rustix::io::Errno;

    use super::*;

    fn outcome(error: io::Error) -> DialOutcome {
        outcome_above(TcpError(error))
    }

    /// As it comes through the layers above.
    fn outcome_above(error: impl Error + Send + Sync + 'static) -> DialOutcome {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/7700".parse().unwrap();
        let wrapped = io::Error::other(io::Error::other(error));
        outcome_of(&DialError::Transport(vec![(address, TransportError::Other(wrapped))]))
    }

    /// A network without a way there is not a peer that is silent.
    #[test]
    fn no_way_there_is_told_from_silence_and_refusal() {
        for errno in [
            Errno::NETUNREACH,
            Errno::HOSTUNREACH,
            Errno::ADDRNOTAVAIL,
            Errno::AFNOSUPPORT,
            Errno::ACCESS,
        ] {
            assert_eq!(outcome(errno.into()), DialOutcome::Unreachable, "{errno:?}");
        }
        assert_eq!(outcome(Errno::CONNREFUSED.into()), DialOutcome::Refused);
        assert_eq!(outcome(Errno::TIMEDOUT.into()), DialOutcome::Silent);
    }

    /// A process that ends closes connections that its kernel had taken, at any step of the
    /// handshake.
    #[test]
    fn a_connection_that_is_closed_is_no_stranger_and_no_silence() {
        for errno in [Errno::CONNRESET, Errno::CONNABORTED, Errno::PIPE] {
            assert_eq!(outcome(errno.into()), DialOutcome::Closed, "{errno:?}");
        }
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(outcome_above(NegotiationError::from(ended())), DialOutcome::Closed);
        assert_eq!(outcome_above(noise::Error::Io(ended())), DialOutcome::Closed);
        assert!(matches!(outcome_above(NegotiationError::Failed), DialOutcome::Stranger(_)));
    }

    #[tokio::test]
    async fn dial_ends_when_its_guard_is_dropped() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (keys, carriers) = (names::keypair(&[1; 32]), tokio::sync::mpsc::channel(1).0);
        let (mut transport, canceller) = transport(
            &keys,
            [0; 32],
            &Arc::default(),
            &LocalAddresses::default(),
            &Admission::new(),
            carriers,
        )
        .unwrap();
        let address = names::multiaddr(&silent.local_addr().unwrap());
        let guard = canceller.next_dial();
        let dial = transport
            .dial(address, DialOpts { role: Endpoint::Dialer, port_use: PortUse::New })
            .unwrap();
        drop(guard);
        // Without that it would be a time-out, two seconds later.
        assert_eq!(dial.await.err().unwrap().to_string(), "given up");
    }
}
