use std::sync::Arc;

use futures::StreamExt;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use shoal_protocol::model::view::ExplainView;
use shoal_protocol::model::{
    Artifact, ClusterId, Digest, NodeId, PublicKey, Spec, SpecForm, codec,
};
use shoal_protocol::node::{Command, Draft, Refusal, Reply};
use shoal_runtimes::artifacts::{ArtifactStore, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::form::{PrepareBody, SpecBody};
use super::*;
use crate::cli::client::Client;
use crate::embed::NodeDoor;
use crate::executor::executor;
use crate::fakes::{
    FakeCore, FakeMesh, FakeRuntime, NODE, OTHER, replica, replica_view, spec, workload_view,
};
use crate::ingress::peers::Peers;
use crate::ingress::{Ingress, server};
use crate::network::Acceptor;
use crate::publish::{Founding, Part, Ready, Workload, publish};

mod images;
mod secrets;

pub(super) struct World {
    _folder: tempfile::TempDir,
    pub(super) core: Arc<FakeCore>,
    runtime: Arc<FakeRuntime>,
    mesh: Arc<FakeMesh>,
    pub(super) service: Service,
    pub(super) down: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::of(NODE, Arc::default()).await
    }

    pub(super) async fn of(node: NodeId, mesh: Arc<FakeMesh>) -> Self {
        Self::with_room(node, mesh, Limits::default().bytes).await
    }

    /// With `bytes` of room for artifacts.
    async fn with_room(node: NodeId, mesh: Arc<FakeMesh>, bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (core, runtime) = (FakeCore::new(), FakeRuntime::new());
        let limits = Limits { keep_free: 0, bytes, ..Limits::default() };
        let artifacts = ArtifactStore::open(folder.path(), limits).await.unwrap();
        let about = About {
            node,
            state: "/var/lib/shoal".into(),
            cluster: ClusterId([3; 32]),
            root: PublicKey([4; 32]),
            mesh: "10.0.0.5:7700".into(),
            http: "0.0.0.0:8080".into(),
            addresses: Arc::new(|| Ok(vec!["10.0.0.5:7700".into()])),
        };
        let down = CancellationToken::new();
        let (mut sink, waiting) = executor();
        let host = crate::executor::Host { node, name: "n1".into() };
        let values = Arc::new(crate::fakes::FakeValues::default());
        let directory = waiting.start(host, runtime.set(), values, Arc::new(NoReports)).directory();
        // The executor is gone; the tests only need its directory and its order sink.
        crate::driver::Orders::order(
            &mut sink,
            shoal_protocol::node::Order::Stop { replica: replica(9) },
        );
        let peers = Peers::new(mesh.clone());
        let service = Service::new(
            core.clone(),
            peers,
            runtime.set(),
            artifacts,
            directory,
            about,
            down.clone(),
        );
        World { _folder: folder, core, runtime, mesh, service, down }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap();
        let router =
            hyper_util::service::TowerToHyperService::new(routes::all(self.service.clone()));
        let response = hyper::service::Service::call(&router, request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.call(Method::GET, path, "").await
    }
}

struct NoReports;

impl crate::executor::Reports for NoReports {
    fn report(&self, _: shoal_protocol::node::Report) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A status has the core's view, the daemon's counters and the runtime's instances; the metrics
/// have the same counters.
#[tokio::test]
async fn status_merges_core_view_and_daemon_counters() {
    let world = World::new().await;
    let (status, text) = world.get("/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (body["nodes_up"].as_u64(), body["mesh"].as_str()),
        (Some(2), Some("10.0.0.5:7700"))
    );
    assert_eq!(body["counters"]["messages"], 7);
    assert_eq!(body["counters"]["net_bytes_sent"], 5);
    assert_eq!(body["pid"].as_u64(), Some(std::process::id().into()));
    assert_eq!(body["instances"], 0);
    let (_, metrics) = world.get("/metrics").await;
    assert!(metrics.contains("\nshoal_net_bytes_sent_total 5\n"), "{metrics}");
}

/// A name with a slip, or of another namespace, gets a hint; invalid names, paths and queries are
/// refused with what is wrong.
#[tokio::test]
async fn unknown_name_is_refused_with_nearest_name() {
    let world = World::new().await;
    let mut far = workload_view("till", vec![]);
    far.namespace = "shop".into();
    world.core.show(vec![workload_view("hello", vec![]), far]);
    for (path, near) in
        [("default/helo", "hello"), ("default/till", "shop/till"), ("shop/til", "shop/till")]
    {
        let (status, text) = world.get(&format!("/v1/workloads/{path}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let body: form::ErrorBody = serde_json::from_str(&text).unwrap();
        assert_eq!(body.error.code, "no-such-workload");
        assert_eq!(body.error.hint.unwrap(), format!("Did you mean `{near}`?"));
    }
    let (status, text) = world.get("/v1/workloads/default/Hello").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    let (status, text) = world.get("/v2/x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("no-such-path"), "{text}");
    let (status, text) = world.get("/v1/workloads?wach=true").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.contains("wach"), "{text}");
}

/// A spec goes to the core as it was sent, and the draft comes back; malformed changes and unknown
/// fields are refused.
#[tokio::test]
async fn prepare_takes_json_and_submit_takes_hex() {
    let world = World::new().await;
    let web = spec("shop/web", 2);
    let draft = Draft {
        clock: [(shoal_protocol::model::WriterId([6; 32]), 4)].into(),
        serial: 5,
        uid: Some(Digest([8; 32])),
    };
    world.core.replies.lock().unwrap().push(Reply::Prepared {
        draft,
        current: Some(web.clone()),
        unheard: vec!["n0".into()],
        is_good: true,
        warnings: Vec::new(),
        versions: Vec::new(),
    });
    let body =
        PrepareBody { name: "shop/web".into(), spec: Some(SpecBody::from(&web)), force: true };
    let (status, text) =
        world.call(Method::POST, "/v1/prepare", &serde_json::to_string(&body).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let prepared: form::PreparedBody = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (prepared.serial, prepared.clock[&"06".repeat(32)], prepared.cluster),
        (5, 4, ClusterId([3; 32]))
    );
    assert_eq!((prepared.current, prepared.unheard), (body.spec, vec!["n0".into()]));
    let commands = std::mem::take(&mut *world.core.commands.lock().unwrap());
    let [Command::Prepare { force: true, spec: Some(sent), .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(*sent, web);

    for (change, message) in [("xyz", "not hexadecimal"), ("00", "malformed")] {
        let (status, text) =
            world.call(Method::POST, "/v1/submit", &format!("{{\"change\":\"{change}\"}}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text.contains(message), "{text}");
    }
    let (status, text) = world.call(Method::POST, "/v1/prepare", "{\"nam\":1}").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.contains("unknown field `nam`"), "{text}");
}

/// A program writes a field that other orchestrators have: the API refused it as unknown, as if it
/// were a slip. It is refused by its name, as in a manifest; a slip still gets the known fields.
#[tokio::test]
async fn prepare_refuses_later_fields_as_not_supported() {
    let world = World::new().await;
    let body = PrepareBody::from(Proposal {
        name: "web".parse().unwrap(),
        spec: Some(spec("web", 1)),
        force: false,
    });
    for (field, expected) in [
        ("hosts", "hosts: not supported yet by this version of shoal"),
        ("replica", "unknown field `replica`, expected one of `name`"),
    ] {
        let mut json = serde_json::to_value(&body).unwrap();
        json["spec"][field] = serde_json::json!({});
        let (status, text) = world.call(Method::POST, "/v1/prepare", &json.to_string()).await;
        let refused: form::ErrorBody = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, refused.error.code.as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
        );
        assert!(refused.error.message.contains(expected), "{text}");
    }
    assert!(world.core.commands.lock().unwrap().is_empty(), "the core hears of none");
}

/// The same workload is published by a program that embeds the node, and over the socket with its
/// JSON and its digits: the node must get the same signed bytes.
#[tokio::test]
async fn embedded_and_http_publish_make_equal_changes() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let founding = Founding::draw().unwrap();
    let operator = founding.establish(folder.path(), "founder").unwrap();
    let mut service = world.service.clone();
    service.about.cluster = operator.cluster();
    let bytes = axum::body::Bytes::from_static(b"a component");
    service.artifacts.put(bytes.clone()).await.unwrap();
    let artifact = Artifact { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let workload = Workload::wasm("shop/web", bytes.clone()).unwrap().replicas(3).memory(32 << 20);
    let workload = workload.cpu(250).env("GREETING", "\"hi\"\n").require("zone", "front");
    let ready = Ready {
        spec: workload.spec(Some(artifact)).unwrap(),
        parts: vec![Part::bytes(artifact, bytes)],
    };

    let path = folder.path().join("api.sock");
    let stop = CancellationToken::new();
    tokio::spawn(Socket::bind(&path).unwrap().serve(service.clone(), stop.clone()));
    let prepared = Reply::Prepared {
        draft: Draft {
            clock: [(shoal_protocol::model::WriterId([6; 32]), 4)].into(),
            serial: 5,
            uid: Some(Digest([8; 32])),
        },
        current: Some(spec("shop/web", 1)),
        unheard: Vec::new(),
        is_good: true,
        warnings: Vec::new(),
        versions: Vec::new(),
    };
    let accepted = Reply::Accepted { uid: Digest([8; 32]), change: Digest([9; 32]) };
    // The first reply is to the note that the artifact is here.
    let script = [Reply::Done, prepared, accepted];
    let submitted = || {
        let commands = std::mem::take(&mut *world.core.commands.lock().unwrap());
        let [_, Command::Prepare { spec: Some(sent), .. }, Command::Submit { change }] =
            &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!(*sent, ready.spec);
        codec::encode(change)
    };
    world.core.replies.lock().unwrap().extend(script.clone());
    let embedded = publish(&NodeDoor(&service), &operator, &ready, false).await.unwrap();
    let embedded_bytes = submitted();
    world.core.replies.lock().unwrap().extend(script);
    let over_http = publish(&Client::new(path), &operator, &ready, false).await.unwrap();
    assert_eq!(submitted(), embedded_bytes);
    assert_eq!(over_http, embedded);
    stop.cancel();
}

/// Scripts go by status and code, people by the hint.
#[tokio::test]
async fn refusal_has_status_code_and_hint() {
    let world = World::new().await;
    let body = serde_json::to_string(&PrepareBody { name: "web".into(), spec: None, force: false })
        .unwrap();
    for (refusal, status, code) in [
        (Refusal::Stale, StatusCode::CONFLICT, "stale"),
        (
            Refusal::Unplaceable(vec!["3 nodes: 2 TiB of memory required".into()]),
            StatusCode::UNPROCESSABLE_ENTITY,
            "unplaceable",
        ),
        (Refusal::ReadOnly("no space left".into()), StatusCode::SERVICE_UNAVAILABLE, "read-only"),
        (
            Refusal::NotJoined("no seed answers".into()),
            StatusCode::SERVICE_UNAVAILABLE,
            "not-joined",
        ),
        (
            Refusal::NoSuchWorkload("web".parse().unwrap()),
            StatusCode::NOT_FOUND,
            "no-such-workload",
        ),
    ] {
        world.core.replies.lock().unwrap().push(Reply::Refused(refusal));
        let (answered, text) = world.call(Method::POST, "/v1/prepare", &body).await;
        let body: form::ErrorBody = serde_json::from_str(&text).unwrap();
        assert_eq!((answered, body.error.code.as_str()), (status, code));
        assert!(body.error.hint.is_some(), "{text}");
    }
}

/// Bytes that are not WebAssembly, and bytes with another hash than the path says, are refused and
/// not kept, and the core does not hear of them.
#[tokio::test]
async fn upload_is_refused_if_digest_differs_or_not_wasm() {
    let world = World::new().await;
    world.core.replies.lock().unwrap().push(Reply::Done);
    let text = "just a text file";
    let name = Digest::of(text.as_bytes());
    let (status, said) = world.call(Method::PUT, &format!("/v1/artifacts/{name}"), text).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(said.contains("not WebAssembly"), "{said}");
    assert_eq!(world.get(&format!("/v1/artifacts/{name}")).await.0, StatusCode::NOT_FOUND);
    let (status, said) =
        world.call(Method::PUT, &format!("/v1/artifacts/{}", Digest([1; 32])), text).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(said.contains("nothing was kept"), "{said}");
    assert_eq!(
        world.call(Method::HEAD, &format!("/v1/artifacts/{name}"), "").await.0,
        StatusCode::NOT_FOUND
    );
    assert!(
        world.core.commands.lock().unwrap().is_empty(),
        "the core hears of nothing that was refused"
    );
}

/// A watch of one workload sends its view, then a line for each change of it, and ends when the
/// workload is gone.
#[tokio::test]
async fn watch_sends_current_view_then_only_changes() {
    let world = World::new().await;
    let view = |phase| workload_view("web", vec![replica_view("web/0", phase, Some("n2"))]);
    world.core.show(vec![view("starting")]);
    let name = "web".parse().unwrap();
    let (core, looked) = (world.service.core.clone(), name);
    let look = move || {
        let (core, name): (_, shoal_protocol::model::WorkloadName) =
            (core.clone(), Clone::clone(&looked));
        async move { core.workload(name).await.ok().flatten() }
    };
    let mut views = std::pin::pin!(super::follow::follow(world.service.core.clone(), look));
    assert_eq!(views.next().await.unwrap().replicas[0].phase, "starting");
    // A change of another workload sends nothing; the next one of this workload does.
    world.core.show(vec![view("starting"), workload_view("other", vec![])]);
    let next = tokio::spawn({
        let core = world.core.clone();
        let view = view("healthy");
        async move { core.show(vec![view]) }
    });
    assert_eq!(views.next().await.unwrap().replicas[0].phase, "healthy");
    next.await.unwrap();
    world.core.show(vec![]);
    assert!(views.next().await.is_none(), "it ends when the workload is gone");
}

/// A reader falls behind the channel: it reads the missed events from the history, each once.
#[tokio::test]
async fn lagging_reader_gets_each_event_once_in_order() {
    let world = World::new().await;
    let event = |seq| {
        Arc::new(shoal_protocol::model::view::EventView {
            seq,
            at: String::new(),
            level: "info".into(),
            kind: "test".into(),
            subject: None,
            namespace: None,
            node: None,
            message: String::new(),
        })
    };
    world.core.history.lock().unwrap().extend((1..=3).map(event));
    let mut events = world.service.events(1);
    assert_eq!(events.next().await.unwrap().seq, 2);
    // More events than the channel holds.
    for seq in 4..=9 {
        world.core.history.lock().unwrap().push(event(seq));
        let _ = world.core.events.send(event(seq));
    }
    for seq in 3..=9 {
        assert_eq!(events.next().await.unwrap().seq, seq);
    }
}

/// The replica and its auction are on another node, which is asked through a tunnel. A dead node is
/// passed over for auctions, and named for logs.
#[tokio::test]
async fn logs_and_auctions_come_from_the_node_that_has_them() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (World::of(NODE, mesh.clone()).await, World::of(OTHER, mesh.clone()).await);
    let tunnels = Acceptor::new(mesh.take(OTHER));
    let ingress =
        Ingress::new("n2", there.core.clone(), there.runtime.set(), Peers::new(mesh.clone()));
    let api = Arc::new(ForPeers::new(there.service.clone()));
    tokio::spawn(server::serve_tunnels(tunnels, Arc::new(ingress), api, CancellationToken::new()));

    let place = |ask: Vec<String>| ExplainView {
        replica: "web/0".into(),
        now: vec![replica_view("web/0", "healthy", Some("n2"))],
        auctions: vec![],
        ask,
        unfit: None,
    };
    *here.core.explain.lock().unwrap() =
        Some(place(vec![OTHER.to_string(), NodeId([8; 32]).to_string()]));
    let mut known = place(vec![]);
    known.now[0].reason = Some("its artifact could not be fetched".into());
    known.auctions.push(shoal_protocol::model::view::AuctionView {
        auction: "a-1.1".into(),
        replica: "web/0".into(),
        why: "never placed".into(),
        owner: "n2".into(),
        opened: "2026-11-21T03:00:00.000Z".into(),
        took_ms: 2.0,
        bids: vec![],
        declines: vec![],
        not_asked: vec![],
        winner: Some("n2".into()),
        token: Some(1),
        outcome: "the only bid".into(),
    });
    *there.core.explain.lock().unwrap() = Some(known);
    let (status, text) = here.get("/v1/explain/default/web/0").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let view: ExplainView = serde_json::from_str(&text).unwrap();
    assert_eq!(
        view.auctions.len(),
        1,
        "what the other knows is merged; one that is gone is passed over"
    );
    assert_eq!(
        view.now[0].reason.as_deref(),
        Some("its artifact could not be fetched"),
        "its own node says why"
    );

    for world in [&here, &there] {
        *world.core.holders.lock().unwrap() = vec![(OTHER, replica(0))];
    }
    let (status, text) = here.get("/v1/logs/default/web/0?lines=5").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, ""), "it runs there and has said nothing");
    *here.core.holders.lock().unwrap() = vec![(NodeId([8; 32]), replica(0))];
    let (status, text) = here.get("/v1/logs/default/web/0").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("cannot be asked: there is no link"), "{text}");
    // Requests that change something are not served through a tunnel.
    let post =
        Request::post("http://api.node.internal/v1/down").header("host", "api.node.internal");
    let answer =
        Peers::new(mesh).send(OTHER, post.body(shoal_runtimes::body("")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(!there.down.is_cancelled());
    drop(here.mesh.clone());
}

/// `shoal rm` asks the nodes that ran a workload until nothing of it runs. One that is down cannot
/// be asked, and need not be waited for.
#[tokio::test]
async fn node_tells_what_of_a_workload_still_runs() {
    let mesh = Arc::new(FakeMesh::default());
    let (here, there) = (World::of(NODE, mesh.clone()).await, World::of(OTHER, mesh.clone()).await);
    let tunnels = Acceptor::new(mesh.take(OTHER));
    let ingress =
        Ingress::new("n2", there.core.clone(), there.runtime.set(), Peers::new(mesh.clone()));
    let api = Arc::new(ForPeers::new(there.service.clone()));
    tokio::spawn(server::serve_tunnels(tunnels, Arc::new(ingress), api, CancellationToken::new()));
    let uid = replica(0).uid;
    let path = |node: NodeId| format!("/v1/running/{uid}/{node}");
    let (status, text) = here.get(&path(OTHER)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("not-up"), "{text}");
    *here.core.nodes.lock().unwrap() = vec![crate::fakes::node_view(OTHER, "n2")];
    for node in [NODE, OTHER] {
        let (status, text) = here.get(&path(node)).await;
        assert_eq!((status, text.trim()), (StatusCode::OK, r#"{"places":[]}"#));
    }
    let (status, _) = here.get(&format!("/v1/running/xyz/{OTHER}")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    drop(here.mesh.clone());
}

/// The store was told what must stay when something was fetched, not when something was uploaded:
/// where all came by upload the artifact of a running workload was evicted.
#[tokio::test]
async fn upload_never_evicts_pinned_artifacts() {
    let world = World::with_room(NODE, Arc::default(), 100).await;
    let needed = world.service.artifacts.put("bytes of what runs here ".repeat(3)).await.unwrap();
    world.core.pinned.lock().unwrap().insert(needed);
    let text = "bytes that nobody has published yet";
    let (status, said) = world
        .call(Method::PUT, &format!("/v1/artifacts/{}", Digest::of(text.as_bytes())), text)
        .await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{said}");
    assert!(world.service.holds(&needed).is_some());
    // An artifact that is no longer pinned makes room.
    world.core.pinned.lock().unwrap().clear();
    let (status, _) = world
        .call(Method::PUT, &format!("/v1/artifacts/{}", Digest::of(text.as_bytes())), text)
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "there is room; it is no component");
    assert!(world.service.holds(&needed).is_none());
}

/// A workload was removed and published again: its bytes were here and not sent again, so no node
/// knew who had them.
#[tokio::test]
async fn prepare_reports_present_artifact_as_uploaded() {
    let world = World::new().await;
    let digest = world.service.artifacts.put("bytes").await.unwrap();
    let web = SpecForm::from(spec("web", 1)).with_artifact(Artifact { digest, size: 5 });
    let web = Spec::try_from(web).unwrap();
    let proposal = Proposal { name: web.name.clone(), spec: Some(web), force: false };
    // The core refuses both commands: the test gave no reply.
    world.service.prepare(proposal).await.unwrap_err();
    let commands = world.core.commands.lock().unwrap();
    let [Command::Uploaded { artifact, .. }, Command::Prepare { .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(artifact.digest, digest);
}

/// The core is too busy for an upload: the client learns why, and need not send the bytes again.
#[tokio::test]
async fn refused_upload_says_why_and_keeps_the_bytes() {
    let world = World::new().await;
    // Too large to be inspected, so it reaches the core.
    let bytes = vec![0; (64 << 20) + 1];
    let digest = Digest::of(&bytes);
    world
        .core
        .replies
        .lock()
        .unwrap()
        .push(Reply::Refused(Refusal::Busy("256 uploads are being made ready".into())));
    let request = Request::put(format!("/v1/artifacts/{digest}"))
        .body(axum::body::Body::from(bytes))
        .unwrap();
    let router = hyper_util::service::TowerToHyperService::new(routes::all(world.service.clone()));
    let response = hyper::service::Service::call(&router, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: form::ErrorBody = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.error.code, "busy");
    assert!(body.error.message.contains("256 uploads are being made ready"), "{body:?}");
    assert!(world.service.holds(&digest).is_some(), "the next try need not send it again");
}

/// Invites are made from the node's addresses and by its clock; `down` answers at once and asks the
/// node to stop.
#[tokio::test]
async fn meeting_names_this_node_and_down_requests_stop() {
    let world = World::new().await;
    let (_, text) = world.get("/v1/meeting").await;
    let body: form::MeetingBody = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (body.cluster, body.addresses, body.trouble),
        (ClusterId([3; 32]), vec!["10.0.0.5:7700".to_owned()], None)
    );
    assert!(!world.down.is_cancelled());
    let (status, text) = world.call(Method::POST, "/v1/down", "").await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::ACCEPTED, r#"{"stopping":true,"state":"/var/lib/shoal"}"#)
    );
    assert!(world.down.is_cancelled());
}

/// A socket of an earlier daemon is replaced, and its file removed at the end; a file of any other
/// kind is an error.
#[tokio::test]
async fn socket_replaces_stale_socket_but_no_other_file() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a socket that nobody listens on");
    let socket = Socket::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(socket.serve(world.service.clone(), stop.clone()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client
        .write_all(b"GET /v1/meeting HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    stop.cancel();
    serving.await.unwrap();
    assert!(!path.exists());

    std::fs::write(&path, "a file of somebody's").unwrap();
    assert!(matches!(Socket::bind(&path), Err(SocketError::InTheWay(_))));
    assert!(matches!(
        Socket::bind(&folder.path().join("x".repeat(200))),
        Err(SocketError::TooLong(_))
    ));
    assert_eq!(std::fs::read(&path).unwrap()[..1], *b"a");
}

/// An invite was printed with an address that was gone, and carried to other devices in vain.
#[tokio::test]
async fn unreachable_node_says_why() {
    let mut world = World::new().await;
    let trouble = "10.0.0.5:7700, where this node listens, is no address of this device";
    world.service.about.addresses = Arc::new(move || Err(trouble.to_owned()));
    let (_, text) = world.get("/v1/meeting").await;
    let body: form::MeetingBody = serde_json::from_str(&text).unwrap();
    assert_eq!((body.addresses.len(), body.trouble.as_deref()), (0, Some(trouble)));
}

/// A group may use the socket and pass through the folder, and nothing else; once it may not, the
/// folder is closed again.
#[tokio::test]
async fn socket_is_for_its_owner_or_for_a_group() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let (state, path) = (folder.path(), folder.path().join("api.sock"));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = Socket::bind(&path).unwrap();
    socket.open_to(None, state).unwrap();
    assert_eq!((mode(state), mode(&path)), (0o700, 0o600));
    // A group that this process may give things to, whoever runs it.
    let own = path.metadata().unwrap().gid().to_string();
    socket.open_to(Some(&own), state).unwrap();
    assert_eq!((mode(state), mode(&path)), (0o710, 0o660));
    drop(socket);
    Socket::bind(&path).unwrap().open_to(None, state).unwrap();
    assert_eq!(mode(state), 0o700);
    let none = Socket::bind(&path).unwrap().open_to(Some("no such group"), state).unwrap_err();
    assert!(none.to_string().contains("no group `no such group`"), "{none}");
}
