//! What is said to all: gossipsub on one topic, relayed only after the core's verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, IdentTopic, MessageAcceptance, MessageAuthenticity, MessageId,
    PublishError, TopicHash, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour};
use shoal_protocol::model::{ClusterId, Digest};
use shoal_protocol::node::{Ticket, Verdict};

use super::names;

/// The most a message may have; larger ones travel by links.
pub(super) const MAX_GOSSIP: usize = 64 * 1024;
/// Messages that may wait for a verdict. Beyond, the oldest is not relayed: whoever misses it
/// repairs it.
const MAX_TICKETS: usize = 1024;
/// Messages queued for one peer, by gossipsub. Its own default is 5,000: too much to hold for tens
/// of slow peers.
const MAX_QUEUED: usize = 256;
/// A heartbeat mends the mesh and tells neighbours what they may have missed. Idle, it sends
/// nothing.
const HEARTBEAT: Duration = Duration::from_millis(700);

/// Tells a peer once more what this node subscribes to, when one of several connections to it has
/// closed.
///
/// gossipsub says it over the first connection alone, and a peer that has moved or begun anew has
/// forgotten it with that one, while here the old connection still stood as the new one came: all
/// would be linked, and nothing that the peer gossips would come here. There is no call for it, so
/// the behaviour is told of a first connection; it keeps no peer scores, so saying is all that it
/// does.
pub(super) fn introduce(
    behaviour: &mut Behaviour,
    peer_id: PeerId,
    closed: ConnectionId,
    endpoint: &ConnectedPoint,
) {
    behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id,
        connection_id: closed,
        endpoint,
        failed_addresses: &[],
        other_established: 0,
    }));
}

pub(super) struct Gossip {
    topic: IdentTopic,
    tickets: BTreeMap<Ticket, (MessageId, PeerId)>,
    next: u64,
}

impl Gossip {
    /// The behaviour, subscribed, and what goes with it.
    pub(super) fn new(keys: &Keypair, cluster: &ClusterId) -> Result<(Behaviour, Gossip), String> {
        let config = ConfigBuilder::default()
            .protocol_id_prefix(names::protocol(cluster, "gossip").to_string())
            .heartbeat_interval(HEARTBEAT)
            .heartbeat_initial_delay(Duration::from_millis(100))
            // Enough for 5,000 nodes in five or six hops, and few enough for a small device.
            .mesh_n(6)
            .mesh_n_low(4)
            .mesh_n_high(10)
            .mesh_outbound_min(2)
            .gossip_lazy(4)
            .history_length(6)
            .history_gossip(3)
            .flood_publish(false)
            .max_transmit_size(MAX_GOSSIP + 512)
            .connection_handler_queue_len(MAX_QUEUED)
            .validation_mode(ValidationMode::Strict)
            .validate_messages()
            // Named by what it says: the same word from two mouths is relayed once.
            .message_id_fn(|message| MessageId::from(Digest::of(&message.data).0.to_vec()))
            .build()
            .map_err(|error| error.to_string())?;
        let mut behaviour = Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config)?;
        let topic = IdentTopic::new(names::protocol(cluster, "all").to_string());
        behaviour.subscribe(&topic).map_err(|error| error.to_string())?;
        Ok((behaviour, Gossip { topic, tickets: BTreeMap::new(), next: 0 }))
    }

    /// Says `bytes` to all. False when nobody can have heard it though somebody is there.
    pub(super) fn publish(&self, behaviour: &mut Behaviour, bytes: Vec<u8>) -> bool {
        match behaviour.publish(TopicHash::from(self.topic.clone()), bytes) {
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => true,
            Err(error) => {
                tracing::debug!(%error, "gossip was not sent");
                false
            }
        }
    }

    /// A ticket for a message that came.
    pub(super) fn ticket(
        &mut self,
        behaviour: &mut Behaviour,
        message: MessageId,
        from: PeerId,
    ) -> Ticket {
        if self.tickets.len() == MAX_TICKETS
            && let Some(oldest) = self.tickets.keys().next().copied()
        {
            self.judge(behaviour, oldest, Verdict::Ignore);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.tickets.insert(ticket, (message, from));
        ticket
    }

    /// Relays or drops the ticket's message.
    pub(super) fn judge(
        &mut self,
        behaviour: &mut gossipsub::Behaviour,
        ticket: Ticket,
        verdict: Verdict,
    ) {
        let Some((message, from)) = self.tickets.remove(&ticket) else { return };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        // False when gossipsub has forgotten it: then it is too late to relay.
        behaviour.report_message_validation_result(&message, &from, acceptance);
    }
}
