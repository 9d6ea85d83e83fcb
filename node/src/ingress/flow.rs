//! The progress of a request that goes to a server, which is another node or a replica with an
//! address, and the party that is waited for.
//!
//! **Time runs against the party that is waited for.** A client that sends slowly uses up only its
//! own time ([`super::idle_timeouts`]); the server's time begins when it has what it needs.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use shoal_protocol::model::NodeId;
use shoal_runtimes::{Body, BodyError};
use tokio::time::{Instant, Sleep, sleep_until};

use super::idle_timeouts::{Awaited, PATH_IDLE, Party, Stalled};

/// Time for a node to begin its answer once it has the request, and to go on with it. Longer than a
/// guest may take, so that the guest's own limit, which names the guest, ends the request first.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The server that a request goes to, and how long it may keep others waiting.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The server's name in errors.
    pub party: Party,
    /// Time to read the next piece of a request.
    pub take_within: Duration,
    /// Time to begin the answer once the whole request was read, and to go on with it.
    pub answer_within: Duration,
}

impl Server {
    /// Another node.
    pub fn node(node: NodeId) -> Self {
        let party = Party::Node(node);
        Server { party, take_within: PATH_IDLE, answer_within: ANSWER_WITHIN }
    }
}

/// The state of one request that was sent to a server.
#[derive(Debug)]
pub struct Flow {
    server: Server,
    state: Mutex<(Sending, Instant)>,
}

/// The state of the request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    /// The connection asked for more of the body than the client has sent.
    FromClient,
    /// A piece is being written to the server.
    ToServer,
    /// All of the body is written.
    Done,
}

impl Flow {
    /// Tracks the body of a request that goes to `server`.
    pub fn over(server: Server, request: Request<Body>) -> (Arc<Self>, Request<Body>) {
        let begun = if request.body().is_end_stream() { Sending::Done } else { Sending::ToServer };
        let flow = Arc::new(Flow { server, state: Mutex::new((begun, Instant::now())) });
        let watch = flow.clone();
        (flow, request.map(|body| Outgoing { body, flow: watch }.boxed_unsync()))
    }

    /// Waits for the head of the answer until the server has stalled.
    pub async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answer = answer.as_mut() => return Ok(answer),
                () = sleep_until(self.look_at(Awaited::Answer)) => {}
            }
            if let Some(stalled) = self.stalled(Awaited::Answer) {
                return Err(stalled);
            }
        }
    }

    /// When to check again. The deadline can also move to an earlier time, when another party is
    /// waited for; a stall may so be noticed late, by a quarter of the server's limit.
    fn look_at(&self, awaited: Awaited) -> Instant {
        self.deadline(awaited).0.min(Instant::now() + self.server.answer_within / 4)
    }

    /// The stall, if the server has been waited for too long.
    fn stalled(&self, awaited: Awaited) -> Option<Stalled> {
        let (at, stalled) = self.deadline(awaited);
        (at <= Instant::now()).then_some(stalled)
    }

    /// The time at which the server counts as stalled, as things are now.
    fn deadline(&self, awaited: Awaited) -> (Instant, Stalled) {
        let (state, since) = *self.lock();
        let Server { take_within, answer_within, .. } = self.server;
        let (awaited, limit) = match state {
            // The client's own limit ends this state.
            Sending::FromClient => {
                return (Instant::now() + answer_within, self.named(awaited, answer_within));
            }
            Sending::ToServer => (Awaited::Take, take_within),
            Sending::Done => (awaited, answer_within),
        };
        (since + limit, self.named(awaited, limit))
    }

    fn named(&self, awaited: Awaited, limit: Duration) -> Stalled {
        Stalled { party: self.server.party, awaited, limit }
    }

    fn is(&self, state: Sending) {
        let mut now = self.lock();
        // A second poll for data that has not come is no progress.
        if now.0 != state || state == Sending::ToServer {
            *now = (state, Instant::now());
        }
    }

    fn moved(&self) {
        self.lock().1 = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, (Sending, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body on its way to the server.
struct Outgoing {
    body: Body,
    flow: Arc<Flow>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.flow.is(match &polled {
            Poll::Pending => Sending::FromClient,
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => Sending::ToServer,
            Poll::Ready(_) => Sending::Done,
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Also when the server reads no more of the body.
        self.flow.is(Sending::Done);
    }
}

/// Watches an answer that came with its [`Flow`] among its extensions: its body fails when the
/// server stalls.
pub fn arriving(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Arc<Flow>>() {
        Some(flow) => {
            flow.moved();
            response.map(|body| Arriving { body, flow, waiting: None }.boxed_unsync())
        }
        None => response,
    }
}

/// An answer's body on its way from the server.
struct Arriving {
    body: Body,
    flow: Arc<Flow>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            return Poll::Ready(frame);
        }
        loop {
            let flow = self.flow.clone();
            let waiting = self.waiting.get_or_insert_with(|| {
                // Until now the client took its time.
                flow.moved();
                Box::pin(sleep_until(flow.look_at(Awaited::Send)))
            });
            ready!(waiting.as_mut().poll(cx));
            if let Some(stalled) = flow.stalled(Awaited::Send) {
                return Poll::Ready(Some(Err(stalled.into())));
            }
            waiting.as_mut().reset(flow.look_at(Awaited::Send));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
