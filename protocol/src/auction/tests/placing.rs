//! Preferences, labels that replicas are spread over, and rules that change with each replica.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::*;
use crate::auction::*;
use crate::model::{Place, Unfit};

const SECOND: Duration = Duration::from_secs(1);

/// Nodes in these zones; each of them knows all labels.
fn in_zones(zones: &[&str], seed: u64) -> World {
    let mut world = World::new(zones.len(), seed);
    let labels: BTreeMap<_, _> =
        zones.iter().enumerate().map(|(n, zone)| (id(n), (*zone).to_owned())).collect();
    world.nodes.iter_mut().for_each(|node| node.context.labels = labels.clone());
    world
}

fn spread(world: &World, places: std::ops::Range<u32>) -> Offer {
    Offer { spread: vec!["zone".into()], ..world.offer(places) }
}

/// The number of replicas in each of some groups of nodes.
fn counts(world: &World, places: std::ops::Range<u32>, groups: &[&[usize]]) -> Vec<usize> {
    let holders: Vec<usize> = places.flat_map(|index| world.holders(index)).collect();
    let of = |group: &&[usize]| holders.iter().filter(|node| group.contains(node)).count();
    groups.iter().map(of).collect()
}

/// One zone has a single node, the other has three. Each zone gets half of the replicas, although
/// two of them then share a node; the other zone's are on different nodes.
#[test]
fn replicas_are_balanced_over_a_label() {
    for seed in 0..10 {
        let mut world = in_zones(&["a", "b", "b", "b"], seed);
        world.open(0, spread(&world, 0..4));
        world.run(SECOND);
        assert_eq!(counts(&world, 0..4, &[&[0], &[1, 2, 3]]), [2, 2]);
        assert!((1..4).all(|n| counts(&world, 0..4, &[&[n]])[0] <= 1));
        let mut plain = in_zones(&["a", "b", "b", "b"], seed);
        plain.open(0, plain.offer(0..4));
        plain.run(SECOND);
        assert_eq!(counts(&plain, 0..4, &[&[0], &[1, 2, 3]]), [1, 3], "one on each node");
    }
}

/// An owner opens two auctions of one workload at once, before any sheet shows what the first one
/// placed. Together they are balanced.
#[test]
fn auctions_of_one_owner_count_what_the_other_awarded() {
    for seed in 0..10 {
        let mut world = in_zones(&["a", "b", "c"], seed);
        // The zone that would be the cheapest for both.
        world.fill(1, 50);
        world.fill(2, 60);
        for place in 0..6 {
            world.open(0, spread(&world, place..place + 1));
        }
        world.run(SECOND);
        assert_eq!(counts(&world, 0..6, &[&[0], &[1], &[2]]), [2, 2, 2], "seed {seed}");
    }
}

/// Replicas that nodes hold already count, also on nodes that cannot take more.
#[test]
fn claims_of_other_nodes_count_for_the_balance() {
    let mut world = in_zones(&["a", "a", "b"], 3);
    world.fill(0, 0);
    world.fill(2, 40);
    world.nodes[1].context.holders = vec![(Place::Ordinal(7), id(0)), (Place::Ordinal(8), id(0))];
    world.open(1, spread(&world, 0..2));
    world.run(SECOND);
    assert_eq!(counts(&world, 0..2, &[&[1], &[2]]), [0, 2]);
}

/// Node 0 is half full and fulfils the preference, the others are empty and do not. It wins the
/// first replica; the others go to the other nodes all the same.
#[test]
fn preference_is_worth_its_weight() {
    let prefer = |weight: u32| {
        let mut world = World::new(3, 5);
        world.fill(0, 50);
        for n in 0..3 {
            world.nodes[n].context.weights = (weight, if n == 0 { 0 } else { weight });
        }
        world
    };
    for (weight, first) in [(100, true), (10, false)] {
        let mut world = prefer(weight);
        world.open(1, Offer { weights: weight, ..world.offer([0]) });
        world.run(SECOND);
        assert_eq!(world.holders(0) == [0], first, "weight {weight}");
    }
    let mut world = prefer(100);
    world.open(1, Offer { weights: 100, ..world.offer(0..3) });
    world.run(SECOND);
    assert_eq!(counts(&world, 0..3, &[&[0], &[1], &[2]]), [1, 1, 1]);
    let summary = &world.nodes[1].room.summaries(&replica(UID, 0))[0];
    let prefer = |n: usize| {
        let prices = &summary.bids.iter().find(|(node, _)| *node == id(n)).unwrap().1;
        prices[0].prefer
    };
    assert_eq!((prefer(0), prefer(1)), (0, 1_000_000));
}

/// Each node bids for one replica at a time, however many are sought and however empty it is.
#[test]
fn node_may_take_one_replica_at_a_time() {
    let mut world = World::new(2, 6);
    world.nodes.iter_mut().for_each(|node| node.context.one_at_a_time = true);
    world.open(0, world.offer(0..5));
    world.run(SECOND / 2);
    assert_eq!(counts(&world, 0..5, &[&[0], &[1]]), [1, 1]);
    world.assert_nothing_reserved();
}

/// Between a bid and its award the node won something that keeps this workload away. It refuses
/// the award, and the place goes to another node.
#[test]
fn award_is_refused_where_the_workload_no_longer_fits() {
    let mut world = World::new(2, 7);
    world.fill(1, 20);
    world.open(1, world.offer([0]));
    world.run_until_delivered(2); // the announcement, and the bid
    assert!(world.holders(0).is_empty());
    let apart = Err(Unfit::Apart("db".into()));
    world.nodes[0].context.known.insert((UID, GENERATION), (SMALL, apart, 0));
    world.run(SECOND);
    assert!(world.holders(0).is_empty());
    assert_eq!(world.count(1, is_reopen), 1);
    world.assert_nothing_reserved();
    world.open(1, world.offer([0]));
    world.run(SECOND);
    assert_eq!(world.holders(0), [1]);
}
