//! Serves artifacts to other nodes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shoal_runtimes::artifacts::{ArtifactStore, Error};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::network::{Acceptor, Incoming, MeshStream};

use super::exchange::{ArtifactAnswer, ArtifactRequest, CHUNK};
use super::rate_limit::RateLimit;
use super::{Counters, TransferConfig, unless_stalled};

pub(super) struct Server {
    store: ArtifactStore,
    permits: Arc<Semaphore>,
    pub rate_limit: Arc<RateLimit>,
    stall_timeout: Duration,
    counters: Arc<Counters>,
}

impl Server {
    pub(super) fn new(
        config: &TransferConfig,
        store: ArtifactStore,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(config.serves));
        let rate_limit = Arc::new(RateLimit::new(config.bytes_per_second));
        Arc::new(Server {
            store,
            permits,
            rate_limit,
            stall_timeout: config.stall_timeout,
            counters,
        })
    }

    /// Serves until the network has stopped. The mesh bounds the number of streams.
    pub(super) async fn run(self: Arc<Self>, mut acceptor: Acceptor) {
        // Aborted together with this task.
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
        let request =
            unless_stalled(self.stall_timeout, &moved, ArtifactRequest::read(&mut stream)).await?;
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counters.busy.fetch_add(1, Relaxed);
            return unless_stalled(
                self.stall_timeout,
                &moved,
                finish(&mut stream, ArtifactAnswer::Busy),
            )
            .await;
        };
        // Opening verifies the artifact, and an open one is not evicted.
        let artifact = match self.store.open_artifact(&request.digest).await {
            Ok(artifact) => artifact,
            Err(Error::Missing { .. }) => {
                return unless_stalled(
                    self.stall_timeout,
                    &moved,
                    finish(&mut stream, ArtifactAnswer::Missing),
                )
                .await;
            }
            Err(error) => {
                tracing::warn!(%error, "an artifact could not be given");
                return unless_stalled(
                    self.stall_timeout,
                    &moved,
                    finish(&mut stream, ArtifactAnswer::Missing),
                )
                .await;
            }
        };
        unless_stalled(
            self.stall_timeout,
            &moved,
            ArtifactAnswer::Here { size: artifact.size }.write(&mut stream),
        )
        .await?;
        let mut offset = request.offset;
        while offset < artifact.size {
            let chunk = self
                .store
                .read_at(&request.digest, offset, CHUNK)
                .await
                .map_err(io::Error::other)?;
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.rate_limit.take(chunk.len()).await;
            unless_stalled(self.stall_timeout, &moved, stream.write_all(&chunk)).await?;
            self.counters.bytes_served.fetch_add(chunk.len() as u64, Relaxed);
            offset += chunk.len() as u64;
        }
        unless_stalled(self.stall_timeout, &moved, stream.shutdown()).await
    }
}

async fn finish(stream: &mut MeshStream, answer: ArtifactAnswer) -> io::Result<()> {
    answer.write(stream).await?;
    stream.shutdown().await
}
