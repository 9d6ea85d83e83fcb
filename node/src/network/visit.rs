//! An operator's connection, at the operator's program: it knows one address of a node and its own
//! key, and nothing else of the mesh.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxerBox, SubstreamBox};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::noise;
use shoal_protocol::model::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::net::lookup_host;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;

use super::names;
use super::operators::{self, Event};
use super::stream::MeshStream;
use super::tcp::{OPERATOR_PREAMBLE, connect};

/// Time for a name to be found, and for each of its addresses to be connected and proved: some
/// round trips over a satellite.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Requests for streams that may wait.
const MAX_OPENING: usize = 16;

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoVisit {
    #[error("`{address}` has no address: {why}")]
    Name { address: String, why: String },
    #[error("nothing answers at {address}: {why}")]
    Silent { address: SocketAddr, why: String },
    #[error(
        "what answers at {address} is no node of this cluster (or a shoal that takes no operators \
            at its mesh port)"
    )]
    Stranger { address: SocketAddr },
}

/// A connection whose other end has proved its key; it may still be anybody's.
pub struct Line {
    /// The node's key.
    pub node: NodeId,
    /// The address that answered.
    pub address: SocketAddr,
    bytes: MeshStream,
}

/// Connects to the first address of `HOST:PORT` at which a node with this cluster's prologue
/// answers, and proves the key of `seed` to it.
pub async fn dial(host: &str, seed: &[u8; 32], prologue: &[u8; 32]) -> Result<Line, NoVisit> {
    let no_name = |why: String| NoVisit::Name { address: host.into(), why };
    let found = match timeout(STEP_TIMEOUT, lookup_host(host)).await {
        Ok(found) => found.map_err(|error| no_name(error.to_string()))?,
        Err(_) => return Err(no_name("no name server answered in time".into())),
    };
    let mut last = no_name("none was found".into());
    for address in found.take(MAX_ADDRESSES) {
        match timeout(STEP_TIMEOUT, dial_address(address, seed, prologue)).await {
            Ok(Ok(line)) => return Ok(line),
            Ok(Err(error)) => last = error,
            Err(_) => last = NoVisit::Silent { address, why: "it took too long".into() },
        }
    }
    Err(last)
}

async fn dial_address(
    address: SocketAddr,
    seed: &[u8; 32],
    prologue: &[u8; 32],
) -> Result<Line, NoVisit> {
    let silent = |error: io::Error| NoVisit::Silent { address, why: error.to_string() };
    let mut stream = connect(address, None).await.map_err(silent)?;
    operators::watch(&stream).map_err(silent)?;
    stream.write_all(&OPERATOR_PREAMBLE).await.map_err(silent)?;
    let keys = names::keypair(seed);
    let noise = operators::noise(&keys, prologue).map_err(|it| silent(io::Error::other(it)))?;
    let shaken = noise.upgrade_outbound(stream.compat(), "/noise").await;
    let (peer, bytes) = shaken.map_err(|error| match error {
        // Another program answers in another language, or hangs up at this one.
        noise::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => silent(error),
        _ => NoVisit::Stranger { address },
    })?;
    let node = names::node_id(&peer).ok_or(NoVisit::Stranger { address })?;
    Ok(Line { node, address, bytes: MeshStream::new(bytes.compat()) })
}

/// Opens streams on a connection. Dropping all clones closes it.
#[derive(Clone)]
pub struct Opener(mpsc::Sender<oneshot::Sender<MeshStream>>);

impl Line {
    /// Says `frame`, and returns the answer of at most `max` bytes.
    pub async fn ask(&mut self, frame: &[u8], max: usize) -> io::Result<Vec<u8>> {
        let asked = async {
            operators::write_frame(&mut self.bytes, frame).await?;
            operators::read_frame(&mut self.bytes, max).await
        };
        timeout(STEP_TIMEOUT, asked).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Divides the connection into streams, on a task of its own.
    pub async fn opener(self) -> io::Result<Opener> {
        let muxer = operators::multiplexed(self.bytes).await?;
        let (asking, asked) = mpsc::channel(MAX_OPENING);
        tokio::spawn(run(muxer, asked));
        Ok(Opener(asking))
    }
}

impl Opener {
    /// Opens a stream; none when the connection has ended.
    pub async fn open(&self) -> Option<MeshStream> {
        let (reply, opened) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        opened.await.ok()
    }
}

async fn run(mut muxer: StreamMuxerBox, mut asked: mpsc::Receiver<oneshot::Sender<MeshStream>>) {
    let ended = CancellationToken::new();
    let _ends = ended.clone().drop_guard();
    let mut waiting = VecDeque::new();
    let mut is_asked = true;
    loop {
        tokio::select! {
            reply = asked.recv(), if is_asked && waiting.len() < MAX_OPENING => match reply {
                Some(reply) => waiting.push_back(reply),
                // Streams that were opened go on until the process ends.
                None => is_asked = false,
            },
            event = poll_fn(|cx| next(&mut muxer, !waiting.is_empty(), cx)) => match event {
                Ok(stream) => {
                    let stream = MeshStream::on_link(stream.compat(), ended.clone());
                    // A caller that gave up drops the stream, which resets it.
                    waiting.pop_front().map(|reply: oneshot::Sender<_>| reply.send(stream));
                }
                Err(error) => {
                    tracing::debug!(%error, "the connection to the node ended");
                    return;
                }
            },
        }
    }
}

/// The next stream that was opened. A node opens none.
fn next(
    muxer: &mut StreamMuxerBox,
    opens: bool,
    cx: &mut std::task::Context<'_>,
) -> Poll<io::Result<SubstreamBox>> {
    loop {
        match operators::poll(muxer, opens, cx) {
            Poll::Ready(Ok(Event::Opened(stream))) => return Poll::Ready(Ok(stream)),
            Poll::Ready(Ok(Event::Incoming(_))) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}
