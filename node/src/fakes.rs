//! Fakes of the daemon's surroundings for tests: a runtime, a core, a mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use shoal_protocol::model::access::Exec;
use shoal_protocol::model::spec::{Health, HostPort};
use shoal_protocol::model::view::{
    AdmissionView, EventView, ExplainView, NodeView, OperatorView, QuotaView, ReadersView,
    ReplicaView, RevokedView, ServiceView, StatusView, ValueView, WorkloadView,
};
use shoal_protocol::model::{
    Artifact, Chain, Digest, InstanceState, Key, Label, NodeId, Place, PublicKey, RawChange,
    ReplicaId, ReplicaName, Resources, SealingKey, Spec, SpecForm, Value, WorkloadName,
};
use shoal_protocol::node::{Command, ImageUse, NotForIt, Refusal, Reply, Routes};
use shoal_runtimes::given::Given;
use shoal_runtimes::logs::{LogLine, LogStream, Tail};
use shoal_runtimes::session::{Control, Doors, Output, Process, SessionError, Sessions};
use shoal_runtimes::{
    Body, BodyError, DeviceError, Endpoint, Instance, InstanceId, Launch, LogsError, PrepareError,
    Runtime, ServeError, Service, StartError, StatusHandle, StatusTable, Usage, body,
};
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::api::{Core, Soon};
use crate::network::{Incoming, Mesh, MeshStream, OpenError, Purpose};
use crate::runtimes::RuntimeSet;
use crate::secrets::{NoValues, Values};

/// Far longer than any step takes; on a paused clock it is over as soon as nothing else happens.
pub const LONG: Duration = Duration::from_secs(3600);
pub const NODE: NodeId = NodeId([1; 32]);
pub const OTHER: NodeId = NodeId([2; 32]);

pub fn spec(name: &str, replicas: u32) -> Spec {
    Spec::try_from(SpecForm::wasm_service(
        name.parse().unwrap(),
        Artifact { digest: Digest([7; 32]), size: 10 },
        replicas,
        Resources { memory: 64 << 20, cpu: 100 },
    ))
    .unwrap()
}

pub fn replica(index: u32) -> ReplicaId {
    ReplicaId { uid: Digest([9; 32]), place: Place::Ordinal(index) }
}

/// The values of replicas, as a test sets them; nothing for the reason why they lack some.
pub struct FakeValues(pub Mutex<Result<Given, NoValues>>);

impl Default for FakeValues {
    fn default() -> Self {
        FakeValues(Mutex::new(Ok(Given::default())))
    }
}

impl Values for FakeValues {
    fn resolve<'a>(&'a self, _: &'a Spec) -> BoxFuture<'a, Result<Given, NoValues>> {
        let found = self.0.lock().unwrap().clone();
        async { found }.boxed()
    }
}

/// A runtime on a real status table. The outcome of a start is set beforehand.
pub struct FakeRuntime {
    me: Weak<FakeRuntime>,
    kind: &'static str,
    board: StatusTable,
    seats: Mutex<BTreeMap<InstanceId, StatusHandle>>,
    pub on_start: Mutex<OnStart>,
    /// Instances that it does not run, and whose lines it finds in files.
    pub files: Mutex<BTreeSet<InstanceId>>,
    /// Instances whose stop hangs.
    pub stuck: Mutex<BTreeSet<String>>,
    pub found: Mutex<Vec<Instance>>,
    /// The next list fails.
    pub silent: AtomicBool,
    /// The calls so far, in order.
    pub calls: Mutex<Vec<String>>,
    /// The last launch.
    pub launched: Mutex<Option<Launch>>,
    called: watch::Sender<usize>,
    /// Requests served.
    pub served: AtomicUsize,
    pub busy: Mutex<bool>,
    pub serving: Mutex<Serving>,
    /// Releases waiting requests.
    pub go_on: Notify,
    /// The exit code of commands in instances; none while they do not end.
    pub exits: Mutex<Option<i64>>,
    /// Commands that were run.
    pub executed: watch::Sender<usize>,
    /// The probes that instances bring with them.
    pub own_probes: Mutex<Option<Health>>,
}

