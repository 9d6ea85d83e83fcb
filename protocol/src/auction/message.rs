//! The messages between owners, bidders and guardians.

use serde::{Deserialize, Serialize};

use crate::model::claim::MAX_REASON;
use crate::model::{
    AuctionId, Award, Decline, Digest, Place, Price, ReplicaId, Token, Unfit, Unverified,
};

use super::offer::MAX_PLACES;
use super::summary::Summary;

/// A message between an owner and its bidders, or from an owner to its guardians. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Owner to bidders: asks for bids on places.
    Announce(Announce),
    /// Bidder to owner: it has reserved resources, at these prices. Without prices it has reserved
    /// nothing, and holds some of the places.
    Bid {
        /// The auction.
        auction: AuctionId,
        /// The price of one replica, of the second beside it, and so on: rising, at most
        /// [`MAX_PLACES`].
        prices: Vec<Price>,
        /// Places that the bidder does not take, with reasons. At most [`MAX_PLACES`].
        without: Vec<(Place, Decline)>,
    },
    /// Bidder to owner: it has reserved nothing.
    Decline {
        /// The auction.
        auction: AuctionId,
        /// The reason.
        why: Decline,
    },
    /// Owner to a winner: its awards. The rest of its reservation is free.
    Award {
        /// Awards of one auction, at most [`MAX_PLACES`].
        awards: Vec<Unverified<Award>>,
        /// The summary of the auction, for `explain`.
        summary: Box<Summary>,
    },
    /// Owner to a bidder: no award. Its reservation is free.
    Release {
        /// The auction.
        auction: AuctionId,
    },
    /// Winner to owner: these claims are on disk.
    Claimed {
        /// The auction.
        auction: AuctionId,
        /// The replicas, with the tokens of their awards. At most [`MAX_PLACES`].
        claims: Vec<(ReplicaId, Token)>,
    },
    /// Winner to owner: the award is not taken, and never will be under this token.
    Refused {
        /// The auction.
        auction: AuctionId,
        /// The replica.
        replica: ReplicaId,
        /// The token of the award.
        token: Token,
        /// The reason.
        why: Refusal,
    },
    /// Owner to a winner that does not answer: the award is void unless it is claimed already.
    Cancel {
        /// The auction.
        auction: AuctionId,
        /// The replica.
        replica: ReplicaId,
        /// The token of the award.
        token: Token,
    },
    /// Owner to guardians: these awards wait for their claims. A guardian does not auction their
    /// places meanwhile.
    Notice {
        /// The awards, at most [`MAX_PLACES`].
        awards: Vec<Unverified<Award>>,
        /// The longest wait, in milliseconds.
        open_ms: u32,
    },
    /// Owner to a bidder: no node had room for a replica, and this one is to stop replicas of lower
    /// priority for it, as it offered by [`Decline::Evictable`]. The owner asks it again later.
    MakeRoom {
        /// The auction that found no taker.
        auction: AuctionId,
        /// The generation that is to run.
        generation: Digest,
        /// The replica.
        replica: ReplicaId,
    },
}

/// The announcement of an auction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announce {
    /// The auction.
    pub auction: AuctionId,
    /// The workload.
    pub uid: Digest,
    /// The generation that is to run.
    pub generation: Digest,
    /// The missing places, at most [`MAX_PLACES`], ascending.
    pub places: Vec<Place>,
    /// The time for answers, in milliseconds.
    pub answer_ms: u32,
    /// The wanted time of a reservation, in milliseconds. The bidder has a bound of its own.
    pub hold_ms: u32,
}

/// The reason why an award was refused.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error,
)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("nothing was reserved for it, or no longer")]
    NoReservation,
    #[error("a token with counter {} was seen already", .seen.counter)]
    SeenToken { seen: Token },
    #[error("the award is signed by another node, or not for this node")]
    NotRightful,
    #[error("another generation is desired, as far as this node knows")]
    OtherGeneration,
    #[error("it holds this replica already")]
    Holds,
    #[error("cancelled")]
    Cancelled,
    #[error("the claim could not be made: {0}")]
    CannotClaim(String),
}

impl Message {
    /// The fault of a message that no honest peer sends.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Message::Announce(announce) => announce.check(),
            Message::Bid { prices, without, .. } => {
                let says_nothing = prices.is_empty() && without.is_empty();
                if says_nothing || prices.len() > MAX_PLACES || without.len() > MAX_PLACES {
                    return Err("a bid with too many prices, or without any content");
                }
                if !prices.is_sorted_by_key(|price| price.total()) {
                    return Err("a bid whose prices do not rise");
                }
                without.iter().try_for_each(|(_, why)| check_decline(why))
            }
            Message::Decline { why, .. } => check_decline(why),
            Message::Award { awards, summary } => {
                if awards.is_empty() || awards.len() > MAX_PLACES {
                    return Err("an award of too many places or none");
                }
                summary.check()
            }
            Message::Refused { why: Refusal::CannotClaim(reason), .. }
                if reason.len() > MAX_REASON =>
            {
                Err("a reason that is too long")
            }
            Message::Notice { awards, .. } if awards.len() > MAX_PLACES => {
                Err("a notice of too many awards")
            }
            Message::Claimed { claims, .. } if claims.len() > MAX_PLACES => {
                Err("too many claims of one auction")
            }
            Message::Release { .. }
            | Message::Claimed { .. }
            | Message::Refused { .. }
            | Message::Cancel { .. }
            | Message::MakeRoom { .. }
            | Message::Notice { .. } => Ok(()),
        }
    }
}

impl Announce {
    fn check(&self) -> Result<(), &'static str> {
        if self.places.is_empty() || self.places.len() > MAX_PLACES {
            return Err("an auction of too many places or none");
        }
        // Strictly ascending, so each occurs once.
        if !self.places.is_sorted_by(|a, b| a < b) {
            return Err("an auction whose places are not in order");
        }
        Ok(())
    }
}

/// Texts of a decline come from the peer, are shown to people and kept in summaries, so their
/// length is bounded.
pub(super) fn check_decline(why: &Decline) -> Result<(), &'static str> {
    let longest = match why {
        Decline::Unfit(Unfit::Label { name, value }) => name.len().max(value.len()),
        Decline::Unfit(Unfit::Rule(rule)) => rule.longest(),
        Decline::Unfit(Unfit::Near(name) | Unfit::Apart(name) | Unfit::Taint(name)) => name.len(),
        Decline::Cooling { reason, .. } => reason.len(),
        Decline::PortTaken { by, .. } => by.len(),
        Decline::Taken { name, by, .. } => name.len().max(by.len()),
        Decline::Unfit(Unfit::Counted { name, .. }) => name.len(),
        Decline::Unfit(Unfit::Platform(text) | Unfit::NotAllowed(text)) => text.len(),
        Decline::Unfit(Unfit::Volume { volume, node }) => volume.len().max(node.len()),
        Decline::Unfit(
            Unfit::Runtime(_)
            | Unfit::Memory(_)
            | Unfit::Cpu(_)
            | Unfit::Volumes(_)
            | Unfit::Cordoned,
        )
        | Decline::NoRoom { .. }
        | Decline::DiskFull { .. }
        | Decline::Evictable { .. }
        | Decline::Busy { .. }
        | Decline::NotInStep { .. }
        | Decline::ReadOnly
        | Decline::Leaving
        | Decline::Holds => 0,
    };
    if longest > MAX_REASON { Err("a reason that is too long") } else { Ok(()) }
}
