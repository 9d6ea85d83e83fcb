//! A link: one connection's two message streams, what waits for them, and the task that reads and
//! writes them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use shoal_protocol::model::{Lane, NodeId};
use shoal_protocol::node::Input;
use shoal_protocol::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::counters::{NetCounters, add};
use super::lane::{HEADER, LaneQueue};

/// Frames that are no message, after which a link is closed: a newer program may say a few things
/// that this one does not know.
const MAX_GARBAGE: u32 = 8;
/// How long a link that is being closed may take to write what waits. A dead one takes for ever.
const DRAIN: Duration = Duration::from_millis(250);
/// A read buffer that grew for a large message is given back above this.
const KEPT_BUFFER: usize = 16 * 1024;

/// Where a link's messages go.
#[derive(Clone)]
pub(super) struct Lanes<T> {
    pub urgent: T,
    pub bulk: T,
}

/// What is held of a running link by those who send on it.
#[derive(Debug, Default)]
pub(super) struct LinkHandle {
    /// Where the peer was found, when this node dialled it: an address that works.
    pub(super) dialled_at: Option<SocketAddr>,
    /// Where the peer dialled from. Its port there is not one that it listens on.
    pub(super) inbound_from: Option<IpAddr>,
    urgent: LaneQueue,
    bulk: LaneQueue,
    closing: Notify,
    /// Cancelled when the link has ended: then its connection carries nothing more, though closing
    /// it may take long.
    pub(super) ended: CancellationToken,
}

impl LinkHandle {
    /// Of a link to a peer that is there.
    pub(super) fn new(dialled_at: Option<SocketAddr>, inbound_from: Option<IpAddr>) -> Self {
        LinkHandle { dialled_at, inbound_from, ..LinkHandle::default() }
    }

    /// Queues a frame; false when there is no room.
    pub(super) fn send(&self, lane: Lane, frame: Vec<u8>) -> bool {
        match lane {
            Lane::Urgent => self.urgent.push(frame),
            Lane::Bulk => self.bulk.push(frame),
        }
    }

    /// Writes what waits, for a moment, then ends the link.
    pub(super) fn close(&self) {
        self.urgent.close();
        self.bulk.close();
        self.closing.notify_one();
    }

    /// Its connection is gone: what was read is handed on, for a moment, and then the link ends.
    pub(super) fn connection_lost(&self) {
        self.closing.notify_one();
    }
}

/// The links that are up, and what waits for each. Locked for a look-up, never across an await.
#[derive(Clone, Default)]
pub(super) struct Links(Arc<Mutex<BTreeMap<NodeId, Arc<LinkHandle>>>>);

impl Links {
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<NodeId, Arc<LinkHandle>>) -> T,
    ) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a link until a stream breaks, the peer talks too much garbage, or it is closed. Says why it
/// ended.
pub(super) async fn run<S>(
    peer: NodeId,
    handle: Arc<LinkHandle>,
    streams: Lanes<S>,
    inbox: Lanes<mpsc::Sender<Input>>,
    counters: Arc<NetCounters>,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let garbage = AtomicU32::new(0);
    let (urgent_in, urgent_out) = tokio::io::split(streams.urgent);
    let (bulk_in, bulk_out) = tokio::io::split(streams.bulk);
    let reader = |inbox| Reader { peer, inbox, counters: &counters, garbage: &garbage };
    let read = read_both(reader(inbox.urgent).run(urgent_in), reader(inbox.bulk).run(bulk_in));
    let written = async {
        // Both lanes end well only when the link is being closed.
        match tokio::try_join!(
            write(&handle.urgent, urgent_out, &counters),
            write(&handle.bulk, bulk_out, &counters)
        ) {
            Ok(_) => "it was closed here".into(),
            Err(error) => {
                // What the peer said before it went may still be unread.
                tokio::time::sleep(DRAIN).await;
                error.to_string()
            }
        }
    };
    let closed = async {
        handle.closing.notified().await;
        tokio::time::sleep(DRAIN).await;
        "it was closed here, and the peer did not take what was left to say".into()
    };
    tokio::select! {
        why = read => why,
        why = written => why,
        why = closed => why,
    }
}