/// The response to a request.
#[derive(Clone, Copy, Default)]
pub enum Serving {
    /// The request's own method, path and client.
    #[default]
    Say,
    /// The length of the request's body, once it has arrived.
    Count,
    /// The same as `Say`, once [`FakeRuntime::go_on`] is notified.
    Wait,
    /// This many KiB.
    Send(usize),
    /// Nothing, with this status.
    Status(u16),
    /// No answer ever comes.
    Never,
}

/// The behaviour of a start.
#[derive(Clone)]
pub enum OnStart {
    Run,
    Fail(&'static str),
    Hang,
    Wait,
}

impl FakeRuntime {
    /// A runtime for the programs of [`spec`].
    pub fn new() -> Arc<Self> {
        Self::of_kind("wasm")
    }

    pub fn of_kind(kind: &'static str) -> Arc<Self> {
        Arc::new_cyclic(|me| FakeRuntime {
            me: me.clone(),
            kind,
            board: StatusTable::new(),
            seats: Mutex::default(),
            on_start: Mutex::new(OnStart::Run),
            files: Mutex::default(),
            stuck: Mutex::default(),
            found: Mutex::default(),
            silent: AtomicBool::new(false),
            calls: Mutex::default(),
            launched: Mutex::default(),
            called: watch::Sender::new(0),
            served: AtomicUsize::new(0),
            busy: Mutex::new(false),
            serving: Mutex::default(),
            go_on: Notify::new(),
            exits: Mutex::new(Some(0)),
            executed: watch::Sender::new(0),
            own_probes: Mutex::default(),
        })
    }

    fn call(&self, what: String) {
        self.calls.lock().unwrap().push(what);
        self.called.send_modify(|count| *count += 1);
    }

    /// Waits for this many calls, and returns all so far.
    pub async fn calls(&self, count: usize) -> Vec<String> {
        let mut called = self.called.subscribe();
        let made = called.wait_for(|made| *made >= count);
        let in_time = tokio::time::timeout(LONG, made).await.is_ok();
        let calls = self.calls.lock().unwrap().clone();
        assert!(in_time, "{count} calls were expected: {calls:?}");
        calls
    }

    /// Sets the state of an instance, as a starting or failing guest would.
    pub fn tell(&self, id: &InstanceId, state: InstanceState) {
        let seats = self.seats.lock().unwrap();
        match state {
            InstanceState::Starting => panic!("an instance that was begun is starting"),
            InstanceState::Waiting { reason } => seats[id].waiting(reason),
            InstanceState::Running => seats[id].running(self.guest(id)),
            InstanceState::Failed { reason, retryable } => seats[id].failed(reason, retryable),
            InstanceState::Done { exit_code, lines } => seats[id].done(exit_code, lines),
            InstanceState::Stopped => seats[id].stopped(),
        }
    }

    /// An instance does not go on for now.
    pub fn pause(&self, id: &InstanceId) {
        self.seats.lock().unwrap()[id].paused("paused");
    }

    /// The endpoint of an instance that runs in this process.
    fn guest(&self, id: &InstanceId) -> Endpoint {
        let guest = FakeGuest { runtime: self.me.clone(), id: id.clone() };
        Endpoint::InProcess(Arc::new(guest))
    }

    /// Makes an instance run without an order.
    pub fn run(&self, id: InstanceId) {
        let endpoint = self.guest(&id);
        self.run_as(id, endpoint);
    }

    /// Makes an instance run with a server at `address`.
    pub fn run_at(&self, id: InstanceId, address: SocketAddr) {
        self.run_as(id, Endpoint::Tcp(address));
    }

