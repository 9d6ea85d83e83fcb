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
use libp2p::core::upgrade::{NegotiationError, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, Transport, noise, yamux};
use shoal_protocol::node::DialFailure;
use tokio::sync::mpsc;

use super::counters::{NetCounters, add};
use super::local::Locals;
use super::names;
use super::tcp::{self, Arrived};

/// A dial and its handshake must be done by then; so must the handshake of one who dialled us.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams at once on one connection, both ways: four that stand, and requests. Also bounds what yamux may buffer.
const MAX_STREAMS: usize = 256;

pub(super) fn transport(
    keys: &Keypair,
    secret: [u8; 32],
    counters: &Arc<NetCounters>,
    locals: &Locals,
    carriers: mpsc::Sender<Arrived>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let (counters, locals) = (counters.clone(), locals.clone());
    // Who does not know the secret cannot complete the handshake, so gossip never greets a stranger.
    let noise = noise::Config::new(keys)?.with_prologue(secret.to_vec());
    Ok(tcp::Tcp::new(carriers)
        .map(move |stream, _| {
            let local = stream.0.local_addr().ok().map(|address| address.ip());
            locals.tie(Counted { stream, counters }, local)
        })
        .map_err(Tcp)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux())
        .timeout(DIAL_TIMEOUT)
        .boxed())
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
struct Tcp(#[source] io::Error);

/// What a failed dial says about the other side.
#[derive(Debug)]
pub(super) enum Failed {
    /// It is over; this is what to report.
    All(DialFailure),
    /// At this address somebody else answers. The others may yet be right.
    Elsewhere(Multiaddr, String),
}

pub(super) fn judge(error: &DialError) -> Failed {
    match error {
        DialError::LocalPeerId { address } => {
            Failed::Elsewhere(address.clone(), "this node itself answers there".into())
        }
        DialError::WrongPeerId { obtained, address } => {
            let who = names::node_id(obtained).map_or_else(|| obtained.to_string(), |node| node.short());
            Failed::Elsewhere(address.clone(), format!("node {who} answers there"))
        }
        DialError::Transport(errors) => Failed::All(judge_all(errors)),
        // libp2p leaves out the addresses that this node listens on.
        DialError::NoAddresses => Failed::All(DialFailure::Stranger("this node itself answers there".into())),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted | DialError::Denied { .. } => {
            Failed::All(DialFailure::TimedOut)
        }
    }
}

/// Refused only when every address that tells anything refused: it is taken as evidence of death.
fn judge_all(errors: &[(Multiaddr, TransportError<io::Error>)]) -> DialFailure {
    let each: Vec<_> = errors.iter().map(|(address, error)| judge_one(address, error)).collect();
    let refused = each.contains(&DialFailure::Refused);
    let stranger = each.iter().find(|failure| matches!(failure, DialFailure::Stranger(_)));
    if each.is_empty() || each.contains(&DialFailure::TimedOut) {
        DialFailure::TimedOut
    } else if refused {
        DialFailure::Refused
    } else {
        stranger.cloned().unwrap_or(DialFailure::TimedOut)
    }
}

fn judge_one(address: &Multiaddr, error: &TransportError<io::Error>) -> DialFailure {
    let error = match error {
        TransportError::MultiaddrNotSupported(address) => {
            return DialFailure::Stranger(format!(
                "{address} cannot be dialled: an IP address and a TCP port are expected"
            ));
        }
        TransportError::Other(error) => error,
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<noise::Error>() {
            // A handshake that does not decrypt comes wrapped, bytes that are no handshake at all come bare.
            Some(noise::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return if error.get_ref().is_some() { other_cluster(address) } else { not_shoal(address) };
            }
            // The other side went away.
            Some(noise::Error::Io(_)) | None => {}
            Some(_) => return other_cluster(address),
        }
        if let Some(NegotiationError::Failed | NegotiationError::ProtocolError(_)) = error.downcast_ref() {
            return not_shoal(address);
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return DialFailure::Refused;
        }
        // An io::Error's source is the source of what it wraps, not what it wraps.
        cause = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    DialFailure::TimedOut
}

fn other_cluster(address: &Multiaddr) -> DialFailure {
    DialFailure::Stranger(format!("{} is of another cluster, or the join line is not its", names::show(address)))
}

fn not_shoal(address: &Multiaddr) -> DialFailure {
    DialFailure::Stranger(format!("what answers at {} is not shoal", names::show(address)))
}

/// A TCP stream whose bytes are counted.
struct Counted {
    stream: libp2p::tcp::tokio::TcpStream,
    counters: Arc<NetCounters>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            add(&self.counters.bytes_received, bytes);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
