//! State that the two sides of a request share: the guest's task, and the client's side, which is
//! the caller of the endpoint that brings the request's body and takes the answer's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::fault::RequestFault;
use crate::model::{Body, BodyError};

/// How long a guest whose client is gone may still write its log and end properly. A client that
/// has read all announced bytes goes, too.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Exchange {
    limits: IdleLimits,
    times: Mutex<Times>,
    gone: Notify,
    fault: OnceLock<RequestFault>,
    /// The reason why the request's body ended early.
    broken: OnceLock<String>,
}

/// How long each side may keep the other waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleLimits {
    /// The guest: before its answer begins, and between two parts of it for which the client waits.
    pub guest: Duration,
    /// The client, to take a part of the answer. The guest is held back meanwhile.
    pub untaken: Duration,
}

impl IdleLimits {
    /// The client, to send more of the request's body. Servers have a shorter limit of their own,
    /// and end the body with an error; this one is for callers that have none.
    pub fn silent(&self) -> Duration {
        self.guest * 2
    }

    /// How often [`Exchange::overdue`] looks for a new deadline. A body's parts do not wake it, so
    /// it may be late by a quarter of the guest's limit.
    fn look_after(&self) -> Duration {
        self.guest / 4
    }
}

/// ***Time runs against the side that is waited for**, from the moment at which the wait began.
struct Times {
    progress_at: Instant,
    answered: bool,
    /// The guest waits for more of the request's body.
    asks: bool,
    /// The client waits for more of the answer's body.
    wanted: bool,
    gone_at: Option<Instant>,
}

impl Exchange {
    pub fn new(limits: IdleLimits) -> Arc<Self> {
        let times = Times {
            progress_at: Instant::now(),
            answered: false,
            asks: false,
            wanted: true,
            gone_at: None,
        };
        Arc::new(Exchange {
            limits,
            times: Mutex::new(times),
            gone: Notify::new(),
            fault: OnceLock::new(),
            broken: OnceLock::new(),
        })
    }

    pub fn limits(&self) -> IdleLimits {
        self.limits
    }

    /// The guest begins; the wait for memory does not count.
    pub fn begun(&self) {
        self.lock().progress_at = Instant::now();
    }

    /// The guest gave the head of its answer.
    pub fn answered(&self) {
        let mut times = self.lock();
        times.answered = true;
        times.wanted = false;
        times.progress_at = Instant::now();
    }

    pub fn is_answered(&self) -> bool {
        self.lock().answered
    }

    /// To be called before the guest is dropped, so that a body that ends for this reason is not
    /// taken for a whole one.
    pub fn fail(&self, fault: RequestFault) {
        // The first fault counts.
        let _ = self.fault.set(fault);
    }

    /// The reason why the request's body ended early, if it did: the guest is then not at fault.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Waits until one side has kept the other waiting for too long.
    pub async fn overdue(&self) -> Overdue {
        loop {
            let gone = self.gone.notified();
            let (at, why) = self.deadline();
            let now = Instant::now();
            if at <= now {
                return why;
            }
            tokio::select! {
                // By then the other side may be waited for, which has less time.
                () = sleep_until(at.min(now + self.limits.look_after())) => {}
                () = gone => {}
            }
        }
    }

    fn deadline(&self) -> (Instant, Overdue) {
        let times = self.lock();
        let (limit, why) = if !times.wanted {
            (self.limits.untaken, Overdue::NotTaken)
        } else if times.asks {
            (self.limits.silent(), Overdue::ClientSilent)
        } else if times.answered {
            (self.limits.guest, Overdue::Stalled)
        } else {
            (self.limits.guest, Overdue::NoAnswer)
        };
        let idle = times.progress_at + limit;
        match times.gone_at.map(|gone_at| gone_at + LINGER) {
            Some(gone) if gone < idle => (gone, Overdue::ClientGone),
            _ => (idle, why),
        }
    }

    /// The guest polled the request's body; `came`: there was more of it.
    fn asked(&self, came: bool) {
        let mut times = self.lock();
        if came || !times.asks {
            times.progress_at = Instant::now();
        }
        times.asks = !came;
    }

    /// The client polled the answer's body; `taken`: there was more of it.
    fn carried(&self, taken: bool) {
        let mut times = self.lock();
        if taken || !times.wanted {
            times.progress_at = Instant::now();
        }
        times.wanted = !taken;
    }

    fn client_gone(&self) {
        self.lock().gone_at = Some(Instant::now());
        self.gone.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event that did not happen in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    /// The guest did not begin its answer.
    NoAnswer,
    /// The guest did not give the next part of its answer.
    Stalled,
    /// The client did not send the next part of its request.
    ClientSilent,
    /// The client did not take a part of the answer.
    NotTaken,
    /// The guest did not end after its client had gone.
    ClientGone,
}

/// Tells the guest's side that its client is gone, unless it is disarmed.
pub(super) struct Client {
    exchange: Option<Arc<Exchange>>,
}

impl Client {
    pub fn of(exchange: &Arc<Exchange>) -> Self {
        Client { exchange: Some(exchange.clone()) }
    }

