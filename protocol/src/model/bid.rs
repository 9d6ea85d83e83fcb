//! What passes between an owner and its bidders.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{Digest, NodeId};
use super::replica::{ReplicaId, Token};
use super::resources::Resources;
use super::sign::Signable;
use super::spec::Unfit;

/// An auction: its number at its owner. The number's upper 32 bits are the owner's incarnation, so
/// none comes twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AuctionId {
    /// Who holds it.
    pub owner: NodeId,
    /// Which of its auctions.
    pub number: u64,
}

impl fmt::Display for AuctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.owner.short(), self.number >> 32, self.number & 0xffff_ffff)
    }
}

/// What a replica would cost a bidder, in millionths; the least wins. The parts are kept for
/// `explain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Price {
    /// The dominant share of the node's capacity in use after placement: 1,000,000 is a full node.
    pub share: u32,
    /// For bytes still to fetch.
    pub fetch: u32,
    /// For each replica of the same workload already here.
    pub spread: u32,
}

impl Price {
    /// The sum, by which bids are compared.
    pub fn total(&self) -> u64 {
        u64::from(self.share) + u64::from(self.fetch) + u64::from(self.spread)
    }
}

/// Why a node does not bid.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error,
)]
#[allow(missing_docs)]
pub enum Decline {
    #[error("unfit: {0}")]
    Unfit(Unfit),
    #[error("no room: {} MiB and {} thousandths of a core are \
        free", .free.memory / (1024 * 1024), .free.cpu)]
    NoRoom { free: Resources },
    #[error("busy, asks again in {retry_ms} ms")]
    Busy { retry_ms: u32 },
    #[error("does not know this workload yet, asks again in {retry_ms} ms")]
    NotInStep { retry_ms: u32 },
    #[error("it failed here lately ({reason}); not again for {retry_ms} ms")]
    Cooling { retry_ms: u32, reason: String },
    #[error("its disk takes no writes")]
    ReadOnly,
    #[error("it is leaving")]
    Leaving,
    #[error("it holds this replica already")]
    Holds,
}

/// An owner's word that a bidder shall run a replica. The signer is the owner of the moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Award {
    /// The auction it closes.
    pub auction: AuctionId,
    /// What.
    pub replica: ReplicaId,
    /// Of which generation.
    pub generation: Digest,
    /// Under which right.
    pub token: Token,
    /// To whom.
    pub to: NodeId,
}

impl Signable for Award {
    const DOMAIN: &'static str = "shoal/award/1";
}
