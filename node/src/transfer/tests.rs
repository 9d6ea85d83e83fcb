//! Transfers over pipes between real stores, with a runtime and a core that only record calls.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::BoxStream;
use shoal_protocol::model::{Artifact, NodeId, ProgramKind};
use shoal_runtimes::artifacts::Limits;
use shoal_runtimes::logs::{LogLine, Tail};
use shoal_runtimes::session::Sessions;
use shoal_runtimes::{
    DeviceError, Instance, InstanceId, Launch, LogsError, PrepareError, Runtime, StartError,
    StatusTable, Usage,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::driver::Fetches;
use crate::network::{Incoming, MeshStream, OpenError, Purpose};

use super::exchange::{ArtifactAnswer, ArtifactRequest};
use super::*;

const ME: NodeId = NodeId([0; 32]);

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

/// The party that answers for a node.
#[derive(Clone)]
enum Answers {
    /// A node with a real server.
    Server(mpsc::Sender<Incoming>),
    /// The test plays the other end.
    Script(mpsc::Sender<DuplexStream>),
    /// The test plays the other end; when it drops it, the stream reports a stalled path.
    Stalls(mpsc::Sender<DuplexStream>),
}

const STALL: &str = "small messages pass, transfers stall";

/// A stream whose carrier ends when its other end is dropped.
struct Stalling(DuplexStream);

impl tokio::io::AsyncRead for Stalling {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = std::pin::Pin::new(&mut self.0).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() == before {
            return std::task::Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                STALL,
            )));
        }
        polled
    }
}

impl tokio::io::AsyncWrite for Stalling {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Default)]
struct FakeMesh {
    nodes: Mutex<BTreeMap<NodeId, Answers>>,
    opened: Mutex<Vec<NodeId>>,
}

impl Mesh for FakeMesh {
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>> {
        assert_eq!(purpose, Purpose::Artifact);
        self.opened.lock().unwrap().push(node);
        let answers = self.nodes.lock().unwrap().get(&node).cloned();
        async move {
            let (mine, theirs) = tokio::io::duplex(64 * 1024);
            match answers.ok_or(OpenError::NoLink(node))? {
                Answers::Server(incoming) => {
                    let incoming =
                        incoming.send(Incoming { from: ME, stream: MeshStream::new(theirs) }).await;
                    incoming.map_err(|_| OpenError::Stopping)?;
                }
                Answers::Script(script) => {
                    script.send(theirs).await.map_err(|_| OpenError::Stopping)?
                }
                Answers::Stalls(script) => {
                    script.send(theirs).await.map_err(|_| OpenError::Stopping)?;
                    return Ok(MeshStream::new(Stalling(mine)));
                }
            }
            Ok(MeshStream::new(mine))
        }
        .boxed()
    }

    fn is_linked(&self, _: &NodeId) -> bool {
        true
    }
}

/// An artifact at which the runtime panics.
const TRAP: &[u8] = b"a trap";

struct FakeRuntime {
    refuses: bool,
    prepared: Mutex<Vec<Digest>>,
}

impl Sessions for FakeRuntime {}

impl Runtime for FakeRuntime {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    fn prepare(&self, artifact: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        assert_ne!(artifact, Digest::of(TRAP), "a fault of shoal's");
        self.prepared.lock().unwrap().push(artifact);
        let refused = PrepareError::Refused { digest: artifact, reason: "it is a poem".into() };
        std::future::ready(if self.refuses { Err(refused) } else { Ok(()) }).boxed()
    }

    fn start(&self, _: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        unreachable!("transfers start nothing")
    }

    fn stop(&self, _: &InstanceId, _: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        unreachable!("transfers stop nothing")
    }

    fn statuses(&self) -> &StatusTable {
        unreachable!("transfers ask for no state")
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn usage(&self, _: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        std::future::ready(None).boxed()
    }

    fn logs(
        &self,
        _: &InstanceId,
        _: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        unreachable!("transfers read no logs")
    }
}

struct FakeCore {
    outcomes: mpsc::Sender<(Digest, FetchOutcome)>,
    received: Arc<Mutex<Vec<(Digest, NodeId)>>>,
}

impl Client for FakeCore {
    fn received(&self, artifact: Artifact, from: Vec<NodeId>, _: Duration) -> BoxFuture<'_, ()> {
        let all = from.into_iter().map(|node| (artifact.digest, node));
        self.received.lock().unwrap().extend(all);
        std::future::ready(()).boxed()
    }

