//! Idle timeouts: a party that is waited for and makes no progress is cut off, and named.
//!
//! **Each hop judges its own neighbour, by bytes that move.** A steady transfer is never cut,
//! however slow it is.
//!
//! ```text
//!   waited for        to                    limit                measured by
//!   the client        send its body         CLIENT_BODY_IDLE     TimedBody, at the first node
//!   the client        read its answer       CLIENT_WRITE_IDLE    TimedIo: room in the kernel
//!   the asking node   either                PATH_IDLE            TimedBody, TimedIo: second node
//!   the other node    read the request      PATH_IDLE            Flow, at the first node
//!   the other node    begin or go on        flow::ANSWER_WITHIN  Flow, at the first node
//!   the guest         either                30 s                 the runtime, before Flow's limit
//!   a replica (TCP)   read, begin, go on    replicas::PROGRESS   Flow, on the replica's node
//! ```
//!
//! Between nodes bytes move in steps of half a stream's window, 128 KiB and more: a client that
//! reads 1 KB a second moves none for two minutes. So the limit there is longer; the link detects a
//! dead node, not this.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use shoal_protocol::model::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::clients::Client;

/// Time without a byte of a client's body that is waited for.
pub const CLIENT_BODY_IDLE: Duration = Duration::from_secs(30);
/// Time without a client reading its answer. The kernel reports room in steps: when most of what it
/// holds back, 128 KiB at most, has left. So a client that reads 1.1 KB a second is steady enough.
/// (The kernel's own `TCP_USER_TIMEOUT` has no steps, but ends connections whose receiver has a
/// small window, though bytes move.)
pub const CLIENT_WRITE_IDLE: Duration = Duration::from_secs(120);
/// Time without a byte between two nodes while they are linked.
pub const PATH_IDLE: Duration = Duration::from_secs(300);

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// An HTTP client.
    Client,
    /// Another node, by id.
    Node(NodeId),
    /// A replica with an address on this node.
    Replica,
}

/// The step that a party did not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// To send the next piece of a body.
    Send,
    /// To read what was sent to it.
    Take,
    /// To begin its answer.
    Answer,
}

/// A party made no progress for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stalled {
    /// The party that was waited for.
    pub party: Party,
    /// The step that was missing.
    pub awaited: Awaited,
    /// The time that the party had.
    pub limit: Duration,
}

impl Stalled {
    /// Finds a stall among the causes of an error.
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Stalled> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(stalled) = error.downcast_ref::<Stalled>() {
                return Some(*stalled);
            }
            let io = error.downcast_ref::<io::Error>();
            // An io::Error's source is the source of what it wraps, not what it wraps.
            cause = match io.and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }

    fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, self)
    }
}

impl std::error::Error for Stalled {}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.party {
            Party::Client => f.write_str("the client")?,
            Party::Node(node) => write!(f, "node {}", node.short())?,
            Party::Replica => f.write_str("the replica")?,
        }
        f.write_str(match self.awaited {
            Awaited::Send => " sent nothing more",
            Awaited::Take => " took nothing of what it asked for",
            Awaited::Answer => " gave no answer",
        })?;
        write!(f, " for {} s", self.limit.as_secs_f32())
    }
}

/// A byte stream whose writes fail when the other end reads nothing for too long. Reads have no
/// limit here: an idle connection has the limit of a request's head, and a body that of
/// [`TimedBody`].
pub struct TimedIo<T> {
    bytes: T,
    stalled: Stalled,
    waiting: Option<Pin<Box<Sleep>>>,
    client: Option<Arc<Client>>,
}

impl<T> TimedIo<T> {
    /// Wraps the bytes to a node.
    pub fn to_node(bytes: T, node: NodeId) -> Self {
        let stalled =
            Stalled { party: Party::Node(node), awaited: Awaited::Take, limit: PATH_IDLE };
        TimedIo { bytes, stalled, waiting: None, client: None }
    }

    /// Wraps the bytes to a client, which is told when all are written.
    pub fn to_client(bytes: T, client: Arc<Client>, limit: Duration) -> Self {
        let stalled = Stalled { party: Party::Client, awaited: Awaited::Take, limit };
        TimedIo { bytes, stalled, waiting: None, client: Some(client) }
    }

    fn judged(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::TimedOut { self.stalled.into_io() } else { error }
    }

    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(result) = polled {
            self.waiting = None;
            return Poll::Ready(result.map_err(|error| self.judged(error)));
        }
        let limit = self.stalled.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        waiting.as_mut().poll(cx).map(|()| Err(self.stalled.into_io()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.bytes).poll_read(cx, buf) {
            // The kernel gave up retransmitting: it reports that to the first call, also to a read.
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.judged(error))),
            polled => polled,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.bytes).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_flush(cx);
        if let (Poll::Ready(Ok(())), Some(client)) = (&polled, &self.client) {
            client.flushed();
        }
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.bytes).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

/// A body that fails when its sender sends no next piece in time.
pub struct TimedBody<B> {
    body: B,
    stalled: Stalled,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> TimedBody<B> {
    /// Wraps the `body` that `party` sends.
    pub fn new(body: B, party: Party, limit: Duration) -> Self {
        TimedBody { body, stalled: Stalled { party, awaited: Awaited::Send, limit }, waiting: None }
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<shoal_runtimes::BodyError>,
{
    type Data = Bytes;
    type Error = shoal_runtimes::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let stalled = self.stalled;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stalled.limit)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds a value until it ends: a permit, for example.
pub struct GuardedBody<B, K> {
    body: B,
    _kept: K,
}

impl<B, K> GuardedBody<B, K> {
    /// Wraps `body`, holding `kept`.
    pub fn new(body: B, kept: K) -> Self {
        GuardedBody { body, _kept: kept }
    }
}

impl<B: HttpBody + Unpin, K: Unpin> HttpBody for GuardedBody<B, K> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
