//! The collections of this room that grow, with their bounds.

use crate::model::Queue;

use super::Auction;
use super::offer::MAX_PLACES;

impl Auction {
    /// Each collection that grows, with its bound.
    pub fn queues(&self) -> Vec<Queue> {
        let (config, parts) = (&self.base.config, &self.parts);
        let (rounds, sought) = parts.owner.len();
        let (reservations, early) = parts.bidder.len();
        let mut queues = vec![
            Queue::new("auctions", rounds, config.max_auctions),
            Queue::new("replicas sought", sought, config.max_auctions * MAX_PLACES),
            // Rounds that are open when the bound is reached still award their places.
            Queue::new(
                "awards",
                parts.owner.awards.len(),
                config.max_awards + config.max_auctions * MAX_PLACES,
            ),
            Queue::new("reservations", reservations, config.max_reservations),
            Queue::new("early announcements", early, super::bidder::MAX_EARLY),
            Queue::new("rooms kept", parts.bidder.kept.len(), super::eviction::MAX_KEPT),
            Queue::new("notices", parts.notices.len(), config.max_notices),
            Queue::new("cooling replicas", parts.bidder.cooling.len(), super::cooling::MAX_COOLING),
            Queue::new("summaries", self.base.summaries.len(), config.max_summaries),
        ];
        queues.extend(parts.owner.remembered());
        queues
    }
}
