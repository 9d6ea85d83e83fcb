//! What is not on disk is not told, by whatever way; and what was let go is.

use super::bidding::Bidding;
use super::*;
use crate::model::{Phase, Slot, Token};

/// Slots that went out by gossip, oldest first.
fn told(bottle: &Bottle) -> Vec<Slot> {
    let slots = bottle.told_all.iter().filter_map(|message| match message {
        Message::Slot(slot) => Some(slot.peek().unwrap()),
        _ => None,
    });
    slots.collect()
}

/// What it would give to a peer that compares.
fn shown(it: &mut Bidding) -> Vec<Vec<u8>> {
    let key = claims::Claims::key(&it.me, it.replica.slot());
    let (mut found, now) = (Vec::new(), it.bottle.now);
    it.bottle.node.with_repair(now, |_, _, source, _| {
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
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let change = bottle.signed(&cluster, &spec(30, 16 << 20));
    bottle.disk = false;
    bottle.request(Command::Submit { change: change.raw() });
    bottle.input(Input::Stored { upto: bottle.last_batch });
    assert_eq!(bottle.node.own_claims().count(), 30);
    bottle.input(Input::StoreFailed { why: "no space left".into() });
    let told = told(&bottle);
    assert!(told.iter().all(|slot| slot.claims.is_empty()), "{told:?}");
    assert!(!told.is_empty(), "it may be said that there is nothing");
}

/// It let go of a replica, and the disk failed over that. The word of it waited for the disk and
/// was dropped: to the others it ran there until something else changed in the slot.
#[test]
fn what_was_let_go_is_told_though_the_disk_failed_over_it() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.publish(&cluster, &spec(1, 32 << 20));
    assert_eq!(told(&bottle).last().map(|slot| slot.claims.len()), Some(1));
    let before = bottle.node.roots();
    bottle.disk = false;
    let Some(Order::Run { replica, generation, .. }) = bottle.orders.first().cloned() else {
        panic!("it runs")
    };
    let state = ReplicaState::Failed { reason: "trapped".into(), retryable: false };
    bottle.input(Input::Report(Report { replica, generation, state }));
    bottle.run_for(Duration::from_secs(3));
    assert_eq!(
        bottle.node.own_claim(&replica).map(|claim| claim.phase.as_str()),
        None,
        "it is given up"
    );
    bottle.input(Input::StoreFailed { why: "no space left".into() });
    assert_eq!(told(&bottle).last().map(|slot| slot.claims.len()), Some(0));
    assert_ne!(bottle.node.roots(), before, "nor do they learn of it by comparison");
}

/// Gossip waited for the disk, and comparison did not: whoever compared in that moment was given
/// the claim.
#[test]
fn a_claim_is_not_shown_to_those_who_compare_before_it_is_on_disk() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.asked();
    let before = it.bottle.node.roots();
    it.hears(it.award());
    assert!(it.bottle.node.own_claim(&it.replica).is_some());
    assert_eq!((shown(&mut it), it.bottle.node.roots()), (Vec::new(), before));
    it.bottle.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(shown(&mut it).len(), 1);
    assert_ne!(it.bottle.node.roots(), before);
}

/// The keeper of a replica took over the greater token of one that yields, and was killed when it
/// had told it with the next phase and not yet written it.
#[test]
fn a_token_that_was_taken_over_is_not_told_before_it_is_on_disk() {
    let mut it = Bidding::new();
    it.asked();
    it.hears(it.award());
    assert_eq!(it.bottle.node.own_claim(&it.replica).unwrap().phase, Phase::Healthy);
    it.bottle.disk = false;
    let before = told(&it.bottle).len();
    let owner = it.auction().owner;
    let token = Token { counter: 5, by: owner, incarnation: 1 };
    let ask = claims::Message::AskKeeper { replica: it.replica, token, question: 1 };
    it.bottle.input(Input::Message { from: owner, message: Message::Claims(ask) });
    assert_eq!(it.bottle.node.own_claim(&it.replica).unwrap().token, token);
    let state = ReplicaState::Failed { reason: "trapped".into(), retryable: true };
    let (replica, generation) = (it.replica, it.generation);
    it.bottle.input(Input::Report(Report { replica, generation, state }));
    assert_eq!(told(&it.bottle).len(), before);
}

/// The claim was on disk while the link to the owner was gone. By the time there was another link
/// the replica had been let go, and the owner was told that it was claimed.
#[test]
fn an_owner_is_not_told_of_a_claim_that_was_let_go_while_the_link_was_made() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.bottle.fetched = FetchOutcome::Unusable("no component".into());
    it.asked();
    it.hears(it.award());
    let owner = it.auction().owner;
    it.bottle.input(Input::LinkDown { peer: owner });
    it.bottle.input(Input::Stored { upto: PersistId(3) });
    it.bottle.run_for(Duration::from_secs(3));
    assert_eq!(
        it.bottle.node.own_claim(&it.replica).map(|claim| claim.phase.as_str()),
        None,
        "it is given up"
    );
    it.bottle.said.clear();
    it.bottle.input(Input::LinkUp { peer: owner });
    let is_claimed =
        |message: &&Message| matches!(message, Message::Auction(auction::Message::Claimed { .. }));
    assert_eq!(it.bottle.said.iter().find(is_claimed), None);
}

/// It is the keeper, and its disk takes no writes: a greater token that it took over would be gone
/// with the next restart.
#[test]
fn a_node_that_cannot_write_takes_over_no_token() {
    let mut it = Bidding::new();
    it.asked();
    it.hears(it.award());
    let before = it.bottle.node.own_claim(&it.replica).unwrap().token;
    it.bottle.disk = false;
    it.bottle.input(Input::StoreFailed { why: "no space left".into() });
    let owner = it.auction().owner;
    let token = Token { counter: 5, by: owner, incarnation: 1 };
    let ask = claims::Message::AskKeeper { replica: it.replica, token, question: 1 };
    it.bottle.input(Input::Message { from: owner, message: Message::Claims(ask) });
    assert_eq!(it.bottle.node.own_claim(&it.replica).unwrap().token, before);
}