    fn fetched(&self, digest: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()> {
        async move { self.outcomes.send((digest, outcome)).await.unwrap() }.boxed()
    }

    fn pinned(&self) -> BoxFuture<'_, BTreeSet<Digest>> {
        std::future::ready(BTreeSet::new()).boxed()
    }
}

async fn store(folder: &TempDir) -> ArtifactStore {
    let limits = Limits { keep_free: 0, ..Limits::default() };
    ArtifactStore::open(folder.path().join("artifacts"), limits).await.unwrap()
}

/// A node that fetches, and its fakes.
struct World {
    folder: TempDir,
    store: ArtifactStore,
    mesh: Arc<FakeMesh>,
    runtime: Arc<FakeRuntime>,
    sink: FetchSink,
    outcomes: mpsc::Receiver<(Digest, FetchOutcome)>,
    /// The artifacts that came, and from where.
    received: Arc<Mutex<Vec<(Digest, NodeId)>>>,
    transfer: Transfer,
}

impl World {
    async fn new(refuses: bool) -> World {
        let folder = TempDir::new().unwrap();
        let store = store(&folder).await;
        let mesh = Arc::<FakeMesh>::default();
        let runtime = Arc::new(FakeRuntime { refuses, prepared: Mutex::default() });
        let (core, outcomes) = mpsc::channel(16);
        let received = Arc::<Mutex<Vec<_>>>::default();
        let (sink, waiting) = transfer();
        let transfer = waiting.start(Parts {
            config: TransferConfig {
                stall_timeout: Duration::from_secs(3),
                ..TransferConfig::default()
            },
            mesh: mesh.clone(),
            acceptor: Acceptor::new(mpsc::channel(1).1),
            pieces: Acceptor::new(mpsc::channel(1).1),
            store: store.clone(),
            runtimes: RuntimeSet::new([runtime.clone() as Arc<dyn Runtime>]),
            client: Arc::new(FakeCore { outcomes: core, received: received.clone() }),
        });
        World { folder, store, mesh, runtime, sink, outcomes, received, transfer }
    }

    /// A node that holds and serves these bytes.
    async fn holder(&self, number: u8, bytes: &[u8], config: TransferConfig) -> Transfer {
        let folder = TempDir::new().unwrap();
        let store = store(&folder).await;
        store.put(bytes.to_vec()).await.unwrap();
        let (streams, acceptor) = mpsc::channel(8);
        self.mesh.nodes.lock().unwrap().insert(node(number), Answers::Server(streams));
        let (_, waiting) = transfer();
        let transfer = waiting.start(Parts {
            config,
            mesh: self.mesh.clone(),
            acceptor: Acceptor::new(acceptor),
            pieces: Acceptor::new(mpsc::channel(1).1),
            store,
            runtimes: RuntimeSet::new([]),
            client: Arc::new(FakeCore { outcomes: mpsc::channel(1).0, received: Arc::default() }),
        });
        // The folder must outlive this function; the test leaves it behind.
        let _ = folder.keep();
        transfer
    }

    /// The test plays this node.
    fn script(&self, number: u8) -> mpsc::Receiver<DuplexStream> {
        let (streams, script) = mpsc::channel(8);
        self.mesh.nodes.lock().unwrap().insert(node(number), Answers::Script(streams));
        script
    }

    /// The test plays this node, on a path that stalls once it drops the stream.
    fn stalls(&self, number: u8) -> mpsc::Receiver<DuplexStream> {
        let (streams, script) = mpsc::channel(8);
        self.mesh.nodes.lock().unwrap().insert(node(number), Answers::Stalls(streams));
        script
    }

    fn fetch(&mut self, artifact: Artifact, candidates: &[u8]) {
        self.sink.fetch(
            artifact,
            None,
            ProgramKind::Wasm,
            candidates.iter().copied().map(node).collect(),
        );
    }

    async fn outcome(&mut self) -> FetchOutcome {
        let outcome = tokio::time::timeout(Duration::from_secs(30), self.outcomes.recv()).await;
        outcome.expect("a fetch ends").expect("the fetcher runs").1
    }

