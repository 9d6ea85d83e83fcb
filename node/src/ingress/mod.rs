//! Routes HTTP requests to a replica: a local one first, else one on another node, through the
//! mesh.
//!
//! ```text
//!   client ── TCP ──▶ server ─┐                     ┌─ here ──▶ Endpoint::InProcess | Tcp
//!                             ├─▶ Ingress::answer ──┤
//!   node ── tunnel ▶ server ──┘   (Host -> Routes)  └─ there ─▶ Peers ── tunnel ──▶ its Ingress
//! ```
//!
//! Among replicas of other nodes, those whose node is linked or can be dialled come first. A node
//! that cannot be dialled is reached over one common member; the mesh does that below this module.
//!
//! **A request that came through a tunnel is served here or refused**, so that requests never loop,
//! whatever two nodes believe about one another. A request is tried again on another replica when
//! no guest has seen any of it, or when it is idempotent.

mod clients;
mod connection;
mod counters;
mod flow;
pub mod host;
mod idle_timeouts;
mod meter;
pub mod peers;
mod replicas;
mod requests;
pub mod server;
mod table;
mod unavailable;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body as _;
use shoal_protocol::model::{NodeId, ReplicaName, WorkloadName};
use shoal_protocol::node::{Route, Routes};
use shoal_runtimes::{Body, Endpoint};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::api::Core;
use crate::runtimes::RuntimeSet;
use crate::shares::{Group, Shares};
pub use clients::PortLimits;
use counters::Counters;
use idle_timeouts::GuardedBody;
use meter::Counted;
pub use meter::{Meters, Reading};
use peers::{Peers, SendError};
use replicas::{ReplicaLimits, Replicas, Unanswered};
use requests::{REQUESTS, Requests, TooMany};
use table::{Choice, Local, Table};
use unavailable::Unavailable;
use upgrade::Wish;

/// The answering node's name.
pub const NODE_HEADER: HeaderName = HeaderName::from_static("x-shoal-node");
/// The answering replica's name.
pub const REPLICA_HEADER: HeaderName = HeaderName::from_static("x-shoal-replica");
/// Between nodes only: no guest has seen any of the refused request.
const UNTOUCHED_HEADER: HeaderName = HeaderName::from_static("x-shoal-untouched");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The first replica, another one when that was gone, and the node to which that one has moved.
const TRIES: usize = 3;
/// How long a request waits for the next node of a replica whose node was lost: a death is known,
/// and the replica is placed again, within some hundredths of a second.
const MOVING: Duration = Duration::from_millis(300);
/// How long a request waits for the first replica of a workload that has none until one comes.
const WAKING: Duration = Duration::from_secs(30);
/// The pause before such a workload is asked for again: its owner may have died meanwhile.
const WISH_AGAIN: Duration = Duration::from_millis(500);

/// Headers of one connection, not of the request (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The source of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client at this address.
    Client(SocketAddr),
    /// Another node, through a tunnel.
    Peer(NodeId),
}

impl Origin {
    fn is_peer(self) -> bool {
        matches!(self, Origin::Peer(_))
    }
}

/// Routes requests to replicas.
pub struct Ingress {
    name: HeaderValue,
    core: Arc<dyn Core>,
    table: Table,
    runtimes: RuntimeSet,
    replicas: Replicas,
    peers: Peers,
    unavailable: Unavailable,
    requests: Arc<Requests>,
    port: PortLimits,
    clients: Arc<Shares>,
    counters: Counters,
    /// Ends connections with another protocol when this is dropped.
    closing: DropGuard,
}

/// The outcome of a try without an answer.
struct Miss {
    /// The request, when no guest saw any of it and it is still whole.
    request: Option<Request<Body>>,
    /// Whether a replica may have acted on the request.
    touched: bool,
    /// Whether the stream to the replica's node broke.
    is_lost: bool,
    /// The answer for the client if no other try succeeds.
    response: Response<Body>,
}

