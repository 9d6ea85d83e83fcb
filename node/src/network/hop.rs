//! Streams to a node that cannot be dialled, over one hop: a relay, which is a member that reaches
//! both.
//!
//! ```text
//!   asking node ── hop stream, "relay to X" ──▶ relay ── hop stream, "for you" ──▶ X
//!   asking node ◀═══ noise end to end: both keys proven, the purpose inside ═══▶ X
//! ```
//!
//! **The relay copies bytes that it can neither read nor forge**: X learns the asking node's key
//! from the inner handshake, not from the relay. There is exactly one hop, since the relay opens
//! its own stream to X over a link or by a dial, never over another relay.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::noise;
use shoal_protocol::model::NodeId;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes,
};
use tokio::time::{sleep, timeout};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::add;
use super::handle::Network;
use super::names;
use super::stream::{Acceptor, Incoming, MeshStream, OpenError, Purpose};
use super::types::Command;

/// Streams relayed at once. Each takes 32 KiB of buffers here and its share of two connections: a
/// device may relay for many pairs and still serve its own clients.
const MAX_RELAYED: usize = 128;
/// Of these, streams of one asking node, so that one pair does not use up the relay.
const MAX_PER_NODE: usize = 64;
/// Bytes copied at a time, in each direction.
const COPY_BUFFER: usize = 16 * 1024;
/// A relayed stream is cut when nothing moves on it for this long, at the latest after twice as
/// long. Both ends have shorter time-outs, so this is for ends that are gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for the asking node to name the target, and for both ends to prove their keys.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the relay to reach the other node: less than the asking node waits in all, so that it
/// gets the reason.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long relayed streams may go on when this node stops, and the pause in one after which it is
/// cut.
const DRAIN: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(250);
/// Bytes of a reason for not relaying.
const MAX_REASON: usize = 200;

/// First byte of a hop stream: relay it to the node whose id follows.
const RELAY: u8 = 0;
/// First byte of a hop stream: it is for the node that accepts it.
const ARRIVED: u8 = 1;
/// The relay's answers: it reaches the node, or a reason follows.
const REACHED: u8 = 0;
const NOT_REACHED: u8 = 1;

/// The noise configuration for both ends of a relayed stream. It is bound to the cluster's
/// prologue, as every connection is, and to this use.
pub(super) fn seal(keys: &Keypair, prologue: &[u8; 32]) -> Result<noise::Config, noise::Error> {
    Ok(noise::Config::new(keys)?.with_prologue([&prologue[..], b"shoal/hop/1"].concat()))
}

fn code(purpose: Purpose) -> Option<u8> {
    match purpose {
        Purpose::Artifact => Some(0),
        Purpose::Http => Some(1),
        // There is one hop only.
        Purpose::Hop => None,
        Purpose::Pieces => Some(2),
    }
}

impl Network {
    /// Opens a stream over the first of these relays that reaches the node.
    pub(super) async fn open_relayed(
        &self,
        node: NodeId,
        purpose: Purpose,
        hops: &[NodeId],
        dial: String,
    ) -> Result<MeshStream, OpenError> {
        let mut tried = Vec::new();
        for hop in hops {
            match timeout(HEAD_TIMEOUT, self.relay_through(*hop, node, purpose)).await {
                Ok(Ok(stream)) => {
                    add(&self.counters.hops_opened, 1);
                    return Ok(stream);
                }
                Ok(Err(why)) => tried.push((*hop, why)),
                Err(_) => tried.push((*hop, "no answer in time".to_owned())),
            }
        }
        Err(OpenError::Unreachable { node, dial, tried })
    }