    fn count(&self, name: &str) -> u64 {
        let mut all = BTreeMap::new();
        self.transfer.count()(&mut all);
        all[name]
    }
}

fn bytes(length: usize) -> (Vec<u8>, Artifact) {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
    let artifact = Artifact { digest: Digest::of(&bytes), size: length as u64 };
    (bytes, artifact)
}

async fn request(stream: &mut DuplexStream) -> ArtifactRequest {
    ArtifactRequest::read(stream).await.unwrap()
}

/// The first candidate has no link, the second delivers. A second fetch moves no bytes.
#[tokio::test]
async fn artifact_is_fetched_verified_and_prepared() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(1_000_003);
    let _holder = world.holder(1, &bytes, TransferConfig::default()).await;
    world.fetch(artifact, &[9, 1]);
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    assert_eq!(world.store.read(&artifact.digest).await.unwrap(), bytes);
    assert_eq!(*world.runtime.prepared.lock().unwrap(), [artifact.digest]);
    assert_eq!(
        *world.mesh.opened.lock().unwrap(),
        [node(9), node(1)],
        "in order, also after a candidate without a link"
    );
    assert_eq!(world.count("artifact_bytes_fetched"), 1_000_003);
    // An artifact that is here is only prepared again.
    world.fetch(artifact, &[]);
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    assert_eq!(world.count("artifact_bytes_fetched"), 1_000_003);
}

/// The first candidate breaks off: its bytes are kept, and the second delivers the rest.
#[tokio::test]
async fn broken_transfer_continues_at_the_next_candidate() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(700_000);
    let mut script = world.script(1);
    let _holder = world.holder(2, &bytes, TransferConfig::default()).await;
    world.fetch(artifact, &[1, 2]);
    let mut stream = script.recv().await.unwrap();
    assert_eq!(request(&mut stream).await, ArtifactRequest { digest: artifact.digest, offset: 0 });
    ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
    stream.write_all(&bytes[..300_001]).await.unwrap();
    drop(stream);
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    assert_eq!(world.store.read(&artifact.digest).await.unwrap(), bytes);
    assert_eq!(world.count("artifact_bytes_fetched"), 700_000, "no byte is fetched twice");
}

/// The only candidate breaks off and the daemon restarts: the partial file is found again.
#[tokio::test]
async fn received_bytes_survive_a_restart() {
    let (bytes, artifact) = bytes(500_000);
    let mut world = World::new(false).await;
    let mut script = world.script(1);
    world.fetch(artifact, &[1]);
    let mut stream = script.recv().await.unwrap();
    request(&mut stream).await;
    ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
    stream.write_all(&bytes[..200_000]).await.unwrap();
    drop(stream);
    assert!(
        matches!(world.outcome().await, FetchOutcome::Failed(why) if why.contains("broke off"))
    );
    let World { folder, transfer, store: old, .. } = world;
    drop((transfer, old));
    let again = store(&folder).await;
    let partial = again.partial(&artifact.digest, artifact.size).await.unwrap().unwrap();
    assert_eq!(partial.offset(), 200_000);
}

/// The first candidate sends wrong bytes of the right size.
#[tokio::test]
async fn forged_bytes_are_refused_and_fetched_elsewhere() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(300_000);
    let mut script = world.script(1);
    let _holder = world.holder(2, &bytes, TransferConfig::default()).await;
    world.fetch(artifact, &[1, 2]);
    let mut stream = script.recv().await.unwrap();
    request(&mut stream).await;
    ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
    stream.write_all(&vec![0; 300_000]).await.unwrap();
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    assert_eq!(world.store.read(&artifact.digest).await.unwrap(), bytes);
    assert_eq!(*world.received.lock().unwrap(), [(artifact.digest, node(2))]);
}

