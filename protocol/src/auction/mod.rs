//! Auctions: the owner of a workload asks for takers of its free places, nodes reserve resources
//! and bid, and the cheapest bidder is awarded the place and claims it.
//!
//! An owner keeps no state that a plan could not find again. Three rules hold whichever node dies
//! and whichever message is lost: a bidder never promises more than it has; two nodes never win
//! under one token; a reservation lapses by itself. A node bids at its own auctions by the same
//! messages, which its node hands back to this room.

mod awards;
mod bidder;
mod closing;
mod config;
mod cooling;
mod cx;
mod eviction;
mod fact;
mod ledger;
mod memory;
mod message;
mod notices;
mod offer;
mod owner;
mod queues;
mod round;
mod spreading;
mod summary;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::model::claim::short_reason;
use crate::model::{
    Award, ClusterId, Digest, KeyPair, Need, NeedSum, NodeId, Out, Place, ReplicaId, Signed, Time,
    Token,
};

use bidder::Bidder;
use cx::{Base, Cx};
use notices::Notices;
use owner::Owner;
use timers::Timers;

pub use config::Config;
pub use eviction::Evictable;
pub use fact::{Excluded, Exclusion, Fact, NotTaken, Reason};
pub use message::{Announce, Message, Refusal};
pub use offer::{BidContext, Knowledge, MAX_PLACES, Offer, OfferPlace, OwnClaim};
pub use summary::{MAX_LINES, MAX_PRICES, NoBid, NotAsked, Summary, Won};

/// All auctions that this node holds, bids in, or guards.
#[derive(Clone, Debug)]
pub struct Auction {
    base: Base,
    parts: Parts,
}

/// The three roles of a node. No role knows another: they meet by messages.
#[derive(Clone, Debug)]
struct Parts {
    owner: Owner,
    bidder: Bidder,
    notices: Notices,
}

/// An award whose claim has not been seen yet: of another owner, as a guardian knows it, or of this
/// node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenAward {
    /// The replica.
    pub replica: ReplicaId,
    /// The winner.
    pub to: NodeId,
    /// The token of the award.
    pub token: Token,
    /// The end of the wait for the claim.
    pub until: Time,
}

impl Auction {
    /// A room without auctions and without capacity. `incarnation` makes the upper half of auction
    /// numbers, so that two lives of a node share none.
    pub fn new(
        config: Config,
        me: NodeId,
        keys: KeyPair,
        cluster: ClusterId,
        incarnation: u64,
        seed: [u8; 32],
    ) -> Self {
        let owner = Owner::new(&config, incarnation);
        let base = Base {
            config,
            me,
            keys,
            cluster,
            incarnation,
            rng: ChaCha8Rng::from_seed(seed),
            timers: Timers::default(),
            summaries: VecDeque::new(),
        };
        Auction {
            base,
            parts: Parts { owner, bidder: Bidder::default(), notices: Notices::default() },
        }
    }

    /// Sets what this node offers to workloads in all. It may be less than what is committed: then
    /// there is no room.
    pub fn set_capacity(&mut self, capacity: impl Into<Need>) {
        self.parts.bidder.ledger.set_capacity(capacity.into());
    }

    /// A replica of this generation failed here for good: this node does not bid for it, for a time
    /// that grows with each failure.
    pub fn cool(&mut self, now: Time, replica: ReplicaId, generation: Digest, reason: &str) {
        self.parts.bidder.cooling.failed(&self.base.config, now, replica, generation, reason);
    }

