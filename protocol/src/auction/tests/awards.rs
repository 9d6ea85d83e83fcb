//! From the award to the claim, with messages that are lost, late, or to dead nodes.

use std::time::Duration;

use super::world::*;
use crate::auction::*;
use crate::model::Resources;
use crate::model::claim::MAX_REASON;
use crate::model::{AuctionId, Decline, Place};

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes, of which only node 1 has room: owner 0's awards go over the network.
fn two() -> World {
    let mut world = World::new(2, 1);
    world.fill(0, 0);
    world
}

fn counter(world: &World, n: usize) -> u64 {
    world.nodes[n].context.claims[&replica(UID, 0)].counter
}

/// The first two award messages are lost. The owner sends the award again, and all three places are
/// claimed without a second auction.
#[test]
fn lost_award_is_sent_again() {
    let mut world = two();
    let mut lost = 0;
    world.rule = Box::new(move |_, _, message| match message {
        Message::Award { .. } if lost < 2 => {
            lost += 1;
            Delivery::Lose
        }
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer(0..3));
    world.run(SECOND * 3);
    assert!((0..3).all(|index| world.holders(index) == [1]));
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (3, 0));
    world.assert_nothing_reserved();
}

/// Every award message is lost. The owner gives the award up once, and awards the place again under
/// a higher counter.
#[test]
fn place_is_reopened_when_all_awards_are_lost() {
    let mut world = two();
    world.rule = Box::new(|_, _, message| {
        if matches!(message, Message::Award { .. }) { Delivery::Lose } else { Delivery::Deliver }
    });
    world.open(0, world.offer([0]));
    world.run(SECOND * 5);
    assert_eq!(world.count(0, is_reopen), 1);
    assert!(world.holders(0).is_empty());
    world.assert_nothing_reserved();
    world.rule = Box::new(|_, _, _| Delivery::Deliver);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    assert_eq!((world.holders(0), counter(&world, 1)), (vec![1], 2));
}

/// The winner's first three `Claimed` messages are lost. The fourth one answers the owner's cancel
/// and settles the award.
#[test]
fn claimed_winner_answers_a_cancel_with_its_claim() {
    let mut world = two();
    let mut lost = 0;
    world.rule = Box::new(move |_, _, message| match message {
        Message::Claimed { .. } if lost < 3 => {
            lost += 1;
            Delivery::Lose
        }
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND * 5);
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (1, 0));
    assert_eq!(world.holders(0), [1]);
}