/// The only candidate sends wrong bytes. The core asks it again and again, since it says that it
/// holds the artifact: no further byte is taken from it.
#[tokio::test]
async fn forger_is_not_asked_for_the_same_again() {
    let mut world = World::new(false).await;
    let (_, artifact) = bytes(300_000);
    let mut script = world.script(1);
    world.fetch(artifact, &[1]);
    let mut stream = script.recv().await.unwrap();
    request(&mut stream).await;
    ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
    stream.write_all(&vec![0; 300_000]).await.unwrap();
    let FetchOutcome::Failed(why) = world.outcome().await else { panic!("the bytes are wrong") };
    assert!(why.contains("gave other bytes than it should"), "{why}");
    world.fetch(artifact, &[1]);
    let FetchOutcome::Failed(why) = world.outcome().await else { panic!("nobody else has it") };
    assert!(why.contains("is not asked again"), "{why}");
    assert_eq!(*world.mesh.opened.lock().unwrap(), [node(1)]);
    assert!(world.received.lock().unwrap().is_empty());
}

/// The first candidate sent forged bytes and broke off; the second completed them. The mismatch is
/// not blamed on the second: all bytes are fetched again from it.
#[tokio::test]
async fn candidate_after_a_forger_is_judged_by_its_own_bytes() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(300_000);
    let mut script = world.script(1);
    let _holder = world.holder(2, &bytes, TransferConfig::default()).await;
    world.fetch(artifact, &[1, 2]);
    let mut stream = script.recv().await.unwrap();
    request(&mut stream).await;
    ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
    stream.write_all(&vec![0; 100_000]).await.unwrap();
    drop(stream);
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    assert_eq!(world.count("artifact_bytes_fetched"), 100_000 + 200_000 + 300_000);
}

/// The artifact is missing, busy, of another size, unreachable: the operator sees each reason.
#[tokio::test]
async fn failure_lists_the_reason_of_each_candidate() {
    let mut world = World::new(false).await;
    let (_, artifact) = bytes(1_000);
    let _other = world.holder(1, b"something else", TransferConfig::default()).await;
    let _busy =
        world.holder(2, b"busy", TransferConfig { serves: 0, ..TransferConfig::default() }).await;
    let mut script = world.script(3);
    world.fetch(artifact, &[1, 2, 3, 4]);
    let mut stream = script.recv().await.unwrap();
    request(&mut stream).await;
    ArtifactAnswer::Here { size: 999 }.write(&mut stream).await.unwrap();
    let FetchOutcome::Failed(why) = world.outcome().await else { panic!("no candidate has it") };
    for part in [
        "01010101 does not have it",
        "02020202 is busy",
        "03030303 has 999 bytes of it",
        "no link to node 04040404",
    ] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    world.fetch(artifact, &[]);
    assert_eq!(
        world.outcome().await,
        FetchOutcome::Failed("no other node is known to have it".into())
    );
    assert_eq!(world.count("artifact_fetches_failed"), 2);
}

/// Fetching it again would not help, so the outcome is final.
#[tokio::test]
async fn artifact_refused_by_the_runtime_is_unusable() {
    let mut world = World::new(true).await;
    let (bytes, artifact) = bytes(10);
    world.store.put(bytes).await.unwrap();
    world.fetch(artifact, &[]);
    assert!(matches!(world.outcome().await, FetchOutcome::Unusable(why) if why.contains("a poem")));
}

/// A fetch that panicked reported no outcome, and the core never asked for the artifact again.
#[tokio::test]
async fn panicking_fetch_reports_failure() {
    let mut world = World::new(false).await;
    world.store.put(TRAP).await.unwrap();
    world.fetch(Artifact { digest: Digest::of(TRAP), size: TRAP.len() as u64 }, &[]);
    let FetchOutcome::Failed(why) = world.outcome().await else { panic!("it cannot be ready") };
    assert!(why.contains("a fault of shoal's"), "{why}");
    let (bytes, artifact) = bytes(10);
    world.store.put(bytes).await.unwrap();
    world.fetch(artifact, &[]);
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
}

/// The first candidate accepts the stream and never answers; the second is asked.
#[tokio::test]
async fn silent_candidate_times_out() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(1_000);
    let mut script = world.script(1);
    let _holder = world.holder(2, &bytes, TransferConfig::default()).await;
    world.fetch(artifact, &[1, 2]);
    let silent = script.recv().await.unwrap();
    assert_eq!(world.outcome().await, FetchOutcome::Ready);
    drop(silent);
}

