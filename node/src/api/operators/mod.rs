//! The API for operators who come over the mesh's port: `shoal --via`.
//!
//! ```text
//!   preamble, noise ─▶ grants ─▶ judged? ── no ─▶ a reason, and the end
//!                                   └─ yes ─▶ one stream a request: judged again ─▶ the API
//! ```
//!
//! An operator is no member. What it may do follows from its chain of grants, as for changes; that
//! its key was not revoked and its rights have not ended is looked at again before every request,
//! and while an answer goes on.

mod caller;
mod needs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use shoal_protocol::model::{PublicKey, codec};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::form::Hello;
use super::seen::Seen;
use super::{ApiError, Service, routes};
use crate::hex::to_hex;
use crate::network::{Knock, MeshStream, OperatorDoor, Streams, Visitor};
use caller::Caller;
use needs::{JSON_BYTES, Need};

/// Connections whose rights are not judged yet. Each also has a place among the strangers of the
/// mesh's port, of which one address has a quarter.
const MAX_PENDING: usize = 128;
/// Connections of operators at one time: people and pipelines. Each takes a file and some 70 KB.
const MAX_CONNECTIONS: usize = 32;
/// Of these, connections of one key.
const MAX_PER_KEY: usize = 8;
/// Requests of one connection at one time; a browser behind a forwarded port opens some ten.
const MAX_REQUESTS: usize = 32;
/// Time for the handshake and the grants.
const GREET_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of the grants: five of 6 KiB, and what holds them together.
pub const MAX_CHAIN_BYTES: usize = 32 * 1024;
/// How often a connection is looked at: whether its rights still hold, and whether it is idle.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a connection without requests stays open.
const IDLE: Duration = Duration::from_secs(10);
/// Time for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Time that a refused upload may take to see the refusal: a close with unread input would take the
/// answer away.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves operators until `stop`, or until the network ends.
pub async fn serve(mut door: OperatorDoor, service: Service, stop: CancellationToken) {
    let house = Arc::new(House {
        router: routes::all(service.clone()),
        service,
        guests: Mutex::default(),
        stop: stop.clone(),
    });
    let pending = Arc::new(Semaphore::new(MAX_PENDING));
    let open = TaskTracker::new();
    loop {
        let knock = tokio::select! {
            knock = door.next() => knock,
            () = stop.cancelled() => None,
        };
        let Some(knock) = knock else { break };
        // Dropped without a place, which closes it.
        let Ok(permit) = pending.clone().try_acquire_owned() else { continue };
        let house = house.clone();
        open.spawn(async move {
            let from = knock.from();
            let greeted = timeout(GREET_WITHIN, house.greet(knock)).await;
            drop(permit);
            match greeted.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
                Ok(Some((caller, guest, streams))) => {
                    house.attend(Arc::new(caller), streams).await;
                    drop(guest);
                }
                Ok(None) => {}
                Err(error) => debug!(%from, "an operator left before it was greeted: {error}"),
            }
        });
    }
    open.close();
    open.wait().await;
}

/// The API, and the operators that are connected to it.
struct House {
    service: Service,
    router: Router,
    guests: Mutex<BTreeMap<PublicKey, usize>>,
    stop: CancellationToken,
}

/// A connected operator's place.
struct Guest {
    house: Arc<House>,
    key: PublicKey,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.house.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = guests.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.key);
            }
        }
    }
}

impl House {
    /// Makes the handshake and judges the grants. None when the other end was told why not.
    async fn greet(self: &Arc<Self>, knock: Knock) -> io::Result<Option<(Caller, Guest, Streams)>> {
        let mut visitor = knock.greet().await?;
        let chain = visitor.hear(MAX_CHAIN_BYTES).await?;
        let admitted = match Caller::judge(&self.service, visitor.key, &chain).await {
            Ok(caller) => self.enter(caller.key).map(|guest| (caller, guest)),
            Err(error) => Err(error),
        };
        let hello = match &admitted {
            Ok(_) => self.welcome().await,
            Err(error) => Err(error.clone()),
        };
        let answer = hello.unwrap_or_else(|error| Hello::refused(&error));
        visitor.say(&serde_json::to_vec(&answer).map_err(io::Error::other)?).await?;
        let (Ok((caller, guest)), Hello::Welcome { .. }) = (admitted, answer) else {
            refuse(visitor).await;
            return Ok(None);
        };
        note(&caller, visitor.from);
        Ok(Some((caller, guest, visitor.admit().await?)))
    }