/// After its bid the winner's messages are lost, and the owner reopens the place. The winner's
/// sheet arrives during the second auction and ends it, without a second holder.
#[test]
fn late_sheet_ends_the_second_auction() {
    let mut world = World::new(3, 2);
    world.fill(0, 0);
    world.fill(2, 5);
    // The bid comes in time; all later messages of the winner are lost.
    let mut first = true;
    world.rule = Box::new(move |from, to, message| match message {
        Message::Bid { .. } if from == 1 && std::mem::take(&mut first) => Delivery::Deliver,
        _ if (from, to) == (1, 0) => Delivery::Lose,
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND * 4);
    assert_eq!(world.count(0, is_reopen), 1, "{:?}", world.nodes[0].facts);
    assert_eq!(world.holders(0), [1]);
    // The owner opens the place again. While it waits for the silent winner, the sheet comes.
    world.open(0, world.offer([0]));
    let token = world.nodes[1].context.claims[&replica(UID, 0)];
    world.call(0, |room, now, context, out| {
        room.saw_claim(now, &replica(UID, 0), &id(1), token, context, out)
    });
    world.run(SECOND * 3);
    assert_eq!(world.holders(0), [1], "no second one");
    assert_eq!(world.count(0, is_settled), 1);
    world.assert_nothing_reserved();
}

/// The winner's disk takes three seconds, and the owner reopens the place. The winner's `Claimed`
/// message arrives during the second auction and ends it.
#[test]
fn late_claimed_message_ends_the_second_auction() {
    let mut world = World::new(3, 2);
    world.fill(0, 0);
    world.fill(2, 5);
    world.fsync = SECOND * 3;
    let mut silent = false;
    world.rule = Box::new(move |from, to, message| match message {
        // In the second auction node 2 keeps the owner waiting.
        Message::Cancel { .. } => {
            silent = true;
            Delivery::Deliver
        }
        Message::Bid { .. } if silent && (from, to) == (2, 0) => Delivery::After(SECOND / 10),
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND * 299 / 100);
    assert_eq!((world.holders(0), world.count(0, is_reopen)), (vec![1], 1));
    world.open(0, world.offer([0]));
    world.run(SECOND * 3);
    assert_eq!(world.holders(0), [1], "no second one");
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (1, 1));
    assert_eq!(world.count(0, |fact| matches!(fact, Fact::Awarded { .. })), 1);
    world.assert_nothing_reserved();
}

/// The first winner claims, its answers are lost, and the owner awards the place to node 2. The
/// first winner's sheet arrives while that award is on its way: the owner cancels it in time.
#[test]
fn late_sheet_cancels_a_second_award_in_flight() {
    let mut world = World::new(3, 3);
    world.fill(0, 0);
    world.fill(2, 5);
    world.rule = Box::new(|from, to, message| match message {
        Message::Award { .. } if to == 2 => Delivery::After(SECOND / 5),
        Message::Claimed { .. } if from == 1 => Delivery::Lose,
        Message::Cancel { .. } if to == 1 => Delivery::Lose,
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND * 3);
    assert_eq!((world.holders(0), world.count(0, is_reopen)), (vec![1], 1));
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(50));
    let awarded = world.count(0, |fact| matches!(fact, Fact::Awarded { .. }));
    assert_eq!(awarded, 2, "node 2 is about to receive its award");
    let token = world.nodes[1].context.claims[&replica(UID, 0)];
    world.call(0, |room, now, context, out| {
        room.saw_claim(now, &replica(UID, 0), &id(1), token, context, out)
    });
    world.run(SECOND * 3);
    assert_eq!(world.holders(0), [1]);
    world.assert_nothing_reserved();
}

/// The winner's disk takes a second, and the owner waits for the claim. With four seconds the owner
/// gives the award up, and still accepts the claim when it comes.
#[test]
fn owner_waits_for_a_slow_disk() {
    let mut world = two();
    world.fsync = SECOND;
    world.open(0, world.offer([0]));
    world.run(SECOND * 3);
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (1, 0));
    // The owner gives up earlier than this disk, and still accepts the claim when it comes.
    let mut world = two();
    world.fsync = SECOND * 4;
    world.open(0, world.offer([0]));
    world.run(SECOND * 3);
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (0, 1));
    world.run(SECOND * 3);
    assert_eq!(world.count(0, is_settled), 1);
    assert_eq!(world.holders(0), [1]);
}

/// A bid arrives after its auction has ended. The owner releases it, so that the bidder's
/// reservation does not have to lapse.
#[test]
fn late_bid_is_released_at_once() {
    let mut world = World::new(3, 4);
    world.rule = Box::new(|from, _, message| match message {
        Message::Bid { .. } if from == 2 => Delivery::After(SECOND),
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND / 2);
    assert_eq!(world.holders(0).len(), 1);
    assert_ne!(world.nodes[2].room.reserved().size, Resources::default());
    world.run(SECOND * 6 / 10);
    world.assert_nothing_reserved();
}

/// The award to node 1 is lost, and node 1 goes down. The owner gives the award up at once, and
/// awards the place under a higher counter.
#[test]
fn winner_that_goes_down_is_not_waited_for() {
    let mut world = World::new(3, 5);
    world.fill(0, 0);
    world.fill(2, 5);
    world.rule = Box::new(|_, to, message| match message {
        Message::Award { .. } if to == 1 => Delivery::Lose,
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(20));
    assert_eq!(world.count(0, |fact| matches!(fact, Fact::Awarded { .. })), 1);
    world.kill(1);
    world.tell_down(1);
    assert_eq!(world.count(0, |fact| matches!(fact, Fact::Reopen { why: NotTaken::Down, .. })), 1);
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(20));
    assert_eq!((world.holders(0), counter(&world, 2)), (vec![2], 2));
}

/// Node 2 does not answer, and goes down. The owner closes the auction without it at once.
#[test]
fn bidder_that_goes_down_is_not_waited_for() {
    let mut world = World::new(3, 6);
    world.rule = Box::new(|_, to, _| if to == 2 { Delivery::Lose } else { Delivery::Deliver });
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(20));
    assert!(world.holders(0).is_empty(), "node 2 has not answered");
    world.kill(2);
    world.tell_down(2);
    world.run(Duration::from_millis(20));
    assert_eq!(world.holders(0).len(), 1);
}

