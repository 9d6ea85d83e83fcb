//! The nodes that are asked, their bids, and the winners.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::*;
use crate::auction::*;
use crate::model::spec::HostPort;
use crate::model::{Decline, Place, Unfit};

const SECOND: Duration = Duration::from_secs(1);

fn unplaceable(world: &World, owner: usize) -> (Vec<Place>, Vec<String>) {
    let found = world.nodes[owner].facts.iter().rev().find_map(|fact| match fact {
        Fact::Unplaceable { places, why, .. } => {
            Some((places.clone(), why.iter().map(ToString::to_string).collect()))
        }
        _ => None,
    });
    found.expect("it is unplaceable")
}

/// Three nodes bid, and the emptiest is the cheapest. It claims the place, and nothing stays
/// reserved.
#[test]
fn cheapest_bid_wins_and_the_others_are_released() {
    let mut world = World::new(3, 1);
    world.fill(0, 50);
    world.fill(1, 70);
    world.fill(2, 30);
    world.open(0, world.offer([0]));
    world.run(SECOND);
    assert_eq!(world.holders(0), [1]);
    assert_eq!(world.count(0, is_settled), 1);
    assert_eq!(world.count(0, is_reopen), 0);
    world.assert_nothing_reserved();
    assert_eq!(world.committed(1).memory, NODE.memory - 69 * SMALL.memory);
}

/// The order in which nodes are asked is random, the winner among equal prices is not.
#[test]
fn equal_prices_go_to_the_lower_id() {
    let lowest = (0..4).min_by_key(|n| id(*n)).unwrap();
    for seed in 0..10 {
        let mut world = World::new(4, seed);
        world.open(1, world.offer([0]));
        world.run(SECOND);
        assert_eq!(world.holders(0), [lowest]);
    }
}

/// A node alone in its cluster bids at its own auction and wins within the call. The place stays
/// under way until the claim is on disk.
#[test]
fn lone_node_wins_within_the_call() {
    let mut world = World::new(1, 1);
    world.open(0, world.offer([0]));
    assert_eq!(world.holders(0), [0]);
    assert!(world.nodes[0].room.is_under_way(&replica(UID, 0)), "until the claim is on disk");
    world.run(SECOND);
    assert_eq!(world.count(0, is_settled), 1);
    assert!(!world.nodes[0].room.is_under_way(&replica(UID, 0)));
}

/// Three nodes bid for all three places, and one of them is much emptier than the others. Each gets
/// one place.
#[test]
fn replicas_spread_before_they_share_a_node() {
    let mut world = World::new(3, 2);
    world.fill(0, 90);
    world.fill(1, 20);
    world.fill(2, 60);
    world.open(0, world.offer(0..3));
    world.run(SECOND / 10);
    // Each had bid for all three, and learns at once that it wins one.
    world.assert_nothing_reserved();
    let mut holders: Vec<usize> = (0..3).flat_map(|index| world.holders(index)).collect();
    holders.sort_unstable();
    assert_eq!(holders, [0, 1, 2]);
}

/// Node 0 is a quarter full, and loses by that. It wins where node 1 would have to fetch 500 MiB.
#[test]
fn bytes_to_fetch_raise_the_price() {
    let mut world = World::new(2, 3);
    for (n, fetch) in [(0, 0), (1, 500 * MIB)] {
        world.nodes[n].context.known.insert((UID, GENERATION), (SMALL, Ok(()), fetch));
    }
    let mut without = World::new(2, 3);
    // Node 0 is a quarter full: that alone would lose, but node 1 would have to fetch more than
    // that is worth.
    world.fill(0, 75);
    without.fill(0, 75);
    for (world, winner) in [(&mut world, 0), (&mut without, 1)] {
        world.open(0, world.offer([0]));
        world.run(SECOND);
        assert_eq!(world.holders(0), [winner]);
    }
}

/// Three owners auction thirty places at the same time, and there is room for fifteen.
#[test]
fn no_node_is_filled_beyond_its_capacity() {
    let mut world = World::new(3, 4);
    (0..3).for_each(|n| world.fill(n, 5));
    for round in 0..3 {
        world.open(round, world.offer((round as u32 * 10)..(round as u32 * 10 + 10)));
    }
    world.run(SECOND * 20);
    let placed: usize = (0..30).map(|index| world.holders(index).len()).sum();
    assert_eq!(placed, 15, "all there was room for");
    world.assert_nothing_reserved();
}