    fn run_as(&self, id: InstanceId, endpoint: Endpoint) {
        let seat = self.board.begin(id.clone());
        seat.running(endpoint);
        self.seats.lock().unwrap().insert(id, seat);
    }

    /// A set of this runtime alone.
    pub fn set(&self) -> RuntimeSet {
        RuntimeSet::new([self.me.upgrade().unwrap() as Arc<dyn Runtime>])
    }

    async fn serve(
        &self,
        id: InstanceId,
        request: Request<Body>,
    ) -> Result<Response<Body>, ServeError> {
        if *self.busy.lock().unwrap() {
            return Err(ServeError::Busy { id, limit: 1 });
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        let serving = *self.serving.lock().unwrap();
        match serving {
            Serving::Say => {}
            Serving::Wait => self.go_on.notified().await,
            Serving::Count => {
                let half = |error: BodyError| ServeError::Client {
                    id,
                    reason: format!("got half a request: {error}"),
                };
                let sent = request.into_body().collect().await.map_err(half)?.to_bytes();
                return Ok(Response::new(body(sent.len().to_string())));
            }
            Serving::Status(code) => {
                return Ok(Response::builder().status(code).body(body(String::new())).unwrap());
            }
            Serving::Never => return std::future::pending().await,
            Serving::Send(kib) => {
                let parts = (0..kib).map(|_| Ok(Frame::data(Bytes::from_static(&[b'x'; 1024]))));
                let parts = StreamBody::new(futures::stream::iter(parts));
                return Ok(Response::new(parts.boxed_unsync()));
            }
        }
        let forwarded =
            request.headers().get("x-forwarded-for").map(|value| value.to_str().unwrap());
        let said = format!(
            "{} {} for {}",
            request.method(),
            request.uri().path(),
            forwarded.unwrap_or_default()
        );
        Ok(Response::builder().header("connection", "close").body(body(said)).unwrap())
    }
}

/// An instance of a [`FakeRuntime`] that takes requests in this process.
struct FakeGuest {
    runtime: Weak<FakeRuntime>,
    id: InstanceId,
}

impl Service for FakeGuest {
    fn call(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Body>, ServeError>> {
        let runtime = self.runtime.upgrade().expect("the test holds the runtime");
        async move { runtime.serve(self.id.clone(), request).await }.boxed()
    }
}

impl Sessions for FakeRuntime {
    fn exec(&self, _: &InstanceId, exec: Exec) -> BoxFuture<'_, Result<Process, SessionError>> {
        if self.kind == "wasm" {
            let why = "a component has no shell and no programs besides itself to run";
            return async move { Err(SessionError::Unsupported(why)) }.boxed();
        }
        self.executed.send_modify(|count| *count += 1);
        let exits = *self.exits.lock().unwrap();
        async move {
            let (output, control) = match exits {
                Some(code) => {
                    let said = Output::Out(format!("{} says {code}\n", exec.command[0]).into());
                    (futures::stream::iter([Ok(said)]).boxed(), Ended(code))
                }
                None => (futures::stream::pending().boxed(), Ended(0)),
            };
            Ok(Process { output, input: None, control: Box::new(control) })
        }
        .boxed()
    }

    fn doors(&self, _: &InstanceId, port: u16) -> BoxFuture<'_, Result<Doors, SessionError>> {
        let direct = SocketAddr::from(([127, 0, 0, 1], port));
        async move { Ok(Doors { direct: Some(direct), published: None }) }.boxed()
    }
}

/// A command that has ended with this code.
struct Ended(i64);

impl Control for Ended {
    fn resize(&self, _: u16, _: u16) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn exit_code(&self) -> BoxFuture<'_, Option<i64>> {
        let code = self.0;
        async move { Some(code) }.boxed()
    }
}

impl Runtime for FakeRuntime {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn own_probes(&self, _: &InstanceId) -> Option<Health> {
        self.own_probes.lock().unwrap().clone()
    }

