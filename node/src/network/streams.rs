//! The behaviour that opens and takes our own streams: two lanes of messages a link, and streams
//! for artifacts and HTTP.
//!
//! Written here and not taken from libp2p-stream, because the lanes must lie on one known
//! connection, no stream may be lost between two polls of a taker, and a node that runs for years
//! must not keep a little for each connection it ever had.

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

/// What a stream carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Messages, for as long as the link stands.
    Lane(Lane),
    /// One request of one service, where no carrier can be had.
    Service(Purpose),
    /// Nothing: that it is opened says something.
    Word(Word),
}

/// A word that is said by opening a stream on the link, and so is small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// Are you there?
    Ping,
    /// My bytes to you on carriers do not arrive.
    Stalled,
}

const KINDS: [Kind; 7] = [
    Kind::Lane(Lane::Urgent),
    Kind::Lane(Lane::Bulk),
    Kind::Service(Purpose::Artifact),
    Kind::Service(Purpose::Http),
    Kind::Word(Word::Ping),
    Kind::Word(Word::Stalled),
    Kind::Service(Purpose::Hop),
];

/// The protocols' names, which a change of what is spoken changes, too.
fn name(cluster: &ClusterId, kind: Kind) -> StreamProtocol {
    names::protocol(
        cluster,
        match kind {
            Kind::Lane(Lane::Urgent) => "urgent/1",
            Kind::Lane(Lane::Bulk) => "bulk/1",
            Kind::Service(Purpose::Artifact) => "artifact/1",
            Kind::Service(Purpose::Http) => "http/1",
            Kind::Word(Word::Ping) => "ping/1",
            Kind::Word(Word::Stalled) => "stalled/1",
            Kind::Service(Purpose::Hop) => "hop/1",
        },
    )
}

/// Why a stream did not open.
#[derive(Debug)]
pub(super) enum NotOpened {
    NoLink,
    NotOffered,
    TimedOut,
    Broken(String),
}

/// A service's stream, and what is cancelled when its link is over: a connection that is closed
/// here wakes no readers.
pub(super) type OnLink = (Stream, CancellationToken);

/// Who gets an opened stream.
pub(super) enum For {
    /// The swarm's task, as [`Event::Opened`].
    Link(Lane),
    /// Whoever asked, and hears by the token when the link is over.
    Asker(Purpose, CancellationToken, oneshot::Sender<Result<OnLink, NotOpened>>),
    /// The asker, who hears whether the peer has heard it.
    Said(Word, oneshot::Sender<bool>),
}

impl For {
    fn kind(&self) -> Kind {
        match self {
            For::Link(lane) => Kind::Lane(*lane),
            For::Asker(purpose, ..) => Kind::Service(*purpose),
            For::Said(word, _) => Kind::Word(*word),
        }
    }
}

impl fmt::Debug for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// What the swarm's task hears.
#[derive(Debug)]
pub(super) enum Event {
    /// The peer opened a stream.
    Incoming { peer: PeerId, connection: ConnectionId, kind: Kind, stream: Stream },
    /// A lane that we asked for.
    Opened { peer: PeerId, connection: ConnectionId, lane: Lane, result: Result<Stream, NotOpened> },
}

pub(super) struct Behaviour {
    names: [StreamProtocol; KINDS.len()],
    /// Emptied at each poll; as long as what was asked since.
    events: VecDeque<ToSwarm<Event, For>>,
}

impl Behaviour {
    pub(super) fn new(cluster: &ClusterId) -> Self {
        Behaviour { names: KINDS.map(|kind| name(cluster, kind)), events: VecDeque::new() }
    }

    /// Opens a stream on this connection. When the connection is gone an asker's sender is dropped,
    /// and a link hears of its end anyway.
    pub(super) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, whom: For) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: whom,
        });
    }

    fn handler(&self) -> Handler {
        Handler { names: self.names.clone(), asked: VecDeque::new(), heard: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

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
            Heard::Incoming(kind, stream) => Event::Incoming { peer, connection, kind, stream },
            Heard::Opened(lane, result) => Event::Opened { peer, connection, lane, result },
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // The swarm polls after each event it handed in, and `open` is called between its polls: no
        // waker is missed.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's part.
pub(super) struct Handler {
    names: [StreamProtocol; KINDS.len()],
    asked: VecDeque<For>,
    heard: VecDeque<Heard>,
}

#[derive(Debug)]
pub(super) enum Heard {
    Incoming(Kind, Stream),
    Opened(Lane, Result<Stream, NotOpened>),
}

impl Handler {
    fn answer(&mut self, whom: For, result: Result<Stream, NotOpened>) {
        match whom {
            For::Link(lane) => self.heard.push_back(Heard::Opened(lane, result)),
            // An asker that gave up drops the stream, which resets it.
            For::Asker(_, over, asker) => drop(asker.send(result.map(|stream| (stream, over)))),
            For::Said(_, asker) => drop(asker.send(result.is_ok())),
        }
    }

    fn position(kind: Kind) -> usize {
        KINDS.iter().position(|other| *other == kind).expect("all kinds are listed")
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = For;
    type ToBehaviour = Heard;
    type InboundProtocol = Take;
    type OutboundProtocol = Ask;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = For;

    fn listen_protocol(&self) -> SubstreamProtocol<Take> {
        SubstreamProtocol::new(Take(self.names.clone()), ())
    }

    /// The core decides when a link ends; an idle one is as good as a busy one.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, whom: For) {
        self.asked.push_back(whom);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Ask, For, Heard>> {
        if let Some(heard) = self.heard.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(heard));
        }
        if let Some(whom) = self.asked.pop_front() {
            let name = self.names[Self::position(whom.kind())].clone();
            let protocol = SubstreamProtocol::new(Ask(name), whom);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Take, Ask, (), For>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, kind),
                ..
            }) => {
                self.heard.push_back(Heard::Incoming(kind, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info,
            }) => {
                self.answer(info, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let why = match error {
                    StreamUpgradeError::Timeout => NotOpened::TimedOut,
                    StreamUpgradeError::NegotiationFailed => NotOpened::NotOffered,
                    StreamUpgradeError::Io(error) => NotOpened::Broken(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.answer(info, Err(why));
            }
            // libp2p's enum is open; the others speak of addresses and of protocols that come and
            // go.
            _ => {}
        }
    }
}

/// Takes any of our streams.
#[derive(Clone)]
pub(super) struct Take([StreamProtocol; KINDS.len()]);

impl UpgradeInfo for Take {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; KINDS.len()];

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone()
    }
}

impl InboundUpgrade<Stream> for Take {
    type Output = (Stream, Kind);
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

/// Asks for one kind of stream.
pub(super) struct Ask(StreamProtocol);

impl UpgradeInfo for Ask {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.0.clone())
    }
}

impl OutboundUpgrade<Stream> for Ask {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