/// Six artifacts are requested twice: a bounded number is fetched at a time, each once.
#[tokio::test]
async fn fetches_are_bounded_and_unique_per_artifact() {
    let mut world = World::new(false).await;
    let mut script = world.script(1);
    let wanted: Vec<_> = (1..=6).map(|length| bytes(length * 1_000)).collect();
    for (_, artifact) in wanted.iter().chain(&wanted) {
        world.fetch(*artifact, &[1]);
    }
    let mut streams = Vec::new();
    for _ in 0..TransferConfig::default().fetches {
        let mut stream = script.recv().await.unwrap();
        let asked = request(&mut stream).await.digest;
        streams.push((stream, asked));
    }
    assert!(script.try_recv().is_err(), "no more than that at once");
    let distinct: BTreeSet<_> = streams.iter().map(|(_, digest)| *digest).collect();
    assert_eq!(distinct.len(), streams.len());
    for (mut stream, digest) in streams {
        let (bytes, artifact) =
            wanted.iter().find(|(_, artifact)| artifact.digest == digest).unwrap();
        ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(world.outcome().await, FetchOutcome::Ready);
    }
    // The next fetches start in the free places.
    let mut stream = script.recv().await.unwrap();
    assert!(!distinct.contains(&request(&mut stream).await.digest));
}

/// A peer may ask for any offset.
#[tokio::test]
async fn offset_beyond_the_end_gets_no_bytes() {
    let world = World::new(false).await;
    let (bytes, artifact) = bytes(1_000);
    let _holder = world.holder(1, &bytes, TransferConfig::default()).await;
    let mut stream = world.mesh.open(node(1), Purpose::Artifact).await.unwrap();
    ArtifactRequest { digest: artifact.digest, offset: u64::MAX }.write(&mut stream).await.unwrap();
    assert_eq!(
        ArtifactAnswer::read(&mut stream).await.unwrap(),
        ArtifactAnswer::Here { size: 1_000 }
    );
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

/// A transfer stalled and was ended: the received bytes are kept, and the next holder delivers the
/// rest. Without another holder the failure names the stalled path.
#[tokio::test]
async fn stalled_transfer_continues_at_the_next_holder() {
    let mut world = World::new(false).await;
    let (bytes, artifact) = bytes(700_000);
    let mut script = world.stalls(1);
    let _holder = world.holder(2, &bytes, TransferConfig::default()).await;
    for (candidates, from, to) in [(&[1][..], 0, 300_000), (&[1, 2][..], 300_000, 400_000)] {
        world.fetch(artifact, candidates);
        let mut stream = script.recv().await.unwrap();
        assert_eq!(
            request(&mut stream).await,
            ArtifactRequest { digest: artifact.digest, offset: from as u64 }
        );
        ArtifactAnswer::Here { size: artifact.size }.write(&mut stream).await.unwrap();
        stream.write_all(&bytes[from..to]).await.unwrap();
        drop(stream);
        match world.outcome().await {
            FetchOutcome::Failed(why) => {
                assert!(candidates.len() == 1 && why.contains(STALL), "{why}")
            }
            FetchOutcome::Ready => assert_eq!(candidates.len(), 2),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.store.read(&artifact.digest).await.unwrap(), bytes);
    assert_eq!(world.count("artifact_bytes_fetched"), 700_000, "no byte is fetched twice");
}

/// A frame of 64 KiB arrives at 2 KB/s, with a stall timeout of 3 s: some of it moves all the time.
#[tokio::test(start_paused = true)]
async fn slow_stream_is_no_stall_but_a_silent_one_is() {
    let stall_timeout = Duration::from_secs(3);
    let (mine, mut theirs) = tokio::io::duplex(1 << 20);
    let mut stream = MeshStream::new(mine);
    let moved = stream.moved();
    tokio::spawn(async move {
        for _ in 0..16 {
            theirs.write_all(&[1; 4_096]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        theirs.write_all(&[1; 100]).await.unwrap();
        // Nothing more, and no end.
        std::future::pending::<()>().await;
    });
    let mut frame = vec![0; 65_536];
    unless_stalled(stall_timeout, &moved, stream.read_exact(&mut frame)).await.unwrap();
    let started = tokio::time::Instant::now();
    let ended =
        unless_stalled(stall_timeout, &moved, stream.read_exact(&mut frame)).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut, "{ended}");
    assert!(started.elapsed() <= stall_timeout * 3, "{:?}", started.elapsed());
}
