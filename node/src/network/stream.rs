//! What others see of the mesh: byte streams to and from nodes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use shoal_protocol::model::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a stream is for. Each has its own protocol name, so that a node may refuse one and take the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// The bytes of an artifact.
    Artifact,
    /// HTTP/1.1: requests to replicas, and what nodes ask one another for their users.
    Http,
}

/// Opens streams to nodes. A trait, so that what stands on it can be tried without a network.
pub trait Mesh: Send + Sync + 'static {
    /// A stream to `node`, over the link that stands, or over one that is made for it. Gives up after a few seconds.
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>>;
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
    #[error("this node is stopping")]
    Stopping,
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// Bytes to and from another node, in order, encrypted, its key proven.
pub struct MeshStream {
    bytes: Pin<Box<dyn Duplex>>,
    /// Taken streams count against a bound for as long as they live.
    _permit: Option<OwnedSemaphorePermit>,
    /// The end of the link that carries it.
    over: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl MeshStream {
    /// Any two-way bytes: the mesh's own, or one end of a pipe in a test.
    pub fn new(bytes: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        MeshStream { bytes: Box::pin(bytes), _permit: None, over: None }
    }

    /// One that ends with its link. The bytes alone would not: yamux wakes no reader of a connection that is closed here.
    pub(super) fn until(bytes: impl AsyncRead + AsyncWrite + Send + 'static, over: CancellationToken) -> Self {
        MeshStream { over: Some(Box::pin(over.cancelled_owned())), ..MeshStream::new(bytes) }
    }

    /// What to say instead of waiting on, once the link is over.
    fn or_over<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(over) = self.over.as_mut().filter(|_| polled.is_pending()) else { return polled };
        match over.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the link to the node is down")))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn counted(bytes: impl AsyncRead + AsyncWrite + Send + 'static, permit: OwnedSemaphorePermit) -> Self {
        MeshStream { bytes: Box::pin(bytes), _permit: Some(permit), over: None }
    }
}

impl std::fmt::Debug for MeshStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MeshStream")
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = self.bytes.as_mut().poll_read(cx, buf);
        self.or_over(cx, polled)
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.bytes.as_mut().poll_write(cx, buf);
        self.or_over(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.bytes.as_mut().poll_flush(cx);
        self.or_over(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.bytes.as_mut().poll_shutdown(cx);
        self.or_over(cx, polled)
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

/// Where a purpose's incoming streams come out. Spawn for each and come back: a slow taker's streams are reset.
#[derive(Debug)]
pub struct Acceptor {
    pub(super) incoming: mpsc::Receiver<Incoming>,
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