/// The winner has seen counter 40 and refuses an award under counter 1. The owner's next award has
/// counter 41.
#[test]
fn counter_seen_elsewhere_is_exceeded() {
    let mut world = two();
    world.nodes[1]
        .context
        .seen
        .insert(replica(UID, 0), Token { counter: 40, by: id(0), incarnation: 1 });
    world.open(0, world.offer([0]));
    world.run(SECOND / 10);
    let refused = |fact: &Fact| {
        matches!(fact, Fact::Reopen { why: NotTaken::Refused(Refusal::SeenToken { .. }), .. })
    };
    assert_eq!(world.count(0, refused), 1);
    assert!(world.holders(0).is_empty());
    world.open(0, world.offer([0]));
    world.run(SECOND / 10);
    assert_eq!((world.holders(0), counter(&world, 1)), (vec![1], 41));
}

/// A workload was scaled down while its owner lacked that change (simulated seeds 105 and 520). The
/// owner saw the surplus claim go and auctioned the place. A node that knew the change took it, and
/// checked that claim never again: the surplus replica ran for ever. Such a node declines now.
#[test]
fn owner_that_missed_a_scale_down_finds_no_taker() {
    let mut world = two();
    world.nodes[1].context.replicas = Some(1);
    world.open(0, world.offer([0, 1]));
    world.run(SECOND);
    assert_eq!((world.holders(0), world.holders(1)), (vec![1], vec![]));
    world.assert_nothing_reserved();
}

