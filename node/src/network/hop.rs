//! Streams to a node that cannot be dialled, over one member that reaches both.
//!
//! ```text
//!   asking node ── hop stream, "carry to X" ──▶ common member ── hop stream, "for you" ──▶ X
//!   asking node ◀═══════ noise end to end: both keys proven, the purpose inside ═══════▶ X
//! ```
//!
//! **The member in the middle copies bytes that it can neither read nor forge**: X learns who asks
//! from the handshake inside, not from the member. It makes exactly one hop, since it opens its own
//! stream to X over a link or by a dial, never over a hop.

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

/// Streams carried for others at once. Each takes 32 KiB of buffers here and its share of two
/// connections: a device may carry for many pairs and still serve its own clients.
const MOST_CARRIED: usize = 128;
/// Of these for one asking node, so that one pair does not take the hop from all others.
const MOST_FOR_ONE: usize = 64;
/// Bytes copied at a time, each way.
const COPIED: usize = 16 * 1024;
/// A carried stream over which nothing went for so long is cut, at the latest after twice as long.
/// Both ends have shorter time-outs of their own, so this is for ends that are gone.
const IDLE: Duration = Duration::from_secs(120);
/// How long the asking node may take to say where to, and both ends to prove their keys.
const HEAD_WITHIN: Duration = Duration::from_secs(3);
/// How long the common member may take to reach the other node: less than the asking node waits in
/// all, so that it hears why not.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// How long streams that are carried may go on when this node stops, and the pause in one after
/// which it is left.
const DRAIN: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(250);
/// Bytes of a reason.
const MAX_WHY: usize = 200;

/// First byte of a hop stream: carry it on to the node whose id follows.
const CARRY: u8 = 0;
/// First byte of a hop stream: it is for the node that takes it.
const ARRIVED: u8 = 1;
/// The common member's answers: it reaches the node, or a reason follows.
const REACHED: u8 = 0;
const NOT_REACHED: u8 = 1;

/// What both ends of a carried stream seal it with. Bound to the cluster's secret as every
/// connection is, and to this use.
pub(super) fn seal(keys: &Keypair, secret: &[u8; 32]) -> Result<noise::Config, noise::Error> {
    Ok(noise::Config::new(keys)?.with_prologue([&secret[..], b"shoal/hop/1"].concat()))
}

fn code(purpose: Purpose) -> Option<u8> {
    match purpose {
        Purpose::Artifact => Some(0),
        Purpose::Http => Some(1),
        // One hop.
        Purpose::Hop => None,
    }
}

