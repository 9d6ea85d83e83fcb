//! The mesh as other modules see it: byte streams to and from nodes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use shoal_protocol::model::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The purpose of a stream. Each has its own protocol name, so that a node may refuse one and
/// accept the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// An artifact's bytes.
    Artifact,
    /// HTTP/1.1: requests to replicas, and requests that nodes make for their users.
    Http,
    /// A stream over one relay hop: to be relayed by the node that accepts it, or arriving over a
    /// relay.
    Hop,
    /// Pieces of an artifact.
    Pieces,
}

/// Opens streams to nodes. A trait, so that its users can be tested without a network.
pub trait Mesh: Send + Sync + 'static {
    /// Opens a stream to `node`: over its link, over a link that is made for it, or else over one
    /// relay. Gives up after a few seconds.
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>>;

    /// Whether there is a link to `node` now, so that a relayed stream is no longer the best.
    fn is_linked(&self, node: &NodeId) -> bool;
}

/// Why no stream could be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("there is no link to node {}", .0.short())]
    NoLink(NodeId),
    #[error("node {} does not take this kind of stream", .0.short())]
    NotOffered(NodeId),
    #[error("node {} did not answer in time", .0.short())]
    TimedOut(NodeId),
    #[error("the link to node {} broke: {why}", node.short())]
    Broken { node: NodeId, why: String },
    #[error(
        "there is no way to node {}: {}",
        node.short(),
        describe_unreachable(dial, tried, |node| format!("node {}", node.short()))
    )]
    Unreachable { node: NodeId, dial: String, tried: Vec<(NodeId, String)> },
    #[error("this node is stopping")]
    Stopping,
}

