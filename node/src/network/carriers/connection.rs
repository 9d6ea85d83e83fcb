//! The task and the handle of a carrier.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use shoal_protocol::model::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::CancellationToken;

use super::Carriers;
use super::paths::Direction;
use super::progress::{Backlog, Flow, Progress, Socket};
use crate::network::stream::{Hold, MeshStream, Purpose, SharedConnection};

/// How often a carrier is checked for stalls and idleness.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Streams that may wait to be opened; further requests wait in the channel.
const MAX_OPEN_REQUESTS: usize = 64;
/// How long the opener of a stream may take to send its purpose.
const PURPOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long closing may take to write the rest.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);
/// Bytes after which a path is known to carry full-sized packets: far more than fits into small
/// packets by chance.
const PROOF_BYTES: u64 = 256 * 1024;

type OpenRequest = oneshot::Sender<SubstreamBox>;

/// A running carrier, as its streams and the list of carriers hold it.
pub(in crate::network) struct Carrier {
    pub(super) node: NodeId,
    requests: mpsc::Sender<OpenRequest>,
    pub(super) flow: Arc<Flow>,
    streams: AtomicUsize,
    last_used: Mutex<Instant>,
    ended: CancellationToken,
    reason: OnceLock<String>,
    /// A stall is suspected and being verified.
    pub(super) is_suspected: AtomicBool,
    /// Sent bytes do not arrive.
    pub(super) is_stalled: AtomicBool,
    /// Its packets are longer than [`crate::network::tcp::SMALL_SEGMENT`].
    pub(super) is_full_sized: bool,
    /// How long the carrier stays open without streams.
    idle_after: Duration,
    /// A test pretends that the kernel reports no progress.
    #[cfg(test)]
    pub(super) is_stuck: AtomicBool,
}

impl Carrier {
    /// A carrier to `node`, and the requests for its task.
    pub(super) fn new(
        carriers: &Carriers,
        node: NodeId,
        flow: Arc<Flow>,
        socket: &Socket,
    ) -> (Arc<Self>, OpenRequests) {
        let (requests, incoming_requests) = mpsc::channel(MAX_OPEN_REQUESTS);
        let carrier = Carrier {
            node,
            requests,
            flow,
            streams: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            ended: carriers.stop.child_token(),
            reason: OnceLock::new(),
            is_suspected: AtomicBool::new(false),
            is_stalled: AtomicBool::new(false),
            is_full_sized: socket.is_full_sized(),
            idle_after: carriers.limits.idle_after,
            #[cfg(test)]
            is_stuck: AtomicBool::new(false),
        };
        (Arc::new(carrier), OpenRequests(incoming_requests))
    }

    /// Opens a stream; none when the carrier has ended.
    pub(in crate::network) async fn open(self: &Arc<Self>, purpose: Purpose) -> Option<MeshStream> {
        // Counted from now on, so that the carrier does not end for being idle.
        let hold = Hold::new(self.clone());
        let (request, opened) = oneshot::channel();
        self.requests.send(request).await.ok()?;
        let mut stream = opened.await.ok()?.compat();
        stream.write_all(&[code(purpose)]).await.ok()?;
        stream.flush().await.ok()?;
        Some(MeshStream::on_carrier(stream, hold, None))
    }

    /// Sets the reason of the end, whatever ends the carrier later.
    pub(super) fn set_reason(&self, reason: String) {
        // The first reason counts.
        let _ = self.reason.set(reason);
    }

    /// Ends the carrier and, with this reason, its streams.
    pub(in crate::network) fn end(&self, reason: String) {
        self.set_reason(reason);
        self.ended.cancel();
    }

    /// Whether a stream may be opened on it. Either side closes an idle carrier; an opener does not
    /// use one that has been idle for half that time, so that its stream does not meet the close.
    pub(super) fn is_fresh(&self) -> bool {
        !self.ended.is_cancelled()
            && (self.streams.load(Relaxed) > 0 || self.idle() < self.idle_after / 2)
    }

    fn idle(&self) -> Duration {
        self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn backlog(&self, socket: &Socket) -> Option<Backlog> {
        #[cfg(test)]
        if self.is_stuck.load(Relaxed) {
            let unacknowledged = self.flow.written.load(Relaxed);
            return Some(Backlog { unacknowledged, in_flight: unacknowledged });
        }
        socket.backlog()
    }
}

impl SharedConnection for Carrier {
    fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    fn stream_closed(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.streams.fetch_sub(1, Relaxed);
    }

    fn moved(&self) -> u64 {
        self.flow.moved()
    }

    fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn reason(&self) -> &str {
        self.reason.get().map_or("this node is stopping", String::as_str)
    }
}

/// The requests for streams.
pub(super) struct OpenRequests(mpsc::Receiver<OpenRequest>);

/// An event of a muxer.
enum Event {
    Opened(SubstreamBox),
    Incoming(SubstreamBox),
    Broke(String),
}

fn poll(muxer: &mut StreamMuxerBox, has_requests: bool, cx: &mut Context<'_>) -> Poll<Event> {
    let broke = |error: std::io::Error| Poll::Ready(Event::Broke(error.to_string()));
    if has_requests {
        match muxer.poll_outbound_unpin(cx) {
            Poll::Ready(Ok(stream)) => return Poll::Ready(Event::Opened(stream)),
            Poll::Ready(Err(error)) => return broke(error),
            Poll::Pending => {}
        }
    }
    match muxer.poll_inbound_unpin(cx) {
        Poll::Ready(Ok(stream)) => return Poll::Ready(Event::Incoming(stream)),
        Poll::Ready(Err(error)) => return broke(error),
        Poll::Pending => {}
    }
    loop {
        match muxer.poll_unpin(cx) {
            // No address changes: these are TCP connections.
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return broke(error),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// How a carrier's task ended.
enum End {
    Broke(String),
    Idle,
    /// [`Carrier::end`] was called, with a reason.
    Requested,
}

/// Runs a carrier to its end.
pub(super) async fn run(
    carriers: Arc<Carriers>,
    carrier: Arc<Carrier>,
    mut muxer: StreamMuxerBox,
    requests: OpenRequests,
    socket: Socket,
) {
    match serve(&carriers, &carrier, &mut muxer, requests, &socket).await {
        End::Broke(reason) => {
            carrier.end(format!("the connection to node {} broke: {reason}", carrier.node.short()))
        }
        End::Idle => carrier.end("it was closed, since nobody used it".into()),
        End::Requested => {}
    }
    carriers.forget(&carrier);
    tracing::debug!(peer = %carrier.node.short(), why = carrier.reason(), "a carrier ended");
    // Closing writes the rest if possible. On a path that loses it, a reset ends the connection.
    if timeout(CLOSE_TIMEOUT, muxer.close()).await.is_err() || carrier.is_stalled.load(Relaxed) {
        socket.reset_on_close();
    }
}

async fn serve(
    carriers: &Arc<Carriers>,
    carrier: &Arc<Carrier>,
    muxer: &mut StreamMuxerBox,
    OpenRequests(mut requests): OpenRequests,
    socket: &Socket,
) -> End {
    let mut pending = VecDeque::<OpenRequest>::new();
    let mut check = interval(CHECK_EVERY.min(carriers.limits.stall_after / 4));
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = StallWatch { progress: Progress::new(), proven: (false, false) };
    loop {
        tokio::select! {
            () = carrier.ended.cancelled() => return End::Requested,
            event = poll_fn(|cx| poll(muxer, !pending.is_empty(), cx)) => match event {
                // A caller that gave up drops the stream, which resets it.
                Event::Opened(stream) => {
                    drop(pending.pop_front().map(|request| request.send(stream)));
                }
                Event::Incoming(stream) => {
                    tokio::spawn(incoming(carriers.clone(), carrier.clone(), stream));
                }
                Event::Broke(reason) => return End::Broke(reason),
            },
            Some(request) = requests.recv(), if pending.len() < MAX_OPEN_REQUESTS => {
                pending.push_back(request);
            }
            _ = check.tick() => {
                watch.check(carriers, carrier, socket);
                if carrier.streams.load(Relaxed) == 0
                    && pending.is_empty()
                    && carrier.idle() >= carrier.idle_after
                {
                    return End::Idle;
                }
            }
        }
    }
}

/// Watches a carrier's progress.
struct StallWatch {
    progress: Progress,
    /// Whether full-sized packets passed, outbound and inbound.
    proven: (bool, bool),
}

impl StallWatch {
    fn check(&mut self, carriers: &Arc<Carriers>, carrier: &Arc<Carrier>, socket: &Socket) {
        let Some(backlog) = carrier.backlog(socket) else { return };
        let waited = self.progress.sample(Instant::now(), &carrier.flow, backlog);
        let is_late = waited.is_some_and(|waited| waited >= carriers.limits.stall_after);
        if is_late && !carrier.is_suspected.swap(true, Relaxed) {
            tokio::spawn(carriers.clone().on_stall(carrier.clone()));
        }
        if carrier.is_full_sized {
            let (out, into) = (&carrier.flow.acknowledged, &carrier.flow.read);
            for (proven, bytes, direction) in [
                (&mut self.proven.0, out, Direction::Out),
                (&mut self.proven.1, into, Direction::In),
            ] {
                if !*proven && bytes.load(Relaxed) >= PROOF_BYTES {
                    *proven = true;
                    carriers.on_full_packets(carrier.node, direction);
                }
            }
        }
    }
}

/// Delivers an inbound stream, once the peer has sent its purpose.
async fn incoming(carriers: Arc<Carriers>, carrier: Arc<Carrier>, stream: SubstreamBox) {
    let hold = Hold::new(carrier.clone());
    let mut stream = stream.compat();
    let Ok(Ok(code)) = timeout(PURPOSE_TIMEOUT, stream.read_u8()).await else { return };
    // An unknown purpose is of a newer program: dropping the stream resets it, so its opener knows.
    let Some(purpose) = purpose(code) else { return };
    let node = carrier.node;
    carriers
        .services
        .deliver(node, purpose, |permit| MeshStream::on_carrier(stream, hold, Some(permit)));
}

/// The first byte of a stream, which names its purpose.
fn code(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Artifact => 1,
        Purpose::Http => 2,
        Purpose::Hop => 3,
        Purpose::Pieces => 4,
    }
}

fn purpose(code: u8) -> Option<Purpose> {
    match code {
        1 => Some(Purpose::Artifact),
        2 => Some(Purpose::Http),
        3 => Some(Purpose::Hop),
        4 => Some(Purpose::Pieces),
        _ => None,
    }
}
