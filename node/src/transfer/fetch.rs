//! Fetches the artifacts that this node needs.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shoal_protocol::model::{Artifact, Digest, NodeId};
use shoal_protocol::node::FetchOutcome;
use shoal_runtimes::artifacts::{ArtifactStore, Error, Partial};
use tokio::io::AsyncReadExt;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use crate::network::{Mesh, MeshStream, OpenError, Purpose};
use crate::runtimes::RuntimeSet;

use super::exchange::{ArtifactAnswer, ArtifactRequest, CHUNK};
use super::inbox::{FetchRequest, Inbox};
use super::pieces::Outcome;
use super::rate_limit::RateLimit;
use super::{Client, Counters, unless_stalled};

pub(super) struct Fetcher {
    pub mesh: Arc<dyn Mesh>,
    pub store: ArtifactStore,
    pub runtimes: RuntimeSet,
    pub client: Arc<dyn Client>,
    pub rate_limit: RateLimit,
    pub stall_timeout: Duration,
    pub counters: Arc<Counters>,
    pub forgers: Forgers,
}

/// Candidates that gave other bytes than an artifact's: they are not asked for it again until this
/// node restarts.
#[derive(Default)]
pub(super) struct Forgers(Mutex<BTreeSet<(Digest, NodeId)>>);

/// Forgeries that are remembered. Beyond it all are forgotten: so many mean that a member lies
/// about everything, and each costs one transfer more.
const MAX_FORGERIES: usize = 1_024;

impl Forgers {
    pub fn note(&self, digest: Digest, node: NodeId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_FORGERIES {
            all.clear();
        }
        all.insert((digest, node));
    }

    pub fn has(&self, digest: Digest, node: NodeId) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(&(digest, node))
    }
}

/// Bytes of an artifact that is fetched into memory: the list of pieces of 32 GiB.
const MAX_SMALL: u64 = 2 << 20;

/// How often, and after which pause, a busy node is asked again for a small artifact: it is there.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Runs fetches: a bounded number at a time, one for each artifact.
pub(super) async fn run(inbox: Inbox, fetcher: Arc<Fetcher>, max_fetches: usize) {
    let mut running = JoinSet::new();
    let mut under_way = BTreeSet::new();
    let mut tasks: Vec<(task::Id, Digest)> = Vec::new();
    loop {
        let has_room = running.len() < max_fetches;
        tokio::select! {
            request = inbox.take(&under_way), if has_room => {
                under_way.insert(request.artifact.digest);
                let (fetcher, digest) = (fetcher.clone(), request.artifact.digest);
                let task = running.spawn(async move {
                    let outcome = fetcher.fetch(request).await;
                    fetcher.tell(digest, outcome).await;
                });
                tasks.push((task.id(), digest));
            }
            Some(ended) = running.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                let Some(at) = tasks.iter().position(|(task, _)| *task == id) else { continue };
                let (_, digest) = tasks.swap_remove(at);
                under_way.remove(&digest);
                if let Err(error) = ended {
                    // The core waits for an outcome: without it, it would never ask for this
                    // artifact again.
                    let why = format!("it ended with a fault of shoal's: {error}");
                    tracing::error!(artifact = %digest.short(), "{why}");
                    fetcher.tell(digest, FetchOutcome::Failed(why)).await;
                }
            }
        }
    }
}

/// Why a candidate did not deliver an artifact.
#[derive(Debug, thiserror::Error)]
enum CandidateError {
    #[error(transparent)]
    NoStream(#[from] OpenError),
    #[error("node {} does not have it", .0.short())]
    Missing(NodeId),
    #[error("node {} is busy", .0.short())]
    Busy(NodeId),
    #[error("node {} has {found} bytes of it, {expected} were announced", node.short())]
    Size { node: NodeId, found: u64, expected: u64 },
    #[error("node {} broke off: {source}", node.short())]
    Broke { node: NodeId, source: io::Error },
    #[error("node {} gave other bytes than it should", .0.short())]
    Forged(NodeId),
    /// This device's own fault: asking another candidate would not help.
    #[error(transparent)]
    Store(Error),
}

impl Fetcher {
    async fn tell(&self, digest: Digest, outcome: FetchOutcome) {
        match &outcome {
            FetchOutcome::Ready => drop(self.counters.fetched.fetch_add(1, Relaxed)),
            FetchOutcome::Unusable(why) | FetchOutcome::Failed(why) => {
                self.counters.failed.fetch_add(1, Relaxed);
                tracing::debug!(artifact = %digest.short(), %why, "an artifact is not ready");
            }
        }
        self.client.fetched(digest, outcome).await;
    }

