//! A session of a fetch with one peer.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use shoal_protocol::model::NodeId;
use shoal_runtimes::artifacts::Error;
use tokio::time::{Instant, sleep, timeout};

use super::super::fetch::Fetcher;
use super::super::unless_stalled;
use super::fetch::Shared;
use super::wanted::Pick;
use super::wire::{Answer, Ask, Frames};
use crate::network::{Moved, OpenError, Purpose};

/// Pieces that one peer is asked for at a time: the next is on its way while one is checked.
const AHEAD: usize = 2;
/// How long a session waits for news before it looks again whether a piece is late.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a peer without anything new holds the place of another.
const IDLE: Duration = Duration::from_secs(1);

/// Why a session ended before all pieces were here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    NoStream(#[from] OpenError),
    #[error("node {} does not pass on pieces", .0.short())]
    NotOffered(NodeId),
    #[error("node {} does not have it", .0.short())]
    Missing(NodeId),
    #[error("node {} is busy", .0.short())]
    Busy(NodeId),
    #[error("node {} broke off: {source}", node.short())]
    Broke { node: NodeId, source: io::Error },
    #[error("node {} gave other bytes than it should", .0.short())]
    Forged(NodeId),
    /// This device's own fault: asking another node would not help.
    #[error(transparent)]
    Store(Error),
}

/// A piece that was asked for.
struct Asked {
    pick: Pick,
    since: Instant,
    bytes: BytesMut,
}

pub(super) struct Session<'a> {
    fetcher: &'a Fetcher,
    shared: &'a Shared,
    peer: NodeId,
    frames: Frames,
    moved: Moved,
    asked: VecDeque<Asked>,
}

/// Asks `peer` for pieces until all are here, it has nothing new while others wait to be asked, or
/// it cannot go on.
pub(super) async fn run(fetcher: &Fetcher, shared: &Shared, peer: NodeId) -> Result<(), Ended> {
    let stream = match fetcher.mesh.open(peer, Purpose::Pieces).await {
        Err(OpenError::NotOffered(node)) => return Err(Ended::NotOffered(node)),
        stream => stream?,
    };
    let (moved, frames) = (stream.moved(), Frames::new(stream));
    let mut session = Session { fetcher, shared, peer, frames, moved, asked: VecDeque::new() };
    let ended = session.run().await;
    {
        let wanted = &mut shared.lock().wanted;
        session.asked.iter().for_each(|asked| wanted.lost(asked.pick.index));
        wanted.gone(&peer);
    }
    shared.news.notify_waiters();
    ended
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Ended> {
        let artifact = self.shared.artifact;
        self.send(&Ask::Open { digest: artifact.digest, size: artifact.size }).await?;
        let first = self.answer().await?;
        // A program without pieces drops the stream.
        let first = first.ok_or(Ended::NotOffered(self.peer))?;
        self.take(first).await?;
        let mut useful = Instant::now();
        loop {
            if !self.asked.is_empty() {
                useful = Instant::now();
            }
            let is_idle =
                useful.elapsed() > IDLE && !self.shared.lock().wanted.is_whole(&self.peer);
            let makes_room = is_idle && self.shared.others_wait;
            if self.shared.arrived.is_complete() || makes_room {
                return Ok(());
            }
            let shared = self.shared;
            let news = shared.news.notified();
            while self.asked.len() < AHEAD {
                let now = Instant::now();
                let Some(pick) = self.shared.lock().wanted.pick(&self.peer, now) else { break };
                self.asked.push_back(Asked { pick, since: now, bytes: BytesMut::new() });
                self.send(&Ask::Get { index: pick.index, insist: pick.insist }).await?;
            }
            let answer = if self.asked.is_empty() {
                tokio::select! {
                    answer = self.frames.next() => answer.map_err(|source| self.broke(source))?,
                    () = news => continue,
                    () = sleep(LOOK_EVERY) => continue,
                }
            } else {
                self.answer().await?
            };
            match answer {
                Some(answer) => self.take(answer).await?,
                None => return Err(self.broke(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    async fn take(&mut self, answer: Answer) -> Result<(), Ended> {
        match answer {
            Answer::All => self.shared.lock().wanted.has_all(self.peer),
            Answer::Here(pieces) => self.shared.lock().wanted.has(self.peer, &pieces),
            Answer::Taken(index) => {
                self.asked.retain(|asked| asked.pick.index != index);
                self.shared.lock().wanted.taken(&self.peer, index);
            }
            Answer::Block { index, bytes } => self.block(index, &bytes.0).await?,
            Answer::Missing => return Err(Ended::Missing(self.peer)),
            Answer::Busy => return Err(Ended::Busy(self.peer)),
        }
        Ok(())
    }

    async fn block(&mut self, index: u32, bytes: &[u8]) -> Result<(), Ended> {
        let arrived = &self.shared.arrived;
        let Some(at) = self.asked.iter().position(|asked| asked.pick.index == index) else {
            let why = format!("piece {index} was not asked for");
            return Err(self.broke(io::Error::new(io::ErrorKind::InvalidData, why)));
        };
        let asked = &mut self.asked[at];
        let length = arrived.length(index);
        if asked.bytes.is_empty() {
            asked.bytes.reserve(usize::try_from(length).unwrap_or_default());
        }
        asked.bytes.extend_from_slice(bytes);
        self.fetcher.counters.bytes_fetched.fetch_add(bytes.len() as u64, Relaxed);
        self.fetcher.rate_limit.take(bytes.len()).await;
        let asked = &mut self.asked[at];
        let got = asked.bytes.len() as u64;
        if bytes.is_empty() || got > length {
            return Err(Ended::Forged(self.peer));
        }
        if got < length {
            return Ok(());
        }
        // Stays among those asked for until it is kept: a fault gives it back to be asked for.
        let (piece, took) = (std::mem::take(&mut asked.bytes).freeze(), asked.since.elapsed());
        if !arrived.put(index, piece).await.map_err(Ended::Store)? {
            return Err(Ended::Forged(self.peer));
        }
        self.asked.remove(at);
        self.shared.came(self.peer, index, took);
        Ok(())
    }

    async fn send(&mut self, ask: &Ask) -> Result<(), Ended> {
        let limit = self.fetcher.stall_timeout;
        let sent = timeout(limit, self.frames.send(ask)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| self.broke(source))
    }

    async fn answer(&mut self) -> Result<Option<Answer>, Ended> {
        let limit = self.fetcher.stall_timeout;
        unless_stalled(limit, &self.moved, self.frames.next())
            .await
            .map_err(|source| Ended::Broke { node: self.peer, source })
    }

    fn broke(&self, source: io::Error) -> Ended {
        Ended::Broke { node: self.peer, source }
    }
}
