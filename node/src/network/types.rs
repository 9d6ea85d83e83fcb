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

/// Why there is no network.
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
    /// The address could not be listened on.
    pub(super) fn listen(address: SocketAddr, source: io::Error) -> NetworkError {
        match source.kind() {
            io::ErrorKind::AddrInUse => NetworkError::Taken(address),
            _ => NetworkError::Listen { address, source },
        }
    }
}

/// What the network tells the driver. A link's `LinkUp` is in `urgent` before anything of that link
/// is in one of the others.
#[derive(Debug)]
pub struct Inbox {
    /// Links, dials, and what came on the urgent lanes.
    pub urgent: mpsc::Receiver<Input>,
    /// What came by gossip.
    pub gossip: mpsc::Receiver<Input>,
    /// What came on the bulk lanes.
    pub bulk: mpsc::Receiver<Input>,
}

/// The driver's inbox, from inside.
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
    /// Says something to a peer over the link, and answers whether it has heard.
    Signal {
        node: NodeId,
        signal: Signal,
        reply: oneshot::Sender<bool>,
    },
    /// Transfers on the path to this peer stall while small messages pass, or no longer do.
    PathChanged {
        node: NodeId,
        is_stalling: bool,
    },
    /// A stream came over a common member.
    Arrived(Purpose, Incoming),
    Stop(oneshot::Sender<()>),
}

/// A word that is said by opening a stream on the link, and so is small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// Are you there?
    Ping,
    /// My bytes to you on carriers do not arrive.
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

/// A service's stream, and what is cancelled when its link is over: a connection that is closed
/// here wakes no readers.
pub(super) type LinkStream = (Stream, CancellationToken);

/// Who wanted a dial, and gets its outcome.
pub(super) enum DialRequester {
    /// The core: as an input.
    Core(DialTarget),
    /// Somebody who needs a stream to a node that there is no link to: a word when there is one,
    /// else the sender is dropped.
    Stream(NodeId, oneshot::Sender<()>),
}

/// What one address said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DialOutcome {
    /// The kernel there answered that nobody listens.
    Refused,
    /// The connection was made, or nearly, and closed before anybody proved who they are.
    Closed,
    /// Nothing, or not enough, in time.
    Silent,
    /// There is no way there from here, or no room to try: it says nothing about the peer.
    Unreachable,
    /// This node itself answers there.
    ThisNode,
    /// Another node of the cluster answers there.
    OtherNode(NodeId),
    /// Somebody answers there who is not of this cluster: in words.
    Stranger(String),
}

/// How a link ended.
pub(super) struct Ended {
    pub node: NodeId,
    pub connection: ConnectionId,
    pub why: String,
}

/// The driver is gone: there is nobody to work for.
pub(super) struct DriverGone;

pub(super) type TaskResult = Result<(), DriverGone>;
