//! HTTP/1.1 to replicas of this node that have an address: servers in a process of their own.
//!
//! **A replica with an address has the limits of one in this process**: a number of requests at a
//! time, a number that waits, and a time without progress. A request of which nothing was sent
//! comes back whole, so that it can go to another replica.

mod pool;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use shoal_runtimes::{Body, BodyError, InstanceId, ServeError};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::{self, Failed, with_causes};
use super::flow::{Server, arriving};
use super::idle_timeouts::{GuardedBody, Party};
use super::upgrade;
use pool::{Busy, Lease, Pool};

/// Time without progress of a replica that is waited for, as a guest in this process has.
pub(super) const PROGRESS: Duration = Duration::from_secs(30);

/// Bounds of the requests to one replica. [`ReplicaLimits::default`] has sane values.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplicaLimits {
    /// Requests at a time, each on a connection of its own.
    pub concurrent: usize,
    /// Requests that wait for one of those to end; further ones are refused at once.
    pub waiting: usize,
    /// Time to connect.
    pub connect: Duration,
    /// Time to begin the answer, to go on with it, and to read on; also the longest wait for a
    /// connection.
    pub progress: Duration,
    /// Time that an idle connection is kept.
    pub idle: Duration,
}

impl Default for ReplicaLimits {
    /// 64 requests at a time and 64 waiting, 3 s to connect, 30 s without progress; as in-process
    /// replicas, where they have the limit. Idle connections are kept for 1 s: servers close them
    /// after 2 s and more (gunicorn 2 s, Node and uvicorn 5 s), and a request that is sent at that
    /// moment is lost. A new connection on the same device takes some tens of microseconds.
    fn default() -> Self {
        ReplicaLimits {
            concurrent: 64,
            waiting: 64,
            connect: Duration::from_secs(3),
            progress: PROGRESS,
            idle: Duration::from_secs(1),
        }
    }
}

/// Sends requests to replicas with an address.
pub(super) struct Replicas {
    limits: ReplicaLimits,
    pool: Arc<Pool>,
}

/// A replica gave no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// The reason, and whether the replica has seen any of the request.
    pub error: ServeError,
    /// The request, when nothing of it was handed over.
    pub request: Option<Box<Request<Body>>>,
    /// Whether the connection broke after a part was sent: another replica may do better.
    pub is_lost: bool,
}

impl From<ServeError> for Unanswered {
    fn from(error: ServeError) -> Self {
        Unanswered { error, request: None, is_lost: false }
    }
}

impl Unanswered {
    pub(super) fn unsent(error: ServeError, request: impl Into<Box<Request<Body>>>) -> Self {
        Unanswered { error, request: Some(request.into()), is_lost: false }
    }
}

impl Replicas {
    pub(super) fn new(limits: ReplicaLimits) -> Self {
        Replicas { limits, pool: Pool::new(limits) }
    }

    /// Sends a request to the instance at `address` and gives its answer, whose body streams.
    /// Dropping the future or the answer closes the connection, which tells the replica that its
    /// client is gone.
    pub(super) async fn send(
        &self,
        id: &InstanceId,
        address: SocketAddr,
        request: Request<Body>,
    ) -> Result<Response<Body>, Unanswered> {
        let mut request = for_replica(id, request)?;
        let may_switch = upgrade::is_asked(request.headers());
        let permit = match self.pool.enter(address).await {
            Ok(permit) => permit,
            Err(Busy { limit }) => {
                let error = ServeError::Busy { id: id.clone(), limit };
                return Err(Unanswered::unsent(error, request));
            }
        };
        // The replica may have closed a kept connection a moment ago: then the request comes back
        // unsent, and goes over the next connection or a new one.
        while let Some(mut kept) = permit.kept() {
            match self.over(&mut kept, request).await {
                Ok(response) => {
                    return answer(response, permit.lease(kept), may_switch).map_err(unusable(id));
                }
                Err(Failed::Unsent { request: unsent, .. }) => request = *unsent,
                Err(failed) => return Err(unanswered(id, failed)),
            }
        }
        let mut fresh = match self.connect(address).await {
            Ok(fresh) => fresh,
            Err(reason) => {
                let error = ServeError::Unreachable { id: id.clone(), reason };
                return Err(Unanswered::unsent(error, request));
            }
        };
        match self.over(&mut fresh, request).await {
            Ok(response) => answer(response, permit.lease(fresh), may_switch).map_err(unusable(id)),
            Err(failed) => Err(unanswered(id, failed)),
        }
    }

