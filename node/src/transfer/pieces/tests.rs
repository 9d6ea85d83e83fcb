//! Several nodes fetch one artifact in pieces, over pipes between real stores.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::spec::{PIECE, Pieces};
use shoal_protocol::model::{Artifact, Digest, NodeId, ProgramKind};
use shoal_protocol::node::FetchOutcome;
use shoal_runtimes::artifacts::{ArtifactStore, Limits};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::{Client, FetchSink, Parts, Transfer, TransferConfig, transfer};
use super::wire::{Answer, Ask, Frames};
use crate::driver::Fetches;
use crate::network::{Acceptor, Incoming, Mesh, MeshStream, OpenError, Purpose};
use crate::runtimes::RuntimeSet;

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

type Doors = Arc<Mutex<BTreeMap<(NodeId, Purpose), mpsc::Sender<Incoming>>>>;

/// All nodes reach all others that accept a purpose.
struct Pipes {
    me: NodeId,
    doors: Doors,
}

impl Mesh for Pipes {
    fn open(&self, to: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>> {
        let door = self.doors.lock().unwrap().get(&(to, purpose)).cloned();
        let from = self.me;
        async move {
            let (mine, theirs) = tokio::io::duplex(256 * 1024);
            let door = door.ok_or(OpenError::NotOffered(to))?;
            let incoming = Incoming { from, stream: MeshStream::new(theirs) };
            door.send(incoming).await.map_err(|_| OpenError::NoLink(to))?;
            Ok(MeshStream::new(mine))
        }
        .boxed()
    }

    fn is_linked(&self, _: &NodeId) -> bool {
        true
    }
}

struct Core {
    outcomes: mpsc::Sender<FetchOutcome>,
    from: Arc<Mutex<Vec<NodeId>>>,
}

impl Client for Core {
    fn received(
        &self,
        _: Artifact,
        from: Vec<NodeId>,
        _: std::time::Duration,
    ) -> BoxFuture<'_, ()> {
        self.from.lock().unwrap().extend(from);
        std::future::ready(()).boxed()
    }

    fn fetched(&self, _: Digest, outcome: FetchOutcome) -> BoxFuture<'_, ()> {
        async move { self.outcomes.send(outcome).await.unwrap() }.boxed()
    }

    fn pinned(&self) -> BoxFuture<'_, std::collections::BTreeSet<Digest>> {
        std::future::ready(Default::default()).boxed()
    }
}

struct Member {
    folder: TempDir,
    store: ArtifactStore,
    sink: FetchSink,
    outcomes: mpsc::Receiver<FetchOutcome>,
    from: Arc<Mutex<Vec<NodeId>>>,
    transfer: Transfer,
}

impl Member {
    async fn new(number: u8, doors: &Doors) -> Member {
        Member::at(TempDir::new().unwrap(), number, doors).await
    }

    async fn at(folder: TempDir, number: u8, doors: &Doors) -> Member {
        let limits = Limits { keep_free: 0, ..Limits::default() };
        let store = ArtifactStore::open(folder.path().join("artifacts"), limits).await.unwrap();
        let accept = |purpose| {
            let (door, acceptor) = mpsc::channel(8);
            doors.lock().unwrap().insert((node(number), purpose), door);
            Acceptor::new(acceptor)
        };
        let (outcome, outcomes) = mpsc::channel(16);
        let from = Arc::<Mutex<Vec<_>>>::default();
        let (sink, waiting) = transfer();
        let transfer = waiting.start(Parts {
            config: TransferConfig { bytes_per_second: 0, ..TransferConfig::default() },
            mesh: Arc::new(Pipes { me: node(number), doors: doors.clone() }),
            acceptor: accept(Purpose::Artifact),
            pieces: accept(Purpose::Pieces),
            store: store.clone(),
            runtimes: RuntimeSet::new([]),
            client: Arc::new(Core { outcomes: outcome, from: from.clone() }),
        });
        Member { folder, store, sink, outcomes, from, transfer }
    }

