//! How an auction went, for `explain`: kept by its owner, and sent to its winners.

use serde::{Deserialize, Serialize};

use crate::model::claim::MAX_REASON;
use crate::model::{
    AuctionId, Decline, Digest, NodeId, Place, Price, Resources, Token, Unfit, WallClock,
    WorkloadName,
};

use super::message::check_decline;
use super::offer::MAX_PLACES;

/// Nodes listed in each part of a summary; beyond it they are counted only.
pub const MAX_LINES: usize = 32;
/// Prices listed of one bid.
pub const MAX_PRICES: usize = 4;

/// How one auction went. Every list is bounded by [`MAX_LINES`], except places and awards by
/// [`MAX_PLACES`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its name, with its owner.
    pub auction: AuctionId,
    /// The workload.
    pub name: WorkloadName,
    /// Its uid.
    pub uid: Digest,
    /// The generation that was sought.
    pub generation: Digest,
    /// What each replica needs.
    pub resources: Resources,
    /// What was put up, and why it was missing.
    pub places: Vec<(Place, String)>,
    /// When it opened, by the owner's clock.
    pub opened: WallClock,
    /// Microseconds from opening to award, or to giving up.
    pub took_us: u64,
    /// Who bid, the cheapest first, with the first [`MAX_PRICES`] prices.
    pub bids: Vec<(NodeId, Vec<Price>)>,
    /// Who was asked and did not bid.
    pub declines: Vec<(NodeId, NoBid)>,
    /// Who was not asked.
    pub not_asked: Vec<(NodeId, NotAsked)>,
    /// How many nodes each of the three lists leaves out.
    pub omitted: [u32; 3],
    /// Who won what.
    pub awards: Vec<Won>,
}

/// One place that was awarded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Won {
    /// Which.
    pub place: Place,
    /// To whom.
    pub to: NodeId,
    /// Under which right.
    pub token: Token,
    /// At which price.
    pub price: Price,
}

/// Why a node that was asked did not bid.
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

/// Why a node was not asked.
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
    /// What is wrong with one that came from a peer.
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
