//! A bidder, its owner and its disk: answers before and after the claim is on disk.

use super::*;
use crate::model::{AuctionId, Decline, Place, Price, Resources, Token, Value};

/// A node that may bid, because it knows a workload and its owner, which has a place to award.
pub struct Bidder {
    pub harness: Harness,
    pub me: NodeId,
    pub owners: Identity,
    pub genesis: Genesis,
    pub replica: ReplicaId,
    pub generation: Digest,
}

impl Bidder {
    pub fn new() -> Self {
        let cluster = cluster();
        let (mine, owners) = (cluster.identity(10), cluster.identity(20));
        let (me, owner) = (NodeId(mine.keys.public().0), NodeId(owners.keys.public().0));
        let admit = |node| cluster.admission(node).raw();
        let draft = Draft { clock: crate::model::Clock::new(), serial: 1, uid: None };
        let workload =
            cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
        let saved = Saved {
            incarnation: 1,
            changes: vec![admit(me), admit(owner), workload.raw()],
            ..Saved::default()
        };
        let wall = WallClock(1_800_000_000_000);
        let mut harness = Harness::new(Node::new(
            Config::default(),
            mine,
            saved,
            facts(),
            wall,
            [7; 32],
            Time::ZERO,
        ));
        harness.link(owner);
        let replica = ReplicaId { uid: workload.uid(), place: Place::Ordinal(0) };
        let generation = spec(1, 32 << 20).revision();
        Bidder { harness, me, owners, genesis: cluster.genesis, replica, generation }
    }

    pub fn auction(&self) -> AuctionId {
        AuctionId { owner: NodeId(self.owners.keys.public().0), number: 1 }
    }

    fn token(&self) -> Token {
        Token { counter: 1, by: self.auction().owner, incarnation: 1 }
    }

    /// Handles a message of the owner. Returns what the bidder sends.
    pub fn receive(&mut self, message: auction::Message) -> Vec<Message> {
        self.harness.sent.clear();
        self.harness.input(Input::Message {
            from: self.auction().owner,
            message: Message::Auction(message),
        });
        std::mem::take(&mut self.harness.sent)
    }

    /// Handles an announcement of the owner, and bids.
    pub fn bid(&mut self) {
        let sent = self.hear_announcement();
        assert!(matches!(sent[..], [Message::Auction(auction::Message::Bid { .. })]), "{sent:?}");
    }

    /// Handles an announcement of the owner. Returns the answer.
    pub fn hear_announcement(&mut self) -> Vec<Message> {
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
        self.receive(auction::Message::Announce(announce))
    }

    /// The owner's sheet comes, and shows the replica, healthy under a greater token.
    pub fn owner_runs_it(&mut self) {
        let (replica, generation, other) = (self.replica, self.generation, self.auction().owner);
        let token = Token { counter: 2, by: other, incarnation: 1 };
        let award = Award { auction: self.auction(), replica, generation, token, to: other };
        let award = Signed::sign(award, &self.owners.keys, &self.genesis.cluster()).wire();
        let claim = crate::model::Claim {
            update: None,
            replica,
            name: "web".parse().unwrap(),
            generation,
            token,
            phase: crate::model::Phase::Healthy,
            since: WallClock(1_800_000_000_000),
            award,
        };
        let slot = crate::model::Slot {
            slot: replica.slot(),
            counter: 1,
            claims: vec![claim],
            newer: Vec::new(),
        };
        let slot = Signed::sign(slot, &self.owners.keys, &self.genesis.cluster()).wire();
        self.harness.input(Input::Message { from: other, message: Message::Slot(slot) });
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

/// The winner's flash takes a second, while the owner repeats its award, then cancels it. If the
/// winner answered "claimed" and the power was cut then, the claim would be gone, and the owner
/// would wait for it.
#[test]
fn owner_hears_of_no_claim_before_it_is_on_disk() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.bid();
    let (auction, replica, token, award) =
        (bidder.auction(), bidder.replica, bidder.token(), bidder.award());
    assert_eq!(bidder.receive(award.clone()), []);
    assert_eq!(bidder.receive(award), [], "asked again");
    assert_eq!(
        bidder.receive(auction::Message::Cancel { auction, replica, token }),
        [],
        "cancelled"
    );
    bidder.harness.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(
        bidder.harness.sent,
        [Message::Auction(auction::Message::Claimed { auction, claims: vec![(replica, token)] })]
    );
}

/// The replica cannot be started, which the winner knows before its claim is on disk. A power cut
/// would take that claim back.
#[test]
fn phase_is_not_sent_before_the_claim_is_on_disk() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.harness.fetch_outcome = FetchOutcome::Unusable("no component".into());
    bidder.bid();
    bidder.receive(bidder.award());
    let slots_sent = |bidder: &Bidder| {
        bidder
            .harness
            .broadcasts
            .iter()
            .filter(|message| matches!(message, Message::Slot(_)))
            .count()
    };
    assert_eq!(slots_sent(&bidder), 0, "of a claim that a power cut would take back");
    bidder.harness.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().phase.as_str(), "failing");
    assert_eq!(slots_sent(&bidder), 1);
}

