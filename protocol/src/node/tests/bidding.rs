//! One that bids, its owner, and its disk: what it answers before the claim is on it, and after.

use super::*;
use crate::model::{AuctionId, Decline, Place, Price, Resources, Token, Value};

/// One that may bid: it knows a wish and its owner, who has a place to give.
pub struct Bidding {
    pub bottle: Bottle,
    pub me: NodeId,
    pub owners: Identity,
    pub genesis: Genesis,
    pub replica: ReplicaId,
    pub generation: Digest,
}

impl Bidding {
    pub fn new() -> Self {
        let cluster = cluster();
        let (mine, owners) = (cluster.identity(10), cluster.identity(20));
        let (me, owner) = (NodeId(mine.keys.public().0), NodeId(owners.keys.public().0));
        let admit = |node| trust::admit(&cluster.genesis, &cluster.join, node, 1, 1).unwrap().raw();
        let draft = Draft { clock: crate::model::Clock::new(), serial: 1, uid: None };
        let wish =
            cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
        let saved = Saved {
            incarnation: 1,
            changes: vec![admit(me), admit(owner), wish.raw()],
            ..Saved::default()
        };
        let wall = WallClock(1_800_000_000_000);
        let mut bottle = Bottle::new(Node::new(
            Config::default(),
            mine,
            saved,
            facts(),
            wall,
            [7; 32],
            Time::ZERO,
        ));
        bottle.input(Input::LinkUp { peer: owner });
        let replica = ReplicaId { uid: wish.uid(), place: Place::Ordinal(0) };
        let generation = spec(1, 32 << 20).revision();
        Bidding { bottle, me, owners, genesis: cluster.genesis, replica, generation }
    }

    pub fn auction(&self) -> AuctionId {
        AuctionId { owner: NodeId(self.owners.keys.public().0), number: 1 }
    }

    fn token(&self) -> Token {
        Token { counter: 1, by: self.auction().owner, incarnation: 1 }
    }

    /// What it answers its owner.
    pub fn hears(&mut self, message: auction::Message) -> Vec<Message> {
        self.bottle.said.clear();
        self.bottle.input(Input::Message {
            from: self.auction().owner,
            message: Message::Auction(message),
        });
        std::mem::take(&mut self.bottle.said)
    }

    /// It bids.
    pub fn asked(&mut self) {
        let (auction, ReplicaId { uid, place }) = (self.auction(), self.replica);
        let generation = self.generation;
        let announce = auction::Announce {
            auction,
            uid,
            generation,
            places: vec![place],
            answer_ms: 100,
            hold_ms: 5_000,
        };
        let said = self.hears(auction::Message::Announce(announce));
        assert!(matches!(said[..], [Message::Auction(auction::Message::Bid { .. })]), "{said:?}");
    }

    pub fn award(&self) -> auction::Message {
        let (auction, token) = (self.auction(), self.token());
        let award = Award {
            auction,
            replica: self.replica,
            generation: self.generation,
            token,
            to: self.me,
        };
        let award = Signed::sign(award, &self.owners.keys, &self.genesis.cluster());
        let summary = Box::new(auction::Summary {
            auction,
            name: "web".parse().unwrap(),
            uid: self.replica.uid,
            generation: self.generation,
            resources: Resources::default(),
            places: Vec::new(),
            opened: WallClock(0),
            took_us: 0,
            bids: Vec::new(),
            declines: Vec::new(),
            not_asked: Vec::new(),
            omitted: [0; 3],
            awards: Vec::new(),
        });
        auction::Message::Award { awards: vec![award.wire()], summary }
    }
}

/// Its flash takes a second, and the owner asks again, then cancels. Were it told "claimed" and
/// power cut then, the claim would be gone, and the owner would wait for it.
#[test]
fn nobody_hears_of_a_claim_that_is_not_on_disk_however_often_they_ask() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.asked();
    let (auction, replica, token, award) = (it.auction(), it.replica, it.token(), it.award());
    assert_eq!(it.hears(award.clone()), []);
    assert_eq!(it.hears(award), [], "asked again");
    assert_eq!(it.hears(auction::Message::Cancel { auction, replica, token }), [], "cancelled");
    it.bottle.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(
        it.bottle.said,
        [Message::Auction(auction::Message::Claimed { auction, claims: vec![(replica, token)] })]
    );
}

