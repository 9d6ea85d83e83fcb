//! Slow transfers, stalled ones, and clients that take more than their share.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use shoal_runtimes::BodyError;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fakes::Serving;
use crate::ingress::idle_timeouts::{CLIENT_BODY_IDLE, Party, TimedBody};
use crate::shares::Bounds;

/// Two nodes; a replica of `web` runs on the second one.
fn two_nodes(serving: Serving) -> (Node, Node) {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (Node::new("n1", &mesh), Node::new("n2", &mesh));
    there.tunnels(mesh.take(OTHER));
    here.route(&[(0, OTHER, false)]);
    there.route(&[(0, OTHER, true)]);
    there.run(0);
    *there.runtime.serving.lock().unwrap() = serving;
    (here, there)
}

/// A request whose body has `pieces` pieces of a thousand bytes, each after `pause`; if not `ends`,
/// the body then stalls.
fn upload(pieces: usize, pause: Duration, ends: bool) -> Request<Body> {
    let pieces = futures::stream::unfold(0, move |sent| async move {
        if sent == pieces && !ends {
            std::future::pending::<()>().await;
        }
        sleep(pause).await;
        (sent < pieces)
            .then(|| (Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[7; 1000]))), sent + 1))
    });
    let mut request = get("web.shoal");
    *request.method_mut() = Method::POST;
    // As the HTTP port wraps it.
    request.map(|_| {
        TimedBody::new(StreamBody::new(Box::pin(pieces)), Party::Client, CLIENT_BODY_IDLE)
            .boxed_unsync()
    })
}

/// The other node's time for its answer began with the request's head: an upload that took longer
/// than a minute ended with 502.
#[tokio::test(start_paused = true)]
async fn long_upload_through_another_node_is_answered() {
    let (here, _there) = two_nodes(Serving::Count);
    let (status, _, said) = here.ask(upload(10, Duration::from_secs(20), true)).await;
    assert_eq!((status, said.as_str()), (StatusCode::OK, "10000"));
}

/// A client stops in the middle of its body: 408 names the client, also when the replica is on this
/// node.
#[tokio::test(start_paused = true)]
async fn stalled_upload_names_the_client() {
    let (here, _there) = two_nodes(Serving::Count);
    let (status, _, said) = here.ask(upload(2, Duration::from_secs(1), false)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{said}");
    assert_eq!(
        said,
        "the request was not sent to its end: the client sent nothing more for 30 s\n"
    );

    let node = Node::new("n1", &Arc::default());
    node.route(&[(0, NODE, true)]);
    node.run(0);
    *node.runtime.serving.lock().unwrap() = Serving::Count;
    let (status, _, said) = node.ask(upload(2, Duration::from_secs(1), false)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{said}");
    assert!(said.contains("the client sent nothing more for 30 s"), "{said}");
}

/// The other node has the whole request and never answers: 502 names it after a minute.
#[tokio::test(start_paused = true)]
async fn node_that_gives_no_answer_is_named() {
    let (here, _there) = two_nodes(Serving::Wait);
    let (status, _, said) = here.ask(upload(2, Duration::from_secs(1), true)).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    let expected = format!(
        "a replica's node did not answer: node {} gave no answer for 60 s\n",
        OTHER.short()
    );
    assert_eq!(said, expected);
}

/// The other node sends half an answer and stops: the body fails with its name.
#[tokio::test(start_paused = true)]
async fn node_that_stalls_in_its_answer_is_named() {
    let mesh = Arc::new(FakeMesh::default());
    let here = Node::new("n1", &mesh);
    here.route(&[(0, OTHER, false)]);
    let mut streams = mesh.take(OTHER);
    let there = tokio::spawn(async move {
        let Incoming { mut stream, .. } = streams.recv().await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0, "the request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
        (stream, streams)
    });
    let client = Origin::Client("10.0.0.3:9".parse().unwrap());
    let answer = here.ingress.answer(client, get("web.shoal")).await;
    let error = answer.into_body().collect().await.unwrap_err();
    assert_eq!(error.to_string(), format!("node {} sent nothing more for 60 s", OTHER.short()));
    drop(there);
}

/// A node gave up after 30 s when another node did not read on, though the client of that one did
/// read, slowly.
#[tokio::test(start_paused = true)]
async fn slow_download_through_another_node_is_complete() {
    let (here, _there) = two_nodes(Serving::Send(1024));
    let client = Origin::Client("10.0.0.3:9".parse().unwrap());
    let mut body = here.ingress.answer(client, get("web.shoal")).await.into_body();
    let mut len = 0;
    for taken in 0.. {
        // 64 KiB, in parts of 1 KiB as from the runtime, each 100 s.
        if taken % 64 == 0 && taken < 640 {
            sleep(Duration::from_secs(100)).await;
        }
        let Some(frame) = body.frame().await else { break };
        len += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(len, 1 << 20);
}

/// A node that serves a port, and runs a replica of `web`.
async fn port(limits: PortLimits, serving: Serving) -> (Node, SocketAddr) {
    let mut node = Node::new("n1", &Arc::default());
    let core: Arc<dyn Core> = node.core.clone();
    let ingress =
        Ingress::new("n1", core, node.runtime.set(), Peers::new(Arc::new(FakeMesh::default())));
    node.ingress = Arc::new(ingress.with_port(limits));
    node.route(&[(0, NODE, true)]);
    node.run(0);
    *node.runtime.serving.lock().unwrap() = serving;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_port(listener, node.ingress.clone(), node.stop.clone()));
    (node, address)
}

/// A connection from a loopback address, and its first bytes.
async fn client(from: &str, to: SocketAddr, says: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(says.as_bytes()).await.unwrap();
    stream
}

const WHOLE: &str = "GET /path HTTP/1.1\r\nHost: web.shoal\r\nConnection: close\r\n\r\n";
const HALF: &str = "GET /path HTTP/1.1\r\nHost: web.shoal\r\n";

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what} never came"))
}

