//! Prices, declines and awards: the values that an owner and its bidders exchange.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{Digest, NodeId};
use super::replica::{ReplicaId, Token};
use super::resources::Resources;
use super::sign::Signable;
use super::spec::{HostPort, Unfit, counted, size as shown};

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
///
/// On the wire a price without the last two parts is the first three numbers alone, as programs
/// read it that do not know them; see `MARK`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Price {
    /// The dominant share of the node's capacity in use after placement; 1,000,000 is a full node.
    pub share: u32,
    /// The surcharge for bytes that the bidder has to fetch.
    pub fetch: u32,
    /// The surcharge for replicas of the same workload that the bidder has.
    pub spread: u32,
    /// The surcharge for preferences of the workload that the bidder does not fulfil.
    pub prefer: u32,
    /// The surcharge for replicas of the workload that nodes with the same label have already. The
    /// owner adds it: it knows all of them.
    pub balance: u32,
}

/// The first number of a price that has all its parts. No node is so full: then it is a little
/// less. Only workloads whose spec older programs do not read have such prices.
const MARK: u32 = u32::MAX - 1;

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Price { share, fetch, spread, prefer, balance } = *self;
        let share = if share == MARK { MARK - 1 } else { share };
        match (prefer, balance) {
            (0, 0) => (share, fetch, spread).serialize(serializer),
            _ => (MARK, share, fetch, spread, prefer, balance).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Price, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Price;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Price, A::Error> {
                let mut next = |at: usize| {
                    let part: Option<u32> = parts.next_element()?;
                    part.ok_or_else(|| A::Error::invalid_length(at, &"a price"))
                };
                let first = next(0)?;
                let is_full = first == MARK;
                let share = if is_full { next(1)? } else { first };
                let (fetch, spread) = (next(2)?, next(3)?);
                let (prefer, balance) = if is_full { (next(4)?, next(5)?) } else { (0, 0) };
                // Otherwise two forms would mean the same price.
                if is_full && ((prefer, balance) == (0, 0) || share == MARK) {
                    return Err(A::Error::custom("a price in a longer form than it needs"));
                }
                Ok(Price { share, fetch, spread, prefer, balance })
            }
        }
        deserializer.deserialize_tuple(6, Parts)
    }
}

impl Price {
    /// The sum of the parts, by which bids are compared.
    pub fn total(&self) -> u64 {
        let Price { share, fetch, spread, prefer, balance } = *self;
        [share, fetch, spread, prefer, balance].into_iter().map(u64::from).sum()
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
    #[error("{name}: {} free{}", counted(.name, *.free), has_it(.by))]
    Taken { name: String, free: u64, by: String },
    #[error("its disk is full: {} are free, {} are needed", shown(*.free), shown(*.needed))]
    DiskFull { free: u64, needed: u64 },
    #[error("no room, but that of {count} of lower priority, {highest} at most")]
    Evictable { count: u32, highest: i32 },
}

fn has_it(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(", {by} has some") }
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

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::*;

    /// A node of an older program bids in the same auctions: the price of a workload that it knows
    /// has the bytes that it reads.
    #[test]
    fn price_without_later_parts_has_its_old_bytes() {
        let plain = Price { share: 700, fetch: 300_000, spread: 9, ..Price::default() };
        let bytes = codec::encode(&plain);
        assert_eq!(bytes, codec::encode(&(700u32, 300_000u32, 9u32)));
        assert_eq!(codec::decode(&bytes), Ok(plain));
        let full = Price { prefer: 5, balance: 4_000_000, ..plain };
        let all = codec::encode(&[plain, full, plain]);
        assert_eq!(codec::decode(&all), Ok([plain, full, plain]));
        assert_eq!(full.total(), plain.total() + 4_000_005);
        for share in [MARK, u32::MAX] {
            let most = Price { share, ..plain };
            let read: Price = codec::decode(&codec::encode(&most)).unwrap();
            assert!(read.share.abs_diff(share) <= 1 && read.spread == 9, "{read:?}");
        }
        let longer = codec::encode(&(MARK, 1u32, 2u32, 3u32, 0u32, 0u32));
        assert!(codec::decode::<Price>(&longer).is_err());
    }
}