    async fn fetch(&self, request: FetchRequest) -> FetchOutcome {
        if self.store.has(&request.artifact.digest).is_none()
            && let Err(why) = self.get(&request).await
        {
            return FetchOutcome::Failed(why);
        }
        // A guardian without the runtime holds the bytes for those that have it.
        let Ok(runtime) = self.runtimes.get(request.runtime) else { return FetchOutcome::Ready };
        match runtime.prepare(request.artifact.digest).await {
            Ok(()) => FetchOutcome::Ready,
            Err(error) if error.retryable() => FetchOutcome::Failed(error.to_string()),
            Err(error) => FetchOutcome::Unusable(error.to_string()),
        }
    }

    async fn get(&self, request: &FetchRequest) -> Result<(), String> {
        let FetchRequest { artifact, pieces, runtime: _, candidates } = request;
        if candidates.is_empty() {
            return Err("no other node is known to have it".into());
        }
        // The pinned artifacts may have changed since the last fetch.
        self.store.pin(self.client.pinned().await);
        let Some(pieces) = pieces else { return self.get_whole(*artifact, candidates).await };
        let begun = Instant::now();
        match super::pieces::fetch(self, *artifact, *pieces, candidates).await {
            Outcome::Here(from) => {
                if !from.is_empty() {
                    self.client.received(*artifact, from, begun.elapsed()).await;
                }
                Ok(())
            }
            Outcome::AsWhole(why) => {
                let digest = artifact.digest.short();
                tracing::info!(artifact = %digest, %why, "it is fetched as a whole");
                self.get_whole(*artifact, candidates).await
            }
            Outcome::Failed(why) => Err(why),
        }
    }