    fn satisfied(&mut self) {
        self.exchange = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.client_gone();
        }
    }
}

/// A request's body on its way to the guest.
pub(super) struct RequestBody {
    pub inner: Body,
    pub exchange: Arc<Exchange>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // A body that is always ready must not keep the thread: the engine loops over it to skip to
        // the trailers.
        let proceed = ready!(coop::poll_proceed(cx));
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.exchange.asked(polled.is_ready());
        let frame = ready!(polled);
        proceed.made_progress();
        let failed = |error: BodyError| {
            let why = error.to_string();
            // Set once: the body ends with this error.
            let _ = self.exchange.broken.set(why.clone());
            wasmtime_wasi_http::Error::InternalError(Some(why))
        };
        Poll::Ready(frame.map(|frame| frame.map_err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way to the client.
pub(super) struct AnswerBody {
    pub inner: HyperOutgoingBody,
    pub exchange: Arc<Exchange>,
    pub client: Client,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        // After the end nothing is left to take: only the guest's own end is waited for.
        self.exchange.carried(matches!(polled, Poll::Ready(Some(_))));
        Poll::Ready(match ready!(polled) {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(error.into())),
            None => {
                self.client.satisfied();
                // A guest that was cut off in the middle ends the body as if it were whole.
                self.exchange
                    .fault
                    .get()
                    .map(|fault| Err(format!("the guest {}", fault.reason).into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMITS: IdleLimits =
        IdleLimits { guest: Duration::from_secs(30), untaken: Duration::from_secs(600) };

    /// Seconds until something is overdue, and what.
    async fn overdue(exchange: &Exchange) -> (u64, Overdue) {
        let since = Instant::now();
        let why = timeout(Duration::from_secs(3600), exchange.overdue()).await.expect("an end");
        (since.elapsed().as_secs(), why)
    }

    /// The guest has 30 s for the head of its answer, then 30 s for each part that is asked for.
    #[tokio::test(start_paused = true)]
    async fn guest_time_runs_while_its_answer_is_awaited() {
        let exchange = Exchange::new(LIMITS);
        advance(Duration::from_secs(20)).await;
        assert_eq!(overdue(&exchange).await, (10, Overdue::NoAnswer));
        exchange.answered();
        exchange.carried(false);
        advance(Duration::from_secs(20)).await;
        exchange.carried(false);
        assert_eq!(
            overdue(&exchange).await,
            (10, Overdue::Stalled),
            "asking again is not progress"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_does_not_use_up_guest_time() {
        // A client took a part of the answer now and then: its guest was cut off after 30 s, as a
        // fault.
        let exchange = Exchange::new(LIMITS);
        exchange.answered();
        for _ in 0..5 {
            assert!(
                timeout(Duration::from_secs(500), exchange.overdue()).await.is_err(),
                "held back, not idle"
            );
            exchange.carried(true);
        }
        advance(Duration::from_secs(500)).await;
        exchange.carried(false);
        assert_eq!(
            overdue(&exchange).await,
            (30, Overdue::Stalled),
            "from the moment it is waited for"
        );
        exchange.carried(true);
        assert_eq!(overdue(&exchange).await, (600, Overdue::NotTaken));
    }

    /// The guest waits 50 s for each part of its request: that is the client's time, of which each
    /// part may take 60 s.
    #[tokio::test(start_paused = true)]
    async fn slow_upload_does_not_use_up_guest_time() {
        let exchange = Exchange::new(LIMITS);
        for _ in 0..5 {
            exchange.asked(false);
            assert!(timeout(Duration::from_secs(50), exchange.overdue()).await.is_err());
            exchange.asked(true);
        }
        assert_eq!(
            overdue(&exchange).await,
            (30, Overdue::NoAnswer),
            "it has all that it asked for"
        );
        exchange.asked(false);
        assert_eq!(overdue(&exchange).await, (60, Overdue::ClientSilent));
    }

    /// `overdue` sleeps until the longest deadline while a shorter one begins.
    #[tokio::test(start_paused = true)]
    async fn changed_deadline_is_noticed_soon() {
        let exchange = Exchange::new(LIMITS);
        exchange.answered();
        let watch = tokio::spawn({
            let exchange = exchange.clone();
            async move { exchange.overdue().await }
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        exchange.carried(false);
        let since = Instant::now();
        assert_eq!(watch.await.unwrap(), Overdue::Stalled);
        assert!(since.elapsed() <= LIMITS.guest + LIMITS.look_after(), "{:?}", since.elapsed());
    }
}