/// The winner learns of a scale-down between its bid and the award, and refuses the award.
#[test]
fn place_scaled_away_after_the_bid_is_not_claimed() {
    let mut world = two();
    world.rule = Box::new(|_, _, message| match message {
        Message::Award { .. } => Delivery::After(SECOND / 20),
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(SECOND / 25);
    world.nodes[1].context.replicas = Some(0);
    world.run(SECOND / 10);
    assert!(world.holders(0).is_empty());
    let refused = |fact: &Fact| {
        matches!(fact, Fact::Reopen { why: NotTaken::Refused(Refusal::OtherGeneration), .. })
    };
    assert_eq!(world.count(0, refused), 1, "{:?}", world.transcript);
    world.assert_nothing_reserved();
}

/// The winner cannot write its claim. It tells the owner the reason, and the owner reopens the
/// place.
#[test]
fn failed_claim_reopens_its_place_with_the_reason() {
    let mut world = two();
    world.fsync = SECOND * 60;
    world.open(0, world.offer([0]));
    world.run(SECOND / 10);
    let Some(Fact::Won { award, .. }) = world.nodes[1].facts.pop() else { panic!("not won") };
    world.free(1, &replica(UID, 0));
    world.call(1, |room, now, context, out| room.unclaimed(now, &award, "disk full", context, out));
    world.run(SECOND / 10);
    let is_reported = world.nodes[0].facts.iter().any(|fact| {
        matches!(fact, Fact::Reopen { why, .. } if why.to_string() == "the winner refused: \
            the claim could not be made: disk full")
    });
    assert!(is_reported, "{:?}", world.nodes[0].facts);
}

/// All `Claimed` messages are lost, and the winner restarts without its auctions. Its claim is on
/// disk, so it answers the owner's next message.
#[test]
fn restarted_winner_still_answers_for_its_claim() {
    let mut world = two();
    world.rule = Box::new(|_, _, message| {
        if matches!(message, Message::Claimed { .. }) { Delivery::Lose } else { Delivery::Deliver }
    });
    world.open(0, world.offer([0]));
    world.run(SECOND / 10);
    assert_eq!(world.holders(0), [1]);
    let mut room = Auction::new(Config::default(), id(1), keys(1), CLUSTER, 2, [0; 32]);
    room.set_capacity(NODE);
    world.nodes[1].room = room;
    world.rule = Box::new(|_, _, _| Delivery::Deliver);
    world.run(SECOND * 5);
    assert_eq!((world.count(0, is_settled), world.count(0, is_reopen)), (1, 0));
}

/// The winner's answer goes straight to the owner, its sheet goes by gossip and may take longer.
/// Until the sheet arrives the place counts as an open award.
#[test]
fn claimed_place_stays_open_until_its_sheet_arrives() {
    let mut world = two();
    world.open(0, world.offer([0]));
    world.run(SECOND / 10);
    assert_eq!((world.count(0, is_settled), world.holders(0)), (1, vec![1]));
    let open = world.nodes[0].room.open_awards(&UID);
    assert_eq!(
        open.iter().map(|open| (open.replica, open.to)).collect::<Vec<_>>(),
        [(replica(UID, 0), id(1))]
    );
    let token = world.nodes[1].context.claims[&replica(UID, 0)];
    world.call(0, |room, now, context, out| {
        room.saw_claim(now, &replica(UID, 0), &id(1), token, context, out)
    });
    assert_eq!(world.nodes[0].room.open_awards(&UID), []);
}

/// In a mesh that was busy with thousands of claims, the gossip of one sheet was dropped, and its
/// place was awarded again two seconds later, although the winner had answered. The owner waits ten
/// seconds: in that time a comparison brings the sheet, unless the winner goes down.
#[test]
fn claimed_place_waits_for_a_late_sheet() {
    let mut world = two();
    world.open(0, world.offer([0]));
    world.run(SECOND * 6);
    let open = |world: &World| {
        world.nodes[0].room.open_awards(&UID).into_iter().any(|open| open.until > world.now)
    };
    assert!(open(&world), "the winner reported its claim");
    world.run(SECOND * 6);
    assert!(!open(&world), "but not for ever");
    let lapsed = world.count(0, |fact| matches!(fact, Fact::AwardLapsed { .. }));
    assert_eq!((world.count(0, is_settled), lapsed), (1, 1));
}

/// A disk writes the claims of one award in one batch. A message for each claim filled the owner's
/// lane, and messages that did not fit were dropped.
#[test]
fn claims_written_together_are_sent_together() {
    let mut world = two();
    world.fsync = SECOND / 5;
    world.open(0, world.offer(0..5));
    world.run(SECOND / 10);
    let won = world.nodes[1].facts.iter().filter_map(|fact| match fact {
        Fact::Won { award, .. } => Some(award.clone()),
        _ => None,
    });
    let won: Vec<Signed<Award>> = won.collect();
    assert_eq!(won.len(), 5);
    world.call(1, |room, now, context, out| room.claimed(now, &won, context, out));
    world.run(SECOND / 20);
    assert_eq!(world.count(0, is_settled), 5);
    assert_eq!(world.transcript.iter().filter(|line| line.contains("Claimed")).count(), 1);
}

/// When a workload grows by thousands, its owner auctions a bounded number of places, and goes on
/// as the sheets of the winners arrive, which a busy mesh delays.
#[test]
fn owner_has_a_bounded_number_of_places_under_way() {
    let mut world = World::with(3, 3, Config { max_under_way: 10, ..Config::default() });
    world.open(0, world.offer(0..8));
    world.open(0, world.offer(8..16));
    assert_eq!(world.nodes[0].room.room(), 0);
    let full = world.nodes[0].facts.iter().find_map(|fact| match fact {
        Fact::Full { places, .. } => Some(places.len()),
        _ => None,
    });
    assert_eq!(full, Some(6));
    world.run(SECOND);
    let of_others = (0..10).filter(|index| world.holders(*index) != [0]).count();
    assert!(of_others > 0 && world.count(0, is_settled) == 10);
    assert_eq!(world.nodes[0].room.room(), 10 - of_others, "their sheets have not come");
    for index in 0..10 {
        let (holder, replica) = (world.holders(index)[0], replica(UID, index));
        let token = world.nodes[holder].context.claims[&replica];
        world.call(0, |room, now, context, out| {
            room.saw_claim(now, &replica, &id(holder), token, context, out)
        });
    }
    assert_eq!(world.nodes[0].room.room(), 10);
    world.open(0, world.offer(10..16));
    world.run(SECOND);
    assert_eq!(world.count(0, is_settled), 16);
}

/// Consecutive places share a slot of a sheet, which is signed and sent as a whole.
#[test]
fn each_winner_gets_consecutive_places() {
    let mut world = World::new(3, 5);
    world.open(0, world.offer(0..30));
    world.run(SECOND);
    let holders: Vec<usize> = (0..30).map(|index| world.holders(index)[0]).collect();
    let changes = holders.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 2, "{holders:?}");
    assert!(
        (0..3).all(|node| holders.iter().filter(|holder| **holder == node).count() == 10),
        "{holders:?}"
    );
}

/// A guardian keeps the notice of an open award until it sees the claim, the notice lapses, or the
/// winner goes down.
#[test]
fn guardians_track_an_open_award() {
    let mut world = World::new(4, 7);
    world.fill(0, 0);
    world.fill(2, 0);
    world.fill(3, 0);
    let guarded =
        |world: &World| Offer { guardians: vec![id(0), id(2), id(3)], ..world.offer([0]) };
    world.open(0, guarded(&world));
    world.run(SECOND / 10);
    let open = world.nodes[2].room.open_awards(&UID);
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].replica, open[0].to, open[0].token.counter), (replica(UID, 0), id(1), 1));
    assert!(open[0].until > world.now);
    assert!(world.nodes[1].room.open_awards(&UID).is_empty(), "the winner is no guardian");
    // Guardian 2 sees the claim, guardian 3 does not. Then guardian 3 learns that the winner died.
    world.call(2, |room, now, context, out| {
        room.saw_claim(
            now,
            &replica(UID, 0),
            &id(1),
            Token { counter: 1, by: id(0), incarnation: 1 },
            context,
            out,
        )
    });
    assert!(world.nodes[2].room.open_awards(&UID).is_empty());
    world.run(SECOND * 11);
    assert!(world.nodes[3].room.open_awards(&UID).is_empty());
    let lapsed = |fact: &Fact| matches!(fact, Fact::AwardLapsed { .. });
    assert_eq!((world.count(2, lapsed), world.count(3, lapsed)), (0, 1));
    // Until then it doubts an owner whose award was not claimed, as far as it could see.
    world.run(SECOND * 60);
    world.nodes[1].context.claims.clear();
    world.free(1, &replica(UID, 0));
    world.open(0, guarded(&world));
    world.run(SECOND / 10);
    world.kill(1);
    world.tell_down(1);
    assert!(world.nodes[3].room.open_awards(&UID).is_empty());
    assert_eq!(world.count(3, lapsed), 2);
}

