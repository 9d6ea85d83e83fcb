//! Requests to real servers on this device: hyper's, and scripts that break off where a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};

use super::*;

/// Far longer than any step takes: a test fails instead of hanging.
const LONG: Duration = Duration::from_secs(60);

fn id() -> InstanceId {
    InstanceId::new("default/web/0").unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "web.shoal").body(shoal_runtimes::body("")).unwrap()
}

fn post(body: impl Into<Bytes>) -> Request<Body> {
    let request = Request::post("/path").header("host", "web.shoal");
    request.body(shoal_runtimes::body(body)).unwrap()
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what} never came"))
}

async fn text(response: Response<Body>) -> String {
    let bytes = within("the whole answer", response.into_body().collect()).await.unwrap();
    String::from_utf8(bytes.to_bytes().to_vec()).unwrap()
}

type Handler = dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// A server on this device, and the number of connections that it accepted.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    async fn new<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |request| Box::pin(handler(request)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let handler = handler.clone();
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(served);
            }
        });
        Server { address, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// A server that reads the head of each request and answers with the next of these texts, then
/// closes the connection.
async fn script(answers: Vec<&'static str>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

fn replicas() -> Replicas {
    Replicas::new(ReplicaLimits { progress: LONG, idle: LONG, ..ReplicaLimits::default() })
}

/// A request and its answer stream: the server gets the first piece before the client has the
/// second, and the client gets the first piece of the answer before the server makes the next.
#[tokio::test]
async fn bodies_stream_both_ways() {
    let server = Server::new(|request| async move {
        let body = request.into_body().map_err(|error| -> BodyError { error.into() });
        Response::new(body.boxed_unsync())
    })
    .await;
    let (pieces, sent) = mpsc::channel::<Bytes>(1);
    let sent = futures::stream::unfold(sent, |mut sent| async move {
        let piece = sent.recv().await?;
        Some((Ok::<_, BodyError>(Frame::data(piece)), sent))
    });
    let request = Request::post("/").header("host", "web.shoal");
    let request = request.body(StreamBody::new(sent).boxed_unsync()).unwrap();
    pieces.send("one".into()).await.unwrap();
    let replicas = replicas();
    let answer = within("the head", replicas.send(&id(), server.address, request)).await.unwrap();
    let mut body = answer.into_body();
    for piece in ["one", "two"] {
        let frame = within("a piece", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
        // The server echoes: it cannot have sent this before.
        if piece == "one" {
            pieces.send("two".into()).await.unwrap();
        }
    }
    drop(pieces);
    assert!(within("the end", body.frame()).await.is_none());
}

/// Requests one after the other use one connection; two at a time use two, which are both kept.
#[tokio::test]
async fn connections_are_reused() {
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let server = Server::new(move |request| {
        let barrier = barrier.clone();
        async move {
            if request.uri().path() == "/both" {
                barrier.wait().await;
            }
            Response::new(shoal_runtimes::body(request.uri().to_string()))
        }
    })
    .await;
    let replicas = replicas();
    let ask = async |path| {
        let answer = replicas.send(&id(), server.address, get(path)).await.unwrap();
        assert_eq!(text(answer).await, path);
    };
    for _ in 0..3 {
        ask("/path?query").await;
    }
    assert_eq!(server.accepted(), 1);
    within("both", futures::future::join(ask("/both"), ask("/both"))).await;
    within("both", futures::future::join(ask("/both"), ask("/both"))).await;
    assert_eq!(server.accepted(), 2);
}

/// Nothing listens: the request comes back whole, so that it can go to another replica.
#[tokio::test]
async fn refused_connection_returns_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let unanswered = replicas().send(&id(), address, post("some")).await.unwrap_err();
    assert!(unanswered.error.untouched() && !unanswered.is_lost, "{unanswered:?}");
    assert!(unanswered.error.to_string().contains("Connection refused"), "{unanswered:?}");
    let body = unanswered.request.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "some");
}

/// A kept connection was closed by the replica meanwhile: the request goes over a new one.
#[tokio::test]
async fn closed_kept_connection_is_replaced() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (address, _seen) = script(vec![answer, answer]).await;
    let replicas = replicas();
    for _ in 0..2 {
        let answer = within("an answer", replicas.send(&id(), address, post("some"))).await;
        assert_eq!(text(answer.unwrap()).await, "ok");
    }
}

/// An idle connection is closed after its time, and the replica's entry is removed.
#[tokio::test]
async fn idle_connections_are_closed() {
    let (closed, mut seen) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        while !all.ends_with(b"\r\n\r\n") {
            all.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        closed.send(stream.read(&mut [0; 1]).await.unwrap()).unwrap();
    });
    let idle = Duration::from_millis(20);
    let replicas = Replicas::new(ReplicaLimits { idle, ..ReplicaLimits::default() });
    assert_eq!(text(replicas.send(&id(), address, get("/")).await.unwrap()).await, "ok");
    assert_eq!(within("the end", seen.recv()).await, Some(0));
    within("the entry's end", async {
        while !replicas.pool.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The replica dies before its answer, or in the middle of it. The request may have had an effect,
/// so it is not returned; half an answer fails instead of looking whole.
#[tokio::test]
async fn replica_that_dies_gives_no_whole_answer() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let (address, _seen) = script(vec!["", half]).await;
    let replicas = replicas();
    let unanswered = replicas.send(&id(), address, get("/")).await.unwrap_err();
    assert!(!unanswered.error.untouched() && unanswered.is_lost, "{unanswered:?}");
    assert!(unanswered.request.is_none());
    assert_eq!(unanswered.error.status(), StatusCode::BAD_GATEWAY);
    let answer = replicas.send(&id(), address, get("/")).await.unwrap();
    let error = within("an end", answer.into_body().collect()).await.unwrap_err();
    assert!(error.to_string().starts_with("the replica broke off its answer"), "{error}");
}

/// A client goes before the answer, or while it reads: the replica's side of the request ends, too.
#[tokio::test]
async fn replica_is_told_that_its_client_is_gone() {
    /// Tells when it is dropped.
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }

    let (begun, mut requests) = mpsc::unbounded_channel();
    let server = Server::new(move |request| {
        let (ended, end) = oneshot::channel();
        begun.send(end).unwrap();
        async move {
            let told = Told(Some(ended));
            if request.uri().path() == "/silent" {
                std::future::pending::<()>().await;
            }
            let endless = futures::stream::repeat_with(move || {
                let _held = &told;
                Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[7; 4096])))
            });
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
    })
    .await;
    let replicas = replicas();
    let id = id();
    let asking = Box::pin(replicas.send(&id, server.address, get("/silent")));
    let arrived = Box::pin(requests.recv());
    let end = match futures::future::select(asking, arrived).await {
        futures::future::Either::Right((Some(end), _asking)) => end,
        _ => panic!("a silent replica answers nothing"),
    };
    within("the end of the silent one", end).await.unwrap();

    let mut body = replicas.send(&id, server.address, get("/")).await.unwrap().into_body();
    let end = requests.recv().await.unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    within("the end of the endless one", end).await.unwrap();
}