/// The disk fails over a claim, and the winner refuses the award. Otherwise the owner would wait in
/// vain, and the place would stay taken by a node that never runs it.
#[test]
fn claim_that_the_disk_refused_goes_to_another_node() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.bid();
    bidder.receive(bidder.award());
    bidder.harness.input(Input::StoreFailed { why: "no space left".into() });
    let sent = &bidder.harness.sent;
    let refused = |message: &Message| {
        let Message::Auction(auction::Message::Refused { why, .. }) = message else { return false };
        matches!(why, auction::Refusal::CannotClaim(_))
    };
    assert!(matches!(&sent[..], [message] if refused(message)), "{sent:?}");
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica), None);
    assert_eq!(bidder.harness.node.promised(), Resources::default().into());
    assert!(
        bidder.harness.orders.iter().all(|order| matches!(order, Order::Stop { .. })),
        "{:?}",
        bidder.harness.orders
    );
}

/// An owner, another member, and the announcement that the owner has sent to it.
fn auctions() -> (Harness, NodeId, auction::Announce) {
    let cluster = cluster();
    let mut owner = Harness::new(cluster.founder(Saved::default()));
    let mut other = cluster.join_member(20, &mut owner);
    let from = other.node.id();
    for message in std::mem::take(&mut other.sent) {
        owner.input(Input::Message { from, message });
    }
    owner.publish(&cluster, &spec(1, 32 << 20));
    let asked = owner.sent.iter().find_map(|message| match message {
        Message::Auction(auction::Message::Announce(announce)) => Some(announce.clone()),
        _ => None,
    });
    (owner, from, asked.expect("the other is asked, too"))
}

/// A bidder answers that it holds the place, and its claim never comes. The owner waits a second
/// for it, then auctions the place again.
#[test]
fn place_said_to_be_held_is_reopened_without_a_claim() {
    let (mut owner, from, announce) = auctions();
    let without = announce.places.iter().map(|place| (*place, Decline::Holds)).collect();
    let holds = auction::Message::Bid { auction: announce.auction, prices: Vec::new(), without };
    owner.input(Input::Message { from, message: Message::Auction(holds) });
    owner.run_for(Duration::from_millis(900));
    assert_eq!(owner.node.own_claims().count(), 0, "it took what another holds");
    owner.run_for(Duration::from_millis(1_000));
    assert_eq!(owner.node.own_claims().count(), 1);
}

/// The winner answers that it has claimed, and the gossip of its sheet is late. The owner does not
/// auction the place meanwhile, and does not leave it empty for ever either.
#[test]
fn claimed_place_is_not_placed_again_before_its_sheet() {
    let (mut owner, from, announce) = auctions();
    let auction = announce.auction;
    let prices = vec![Price::default()];
    let bid = auction::Message::Bid { auction, prices, without: Vec::new() };
    owner.input(Input::Message { from, message: Message::Auction(bid) });
    let won = owner.sent.iter().find_map(|message| match message {
        Message::Auction(auction::Message::Award { awards, .. }) => Some(awards[0].peek().unwrap()),
        _ => None,
    });
    let won = won.expect("it is the cheapest");
    let claimed = auction::Message::Claimed { auction, claims: vec![(won.replica, won.token)] };
    owner.input(Input::Message { from, message: Message::Auction(claimed) });
    owner.sent.clear();
    owner.run_for(Duration::from_secs(2));
    let is_asked =
        |message: &Message| matches!(message, Message::Auction(auction::Message::Announce(_)));
    assert!(!owner.sent.iter().any(is_asked));
    assert_eq!(owner.node.own_claims().count(), 0, "it took what another has claimed");
    owner.run_for(Duration::from_secs(20));
    assert_eq!(owner.node.own_claims().count(), 1);
}

/// An owner that held a holder down auctioned its place, and the winner knew that the holder was up
/// and ran the replica well: it won, let go a moment later, and won again, every few milliseconds.
#[test]
fn node_does_not_bid_for_a_place_that_runs_well() {
    let mut bidder = Bidder::new();
    bidder.owner_runs_it();
    let answer = bidder.hear_announcement();
    let [Message::Auction(auction::Message::Decline { why, .. })] = &answer[..] else {
        panic!("{answer:?}")
    };
    assert!(matches!(why, Decline::NotInStep { .. }), "it will look again: {why:?}");
}
