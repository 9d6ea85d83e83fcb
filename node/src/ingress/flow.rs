//! The progress of a request that goes to another node, and the party that is waited for.
//!
//! **Time runs against the party that is waited for.** A client that sends slowly uses up only its
//! own time ([`super::idle_timeouts`]); the other node's time begins when it has what it needs.

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

/// How often to check which party is waited for.
const LOOK_AFTER: Duration = Duration::from_secs(15);

/// The state of one request that was sent to another node.
#[derive(Debug)]
pub struct Flow {
    node: NodeId,
    state: Mutex<(Sending, Instant)>,
}

/// The state of the request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    /// The connection asked for more of the body than the client has sent.
    FromClient,
    /// A piece is being written to the node.
    ToNode,
    /// All of the body is written.
    Done,
}

impl Flow {
    /// Tracks the body of a request that goes to `node`.
    pub fn over(node: NodeId, request: Request<Body>) -> (Arc<Self>, Request<Body>) {
        let begun = if request.body().is_end_stream() { Sending::Done } else { Sending::ToNode };
        let flow = Arc::new(Flow { node, state: Mutex::new((begun, Instant::now())) });
        let watch = flow.clone();
        (flow, request.map(|body| Outgoing { body, flow: watch }.boxed_unsync()))
    }

    /// Waits for the head of the answer until the node has stalled.
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
    /// waited for.
    fn look_at(&self, awaited: Awaited) -> Instant {
        self.deadline(awaited).0.min(Instant::now() + LOOK_AFTER)
    }

    /// The stall, if the node has been waited for too long.
    fn stalled(&self, awaited: Awaited) -> Option<Stalled> {
        let (at, stalled) = self.deadline(awaited);
        (at <= Instant::now()).then_some(stalled)
    }

    /// The time at which the node counts as stalled, as things are now.
    fn deadline(&self, awaited: Awaited) -> (Instant, Stalled) {
        let (state, since) = *self.lock();
        let (awaited, limit) = match state {
            // The client's own limit ends this state.
            Sending::FromClient => {
                return (Instant::now() + ANSWER_WITHIN, self.named(awaited, ANSWER_WITHIN));
            }
            Sending::ToNode => (Awaited::Take, PATH_IDLE),
            Sending::Done => (awaited, ANSWER_WITHIN),
        };
        (since + limit, self.named(awaited, limit))
    }

    fn named(&self, awaited: Awaited, limit: Duration) -> Stalled {
        Stalled { party: Party::Node(self.node), awaited, limit }
    }

    fn is(&self, state: Sending) {
        let mut now = self.lock();
        // A second poll for data that has not come is no progress.
        if now.0 != state || state == Sending::ToNode {
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

/// A request's body on its way to the node.
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
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => Sending::ToNode,
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
        // Also when the node reads no more of the body.
        self.flow.is(Sending::Done);
    }
}

/// Watches an answer that came with its [`Flow`] among its extensions: its body fails when the node
/// stalls.
pub fn arriving(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Arc<Flow>>() {
        Some(flow) => {
            flow.moved();
            response.map(|body| Arriving { body, flow, waiting: None }.boxed_unsync())
        }
        None => response,
    }
}

/// An answer's body on its way from the node.
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
