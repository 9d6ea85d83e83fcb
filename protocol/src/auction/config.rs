//! The settings of the room `auction`.

use std::time::Duration;

/// Times, weights and bounds of auctions. An owner and a bidder may differ in theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The least number of nodes that are asked first, at random among those that are eligible.
    /// Sane: 8.
    pub sample_at_least: usize,
    /// The number of nodes that are asked first for each replica. Sane: 2.
    pub sample_per_replica: usize,
    /// The factor by which a widening enlarges the number of nodes to ask. Sane: 4.
    pub widen_factor: usize,
    /// Widenings that may follow one another at once, over all auctions of this owner: after a mass
    /// failure in a full cluster every auction would ask every node. Sane: 16.
    pub widen_burst: u32,
    /// The time after which another widening is allowed. Sane: 50 ms.
    pub widen_every: Duration,

    /// The least time for bidders to answer. Only a silent bidder makes the owner wait for it.
    /// Sane: 150 ms.
    pub answer_at_least: Duration,
    /// The longest time for bidders to answer. Sane: 2 s.
    pub answer_at_most: Duration,
    /// The time after which an owner gives up an offer without a taker. Sane: 5 s.
    pub give_up_after: Duration,
    /// The time for a winner to write its claim and to answer, besides the round trip. Above the
    /// fsync of a slow flash. Sane: 1.5 s.
    pub claim_within: Duration,
    /// An award that is not answered is sent again after this and the round trip; it may have been
    /// lost. The pause doubles. Sane: 300 ms.
    pub award_again_after: Duration,
    /// The time for the answer to a cancel, besides the round trip. Sane: 300 ms.
    pub cancel_within: Duration,

    /// The longest time of a reservation, whatever the owner asks for. Sane: 15 s.
    pub hold_at_most: Duration,
    /// Reservations of a bidder at a time; beyond it the bidder is busy. Each takes some 300 bytes.
    /// Sane: 256.
    pub max_reservations: usize,
    /// Reservations for one owner at a time: no owner alone shall block a bidder. Sane: 128.
    pub max_reservations_per_owner: usize,
    /// The time after which a busy bidder wants to be asked again. Sane: 100 ms.
    pub busy_retry: Duration,
    /// The time after which a bidder that does not know the workload yet wants to be asked again.
    /// It answers unasked as soon as it learns of the workload ([`super::Auction::learned`]). Sane:
    /// 50 ms.
    pub not_in_step_retry: Duration,

    /// The time for which a node without room is not asked again for the same workload. Sane: 3 s.
    pub remember_no_room: Duration,
    /// The time for which an unfit node is not asked again for the same workload. The node's facts
    /// hardly change. Sane: 60 s.
    pub remember_unfit: Duration,
    /// The time for which a node that did not answer, or did not take what it had bid for, is not
    /// asked again for the same workload. Sane: 2 s.
    pub remember_silent: Duration,
    /// The first wait before another try for a workload without a taker; it doubles. Sane: 1 s.
    pub retry_at_least: Duration,
    /// The longest wait before another try. Sane: 30 s.
    pub retry_at_most: Duration,
    /// The time for which a node does not bid for a replica after its first failure there; it
    /// doubles. Sane: 10 s.
    pub cool_at_least: Duration,
    /// The longest time for which a node does not bid; a failure so long ago is forgotten. Sane: 10
    /// min.
    pub cool_at_most: Duration,

    /// The price of each MiB still to fetch, in millionths of a full node. Sane: 2,000.
    pub price_per_mib: u32,
    /// The highest price of the bytes to fetch. Sane: 300,000.
    pub price_of_fetch_at_most: u32,
    /// The price of each replica of the same workload that is already here. Above the sum of the
    /// other parts, so that two replicas share a node, and die together, only when no other node
    /// has room. Sane: 1,500,000.
    pub price_per_neighbour: u32,
    /// The price of each unit of weight of the preferences that a node does not fulfil. A
    /// preference of weight 100 is worth as much as a full node. Sane: 10,000.
    pub price_per_weight: u32,

    /// Auctions of this owner at a time; further ones wait. Each takes some KiB. Sane: 256.
    pub max_auctions: usize,
    /// Places of this owner that are sought, or awarded and not yet seen claimed, at a time;
    /// further ones wait until claims come in. It bounds what a workload of thousands asks of the
    /// mesh at once: a bidder writes its claims of so many places in one or two batches. Sane: 512.
    pub max_under_way: usize,
    /// Awards of this owner that wait for their claim, at a time. Each takes some 500 bytes. Sane:
    /// 8,192, all replicas of a full node.
    pub max_awards: usize,
    /// Summaries that are kept for `explain`. Each takes at most some 8 KiB, mostly 1 KiB. Sane:
    /// 256.
    pub max_summaries: usize,
    /// Open awards of other owners that a guardian keeps. Each takes some 400 bytes. Sane: 4,096.
    pub max_notices: usize,
}

impl Config {
    /// The price of a replica of the same workload on the same node, if preferences have so much
    /// weight in all: more than these can cost.
    pub(super) fn neighbour(&self, weights: u32) -> u32 {
        self.price_per_neighbour.saturating_add(weights.saturating_mul(self.price_per_weight))
    }

    /// The price of a replica on a node with the same label, for labels that a workload is spread
    /// over: more than that of one on the same node, so that a label with one node gets its share.
    pub(super) fn balance(&self, weights: u32) -> u32 {
        self.neighbour(weights).saturating_mul(2)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sample_at_least: 8,
            sample_per_replica: 2,
            widen_factor: 4,
            widen_burst: 16,
            widen_every: Duration::from_millis(50),
            answer_at_least: Duration::from_millis(150),
            answer_at_most: Duration::from_secs(2),
            give_up_after: Duration::from_secs(5),
            claim_within: Duration::from_millis(1_500),
            award_again_after: Duration::from_millis(300),
            cancel_within: Duration::from_millis(300),
            hold_at_most: Duration::from_secs(15),
            max_reservations: 256,
            max_reservations_per_owner: 128,
            busy_retry: Duration::from_millis(100),
            not_in_step_retry: Duration::from_millis(50),
            remember_no_room: Duration::from_secs(3),
            remember_unfit: Duration::from_secs(60),
            remember_silent: Duration::from_secs(2),
            retry_at_least: Duration::from_secs(1),
            retry_at_most: Duration::from_secs(30),
            cool_at_least: Duration::from_secs(10),
            cool_at_most: Duration::from_secs(600),
            price_per_mib: 2_000,
            price_of_fetch_at_most: 300_000,
            price_per_neighbour: 1_500_000,
            price_per_weight: 10_000,
            max_auctions: 256,
            max_under_way: 512,
            max_awards: 8_192,
            max_summaries: 256,
            max_notices: 4_096,
        }
    }
}
