//! Broadcasts: gossipsub on one topic, relayed only after the core's verdict.

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

/// Bytes of a message at most; larger ones travel over links.
pub(super) const MAX_GOSSIP: usize = 64 * 1024;
/// Messages that may wait for a verdict. Beyond, the oldest is not relayed; a node that misses it
/// repairs that by anti-entropy.
const MAX_TICKETS: usize = 1024;
/// Messages that gossipsub queues for one peer. Its default of 5,000 is too much memory for tens of
/// slow peers.
const MAX_QUEUED: usize = 256;
/// The interval at which gossipsub repairs its mesh and announces messages that neighbours may have
/// missed. When idle it sends nothing.
const HEARTBEAT: Duration = Duration::from_millis(700);

/// Sends a peer this node's subscriptions again after one of several connections to it has closed.
///
/// gossipsub sends them over the first connection alone. A peer that moved or restarted has lost
/// that connection and forgotten them, while the old connection still stood here when the new one
/// came: the nodes would be linked, and no gossip of the peer would come here. gossipsub has no
/// call for this, so it is given an event of a first connection; without peer scores, sending the
/// subscriptions is all that it does.
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
    /// The subscribed behaviour, and its bookkeeping.
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
            // The id is a hash of the content: the same message from two nodes is relayed once.
            .message_id_fn(|message| MessageId::from(Digest::of(&message.data).0.to_vec()))
            .build()
            .map_err(|error| error.to_string())?;
        let mut behaviour = Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config)?;
        let topic = IdentTopic::new(names::protocol(cluster, "all").to_string());
        behaviour.subscribe(&topic).map_err(|error| error.to_string())?;
        Ok((behaviour, Gossip { topic, tickets: BTreeMap::new(), next: 0 }))
    }

    /// Publishes `bytes`. False when no peer can have got it though some are connected.
    pub(super) fn publish(&self, behaviour: &mut Behaviour, bytes: Vec<u8>) -> bool {
        match behaviour.publish(TopicHash::from(self.topic.clone()), bytes) {
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => true,
            Err(error) => {
                tracing::debug!(%error, "gossip was not sent");
                false
            }
        }
    }

    /// A ticket for a received message.
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

    /// Relays the ticket's message, or does not.
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
        // False when gossipsub has forgotten the message: then it is too late to relay.
        behaviour.report_message_validation_result(&message, &from, acceptance);
    }
}
