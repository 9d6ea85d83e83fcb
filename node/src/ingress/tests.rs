mod limits;
mod lost;
mod upgrade;
mod waking;

use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use shoal_protocol::model::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::server::{PeerApi, serve_port, serve_tunnels};
use super::*;
use crate::executor::instance_id;
use crate::fakes::{
    FakeCore, FakeMesh, FakeRuntime, NODE, OTHER, replica, replica_view, workload_view,
};
use crate::network::{Acceptor, Incoming};

const GENERATION: Digest = Digest([1; 32]);

struct NoApi;

impl PeerApi for NoApi {
    fn answer(&self, from: NodeId, _: Request<Body>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            Response::new(shoal_runtimes::body(format!("the API, for {}", from.short())))
        })
    }
}

struct Node {
    core: Arc<FakeCore>,
    runtime: Arc<FakeRuntime>,
    ingress: Arc<Ingress>,
    stop: CancellationToken,
}

impl Node {
    fn new(name: &str, mesh: &Arc<FakeMesh>) -> Self {
        let (core, runtime) = (FakeCore::new(), FakeRuntime::new());
        let ingress =
            Arc::new(Ingress::new(name, core.clone(), runtime.set(), Peers::new(mesh.clone())));
        Node { core, runtime, ingress, stop: CancellationToken::new() }
    }

    fn route(&self, to: &[(u32, NodeId, bool)]) {
        let routes = to.iter().map(|(index, node, local)| Route {
            replica: replica(*index),
            generation: GENERATION,
            node: *node,
            local: *local,
            direct: true,
        });
        self.publish(routes.collect());
    }

    fn publish(&self, routes: Vec<Route>) {
        let routes: Arc<[Route]> = routes.into();
        let routes: Routes = [("web".parse().unwrap(), routes)].into_iter().collect();
        self.core.routes.send_replace(Arc::new(routes));
    }

    fn run(&self, index: u32) {
        self.runtime.run(instance_id(&"web".parse().unwrap(), &replica(index), &GENERATION));
    }

    fn tunnels(&self, incoming: tokio::sync::mpsc::Receiver<Incoming>) {
        tokio::spawn(serve_tunnels(
            Acceptor::new(incoming),
            self.ingress.clone(),
            Arc::new(NoApi),
            self.stop.clone(),
        ));
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let client = Origin::Client("10.0.0.3:9".parse().unwrap());
        let (head, body) = self.ingress.answer(client, request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn get(host: &str) -> Request<Body> {
    Request::get("/path").header("host", host).body(shoal_runtimes::body("")).unwrap()
}

/// A request is served here when a replica runs here. The answer names node and replica, and lacks
/// the headers of the guest's connection.
#[tokio::test]
async fn local_replica_answers_with_its_name() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(3, NODE, true)]);
    node.run(3);
    let (status, headers, said) = node.ask(get("web.localhost:8080")).await;
    assert_eq!((status, said.as_str()), (StatusCode::OK, "GET /path for 10.0.0.3"));
    assert_eq!(
        (&headers[NODE_HEADER], &headers[REPLICA_HEADER]),
        (&"n1".parse().unwrap(), &"web/3".parse().unwrap())
    );
    assert!(!headers.contains_key("connection"), "what concerns one connection stays there");
}

/// The only replica is on another node: its answer comes through a tunnel, and three requests take
/// one stream.
#[tokio::test]
async fn remote_replica_answers_and_streams_are_reused() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    there.tunnels(mesh.take(OTHER));
    here.route(&[(0, OTHER, false)]);
    there.route(&[(0, OTHER, true)]);
    there.run(0);
    for _ in 0..3 {
        let (status, headers, said) = here.ask(get("web.shoal")).await;
        assert_eq!((status, said.as_str()), (StatusCode::OK, "GET /path for 10.0.0.3"));
        assert_eq!(headers[NODE_HEADER], "n2");
    }
    assert_eq!(mesh.opened.load(Ordering::Relaxed), 1);
}

/// Each of two nodes routes to the other one. The second node refuses what came through a tunnel,
/// so that the request does not loop.
#[tokio::test]
async fn request_from_a_peer_is_never_forwarded() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    here.tunnels(mesh.take(NODE));
    there.tunnels(mesh.take(OTHER));
    here.route(&[(0, OTHER, false)]);
    there.route(&[(0, NODE, false)]);
    there.core.show(vec![workload_view("web", vec![replica_view("web/0", "healthy", Some("n1"))])]);
    let (status, headers, _) = here.ask(get("web.shoal")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!headers.contains_key(UNTOUCHED_HEADER));
    assert_eq!(headers[header::RETRY_AFTER], "1");
}

