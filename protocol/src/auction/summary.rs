//! The summary of an auction, for `explain`: kept by its owner, and sent to its winners.

use serde::{Deserialize, Serialize};

use crate::model::claim::MAX_REASON;
use crate::model::{
    AuctionId, Decline, Digest, NodeId, Place, Price, Resources, Token, Unfit, WallClock,
    WorkloadName,
};

use super::message::check_decline;
use super::offer::MAX_PLACES;

/// Nodes listed in each part of a summary; beyond it they are only counted.
pub const MAX_LINES: usize = 32;
/// Prices listed of one bid.
pub const MAX_PRICES: usize = 4;

/// The summary of one auction. Each list is bounded by [`MAX_LINES`], places and awards by
/// [`MAX_PLACES`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The auction, with its owner.
    pub auction: AuctionId,
    /// The workload.
    pub name: WorkloadName,
    /// The workload's identity.
    pub uid: Digest,
    /// The generation that was sought.
    pub generation: Digest,
    /// The resources of each replica.
    pub resources: Resources,
    /// The places, each with the reason why it was missing.
    pub places: Vec<(Place, String)>,
    /// The time when it opened, by the owner's clock.
    pub opened: WallClock,
    /// Microseconds from opening to award, or to giving up.
    pub took_us: u64,
    /// The bidders, the cheapest first, with the first [`MAX_PRICES`] prices of each.
    pub bids: Vec<(NodeId, Vec<Price>)>,
    /// Nodes that were asked and did not bid.
    pub declines: Vec<(NodeId, NoBid)>,
    /// Nodes that were not asked.
    pub not_asked: Vec<(NodeId, NotAsked)>,
    /// The number of nodes that each of the three lists leaves out.
    pub omitted: [u32; 3],
    /// The awards of the auction.
    pub awards: Vec<Won>,
}

/// An awarded place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Won {
    /// The place itself.
    pub place: Place,
    /// The winner.
    pub to: NodeId,
    /// The token of the award.
    pub token: Token,
    /// The winner's price.
    pub price: Price,
}

/// The reason why a node that was asked did not bid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoBid {
    #[error("{0}")]
    Declined(Decline),
    #[error("did not answer in time")]
    Silent,
    #[error("went down")]
    Down,
    #[error("did not take what it had bid for")]
    Refused,
    #[error("full after taking other places of it")]
    Taken,
}

/// The reason why a node was not asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotAsked {
    #[error("unfit: {0}")]
    Unfit(Unfit),
    #[error("asked lately: {0}")]
    Lately(NoBid),
    #[error("not in the sample")]
    NotSampled,
}

impl Summary {
    /// The fault of a summary that came from a peer.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let lists = [self.bids.len(), self.declines.len(), self.not_asked.len()];
        if lists.into_iter().any(|len| len > MAX_LINES)
            || self.places.len() > MAX_PLACES
            || self.awards.len() > MAX_PLACES
        {
            return Err("a summary with too many lines");
        }
        if self.bids.iter().any(|(_, prices)| prices.len() > MAX_PRICES) {
            return Err("a summary with too many prices");
        }
        if self.places.iter().any(|(_, why)| why.len() > MAX_REASON) {
            return Err("a reason that is too long");
        }
        for (_, why) in &self.declines {
            why.check()?;
        }
        self.not_asked.iter().try_for_each(|(_, why)| match why {
            NotAsked::Unfit(unfit) => check_decline(&Decline::Unfit(unfit.clone())),
            NotAsked::Lately(why) => why.check(),
            NotAsked::NotSampled => Ok(()),
        })
    }
}

impl NoBid {
    fn check(&self) -> Result<(), &'static str> {
        match self {
            NoBid::Declined(why) => check_decline(why),
            NoBid::Silent | NoBid::Down | NoBid::Refused | NoBid::Taken => Ok(()),
        }
    }
}