/// What was won cannot be started, which is known before the claim is on disk.
#[test]
fn a_phase_is_not_told_before_the_claim_is_on_disk() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.bottle.fetched = FetchOutcome::Unusable("no component".into());
    it.asked();
    it.hears(it.award());
    let told = |it: &Bidding| {
        it.bottle.told_all.iter().filter(|message| matches!(message, Message::Slot(_))).count()
    };
    assert_eq!(told(&it), 0, "of a claim that a power cut would take back");
    it.bottle.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(it.bottle.node.own_claim(&it.replica).unwrap().phase.as_str(), "failing");
    assert_eq!(told(&it), 1);
}

/// Without that the owner would wait in vain, and the place would stay taken here, where nothing of
/// it ever runs.
#[test]
fn what_a_failing_disk_could_not_take_goes_to_another_node() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.asked();
    it.hears(it.award());
    it.bottle.input(Input::StoreFailed { why: "no space left".into() });
    let said = &it.bottle.said;
    let refused = |message: &Message| {
        let Message::Auction(auction::Message::Refused { why, .. }) = message else { return false };
        matches!(why, auction::Refusal::CannotClaim(_))
    };
    assert!(matches!(&said[..], [message] if refused(message)), "{said:?}");
    assert_eq!(it.bottle.node.own_claim(&it.replica), None);
    assert_eq!(it.bottle.node.promised(), Resources::default());
    assert!(
        it.bottle.orders.iter().all(|order| matches!(order, Order::Stop { .. })),
        "{:?}",
        it.bottle.orders
    );
}

/// An owner with one other node, whom it asks for a replica.
fn auctions() -> (Bottle, NodeId, auction::Announce) {
    let cluster = cluster();
    let mut owner = Bottle::new(cluster.founder(Saved::default()));
    let mut other = cluster.joins(20, &mut owner);
    let from = other.node.id();
    for message in std::mem::take(&mut other.said) {
        owner.input(Input::Message { from, message });
    }
    owner.publish(&cluster, &spec(1, 32 << 20));
    let asked = owner.said.iter().find_map(|message| match message {
        Message::Auction(auction::Message::Announce(announce)) => Some(announce.clone()),
        _ => None,
    });
    (owner, from, asked.expect("the other is asked, too"))
}

/// A bidder says to hold the place in an auction, and is never heard of again: the place is not to
/// stay empty for that.
#[test]
fn what_somebody_says_to_hold_is_put_up_again_when_no_claim_comes() {
    let (mut owner, from, announce) = auctions();
    let without = announce.places.iter().map(|place| (*place, Decline::Holds)).collect();
    let holds = auction::Message::Bid { auction: announce.auction, prices: Vec::new(), without };
    owner.input(Input::Message { from, message: Message::Auction(holds) });
    owner.run_for(Duration::from_millis(900));
    assert_eq!(owner.node.own_claims().count(), 0, "it took what another holds");
    owner.run_for(Duration::from_millis(1_000));
    assert_eq!(owner.node.own_claims().count(), 1);
}

/// The winner says that it has its claim, and gossip of that is late: the place is not put up again
/// in the meantime, but not left empty for ever either.
#[test]
fn what_its_winner_says_to_have_claimed_is_not_placed_again_before_its_sheet_comes() {
    let (mut owner, from, announce) = auctions();
    let auction = announce.auction;
    let prices = vec![Price { share: 0, fetch: 0, spread: 0 }];
    let bid = auction::Message::Bid { auction, prices, without: Vec::new() };
    owner.input(Input::Message { from, message: Message::Auction(bid) });
    let won = owner.said.iter().find_map(|message| match message {
        Message::Auction(auction::Message::Award { awards, .. }) => Some(awards[0].peek().unwrap()),
        _ => None,
    });
    let won = won.expect("it is the cheapest");
    let claimed = auction::Message::Claimed { auction, claims: vec![(won.replica, won.token)] };
    owner.input(Input::Message { from, message: Message::Auction(claimed) });
    owner.said.clear();
    owner.run_for(Duration::from_secs(2));
    let is_asked =
        |message: &Message| matches!(message, Message::Auction(auction::Message::Announce(_)));
    assert!(!owner.said.iter().any(is_asked));
    assert_eq!(owner.node.own_claims().count(), 0, "it took what another has claimed");
    owner.run_for(Duration::from_secs(20));
    assert_eq!(owner.node.own_claims().count(), 1);
}
