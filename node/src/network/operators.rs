//! Connections of operators, at the node: TCP, a preamble, noise, then streams.
//!
//! ```text
//!   shoal --via ── TCP ── preamble ── noise ── grants, answer ── yamux: one stream a request
//! ```
//!
//! **The other end is a stranger** with a place among the strangers' handshakes, until the API has
//! judged its grants. Then it keeps the place: it can be evicted by nobody, and the API bounds how
//! many there are. No connection of libp2p's swarm: the choice of links and gossip never see it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::{noise, yamux};
use shoal_protocol::model::PublicKey;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;

use super::admission::HandshakeGuard;
use super::names;
use super::stream::MeshStream;
use super::tcp::InboundOperator;

/// Connections that may wait for the API to take them; each has a place among the strangers.
pub(super) const MAX_WAITING: usize = 32;
/// Streams of one connection. The API serves fewer, and refuses the others in words; an end that
/// opens more loses the connection.
const MAX_STREAMS: usize = 64;
/// Silence after which TCP asks whether the other end is still there, how often, and how many
/// times: a laptop that was closed is noticed within half a minute.
const ALIVE_AFTER: Duration = Duration::from_secs(10);
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_TIMES: u32 = 3;

/// The noise configuration of both ends, bound to the cluster and to this use.
pub(super) fn noise(keys: &Keypair, prologue: &[u8; 32]) -> Result<noise::Config, noise::Error> {
    Ok(noise::Config::new(keys)?.with_prologue([&prologue[..], b"shoal/operator/1"].concat()))
}

/// Has TCP notice an end that has gone without a word.
pub(super) fn watch(stream: &TcpStream) -> io::Result<()> {
    let alive = TcpKeepalive::new().with_time(ALIVE_AFTER).with_interval(ALIVE_EVERY);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&alive.with_retries(ALIVE_TIMES))?;
    socket.set_tcp_user_timeout(Some(ALIVE_AFTER + ALIVE_EVERY * ALIVE_TIMES))
}

/// Where operators' connections arrive.
pub struct OperatorDoor {
    knocking: mpsc::Receiver<InboundOperator>,
    noise: noise::Config,
}

impl OperatorDoor {
    pub(super) fn new(
        knocking: mpsc::Receiver<InboundOperator>,
        keys: &Keypair,
        prologue: &[u8; 32],
    ) -> Result<Self, noise::Error> {
        Ok(OperatorDoor { knocking, noise: noise(keys, prologue)? })
    }

    /// The next connection; none when the network has stopped.
    pub async fn next(&mut self) -> Option<Knock> {
        let (stream, from, place) = self.knocking.recv().await?;
        Some(Knock { stream, from, place, noise: self.noise.clone() })
    }
}

impl std::fmt::Debug for OperatorDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorDoor")
    }
}

/// A connection that has proved nothing yet.
pub struct Knock {
    stream: TcpStream,
    from: SocketAddr,
    place: HandshakeGuard,
    noise: noise::Config,
}

impl Knock {
    /// The address it comes from.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// Makes the handshake. The caller bounds how long it takes.
    pub async fn greet(self) -> io::Result<Visitor> {
        let Knock { stream, from, mut place, noise } = self;
        stream.set_nodelay(true)?;
        watch(&stream)?;
        let handshake = noise.upgrade_inbound(stream.compat(), "/noise");
        let (peer, bytes) = tokio::select! {
            shaken = handshake => shaken.map_err(io::Error::other)?,
            error = place.evicted() => return Err(error),
        };
        let node =
            names::node_id(&peer).ok_or_else(|| io::Error::other("a key of another kind"))?;
        Ok(Visitor { key: PublicKey(node.0), from, bytes: MeshStream::new(bytes.compat()), place })
    }
}

/// A connection whose other end has proved its key.
pub struct Visitor {
    /// The proven key.
    pub key: PublicKey,
    /// The address it comes from.
    pub from: SocketAddr,
    bytes: MeshStream,
    place: HandshakeGuard,
}