    fn prepare(&self, _: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        async { Ok(()) }.boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        *self.launched.lock().unwrap() = Some(launch.clone());
        self.call(format!("start {}", launch.id));
        async move {
            let how = self.on_start.lock().unwrap().clone();
            if let OnStart::Hang = how {
                return std::future::pending().await;
            }
            let seat = self.board.begin(launch.id.clone());
            match how {
                OnStart::Run => seat.running(self.guest(&launch.id)),
                OnStart::Fail(reason) => seat.failed(reason, true),
                OnStart::Wait | OnStart::Hang => {}
            }
            self.seats.lock().unwrap().insert(launch.id, seat);
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, id: &InstanceId, _: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        self.call(format!("stop {id}"));
        let id = id.clone();
        async move {
            if self.stuck.lock().unwrap().contains(id.as_str()) {
                return std::future::pending().await;
            }
            if let Some(seat) = self.seats.lock().unwrap().get(&id) {
                seat.stopped();
            }
            self.found.lock().unwrap().retain(|found| found.id != id);
            Ok(())
        }
        .boxed()
    }

    fn statuses(&self) -> &StatusTable {
        &self.board
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        let found = self.found.lock().unwrap().clone();
        let is_silent = self.silent.swap(false, Ordering::Relaxed);
        async move {
            match is_silent {
                true => Err(DeviceError::new("listing", "it does not answer")),
                false => Ok(found),
            }
        }
        .boxed()
    }

    fn usage(&self, _: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        async { None }.boxed()
    }

    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        let line = LogLine {
            at: std::time::UNIX_EPOCH,
            stream: LogStream::Out,
            text: format!("{id} says {}", tail.lines),
        };
        let known = self.seats.lock().unwrap().contains_key(id);
        let found = if known {
            Ok(futures::stream::iter([line]).boxed())
        } else if self.files.lock().unwrap().contains(id) {
            let line = LogLine { text: format!("{id} said"), ..line };
            Ok(futures::stream::iter([line]).boxed())
        } else {
            Err(LogsError::Unknown(id.clone()))
        };
        async move { found }.boxed()
    }
}

/// A core that shows the views it is given.
pub struct FakeCore {
    pub workloads: Mutex<Vec<WorkloadView>>,
    pub nodes: Mutex<Vec<NodeView>>,
    pub holders: Mutex<Vec<(NodeId, ReplicaId)>>,
    pub services: Mutex<Vec<ServiceView>>,
    pub explain: Mutex<Option<ExplainView>>,
    pub pinned: Mutex<BTreeSet<Digest>>,
    pub images: Mutex<Vec<ImageUse>>,
    pub replies: Mutex<Vec<Reply>>,
    pub commands: Mutex<Vec<Command>>,
    /// Workloads for which requests wait.
    pub wishes: watch::Sender<Vec<WorkloadName>>,
    pub revoked_keys: Mutex<Vec<PublicKey>>,
    pub admission: Mutex<Option<RawChange>>,
    pub values: Mutex<BTreeMap<Key, (Digest, Value)>>,
    /// Nodes that are asked for the keys of secrets.
    pub sources: Mutex<Vec<NodeId>>,
    /// Nodes that may read every secret, with their sealing keys.
    pub entitled: Mutex<BTreeMap<NodeId, SealingKey>>,
    /// Questions about workloads and names.
    pub looks: AtomicUsize,
    pub changes: watch::Sender<u64>,
    pub routes: watch::Sender<Arc<Routes>>,
    pub history: Mutex<Vec<Arc<EventView>>>,
    pub events: broadcast::Sender<Arc<EventView>>,
}