    fn fetch(&mut self, artifact: Artifact, pieces: Pieces, candidates: &[u8]) {
        let candidates = candidates.iter().copied().map(node).collect();
        self.sink.fetch(artifact, Some(pieces), ProgramKind::Container, candidates);
    }

    async fn outcome(&mut self) -> FetchOutcome {
        let soon = std::time::Duration::from_secs(60);
        let outcome = tokio::time::timeout(soon, self.outcomes.recv()).await;
        outcome.expect("a fetch ends").expect("the fetcher runs")
    }

    fn count(&self, name: &str) -> u64 {
        let mut all = BTreeMap::new();
        self.transfer.count()(&mut all);
        all[name]
    }
}

/// Bytes of so many pieces, the last of which is short, and the list.
fn bytes(pieces: u64) -> (Vec<u8>, Artifact, Vec<u8>, Pieces) {
    let length = usize::try_from((pieces - 1) * PIECE + 11).unwrap();
    let bytes: Vec<u8> = (0..length).map(|at| (at / 7 % 251) as u8).collect();
    let artifact = Artifact { digest: Digest::of(&bytes), size: length as u64 };
    let size = usize::try_from(PIECE).unwrap();
    let list: Vec<u8> = bytes.chunks(size).flat_map(|piece| Digest::of(piece).0).collect();
    let named = Artifact { digest: Digest::of(&list), size: list.len() as u64 };
    (bytes, artifact, list, Pieces { list: named, first: 0 })
}

async fn holder(number: u8, doors: &Doors, contents: &[&[u8]]) -> Member {
    let member = Member::new(number, doors).await;
    for bytes in contents {
        member.store.put(bytes.to_vec()).await.unwrap();
    }
    member
}

/// Nine nodes need what one has; none asks all others. They give it to one another while it comes.
#[tokio::test(start_paused = true)]
async fn artifact_leaves_its_source_about_once() {
    let doors = Doors::default();
    let (bytes, artifact, list, pieces) = bytes(24);
    let source = holder(1, &doors, &[&bytes, &list]).await;
    let mut receivers = Vec::new();
    for number in 2..=10 {
        receivers.push(Member::new(number, &doors).await);
    }
    for (receiver, me) in receivers.iter_mut().zip(2..) {
        // The source first, and the others from another one on at each.
        let others: Vec<u8> = [1].into_iter().chain(me + 1..=10).chain(2..me).collect();
        receiver.fetch(artifact, pieces, &others);
    }
    for receiver in &mut receivers {
        assert_eq!(receiver.outcome().await, FetchOutcome::Ready);
        assert_eq!(receiver.store.read(&artifact.digest).await.unwrap(), bytes);
    }
    let left = source.count("artifact_bytes_served");
    assert!(left >= artifact.size, "{left}: every piece must leave it once");
    let most = artifact.size * 11 / 10 + 5 * list.len() as u64;
    assert!(left <= most, "{left} bytes left the source, of {} bytes", artifact.size);
    let from = receivers[0].from.lock().unwrap().len();
    assert!(from > 1, "it came from several nodes");
}