/// A replica that never answers, and one that stops in the middle, are named after their time.
#[tokio::test]
async fn stalled_replica_is_named() {
    let server = Server::new(|request| async move {
        if request.uri().path() == "/silent" {
            std::future::pending::<()>().await;
        }
        let first = futures::stream::iter([Ok::<_, BodyError>(Frame::data("half".into()))]);
        let stalls = futures::StreamExt::chain(first, futures::stream::pending());
        Response::new(StreamBody::new(stalls).boxed_unsync())
    })
    .await;
    let progress = Duration::from_millis(100);
    let replicas = Replicas::new(ReplicaLimits { progress, ..ReplicaLimits::default() });
    let asked = within("an error", replicas.send(&id(), server.address, get("/silent"))).await;
    let unanswered = asked.unwrap_err();
    assert_eq!(unanswered.error.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        unanswered.error.to_string(),
        "`default/web/0` is too slow: the replica gave no answer for 0.1 s"
    );
    assert!(!unanswered.is_lost);
    let answer = replicas.send(&id(), server.address, get("/")).await.unwrap();
    let error = within("an error", answer.into_body().collect()).await.unwrap_err();
    assert_eq!(error.to_string(), "the replica sent nothing more for 0.1 s");
}

/// Two requests at a time and one that waits: the fourth comes back at once. The one that waited is
/// answered once another has ended.
#[tokio::test]
async fn excess_requests_come_back_untouched() {
    let (begun, mut requests) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    let released = go_on.clone();
    let server = Server::new(move |_| {
        begun.send(()).unwrap();
        let released = released.clone();
        async move {
            released.notified().await;
            Response::new(shoal_runtimes::body("ok"))
        }
    })
    .await;
    let limits =
        ReplicaLimits { concurrent: 2, waiting: 1, progress: LONG, ..ReplicaLimits::default() };
    let replicas = Arc::new(Replicas::new(limits));
    let ask = || {
        let (replicas, address) = (replicas.clone(), server.address);
        async move { replicas.send(&id(), address, post("some")).await }
    };
    let under_way = [tokio::spawn(ask()), tokio::spawn(ask())];
    for _ in 0..2 {
        within("a request", requests.recv()).await.unwrap();
    }
    let mut waiting = Box::pin(ask());
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let unanswered = ask().await.unwrap_err();
    assert!(matches!(unanswered.error, ServeError::Busy { limit: 3, .. }), "{unanswered:?}");
    assert!(unanswered.error.untouched() && unanswered.request.is_some());
    go_on.notify_waiters();
    for asked in under_way {
        assert_eq!(text(within("an answer", asked).await.unwrap().unwrap()).await, "ok");
    }
    go_on.notify_one();
    assert_eq!(text(within("its turn", waiting).await.unwrap()).await, "ok");
}

/// A client names the whole URL, and speaks HTTP/1.0: the replica's server sees a path, the URL's
/// host and HTTP/1.1. An old server's answer without a length is read to its end.
#[tokio::test]
async fn request_looks_as_servers_expect_it() {
    let (address, mut seen) = script(vec!["HTTP/1.0 200 OK\r\n\r\nold"]).await;
    let request = Request::get("http://web.shoal/a?b").version(Version::HTTP_10);
    let request = request.header("host", "other.shoal").body(shoal_runtimes::body("")).unwrap();
    let answer = replicas().send(&id(), address, request).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
    assert_eq!(text(answer).await, "old");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: web.shoal\r\n"), "{head}");
}

/// Bytes that are no request for a server, or no answer for a client.
#[tokio::test]
async fn senseless_requests_and_answers_are_refused() {
    let (address, _seen) = script(vec!["HTTP/1.1 101 Switching Protocols\r\n\r\n"]).await;
    let replicas = replicas();
    let empty = || Empty::new().map_err(|never| match never {}).boxed_unsync();
    for request in [
        Request::connect("web.shoal:80").body(empty()).unwrap(),
        Request::get("/").body(empty()).unwrap(),
    ] {
        let unanswered = replicas.send(&id(), address, request).await.unwrap_err();
        assert_eq!(unanswered.error.status(), StatusCode::BAD_REQUEST);
    }
    let unanswered = replicas.send(&id(), address, get("/")).await.unwrap_err();
    assert_eq!(unanswered.error.status(), StatusCode::BAD_GATEWAY, "{unanswered:?}");
}
