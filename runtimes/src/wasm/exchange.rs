//! What the two sides of a request know of each other: the guest's task, and whoever carries the answer away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::fault::Fault;
use crate::runtime::{Body, BodyError};

/// A guest whose client is gone may still write its log and end properly for this long. A client that has read all that was
/// announced goes, too.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Exchange {
    /// How long nothing may happen.
    limit: Duration,
    times: Mutex<Times>,
    gone: Notify,
    fault: OnceLock<Fault>,
}

struct Times {
    progress_at: Instant,
    answered: bool,
    gone_at: Option<Instant>,
}

impl Exchange {
    pub fn new(limit: Duration) -> Arc<Self> {
        let times = Times { progress_at: Instant::now(), answered: false, gone_at: None };
        Arc::new(Exchange { limit, times: Mutex::new(times), gone: Notify::new(), fault: OnceLock::new() })
    }

    /// The guest gave an answer, at least its head.
    pub fn answered(&self) {
        let mut times = self.lock();
        times.answered = true;
        times.progress_at = Instant::now();
    }

    pub fn is_answered(&self) -> bool {
        self.lock().answered
    }

    /// Told before the guest is dropped, so that a body that ends for that reason is not taken for a whole one.
    pub fn fail(&self, fault: Fault) {
        // The first one counts.
        let _ = self.fault.set(fault);
    }

    /// Ends when nothing has happened for too long.
    pub async fn overdue(&self) -> Overdue {
        loop {
            let gone = self.gone.notified();
            let (at, why) = self.deadline();
            if at <= Instant::now() {
                return why;
            }
            tokio::select! {
                () = sleep_until(at) => {}
                () = gone => {}
            }
        }
    }

    fn deadline(&self) -> (Instant, Overdue) {
        let times = self.lock();
        let idle = times.progress_at + self.limit;
        let why = if times.answered { Overdue::Stalled } else { Overdue::NoAnswer };
        match times.gone_at.map(|gone_at| gone_at + LINGER) {
            Some(gone) if gone < idle => (gone, Overdue::ClientGone),
            _ => (idle, why),
        }
    }

    fn progress(&self) {
        self.lock().progress_at = Instant::now();
    }

    fn client_gone(&self) {
        self.lock().gone_at = Some(Instant::now());
        self.gone.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What did not happen in time.
pub(super) enum Overdue {
    NoAnswer,
    Stalled,
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.exchange.progress();
        let failed = |error: BodyError| wasmtime_wasi_http::Error::InternalError(Some(error.to_string()));
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.exchange.progress();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => Some(Err(error.into())),
            None => {
                self.client.satisfied();
                // A guest that was cut off in the middle looks to the body as if it had finished.
                self.exchange.fault.get().map(|fault| Err(format!("the guest {}", fault.reason).into()))
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