    /// The greeting, in which this node shows that it is a member.
    async fn welcome(&self) -> Result<Hello, ApiError> {
        let node = self.service.about.node;
        let names = self.service.core.names(vec![node]).await?;
        let Some(admission) = self.service.core.admission().await? else {
            let why = "this node is not a member of its cluster yet";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not-joined", why)
                .hint("Ask another node, or wait until it has joined."));
        };
        let name = names.into_iter().next().unwrap_or_else(|| node.short());
        Ok(Hello::Welcome { name, admission: to_hex(&codec::encode(&admission)) })
    }

    fn enter(self: &Arc<Self>, key: PublicKey) -> Result<Guest, ApiError> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = guests.values().sum();
        let own = guests.get(&key).copied().unwrap_or_default();
        let why = match (all < MAX_CONNECTIONS, own < MAX_PER_KEY) {
            (_, false) => format!("this key has {own} connections to this node, the most it takes"),
            (false, _) => format!("this node has {all} operators connected, the most it takes"),
            (true, true) => {
                guests.insert(key, own + 1);
                return Ok(Guest { house: self.clone(), key });
            }
        };
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why)
            .hint("End some of them, or ask another node."))
    }

    /// Answers the requests of a connection until it ends, is idle, or has no rights any more.
    async fn attend(self: &Arc<Self>, caller: Arc<Caller>, mut streams: Streams) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.service.core.changes();
        let mut last_used = Instant::now();
        let requests = TaskTracker::new();
        loop {
            tokio::select! {
                next = streams.next() => match next {
                    Ok(stream) => {
                        let is_busy = streams.live() > MAX_REQUESTS;
                        requests.spawn(self.clone().answer(caller.clone(), stream, is_busy));
                    }
                    Err(error) => {
                        debug!(operator = caller.name, "an operator's connection ended: {error}");
                        return;
                    }
                },
                _ = looks.tick() => {
                    if streams.live() > 0 {
                        last_used = Instant::now();
                    }
                    if last_used.elapsed() > IDLE {
                        return;
                    }
                    let has_changed = changes.has_changed().unwrap_or(true);
                    changes.mark_unchanged();
                    if !self.still_holds(&caller, has_changed).await {
                        info!(operator = caller.name, "an operator's rights have ended");
                        return;
                    }
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn still_holds(&self, caller: &Caller, has_changed: bool) -> bool {
        match has_changed {
            true => caller.still_holds(&self.service).await.is_ok(),
            false => caller.not_ended(&self.service).is_ok(),
        }
    }

    /// Answers one request.
    async fn answer(self: Arc<Self>, caller: Arc<Caller>, stream: MeshStream, is_busy: bool) {
        let service = service_fn(|request: Request<Incoming>| {
            let (house, caller) = (self.clone(), caller.clone());
            async move {
                let judged = match is_busy {
                    true => Err((too_many(), Some(request.into_body()))),
                    false => house.judge(&caller, request).await,
                };
                match judged {
                    Ok(request) => {
                        let answer = TowerToHyperService::new(house.router.clone()).call(request);
                        Seen::by(caller.namespaces().clone(), answer).await
                    }
                    Err((error, body)) => {
                        drain(body).await;
                        Ok::<Response<Body>, _>(error.into_response())
                    }
                }
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = served.await {
            debug!("an operator left: {error}");
        }
    }

    /// Whether the caller may ask this, at this moment.
    async fn judge(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Request<Body>, (ApiError, Option<Incoming>)> {
        if let Err(error) = caller.still_holds(&self.service).await {
            return Err((error, Some(request.into_body())));
        }
        let need = Need::of(request.method(), request.uri().path());
        if let Err(error) = caller.may(&need) {
            return Err((error, Some(request.into_body())));
        }
        let in_body = request.method() == Method::POST && needs::is_in_body(request.uri().path());
        let (parts, body) = request.into_parts();
        if !in_body {
            return Ok(Request::from_parts(parts, Body::new(body)));
        }
        let mut limited = Limited::new(body, JSON_BYTES);
        let bytes = match BodyExt::collect(&mut limited).await {
            Ok(bytes) => bytes.to_bytes(),
            Err(error) => {
                // The route itself says so.
                let cut = futures::stream::iter([Err::<bytes::Bytes, _>(io::Error::other(error))]);
                return Ok(Request::from_parts(parts, Body::from_stream(cut)));
            }
        };
        let named = needs::named_in(parts.uri.path(), &bytes);
        match named.map_or(Ok(()), |it| caller.may(&Need::publisher_of(it.as_str()))) {
            Ok(()) => Ok(Request::from_parts(parts, Body::from(bytes))),
            Err(error) => Err((error, None)),
        }
    }
}

/// Keeps the connection until the other end has read why it is refused, and closes it.
async fn refuse(mut visitor: Visitor) {
    // It answers nothing: the read ends when it closes.
    let _ = timeout(GREET_WITHIN, visitor.hear(0)).await;
}

fn note(caller: &Caller, from: SocketAddr) {
    debug!("operator {} ({}) is connected from {from}", caller.name, caller.role());
}

fn too_many() -> ApiError {
    let why = format!("{MAX_REQUESTS} requests of this connection are under way, the most it has");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why).hint("End some of them.")
}

/// Reads what the other end still sends, for a moment.
async fn drain(body: Option<Incoming>) {
    let Some(mut body) = body else { return };
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(DRAIN, rest).await;
}