/// No node can take the places. The owner reports each reason with the number of nodes that it
/// excluded, the most frequent first.
#[test]
fn unplaceable_places_are_reported_with_reasons() {
    let mut world = World::new(5, 5);
    world.fill(0, 0);
    world.fill(1, 0);
    world.nodes[2].context.known.insert((UID, GENERATION), (SMALL, Err(Unfit::Memory(5 * MIB)), 0));
    world.nodes[3].context.leaving = true;
    world.nodes[4].context.read_only = true;
    let mut offer = world.offer([0, 1]);
    let label = Unfit::Label { name: "arch".into(), value: "arm64".into() };
    offer.excluded = vec![(id(6), label.clone()), (id(7), label.clone()), (id(8), label)];
    world.open(0, offer);
    world.run(SECOND * 10);
    let (places, why) = unplaceable(&world, 0);
    assert_eq!(places, [Place::Ordinal(0), Place::Ordinal(1)]);
    assert_eq!(
        why,
        [
            "3 nodes: arch = arm64",
            "2 nodes: no room",
            "1 node: 5 MiB of memory required, more than the node has",
            "1 node: disk takes no writes",
            "1 node: leaving",
        ]
    );
    assert_eq!(world.count(0, |fact| matches!(fact, Fact::Unplaceable { .. })), 1);
    assert!(!world.nodes[0].room.is_under_way(&replica(UID, 0)));
    let summary = &world.nodes[0].room.summaries(&replica(UID, 1))[0];
    assert!(summary.awards.is_empty());
    assert_eq!((summary.declines.len(), summary.not_asked.len()), (5, 3));
}

/// A workload finds no taker four times. The wait before the next try doubles each time.
#[test]
fn each_failed_auction_doubles_the_wait() {
    let mut world = World::new(1, 5);
    world.fill(0, 0);
    for _ in 0..4 {
        world.open(0, world.offer([0]));
        world.run(SECOND * 10);
    }
    let waits: Vec<u64> = world.nodes[0]
        .facts
        .iter()
        .filter_map(|fact| {
            if let Fact::Unplaceable { retry_after, .. } = fact {
                Some(retry_after.as_secs())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8]);
}

/// Only one of sixty nodes has room. The owner asks a small sample and widens it until it finds
/// that node. It does not ask the full nodes again soon after.
#[test]
fn sample_widens_until_a_node_with_room_is_found() {
    let mut world = World::new(60, 6);
    (0..59).for_each(|n| world.fill(n, 0));
    world.open(0, world.offer([0]));
    assert_eq!(asked(&world.transcript).len(), 7, "eight with the owner itself");
    world.run(SECOND * 2);
    assert_eq!(world.holders(0), [59]);
    let first: BTreeSet<String> = asked(&world.transcript).into_iter().collect();
    // The nodes without room are not asked again for a while.
    world.transcript.clear();
    world.open(0, world.offer([1]));
    world.run(SECOND / 2);
    let again: Vec<String> = asked(&world.transcript)
        .into_iter()
        .filter(|to| first.contains(to) && to != "59")
        .collect();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(world.holders(1), [59]);
}

/// The receivers of the announcements in a transcript.
fn asked(transcript: &[String]) -> Vec<String> {
    let to = |line: &String| Some(line.split_once(" Announce(")?.0.split_once("->")?.1.to_owned());
    transcript.iter().filter_map(to).collect()
}

/// Right after a publish the other nodes do not know the workload. The owner waits a moment, and
/// each node bids as soon as it learns of the workload.
#[test]
fn bidder_that_learns_a_workload_late_bids_at_once() {
    let mut world = World::new(3, 7);
    for n in 1..3 {
        world.nodes[n].context.known.clear();
    }
    world.open(0, world.offer([0, 1]));
    world.run(Duration::from_millis(8));
    assert_eq!(world.winners.len(), 0, "the owner waits a moment for those that cannot know yet");
    for n in 1..3 {
        world.nodes[n].context.known.insert((UID, GENERATION), (SMALL, Ok(()), 0));
        world.call(n, |room, now, context, out| room.learned(now, &UID, context, out));
    }
    world.run(Duration::from_millis(8));
    let holders: Vec<usize> = (0..2).flat_map(|index| world.holders(index)).collect();
    assert_eq!(holders.len(), 2);
    assert_ne!(holders[0], holders[1], "not both on the owner");
}

/// The bidder knows the workload with fewer replicas. It bids as soon as it learns of the scale-up.
#[test]
fn bidder_that_learns_a_scale_up_late_bids_at_once() {
    let mut world = World::new(2, 7);
    world.fill(0, 0);
    world.nodes[1].context.replicas = Some(1);
    world.open(0, world.offer([1]));
    world.run(Duration::from_millis(8));
    assert_eq!(world.winners.len(), 0);
    world.nodes[1].context.replicas = Some(2);
    world.call(1, |room, now, context, out| room.learned(now, &UID, context, out));
    world.run(Duration::from_millis(8));
    assert_eq!(world.holders(1), [1]);
}

/// Node 2 never learns of the workload. The owner awards the place without it within 100 ms.
#[test]
fn bidder_that_never_learns_delays_little() {
    let mut world = World::new(3, 8);
    world.nodes[2].context.known.clear();
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(100));
    assert_eq!(world.holders(0).len(), 1);
}

