//! Makes a carrier: TCP, the preamble, noise with the cluster's prologue, yamux.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncWrite, StreamExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::noise;
use shoal_protocol::model::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::Carriers;
use super::progress::{Flow, Socket};
use crate::network::counters::{NetCounters, add};
use crate::network::tcp::{PREAMBLE, connect};
use crate::network::{names, transport};

/// The head start of an address before the next one is tried.
const HEAD_START: Duration = Duration::from_millis(150);
/// Addresses that are dialled; the one of the link comes first.
const MAX_ADDRESSES: usize = 8;

/// A connection that is ready to carry streams.
pub(super) struct Connection {
    pub(super) muxer: StreamMuxerBox,
    pub(super) flow: Arc<Flow>,
    pub(super) socket: Socket,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no address is known")]
    NoAddress,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the handshake failed: {0}")]
    Handshake(#[from] noise::Error),
    #[error("somebody else answers there")]
    Stranger,
    #[error("it took too long")]
    TimedOut,
}

/// Dials a node at these addresses, each with a head start before the next.
pub(super) async fn dial(
    carriers: &Carriers,
    node: NodeId,
    addresses: &[SocketAddr],
    segment: Option<u32>,
) -> Result<Connection, ConnectError> {
    let mut tries: FuturesUnordered<_> = (0u32..)
        .zip(addresses.iter().take(MAX_ADDRESSES))
        .map(|(position, address)| async move {
            sleep(HEAD_START * position).await;
            dial_address(carriers, node, *address, segment).await
        })
        .collect();
    let first = async {
        let mut why = ConnectError::NoAddress;
        while let Some(connected) = tries.next().await {
            match connected {
                Ok(connected) => return Ok(connected),
                Err(error) => why = error,
            }
        }
        Err(why)
    };
    timeout(transport::DIAL_TIMEOUT, first).await.unwrap_or(Err(ConnectError::TimedOut))
}

async fn dial_address(
    carriers: &Carriers,
    node: NodeId,
    address: SocketAddr,
    segment: Option<u32>,
) -> Result<Connection, ConnectError> {
    let mut stream = connect(address, segment).await?;
    stream.write_all(&PREAMBLE).await?;
    let (metered, flow, socket) = metered(stream, &carriers.counters)?;
    let (peer, bytes) = noise(carriers)?.upgrade_outbound(metered, "/noise").await?;
    if names::node_id(&peer) != Some(node) {
        return Err(ConnectError::Stranger);
    }
    let muxer = transport::yamux().upgrade_outbound(bytes, "/yamux/1.0.0").await?;
    Ok(Connection { muxer: StreamMuxerBox::new(muxer), flow, socket })
}

/// Makes the handshake of an inbound carrier whose preamble was read.
pub(super) async fn accept(
    carriers: &Carriers,
    stream: TcpStream,
) -> Result<(NodeId, Connection), ConnectError> {
    let handshake = async {
        let (metered, flow, socket) = metered(stream, &carriers.counters)?;
        let (peer, bytes) = noise(carriers)?.upgrade_inbound(metered, "/noise").await?;
        let node = names::node_id(&peer).ok_or(ConnectError::Stranger)?;
        let muxer = transport::yamux().upgrade_inbound(bytes, "/yamux/1.0.0").await?;
        Ok((node, Connection { muxer: StreamMuxerBox::new(muxer), flow, socket }))
    };
    timeout(transport::DIAL_TIMEOUT, handshake).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// As for links: a peer of another cluster cannot complete the handshake.
fn noise(carriers: &Carriers) -> Result<noise::Config, noise::Error> {
    Ok(noise::Config::new(&carriers.keys)?.with_prologue(carriers.prologue.to_vec()))
}

fn metered(
    stream: TcpStream,
    counters: &Arc<NetCounters>,
) -> io::Result<(Metered, Arc<Flow>, Socket)> {
    let (flow, socket) = (Arc::<Flow>::default(), Socket::of(&stream)?);
    Ok((
        Metered { stream: stream.compat(), flow: flow.clone(), counters: counters.clone() },
        flow,
        socket,
    ))
}

/// A TCP stream whose bytes are counted, for the node and for its carrier.
struct Metered {
    stream: Compat<TcpStream>,
    flow: Arc<Flow>,
    counters: Arc<NetCounters>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            self.flow.read.fetch_add(bytes as u64, Relaxed);
            add(&self.counters.bytes_received, bytes);
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            self.flow.written.fetch_add(bytes as u64, Relaxed);
            add(&self.counters.bytes_sent, bytes);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
