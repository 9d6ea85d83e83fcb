//! TCP, then noise with the cluster's prologue, then yamux; and what a failed dial means.

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

use super::admission::{Admission, HandshakeGuard};
use super::cancellable::{CancellableTransport, DialCanceller};
use super::counters::{NetCounters, add};
use super::local_addresses::LocalAddresses;
use super::names;
use super::tcp::{self, Diversions};
use super::types::DialOutcome;

/// Time limit of a dial with its handshake, and of an inbound handshake.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams at once on one connection, in both directions: four permanent ones, and requests. It
/// also bounds yamux's buffers.
const MAX_STREAMS: usize = 256;

pub(super) fn transport(
    keys: &Keypair,
    prologue: [u8; 32],
    counters: &Arc<NetCounters>,
    local_addresses: &LocalAddresses,
    admission: &Arc<Admission>,
    diversions: Diversions,
) -> Result<(Boxed<(PeerId, StreamMuxerBox)>, DialCanceller), noise::Error> {
    let (counters, local_addresses, handshakes) =
        (counters.clone(), local_addresses.clone(), admission.clone());
    // A peer of another cluster cannot complete the handshake.
    let noise = noise::Config::new(keys)?.with_prologue(prologue.to_vec());
    let transport = tcp::TcpTransport::new(diversions, admission.clone())
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
            handshakes.on_proven(&point, names::node_id(&connection.0));
            connection
        })
        .boxed();
    let (transport, canceller) = CancellableTransport::new(transport);
    Ok((transport.boxed(), canceller))
}

/// The yamux settings of links and carriers.
pub(super) fn yamux() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    yamux
}

/// An error of TCP, a type of its own so that it can be found under its wrappers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TcpError(#[source] io::Error);

/// Classifies the error of a dial to one address.
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
        // The limit on concurrent dials, or a cancelled dial.
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
            // noise wraps the error of a handshake that does not decrypt, but not that of bytes
            // that are no handshake at all.
            Some(noise::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return if error.get_ref().is_some() {
                    other_cluster(address)
                } else {
                    not_shoal(address)
                };
            }
            // noise does not return this error as its source.
            Some(noise::Error::Io(error)) => Some(error),
            Some(_) => return other_cluster(address),
            None => error.downcast_ref::<io::Error>(),
        };
        match error.downcast_ref::<NegotiationError>() {
            // The peer went away during negotiation: the cause below shows how.
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
            // No route, no neighbour, no source address, no such family, or a local firewall.
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
        "{} is of another cluster, or the invite is not of its",
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
    /// Held until the other end has proved its key.
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

    /// Wraps the error as the layers above do.
    fn outcome_above(error: impl Error + Send + Sync + 'static) -> DialOutcome {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/7700".parse().unwrap();
        let wrapped = io::Error::other(io::Error::other(error));
        outcome_of(&DialError::Transport(vec![(address, TransportError::Other(wrapped))]))
    }

    /// An unreachable network must not look like a silent peer.
    #[test]
    fn unreachable_differs_from_silent_and_refused() {
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

    /// A process that ends closes connections that its kernel had accepted, at any step of the
    /// handshake.
    #[test]
    fn closed_connection_is_neither_stranger_nor_silent() {
        for errno in [Errno::CONNRESET, Errno::CONNABORTED, Errno::PIPE] {
            assert_eq!(outcome(errno.into()), DialOutcome::Closed, "{errno:?}");
        }
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(outcome_above(NegotiationError::from(ended())), DialOutcome::Closed);
        assert_eq!(outcome_above(noise::Error::Io(ended())), DialOutcome::Closed);
        assert!(matches!(outcome_above(NegotiationError::Failed), DialOutcome::Stranger(_)));
    }

    /// A dial that lost the race must not go on until its time-out.
    #[tokio::test]
    async fn dropped_guard_cancels_dial() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys = names::keypair(&[1; 32]);
        let diversions = Diversions {
            carriers: tokio::sync::mpsc::channel(1).0,
            operators: tokio::sync::mpsc::channel(1).0,
        };
        let (mut transport, canceller) = transport(
            &keys,
            [0; 32],
            &Arc::default(),
            &LocalAddresses::default(),
            &Admission::new(super::super::roster::Members::new().1),
            diversions,
        )
        .unwrap();
        let address = names::multiaddr(&silent.local_addr().unwrap());
        let guard = canceller.next_dial();
        let dial = transport
            .dial(address, DialOpts { role: Endpoint::Dialer, port_use: PortUse::New })
            .unwrap();
        drop(guard);
        // Without the guard it would time out after two seconds.
        assert_eq!(dial.await.err().unwrap().to_string(), "given up");
    }
}