    async fn relay_through(
        &self,
        hop: NodeId,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<MeshStream, String> {
        let purpose = code(purpose).ok_or("a hop is not made over a hop")?;
        let text = |error: io::Error| error.to_string();
        let mut stream =
            self.open_linked(hop, Purpose::Hop).await.map_err(|error| error.to_string())?;
        stream.write_all(&[&[RELAY][..], &node.0[..]].concat()).await.map_err(text)?;
        stream.flush().await.map_err(text)?;
        if stream.read_u8().await.map_err(text)? != REACHED {
            let mut why = Vec::new();
            (&mut stream).take(MAX_REASON as u64).read_to_end(&mut why).await.map_err(text)?;
            return Err(String::from_utf8_lossy(&why).into_owned());
        }
        let sealed = self.seal.clone().upgrade_outbound(stream.compat(), "/noise");
        let (peer, sealed) = sealed.await.map_err(|error| error.to_string())?;
        if names::node_id(&peer) != Some(node) {
            return Err("somebody else answered there".to_owned());
        }
        let mut sealed = sealed.compat();
        sealed.write_all(&[purpose]).await.map_err(text)?;
        sealed.flush().await.map_err(text)?;
        Ok(MeshStream::relayed(sealed, hop))
    }
}

/// Relays streams for others, and accepts relayed streams to this node, until `stop` or the
/// network's end.
pub async fn serve(network: Network, mut streams: Acceptor, stop: CancellationToken) {
    let open = TaskTracker::new();
    let relayed = RelayedStreams::default();
    loop {
        let incoming = tokio::select! {
            next = streams.next() => next,
            () = stop.cancelled() => None,
        };
        let Some(incoming) = incoming else { break };
        let (network, relayed, stop) = (network.clone(), relayed.clone(), stop.clone());
        open.spawn(handle_stream(network, incoming, relayed, stop));
    }
    open.close();
    open.wait().await;
}

async fn handle_stream(
    network: Network,
    incoming: Incoming,
    relayed: RelayedStreams,
    stop: CancellationToken,
) {
    let Incoming { from, mut stream } = incoming;
    let head = async {
        match stream.read_u8().await? {
            RELAY => {
                let mut to = [0; 32];
                stream.read_exact(&mut to).await?;
                Ok(Some(NodeId(to)))
            }
            ARRIVED => Ok(None),
            // Perhaps of a newer program.
            other => Err(io::Error::other(format!("it begins with {other}"))),
        }
    };
    let head = timeout(HEAD_TIMEOUT, head).await;
    let ended = match head {
        Ok(Ok(Some(to))) => relay(&network, from, to, stream, &relayed, &stop).await,
        Ok(Ok(None)) => accept_relayed(&network, stream).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(from = %from.short(), %error, "a stream over a hop ended");
    }
}

/// Opens a stream to `to` and copies in both directions.
async fn relay(
    network: &Network,
    from: NodeId,
    to: NodeId,
    mut stream: MeshStream,
    relayed: &RelayedStreams,
    stop: &CancellationToken,
) -> io::Result<()> {
    let opened = match relayed.acquire(from) {
        Ok(permit) => {
            let reached = timeout(REACH_TIMEOUT, network.open_direct(to, Purpose::Hop)).await;
            let reached = reached.unwrap_or(Err(OpenError::TimedOut(to)));
            reached.map(|stream| (stream, permit)).map_err(|error| match error {
                OpenError::Unreachable { dial, .. } => dial,
                error => error.to_string(),
            })
        }
        Err(why) => Err(why.to_owned()),
    };
    let (mut onward, _permit) = match opened {
        Ok(opened) => opened,
        Err(mut why) => {
            add(&network.counters.hops_refused, 1);
            why.truncate(why.floor_char_boundary(MAX_REASON));
            stream.write_all(&[&[NOT_REACHED][..], why.as_bytes()].concat()).await?;
            return stream.shutdown().await;
        }
    };
    onward.write_all(&[ARRIVED]).await?;
    onward.flush().await?;
    stream.write_all(&[REACHED]).await?;
    stream.flush().await?;
    add(&network.counters.hops_carried, 1);
    let moved = Arc::<AtomicU64>::default();
    let (mut near, mut far) = (Counted::new(stream, &moved), Counted::new(onward, &moved));
    tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut near, &mut far, COPY_BUFFER, COPY_BUFFER) => {
            copied.map(drop)
        }
        () = idle(&moved) => Err(io::ErrorKind::TimedOut.into()),
        () = drained(stop, &moved) => Ok(()),
    }
}

