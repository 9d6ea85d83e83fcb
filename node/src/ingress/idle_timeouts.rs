//! An end to patience: whoever is waited for and does not go on is left, and named.
//!
//! **Each hop judges its own neighbour, by bytes that move.** A steady transfer is never cut,
//! however slow it is.
//!
//! ```text
//!   waited for        to                       limit                     measured by
//!   the client        send its request's body  CLIENT_BODY_IDLE               TimedBody, at the node that it talks to
//!   the client        take its answer          CLIENT_WRITE_IDLE              TimedIo: room in the kernel for more
//!   the asking node   either                   PATH_IDLE                 TimedBody and TimedIo, at the node that answers
//!   the other node    take the request         PATH_IDLE                 Flow, at the node that asks
//!   the other node    begin or go on           flow::ANSWER_WITHIN       Flow, at the node that asks
//!   the guest         either                   30 s                      the runtime, which speaks before Flow does
//! ```
//!
//! Between nodes bytes move in steps of half a stream's window, 128 KiB and more: a client that
//! takes 1 KB a second moves none for two minutes. So the limit there is longer; a node that died
//! is noticed by its link, not by this.

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

/// How long a client may send no byte of a body that is waited for.
pub const CLIENT_BODY_IDLE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answer. The kernel tells in steps: it has room again
/// when what it holds back, 128 KiB at most, has mostly left. So a client that takes 1.1 KB a
/// second is steady enough. (The kernel's own `TCP_USER_TIMEOUT` knows no steps, but ends
/// connections whose receiver has a small window, though they move.)
pub const CLIENT_WRITE_IDLE: Duration = Duration::from_secs(120);
/// How long nothing may move between two nodes while a link stands.
pub const PATH_IDLE: Duration = Duration::from_secs(300);

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// A client.
    Client,
    /// Another node.
    Node(NodeId),
}

/// What a party was waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// The next piece of what it sends.
    Send,
    /// To take what it asked for.
    Take,
    /// To answer at all.
    Answer,
}

/// Nothing moved for too long, and whose fault that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stalled {
    /// The one that was waited for.
    pub party: Party,
    /// What it did not do.
    pub awaited: Awaited,
    /// For how long.
    pub limit: Duration,
}

impl Stalled {
    /// Finds it under what wraps it.
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
        }
        f.write_str(match self.awaited {
            Awaited::Send => " sent nothing more",
            Awaited::Take => " took nothing of what it asked for",
            Awaited::Answer => " gave no answer",
        })?;
        write!(f, " for {} s", self.limit.as_secs_f32())
    }
}

/// Bytes whose writes fail when the other side takes nothing for too long. Reads may take as long
/// as they like: an idle client is the business of the head's own deadline, and a body's of
/// [`TimedBody`].
pub struct TimedIo<T> {
    bytes: T,
    stalled: Stalled,
    waiting: Option<Pin<Box<Sleep>>>,
    client: Option<Arc<Client>>,
}

impl<T> TimedIo<T> {
    /// Around the bytes to a node.
    pub fn to_node(bytes: T, node: NodeId) -> Self {
        let stalled =
            Stalled { party: Party::Node(node), awaited: Awaited::Take, limit: PATH_IDLE };
        TimedIo { bytes, stalled, waiting: None, client: None }
    }

    /// Around the bytes to a client, which hears what has left.
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
            // The kernel gave up to send again and again: it tells whoever asks first.
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

/// A body that fails when whoever sends it sends no next piece in time.
pub struct TimedBody<B> {
    body: B,
    stalled: Stalled,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> TimedBody<B> {
    /// Around the `body` that `party` sends.
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

/// A body that keeps something until it ends: the right to be served, for example.
pub struct GuardedBody<B, K> {
    body: B,
    _kept: K,
}

impl<B, K> GuardedBody<B, K> {
    /// Around `body`, keeping `kept`.
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