    async fn over(
        &self,
        connection: &mut SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failed> {
        let progress = self.limits.progress;
        let server =
            Server { party: Party::Replica, take_within: progress, answer_within: progress };
        connection::send(connection, server, request).await
    }

    async fn connect(&self, address: SocketAddr) -> Result<SendRequest<Body>, String> {
        let connect = self.limits.connect;
        let stream = match timeout(connect, TcpStream::connect(address)).await {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("it accepted no connection for {connect:?}")),
        };
        // Otherwise the kernel holds back the end of a request that was written in two parts.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        connection::open(stream).await.map_err(|error| with_causes(&error))
    }
}

/// A request as a replica's own server expects it: its path as target, its host as header, in
/// HTTP/1.1, whatever the client spoke.
fn for_replica(id: &InstanceId, mut request: Request<Body>) -> Result<Request<Body>, ServeError> {
    let refused =
        |reason: &str| Err(ServeError::Request { id: id.clone(), reason: reason.to_owned() });
    if request.method() == Method::CONNECT {
        return refused("CONNECT is for proxies");
    }
    if let Some(authority) = request.uri().authority() {
        // The target's host counts (RFC 9112, 3.2.2); a user and a password are no part of it.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        match HeaderValue::from_str(host) {
            Ok(host) => drop(request.headers_mut().insert(header::HOST, host)),
            Err(_) => return refused("its host is not a name"),
        }
    }
    if !request.headers().contains_key(header::HOST) {
        return refused("it names no host");
    }
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(target.unwrap_or(PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
    Ok(request)
}

/// An answer as it goes on to the client. Its body holds the connection, and fails when the replica
/// stalls or breaks off.
fn answer(
    response: Response<Body>,
    lease: Lease,
    may_switch: bool,
) -> Result<Response<Body>, String> {
    let switches = may_switch && upgrade::is_granted(&response);
    if response.status().is_informational() && !switches {
        return Err(format!("answered {}, which nobody asked for", response.status()));
    }
    let broke_off = |error: BodyError| -> BodyError {
        format!("the replica broke off its answer: {}", with_causes(&*error)).into()
    };
    let mut response = arriving(response.map(|body| body.map_err(broke_off).boxed_unsync()));
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| GuardedBody::new(body, lease).boxed_unsync()))
}

/// The error of a replica whose answer cannot be used.
fn unusable(id: &InstanceId) -> impl Fn(String) -> Unanswered {
    move |reason| {
        let (id, status) = (id.clone(), StatusCode::BAD_GATEWAY);
        ServeError::Guest { id, status, reason }.into()
    }
}

fn unanswered(id: &InstanceId, failed: Failed) -> Unanswered {
    let id = id.clone();
    match failed {
        Failed::Unsent { request, why } => {
            Unanswered::unsent(ServeError::Unreachable { id, reason: why }, request)
        }
        Failed::Sent { why, is_lost } => {
            let (status, reason) = if is_lost {
                (StatusCode::BAD_GATEWAY, format!("gave no answer: {why}"))
            } else {
                (StatusCode::GATEWAY_TIMEOUT, format!("is too slow: {why}"))
            };
            Unanswered { error: ServeError::Guest { id, status, reason }, request: None, is_lost }
        }
        Failed::Client { why } => {
            ServeError::Client { id, reason: format!("was sent half a request: {why}") }.into()
        }
    }
}

#[cfg(test)]
mod tests;