/// Describes why a node is unreachable: how dialling fails, and what each possible relay answered.
pub fn describe_unreachable(
    dial: &str,
    tried: &[(NodeId, String)],
    name: impl Fn(&NodeId) -> String,
) -> String {
    let mut text = dial.to_owned();
    for (hop, why) in tried {
        text.push_str(&format!("; over {}: {why}", name(hop)));
    }
    if tried.is_empty() {
        text.push_str("; no common member reaches both");
    }
    text
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection that several streams share, as its streams see it.
pub(super) trait SharedConnection: Send + Sync {
    /// Counts a stream that was opened on the connection.
    fn stream_opened(&self);
    /// Counts a stream off that has ended.
    fn stream_closed(&self);
    /// Bytes that the connection moved so far, in both directions.
    fn moved(&self) -> u64;
    /// The token that is cancelled when the connection has ended.
    fn ended(&self) -> &CancellationToken;
    /// Why the connection ended.
    fn reason(&self) -> &str;
}

/// A stream's hold on its connection: while it exists, the connection is not closed for being idle.
pub(super) struct Hold(Arc<dyn SharedConnection>);

impl Hold {
    pub(super) fn new(connection: Arc<dyn SharedConnection>) -> Self {
        connection.stream_opened();
        Hold(connection)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}

/// Bytes to and from another node: in order, encrypted, the node's key proven.
pub struct MeshStream {
    bytes: Pin<Box<dyn Duplex>>,
    /// Inbound streams count against a bound while they live.
    _permit: Option<OwnedSemaphorePermit>,
    /// Resolves when the stream's link or carrier has ended.
    connection_ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The carrier that the stream keeps open.
    hold: Option<Hold>,
    /// Bytes passed in both directions.
    bytes_passed: Arc<AtomicU64>,
    /// The relay, where there is no link to the node itself.
    hop: Option<NodeId>,
}

/// Counts the bytes that moved on a stream's path: the count grows while anything arrives in either
/// direction, even a part of an expected frame. A stream stalls if the count does not grow for
/// seconds, and is slow if it grows slowly.
#[derive(Clone)]
pub struct Moved {
    bytes_passed: Arc<AtomicU64>,
    shared: Option<Arc<dyn SharedConnection>>,
}

impl Moved {
    /// Bytes so far. On a shared connection, the bytes of all its streams count.
    pub fn bytes(&self) -> u64 {
        let passed = self.bytes_passed.load(Relaxed);
        self.shared.as_ref().map_or(passed, |shared| passed.wrapping_add(shared.moved()))
    }
}

impl MeshStream {
    /// A stream of any two-way bytes: the mesh's own, or one end of a pipe in a test.
    pub fn new(bytes: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        MeshStream {
            bytes: Box::pin(bytes),
            _permit: None,
            connection_ended: None,
            hold: None,
            bytes_passed: Arc::default(),
            hop: None,
        }
    }

    /// The counter that shows whether the stream stalls.
    pub fn moved(&self) -> Moved {
        Moved {
            bytes_passed: self.bytes_passed.clone(),
            shared: self.hold.as_ref().map(|hold| hold.0.clone()),
        }
    }

    /// A stream on a carrier. It ends with the carrier, with its reason.
    pub(super) fn on_carrier(
        bytes: impl AsyncRead + AsyncWrite + Send + 'static,
        hold: Hold,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let connection_ended = hold.0.ended().clone();
        MeshStream {
            _permit: permit,
            hold: Some(hold),
            ..MeshStream::on_link(bytes, connection_ended)
        }
    }

    /// A stream over the relay `hop`.
    pub fn relayed(bytes: impl AsyncRead + AsyncWrite + Send + 'static, hop: NodeId) -> Self {
        MeshStream { hop: Some(hop), ..MeshStream::new(bytes) }
    }

    /// The relay; none when the stream uses a link or carrier to the node itself.
    pub fn hop(&self) -> Option<NodeId> {
        self.hop
    }

    /// A stream that ends when `connection_ended` is cancelled. The bytes alone would not: yamux
    /// wakes no reader of a connection that this node closes.
    pub(super) fn on_link(
        bytes: impl AsyncRead + AsyncWrite + Send + 'static,
        connection_ended: CancellationToken,
    ) -> Self {
        MeshStream {
            connection_ended: Some(Box::pin(connection_ended.cancelled_owned())),
            ..MeshStream::new(bytes)
        }
    }

    /// Once the link or carrier has ended, returns an error instead of pending or of a silent end.
    fn or_ended<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        is_end: bool,
    ) -> Poll<io::Result<T>> {
        let is_silent = is_end || !matches!(polled, Poll::Ready(Ok(_)));
        let Some(connection_ended) = self.connection_ended.as_mut().filter(|_| is_silent) else {
            return polled;
        };
        match connection_ended.as_mut().poll(cx) {
            Poll::Ready(()) => {
                let why = self
                    .hold
                    .as_ref()
                    .map_or("the link to the node is down", |hold| hold.0.reason());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)))
            }
            Poll::Pending => polled,
        }
    }

    /// Attaches the permit by which the stream counts against a bound.
    pub(super) fn counted(self, permit: OwnedSemaphorePermit) -> Self {
        MeshStream { _permit: Some(permit), ..self }
    }
}

impl std::fmt::Debug for MeshStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MeshStream")
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.bytes.as_mut().poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        self.bytes_passed.fetch_add(read as u64, Relaxed);
        // A stalled carrier ends its streams as if they had ended well. A stream that ended before
        // its carrier keeps its own end.
        let is_end = read == 0 && buf.remaining() > 0 && self.hold.is_some();
        self.or_ended(cx, polled, is_end)
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.bytes.as_mut().poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            self.bytes_passed.fetch_add(written as u64, Relaxed);
        }
        self.or_ended(cx, polled, false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.bytes.as_mut().poll_flush(cx);
        self.or_ended(cx, polled, false)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.bytes.as_mut().poll_shutdown(cx);
        self.or_ended(cx, polled, false)
    }
}

/// A stream that another node opened.
#[derive(Debug)]
pub struct Incoming {
    /// The opener; its key is proven.
    pub from: NodeId,
    /// The stream. Dropping it resets it.
    pub stream: MeshStream,
}

/// The inbound streams of one purpose. Spawn a task for each: streams that wait beyond a bound are
/// reset.
#[derive(Debug)]
pub struct Acceptor {
    incoming: mpsc::Receiver<Incoming>,
}

impl Acceptor {
    /// An acceptor over this channel: the mesh's own, or a test's.
    pub fn new(incoming: mpsc::Receiver<Incoming>) -> Self {
        Acceptor { incoming }
    }

    /// The next stream; none when the network has stopped.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}