impl FakeCore {
    pub fn new() -> Arc<Self> {
        Arc::new(FakeCore {
            workloads: Mutex::default(),
            nodes: Mutex::default(),
            holders: Mutex::default(),
            services: Mutex::default(),
            explain: Mutex::default(),
            pinned: Mutex::default(),
            images: Mutex::default(),
            replies: Mutex::default(),
            commands: Mutex::default(),
            wishes: watch::Sender::default(),
            revoked_keys: Mutex::default(),
            admission: Mutex::default(),
            values: Mutex::default(),
            entitled: Mutex::default(),
            sources: Mutex::default(),
            looks: AtomicUsize::new(0),
            changes: watch::Sender::new(1),
            routes: watch::Sender::new(Arc::default()),
            history: Mutex::default(),
            events: broadcast::channel(2).0,
        })
    }

    /// Replaces the workloads' views.
    pub fn show(&self, views: Vec<WorkloadView>) {
        *self.workloads.lock().unwrap() = views;
        self.changes.send_modify(|version| *version += 1);
    }
}

fn soon<'a, T: Send + 'a>(value: T) -> Soon<'a, T> {
    async move { Ok(value) }.boxed()
}

impl Core for FakeCore {
    fn command(&self, command: Command) -> Soon<'_, Reply> {
        self.commands.lock().unwrap().push(command);
        let mut replies = self.replies.lock().unwrap();
        let none = Reply::Refused(Refusal::Busy("the test gave no reply".into()));
        soon(if replies.is_empty() { none } else { replies.remove(0) })
    }

    fn status(&self) -> Soon<'_, StatusView> {
        soon(status())
    }

    fn nodes(&self) -> Soon<'_, Vec<NodeView>> {
        soon(self.nodes.lock().unwrap().clone())
    }

    fn is_member(&self) -> Soon<'_, bool> {
        soon(true)
    }

    fn operators(&self) -> Soon<'_, Vec<OperatorView>> {
        soon(Vec::new())
    }

    fn revoked(&self) -> Soon<'_, Vec<RevokedView>> {
        soon(Vec::new())
    }

    fn quotas(&self) -> Soon<'_, Vec<QuotaView>> {
        soon(Vec::new())
    }

    fn admission(&self) -> Soon<'_, Option<RawChange>> {
        soon(self.admission.lock().unwrap().clone())
    }

    fn let_in_by(&self, _: NodeId) -> Soon<'_, Vec<AdmissionView>> {
        soon(Vec::new())
    }

    fn ended(&self, chain: Chain, by: PublicKey) -> Soon<'_, Option<PublicKey>> {
        let revoked = self.revoked_keys.lock().unwrap();
        let givers = chain.grants().iter().map(|it| it.by());
        soon([by].into_iter().chain(givers).find(|key| revoked.contains(key)))
    }

    fn value(&self, key: Key) -> Soon<'_, Option<(Digest, Value)>> {
        soon(self.values.lock().unwrap().get(&key).cloned())
    }

    fn values(&self) -> Soon<'_, Vec<ValueView>> {
        soon(Vec::new())
    }

    fn readers(&self, _: WorkloadName) -> Soon<'_, ReadersView> {
        soon(ReadersView::default())
    }

    fn may_read(
        &self,
        _: WorkloadName,
        _: Digest,
        node: NodeId,
    ) -> Soon<'_, Result<SealingKey, NotForIt>> {
        let entitled = self.entitled.lock().unwrap();
        let found = entitled.get(&node).copied().ok_or(NotForIt::NotEntitled);
        async { Ok(found) }.boxed()
    }

    fn key_sources(&self, _: WorkloadName) -> Soon<'_, Vec<NodeId>> {
        soon(self.sources.lock().unwrap().clone())
    }

    fn names(&self, nodes: Vec<NodeId>) -> Soon<'_, Vec<String>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let views = self.nodes.lock().unwrap();
        let name = |node: &NodeId| {
            let view = views.iter().find(|view| view.id == node.to_string());
            view.map_or_else(|| node.short(), |view| view.name.clone())
        };
        soon(nodes.iter().map(name).collect())
    }

    fn workloads(&self) -> Soon<'_, Vec<WorkloadView>> {
        soon(self.workloads.lock().unwrap().clone())
    }

    fn workload(&self, name: WorkloadName) -> Soon<'_, Option<WorkloadView>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let views = self.workloads.lock().unwrap();
        let found = views.iter().find(|view| {
            view.name == name.name.as_str() && view.namespace == name.namespace.as_str()
        });
        soon(found.cloned())
    }

    fn explain(&self, _: ReplicaName) -> Soon<'_, Option<ExplainView>> {
        soon(self.explain.lock().unwrap().clone())
    }

    fn services(&self) -> Soon<'_, Vec<ServiceView>> {
        let services = self.services.lock().unwrap().clone();
        async { Ok(services) }.boxed()
    }

    fn ports_held(&self) -> Soon<'_, BTreeSet<HostPort>> {
        soon(BTreeSet::new())
    }

    fn service(&self, name: WorkloadName) -> Soon<'_, Option<ServiceView>> {
        let services = self.services.lock().unwrap();
        let found = services.iter().find(|service| service.name == name).cloned();
        async { Ok(found) }.boxed()
    }

    fn aliased(&self, _: Label, _: String) -> Soon<'_, Option<ServiceView>> {
        soon(None)
    }

    fn wish(&self, name: WorkloadName) -> Soon<'_, ()> {
        self.wishes.send_modify(|wishes| wishes.push(name));
        soon(())
    }

    fn pinned(&self) -> Soon<'_, BTreeSet<Digest>> {
        soon(self.pinned.lock().unwrap().clone())
    }

    fn images(&self) -> Soon<'_, Vec<ImageUse>> {
        soon(self.images.lock().unwrap().clone())
    }

    fn named_artifacts(&self) -> Soon<'_, BTreeSet<Digest>> {
        let images = self.images.lock().unwrap();
        let platforms = images.iter().flat_map(|it| &it.image.platforms);
        let parts = platforms.flat_map(|it| it.parts());
        soon(parts.map(|part| part.digest).collect())
    }

    fn holders(&self, _: ReplicaName) -> Soon<'_, Vec<(NodeId, ReplicaId)>> {
        soon(self.holders.lock().unwrap().clone())
    }

    fn claims(&self, _: ReplicaName) -> Soon<'_, bool> {
        let holders = self.holders.lock().unwrap();
        soon(holders.iter().any(|(node, _)| *node == NODE))
    }

    fn place_of(&self, _: WorkloadName, text: String) -> Soon<'_, Option<Place>> {
        soon(text.parse().ok())
    }

    fn events(&self, since: u64) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        let history = self.history.lock().unwrap();
        (
            history.iter().filter(|event| event.seq > since).cloned().collect(),
            self.events.subscribe(),
        )
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.subscribe()
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        [("net_bytes_sent".to_owned(), 5)].into()
    }
}