/// Node 1's last room is reserved for another auction, so it answers that it is busy. The owner
/// asks it again, and the place is awarded once that reservation has lapsed.
#[test]
fn reserved_room_is_worth_waiting_for() {
    let mut world = World::new(2, 9);
    world.fill(0, 0);
    world.fill(1, 1);
    // An auction that is never decided holds node 1's last room for a while.
    let announce = Announce {
        auction: world.auction(0, 1_000),
        uid: UID,
        generation: GENERATION,
        places: vec![Place::Ordinal(9)],
        answer_ms: 100,
        hold_ms: 700,
    };
    world.call(1, |room, now, context, out| {
        room.handle_message(now, id(0), Message::Announce(announce), context, out)
    });
    world.rule = Box::new(|_, _, message| match message {
        Message::Release { auction } if auction.number & 0xffff == 1_000 => Delivery::Lose,
        _ => Delivery::Deliver,
    });
    world.open(0, world.offer([0]));
    world.run(Duration::from_millis(500));
    assert_eq!(world.holders(0), [], "busy is not no");
    world.run(SECOND);
    assert_eq!(world.holders(0), [1]);
    world.assert_nothing_reserved();
}

/// An owner opens auctions without end. The bidder reserves for three of them, for five of all
/// owners, and the reservations lapse.
#[test]
fn bidder_bounds_what_one_owner_can_reserve() {
    let config = Config { max_reservations: 5, max_reservations_per_owner: 3, ..Config::default() };
    let mut world = World::with(3, 10, config);
    let reserve = |world: &mut World, owner: usize, number: u64| {
        let announce = Announce {
            auction: world.auction(owner, number),
            uid: UID,
            generation: GENERATION,
            places: vec![Place::Ordinal(0)],
            answer_ms: 100,
            hold_ms: u32::MAX,
        };
        world.call(2, |room, now, context, out| {
            room.handle_message(now, id(owner), Message::Announce(announce), context, out)
        });
        world.nodes[2].room.reserved().size.memory / SMALL.memory
    };
    let held: Vec<u64> = (100..105).map(|number| reserve(&mut world, 0, number)).collect();
    assert_eq!(held, [1, 2, 3, 3, 3]);
    let held: Vec<u64> = (100..105).map(|number| reserve(&mut world, 1, number)).collect();
    assert_eq!(held, [4, 5, 5, 5, 5]);
    world.rule = Box::new(|_, _, _| Delivery::Lose);
    world.run(Config::default().hold_at_most + SECOND);
    world.assert_nothing_reserved();
}

