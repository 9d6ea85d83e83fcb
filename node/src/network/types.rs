//! Plain types that the other modules pass to one another.

use std::io;
use std::net::SocketAddr;

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::{DialTarget, Input, Ticket, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::stream::{Incoming, Purpose};

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NetworkError {
    #[error("port {} of {} is taken by another program: choose another with --listen, or stop \
        that one", .0.port(), .0.ip())]
    Taken(SocketAddr),
    #[error("{address} cannot be listened on: {source}. Choose another with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the network could not be set up: {0}")]
    SetUp(String),
}

impl NetworkError {
    /// An error for an address that this node cannot listen on.
    pub(super) fn listen(address: SocketAddr, source: io::Error) -> NetworkError {
        match source.kind() {
            io::ErrorKind::AddrInUse => NetworkError::Taken(address),
            _ => NetworkError::Listen { address, source },
        }
    }
}

/// The inputs of the driver. A link's `LinkUp` is in `urgent` before any other input of that link
/// is in one of the queues.
#[derive(Debug)]
pub struct Inbox {
    /// Links, dials, and messages of the urgent lanes.
    pub urgent: mpsc::Receiver<Input>,
    /// Messages that came by gossip.
    pub gossip: mpsc::Receiver<Input>,
    /// Messages of the bulk lanes.
    pub bulk: mpsc::Receiver<Input>,
}

/// The senders of [`Inbox`].
pub(super) struct Inputs {
    pub urgent: mpsc::Sender<Input>,
    pub gossip: mpsc::Sender<Input>,
    pub bulk: mpsc::Sender<Input>,
}

/// Work for the swarm's task.
pub(super) enum Command {
    Broadcast(Vec<u8>),
    Dial {
        target: DialTarget,
        addresses: Vec<String>,
    },
    Reach {
        node: NodeId,
        addresses: Vec<String>,
        linked: oneshot::Sender<()>,
    },
    Resolve(String),
    Disconnect(NodeId),
    Verdict(Ticket, Verdict),
    Open {
        node: NodeId,
        purpose: Purpose,
        reply: oneshot::Sender<Result<LinkStream, OpenFailure>>,
    },
    Accept(Purpose, mpsc::Sender<Incoming>),
    /// Opens a signal's stream on the link to a peer. The answer is whether the peer accepted it.
    Signal {
        node: NodeId,
        signal: Signal,
        reply: oneshot::Sender<bool>,
    },
    /// Transfers on the path to this peer stall while small messages pass, or no longer stall.
    PathChanged {
        node: NodeId,
        is_stalling: bool,
    },
    /// Another node opened a stream to this one over a relay.
    Relayed(Purpose, Incoming),
    Stop(oneshot::Sender<()>),
}

/// A message without content: that its stream is opened on the link carries the meaning, so it is
/// small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// Asks whether the link still works.
    Ping,
    /// The sender's bytes on carriers do not arrive.
    Stalled,
}

/// Why a stream did not open.
#[derive(Debug)]
pub(super) enum OpenFailure {
    NoLink,
    NotOffered,
    TimedOut,
    Broken(String),
}

/// A service's stream on a link, and the token that is cancelled when the link ends: a connection
/// that this node closes wakes no readers.
pub(super) type LinkStream = (Stream, CancellationToken);

/// A party that asked for a dial and gets its outcome.
pub(super) enum DialRequester {
    /// The core gets an input.
    Core(DialTarget),
    /// A caller that needs a stream to a node without a link. The sender fires when there is a
    /// link, and is dropped when the dial fails.
    Stream(NodeId, oneshot::Sender<()>),
}

/// How the dial of one address ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DialOutcome {
    /// The kernel there answered that no process listens.
    Refused,
    /// The connection was made, or nearly, and closed before the other end proved its key.
    Closed,
    /// No answer, or an incomplete one, in time.
    Silent,
    /// No route leads there, or there was no room to try: this proves nothing about the peer.
    Unreachable,
    /// This node itself answers there.
    ThisNode,
    /// Another node of the cluster answers there.
    OtherNode(NodeId),
    /// A process answers there that is not of this cluster. The text describes it.
    Stranger(String),
}

/// How a link ended.
pub(super) struct Ended {
    pub node: NodeId,
    pub connection: ConnectionId,
    pub why: String,
}

/// The driver has stopped, so the network stops too.
pub(super) struct DriverGone;

pub(super) type TaskResult = Result<(), DriverGone>;
