//! Gives others what they ask for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shoal_runtimes::artifacts::{ArtifactStore, Error};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::network::{Acceptor, Incoming, MeshStream};

use super::exchange::{Answer, CHUNK, Question};
use super::pace::Pace;
use super::{Config, Counters, within};

pub(super) struct Server {
    store: ArtifactStore,
    room: Arc<Semaphore>,
    pace: Pace,
    patience: Duration,
    counters: Arc<Counters>,
}

impl Server {
    pub(super) fn new(config: &Config, store: ArtifactStore, counters: Arc<Counters>) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(config.serves));
        let pace = Pace::new(config.bytes_per_second);
        Arc::new(Server { store, room, pace, patience: config.patience, counters })
    }

    /// Serves until the network is gone. The mesh bounds how many streams there are at all.
    pub(super) async fn run(self: Arc<Self>, mut acceptor: Acceptor) {
        // Aborted with this task.
        let mut serving = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                incoming = acceptor.next() => {
                    let Some(Incoming { from, stream }) = incoming else { return };
                    let server = self.clone();
                    serving.spawn(async move {
                        if let Err(error) = server.serve(stream).await {
                            tracing::debug!(peer = %from.short(), %error, "an artifact was not \
                                taken to its end");
                        }
                    });
                }
                Some(_) = serving.join_next() => {}
            }
        }
    }

    async fn serve(&self, mut stream: MeshStream) -> io::Result<()> {
        let moved = stream.moved();
        let question = within(self.patience, &moved, Question::read(&mut stream)).await?;
        let Ok(_room) = self.room.try_acquire() else {
            self.counters.busy.fetch_add(1, Relaxed);
            return within(self.patience, &moved, finish(&mut stream, Answer::Busy)).await;
        };
        // Opening verifies, and what is open is not evicted.
        let artifact = match self.store.open_artifact(&question.digest).await {
            Ok(artifact) => artifact,
            Err(Error::Missing { .. }) => {
                return within(self.patience, &moved, finish(&mut stream, Answer::Missing)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "an artifact could not be given");
                return within(self.patience, &moved, finish(&mut stream, Answer::Missing)).await;
            }
        };
        within(self.patience, &moved, Answer::Here { size: artifact.size }.write(&mut stream))
            .await?;
        let mut offset = question.offset;
        while offset < artifact.size {
            let chunk = self
                .store
                .read_at(&question.digest, offset, CHUNK)
                .await
                .map_err(io::Error::other)?;
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pace.take(chunk.len()).await;
            within(self.patience, &moved, stream.write_all(&chunk)).await?;
            self.counters.bytes_served.fetch_add(chunk.len() as u64, Relaxed);
            offset += chunk.len() as u64;
        }
        within(self.patience, &moved, stream.shutdown()).await
    }
}

async fn finish(stream: &mut MeshStream, answer: Answer) -> io::Result<()> {
    answer.write(stream).await?;
    stream.shutdown().await
}