/// The source gives other bytes for one piece: they are neither kept nor passed on, and another
/// holder gives them.
#[tokio::test]
async fn forged_piece_is_refused_and_its_giver_not_asked_again() {
    let doors = Doors::default();
    let (bytes, artifact, list, pieces) = bytes(3);
    let (door, mut forged) = mpsc::channel::<Incoming>(8);
    doors.lock().unwrap().insert((node(1), Purpose::Pieces), door);
    let _honest = holder(2, &doors, &[&bytes, &list]).await;
    let mut receiver = Member::new(3, &doors).await;
    receiver.store.put(list.clone()).await.unwrap();
    receiver.fetch(artifact, pieces, &[1, 2]);
    let forging = tokio::spawn(async move {
        let mut opened = 0;
        while let Some(Incoming { stream, .. }) = forged.recv().await {
            opened += 1;
            let mut frames = Frames::new(stream);
            frames.next::<Ask>().await.unwrap();
            frames.send(&Answer::All).await.unwrap();
            let Some(Ask::Get { index, .. }) = frames.next().await.unwrap() else { continue };
            let length = if index == 2 { 11 } else { usize::try_from(PIECE).unwrap() };
            for block in vec![7u8; length].chunks(60_000) {
                let bytes = shoal_protocol::model::codec::Bytes(block.to_vec());
                if frames.send(&Answer::Block { index, bytes }).await.is_err() {
                    break;
                }
            }
        }
        opened
    });
    assert_eq!(receiver.outcome().await, FetchOutcome::Ready);
    assert_eq!(receiver.store.read(&artifact.digest).await.unwrap(), bytes);
    assert_eq!(*receiver.from.lock().unwrap(), [node(2)]);
    doors.lock().unwrap().clear();
    drop(receiver);
    assert_eq!(forging.await.unwrap(), 1);
}

/// The list is of other bytes, as a publisher may have it by mistake: the artifact still comes.
#[tokio::test]
async fn wrong_list_costs_time_and_not_the_artifact() {
    let doors = Doors::default();
    let (bytes, artifact, _, _) = bytes(3);
    let list = vec![5u8; 96];
    let named = Artifact { digest: Digest::of(&list), size: 96 };
    let _source = holder(1, &doors, &[&bytes, &list]).await;
    let mut receiver = Member::new(2, &doors).await;
    receiver.fetch(artifact, Pieces { list: named, first: 0 }, &[1]);
    assert_eq!(receiver.outcome().await, FetchOutcome::Ready);
    assert_eq!(receiver.store.read(&artifact.digest).await.unwrap(), bytes);
}

/// Only programs that know no pieces hold it: it is fetched as a whole.
#[tokio::test]
async fn holders_of_an_older_program_give_it_as_a_whole() {
    let doors = Doors::default();
    let (bytes, artifact, list, pieces) = bytes(2);
    let source = holder(1, &doors, &[&bytes, &list]).await;
    doors.lock().unwrap().remove(&(node(1), Purpose::Pieces));
    let mut receiver = Member::new(2, &doors).await;
    receiver.fetch(artifact, pieces, &[1]);
    assert_eq!(receiver.outcome().await, FetchOutcome::Ready);
    assert_eq!(receiver.store.read(&artifact.digest).await.unwrap(), bytes);
    drop(source);
}

/// The pieces that came before a restart are not fetched again.
#[tokio::test]
async fn pieces_survive_a_restart() {
    let doors = Doors::default();
    let (bytes, artifact, list, pieces) = bytes(4);
    let size = usize::try_from(PIECE).unwrap();
    let digests = bytes.chunks(size).map(Digest::of).collect();
    let mut receiver = Member::new(2, &doors).await;
    let begun = receiver.store.pieces(&artifact.digest, artifact.size, digests).await;
    let begun = begun.unwrap().unwrap();
    for index in [1, 3] {
        let piece = bytes.chunks(size).nth(index).unwrap().to_vec();
        assert!(begun.arrived().put(index as u32, piece.into()).await.unwrap());
    }
    assert!(!begun.arrived().put(0, vec![1].into()).await.unwrap(), "it is another piece");
    drop(begun);
    let Member { folder, store, .. } = receiver;
    drop(store);
    receiver = Member::at(folder, 2, &doors).await;
    let source = holder(1, &doors, &[&bytes, &list]).await;
    receiver.fetch(artifact, pieces, &[1]);
    assert_eq!(receiver.outcome().await, FetchOutcome::Ready);
    assert_eq!(receiver.store.read(&artifact.digest).await.unwrap(), bytes);
    let came = receiver.count("artifact_bytes_fetched");
    assert_eq!(came, 2 * PIECE + list.len() as u64);
    drop(source);
}
