//! A small world: nodes, links with delay, loss and reordering, and a store in which the greater
//! version wins.

use proptest::prelude::*;

use super::*;
use crate::model::{Outgoing, codec};

mod hostile;
mod links;
mod world;

use world::World;

fn id(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two nodes that hold the same `entries` and are in step.
fn in_step(entries: u64) -> World {
    let mut world = World::new(2, Config::default(), 1);
    for entry in 0..entries {
        world.restore(0, entry, 1);
        world.restore(1, entry, 1);
    }
    world.link(0, 1);
    world.run(millis(500));
    assert_eq!(world.in_step(0, 1), (true, true));
    world
}

#[test]
fn equal_nodes_are_in_step_after_one_round_trip() {
    let mut world = World::new(2, Config::default(), 1);
    for entry in 0..1000 {
        world.restore(0, entry, 1);
        world.restore(1, entry, 1);
    }
    world.link(0, 1);
    world.run(millis(25));
    assert_eq!(world.in_step(0, 1), (true, true));
    assert_eq!(world.facts(0), [Fact::InStep { peer: id(1) }]);
    assert_eq!(world.facts(1), [Fact::InStep { peer: id(0) }]);
    assert!(world.bytes < 300, "{}", world.bytes);
}

/// A node was paused for a minute. Then it read a question that its peer had asked before the
/// pause, agreed with it, took itself for in step, and so took a replica back from its peer. Only
/// its own comparison may put it in step.
#[test]
fn stalled_node_is_in_step_only_by_its_own_comparison() {
    let mut world = in_step(10);
    world.compare(1, 0);
    world.run(Duration::ZERO);
    world.wake(0);
    world.run(millis(15));
    assert!(!world.in_step(0, 1).0, "the question has come, the answer has not");
    world.run(millis(50));
    assert_eq!(world.in_step(0, 1), (true, true));
}

#[test]
fn nodes_exchange_only_what_they_lack() {
    let mut world = World::new(2, Config::default(), 1);
    for entry in 0..2000 {
        match entry % 100 {
            0 => world.restore(0, entry, 1),
            1 => world.restore(1, entry, 1),
            2 | 3 => {
                world.restore(0, entry, 1 + entry % 2);
                world.restore(1, entry, 2 - entry % 2);
            }
            _ => (0..2).for_each(|node| world.restore(node, entry, 1)),
        }
    }
    world.link(0, 1);
    world.run(millis(900));
    assert!(world.converged());
    assert_eq!(world.in_step(0, 1), (true, true));
    assert_eq!(world.holds(0), 2000);
    // Each lacked 20 entries of the other. The asker fetches all 40 that differ; 20 of them are
    // older than its own, which the peer fetches afterwards.
    assert_eq!(world.received(0), 20 + 40);
    assert_eq!(world.received(1), 20 + 20);
}

#[test]
fn entries_of_the_peer_are_not_offered() {
    let mut world = World::new(2, Config::default(), 1);
    for entry in 0..1000 {
        world.restore(0, entry, 1);
        world.restore(1, entry, 1 + u64::from(entry % 50 == 0));
    }
    world.link(0, 1);
    world.run(millis(200));
    assert!(world.converged());
    assert_eq!(world.in_step(0, 1), (true, true), "no offer had to be waited for");
    let said = world.transcript.iter().map(|(.., bytes)| codec::decode::<Message>(bytes).unwrap());
    assert!(!said.into_iter().any(|message| matches!(message, Message::Offer { .. })));
}

#[test]
fn small_difference_in_large_state_costs_little() {
    let mut world = World::new(2, Config::default(), 1);
    let mut difference = 0;
    for entry in 0..10_000 {
        let (left, right) = match entry % 200 {
            0 => (1, 2),
            100 => (2, 1),
            _ => (1, 1),
        };
        difference += if left == right { 0 } else { world.size_of(entry, 2) };
        world.restore(0, entry, left);
        world.restore(1, entry, right);
    }
    world.link(0, 1);
    world.run(secs(3));
    assert!(world.converged());
    assert_eq!(world.in_step(0, 1), (true, true));
    assert!(
        world.bytes < 3 * difference + 8 * 1024,
        "difference {difference}, exchanged {}",
        world.bytes
    );
}

#[test]
fn idle_nodes_send_next_to_nothing() {
    let mut world = in_step(10_000);
    let before = world.bytes;
    world.run(secs(600));
    let per_second = (world.bytes - before) / 600 / 2;
    assert!(per_second < 64, "{per_second}");
    assert_eq!(world.facts(0).len() + world.facts(1).len(), 2, "nobody fell out of step");
}

#[test]
fn only_a_lasting_change_is_a_difference() {
    let mut world = in_step(100);
    world.set(0, 7, 2);
    world.compare(0, 1);
    world.run(millis(500));
    assert_eq!((world.in_step(0, 1), world.received(1)), ((true, true), 0));
    // Gossip never brings the change.
    world.run(secs(12));
    assert_eq!((world.in_step(0, 1), world.received(1)), ((true, true), 1));
    assert!(world.converged());
}

#[test]
fn recent_change_is_left_to_gossip() {
    for changed in [0, 1] {
        let mut world = in_step(100);
        for entry in 0..100 {
            // In every tree one entry differs, in both directions.
            world.restore(0, entry, 1 + u64::from(entry < 4));
            world.restore(1, entry, 1 + u64::from((4..8).contains(&entry)));
        }
        (20..40).for_each(|entry| world.set(changed, entry, 2));
        (200..220).for_each(|entry| world.set(changed, entry, 1));
        world.compare(0, 1);
        world.run(secs(1));
        assert_eq!((world.version(0, 4), world.version(1, 0)), (Some(2), Some(2)));
        assert_eq!(
            (world.version(0, 20), world.version(1, 20)),
            if changed == 0 { (Some(2), Some(1)) } else { (Some(1), Some(2)) }
        );
        assert_eq!(world.version(1 - changed, 200), None);
        assert_eq!(world.in_step(0, 1), (true, true));
        world.run(secs(15));
        assert!(world.converged());
    }
}

/// Gossip reaches only peers that were linked when it began. On a new link fresh changes count as
/// differences, so neither end is in step before it has them.
#[test]
fn new_link_counts_fresh_changes_before_in_step() {
    for changed in [0, 1] {
        let mut world = World::new(2, Config::default(), 1);
        (0..100).for_each(|entry| (0..2).for_each(|node| world.restore(node, entry, 1)));
        world.set(changed, 7, 2);
        world.set(changed, 200, 1);
        world.link(0, 1);
        for _ in 0..500 {
            world.run(millis(1));
            let (left, right) = world.in_step(0, 1);
            let in_step = if changed == 0 { right } else { left };
            assert!(!in_step || world.converged(), "in step without what changed");
        }
        assert_eq!(world.in_step(0, 1), (true, true));
        assert!(world.converged());
    }
}

#[test]
fn change_at_rest_on_one_side_only_is_no_difference() {
    let mut world = in_step(1000);
    world.set(0, 7, 2);
    world.run(secs(1));
    world.set(1, 7, 2);
    // By now the entry is at rest at the first node only.
    world.run(millis(1500));
    let before = world.bytes;
    world.compare(0, 1);
    world.run(millis(30));
    assert!((1..200).contains(&(world.bytes - before)), "{}", world.bytes - before);
}

#[test]
fn constantly_changing_entry_is_found() {
    let mut world = in_step(100);
    for version in 2..32 {
        world.set(0, 7, version);
        world.run(millis(700));
    }
    assert!(world.version(1, 7) > Some(2), "{:?}", world.version(1, 7));
}

#[test]
fn forgotten_entry_does_not_come_back() {
    let mut world = in_step(100);
    world.forget(0, 7);
    world.compare(0, 1);
    world.compare(1, 0);
    world.run(secs(1));
    world.forget(1, 7);
    world.run(secs(20));
    assert_eq!((world.version(0, 7), world.version(1, 7)), (None, None));
    assert_eq!((world.received(0), world.received(1)), (0, 0));

    // An offer that was on its way while the entry was forgotten.
    world.forget(1, 8);
    let leaf = Leaf {
        head: ShortHash::head(&world::key(8)),
        version: ShortHash::head(&world::key(9)),
        fresh: false,
    };
    let round = Round { salt: 1, number: 1 };
    world.inject(0, 1, Message::Offer { round, tree: world::tree(8), leaves: vec![leaf] });
    world.run(secs(1));
    assert_eq!((world.received(1), world.version(1, 8)), (0, None));
}

#[test]
fn restored_entries_are_compared_at_once() {
    let mut world = World::new(2, Config::default(), 1);
    for entry in 0..100 {
        world.restore(0, entry, 1);
        world.restore(1, entry, 1 + entry % 2);
    }
    world.link(0, 1);
    world.run(millis(500));
    assert!(world.converged());
}

#[test]
fn newcomer_fetches_each_entry_once() {
    let mut world = World::new(10, Config::default(), 1);
    let mut size = 0;
    for entry in 0..2000 {
        (0..9).for_each(|node| world.restore(node, entry, 1));
        size += world.size_of(entry, 1);
    }
    for node in 0..9 {
        world.link(node, 9);
    }
    world.run(secs(20));
    assert!(world.converged());
    assert!((0..9).all(|node| world.in_step(node, 9) == (true, true)));
    assert_eq!(world.received(9), 2000, "nothing is fetched twice");
    assert!(world.bytes < 2 * size, "state {size}, exchanged {}", world.bytes);
}

#[test]
fn same_seed_and_inputs_give_same_messages() {
    let run = |seed| {
        let mut world = World::new(4, Config::default(), seed);
        world.loss_percent = 10;
        for entry in 0..300 {
            world.restore((entry % 4) as usize, entry, 1);
        }
        for (left, right) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
            world.link(left, right);
        }
        world.run(secs(30));
        world.transcript
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn equal_roots_mean_equal_entries() {
    let mut world = in_step(10);
    assert_eq!(world.rooms[0].repair.roots(), world.rooms[1].repair.roots());
    world.set(0, 3, 2);
    let (left, right) = (world.rooms[0].repair.roots(), world.rooms[1].repair.roots());
    assert_eq!(left.iter().zip(&right).filter(|(left, right)| left != right).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_differences_are_mended(
        entries in proptest::collection::vec((0..300u64, 0..3usize, 1..4u64), 0..200),
        later in proptest::collection::vec((0..300u64, 0..3usize, 1..9u64, 0..3000u64), 0..40),
        loss in 0..30u32,
        seed: u64,
    ) {
        let mut world = World::new(3, Config::default(), seed);
        world.loss_percent = loss;
        world.jitter = millis(50);
        for (entry, node, version) in entries {
            world.restore(node, entry, version);
        }
        world.link(0, 1);
        world.link(1, 2);
        for (entry, node, version, after) in later {
            world.run(millis(after));
            world.set(node, entry, version);
        }
        world.run(secs(240));
        prop_assert!(world.converged());
        prop_assert_eq!((world.in_step(0, 1), world.in_step(1, 2)), ((true, true), (true, true)));
    }
}
