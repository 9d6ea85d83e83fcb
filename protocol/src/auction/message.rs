//! What owners, bidders and guardians say to one another.

use serde::{Deserialize, Serialize};

use crate::model::claim::MAX_REASON;
use crate::model::{
    AuctionId, Award, Decline, Digest, Place, Price, ReplicaId, Token, Unfit, Unverified,
};

use super::offer::MAX_PLACES;
use super::summary::Summary;

/// Between an owner and its bidders, and from an owner to its guardians. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Owner to bidders: who takes these?
    Announce(Announce),
    /// Bidder to owner: reserved, at these prices. Without any nothing is, and some of the places
    /// are held by the bidder.
    Bid {
        /// Which auction.
        auction: AuctionId,
        /// The price of one replica, of the second beside it, and so on: rising, at most
        /// [`MAX_PLACES`].
        prices: Vec<Price>,
        /// Places that it does not take, and why. At most [`MAX_PLACES`].
        without: Vec<(Place, Decline)>,
    },
    /// Bidder to owner: nothing reserved.
    Decline {
        /// Which auction.
        auction: AuctionId,
        /// Why.
        why: Decline,
    },
    /// Owner to a winner: these are yours, what else is reserved is free.
    Award {
        /// Of one auction, at most [`MAX_PLACES`].
        awards: Vec<Unverified<Award>>,
        /// How it went, for whoever asks later.
        summary: Box<Summary>,
    },
    /// Owner to a bidder: none for you, what is reserved is free.
    Release {
        /// Which auction.
        auction: AuctionId,
    },
    /// Winner to owner: these claims are on disk.
    Claimed {
        /// Which auction.
        auction: AuctionId,
        /// What, and under which right it was awarded. At most [`MAX_PLACES`].
        claims: Vec<(ReplicaId, Token)>,
    },
    /// Winner to owner: not taken, and never will be under this token.
    Refused {
        /// Which auction.
        auction: AuctionId,
        /// What.
        replica: ReplicaId,
        /// Under which right it was awarded.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// Owner to a winner that does not answer: no longer yours, unless you claimed it already.
    Cancel {
        /// Which auction.
        auction: AuctionId,
        /// What.
        replica: ReplicaId,
        /// Under which right it was awarded.
        token: Token,
    },
    /// Owner to guardians: these are awarded, wait for the claims before you auction the places.
    Notice {
        /// What was awarded, at most [`MAX_PLACES`].
        awards: Vec<Unverified<Award>>,
        /// How long to wait.
        open_ms: u32,
    },
}

/// An auction's opening.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announce {
    /// Which auction.
    pub auction: AuctionId,
    /// Which workload.
    pub uid: Digest,
    /// Of which generation.
    pub generation: Digest,
    /// The missing places, at most [`MAX_PLACES`], ascending.
    pub places: Vec<Place>,
    /// Until when answers count.
    pub answer_ms: u32,
    /// For how long a reservation is wanted. The bidder has its own bound.
    pub hold_ms: u32,
}

/// Why an award was not taken.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error,
)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("nothing was reserved for it, or no longer")]
    NoReservation,
    #[error("a token with counter {} was seen already", .seen.counter)]
    SeenToken { seen: Token },
    #[error("the award is signed by somebody else, or not for this node")]
    NotRightful,
    #[error("another generation is wished for, as far as is known here")]
    OtherGeneration,
    #[error("it holds this replica already")]
    Holds,
    #[error("cancelled")]
    Cancelled,
    #[error("the claim could not be made: {0}")]
    CannotClaim(String),
}

impl Message {
    /// What is wrong with a message that no honest peer sends.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Message::Announce(announce) => announce.check(),
            Message::Bid { prices, without, .. } => {
                let says_nothing = prices.is_empty() && without.is_empty();
                if says_nothing || prices.len() > MAX_PLACES || without.len() > MAX_PLACES {
                    return Err("a bid with too many prices, or that says nothing");
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
            | Message::Notice { .. } => Ok(()),
        }
    }
}

impl Announce {
    fn check(&self) -> Result<(), &'static str> {
        if self.places.is_empty() || self.places.len() > MAX_PLACES {
            return Err("an auction of too many places or none");
        }
        // Strictly ascending, so none stands twice.
        if !self.places.is_sorted_by(|a, b| a < b) {
            return Err("an auction whose places are not in order");
        }
        Ok(())
    }
}

/// Texts of a decline come from the peer, and are shown to people and kept in summaries.
pub(super) fn check_decline(why: &Decline) -> Result<(), &'static str> {
    let longest = match why {
        Decline::Unfit(Unfit::Label { name, value }) => name.len().max(value.len()),
        Decline::Cooling { reason, .. } => reason.len(),
        Decline::Unfit(Unfit::Runtime(_) | Unfit::Memory(_) | Unfit::Cpu(_))
        | Decline::NoRoom { .. }
        | Decline::Busy { .. }
        | Decline::NotInStep { .. }
        | Decline::ReadOnly
        | Decline::Leaving
        | Decline::Holds => 0,
    };
    if longest > MAX_REASON { Err("a reason that is too long") } else { Ok(()) }
}
