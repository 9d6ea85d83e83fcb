//! What of this room grows, and how far it may.

use crate::model::Queue;

use super::Auction;
use super::lot::MAX_PLACES;

impl Auction {
    /// Replicas of this node that something is committed for.
    pub fn commitments(&self) -> usize {
        self.parts.bidder.ledger.len()
    }

    /// What grows, with its bound.
    pub fn queues(&self) -> Vec<Queue> {
        let (config, parts) = (&self.base.config, &self.parts);
        let (rounds, sought) = parts.owner.len();
        let (reservations, early, claiming) = parts.bidder.len();
        let mut queues = vec![
            Queue::new("auctions", rounds, config.max_auctions),
            Queue::new("replicas sought", sought, config.max_auctions * MAX_PLACES),
            // Those that are open when it is full still end.
            Queue::new(
                "awards",
                parts.owner.awards.len(),
                config.max_awards + config.max_auctions * MAX_PLACES,
            ),
            Queue::new("reservations", reservations, config.max_reservations),
            Queue::new("early announcements", early, super::bidder::MAX_EARLY),
            Queue::new("claims to be made", claiming, parts.bidder.ledger.len()),
            Queue::new("notices", parts.notices.len(), config.max_notices),
            Queue::new("cooling replicas", parts.bidder.cooling.len(), super::cooling::MAX_COOLING),
            Queue::new("summaries", self.base.summaries.len(), config.max_summaries),
            Queue::new("letters of this node to itself", self.base.own_mail.len(), 0),
        ];
        queues.extend(parts.owner.remembered());
        queues
    }
}