/// The relay of a stream, or the relays that were tried, each with its reason.
type Hopped = Result<NodeId, Vec<(NodeId, String)>>;

/// A mesh of pipes: a stream to a node comes out at that node's receiver.
#[derive(Default)]
pub struct FakeMesh {
    senders: Mutex<BTreeMap<NodeId, mpsc::Sender<Incoming>>>,
    pub opened: AtomicUsize,
    /// Nodes that cannot be dialled, with their relays.
    pub hops: Mutex<BTreeMap<NodeId, Hopped>>,
    /// Nodes to which opening a stream never ends.
    pub hangs: Mutex<BTreeSet<NodeId>>,
    /// Notified when a stream to a node of `hangs` is requested.
    pub asked: Notify,
}

impl FakeMesh {
    /// The receiver of streams to `node`.
    pub fn take(&self, node: NodeId) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(16);
        self.senders.lock().unwrap().insert(node, sender);
        receiver
    }
}

impl Mesh for FakeMesh {
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>> {
        assert_eq!(purpose, Purpose::Http);
        let sender = self.senders.lock().unwrap().get(&node).cloned();
        let hop = self.hops.lock().unwrap().get(&node).cloned();
        if self.hangs.lock().unwrap().contains(&node) {
            self.asked.notify_one();
            return std::future::pending().boxed();
        }
        async move {
            let hop = match hop {
                Some(Err(tried)) => {
                    return Err(OpenError::Unreachable {
                        node,
                        dial: "no address answered".into(),
                        tried,
                    });
                }
                Some(Ok(hop)) => Some(hop),
                None => None,
            };
            let sender = sender.ok_or(OpenError::NoLink(node))?;
            let (here, there) = tokio::io::duplex(64 * 1024);
            let incoming = Incoming { from: NODE, stream: MeshStream::new(there) };
            sender.send(incoming).await.map_err(|_| OpenError::NoLink(node))?;
            self.opened.fetch_add(1, Ordering::Relaxed);
            Ok(match hop {
                Some(hop) => MeshStream::relayed(here, hop),
                None => MeshStream::new(here),
            })
        }
        .boxed()
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        !self.hops.lock().unwrap().contains_key(node)
    }
}