    /// Owner: auctions missing places. Places that are under way are left out, so a repeated call
    /// is harmless. Takes at most [`MAX_PLACES`] at a time; the rest is reported by [`Fact::Full`].
    pub fn open(
        &mut self,
        now: Time,
        offer: Offer,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| {
            let awaited = parts.notices.awaited(&cx.base.me);
            parts.owner.open(cx, offer, awaited);
        })
    }

    /// Owner: drops what is under way for a workload, because ownership moved or the workload was
    /// removed. Bidders are released; awards stay valid, but are no longer waited for.
    pub fn close_all_for(
        &mut self,
        now: Time,
        uid: &Digest,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| parts.owner.close_all_for(cx, uid))
    }

    /// Owner: a node says something new of itself, and may take what it refused before.
    pub fn forget_answers(&mut self, node: NodeId) {
        self.parts.owner.memory.forget_answers(node);
    }

    /// Owner: a node that had no room for this generation of a workload may have some now.
    pub fn forget_no_room(&mut self, what: (Digest, Digest), node: NodeId) {
        self.parts.owner.memory.forget_no_room(what, node);
    }

    /// Handles a message of a peer.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| match message.check() {
            Ok(()) => parts.deliver(cx, from, message),
            Err(why) => cx.misbehaved(from, why),
        })
    }

    /// Handles what is due. Spurious calls are harmless.
    pub fn handle_timeout(
        &mut self,
        now: Time,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| {
            while let Some(reason) = cx.base.timers.pop_due(now) {
                parts.on_due(cx, reason);
            }
        })
    }

    /// When to call `handle_timeout`, and why.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.base.timers.first()
    }

    /// A node is down: it is not waited for, and what was reserved for it is free.
    pub fn node_down(
        &mut self,
        now: Time,
        node: &NodeId,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| {
            parts.bidder.node_down(cx, node);
            parts.owner.node_down(cx, node);
            parts.notices.node_down(cx, node);
        })
    }

    /// Bidder: a workload became known or changed. Auctions that were announced too early are
    /// answered now.
    pub fn learned(
        &mut self,
        now: Time,
        uid: &Digest,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| parts.bidder.learned(cx, uid))
    }

    /// Winner: the claims of these awards are on disk. Tells their owners, with one message per
    /// auction.
    pub fn claimed(
        &mut self,
        now: Time,
        awards: &[Signed<Award>],
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |_, cx| {
            bidder::send_claimed(cx, awards.iter().map(Signed::body));
        })
    }

    /// Winner: the claim of `award` could not be made, because of a broken disk or a full sheet.
    /// Tells the owner.
    pub fn unclaimed(
        &mut self,
        now: Time,
        award: &Signed<Award>,
        reason: &str,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| {
            parts.bidder.unclaimed(cx, award, short_reason(reason.to_owned()))
        })
    }

    /// Owner and guardian: a sheet of a node that is up shows a claim, made under an award with
    /// this token. Settles the award if its answer was lost, and takes the place out of an auction.
    pub fn saw_claim(
        &mut self,
        now: Time,
        replica: &ReplicaId,
        node: &NodeId,
        token: Token,
        context: &dyn BidContext,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.call(now, context, out, |parts, cx| {
            parts.notices.saw_claim(cx, replica, node, token);
            parts.owner.saw_claim(cx, *node, *replica, token);
        })
    }

    /// The number of places that can be opened now.
    pub fn room(&self) -> usize {
        self.parts.owner.room(&self.base.config, self.parts.notices.awaited(&self.base.me))
    }

    /// Whether this node auctions places of a workload, or waits for claims of it.
    pub fn holds_auctions_of(&self, uid: &Digest) -> bool {
        self.parts.owner.holds_auctions_of(uid)
    }

    /// Whether a place is being auctioned or awarded by this node now.
    pub fn is_under_way(&self, replica: &ReplicaId) -> bool {
        self.parts.owner.is_under_way(replica)
    }

    /// Awards for a workload whose claims have not been seen. Their places wait for `until`, or for
    /// [`Fact::AwardLapsed`], before they are auctioned again.
    pub fn open_awards(&self, uid: &Digest) -> Vec<OpenAward> {
        self.parts.notices.of_workload(uid)
    }

    /// The known summaries of a replica's auctions, the latest first.
    pub fn summaries(&self, replica: &ReplicaId) -> Vec<Arc<Summary>> {
        self.base.summaries(replica)
    }

    /// The latest auction of each place of a workload, as far as they are remembered.
    pub fn latest(&self, uid: &Digest) -> BTreeMap<Place, Arc<Summary>> {
        self.base.latest(uid)
    }

    /// The resources that are free for bids: capacity less `used` and reservations.
    pub fn unreserved(&self, used: NeedSum) -> Need {
        self.parts.bidder.ledger.unreserved(used)
    }

    /// The resources reserved for auctions that are not decided.
    pub fn reserved(&self) -> Need {
        self.parts.bidder.ledger.reserved()
    }

    fn call(
        &mut self,
        now: Time,
        context: &dyn BidContext,
        out: &mut Out<Message>,
        work: impl FnOnce(&mut Parts, &mut Cx<'_>),
    ) -> Vec<Fact> {
        let mut cx = Cx { base: &mut self.base, now, context, out, facts: Vec::new() };
        work(&mut self.parts, &mut cx);
        cx.facts
    }
}

impl Parts {
    fn deliver(&mut self, cx: &mut Cx<'_>, from: NodeId, message: Message) {
        match message {
            Message::Announce(announce) => self.bidder.on_announce(cx, from, announce),
            Message::Bid { auction, prices, without } => {
                self.owner.on_bid(cx, from, auction, prices, without)
            }
            Message::Decline { auction, why } => self.owner.on_decline(cx, from, auction, why),
            Message::Award { awards, summary } => self.bidder.on_award(cx, from, awards, *summary),
            Message::Release { auction } => self.bidder.on_release(cx, from, auction),
            Message::Claimed { claims, .. } => {
                for (replica, token) in claims {
                    if self.owner.on_claimed(cx, from, replica, token) {
                        self.notices.await_sheet(cx, from, replica, token);
                    }
                }
            }
            Message::Refused { replica, token, why, .. } => {
                self.owner.on_refused(cx, from, replica, token, why)
            }
            Message::Cancel { auction, replica, token } => {
                self.bidder.on_cancel(cx, from, auction, replica, token)
            }
            Message::Notice { awards, open_ms } => {
                self.notices.on_notice(cx, from, awards, open_ms)
            }
            Message::MakeRoom { auction, generation, replica } => {
                self.bidder.on_make_room(cx, from, auction, generation, replica)
            }
        }
    }

    fn on_due(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        match reason {
            Reason::RoundCloses(number) => self.owner.close(cx, number),
            Reason::RoundAsksAgain(number) => self.owner.on_asks_again(cx, number),
            Reason::AwardUnanswered(replica) => self.owner.on_unanswered(cx, replica),
            Reason::ReservationLapses(auction) => self.bidder.on_lapse(cx, auction),
            Reason::NoticeLapses(replica, owner) => self.notices.on_lapse(cx, replica, owner),
        }
    }
}