impl Ingress {
    /// An ingress for the node called `name`.
    pub fn new(name: &str, core: Arc<dyn Core>, runtimes: RuntimeSet, peers: Peers) -> Self {
        Ingress {
            name: HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("unnamed")),
            core: core.clone(),
            table: Table::new(core.routes()),
            runtimes,
            replicas: Replicas::new(ReplicaLimits::default()),
            peers,
            unavailable: Unavailable::new(name, core),
            requests: Arc::default(),
            port: PortLimits::default(),
            clients: Shares::new(PortLimits::default().clients),
            counters: Counters::default(),
            closing: CancellationToken::new().drop_guard(),
        }
    }

    /// How busy the replicas of this node are.
    pub fn meters(&self) -> Arc<Meters> {
        self.table.meters()
    }

    /// Replaces the bounds of the HTTP port.
    #[must_use]
    pub fn with_port(self, port: PortLimits) -> Self {
        Ingress { port, clients: Shares::new(port.clients), ..self }
    }

    /// Answers one request; every failure is an answer, too.
    pub async fn answer(&self, origin: Origin, mut request: Request<Body>) -> Response<Body> {
        let permit = match self.requests.begin(origin) {
            Ok(permit) => permit,
            Err(why) => return self.too_many(origin, why),
        };
        let host = host::host(request.uri(), request.headers());
        let Some(name) = host.as_deref().and_then(host::workload) else {
            let host = host.unwrap_or_default();
            return refusal(
                StatusCode::NOT_FOUND,
                &format!("no workload answers to `{host}`: {}", host::FORMS),
                false,
            );
        };
        let wish = Wish::take(&mut request);
        clean(request.headers_mut(), origin);
        if let Some(wish) = &wish {
            wish.ask(request.headers_mut());
        }
        let (response, counted) = self.route(origin, &name, request).await;
        let permit = (permit, counted);
        if upgrade::is_granted(&response) {
            let closing = self.closing.token();
            return match wish {
                Some(wish) => wish.grant(response, permit, closing.clone()),
                None => upgrade::unasked(),
            };
        }
        response.map(|body| GuardedBody::new(body, permit).boxed_unsync())
    }

    fn too_many(&self, origin: Origin, why: TooMany) -> Response<Body> {
        let sentence = match why {
            TooMany::All => format!("this node answers {REQUESTS} requests already"),
            TooMany::OfOne(own) => {
                let requester = match origin {
                    Origin::Client(address) => format!("{}", Group::of(address.ip())),
                    Origin::Peer(node) => format!("node {}", node.short()),
                };
                format!(
                    "{own} requests of {requester} are being answered here; the rest of {REQUESTS} \
                        is kept for others"
                )
            }
        };
        self.counters.refused(why);
        let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, &sentence, true);
        if let Origin::Peer(_) = origin {
            // The asking node may try another replica.
            response.headers_mut().insert(UNTOUCHED_HEADER, HeaderValue::from_static("1"));
        }
        response
    }

    async fn route(
        &self,
        origin: Origin,
        name: &WorkloadName,
        mut request: Request<Body>,
    ) -> (Response<Body>, Option<Counted>) {
        let again = Resend::of(&request);
        let (mut tried, mut last) = (Vec::new(), None);
        let mut may_sleep = true;
        let mut next = self.untried(origin, name, &tried);
        loop {
            if next.is_none() && std::mem::take(&mut may_sleep) {
                next = self.woken(origin, name, &tried).await;
            }
            let Some(target) = next else { break };
            let (answered, counted) = match &target.local {
                Some(local) => {
                    let counted = local.meter.begin();
                    (self.here(local, request).await, Some(counted))
                }
                None => (self.there(name, &target.route, request).await, None),
            };
            let miss = match answered {
                Ok(response) => return (outward(origin, response), counted),
                Err(miss) => miss,
            };
            let (route, status) = (&target.route, miss.response.status());
            debug!(replica = %route.replica, node = %route.node.short(), "no answer: {status}");
            if last.is_none() || miss.touched {
                last = Some(miss.response);
            }
            tried.push(target);
            match miss.request.or_else(|| again.request(miss.touched)) {
                Some(whole) if tried.len() < TRIES => request = whole,
                Some(_) | None => break,
            }
            next = self.next(origin, name, &tried, miss.is_lost).await;
        }
        if let Some(response) = last {
            return (outward(origin, response), None);
        }
        let mut response = self.unavailable.response(name).await;
        response.headers_mut().insert(UNTOUCHED_HEADER, HeaderValue::from_static("1"));
        (outward(origin, response), None)
    }

    /// The first replica of a workload that has none until a request comes.
    async fn woken(&self, origin: Origin, name: &WorkloadName, tried: &[Choice]) -> Option<Choice> {
        let has_replicas = self.table.find(name, false, |_| true).is_some();
        if has_replicas || origin.is_peer() || !self.unavailable.may_wake(name).await {
            return None;
        }
        let mut routes = self.table.routes();
        let started = async {
            loop {
                routes.borrow_and_update();
                if let Some(choice) = self.untried(origin, name, tried) {
                    return Some(choice);
                }
                self.core.wish(name.clone()).await.ok()?;
                tokio::select! {
                    changed = routes.changed() => changed.ok()?,
                    () = tokio::time::sleep(WISH_AGAIN) => {}
                }
            }
        };
        tokio::time::timeout(WAKING, started).await.ok()?
    }

    fn untried(&self, origin: Origin, name: &WorkloadName, tried: &[Choice]) -> Option<Choice> {
        self.table.find(name, origin.is_peer(), |route| {
            !tried.iter().any(|other| is_same(route, &other.route))
        })
    }

    /// The next replica after a try without an answer. If the last one's node is lost, its replica
    /// may move, or the node be reached over another path, within [`MOVING`].
    async fn next(
        &self,
        origin: Origin,
        name: &WorkloadName,
        tried: &[Choice],
        is_lost: bool,
    ) -> Option<Choice> {
        let untried = self.untried(origin, name, tried);
        let last = &tried.last()?.route;
        let again = || self.table.find(name, origin.is_peer(), |route| is_same(route, last));
        if untried.is_some() || last.local || (!is_lost && again().is_some()) {
            return untried;
        }
        let mut routes = self.table.routes();
        let moved = async {
            while routes.changed().await.is_ok() {
                if let Some(untried) = self.untried(origin, name, tried) {
                    return Some(untried);
                }
            }
            None
        };
        tokio::time::timeout(MOVING, moved).await.unwrap_or_else(|_| again())
    }

    async fn here(
        &self,
        local: &Local,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Miss> {
        let answered = match self.runtimes.endpoint(&local.instance) {
            Ok(Endpoint::InProcess(service)) => {
                upgrade::forget(request.headers_mut());
                service.call(request).await.map_err(Unanswered::from)
            }
            // Boxed, so that requests to guests do not carry its state.
            Ok(Endpoint::Tcp(address)) => {
                Box::pin(self.replicas.send(&local.instance, address, request)).await
            }
            Err(error) => Err(Unanswered::unsent(error, request)),
        };
        let Unanswered { error, request, is_lost } = match answered {
            Ok(response) => return Ok(self.named(local, response)),
            Err(unanswered) => unanswered,
        };
        let untouched = error.untouched();
        // The instance's id is internal; users know the replica's name.
        let replica = local.replica.to_str().unwrap_or_default();
        let text = error.to_string().replace(local.instance.as_str(), replica);
        let mut response = self.named(local, error.into_response());
        *response.body_mut() = shoal_runtimes::body(format!("{text}\n"));
        if untouched {
            response.headers_mut().insert(UNTOUCHED_HEADER, HeaderValue::from_static("1"));
        } else if !is_lost {
            return Ok(response);
        }
        let request = request.map(|request| *request);
        // No stream to another node broke.
        Err(Miss { request, touched: !untouched, is_lost: false, response })
    }

    /// An answer of a replica here, with the names of node and replica.
    fn named(&self, local: &Local, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        headers.remove(UNTOUCHED_HEADER);
        headers.insert(NODE_HEADER, self.name.clone());
        headers.insert(REPLICA_HEADER, local.replica.clone());
        response
    }

    async fn there(
        &self,
        name: &WorkloadName,
        route: &Route,
        request: Request<Body>,
    ) -> Result<Response<Body>, Miss> {
        match self.peers.send_until(route.node, request, self.left(name, route)).await {
            Ok(response) if response.headers().contains_key(UNTOUCHED_HEADER) => {
                Err(Miss { request: None, touched: false, is_lost: false, response })
            }
            Ok(response) => Ok(flow::arriving(response)),
            Err(SendError::NotSent { request, why, open }) => {
                let replica = ReplicaName { workload: name.clone(), place: route.replica.place };
                let response =
                    self.unavailable.out_of_reach(&replica, route.node, &why, open.as_ref()).await;
                Err(Miss { request: Some(*request), touched: false, is_lost: false, response })
            }
            Err(SendError::Sent { why, is_lost }) => {
                let response = refusal(
                    StatusCode::BAD_GATEWAY,
                    &format!("a replica's node did not answer: {why}"),
                    true,
                );
                Err(Miss { request: None, touched: true, is_lost, response })
            }
            // Half a request is not sent again.
            Err(SendError::Client { why }) => Ok(refusal(
                StatusCode::REQUEST_TIMEOUT,
                &format!("the request was not sent to its end: {why}"),
                false,
            )),
        }
    }

    /// Ends once this replica is not on this node any more, for example because the node is down.
    async fn left(&self, name: &WorkloadName, route: &Route) {
        let is_there = |other: &Route| is_same(other, route);
        let left = |routes: &Arc<Routes>| {
            !routes.get(name).is_some_and(|routes| routes.iter().any(is_there))
        };
        let mut routes = self.table.routes();
        if routes.wait_for(left).await.is_err() {
            std::future::pending().await // the node stops, and its requests end
        }
    }
}

