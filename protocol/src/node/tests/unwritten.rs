//! A claim that is not on disk reaches no other node by any way; a release does.

use super::bidder::Bidder;
use super::*;
use crate::model::{InstanceState, Phase, Slot, Token};

/// The slots that were sent by gossip, oldest first.
fn sent_slots(harness: &Harness) -> Vec<Slot> {
    let slots = harness.broadcasts.iter().filter_map(|message| match message {
        Message::Slot(slot) => Some(slot.peek().unwrap()),
        _ => None,
    });
    slots.collect()
}

/// The slot as a comparison would give it to a peer.
fn shown(bidder: &mut Bidder) -> Vec<Vec<u8>> {
    let key = claims::Claims::key(&bidder.me, bidder.replica.slot());
    let (mut found, now) = (Vec::new(), bidder.harness.now);
    bidder.harness.node.with_repair(now, |_, _, source, _| {
        found = source.load(crate::sync::Tree::Sheets, &key);
        Vec::new()
    });
    found
}

/// Many replicas were won, some in one slot, and the disk failed over their claims. The node let go
/// of one after another, and the slot without the first claim showed the others, which a restart
/// would not know.
#[test]
fn failing_disk_shows_no_claim_that_is_not_on_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let change = harness.signed(&cluster, &spec(30, 16 << 20));
    harness.disk_works = false;
    harness.request(Command::Submit { change: change.raw() });
    harness.input(Input::Stored { upto: harness.last_batch });
    assert_eq!(harness.node.own_claims().count(), 30);
    harness.input(Input::StoreFailed { why: "no space left".into() });
    let slots = sent_slots(&harness);
    assert!(slots.iter().all(|slot| slot.claims.is_empty()), "{slots:?}");
    assert!(!slots.is_empty(), "an empty slot may be sent");
}

/// A node let go of a replica, and the disk failed over that. The message waited for the disk and
/// was dropped: to others the replica ran until something else changed in its slot.
#[test]
fn release_is_sent_though_the_disk_failed_over_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    assert_eq!(sent_slots(&harness).last().map(|slot| slot.claims.len()), Some(1));
    let before = harness.node.roots();
    harness.disk_works = false;
    let Some(Order::Run { replica, generation, .. }) = harness.orders.first().cloned() else {
        panic!("it runs")
    };
    let state = InstanceState::Failed { reason: "trapped".into(), retryable: false };
    harness.input(Input::Report(Report { replica, generation, state }));
    harness.run_for(Duration::from_secs(3));
    assert_eq!(
        harness.node.own_claim(&replica).map(|claim| claim.phase.as_str()),
        None,
        "it is given up"
    );
    harness.input(Input::StoreFailed { why: "no space left".into() });
    assert_eq!(sent_slots(&harness).last().map(|slot| slot.claims.len()), Some(0));
    assert_ne!(harness.node.roots(), before, "nor do they learn of it by comparison");
}

/// Gossip waited for the disk, a comparison did not: a peer that compared in that moment received
/// the claim.
#[test]
fn comparison_shows_no_claim_before_it_is_on_disk() {
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

/// The keeper of a replica adopted the greater token of a node that yields. It was killed when it
/// had sent that token with the next phase and not yet written it.
#[test]
fn adopted_token_is_not_sent_before_it_is_on_disk() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().phase, Phase::Healthy);
    bidder.harness.disk_works = false;
    let before = sent_slots(&bidder.harness).len();
    let owner = bidder.auction().owner;
    let token = Token { counter: 5, by: owner, incarnation: 1 };
    let ask = claims::Message::AskKeeper { replica: bidder.replica, token, question: 1 };
    bidder.harness.input(Input::Message { from: owner, message: Message::Claims(ask) });
    assert_eq!(bidder.harness.node.own_claim(&bidder.replica).unwrap().token, token);
    let state = InstanceState::Failed { reason: "trapped".into(), retryable: true };
    let (replica, generation) = (bidder.replica, bidder.generation);
    bidder.harness.input(Input::Report(Report { replica, generation, state }));
    assert_eq!(sent_slots(&bidder.harness).len(), before);
}

/// The claim came on disk while there was no link to the owner. When there was one the replica had
/// been released, and the owner still received the claim.
#[test]
fn owner_hears_of_no_claim_released_before_the_link() {
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
    bidder.harness.link(owner);
    let is_claimed =
        |message: &&Message| matches!(message, Message::Auction(auction::Message::Claimed { .. }));
    assert_eq!(bidder.harness.sent.iter().find(is_claimed), None);
}

/// The keeper's disk takes no writes. A token that it adopted would be gone after the next restart.
#[test]
fn read_only_node_adopts_no_token() {
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

/// The replica was won and ordered, and the workload is removed before the claim is on disk. The
/// order to run it comes when the disk has written; without a stop after it the replica would run
/// although no claim names it.
#[test]
fn replica_released_before_its_claim_is_on_disk_ends_stopped() {
    let mut bidder = Bidder::new();
    bidder.harness.disk_works = false;
    bidder.bid();
    bidder.receive(bidder.award());
    let replica = bidder.replica;
    assert_eq!(bidder.harness.orders, [], "it waits for the disk");
    let draft = Draft { clock: crate::model::Clock::new(), serial: 2, uid: Some(replica.uid) };
    let removal = cluster().sign(draft, &"web".parse().unwrap(), crate::model::Value::Tombstone);
    let message = Message::Changed { change: removal.raw(), holder: None };
    let from = bidder.auction().owner;
    bidder.harness.input(Input::Gossip { ticket: Ticket(1), from, message });
    bidder.harness.run_for(Duration::from_secs(1));
    assert!(bidder.harness.node.own_claim(&replica).is_none(), "it is released");
    bidder.harness.on_disk(bidder.harness.last_batch);
    assert_eq!(bidder.harness.orders.last(), Some(&Order::Stop { replica }));
}

/// A replica was released and won again at once; only then did the runtime report that it had
/// stopped the first. The node took that for a failure of the second, and restarted it a second
/// later.
#[test]
fn late_report_of_a_stop_fails_no_replica() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let (replica, generation) = (bidder.replica, bidder.generation);
    let stopped = Report { replica, generation, state: InstanceState::Stopped };
    bidder.harness.input(Input::Report(stopped));
    assert_eq!(bidder.harness.node.own_claim(&replica).unwrap().phase, Phase::Healthy);
}
