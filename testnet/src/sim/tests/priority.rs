//! Where there is no room for all, a workload of higher priority takes the place of lower ones.

use std::collections::BTreeMap;

use shoal_protocol::model::{Resources, Spec, SpecForm};

use super::*;

/// A workload whose replicas take a quarter of a device each.
fn large(name: &str, replicas: u32, priority: i32) -> Spec {
    let mut form = SpecForm::from(workload(name, 1, replicas));
    form.resources = Resources { memory: 256 << 20, cpu: 1_000 }.into();
    form.later.priority = priority;
    form.try_into().unwrap()
}

/// The numbers of replicas that run healthy, by workload.
fn running(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for device in world.running() {
        let node = world.node(device).unwrap();
        for (replica, it) in &world.devices[device].runtime.replicas {
            let name = node.own_claim(replica).map(|claim| claim.name.to_string());
            if let Some(name) = name.filter(|_| it.healthy) {
                *counts.entry(name).or_default() += 1;
            }
        }
    }
    counts
}

fn count(world: &World, name: &str) -> usize {
    running(world).get(name).copied().unwrap_or_default()
}

/// Four devices that are full of `low`, `mid` and `high`, which cannot be told apart but by their
/// priorities.
fn full(seed: u64) -> Simulation {
    let mut sim = cluster(seed, 4);
    for (name, replicas, priority) in [("high", 4, 50), ("mid", 6, 0), ("low", 6, -5)] {
        sim.publish(0, &large(name, replicas, priority)).unwrap();
        let is_there = move |world: &World| count(world, name) == replicas as usize;
        sim.world.run_till(Duration::from_secs(60), "the cluster is full", is_there).unwrap();
    }
    sim
}

/// A workload of high priority comes into a full cluster, and its owner is killed on the way. It
/// runs within seconds of the owner's death; only the lowest go, and what is reserved and committed
/// never exceeds what a device offers: the invariants of each step check that.
#[test]
fn higher_priority_gets_in_and_the_lowest_go() {
    for seed in 0..10 {
        let mut sim = full(seed);
        sim.publish(1, &large("urgent", 3, 100)).unwrap();
        let is_in = |world: &World| count(world, "urgent") == 3;
        sim.world.run_till(Duration::from_secs(30), "the urgent one is in", is_in).unwrap();
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        let counts = running(&sim.world);
        let told = ["urgent", "high", "mid", "low"].map(|name| counts.get(name).copied());
        assert_eq!(told, [Some(3), Some(4), Some(6), Some(3)], "seed {seed}");
    }
}

/// The owner, and with it some of the room, is gone in the middle: the next owner makes room.
#[test]
fn higher_priority_gets_in_although_its_owner_dies() {
    for seed in 0..10 {
        let mut sim = full(seed);
        sim.publish(1, &large("urgent", 3, 100)).unwrap();
        sim.world.run_for(Duration::from_millis(100 + seed * 150)).unwrap();
        let owner = sim.world.node(1).unwrap().workload(&"urgent".parse().unwrap()).unwrap().owner;
        let owner = sim.world.device_named(&owner.unwrap()).unwrap();
        sim.world.kill(owner);
        let is_in = |world: &World| count(world, "urgent") == 3 && count(world, "high") == 4;
        sim.world.run_till(Duration::from_secs(60), "both are in", is_in).unwrap();
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        // Three devices have room for twelve. `mid` of priority 0 takes no other's place.
        let counts = running(&sim.world);
        assert_eq!(counts.values().sum::<usize>(), 12, "seed {seed}: {counts:?}");
        assert_eq!((counts["urgent"], counts["high"]), (3, 4), "seed {seed}: {counts:?}");
    }
}

/// An equal priority takes no place, and neither does one that is not above 0.
#[test]
fn equal_or_plain_priority_waits() {
    let mut sim = full(3);
    sim.publish(1, &large("more", 2, 0)).unwrap();
    sim.world.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(count(&sim.world, "more"), 0);
    let mut sim = cluster(4, 2);
    sim.publish(0, &large("high", 8, 50)).unwrap();
    sim.settle().unwrap();
    sim.publish(1, &large("equal", 2, 50)).unwrap();
    sim.world.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(running(&sim.world), [("high".to_owned(), 8)].into());
}

/// A victim takes the place of a lower one, and so on: each takes one, and only the lowest is out.
#[test]
fn victims_of_victims_end_with_the_lowest() {
    let mut sim = cluster(5, 2);
    for (name, priority) in [("d", 1), ("c", 2), ("b", 3)] {
        let replicas = if name == "d" { 4 } else { 2 };
        sim.publish(0, &large(name, replicas, priority)).unwrap();
        sim.settle().unwrap();
    }
    sim.publish(0, &large("a", 2, 4)).unwrap();
    sim.world.run_for(Duration::from_secs(60)).unwrap();
    let counts = running(&sim.world);
    let told = ["a", "b", "c", "d"].map(|name| counts.get(name).copied().unwrap_or_default());
    assert_eq!(told, [2, 2, 2, 2]);
}