impl Visitor {
    /// The first that it says: a frame of at most `max` bytes. The caller bounds how long this
    /// takes.
    pub async fn hear(&mut self, max: usize) -> io::Result<Vec<u8>> {
        tokio::select! {
            heard = read_frame(&mut self.bytes, max) => heard,
            error = self.place.evicted() => Err(error),
        }
    }

    /// Answers it.
    pub async fn say(&mut self, frame: &[u8]) -> io::Result<()> {
        write_frame(&mut self.bytes, frame).await
    }

    /// The other end has rights here: it keeps its place, and may open streams.
    pub async fn admit(self) -> io::Result<Streams> {
        self.place.keep();
        let muxer = yamux().upgrade_inbound(self.bytes.compat(), "/yamux/1.0.0").await?;
        Ok(Streams {
            muxer: StreamMuxerBox::new(muxer),
            free: Arc::new(Semaphore::new(MAX_STREAMS)),
            ended: CancellationToken::new(),
            _place: self.place,
        })
    }
}

/// The streams that an operator opens. Bytes move only while [`Streams::next`] is waited for.
pub struct Streams {
    muxer: StreamMuxerBox,
    free: Arc<Semaphore>,
    ended: CancellationToken,
    _place: HandshakeGuard,
}

impl Streams {
    /// The next stream; an error when the connection has ended. May be dropped and called again.
    pub async fn next(&mut self) -> io::Result<MeshStream> {
        let stream = poll_fn(|cx| match poll(&mut self.muxer, false, cx) {
            Poll::Ready(Ok(Event::Incoming(stream))) => Poll::Ready(Ok(stream)),
            Poll::Ready(Ok(Event::Opened(_))) => Poll::Ready(Err(io::Error::other("not asked"))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let permit = self.free.clone().try_acquire_owned().map_err(io::Error::other)?;
        Ok(MeshStream::on_link(stream.compat(), self.ended.clone()).counted(permit))
    }

    /// The streams that live now.
    pub fn live(&self) -> usize {
        MAX_STREAMS - self.free.available_permits()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // Their readers would wait for ever.
        self.ended.cancel();
    }
}

/// An event of a muxer.
pub(super) enum Event {
    Opened(SubstreamBox),
    Incoming(SubstreamBox),
}

pub(super) fn poll(
    muxer: &mut StreamMuxerBox,
    opens: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event>> {
    if opens && let Poll::Ready(opened) = muxer.poll_outbound_unpin(cx) {
        return Poll::Ready(opened.map(Event::Opened));
    }
    if let Poll::Ready(incoming) = muxer.poll_inbound_unpin(cx) {
        return Poll::Ready(incoming.map(Event::Incoming));
    }
    loop {
        match muxer.poll_unpin(cx) {
            // No address changes: these are TCP connections.
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Divides the bytes of the dialling end into streams.
pub(super) async fn multiplexed(bytes: MeshStream) -> io::Result<StreamMuxerBox> {
    let muxer = yamux().upgrade_outbound(bytes.compat(), "/yamux/1.0.0").await?;
    Ok(StreamMuxerBox::new(muxer))
}

/// Reads a frame of at most `max` bytes: its length in four bytes, and its content.
pub(super) async fn read_frame(bytes: &mut MeshStream, max: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes.read_u32().await?).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is far too long"));
    }
    let mut frame = vec![0; length];
    bytes.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Writes a frame that [`read_frame`] reads.
pub(super) async fn write_frame(bytes: &mut MeshStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    bytes.write_u32(length).await?;
    bytes.write_all(frame).await?;
    bytes.flush().await
}

fn yamux() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    // More than is served, by one: the muxer may count a stream for a moment after it was dropped.
    yamux.set_max_num_streams(MAX_STREAMS + 1);
    yamux
}