/// How a lane's reading ended.
enum End {
    /// Nothing more comes.
    PeerEnded(String),
    /// Nothing more is wanted.
    Abandoned(String),
}

/// Reads until both lanes are over, so that what was said on one before the end is not lost because
/// the other ended first.
async fn read_both(urgent: impl Future<Output = End>, bulk: impl Future<Output = End>) -> String {
    match select(pin!(urgent), pin!(bulk)).await {
        Either::Left((end, bulk)) => read_other(end, bulk).await,
        Either::Right((end, urgent)) => read_other(end, urgent).await,
    }
}

async fn read_other(first: End, other: impl Future<Output = End>) -> String {
    match first {
        End::Abandoned(why) => why,
        End::PeerEnded(why) => match tokio::time::timeout(DRAIN, other).await {
            Ok(End::Abandoned(why)) => why,
            Ok(End::PeerEnded(_)) | Err(_) => why,
        },
    }
}

async fn write(
    queue: &LaneQueue,
    mut stream: impl AsyncWrite + Unpin,
    counters: &NetCounters,
) -> io::Result<()> {
    let mut out = Vec::new();
    while let Some(frames) = queue.take(&mut out).await {
        stream.write_all(&out).await?;
        stream.flush().await?;
        add(&counters.messages_sent, frames);
        if out.capacity() > KEPT_BUFFER {
            out = Vec::new();
        }
    }
    stream.shutdown().await
}

struct Reader<'a> {
    peer: NodeId,
    inbox: mpsc::Sender<Input>,
    counters: &'a NetCounters,
    garbage: &'a AtomicU32,
}

impl Reader<'_> {
    async fn run(self, mut stream: impl AsyncRead + Unpin) -> End {
        let mut frame = Vec::new();
        loop {
            match read(&mut stream, &mut frame).await {
                Ok(Some(())) => {}
                Ok(None) => return End::PeerEnded("the peer closed it".into()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    // What follows a length that lies cannot be found.
                    self.garbage(error.to_string()).await;
                    return End::Abandoned(error.to_string());
                }
                Err(error) => return End::PeerEnded(error.to_string()),
            }
            let input = match wire::decode(&frame) {
                Ok(message) => {
                    add(&self.counters.messages_received, 1);
                    Input::Message { from: self.peer, message }
                }
                Err(error) => {
                    if self.garbage(error.to_string()).await < MAX_GARBAGE {
                        continue;
                    }
                    return End::Abandoned(format!(
                        "the peer sent {MAX_GARBAGE} frames that are no messages"
                    ));
                }
            };
            // A full inbox holds the stream back, and the peer with it.
            if self.inbox.send(input).await.is_err() {
                return End::Abandoned("this node is stopping".into());
            }
            if frame.capacity() > KEPT_BUFFER {
                frame = Vec::new();
            }
        }
    }

    /// Tells of it, and says how much there was.
    async fn garbage(&self, why: String) -> u32 {
        add(&self.counters.garbage, 1);
        // An error means that the driver is gone, and with it whoever could want to know.
        let _ = self.inbox.send(Input::Garbage { from: self.peer, why }).await;
        self.garbage.fetch_add(1, Relaxed) + 1
    }
}

/// Reads one frame. None at the stream's end; `InvalidData` for a length that cannot be.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    frame: &mut Vec<u8>,
) -> io::Result<Option<()>> {
    let mut header = [0; HEADER];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length == 0 || length > wire::MAX_MESSAGE {
        let why = format!("a frame of {length} bytes, 1 to {} are allowed", wire::MAX_MESSAGE);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    frame.clear();
    frame.resize(length, 0);
    stream.read_exact(frame).await?;
    Ok(Some(()))
}
