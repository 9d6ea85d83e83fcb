//! A connection to a node's port: TCP alone, or with handshake and streams.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use futures::io::AsyncWriteExt;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::{noise, tcp, yamux};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Attacker, Target, multistream};

/// A stream within a connection.
pub type Stream = SubstreamBox;

/// Streams that the node opened and that wait to be looked at.
const MAX_ARRIVED: usize = 64;
const MAX_ASKED: usize = 64;
/// Streams whose protocols a node negotiates at one time.
const UNDECIDED: usize = 32;

/// A TCP connection from one of this machine's own addresses.
pub async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection whose handshake is done. Dropping it hangs up.
pub struct Connection {
    asking: mpsc::Sender<oneshot::Sender<Stream>>,
    /// Streams that the node opened, with their protocols.
    pub(super) arrived: mpsc::Receiver<(String, Stream)>,
    running: watch::Receiver<()>,
}

impl Connection {
    /// Connects, and proves the attacker's key.
    pub async fn dial(attacker: &Attacker, target: &Target) -> io::Result<Connection> {
        let stream = connect(attacker.from, target.address).await?;
        let mut stream = tcp::tokio::TcpStream(stream);
        multistream::select(&mut stream, "/noise").await?;
        let noise = noise::Config::new(&attacker.handshake).map_err(io::Error::other)?;
        let noise = noise.with_prologue(attacker.prologue());
        let shaken = noise.upgrade_outbound(stream, "/noise").await;
        let (_, mut bytes) = shaken.map_err(io::Error::other)?;
        multistream::select(&mut bytes, "/yamux/1.0.0").await?;
        let mut yamux = yamux::Config::default();
        // More than a node takes, so that the node has to refuse them.
        yamux.set_max_num_streams(2048);
        let muxer = yamux.upgrade_outbound(bytes, "/yamux/1.0.0").await?;
        let (asking, asked) = mpsc::channel(MAX_ASKED);
        let (arrive, arrived) = mpsc::channel(MAX_ARRIVED);
        let (ended, running) = watch::channel(());
        tokio::spawn(async move {
            drive(StreamMuxerBox::new(muxer), asked, arrive).await;
            drop(ended);
        });
        Ok(Connection { asking, arrived, running })
    }

    /// Opens a stream without a word about its protocol.
    pub async fn open(&self) -> io::Result<Stream> {
        let (reply, opened) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
        self.asking.send(reply).await.map_err(|_| gone())?;
        opened.await.map_err(|_| gone())
    }

    /// Opens a stream of this protocol.
    pub async fn select(&self, protocol: &str) -> io::Result<Stream> {
        let mut stream = self.open().await?;
        multistream::select(&mut stream, protocol).await?;
        Ok(stream)
    }

    /// Fills so many streams with so many bytes each, as far as the node takes them. The first ones
    /// do not say which protocol they want, so that the node looks at no further ones.
    pub async fn fill(&self, streams: usize, bytes: usize) -> Vec<Stream> {
        let content = vec![0x5a; bytes];
        let mut filled = Vec::new();
        for number in 0..streams {
            let Ok(mut stream) = self.open().await else { break };
            let content = if number < UNDECIDED { b"\x13/multi" } else { content.as_slice() };
            let written = async {
                stream.write_all(content).await?;
                stream.flush().await
            };
            let written = tokio::select! {
                written = written => written,
                () = self.ended() => break,
            };
            if written.is_err() {
                break;
            }
            filled.push(stream);
        }
        filled
    }

    /// Returns once the node has hung up.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent: an error means that the task has ended.
        while running.changed().await.is_ok() {}
    }

    /// Whether the node has hung up.
    pub fn has_ended(&self) -> bool {
        self.running.has_changed().is_err()
    }
}

enum Event {
    Opened(Stream),
    Arrived(Stream),
}

async fn drive(
    mut muxer: StreamMuxerBox,
    mut asked: mpsc::Receiver<oneshot::Sender<Stream>>,
    arrive: mpsc::Sender<(String, Stream)>,
) {
    let mut waiting: VecDeque<oneshot::Sender<Stream>> = VecDeque::new();
    loop {
        tokio::select! {
            reply = asked.recv(), if waiting.len() < MAX_ASKED => match reply {
                Some(reply) => waiting.push_back(reply),
                // The connection was dropped.
                None => return,
            },
            event = poll_fn(|cx| poll(&mut muxer, !waiting.is_empty(), cx)) => match event {
                Ok(Event::Opened(stream)) => {
                    // An asker that gave up drops the stream.
                    waiting.pop_front().map(|reply| reply.send(stream));
                }
                Ok(Event::Arrived(mut stream)) => {
                    let arrive = arrive.clone();
                    tokio::spawn(async move {
                        if let Ok(protocol) = multistream::accept(&mut stream).await {
                            // Beyond the bound it is dropped, which resets it.
                            let _ = arrive.try_send((protocol, stream));
                        }
                    });
                }
                Err(_) => return,
            },
        }
    }
}

fn poll(muxer: &mut StreamMuxerBox, opens: bool, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
    if opens && let Poll::Ready(opened) = muxer.poll_outbound_unpin(cx) {
        return Poll::Ready(opened.map(Event::Opened));
    }
    if let Poll::Ready(arrived) = muxer.poll_inbound_unpin(cx) {
        return Poll::Ready(arrived.map(Event::Arrived));
    }
    loop {
        match muxer.poll_unpin(cx) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}