/// A replica failed on a node. The node does not bid for that place, for a time that grows with
/// each failure. It bids for another generation, which may be the cure.
#[test]
fn failed_replica_is_left_to_others_longer_each_time() {
    let mut world = World::new(2, 11);
    world.fill(1, 1); // Expensive, but the replica has not failed there.
    let now = world.now;
    world.nodes[0].room.cool(now, replica(UID, 0), GENERATION, "trap: unreachable");
    world.open(0, world.offer([0, 1]));
    world.run(SECOND);
    assert_eq!((world.holders(0), world.holders(1)), (vec![1], vec![0]));
    let summary = &world.nodes[0].room.summaries(&replica(UID, 0))[0];
    assert!(summary.declines.is_empty(), "it bid for the other place");

    let mut alone = World::new(1, 11);
    let mut cools_for = Vec::new();
    for _ in 0..3 {
        let now = alone.now;
        alone.nodes[0].room.cool(now, replica(UID, 0), GENERATION, "trap: unreachable");
        while alone.holders(0).is_empty() {
            alone.run(SECOND);
            alone.open(0, alone.offer([0]));
            alone.run(SECOND);
        }
        cools_for.push(alone.now.since(now).as_secs());
        alone.nodes[0].context.claims.clear();
        alone.free(0, &replica(UID, 0));
        alone.nodes[0].context.seen.clear();
    }
    assert!(cools_for.is_sorted_by(|a, b| a < b), "{cools_for:?}");

    // A new generation may be the cure.
    let fixed = Digest([66; 32]);
    let now = alone.now;
    alone.nodes[0].room.cool(now, replica(UID, 0), GENERATION, "trap: unreachable");
    alone.nodes[0].context.known.insert((UID, fixed), (SMALL, Ok(()), 0));
    let offer = Offer { generation: fixed, ..alone.offer([0]) };
    alone.open(0, offer);
    assert_eq!(alone.holders(0), [0]);
}

/// The owner has not seen node 0's claim of place 1. Node 0 answers that it holds the place, and so
/// it is not awarded, although the other nodes bid for it.
#[test]
fn place_that_a_bidder_holds_is_not_awarded() {
    for seed in 0..10 {
        let mut world = World::new(3, seed);
        world.hold(0, 1);
        world.open(1, world.offer([0, 1, 2]));
        world.run(SECOND);
        assert_eq!(world.holders(1), [0], "seed {seed}");
        assert_eq!(
            (world.holders(0).len(), world.holders(2).len()),
            (1, 1),
            "the others are placed"
        );
        let is_held = |fact: &Fact| *fact == Fact::Held { replica: replica(UID, 1), node: id(0) };
        assert_eq!(world.count(1, is_held), 1);
        world.assert_nothing_reserved();
    }
}

/// The holder of one place has no room for others, or its disk takes no writes. It bids for
/// nothing, and still reports the place that it holds.
#[test]
fn bidder_without_prices_reports_what_it_holds() {
    for is_full in [true, false] {
        let mut world = World::new(2, 12);
        world.hold(0, 1);
        if is_full {
            world.fill(0, 1);
        } else {
            world.nodes[0].context.read_only = true;
        }
        world.open(1, world.offer([0, 1]));
        world.run(SECOND);
        assert_eq!((world.holders(0), world.holders(1)), (vec![1], vec![0]), "{is_full}");
        let summary = &world.nodes[1].room.summaries(&replica(UID, 0))[0];
        let is_said =
            |(node, why): &(_, NoBid)| *node == id(0) && *why != NoBid::Declined(Decline::Holds);
        assert!(
            summary.declines.iter().any(is_said),
            "why it does not take the other: {:?}",
            summary.declines
        );
        world.assert_nothing_reserved();
    }
}

/// A leaving node lets go of what it holds, so its claim does not keep the place from others.
#[test]
fn place_of_a_leaving_node_is_awarded_to_another() {
    let mut world = World::new(2, 12);
    world.hold(0, 0);
    world.nodes[0].context.leaving = true;
    world.open(1, world.offer([0]));
    world.run(SECOND);
    assert_eq!(world.holders(0), [0, 1]);
}

/// Node 0 has won the place, and its disk hangs, perhaps for good. Another owner awards the place
/// all the same.
#[test]
fn claim_that_is_not_on_disk_holds_nothing() {
    let mut world = World::new(3, 12);
    world.fill(1, 1);
    world.fill(2, 2);
    world.fsync = 60 * SECOND;
    world.open(1, world.offer([0]));
    world.run(SECOND / 10);
    assert_eq!(world.holders(0), [0]);
    world.fsync = Duration::from_millis(2);
    world.open(2, world.offer([0]));
    world.run(SECOND);
    assert_eq!(world.holders(0), [0, 2]);
}

