//! What is not on disk is not told, by whatever way; and what was let go is.

use super::bidder::Bidder;
use super::*;
use crate::model::{Phase, Slot, Token};

/// Slots that went out by gossip, oldest first.
fn told(harness: &Harness) -> Vec<Slot> {
    let slots = harness.broadcasts.iter().filter_map(|message| match message {
        Message::Slot(slot) => Some(slot.peek().unwrap()),
        _ => None,
    });
    slots.collect()
}

/// What it would give to a peer that compares.
fn shown(bidder: &mut Bidder) -> Vec<Vec<u8>> {
    let key = claims::Claims::key(&bidder.me, bidder.replica.slot());
    let (mut found, now) = (Vec::new(), bidder.harness.now);
    bidder.harness.node.with_repair(now, |_, _, source, _| {
        found = source.load(crate::sync::Tree::Sheets, &key);
        Vec::new()
    });
    found
}

/// Many replicas were won, some in one slot, and the disk failed over their claims. They were let
/// go of one after another, and the word of the first told that the others were claimed: what a
/// restart would know nothing of.
#[test]
fn a_node_whose_disk_fails_does_not_tell_of_one_claim_while_it_lets_go_of_another() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let change = harness.signed(&cluster, &spec(30, 16 << 20));
    harness.disk_works = false;
    harness.request(Command::Submit { change: change.raw() });
    harness.input(Input::Stored { upto: harness.last_batch });
    assert_eq!(harness.node.own_claims().count(), 30);
    harness.input(Input::StoreFailed { why: "no space left".into() });
    let told = told(&harness);
    assert!(told.iter().all(|slot| slot.claims.is_empty()), "{told:?}");
    assert!(!told.is_empty(), "it may be said that there is nothing");
}

/// It let go of a replica, and the disk failed over that. The word of it waited for the disk and
/// was dropped: to the others it ran there until something else changed in the slot.
#[test]
fn what_was_let_go_is_told_though_the_disk_failed_over_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    assert_eq!(told(&harness).last().map(|slot| slot.claims.len()), Some(1));
    let before = harness.node.roots();
    harness.disk_works = false;
    let Some(Order::Run { replica, generation, .. }) = harness.orders.first().cloned() else {
        panic!("it runs")
    };
    let state = ReplicaState::Failed { reason: "trapped".into(), retryable: false };
    harness.input(Input::Report(Report { replica, generation, state }));
    harness.run_for(Duration::from_secs(3));
    assert_eq!(
        harness.node.own_claim(&replica).map(|claim| claim.phase.as_str()),
        None,
        "it is given up"
    );
    harness.input(Input::StoreFailed { why: "no space left".into() });
    assert_eq!(told(&harness).last().map(|slot| slot.claims.len()), Some(0));
    assert_ne!(harness.node.roots(), before, "nor do they learn of it by comparison");
}

/// Gossip waited for the disk, and comparison did not: whoever compared in that moment was given
/// the claim.
#[test]
fn a_claim_is_not_shown_to_those_who_compare_before_it_is_on_disk() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.bid();
    let before = bidder.harness.node.roots();
    bidder.receive(bidder.award());
    assert!(bidder.harness.node.own_claim(&bidder.replica).is_some());
    assert_eq!((shown(&mut bidder), bidder.harness.node.roots()), (Vec::new(), before));
    bidder.harness.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(shown(&mut bidder).len(), 1);
    assert_ne!(bidder.harness.node.roots(), before);
}

/// The keeper of a replica took over the greater token of one that yields, and was killed when it
/// had told it with the next phase and not yet written it.
#[test]
fn a_token_that_was_taken_over_is_not_told_before_it_is_on_disk() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().phase, Phase::Healthy);
    bidder.harness.disk_works = false;
    let before = told(&bidder.harness).len();
    let owner = bidder.auction().owner;
    let token = Token { counter: 5, by: owner, incarnation: 1 };
    let ask = claims::Message::AskKeeper { replica: bidder.replica, token, question: 1 };
    bidder.harness.input(Input::Message { from: owner, message: Message::Claims(ask) });
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().token, token);
    let state = ReplicaState::Failed { reason: "trapped".into(), retryable: true };
    let (replica, generation) = (bidder.replica, bidder.generation);
    bidder.harness.input(Input::Report(Report { replica, generation, state }));
    assert_eq!(told(&bidder.harness).len(), before);
}

/// The claim was on disk while the link to the owner was gone. By the time there was another link
/// the replica had been let go, and the owner was told that it was claimed.
#[test]
fn an_owner_is_not_told_of_a_claim_that_was_let_go_while_the_link_was_made() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.harness.fetch_outcome = FetchOutcome::Unusable("no component".into());
    bidder.bid();
    bidder.receive(bidder.award());
    let owner = bidder.auction().owner;
    bidder.harness.input(Input::LinkDown { peer: owner });
    bidder.harness.input(Input::Stored { upto: PersistId(3) });
    bidder.harness.run_for(Duration::from_secs(3));
    assert_eq!(
        bidder.harness.node.own_claim(&bidder.replica).map(|claim| claim.phase.as_str()),
        None,
        "it is given up"
    );
    bidder.harness.sent.clear();
    bidder.harness.input(Input::LinkUp { peer: owner });
    let is_claimed =
        |message: &&Message| matches!(message, Message::Auction(auction::Message::Claimed { .. }));
    assert_eq!(bidder.harness.sent.iter().find(is_claimed), None);
}

/// It is the keeper, and its disk takes no writes: a greater token that it took over would be gone
/// with the next restart.
#[test]
fn a_node_that_cannot_write_takes_over_no_token() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let before = bidder.harness.node.own_claim(&bidder.replica).unwrap().token;
    bidder.harness.disk_works = false;
    bidder.harness.input(Input::StoreFailed { why: "no space left".into() });
    let owner = bidder.auction().owner;
    let token = Token { counter: 5, by: owner, incarnation: 1 };
    let ask = claims::Message::AskKeeper { replica: bidder.replica, token, question: 1 };
    bidder.harness.input(Input::Message { from: owner, message: Message::Claims(ask) });
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().token, before);
}
