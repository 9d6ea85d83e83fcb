//! Connections of this node's containers to workloads: each goes to a ready replica, one here
//! first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode, header};
use shoal_protocol::model::{Place, ReplicaName, WorkloadName};
use shoal_protocol::node::{Route, Routes};
use shoal_runtimes::body;
use shoal_runtimes::session::Duplex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::book::Goal;
use crate::api::Core;
use crate::api::form::full_name;
use crate::executor::instance_id;
use crate::ingress::host::node_request;
use crate::ingress::peers::{Peers, Upgrade};
use crate::runtimes::RuntimeSet;
use crate::session;

/// Connections at one time. Each takes two files, or one and a stream of the mesh.
const CONNECTIONS: usize = 256;
/// Time for a replica to be ready: a failover takes some tenths of a second, and a client that is
/// refused at once may give up.
const READY_WITHIN: Duration = Duration::from_secs(3);
/// Time without a byte after which the kernel asks whether the client is still there.
const ALIVE: Duration = Duration::from_secs(60);
/// The protocol's name in the `Upgrade` header between nodes: bytes of a TCP connection.
pub const PROTOCOL: &str = "shoal-tcp/1";

/// The way of a connection.
#[derive(Clone)]
pub(super) struct Lead {
    pub goal: Goal,
    /// The port of the replica.
    pub port: u16,
    /// Ends the connections under way.
    pub closing: CancellationToken,
}

/// Carries connections to replicas. Cheap to clone.
#[derive(Clone)]
pub(super) struct Proxy {
    routes: watch::Receiver<Arc<Routes>>,
    runtimes: RuntimeSet,
    peers: Peers,
    places: Arc<Semaphore>,
    turn: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn new(core: &dyn Core, runtimes: RuntimeSet, peers: Peers) -> Self {
        let routes = core.routes();
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Proxy { routes, runtimes, peers, places, turn: Arc::default() }
    }

    /// Carries the connections that `listener` takes, each to where `find` leads it, until
    /// `closing`.
    pub fn listen(
        &self,
        listener: TcpListener,
        find: impl Fn(&TcpStream) -> Option<Lead> + Send + 'static,
        closing: CancellationToken,
    ) {
        let proxy = self.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = closing.cancelled() => return,
                };
                let (stream, from) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Mostly: no file descriptor is free.
                        debug!("a connection of a container cannot be taken: {error}");
                        sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Some(Lead { goal, port, closing }) = find(&stream) else {
                    reset(&stream);
                    continue;
                };
                let Ok(place) = proxy.places.clone().try_acquire_owned() else {
                    reset(&stream);
                    continue;
                };
                let proxy = proxy.clone();
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = proxy.carry(stream, from, &goal, port) => {}
                        () = closing.cancelled() => {}
                    }
                });
            }
        });
    }

    async fn carry(&self, mut client: TcpStream, from: SocketAddr, goal: &Goal, port: u16) {
        let socket = SockRef::from(&client);
        let alive = TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE / 4);
        // Without these it works, more slowly and with dead connections for longer.
        let _ = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&alive));
        match self.connect(goal, port).await {
            Ok(mut replica) => {
                if let Err(error) = copy_bidirectional(&mut client, &mut replica).await {
                    debug!("a connection of {from} to {goal} broke: {error}");
                    reset(&client);
                }
            }
            Err(why) => {
                debug!("{from} does not reach {goal} port {port}: {why}");
                reset(&client);
            }
        }
    }

    /// A connection to a replica that is ready now, or soon.
    async fn connect(&self, goal: &Goal, port: u16) -> Result<Box<dyn Duplex>, String> {
        let name = &goal.workload;
        let mut routes = self.routes.clone();
        let until = Instant::now() + READY_WITHIN;
        let mut why = "no replica is ready".to_owned();
        loop {
            let now = routes.borrow_and_update().get(name).cloned();
            let all = self.in_order(now.as_deref().unwrap_or_default()).into_iter();
            for route in all.filter(|route| leads_to(route, goal)) {
                match self.to(name, route, port).await {
                    Ok(replica) => return Ok(replica),
                    Err(error) => why = error,
                }
            }
            match timeout_at(until, routes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(why),
            }
        }
    }

    /// Replicas here, then those on nodes that are reached directly, then the rest; each group
    /// begins with another one each time.
    fn in_order<'a>(&self, routes: &'a [Route]) -> Vec<&'a Route> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let by = turn.checked_rem(routes.len()).unwrap_or_default();
        let mut all: Vec<_> = routes[by..].iter().chain(&routes[..by]).collect();
        all.sort_by_key(|route| (!route.local, !route.direct));
        all
    }

    async fn to(
        &self,
        name: &WorkloadName,
        route: &Route,
        port: u16,
    ) -> Result<Box<dyn Duplex>, String> {
        if route.local {
            let id = instance_id(name, &route.replica, &route.generation);
            let connected = session::connect(&self.runtimes, &id, port).await;
            return connected.map_err(|error| error.to_string());
        }
        let replica = ReplicaName { workload: name.clone(), place: route.replica.place };
        let (name, place) = (full_name(&replica.workload), replica.place);
        let request = node_request(Method::GET, &format!("/v1/connect/{name}/{place}/{port}"))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(body(""))
            .map_err(|error| error.to_string())?;
        match self.peers.upgrade(route.node, request).await {
            Ok(Upgrade::Stream(stream)) => Ok(Box::new(stream)),
            Ok(Upgrade::Answer(answer)) => Err(match answer.status() {
                StatusCode::NOT_FOUND => format!("{replica} is not there any more"),
                status => format!("the node of {replica} answers {status}"),
            }),
            Err(error) => Err(format!("the node of {replica} cannot be asked: {error:?}")),
        }
    }
}

/// Whether a route leads to the goal.
fn leads_to(route: &Route, goal: &Goal) -> bool {
    goal.ordinal.is_none_or(|ordinal| route.replica.place == Place::Ordinal(ordinal))
}

/// Makes the close of a connection look like a failure: without it, a client takes an empty answer
/// for a whole one.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