pub fn status() -> StatusView {
    StatusView {
        cluster: "c1".repeat(32),
        node: NODE.to_string(),
        name: "n1".into(),
        ready: true,
        nodes_up: 2,
        nodes: 3,
        links: 1,
        workloads: 1,
        replicas: 2,
        healthy: 1,
        read_only: None,
        warnings: vec!["the seed 10.0.0.9:7700 does not answer".into()],
        counters: [("messages".to_owned(), 7)].into(),
        roots: [].into(),
    }
}

pub fn workload_view(name: &str, replicas: Vec<ReplicaView>) -> WorkloadView {
    let healthy = replicas.iter().filter(|replica| replica.phase == "healthy").count();
    WorkloadView {
        namespace: "default".into(),
        name: name.into(),
        uid: Digest([9; 32]).to_string(),
        generation: "ab".repeat(32),
        kind: "service".into(),
        job: None,
        results: Vec::new(),
        scale: None,
        update: None,
        runtime: "wasm".into(),
        artifact: "cd".repeat(32),
        artifact_size: 55_000,
        image: None,
        containers: Vec::new(),
        http: true,
        artifact_holders: 2,
        desired: u32::try_from(replicas.len()).unwrap(),
        healthy: u32::try_from(healthy).unwrap(),
        memory: 64 << 20,
        cpu: 100,
        limit: None,
        env: [("GREETING".to_owned(), "hi".to_owned())].into(),
        options: BTreeMap::new(),
        require: BTreeMap::new(),
        storage: Vec::new(),
        ports: Vec::new(),
        owner: Some("n1".into()),
        guardians: vec!["n1".into(), "n2".into()],
        conflict: false,
        replicas,
    }
}

pub fn replica_view(replica: &str, phase: &str, node: Option<&str>) -> ReplicaView {
    ReplicaView {
        replica: replica.into(),
        phase: phase.into(),
        reason: None,
        node: node.map(|_| OTHER.to_string()),
        node_name: node.map(str::to_owned),
        current: node.is_some(),
        token: node.map(|_| 3),
        since: node.map(|_| "2026-11-21T03:00:00.000Z".into()),
        restarts: 0,
        replacement: None,
    }
}

pub fn node_view(id: NodeId, name: &str) -> NodeView {
    NodeView {
        id: id.to_string(),
        name: name.into(),
        state: "up".into(),
        reason: None,
        me: id == NODE,
        ready: true,
        incarnation: 1,
        addresses: Vec::new(),
        arch: "x86_64".into(),
        runtimes: Vec::new(),
        allows: Vec::new(),
        volumes: Vec::new(),
        version: "0.1.0".into(),
        ..NodeView::default()
    }
}