/// Accepts a relayed stream, and delivers it as if the asking node had opened it directly.
async fn accept_relayed(network: &Network, stream: MeshStream) -> io::Result<()> {
    let opened = async {
        let sealed = network.seal.clone().upgrade_inbound(stream.compat(), "/noise");
        let (peer, sealed) = sealed.await.map_err(io::Error::other)?;
        let from =
            names::node_id(&peer).ok_or_else(|| io::Error::other("its key is of another kind"))?;
        let mut sealed = sealed.compat();
        let purpose = sealed.read_u8().await?;
        let purpose = [Purpose::Artifact, Purpose::Http, Purpose::Pieces]
            .into_iter()
            .find(|known| code(*known) == Some(purpose));
        let purpose =
            purpose.ok_or_else(|| io::Error::other("it is for what this program does not know"))?;
        Ok::<_, io::Error>((purpose, Incoming { from, stream: MeshStream::new(sealed) }))
    };
    let (purpose, incoming) =
        timeout(HEAD_TIMEOUT, opened).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    // An error means that the network has stopped.
    let _ = network.commands.send(Command::Relayed(purpose, incoming)).await;
    Ok(())
}

/// Relayed streams, counted by asking node.
#[derive(Clone, Default)]
struct RelayedStreams(Arc<Mutex<BTreeMap<NodeId, usize>>>);

impl RelayedStreams {
    fn acquire(&self, node: NodeId) -> Result<RelayPermit, &'static str> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= MAX_RELAYED {
            return Err("it carries as many streams as it can");
        }
        let of_node = all.entry(node).or_default();
        if *of_node >= MAX_PER_NODE {
            return Err("it carries as many streams for this node as it does for one");
        }
        *of_node += 1;
        Ok(RelayPermit { all: self.0.clone(), node })
    }
}

/// The right to one relayed stream.
struct RelayPermit {
    all: Arc<Mutex<BTreeMap<NodeId, usize>>>,
    node: NodeId,
}

impl Drop for RelayPermit {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_node) = all.get_mut(&self.node) {
            *of_node -= 1;
            if *of_node == 0 {
                all.remove(&self.node);
            }
        }
    }
}

/// Returns when nothing has moved for [`IDLE_TIMEOUT`].
async fn idle(moved: &AtomicU64) {
    loop {
        let before = moved.load(Relaxed);
        sleep(IDLE_TIMEOUT).await;
        if moved.load(Relaxed) == before {
            return;
        }
    }
}

/// When this node stops, returns once nothing moves any more: requests between two other nodes may
/// finish.
async fn drained(stop: &CancellationToken, moved: &AtomicU64) {
    stop.cancelled().await;
    let quiet = async {
        loop {
            let before = moved.load(Relaxed);
            sleep(QUIET).await;
            if moved.load(Relaxed) == before {
                return;
            }
        }
    };
    // A longer stream is cut.
    let _ = timeout(DRAIN, quiet).await;
}

/// A stream whose moved bytes are counted.
struct Counted<T> {
    bytes: T,
    moved: Arc<AtomicU64>,
}

impl<T> Counted<T> {
    fn new(bytes: T, moved: &Arc<AtomicU64>) -> Self {
        Counted { bytes, moved: moved.clone() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buf);
        self.moved.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.bytes).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.moved.fetch_add(*written as u64, Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair asked for everything that a relay can carry. The other pairs that need the same relay
    /// still get their share.
    #[test]
    fn one_node_cannot_use_up_a_relay() {
        let relayed = RelayedStreams::default();
        let node = |number: u8| NodeId([number; 32]);
        let greedy: Vec<_> = std::iter::from_fn(|| relayed.acquire(node(1)).ok()).collect();
        assert_eq!(greedy.len(), MAX_PER_NODE);
        let others: Vec<_> = std::iter::from_fn(|| relayed.acquire(node(2)).ok()).collect();
        assert_eq!(others.len(), MAX_RELAYED - MAX_PER_NODE);
        assert!(relayed.acquire(node(3)).is_err(), "in all");
        drop(greedy);
        assert!(relayed.acquire(node(3)).is_ok(), "permits are given back");
        drop(others);
        assert!(relayed.0.lock().unwrap().is_empty(), "a node without streams is forgotten");
    }
}