/// The first route is out of date, or its node cannot be reached. Nothing of the request was sent,
/// so it goes to another replica, even with a body.
#[tokio::test]
async fn missing_replica_is_skipped_for_another() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    there.tunnels(mesh.take(OTHER));
    there.route(&[(1, OTHER, true)]);
    there.run(1);
    // Replica 0 is routed here and does not run. In the second part a node without a link comes
    // first now and then.
    here.route(&[(0, NODE, true), (1, OTHER, false)]);
    let (status, headers, _) = here.ask(get("web.shoal")).await;
    assert_eq!((status, &headers[REPLICA_HEADER]), (StatusCode::OK, &"web/1".parse().unwrap()));
    here.route(&[(0, NodeId([8; 32]), false), (1, OTHER, false)]);
    for _ in 0..2 {
        let mut request = get("web.shoal");
        *request.method_mut() = Method::POST;
        *request.body_mut() = shoal_runtimes::body("some");
        assert_eq!(
            here.ask(request).await.0,
            StatusCode::OK,
            "nothing was sent, so even a body can go elsewhere"
        );
    }
}

/// A node dies after it has read the request, and may have acted on it: a POST fails, a GET is sent
/// again.
#[tokio::test]
async fn only_idempotent_requests_are_resent_after_a_loss() {
    let mesh = Arc::new(FakeMesh::default());
    let here = Node::new("n1", &mesh);
    here.route(&[(0, OTHER, false), (1, OTHER, false)]);
    let mut streams = mesh.take(OTHER);
    // This node reads the request and dies.
    let dying = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Incoming { mut stream, .. }) = streams.recv().await {
            let mut head = [0; 3];
            stream.read_exact(&mut head).await.unwrap();
            seen.push(String::from_utf8(head.to_vec()).unwrap());
            if seen.len() == 3 {
                return seen;
            }
        }
        seen
    });
    let mut post = get("web.shoal");
    *post.method_mut() = Method::POST;
    assert_eq!(here.ask(post).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(here.ask(get("web.shoal")).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(dying.await.unwrap(), ["POS", "GET", "GET"]);
}

/// The only replica is busy: the client learns which one, and when to try again.
#[tokio::test]
async fn busy_replica_answers_503_with_the_reason() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true)]);
    node.run(0);
    *node.runtime.busy.lock().unwrap() = true;
    let (status, headers, said) = node.ask(get("web.shoal")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[header::RETRY_AFTER], "1");
    assert!(said.contains("`web/0` is busy"), "{said}");
}

/// A wrong host gets the form of names, a missing workload 404, an unhealthy one 503 with the
/// reason. The core is asked once per change of its views.
#[tokio::test]
async fn unknown_or_unhealthy_workload_is_explained() {
    let node = Node::new("n1", &Arc::default());
    let (status, _, said) = node.ask(get("web.example.org")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(said.contains("`web.example.org`") && said.contains("NAME.shoal"), "{said}");
    let (status, _, said) = node.ask(get("api.node.internal")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{said}");
    let (status, _, said) = node.ask(get("web.shoal")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(said.starts_with("there is no workload `web`"), "{said}");

    let mut missing = replica_view("web/0", "missing", None);
    missing.reason = Some("2 nodes: no room".into());
    node.core.show(vec![workload_view("web", vec![missing])]);
    let looks = node.core.looks.load(Ordering::Relaxed);
    for _ in 0..5 {
        let (status, _, said) = node.ask(get("web.shoal")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(said.contains("web/0 is missing: 2 nodes: no room"), "{said}");
    }
    assert_eq!(
        node.core.looks.load(Ordering::Relaxed),
        looks + 1,
        "a client that asks on does not keep the core busy"
    );
}

/// Two requests on one connection are answered; a stop closes the idle connection and the port.
#[tokio::test]
async fn port_serves_http_and_closes_idle_clients_on_stop() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true)]);
    node.run(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve_port(listener, node.ingress.clone(), node.stop.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    for path in ["/a", "/b"] {
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: web.shoal\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(format!("GET {path} for 127.0.0.1").as_bytes()) {
            rest.push(client.read_u8().await.unwrap());
        }
    }
    node.stop.cancel();
    serving.await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "an idle client is let go");
    assert!(TcpStream::connect(address).await.is_err());
}

/// A head of 64 KiB would take memory for each client: it is refused with 431.
#[tokio::test]
async fn oversized_head_is_refused() {
    let node = Node::new("n1", &Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_port(listener, node.ingress.clone(), node.stop.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: web.shoal\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    // The server may close before the whole head is written.
    let _ = client.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

/// A request for the host of the node's API, through a tunnel, reaches the API and names the asking
/// node.
#[tokio::test]
async fn peer_reaches_the_node_api_through_a_tunnel() {
    let mesh = Arc::new(FakeMesh::default());
    let there = Node::new("n2", &mesh);
    there.tunnels(mesh.take(OTHER));
    let response = Peers::new(mesh).send(OTHER, get(host::NODE_API)).await.unwrap();
    let said = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, format!("the API, for {}", NODE.short()));
}

/// A stream whose path loses large packets: it takes the request, and the answer never comes.
struct Stalls;

impl tokio::io::AsyncRead for Stalls {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let why = "small messages pass, transfers stall";
        std::task::Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, why)))
    }
}