/// An owner closes the auctions of a workload while it waits for a bid. All reservations for them
/// are released, its own included.
#[test]
fn closing_a_workload_releases_its_bidders() {
    let mut world = World::new(3, 8);
    world.rule = Box::new(|from, _, message| match message {
        Message::Bid { .. } if from == 2 => Delivery::Lose,
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(20));
    assert_ne!(world.nodes[0].room.reserved().size, Resources::default());
    world.call(0, |room, now, context, out| room.close_all_for(now, &UID, context, out));
    world.run(Duration::from_millis(20));
    world.assert_nothing_reserved();
    assert!(!world.nodes[0].room.is_under_way(&replica(UID, 0)));
    world.run(SECOND * 5);
    assert!(world.winners.is_empty());
}

/// Two owners award the same place to node 2, under different counters. Node 2 claims it once and
/// refuses the other award.
#[test]
fn two_awards_of_one_place_to_one_node_make_one_claim() {
    let mut world = World::new(3, 10);
    world.fill(0, 0);
    world.fill(1, 0);
    world.rule = Box::new(|from, _, message| match message {
        Message::Award { .. } if from == 1 => Delivery::After(Duration::from_millis(20)),
        _ => Delivery::Deliver,
    });
    for (owner, counter) in [(0, 3), (1, 8)] {
        let mut offer = world.offer([0]);
        offer.places[0].counter = counter;
        world.open(owner, offer);
        // Node 2 bids at both before it knows of either award.
        world.run(Duration::from_micros(200));
    }
    world.run(SECOND / 10);
    assert_eq!(world.holders(0), [2]);
    assert_eq!(world.committed(2), SMALL);
    let refused =
        |fact: &Fact| matches!(fact, Fact::Reopen { why: NotTaken::Refused(Refusal::Holds), .. });
    assert_eq!(world.count(1, refused), 1);
    world.assert_nothing_reserved();
}

/// A frame of a link is at most 64 KiB.
#[test]
fn largest_award_fits_a_frame() {
    let mut world = two();
    world.open(0, world.offer([0]));
    world.run(SECOND);
    let mut summary = world.nodes[1].room.summaries(&replica(UID, 0))[0].as_ref().clone();
    let cooling = || Decline::Cooling { retry_ms: u32::MAX, reason: "x".repeat(MAX_REASON) };
    let price = crate::model::Price {
        share: u32::MAX,
        fetch: u32::MAX,
        spread: u32::MAX,
        ..Default::default()
    };
    let places = u32::MAX - MAX_PLACES as u32..u32::MAX;
    summary.places =
        places.clone().map(|index| (Place::Ordinal(index), "x".repeat(MAX_REASON))).collect();
    summary.bids = vec![(id(0), vec![price; MAX_PRICES]); MAX_LINES];
    summary.declines = vec![(id(0), NoBid::Declined(cooling())); MAX_LINES];
    summary.not_asked = vec![(id(0), NotAsked::Lately(NoBid::Declined(cooling()))); MAX_LINES];
    let token = Token { counter: u64::MAX, by: id(0), incarnation: 1 };
    let award = |index| {
        let auction = AuctionId { owner: id(0), number: u64::MAX };
        let award = Award {
            auction,
            replica: replica(UID, index),
            generation: GENERATION,
            token,
            to: id(1),
        };
        Signed::sign(award, &keys(0), &CLUSTER).wire()
    };
    summary.awards = places
        .clone()
        .map(|index| Won { place: Place::Ordinal(index), to: id(1), token, price })
        .collect();
    let message =
        Message::Award { awards: places.map(award).collect(), summary: Box::new(summary) };
    assert_eq!(message.check(), Ok(()));
    let bytes = crate::model::codec::encode(&message);
    assert!(bytes.len() < 64 * 1024, "{} bytes", bytes.len());
    assert_eq!(crate::model::codec::decode(&bytes), Ok(message));
}

/// Each case names a foreign auction, or has wrong places, prices or signatures. It is reported as
/// misbehaviour, reserves nothing and opens no award.
#[test]
fn message_no_honest_peer_sends_changes_nothing() {
    let mut world = World::new(3, 9);
    let foreign = AuctionId { owner: id(1), number: 7 };
    let announce = |auction, places: Vec<u32>| {
        let places = places.into_iter().map(Place::Ordinal).collect();
        Message::Announce(Announce {
            auction,
            uid: UID,
            generation: GENERATION,
            places,
            answer_ms: 9,
            hold_ms: 9,
        })
    };
    let award = Award {
        auction: foreign,
        replica: replica(UID, 0),
        generation: GENERATION,
        token: Token { counter: 1, by: id(1), incarnation: 1 },
        to: id(0),
    };
    let signed = |award: &Award, by: usize| Signed::sign(award.clone(), &keys(by), &CLUSTER).wire();
    let mine = world.auction(0, 1);
    let cases = [
        announce(mine, vec![0]),
        announce(foreign, vec![]),
        announce(foreign, vec![1, 1]),
        announce(foreign, (0..=MAX_PLACES as u32).collect()),
        Message::Bid { auction: foreign, prices: vec![Default::default()], without: vec![] },
        Message::Bid { auction: mine, prices: vec![], without: vec![] },
        Message::Bid {
            auction: mine,
            prices: vec![
                crate::model::Price { share: 2, ..Default::default() },
                Default::default(),
            ],
            without: vec![],
        },
        Message::Decline { auction: foreign, why: Decline::Holds },
        Message::Cancel { auction: mine, replica: award.replica, token: award.token },
        Message::Release { auction: mine },
        Message::Notice { awards: vec![signed(&award, 2)], open_ms: 9 },
    ];
    for message in cases {
        let text = format!("{message:?}");
        world.call(0, |room, now, context, out| {
            room.handle_message(now, id(1), message, context, out)
        });
        assert!(world.nodes[0].facts.pop().is_some_and(|fact| is_misbehaved(&fact)), "{text}");
    }
    world.assert_nothing_reserved();
    assert!(world.nodes[0].room.open_awards(&UID).is_empty());
}
