//! Replicas move to devices with more room.

use std::collections::BTreeSet;

use shoal_protocol::model::{NodeId, ReplicaId, Resources, Spec, SpecForm};

use super::*;

/// Each replica takes an eighth of a device.
fn large(replicas: u32) -> Spec {
    let mut form = SpecForm::from(workload("web", 1, replicas));
    let size = Resources { memory: 128 << 20, cpu: 100 };
    (form.resources.reservation, form.resources.limit) = (size, size);
    form.try_into().unwrap()
}

/// The number of replicas that each device that is up has.
fn counts(world: &World) -> Vec<usize> {
    let of = |device: usize| world.node(device).unwrap().own_claims().count();
    world.running().into_iter().map(of).collect()
}

fn serving(world: &World) -> usize {
    let devices = world.running().into_iter();
    let of = |device: usize| {
        let replicas = world.devices[device].runtime.replicas.iter();
        replicas.filter(|(_, it)| it.healthy).map(|(replica, _)| *replica)
    };
    devices.flat_map(of).collect::<BTreeSet<ReplicaId>>().len()
}

fn claims(world: &World) -> BTreeSet<(NodeId, ReplicaId)> {
    let devices = world.running().into_iter();
    let of = |device: usize| {
        let node = world.node(device).unwrap();
        let id = node.id();
        node.own_claims().map(move |claim| (id, claim.replica)).collect::<Vec<_>>()
    };
    devices.flat_map(of).collect()
}

/// Runs for so many seconds, in which each replica runs somewhere at all times.
fn all_the_time(world: &mut World, seconds: u64, replicas: usize) {
    for _ in 0..seconds * 20 {
        world.run_for(Duration::from_millis(50)).unwrap();
        assert_eq!(serving(world), replicas);
    }
}

/// A new device is used, and one that returns: until that pays no more, and then nothing moves.
#[test]
fn empty_device_is_used_while_that_pays() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &large(12)).unwrap();
        sim.settle().unwrap();
        assert_eq!(counts(&sim.world), [4, 4, 4], "seed {seed}");
        sim.apply(&"join 1".parse().unwrap()).unwrap();
        all_the_time(&mut sim.world, 900, 12);
        assert_eq!(counts(&sim.world).pop(), Some(2), "seed {seed}");
        let before = claims(&sim.world);
        sim.world.run_for(Duration::from_secs(1_800)).unwrap();
        assert_eq!(claims(&sim.world), before, "seed {seed}: nothing moves any more");
        sim.settle().unwrap();

        sim.world.kill(0);
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        assert_eq!(counts(&sim.world), [4, 4, 4], "seed {seed}");
        sim.heal().unwrap();
        all_the_time(&mut sim.world, 900, 12);
        assert_eq!(counts(&sim.world)[0], 2, "seed {seed}: {:?}", counts(&sim.world));
        sim.settle().unwrap();
    }
}

/// The owner, or the device to which a replica moves, dies in the middle: each replica has one
/// holder in the end.
#[test]
fn move_goes_on_or_ends_when_a_device_dies_in_the_middle() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &large(12)).unwrap();
        sim.settle().unwrap();
        sim.apply(&"join 1".parse().unwrap()).unwrap();
        let moves = |world: &World| world.node(4).unwrap().own_claims().count() > 0;
        sim.world.run_till(Duration::from_secs(300), "a replica moves", moves).unwrap();
        match seed % 2 {
            0 => sim.world.kill(4),
            _ => sim.apply(&"kill owner:web".parse().unwrap()).unwrap(),
        }
        sim.world.run_for(Duration::from_secs(200)).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(serving(&sim.world), 12, "seed {seed}");
        assert_eq!(counts(&sim.world).iter().sum::<usize>(), 12, "seed {seed}");
    }
}