impl tokio::io::AsyncWrite for Stalls {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

struct StallingMesh;

impl crate::network::Mesh for StallingMesh {
    fn open(
        &self,
        _: NodeId,
        _: crate::network::Purpose,
    ) -> BoxFuture<'_, Result<crate::network::MeshStream, crate::network::OpenError>> {
        Box::pin(std::future::ready(Ok(crate::network::MeshStream::new(Stalls))))
    }

    fn is_linked(&self, _: &NodeId) -> bool {
        true
    }
}

/// The client was told "connection error", and not that the path loses large packets.
#[tokio::test]
async fn stalled_answer_names_the_path() {
    let (core, runtime) = (FakeCore::new(), FakeRuntime::new());
    let ingress = Arc::new(Ingress::new(
        "n1",
        core.clone(),
        runtime.set(),
        Peers::new(Arc::new(StallingMesh)),
    ));
    let node = Node { core, runtime, ingress, stop: CancellationToken::new() };
    node.route(&[(0, OTHER, false)]);
    let (status, _, said) = node.ask(get("web.localhost")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(said.contains("small messages pass, transfers stall"), "{said}");
}

const THIRD: NodeId = NodeId([3; 32]);

/// A replica on a node that cannot be dialled costs a hop over another device: it is asked only
/// when there is no other.
#[tokio::test]
async fn direct_replicas_come_before_those_over_a_hop() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, near, far) =
        (Node::new("n1", &mesh), Node::new("n3", &mesh), Node::new("n2", &mesh));
    mesh.hops.lock().unwrap().insert(OTHER, Ok(THIRD));
    near.tunnels(mesh.take(THIRD));
    far.tunnels(mesh.take(OTHER));
    for (node, index, id) in [(&near, 1, THIRD), (&far, 0, OTHER)] {
        node.route(&[(index, id, true)]);
        node.run(index);
    }
    let route = |index, node, direct| Route {
        replica: replica(index),
        generation: GENERATION,
        node,
        local: false,
        direct,
    };
    here.publish(vec![route(0, OTHER, false), route(1, THIRD, true)]);
    for _ in 0..4 {
        assert_eq!(here.ask(get("web.shoal")).await.1[NODE_HEADER], "n3");
    }
    here.publish(vec![route(0, OTHER, false)]);
    let (status, headers, _) = here.ask(get("web.shoal")).await;
    assert_eq!((status, &headers[NODE_HEADER]), (StatusCode::OK, &"n2".parse().unwrap()));
}

/// Streams are kept and reused. Once the node can be dialled, requests must not stay on a stream
/// over another device.
#[tokio::test]
async fn stream_over_a_hop_is_dropped_once_linked() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    mesh.hops.lock().unwrap().insert(OTHER, Ok(THIRD));
    there.tunnels(mesh.take(OTHER));
    there.route(&[(0, OTHER, true)]);
    there.run(0);
    here.route(&[(0, OTHER, false)]);
    for _ in 0..3 {
        assert_eq!(here.ask(get("web.shoal")).await.0, StatusCode::OK);
    }
    assert_eq!(mesh.opened.load(Ordering::Relaxed), 1, "used again while there is nothing better");
    mesh.hops.lock().unwrap().clear();
    for _ in 0..3 {
        assert_eq!(here.ask(get("web.shoal")).await.0, StatusCode::OK);
    }
    assert_eq!(mesh.opened.load(Ordering::Relaxed), 2, "and the new one is used again as well");
}

