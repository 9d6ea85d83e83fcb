//! Gives pieces to other nodes, also of an artifact that is still on its way here.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shoal_protocol::model::spec::PIECE;
use shoal_protocol::model::{Digest, NodeId, codec};
use shoal_runtimes::artifacts::{ArtifactStore, PieceSource};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::super::rate_limit::RateLimit;
use super::super::{Counters, TransferConfig, unless_stalled};
use super::wire::{Answer, Ask, BLOCK, Frames, MAX_NAMED};
use crate::network::{Acceptor, Incoming, Moved};

/// How long a node may wait on an open stream without a question. One that waits for pieces that
/// are on their way asks when they come.
const QUIET: Duration = Duration::from_secs(120);
/// Artifacts of which is remembered who got which piece. A further one replaces another, whose
/// pieces then may leave twice.
const MAX_GIVEN: usize = 32;

/// How long a node is sent elsewhere for a piece that another got. Those that ask later are
/// another crowd.
const GIVEN_FOR: Duration = Duration::from_secs(30);

pub(in super::super) struct Server {
    store: ArtifactStore,
    permits: Semaphore,
    rate_limit: Arc<RateLimit>,
    stall_timeout: Duration,
    counters: Arc<Counters>,
    /// The node that each piece of a whole artifact was given to last, and when.
    given: Mutex<BTreeMap<Digest, Given>>,
}

type Given = BTreeMap<u32, (NodeId, Instant)>;

/// A stream that is served, and the node at its other end.
struct Session<'a> {
    server: &'a Server,
    from: NodeId,
    digest: Digest,
    frames: Frames,
    moved: Moved,
}

impl Server {
    pub fn new(
        config: &TransferConfig,
        store: ArtifactStore,
        rate_limit: Arc<RateLimit>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Server {
            store,
            permits: Semaphore::new(config.askers),
            rate_limit,
            stall_timeout: config.stall_timeout,
            counters,
            given: Mutex::default(),
        })
    }

    /// Serves until the network has stopped. The mesh bounds the number of streams.
    pub async fn run(self: Arc<Self>, mut acceptor: Acceptor) {
        // Aborted together with this task.
        let mut serving = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                incoming = acceptor.next() => {
                    let Some(incoming) = incoming else { return };
                    let (server, from) = (self.clone(), incoming.from);
                    serving.spawn(async move {
                        if let Err(error) = server.serve(incoming).await {
                            tracing::debug!(peer = %from.short(), %error, "a node that asked for \
                                pieces broke off");
                        }
                    });
                }
                Some(_) = serving.join_next() => {}
            }
        }
    }

    async fn serve(&self, Incoming { from, stream }: Incoming) -> io::Result<()> {
        let moved = stream.moved();
        let mut frames = Frames::new(stream);
        let first = unless_stalled(self.stall_timeout, &moved, frames.next()).await?;
        let Some(Ask::Open { digest, size }) = first else { return Err(not_expected()) };
        let mut session = Session { server: self, from, digest, frames, moved };
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counters.busy.fetch_add(1, Relaxed);
            return session.send(&Answer::Busy).await;
        };
        let source = self.store.piece_source(&digest).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "pieces of an artifact could not be given");
            None
        });
        match source {
            Some(PieceSource::Whole(whole)) if whole.size != size => {
                session.send(&Answer::Missing).await
            }
            Some(source) => session.run(&source, size.div_ceil(PIECE)).await,
            None => session.send(&Answer::Missing).await,
        }
    }

    /// Whether a piece of a whole artifact may be given to a node: nobody else got it, or the node
    /// insists. It counts as given then.
    fn may_give(&self, digest: Digest, index: u32, to: NodeId, insist: bool) -> bool {
        let mut all = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&digest) && all.len() >= MAX_GIVEN {
            all.pop_first();
        }
        let given = all.entry(digest).or_default();
        let now = Instant::now();
        let is_free =
            |(node, at): &(NodeId, Instant)| *node == to || now.duration_since(*at) > GIVEN_FOR;
        let may = insist || given.get(&index).is_none_or(is_free);
        if may {
            given.insert(index, (to, now));
        }
        may
    }
}

impl Session<'_> {
    async fn run(&mut self, source: &PieceSource, pieces: u64) -> io::Result<()> {
        let mut news = match source {
            PieceSource::Whole(_) => {
                self.send(&Answer::All).await?;
                None
            }
            PieceSource::Arriving(arrived) => {
                self.send(&Answer::Here(Vec::new())).await?;
                Some(arrived.watch())
            }
        };
        let mut named = 0;
        loop {
            if let PieceSource::Arriving(arrived) = source {
                let new = arrived.since(named);
                named += new.len();
                for some in new.chunks(MAX_NAMED) {
                    self.send(&Answer::Here(some.to_vec())).await?;
                }
            }
            let ask = tokio::select! {
                ask = timeout(QUIET, self.frames.next()) => match ask {
                    Ok(ask) => ask?,
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                },
                () = changed(&mut news) => continue,
            };
            match ask {
                Some(Ask::Get { index, insist }) if u64::from(index) < pieces => {
                    self.give(source, index, insist).await?;
                }
                Some(_) => return Err(not_expected()),
                None => return Ok(()),
            }
        }
    }

    async fn give(&mut self, source: &PieceSource, index: u32, insist: bool) -> io::Result<()> {
        let is_whole = matches!(source, PieceSource::Whole(_));
        if is_whole && !self.server.may_give(self.digest, index, self.from, insist) {
            return self.send(&Answer::Taken(index)).await;
        }
        let mut offset = 0;
        loop {
            let bytes = source.read(index, offset, BLOCK).await.map_err(io::Error::other)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let length = bytes.len();
            self.server.rate_limit.take(length).await;
            let block = Answer::Block { index, bytes: codec::Bytes(bytes.to_vec()) };
            self.send(&block).await?;
            self.server.counters.bytes_served.fetch_add(length as u64, Relaxed);
            offset += length as u64;
        }
    }

    async fn send(&mut self, answer: &Answer) -> io::Result<()> {
        let limit = self.server.stall_timeout;
        unless_stalled(limit, &self.moved, self.frames.send(answer)).await
    }
}

/// Waits until more pieces are here; for ever if all are.
async fn changed(news: &mut Option<watch::Receiver<usize>>) {
    if let Some(receiver) = news {
        if receiver.changed().await.is_ok() {
            return;
        }
        // All who could tell are gone: there will be no more.
        *news = None;
    }
    std::future::pending().await
}

fn not_expected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this was not the time to ask for it")
}
