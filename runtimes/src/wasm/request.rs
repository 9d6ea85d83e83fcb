//! A request: a fresh instance, its limits, its answer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::exchange::{AnswerBody, Client, Exchange, IdleLimits, Overdue, RequestBody};
use super::fault::{Blame, RequestFault};
use super::guest::Guest;
use super::replica::{Ready, Replica};
use super::share::Meter;
use crate::error::ServeError;
use crate::model::Body;

type Answer = http::Response<HyperOutgoingBody>;

/// Hands `request` to a fresh instance of the replica's program.
pub(super) async fn serve(
    replica: Arc<Replica>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, ServeError> {
    let id = &replica.launch.id;
    check(&replica, &request)?;
    // Taken before `usable` is asked: either this sees that the replica ends, or its end waits for
    // this.
    let token = replica.tasks.token();
    let ready = replica.usable()?;
    let busy = || ServeError::Busy { id: id.clone(), limit: ready.limit };
    let place = ready.enter().ok_or_else(busy)?;
    let config = &replica.host.config;
    let slot = tokio::select! {
        biased;
        () = replica.draining() => {
            return Err(ServeError::NotRunning { id: id.clone(), state: "stopping" });
        }
        slot = tokio::time::timeout(config.request_time, ready.slot()) => {
            slot.map_err(|_| busy())?
        }
    };
    replica.status.count_request();

    let exchange =
        Exchange::new(IdleLimits { guest: config.request_time, untaken: config.untaken_time });
    let client = Client::of(&exchange);
    let (answer, answered) = oneshot::channel();
    let call =
        Call { replica: replica.clone(), exchange: exchange.clone(), answer, _held: (place, slot) };
    let running = replica.tasks.spawn_on(call.run(request), replica.host.guests());
    drop(token);
    if let Ok(answer) = answered.await {
        let (head, inner) = answer.into_parts();
        return Ok(http::Response::from_parts(
            head,
            AnswerBody { inner, exchange, client }.boxed_unsync(),
        ));
    }
    // No answer will come: the task has ended, or is about to, and returns the reason.
    Err(match running.await {
        Ok(Err(fault)) if fault.blame == Blame::NoRoom => busy(),
        Ok(Err(fault)) => fault.into_error(id),
        Ok(Ok(())) => RequestFault::no_answer().into_error(id),
        Err(stopped) => {
            // The host panicked; a guest's panic is a trap.
            let fault = RequestFault::host(stopped);
            replica.blame("a request", &fault);
            fault.into_error(id)
        }
    })
}

fn check(replica: &Replica, request: &http::Request<Body>) -> Result<(), ServeError> {
    let wrong = |reason: &str| {
        Err(ServeError::Request { id: replica.launch.id.clone(), reason: reason.to_owned() })
    };
    if request.uri().authority().is_some() {
        return Ok(());
    }
    match request.headers().get(http::header::HOST).map(|host| host.to_str()) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) => wrong("its host is not a name"),
        None => wrong("it names no host"),
    }
}

struct Call {
    replica: Arc<Replica>,
    exchange: Arc<Exchange>,
    answer: oneshot::Sender<Answer>,
    /// The permits, released when the instance is gone.
    _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Call {
    async fn run(self, request: http::Request<Body>) -> Result<(), RequestFault> {
        let Call { replica, exchange, answer, _held } = self;
        let what = format!("{} {}", request.method(), request.uri().path());
        let meter =
            Meter::new(&replica.share, &replica.host.ticker, replica.host.config.request_cpu);
        let ready = replica.ready.get().expect("a request is taken by a replica that is ready");
        let limits = CallLimits { replica: &replica, ready, exchange: &exchange, meter: &meter };
        let mut fresh = limits.instance().await.inspect_err(|fault| replica.blame(&what, fault))?;
        exchange.begun();
        let given = Arc::new(OnceLock::new());
        let result = limits.hold(fresh.handle(request, &exchange, answer, &given)).await;
        let result = result.and_then(|ended| {
            let ended = match ended {
                Err(error) => limits.judge(&error, &fresh),
                Ok(()) => match given.get() {
                    Some(code) => Err(RequestFault::answered_with_error(code)),
                    None if exchange.is_answered() => Ok(()),
                    None => Err(RequestFault::no_answer()),
                },
            };
            // Few guests handle half a request, so their failure then is the client's fault.
            ended.map_err(|fault| exchange.broken().map_or(fault, RequestFault::half_a_request))
        });
        if let Err(fault) = &result {
            replica.blame(&what, fault);
            // Before the store is dropped, and with it the sending end of the answer.
            exchange.fail(fault.clone());
        }
        drop(fresh);
        result
    }
}

/// An instance that has not seen the request yet.
struct Fresh {
    store: Store<Guest>,
    proxy: Proxy,
}

impl Fresh {
    async fn handle(
        &mut self,
        request: http::Request<Body>,
        exchange: &Arc<Exchange>,
        answer: oneshot::Sender<Answer>,
        given: &Arc<OnceLock<ErrorCode>>,
    ) -> wasmtime::Result<()> {
        let (head, inner) = request.into_parts();
        let body = RequestBody { inner, exchange: exchange.clone() };
        let request = http::Request::from_parts(head, body);
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let (exchange, given) = (exchange.clone(), given.clone());
        let out = http.new_response_outparam_from_callback(move |value| match value {
            Ok(value) => {
                exchange.answered();
                // An error means that the client is gone.
                let _ = answer.send(value);
            }
            Err(code) => {
                // Set once: the call consumes the guest's resource.
                let _ = given.set(code);
            }
        })?;
        self.proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, out).await
    }
}