/// The replica is healthy and its node up, but there is no path to it: the answer names both ends.
#[tokio::test]
async fn missing_path_is_named_with_retry_after() {
    let mesh = Arc::new(FakeMesh::default());
    let here = Node::new("n1", &mesh);
    let names = [(NODE, "n1"), (OTHER, "n2"), (THIRD, "n3")];
    let views = names.map(|(id, name)| crate::fakes::node_view(id, name));
    here.core.nodes.lock().unwrap().extend(views);
    here.route(&[(0, OTHER, false)]);
    for (tried, said) in [
        (
            vec![],
            "web/0 runs on n2; n1 has no way to n2 (no address answered; no common member reaches \
                both)\n",
        ),
        (
            vec![(THIRD, "it carries as many streams as it can".to_owned())],
            "web/0 runs on n2; n1 has no way to n2 (no address answered; over n3: it carries as \
                many streams as it can)\n",
        ),
    ] {
        mesh.hops.lock().unwrap().insert(OTHER, Err(tried));
        for _ in 0..2 {
            let mut post = get("web.shoal");
            *post.method_mut() = Method::POST;
            let (status, headers, body) = here.ask(post).await;
            assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, said));
            assert_eq!(headers[header::RETRY_AFTER], "1");
        }
    }
    assert_eq!(here.core.looks.load(Ordering::Relaxed), 2, "the core is asked once for each name");
}

/// Replicas with an address on this node: the first one's server is gone, so even a request with a
/// body goes to the second one, whose answer has the names of node and replica.
#[tokio::test]
async fn replica_with_an_address_is_asked_over_tcp() {
    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true), (1, NODE, true)]);
    let instance = |index| instance_id(&"web".parse().unwrap(), &replica(index), &GENERATION);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    node.runtime.run_at(instance(0), gone.local_addr().unwrap());
    drop(gone);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    node.runtime.run_at(instance(1), server.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut seen = Vec::new();
        loop {
            while !seen.ends_with(b"some") {
                seen.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(std::mem::take(&mut seen)).unwrap();
            assert!(head.contains("x-forwarded-for: 10.0.0.3\r\n"), "{head}");
            let answer = b"HTTP/1.1 200 OK\r\nX-Shoal-Untouched: 1\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    // The second request goes over the kept connection.
    for _ in 0..2 {
        let mut post = get("web.shoal");
        *post.method_mut() = Method::POST;
        *post.body_mut() = shoal_runtimes::body("some");
        let (status, headers, said) = node.ask(post).await;
        assert_eq!((status, said.as_str()), (StatusCode::OK, "ok"));
        assert_eq!(headers[REPLICA_HEADER], "web/1");
        assert!(!headers.contains_key(UNTOUCHED_HEADER), "only nodes may say that");
    }
    node.route(&[(0, NODE, true)]);
    let (status, headers, said) = node.ask(get("web.shoal")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[header::RETRY_AFTER], "1");
    assert!(said.starts_with("instance `web/0` cannot be reached: "), "{said}");
}

/// A replica's server dies with a request, of which it may have done something: a GET goes to the
/// next replica, a POST does not.
#[tokio::test]
async fn dead_server_loses_only_requests_that_may_not_repeat() {
    let node = Node::new("n1", &Arc::default());
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = instance_id(&"web".parse().unwrap(), &replica(0), &GENERATION);
    node.runtime.run_at(instance, server.local_addr().unwrap());
    node.run(1);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            stream.read_exact(&mut [0; 3]).await.unwrap();
        }
    });
    for (method, expected) in
        [(Method::GET, StatusCode::OK), (Method::POST, StatusCode::BAD_GATEWAY)]
    {
        // The dead one comes first in one of two turns.
        node.route(&[(0, NODE, true), (1, NODE, true)]);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut request = get("web.shoal");
            *request.method_mut() = method.clone();
            seen.push(node.ask(request).await.0);
        }
        seen.sort();
        assert_eq!(seen, [StatusCode::OK, expected], "{method}");
    }
}