    /// The bytes of a small artifact, which is not kept.
    pub async fn small(&self, artifact: Artifact, candidates: &[NodeId]) -> Result<Bytes, String> {
        if artifact.size > MAX_SMALL {
            return Err(format!("{} bytes are too many", artifact.size));
        }
        let mut whys = Vec::new();
        for _ in 0..BUSY_TRIES {
            whys.clear();
            let mut is_busy = false;
            for node in candidates {
                if self.forgers.has(artifact.digest, *node) {
                    continue;
                }
                match self.small_from(*node, artifact).await {
                    Ok(bytes) if Digest::of(&bytes) == artifact.digest => return Ok(bytes),
                    Ok(_) => self.forgers.note(artifact.digest, *node),
                    Err(error) => {
                        is_busy |= matches!(error, CandidateError::Busy(_));
                        whys.push(error.to_string());
                    }
                }
            }
            if !is_busy {
                break;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        Err(whys.join("; "))
    }

    async fn small_from(&self, node: NodeId, artifact: Artifact) -> Result<Bytes, CandidateError> {
        let broke = |source| CandidateError::Broke { node, source };
        let mut stream = self.request(node, artifact, 0).await?;
        let moved = stream.moved();
        let mut bytes = vec![0; usize::try_from(artifact.size).unwrap_or_default()];
        unless_stalled(self.stall_timeout, &moved, stream.read_exact(&mut bytes))
            .await
            .map_err(broke)?;
        self.counters.bytes_fetched.fetch_add(artifact.size, Relaxed);
        Ok(bytes.into())
    }

    /// Opens a stream from which the bytes of an artifact come, from an offset on.
    async fn request(
        &self,
        node: NodeId,
        artifact: Artifact,
        offset: u64,
    ) -> Result<MeshStream, CandidateError> {
        let broke = |source| CandidateError::Broke { node, source };
        let mut stream = self.mesh.open(node, Purpose::Artifact).await?;
        let moved = stream.moved();
        let request = ArtifactRequest { digest: artifact.digest, offset };
        unless_stalled(self.stall_timeout, &moved, request.write(&mut stream))
            .await
            .map_err(broke)?;
        match unless_stalled(self.stall_timeout, &moved, ArtifactAnswer::read(&mut stream))
            .await
            .map_err(broke)?
        {
            ArtifactAnswer::Here { size } if size == artifact.size => {}
            ArtifactAnswer::Here { size } => {
                return Err(CandidateError::Size { node, found: size, expected: artifact.size });
            }
            ArtifactAnswer::Missing => return Err(CandidateError::Missing(node)),
            ArtifactAnswer::Busy => return Err(CandidateError::Busy(node)),
        }
        Ok(stream)
    }

    /// Asks the candidates in turn.
    async fn get_whole(&self, artifact: Artifact, candidates: &[NodeId]) -> Result<(), String> {
        let mut whys = Vec::new();
        for candidate in candidates {
            if self.forgers.has(artifact.digest, *candidate) {
                let node = candidate.short();
                whys.push(format!("node {node} gave other bytes before, and is not asked again"));
                continue;
            }
            let begun = Instant::now();
            match self.get_from(*candidate, artifact).await {
                Ok(()) => {
                    self.client.received(artifact, vec![*candidate], begun.elapsed()).await;
                    return Ok(());
                }
                Err(CandidateError::Store(error)) => return Err(error.to_string()),
                Err(error) => {
                    if let CandidateError::Forged(node) = error {
                        self.forgers.note(artifact.digest, node);
                    }
                    whys.push(error.to_string());
                }
            }
        }
        Err(whys.join("; "))
    }

    async fn get_from(&self, node: NodeId, artifact: Artifact) -> Result<(), CandidateError> {
        loop {
            let Some(mut partial) = self
                .store
                .partial(&artifact.digest, artifact.size)
                .await
                .map_err(CandidateError::Store)?
            else {
                return Ok(());
            };
            let resumed = partial.offset();
            self.pull(node, artifact, &mut partial).await?;
            match partial.finish().await {
                Ok(()) => return Ok(()),
                // The first bytes may be another node's: this candidate is judged by bytes of its
                // own alone.
                Err(Error::Mismatch { .. }) if resumed > 0 => {}
                Err(Error::Mismatch { .. }) => return Err(CandidateError::Forged(node)),
                Err(error) => return Err(CandidateError::Store(error)),
            }
        }
    }

    /// Fetches the missing bytes. Received bytes stay in `partial`, however this ends.
    async fn pull(
        &self,
        node: NodeId,
        artifact: Artifact,
        partial: &mut Partial,
    ) -> Result<(), CandidateError> {
        if partial.offset() == artifact.size {
            return Ok(());
        }
        let broke = |source| CandidateError::Broke { node, source };
        let mut stream = self.request(node, artifact, partial.offset()).await?;
        let moved = stream.moved();
        let mut chunk = BytesMut::new();
        while partial.offset() < artifact.size {
            chunk.reserve(CHUNK);
            let missing = usize::try_from(artifact.size - partial.offset()).unwrap_or(usize::MAX);
            // Read what has arrived, so that a slow link counts as moving; write a whole chunk, so
            // that the disk gets few writes.
            let ended = loop {
                let read =
                    unless_stalled(self.stall_timeout, &moved, stream.read_buf(&mut chunk)).await;
                match read {
                    Ok(0) => break Some(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) if chunk.len() >= CHUNK.min(missing) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error),
                }
            };
            // Bytes beyond the announced size are dropped.
            chunk.truncate(missing);
            let got = chunk.split().freeze();
            self.counters.bytes_fetched.fetch_add(got.len() as u64, Relaxed);
            self.rate_limit.take(got.len()).await;
            partial.append(partial.offset(), got).await.map_err(CandidateError::Store)?;
            if let Some(error) = ended.filter(|_| partial.offset() < artifact.size) {
                return Err(broke(error));
            }
        }
        Ok(())
    }
}
