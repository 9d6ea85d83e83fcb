//! The stream protocols of shoal: two lanes of messages on each link, streams for artifacts and
//! HTTP, and signals.
//!
//! Not libp2p-stream, because the lanes must use one known connection, no stream may be lost
//! between two polls of an acceptor, and a node that runs for years must not keep a little memory
//! for each past connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use shoal_protocol::model::{ClusterId, Lane};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::names;
use super::stream::Purpose;
use super::types::{LinkStream, OpenFailure, Signal};

/// The kind of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamKind {
    /// Messages, as long as the link is up.
    Lane(Lane),
    /// A request to a service, where there is no carrier.
    Service(Purpose),
    /// No bytes: opening the stream is the signal.
    Signal(Signal),
}

const KINDS: [StreamKind; 8] = [
    StreamKind::Lane(Lane::Urgent),
    StreamKind::Lane(Lane::Bulk),
    StreamKind::Service(Purpose::Artifact),
    StreamKind::Service(Purpose::Http),
    StreamKind::Signal(Signal::Ping),
    StreamKind::Signal(Signal::Stalled),
    StreamKind::Service(Purpose::Hop),
    StreamKind::Service(Purpose::Pieces),
];

/// The protocol's name. A change of the format changes the name.
fn name(cluster: &ClusterId, kind: StreamKind) -> StreamProtocol {
    names::protocol(
        cluster,
        match kind {
            StreamKind::Lane(Lane::Urgent) => "urgent/1",
            StreamKind::Lane(Lane::Bulk) => "bulk/1",
            StreamKind::Service(Purpose::Artifact) => "artifact/1",
            StreamKind::Service(Purpose::Http) => "http/1",
            StreamKind::Signal(Signal::Ping) => "ping/1",
            StreamKind::Signal(Signal::Stalled) => "stalled/1",
            StreamKind::Service(Purpose::Hop) => "hop/1",
            StreamKind::Service(Purpose::Pieces) => "pieces/1",
        },
    )
}

/// A request to open a stream, and the party that gets it.
pub(super) enum StreamRequest {
    /// A lane. The swarm's task gets it as [`StreamEvent::Opened`].
    Lane(Lane),
    /// A service's stream for the sender. The token is cancelled when the link has ended.
    Service(Purpose, CancellationToken, oneshot::Sender<Result<LinkStream, OpenFailure>>),
    /// A signal. The sender gets whether the peer accepted it.
    Signal(Signal, oneshot::Sender<bool>),
}

impl StreamRequest {
    fn kind(&self) -> StreamKind {
        match self {
            StreamRequest::Lane(lane) => StreamKind::Lane(*lane),
            StreamRequest::Service(purpose, ..) => StreamKind::Service(*purpose),
            StreamRequest::Signal(signal, _) => StreamKind::Signal(*signal),
        }
    }
}

impl fmt::Debug for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// The events for the swarm's task.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// The peer opened a stream.
    Incoming { peer: PeerId, connection: ConnectionId, kind: StreamKind, stream: Stream },
    /// The outcome of a request for a lane.
    Opened {
        peer: PeerId,
        connection: ConnectionId,
        lane: Lane,
        result: Result<Stream, OpenFailure>,
    },
}

pub(super) struct Behaviour {
    names: [StreamProtocol; KINDS.len()],
    /// Drained at each poll, so bounded by the requests since the last one.
    events: VecDeque<ToSwarm<StreamEvent, StreamRequest>>,
}

impl Behaviour {
    pub(super) fn new(cluster: &ClusterId) -> Self {
        Behaviour { names: KINDS.map(|kind| name(cluster, kind)), events: VecDeque::new() }
    }

    /// Opens a stream on this connection. If the connection is gone, the request's sender is
    /// dropped; a lane needs no answer, since its link ends too.
    pub(super) fn open(
        &mut self,
        peer_id: PeerId,
        connection: ConnectionId,
        request: StreamRequest,
    ) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: request,
        });
    }

    fn handler(&self) -> Handler {
        Handler { names: self.names.clone(), requests: VecDeque::new(), events: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.events.push_back(ToSwarm::GenerateEvent(match event {
            HandlerEvent::Incoming(kind, stream) => {
                StreamEvent::Incoming { peer, connection, kind, stream }
            }
            HandlerEvent::Opened(lane, result) => {
                StreamEvent::Opened { peer, connection, lane, result }
            }
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        // The swarm polls after each event it handed in, and `open` is called between its polls: no
        // waker is needed.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The handler of one connection.
pub(super) struct Handler {
    names: [StreamProtocol; KINDS.len()],
    requests: VecDeque<StreamRequest>,
    events: VecDeque<HandlerEvent>,
}

#[derive(Debug)]
pub(super) enum HandlerEvent {
    Incoming(StreamKind, Stream),
    Opened(Lane, Result<Stream, OpenFailure>),
}

impl Handler {
    fn answer(&mut self, request: StreamRequest, result: Result<Stream, OpenFailure>) {
        match request {
            StreamRequest::Lane(lane) => self.events.push_back(HandlerEvent::Opened(lane, result)),
            // A requester that gave up drops the stream, which resets it.
            StreamRequest::Service(_, link_ended, requester) => {
                drop(requester.send(result.map(|stream| (stream, link_ended))))
            }
            StreamRequest::Signal(_, requester) => drop(requester.send(result.is_ok())),
        }
    }

    fn position(kind: StreamKind) -> usize {
        KINDS.iter().position(|other| *other == kind).expect("all kinds are listed")
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = StreamRequest;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = AnyInbound;
    type OutboundProtocol = OneOutbound;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamRequest;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyInbound> {
        SubstreamProtocol::new(AnyInbound(self.names.clone()), ())
    }

    /// The core decides when a link ends; an idle link is kept.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, request: StreamRequest) {
        self.requests.push_back(request);
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneOutbound, StreamRequest, HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(request) = self.requests.pop_front() {
            let name = self.names[Self::position(request.kind())].clone();
            let protocol = SubstreamProtocol::new(OneOutbound(name), request);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyInbound, OneOutbound, (), StreamRequest>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, kind),
                ..
            }) => {
                self.events.push_back(HandlerEvent::Incoming(kind, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info,
            }) => {
                self.answer(info, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let why = match error {
                    StreamUpgradeError::Timeout => OpenFailure::TimedOut,
                    StreamUpgradeError::NegotiationFailed => OpenFailure::NotOffered,
                    StreamUpgradeError::Io(error) => OpenFailure::Broken(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.answer(info, Err(why));
            }
            // libp2p's enum is non-exhaustive; the other events concern addresses and changed
            // protocols.
            _ => {}
        }
    }
}

/// Accepts any of our streams.
#[derive(Clone)]
pub(super) struct AnyInbound([StreamProtocol; KINDS.len()]);

impl UpgradeInfo for AnyInbound {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; KINDS.len()];

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone()
    }
}

impl InboundUpgrade<Stream> for AnyInbound {
    type Output = (Stream, StreamKind);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        let at = self
            .0
            .iter()
            .position(|own| *own == name)
            .expect("only what was offered is negotiated");
        ready(Ok((stream, KINDS[at])))
    }
}

/// Requests one kind of stream.
pub(super) struct OneOutbound(StreamProtocol);

impl UpgradeInfo for OneOutbound {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.0.clone())
    }
}

impl OutboundUpgrade<Stream> for OneOutbound {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