impl Network {
    /// A stream over the first of these members that reaches the node.
    pub(super) async fn open_relayed(
        &self,
        node: NodeId,
        purpose: Purpose,
        hops: &[NodeId],
        dial: String,
    ) -> Result<MeshStream, OpenError> {
        let mut tried = Vec::new();
        for hop in hops {
            match timeout(HEAD_WITHIN, self.over(*hop, node, purpose)).await {
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

    async fn over(
        &self,
        hop: NodeId,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<MeshStream, String> {
        let purpose = code(purpose).ok_or("a hop is not made over a hop")?;
        let told = |error: io::Error| error.to_string();
        let mut stream =
            self.open_linked(hop, Purpose::Hop).await.map_err(|error| error.to_string())?;
        stream.write_all(&[&[CARRY][..], &node.0[..]].concat()).await.map_err(told)?;
        stream.flush().await.map_err(told)?;
        if stream.read_u8().await.map_err(told)? != REACHED {
            let mut why = Vec::new();
            (&mut stream).take(MAX_WHY as u64).read_to_end(&mut why).await.map_err(told)?;
            return Err(String::from_utf8_lossy(&why).into_owned());
        }
        let sealed = self.seal.clone().upgrade_outbound(stream.compat(), "/noise");
        let (peer, sealed) = sealed.await.map_err(|error| error.to_string())?;
        if names::node_id(&peer) != Some(node) {
            return Err("somebody else answered there".to_owned());
        }
        let mut sealed = sealed.compat();
        sealed.write_all(&[purpose]).await.map_err(told)?;
        sealed.flush().await.map_err(told)?;
        Ok(MeshStream::relayed(sealed, hop))
    }
}

/// Carries streams for others, and takes those that were carried here, until `stop` or the
/// network's end.
pub async fn serve(network: Network, mut streams: Acceptor, stop: CancellationToken) {
    let open = TaskTracker::new();
    let carried = Carried::default();
    loop {
        let incoming = tokio::select! {
            next = streams.next() => next,
            () = stop.cancelled() => None,
        };
        let Some(incoming) = incoming else { break };
        let (network, carried, stop) = (network.clone(), carried.clone(), stop.clone());
        open.spawn(take(network, incoming, carried, stop));
    }
    open.close();
    open.wait().await;
}

async fn take(network: Network, incoming: Incoming, carried: Carried, stop: CancellationToken) {
    let Incoming { from, mut stream } = incoming;
    let head = async {
        match stream.read_u8().await? {
            CARRY => {
                let mut to = [0; 32];
                stream.read_exact(&mut to).await?;
                Ok(Some(NodeId(to)))
            }
            ARRIVED => Ok(None),
            // Of a newer program, perhaps.
            other => Err(io::Error::other(format!("it begins with {other}"))),
        }
    };
    let head = timeout(HEAD_WITHIN, head).await;
    let ended = match head {
        Ok(Ok(Some(to))) => carry(&network, from, to, stream, &carried, &stop).await,
        Ok(Ok(None)) => arrive(&network, stream).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(from = %from.short(), %error, "a stream over a hop ended");
    }
}

/// Opens a stream to `to` and copies both ways.
async fn carry(
    network: &Network,
    from: NodeId,
    to: NodeId,
    mut stream: MeshStream,
    carried: &Carried,
    stop: &CancellationToken,
) -> io::Result<()> {
    let opened = match carried.take(from) {
        Ok(room) => {
            let reached = timeout(REACHED_WITHIN, network.open_direct(to, Purpose::Hop)).await;
            let reached = reached.unwrap_or(Err(OpenError::TimedOut(to)));
            reached.map(|stream| (stream, room)).map_err(|error| match error {
                OpenError::Unreachable { dial, .. } => dial,
                error => error.to_string(),
            })
        }
        Err(why) => Err(why.to_owned()),
    };
    let (mut onward, _room) = match opened {
        Ok(opened) => opened,
        Err(mut why) => {
            add(&network.counters.hops_refused, 1);
            why.truncate(why.floor_char_boundary(MAX_WHY));
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
    let (mut near, mut far) = (Noted::new(stream, &moved), Noted::new(onward, &moved));
    tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut near, &mut far, COPIED, COPIED) => copied.map(drop),
        () = idle(&moved) => Err(io::ErrorKind::TimedOut.into()),
        () = drained(stop, &moved) => Ok(()),
    }
}

/// A stream that was carried here: it is handed on as though its author had opened it.
async fn arrive(network: &Network, stream: MeshStream) -> io::Result<()> {
    let opened = async {
        let sealed = network.seal.clone().upgrade_inbound(stream.compat(), "/noise");
        let (peer, sealed) = sealed.await.map_err(io::Error::other)?;
        let from =
            names::node_id(&peer).ok_or_else(|| io::Error::other("its key is of another kind"))?;
        let mut sealed = sealed.compat();
        let purpose = sealed.read_u8().await?;
        let purpose = [Purpose::Artifact, Purpose::Http]
            .into_iter()
            .find(|known| code(*known) == Some(purpose));
        let purpose =
            purpose.ok_or_else(|| io::Error::other("it is for what this program does not know"))?;
        Ok::<_, io::Error>((purpose, Incoming { from, stream: MeshStream::new(sealed) }))
    };
    let (purpose, incoming) =
        timeout(HEAD_WITHIN, opened).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    // An error means that the network has stopped.
    let _ = network.commands.send(Command::Arrived(purpose, incoming)).await;
    Ok(())
}

/// How many streams are carried, by asking node.
#[derive(Clone, Default)]
struct Carried(Arc<Mutex<BTreeMap<NodeId, usize>>>);

impl Carried {
    fn take(&self, node: NodeId) -> Result<Room, &'static str> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= MOST_CARRIED {
            return Err("it carries as many streams as it can");
        }
        let of_node = all.entry(node).or_default();
        if *of_node >= MOST_FOR_ONE {
            return Err("it carries as many streams for this node as it does for one");
        }
        *of_node += 1;
        Ok(Room { all: self.0.clone(), node })
    }
}

/// The right to one carried stream.
struct Room {
    all: Arc<Mutex<BTreeMap<NodeId, usize>>>,
    node: NodeId,
}

impl Drop for Room {
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

/// Ends when nothing has moved for [`IDLE`].
async fn idle(moved: &AtomicU64) {
    loop {
        let before = moved.load(Relaxed);
        sleep(IDLE).await;
        if moved.load(Relaxed) == before {
            return;
        }
    }
}

/// Ends when this node stops, once nothing moves any more: requests under way between two others
/// may end.
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
    // What goes on for longer is cut.
    let _ = timeout(DRAIN, quiet).await;
}

/// Bytes of which it is noted that they move.
struct Noted<T> {
    bytes: T,
    moved: Arc<AtomicU64>,
}

impl<T> Noted<T> {
    fn new(bytes: T, moved: &Arc<AtomicU64>) -> Self {
        Noted { bytes, moved: moved.clone() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Noted<T> {
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

impl<T: AsyncWrite + Unpin> AsyncWrite for Noted<T> {
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

    /// One pair asked for everything that a member can carry. The other pairs that need the same
    /// member still get their share.
    #[test]
    fn one_node_does_not_take_the_hop_from_all_others() {
        let carried = Carried::default();
        let node = |number: u8| NodeId([number; 32]);
        let greedy: Vec<_> = std::iter::from_fn(|| carried.take(node(1)).ok()).collect();
        assert_eq!(greedy.len(), MOST_FOR_ONE);
        let others: Vec<_> = std::iter::from_fn(|| carried.take(node(2)).ok()).collect();
        assert_eq!(others.len(), MOST_CARRIED - MOST_FOR_ONE);
        assert!(carried.take(node(3)).is_err(), "in all");
        drop(greedy);
        assert!(carried.take(node(3)).is_ok(), "room is given back");
        drop(others);
        assert!(carried.0.lock().unwrap().is_empty(), "of a node without streams nothing is kept");
    }
}
