//! HTTP/1.1 servers: one on the node's HTTP port, one for the tunnels of other nodes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming as IncomingBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shoal_protocol::model::NodeId;
use shoal_runtimes::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::clients::{Client, prepare};
use super::host::{NODE_API, host};
use super::idle_timeouts::{GuardedBody, PATH_IDLE, Party, TimedBody, TimedIo};
use super::{Ingress, Origin, upgrade};
use crate::network::{Acceptor, Incoming};

/// Time that a kept tunnel of a node may be idle.
const TUNNEL_IDLE: Duration = Duration::from_secs(60);
/// Bytes of a request's head. Browsers with many cookies stay below.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 100;
/// Time for requests under way when the node stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Answers what other nodes ask this node's API through a tunnel.
pub trait PeerApi: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, from: NodeId, request: Request<Body>) -> BoxFuture<'_, Response<Body>>;
}

/// Serves the HTTP port until `stop`; then lets requests under way end.
pub async fn serve_port(listener: TcpListener, ingress: Arc<Ingress>, stop: CancellationToken) {
    let limits = ingress.port;
    let open = TaskTracker::new();
    while let Some((stream, address)) = accept(&listener, &stop).await {
        if let Err(error) = prepare(&stream) {
            debug!("a client left at once: {error}");
            continue;
        }
        // All places are proven: the connection is closed, and the client may try again.
        let Some(client) = Client::enter(&ingress.clients, address.ip()) else { continue };
        let (ingress, stop) = (ingress.clone(), stop.clone());
        open.spawn(async move {
            let service = |request| {
                let (ingress, asking) = (ingress.clone(), client.asks());
                async move {
                    let answer = ingress.answer(Origin::Client(address), request).await;
                    match upgrade::keep(&answer, asking) {
                        Some(asking) => {
                            answer.map(|body| GuardedBody::new(body, asking).boxed_unsync())
                        }
                        None => answer,
                    }
                }
            };
            let terms = Terms {
                head_within: limits.head_within,
                party: Party::Client,
                body_idle: limits.body_idle,
            };
            let bytes = TimedIo::to_client(stream, client.clone(), limits.write_idle);
            let served = connection(bytes, terms, service, &stop);
            tokio::select! {
                ended = served => ingress.note(address, ended),
                () = client.lost() => debug!(%address, "closed an idle client to make room"),
            }
        });
    }
    drain(open).await;
}

/// Serves the tunnels that other nodes open until `stop`, or until the network ends.
pub async fn serve_tunnels(
    mut tunnels: Acceptor,
    ingress: Arc<Ingress>,
    api: Arc<dyn PeerApi>,
    stop: CancellationToken,
) {
    let open = TaskTracker::new();
    loop {
        let Incoming { from, stream } = tokio::select! {
            next = tunnels.next() => match next {
                Some(incoming) => incoming,
                None => break,
            },
            () = stop.cancelled() => break,
        };
        let (ingress, api, stop) = (ingress.clone(), api.clone(), stop.clone());
        open.spawn(async move {
            let service = |request: Request<Body>| {
                let (ingress, api) = (ingress.clone(), api.clone());
                async move {
                    let to_api =
                        host(request.uri(), request.headers()).is_some_and(|host| host == NODE_API);
                    if to_api {
                        api.answer(from, request).await
                    } else {
                        ingress.answer(Origin::Peer(from), request).await
                    }
                }
            };
            let terms =
                Terms { head_within: TUNNEL_IDLE, party: Party::Node(from), body_idle: PATH_IDLE };
            let ended = connection(TimedIo::to_node(stream, from), terms, service, &stop).await;
            ingress.note(format_args!("node {}", from.short()), ended);
        });
    }
    drain(open).await;
}

async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(tokio::net::TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok(client) => return Some(client),
            // Mostly: no file descriptor is free. Without a pause this would spin until one is.
            Err(error) => {
                warn!("no client can be taken: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Limits for the other end of a connection.
struct Terms {
    /// Time for a request's head, and for an idle connection between two requests.
    head_within: Duration,
    party: Party,
    /// Time without a byte of a body that is waited for.
    body_idle: Duration,
}

async fn connection<T, S, F>(
    bytes: T,
    terms: Terms,
    service: S,
    stop: &CancellationToken,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Response<Body>>,
{
    let Terms { head_within, party, body_idle } = terms;
    let service = service_fn(|request: Request<IncomingBody>| {
        let answer =
            service(request.map(|body| TimedBody::new(body, party, body_idle).boxed_unsync()));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(bytes), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN, connection).await.unwrap_or_else(|_| {
                debug!("a connection was cut: its request did not end within {DRAIN:?}");
                Ok(())
            })
        }
    }
}

/// Waits for all connections; each of them sees `stop` and has its own limit.
async fn drain(open: TaskTracker) {
    open.close();
    open.wait().await;
}
