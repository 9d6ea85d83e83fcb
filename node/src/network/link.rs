//! A link: the two message streams of one connection, their queues, and the task that reads and
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
use shoal_protocol::wire::{self, BadMessage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::counters::{NetCounters, add};
use super::lane::{HEADER, LaneQueue};
use super::roster::Members;

/// Undecodable frames after which a link is closed: a newer program may send a few messages that
/// this one does not know.
const MAX_GARBAGE: u32 = 8;
/// Time for this node's core to take an admission that stands before other words on a link.
const ADMITTED_WITHIN: Duration = Duration::from_millis(250);
/// Frames that a peer may send before it is a member: it asks to be admitted, and again every two
/// seconds, and may send what it says to members a moment too early.
const MAX_GREETINGS: u32 = 64;
/// How long a closing link may take to write its queues. On a dead connection the writes would
/// never end.
const DRAIN: Duration = Duration::from_millis(250);
/// A read buffer that grew above this for a large message is freed.
const KEPT_BUFFER: usize = 16 * 1024;

/// A value for each lane.
#[derive(Clone)]
pub(super) struct Lanes<T> {
    pub urgent: T,
    pub bulk: T,
}

/// A running link, as its senders hold it.
#[derive(Debug, Default)]
pub(super) struct LinkHandle {
    /// The address at which this node dialled the peer.
    pub(super) dialled_at: Option<SocketAddr>,
    /// The address from which the peer dialled. It does not listen on its port there.
    pub(super) inbound_from: Option<IpAddr>,
    urgent: LaneQueue,
    bulk: LaneQueue,
    closing: Notify,
    /// Cancelled when the link has ended: its connection carries nothing more, though closing it
    /// may take long.
    pub(super) ended: CancellationToken,
}

impl LinkHandle {
    /// The handle of a new link.
    pub(super) fn new(dialled_at: Option<SocketAddr>, inbound_from: Option<IpAddr>) -> Self {
        LinkHandle { dialled_at, inbound_from, ..LinkHandle::default() }
    }

    /// Queues a frame; false when the lane's queue is full or closed.
    pub(super) fn send(&self, lane: Lane, frame: Vec<u8>) -> bool {
        match lane {
            Lane::Urgent => self.urgent.push(frame),
            Lane::Bulk => self.bulk.push(frame),
        }
    }

    /// Writes the queues within [`DRAIN`], then ends the link.
    pub(super) fn close(&self) {
        self.urgent.close();
        self.bulk.close();
        self.closing.notify_one();
    }

    /// Notes that the connection is gone: messages already received are handed on within [`DRAIN`],
    /// then the link ends.
    pub(super) fn connection_lost(&self) {
        self.closing.notify_one();
    }
}

/// The links that are up. Locked for a look-up, never across an await.
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

/// Runs a link until a stream breaks, the peer sends too many undecodable frames, or it is closed.
/// Returns why it ended.
pub(super) async fn run<S>(
    peer: NodeId,
    handle: Arc<LinkHandle>,
    streams: Lanes<S>,
    inbox: Lanes<mpsc::Sender<Input>>,
    counters: Arc<NetCounters>,
    members: Members,
) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (garbage, greetings) = (AtomicU32::new(0), AtomicU32::new(0));
    let (urgent_in, urgent_out) = tokio::io::split(streams.urgent);
    let (bulk_in, bulk_out) = tokio::io::split(streams.bulk);
    let reader = |inbox| Reader {
        peer,
        inbox,
        counters: &counters,
        garbage: &garbage,
        greetings: &greetings,
        members: &members,
    };
    let read = read_both(reader(inbox.urgent).run(urgent_in), reader(inbox.bulk).run(bulk_in));
    let written = async {
        // Both writers end without an error only when the link is being closed.
        match tokio::try_join!(
            write(&handle.urgent, urgent_out, &counters),
            write(&handle.bulk, bulk_out, &counters)
        ) {
            Ok(_) => "it was closed here".into(),
            Err(error) => {
                // Messages that the peer sent before it went may still be unread.
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
pub(super) enum End {
    /// The stream ended or broke.
    PeerEnded(String),
    /// This node stopped reading.
    Abandoned(String),
}

/// Reads until both lanes have ended, so that the end of one does not lose messages of the other.
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

pub(super) struct Reader<'a> {
    pub peer: NodeId,
    pub inbox: mpsc::Sender<Input>,
    pub counters: &'a NetCounters,
    pub garbage: &'a AtomicU32,
    /// Frames that came before the peer was a member.
    pub greetings: &'a AtomicU32,
    pub members: &'a Members,
}

impl Reader<'_> {
    pub async fn run(self, mut stream: impl AsyncRead + Unpin) -> End {
        let mut frame = Vec::new();
        loop {
            match read(&mut stream, &mut frame).await {
                Ok(Some(())) => {}
                Ok(None) => return End::PeerEnded("the peer closed it".into()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    // After a wrong length the next frame cannot be found.
                    self.garbage(error.to_string()).await;
                    return End::Abandoned(error.to_string());
                }
                Err(error) => return End::PeerEnded(error.to_string()),
            }
            let is_member = self.members.has(&self.peer);
            if !is_member && self.greetings.fetch_add(1, Relaxed) >= MAX_GREETINGS {
                return End::Abandoned("a stranger said too much".into());
            }
            let input = match wire::decode(&frame) {
                Ok(message) if !is_member && !message.is_greeting() && !self.joins_soon().await => {
                    add(&self.counters.messages_dropped, 1);
                    continue;
                }
                Ok(message) => {
                    add(&self.counters.messages_received, 1);
                    Input::Message { from: self.peer, message }
                }
                // A newer program may send any number of these.
                Err(error @ BadMessage::Kind(_)) => {
                    Input::OtherVersion { from: self.peer, why: error.to_string() }
                }
                Err(error) => {
                    let count = match error.is_other_version() {
                        true => self.other_version(error.to_string()).await,
                        false => self.garbage(error.to_string()).await,
                    };
                    if count < MAX_GARBAGE {
                        continue;
                    }
                    return End::Abandoned(format!(
                        "the peer sent {MAX_GARBAGE} frames that are no messages"
                    ));
                }
            };
            // A full inbox stops the reading, and so slows the peer down.
            if self.inbox.send(input).await.is_err() {
                return End::Abandoned("this node is stopping".into());
            }
            if frame.capacity() > KEPT_BUFFER {
                frame = Vec::new();
            }
        }
    }

    /// Whether the peer is a member in a moment. It may know of its admission, or of this node's, a
    /// little before this node's core does.
    async fn joins_soon(&self) -> bool {
        let mut members = self.members.clone();
        let joined = async {
            while !members.has(&self.peer) {
                members.changed().await;
            }
        };
        tokio::time::timeout(ADMITTED_WITHIN, joined).await.is_ok()
    }

    /// Reports a frame of a version that this program cannot talk to, and returns how many
    /// unreadable ones there were.
    async fn other_version(&self, why: String) -> u32 {
        // An error means that the driver has stopped.
        let _ = self.inbox.send(Input::OtherVersion { from: self.peer, why }).await;
        self.garbage.fetch_add(1, Relaxed) + 1
    }

    /// Reports an undecodable frame, and returns how many there were.
    async fn garbage(&self, why: String) -> u32 {
        add(&self.counters.garbage, 1);
        // An error means that the driver has stopped.
        let _ = self.inbox.send(Input::Garbage { from: self.peer, why }).await;
        self.garbage.fetch_add(1, Relaxed) + 1
    }
}

/// Reads one frame. None at the stream's end; `InvalidData` for an impossible length.
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
    // Room grows with what has come, not with what was announced.
    while frame.len() < length {
        let come = frame.len();
        frame.resize(length.min(come + come.max(KEPT_BUFFER)), 0);
        stream.read_exact(&mut frame[come..]).await?;
    }
    Ok(Some(()))
}