impl Node {
    fn count(&self, name: &str) -> u64 {
        let mut all = BTreeMap::new();
        self.ingress.report(&mut all);
        all[name]
    }

    async fn until(&self, what: &str, so: impl Fn(&Node) -> bool) {
        let looks = async {
            while !so(self) {
                tokio::task::yield_now().await;
            }
        };
        within(what, looks).await;
    }
}

/// 600 clients of one address that never ended their request's head kept all others from the port
/// for 30 s, again and again.
#[tokio::test]
async fn slow_heads_of_one_address_keep_no_other_out() {
    let clients = Bounds {
        places: 16,
        crowded: 8,
        per_address: 4,
        silent_timeout: Duration::from_secs(3600),
    };
    let (node, address) =
        port(PortLimits { clients, ..PortLimits::default() }, Serving::Wait).await;
    // A request of the same address that is being answered keeps its place.
    let busy = client("127.0.0.1", address, WHOLE).await;
    node.until("the request", |node| node.runtime.served.load(Ordering::Relaxed) == 1).await;
    let mut flood = Vec::new();
    for _ in 0..60 {
        flood.push(client("127.0.0.1", address, HALF).await);
    }
    *node.runtime.serving.lock().unwrap() = Serving::Say;
    for from in ["127.0.0.2", "127.0.0.1"] {
        let said = answer(client(from, address, WHOLE).await).await;
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    }
    node.runtime.go_on.notify_waiters();
    let said = answer(busy).await;
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    assert!(node.count("http_clients_dropped_share") >= 60 - 16);
    assert_eq!(node.count("http_clients_refused_full"), 0);
    // The oldest connection was closed.
    assert_eq!(within("the end", flood[0].read(&mut [0; 1])).await.unwrap_or(0), 0);
}

/// With two places, an idle connection is closed for a newcomer; two busy ones are not.
#[tokio::test]
async fn full_port_closes_idle_connections_first() {
    let clients =
        Bounds { places: 2, crowded: 2, per_address: 2, silent_timeout: Duration::from_secs(3600) };
    let (node, address) = port(PortLimits { clients, ..PortLimits::default() }, Serving::Say).await;
    // This client had its answer, and keeps the connection for its next request.
    let mut idle =
        client("127.0.0.1", address, "GET /path HTTP/1.1\r\nHost: web.shoal\r\n\r\n").await;
    let mut said = Vec::new();
    while !said.ends_with(b"for 127.0.0.1") {
        said.push(within("the answer", idle.read_u8()).await.unwrap());
    }
    *node.runtime.serving.lock().unwrap() = Serving::Wait;
    let mut busy = Vec::new();
    for from in ["127.0.0.2", "127.0.0.3"] {
        busy.push(client(from, address, WHOLE).await);
        let served = 1 + busy.len();
        node.until("the request", |node| node.runtime.served.load(Ordering::Relaxed) == served)
            .await;
    }
    assert_eq!(within("the end", idle.read(&mut [0; 1])).await.unwrap_or(0), 0);
    // Both are busy, and a newcomer closes neither.
    let mut late = client("127.0.0.4", address, WHOLE).await;
    assert_eq!(within("the end", late.read(&mut [0; 1])).await.unwrap_or(0), 0);
    node.runtime.go_on.notify_waiters();
    for client in busy {
        assert!(answer(client).await.starts_with("HTTP/1.1 200 OK"));
    }
    assert_eq!(
        (node.count("http_clients_dropped_full"), node.count("http_clients_refused_full")),
        (1, 1)
    );
}

/// A client reads 2 MiB in small steps, each well within the limit: it is not cut off.
#[tokio::test]
async fn slow_reader_is_served() {
    let limits = PortLimits { write_idle: Duration::from_secs(3), ..PortLimits::default() };
    let (node, address) = port(limits, Serving::Send(2048)).await;
    let mut slow = client("127.0.0.1", address, WHOLE).await;
    let mut len = 0;
    let mut part = vec![0; 64 << 10];
    loop {
        if len < 1 << 20 {
            // The client's speed is what this test is about.
            sleep(Duration::from_millis(100)).await;
        }
        match within("a part", slow.read(&mut part)).await.unwrap() {
            0 => break,
            read => len += read,
        }
    }
    assert!(len > 2 << 20, "{len} bytes of 2 MiB and a head");
    assert_eq!(node.count("http_cut_client"), 0);
}

/// A client sends a request and never reads: its connection is closed, and the counter says on
/// whose account.
#[tokio::test]
async fn stalled_reader_is_cut_and_counted() {
    let limits = PortLimits { write_idle: Duration::from_millis(500), ..PortLimits::default() };
    let (node, address) = port(limits, Serving::Send(64 << 10)).await;
    let stalled = client("127.0.0.1", address, WHOLE).await;
    let cut = async {
        while node.count("http_cut_client") == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within("the cut", cut).await;
    drop(stalled);
}
