//! What of `auction` can be tuned.

use std::time::Duration;

/// Times, weights and bounds of auctions. An owner and a bidder may differ in theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Nodes asked first, at least; by random, of those that are eligible. Sane: 8.
    pub sample_at_least: usize,
    /// Nodes asked first for each replica sought. Sane: 2.
    pub sample_per_replica: usize,
    /// How many times more nodes are asked when nobody took it. Sane: 4.
    pub widen_factor: usize,
    /// Widenings that may follow one another at once, over all auctions of this owner: after a mass
    /// failure on a full cluster, every auction would ask everybody. Sane: 16.
    pub widen_burst: u32,
    /// Time for one more widening. Sane: 50 ms.
    pub widen_every: Duration,

    /// The least time bidders are given to answer. Only a silent one makes an owner wait for it.
    /// Sane: 150 ms.
    pub answer_at_least: Duration,
    /// The longest time bidders are given. Sane: 2 s.
    pub answer_at_most: Duration,
    /// When an owner gives a offer up that nobody takes. Sane: 5 s.
    pub give_up_after: Duration,
    /// Time a winner is given to put its claim on disk and answer, besides the round trip. Above a
    /// slow flash's fsync. Sane: 1.5 s.
    pub claim_within: Duration,
    /// An award that was not answered is sent again after this and the round trip; it may have been
    /// dropped. Sane: 300 ms.
    pub award_again_after: Duration,
    /// How long an owner waits for the answer to a cancel, besides the round trip. Sane: 300 ms.
    pub cancel_within: Duration,

    /// The longest a reservation is held, whatever the owner asks for. Sane: 15 s.
    pub hold_at_most: Duration,
    /// Reservations at one bidder at a time; beyond it, it is busy. Each is some 300 bytes. Sane:
    /// 256.
    pub max_reservations: usize,
    /// Of these, for one owner: no owner shall lame a bidder alone. Sane: 128.
    pub max_reservations_per_owner: usize,
    /// After which a busy bidder wants to be asked again. Sane: 100 ms.
    pub busy_retry: Duration,
    /// After which a bidder that does not know the workload yet wants to be asked again. It answers
    /// by itself as soon as it learns of it ([`super::Auction::learned`]). Sane: 50 ms.
    pub not_in_step_retry: Duration,

    /// How long a node without room is not asked again for the same. Sane: 3 s.
    pub remember_no_room: Duration,
    /// How long a node that said it is unfit is not asked again for the same. Its facts hardly
    /// change. Sane: 60 s.
    pub remember_unfit: Duration,
    /// How long a node that did not answer, or did not take what it had bid for, is not asked again
    /// for the same. Sane: 2 s.
    pub remember_silent: Duration,
    /// The first wait before a workload that found no taker should be tried again; doubles. Sane: 1
    /// s.
    pub retry_at_least: Duration,
    /// The longest such wait. Sane: 30 s.
    pub retry_at_most: Duration,
    /// How long a node leaves a replica alone after it failed there for the first time; doubles.
    /// Sane: 10 s.
    pub cool_at_least: Duration,
    /// The longest such time; a failure so long ago is forgotten. Sane: 10 min.
    pub cool_at_most: Duration,

    /// What each MiB still to fetch adds to the price, in millionths of a full node. Sane: 2,000.
    pub price_per_mib: u32,
    /// The most that bytes to fetch add. Sane: 300,000.
    pub price_of_fetch_at_most: u32,
    /// What each replica of the same workload already here adds. Above the rest of any price, two
    /// of them share a node only when no other has room, and do not die together. Sane: 1,500,000.
    pub price_per_neighbour: u32,

    /// Auctions of this owner at a time; further ones wait their turn. Each is some KiB. Sane: 256.
    pub max_auctions: usize,
    /// Places of this owner that are sought, or awarded and not yet seen claimed, at a time;
    /// further ones wait until claims come in. It is what a step of thousands asks of the mesh at
    /// once: a bidder's claims of so many go to its disk in one or two batches. Sane: 512.
    pub max_under_way: usize,
    /// Awards of this owner waiting for their claim at a time. Each is some 500 bytes. Sane: 8,192,
    /// a full node's worth.
    pub max_awards: usize,
    /// Summaries kept for `explain`. Each is at most some 8 KiB, mostly 1. Sane: 256.
    pub max_summaries: usize,
    /// Open awards of other owners that a guardian keeps. Each is some 400 bytes. Sane: 4,096.
    pub max_notices: usize,
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
            max_auctions: 256,
            max_under_way: 512,
            max_awards: 8_192,
            max_summaries: 256,
            max_notices: 4_096,
        }
    }
}