/// The owner and the winner keep a summary: bids, declines, nodes that were not asked, and the
/// price. A node that did not win keeps none.
#[test]
fn owner_and_winner_keep_the_summary() {
    let mut world = World::new(4, 13);
    world.fill(0, 20);
    world.fill(1, 80);
    world.fill(2, 0);
    let mut offer = world.offer([3]);
    offer.candidates.truncate(3);
    offer.excluded = vec![(id(3), Unfit::Cpu(9))];
    offer.places[0].why = "its node n9 is down: 2 of 2 observers".into();
    world.open(0, offer);
    world.run(SECOND);
    for n in [0, 1] {
        let summaries = world.nodes[n].room.summaries(&replica(UID, 3));
        assert_eq!(summaries.len(), 1, "node {n}");
        let summary = &summaries[0];
        assert_eq!(
            summary.places,
            [(Place::Ordinal(3), "its node n9 is down: 2 of 2 observers".to_owned())]
        );
        let bidders: Vec<NodeId> = summary.bids.iter().map(|(node, _)| *node).collect();
        assert_eq!(bidders, [id(1), id(0)], "the cheapest first");
        assert!(matches!(
            &summary.declines[..],
            [(node, NoBid::Declined(Decline::NoRoom { .. }))] if *node == id(2)
        ));
        assert_eq!(summary.not_asked, [(id(3), NotAsked::Unfit(Unfit::Cpu(9)))]);
        assert_eq!(summary.awards[0].to, id(1));
        assert_eq!(summary.awards[0].price, summary.bids[0].1[0]);
        assert!(summary.took_us > 0);
    }
    assert!(world.nodes[2].room.summaries(&replica(UID, 3)).is_empty());
}

/// The places that do not fit into one auction are reported as `Full`; the next call opens them.
#[test]
fn too_many_places_take_several_auctions() {
    let mut world = World::new(3, 14);
    let wanted = MAX_PLACES as u32 + 20;
    world.open(0, world.offer(0..wanted));
    let left_out = world.nodes[0].facts.iter().find_map(|fact| match fact {
        Fact::Full { places, .. } => Some(places.len()),
        _ => None,
    });
    assert_eq!(left_out, Some(20));
    world.run(SECOND);
    world.open(0, world.offer((0..wanted).filter(|index| world.holders(*index).is_empty())));
    world.run(SECOND);
    assert!((0..wanted).all(|index| world.holders(index).len() == 1));
}

/// The owner opens the same places again while they are sought. Each is won once.
#[test]
fn place_under_way_is_not_opened_twice() {
    let mut world = World::new(3, 15);
    world.open(0, world.offer([0, 1]));
    world.open(0, world.offer([0, 1, 2]));
    world.run(SECOND);
    world.open(0, world.offer([]));
    assert!((0..3).all(|index| world.holders(index).len() == 1));
    assert_eq!(world.winners.len(), 3);
}

/// The transcript holds every message and every fact with its time.
#[test]
fn same_seed_and_inputs_give_the_same_run() {
    let run = |seed| {
        let mut world = World::new(12, seed);
        (0..12).for_each(|n| world.fill(n, n as u64 % 4));
        world.open(3, world.offer(0..5));
        world.open(4, world.offer(5..9));
        world.run(SECOND * 10);
        world.transcript
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

const PORT: HostPort = HostPort { port: 8080, udp: false };

/// Each replica needs the same port of its device: a node takes one of them, however much memory it
/// has, and one whose port is taken takes none, with the reason.
#[test]
fn node_takes_one_replica_that_needs_a_port() {
    let mut world = World::new(3, 7);
    for node in &mut world.nodes {
        node.context.ports = [PORT].into();
    }
    world.nodes[2].context.taken.insert(PORT, "shop/1".into());
    world.open(0, world.offer(0..3));
    world.run(SECOND / 10);
    let mut holders: Vec<usize> = (0..3).flat_map(|place| world.holders(place)).collect();
    holders.sort_unstable();
    assert_eq!(holders, [0, 1]);
    let summaries = world.nodes[0].room.summaries(&replica(UID, 0));
    let why = summaries[0].declines.iter().map(|(_, why)| why.to_string());
    let why: Vec<String> = why.collect();
    assert!(why.contains(&"port 8080/tcp is taken there by shop/1".to_owned()), "{why:?}");
}

/// Two owners ask at the same moment. Only one of them gets the port, although neither replica is
/// held yet.
#[test]
fn reserved_port_is_not_promised_twice() {
    let mut world = World::new(2, 8);
    world.nodes[1].context.ports = [PORT].into();
    world.nodes[0].context.ports = [PORT].into();
    world.nodes[0].context.taken.insert(PORT, "another program".into());
    world.open(0, world.offer([0]));
    world.open(1, world.offer([1]));
    world.run(SECOND / 50);
    let holders = world.holders(0).len() + world.holders(1).len();
    assert_eq!(holders, 1);
}