/// The limits that end a guest that does not end by itself.
struct CallLimits<'a> {
    replica: &'a Replica,
    ready: &'a Ready,
    exchange: &'a Exchange,
    meter: &'a Meter,
}

impl CallLimits<'_> {
    async fn hold<T>(&self, guest: impl Future<Output = T>) -> Result<T, RequestFault> {
        let late = tokio::select! {
            biased;
            () = self.replica.cut.cancelled() => None,
            overdue = self.exchange.overdue() => Some(overdue),
            result = self.meter.run(guest) => return result,
        };
        // The statement above dropped the guest, so the meter has counted all of its waiting.
        Err(late.map_or_else(RequestFault::stopped, |overdue| self.late(overdue)))
    }

    fn late(&self, overdue: Overdue) -> RequestFault {
        let limits = self.exchange.limits();
        match overdue {
            Overdue::NoAnswer => self.meter.too_slow(limits.guest),
            Overdue::Stalled => RequestFault::stalled(limits.guest),
            Overdue::ClientSilent => RequestFault::client_silent(limits.silent()),
            Overdue::NotTaken => RequestFault::not_taken(limits.untaken),
            Overdue::ClientGone => RequestFault::client_gone(),
        }
    }

    /// Makes a fresh instance; waits while the replica's other requests have its memory.
    async fn instance(&self) -> Result<Fresh, RequestFault> {
        let Replica { host, launch, memory, mounts, log, .. } = self.replica;
        loop {
            let bytes = self.ready.instance.load(Ordering::Relaxed);
            let reserved = tokio::select! {
                biased;
                () = self.replica.cut.cancelled() => return Err(RequestFault::stopped()),
                _ = self.exchange.overdue() => return Err(RequestFault::no_room()),
                reserved = memory.reserve(bytes) => reserved,
            };
            let store = Guest::store(&host.engine, launch, mounts, reserved, log);
            let mut store = store.map_err(RequestFault::host)?;
            let made = self.hold(self.ready.proxy.instantiate_async(&mut store)).await?;
            match (made, store.data().memory.wanted()) {
                (Ok(proxy), _) => return Ok(Fresh { store, proxy }),
                (Err(_), Some(wanted)) if wanted > memory.limit() => {
                    return Err(RequestFault::out_of_memory(memory.limit(), 0));
                }
                // An instance may need more memory than those before it, by chance or by the clock.
                // Each round reserves more, so this ends.
                (Err(_), Some(wanted)) if wanted > bytes => {
                    self.ready.instance.fetch_max(wanted, Ordering::Relaxed);
                    drop(store);
                    tokio::task::yield_now().await;
                }
                // The system refused memory that was reserved.
                (Err(_), Some(_)) => return Err(RequestFault::no_room()),
                (Err(error), None) => return Err(RequestFault::from_engine(&error)),
            }
        }
    }

    /// Explains why the engine ended the guest.
    fn judge(&self, error: &wasmtime::Error, guest: &Fresh) -> Result<(), RequestFault> {
        match error.downcast_ref::<I32Exit>() {
            // A guest may exit once it has answered.
            Some(I32Exit(0)) if self.exchange.is_answered() => Ok(()),
            // Few guests survive refused memory: Rust's abort.
            None if guest.store.data().memory.wanted().is_some() => {
                let others = u64::from(self.replica.usage().active.saturating_sub(1));
                Err(RequestFault::out_of_memory(self.replica.memory.limit(), others))
            }
            _ => Err(RequestFault::from_engine(error)),
        }
    }
}