/// Whether both name the same replica on the same node, however that is reached.
fn is_same(one: &Route, other: &Route) -> bool {
    (&one.replica, &one.generation, &one.node) == (&other.replica, &other.generation, &other.node)
}

/// A copy of a request, to send it again: only a request without a body can be copied, and one that
/// a replica may have acted on is sent again only if it is idempotent (RFC 9110, 9.2.2).
struct Resend {
    head: Option<http::request::Parts>,
    idempotent: bool,
}

impl Resend {
    fn of(request: &Request<Body>) -> Self {
        let method = request.method();
        let idempotent = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ]
        .contains(method);
        let head = request.body().is_end_stream().then(|| {
            let mut copy = Request::new(());
            *copy.method_mut() = method.clone();
            *copy.uri_mut() = request.uri().clone();
            *copy.headers_mut() = request.headers().clone();
            copy.into_parts().0
        });
        Resend { head, idempotent }
    }

    fn request(&self, touched: bool) -> Option<Request<Body>> {
        let head = self.head.as_ref().filter(|_| self.idempotent || !touched)?;
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Some(Request::from_parts(head.clone(), empty))
    }
}

/// Removes headers of the connection and those that only nodes may set, and adds the client's
/// address.
fn clean(headers: &mut HeaderMap, origin: Origin) {
    drop_hop_by_hop(headers);
    headers.remove(UNTOUCHED_HEADER);
    if let Origin::Client(address) = origin {
        let ip = address.ip().to_string();
        let chain = match headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
            Some(chain) => format!("{chain}, {ip}"),
            None => ip,
        };
        if let Ok(value) = HeaderValue::from_str(&chain) {
            headers.insert(FORWARDED_FOR, value);
        }
    }
}

/// Removes headers of the connection, and for clients those between nodes.
fn outward(origin: Origin, mut response: Response<Body>) -> Response<Body> {
    let granted = upgrade::is_granted(&response);
    let protocol = response.headers().get(header::UPGRADE).filter(|_| granted).cloned();
    drop_hop_by_hop(response.headers_mut());
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
    }
    if matches!(origin, Origin::Client(_)) {
        response.headers_mut().remove(UNTOUCHED_HEADER);
    }
    response
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// An answer by the ingress itself: one sentence.
fn refusal(status: StatusCode, sentence: &str, soon: bool) -> Response<Body> {
    let mut response = Response::new(shoal_runtimes::body(format!("{sentence}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if soon {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests;
