//! Prices, declines and awards: the values that an owner and its bidders exchange.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{Digest, NodeId};
use super::replica::{ReplicaId, Token};
use super::resources::Resources;
use super::sign::Signable;
use super::spec::{HostPort, Unfit};

/// The id of an auction: its owner and a number. The number's upper 32 bits are the owner's
/// incarnation, so no id is used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AuctionId {
    /// The node that runs the auction.
    pub owner: NodeId,
    /// The number of the auction at its owner; it grows with each one.
    pub number: u64,
}

impl fmt::Display for AuctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.owner.short(), self.number >> 32, self.number & 0xffff_ffff)
    }
}

/// The price of a replica on a bidder, in millionths of a full node. The least total wins; the
/// parts are shown by `explain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Price {
    /// The dominant share of the node's capacity in use after placement; 1,000,000 is a full node.
    pub share: u32,
    /// The surcharge for bytes that the bidder has to fetch.
    pub fetch: u32,
    /// The surcharge for replicas of the same workload that the bidder has.
    pub spread: u32,
}

impl Price {
    /// The sum of the parts, by which bids are compared.
    pub fn total(&self) -> u64 {
        u64::from(self.share) + u64::from(self.fetch) + u64::from(self.spread)
    }
}

/// The reason why a node does not bid.
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
    #[error("port {port} is taken there by {by}")]
    PortTaken { port: HostPort, by: String },
}

/// An owner's decision that a bidder is to run a replica. The signer is the owner at that time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Award {
    /// The auction that awarded the replica.
    pub auction: AuctionId,
    /// The awarded replica.
    pub replica: ReplicaId,
    /// The generation to run.
    pub generation: Digest,
    /// The right to run it; greater than every token before it for this replica.
    pub token: Token,
    /// The bidder that won.
    pub to: NodeId,
}

impl Signable for Award {
    const DOMAIN: &'static str = "shoal/award/1";
}
