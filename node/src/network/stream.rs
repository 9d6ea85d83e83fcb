//! What others see of the mesh: byte streams to and from nodes.

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

/// What a stream is for. Each has its own protocol name, so that a node may refuse one and take the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// The bytes of an artifact.
    Artifact,
    /// HTTP/1.1: requests to replicas, and what nodes ask one another for their users.
    Http,
    /// To be carried on by a member that reaches both, or arrived over one.
    Hop,
}

/// Opens streams to nodes. A trait, so that what stands on it can be tried without a network.
pub trait Mesh: Send + Sync + 'static {
    /// A stream to `node`, over the link that stands, or over one that is made for it, or else over
    /// one common member. Gives up after a few seconds.
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>>;

    /// Whether a link to `node` stands now, so that a stream over a common member is no longer the
    /// best.
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
    #[error("there is no way to node {}: \
        {}", node.short(), describe_unreachable(dial, tried, |node| format!("node {}", node.short())))]
    Unreachable { node: NodeId, dial: String, tried: Vec<(NodeId, String)> },
    #[error("this node is stopping")]
    Stopping,
}

/// Why there is no way: how dialling fails, and what each common member said.
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

/// A connection that several streams share, as these see it.
pub(super) trait SharedConnection: Send + Sync {
    /// A stream was opened on it.
    fn stream_opened(&self);
    /// That stream has ended.
    fn stream_closed(&self);
    /// Bytes that it moved so far, in either direction.
    fn moved(&self) -> u64;
    /// Cancelled when it has ended.
    fn ended(&self) -> &CancellationToken;
    /// Why it ended.
    fn reason(&self) -> &str;
}

/// A stream's hold on its connection, which does not end for being idle meanwhile.
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

/// Bytes to and from another node, in order, encrypted, its key proven.
pub struct MeshStream {
    bytes: Pin<Box<dyn Duplex>>,
    /// Taken streams count against a bound for as long as they live.
    _permit: Option<OwnedSemaphorePermit>,
    /// The end of the link, or of the carrier, that it lies on.
    connection_ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The carrier that it lies on, kept open by it.
    hold: Option<Hold>,
    /// Bytes that went through, both ways.
    bytes_passed: Arc<AtomicU64>,
    /// The member that carries it, where there is no link to the node itself.
    hop: Option<NodeId>,
}

/// How much has moved on a stream's way: it grows while anything arrives, in either direction, if
/// only a part of what is waited for. If it does not grow for seconds the stream stalls; if it
/// grows slowly the stream is slow.
#[derive(Clone)]
pub struct Moved {
    bytes_passed: Arc<AtomicU64>,
    shared: Option<Arc<dyn SharedConnection>>,
}

impl Moved {
    /// Bytes so far. On a connection that streams share, those of all.
    pub fn bytes(&self) -> u64 {
        let passed = self.bytes_passed.load(Relaxed);
        self.shared.as_ref().map_or(passed, |shared| passed.wrapping_add(shared.moved()))
    }
}

impl MeshStream {
    /// Any two-way bytes: the mesh's own, or one end of a pipe in a test.
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

    /// A measure that tells whether it stalls.
    pub fn moved(&self) -> Moved {
        Moved {
            bytes_passed: self.bytes_passed.clone(),
            shared: self.hold.as_ref().map(|hold| hold.0.clone()),
        }
    }

    /// A stream that lies on a carrier, ends with it, and says why.
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

    /// One that a common member carries.
    pub fn relayed(bytes: impl AsyncRead + AsyncWrite + Send + 'static, hop: NodeId) -> Self {
        MeshStream { hop: Some(hop), ..MeshStream::new(bytes) }
    }

    /// The member that carries it; none when it runs over a link to the node itself.
    pub fn hop(&self) -> Option<NodeId> {
        self.hop
    }

    /// One that ends with its link. The bytes alone would not: yamux wakes no reader of a
    /// connection that is closed here.
    pub(super) fn on_link(
        bytes: impl AsyncRead + AsyncWrite + Send + 'static,
        connection_ended: CancellationToken,
    ) -> Self {
        MeshStream {
            connection_ended: Some(Box::pin(connection_ended.cancelled_owned())),
            ..MeshStream::new(bytes)
        }
    }

    /// Once the link or carrier is over, an error instead of waiting on, or of breaking off without
    /// a word.
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

    /// Counts against a bound from now on.
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
        // A carrier that is given up ends its streams as if they were over; one that ended well
        // before is not asked why.
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
    /// Who; its key is proven.
    pub from: NodeId,
    /// The bytes. Dropping it resets the stream.
    pub stream: MeshStream,
}

/// Where a purpose's incoming streams come out. Spawn for each and come back: a slow taker's
/// streams are reset.
#[derive(Debug)]
pub struct Acceptor {
    incoming: mpsc::Receiver<Incoming>,
}

impl Acceptor {
    /// An acceptor that takes from this channel: the mesh's own, or a test's.
    pub fn new(incoming: mpsc::Receiver<Incoming>) -> Self {
        Acceptor { incoming }
    }

    /// The next stream; none when the network has stopped.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}
