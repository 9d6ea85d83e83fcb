//! Devices that are emptied.

use super::*;

/// Whether every replica of the workload is served by a device.
fn all_serve(world: &World, replicas: usize) -> bool {
    let serving = world.running().into_iter().flat_map(|device| {
        let replicas = world.devices[device].runtime.replicas.iter();
        replicas.filter(|(_, it)| it.healthy).map(|(replica, _)| *replica)
    });
    serving.collect::<std::collections::BTreeSet<_>>().len() == replicas
}

/// A drain ends with an empty device, and at no moment a replica runs nowhere.
#[test]
fn drained_device_ends_empty_and_every_replica_runs_all_the_time() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 4);
        assert!(all_serve(&sim.world, 4));
        let drained = (seed % 4) as usize;
        assert!(sim.set_policy(drained, true, true).unwrap());
        for _ in 0..200 {
            assert!(all_serve(&sim.world, 4), "seed {seed}: a replica runs nowhere");
            sim.world.run_for(Duration::from_millis(1)).unwrap();
        }
        sim.settle().unwrap();
        let left = sim.world.node(drained).map_or(0, |node| node.own_claims().count());
        assert_eq!(left, 0, "seed {seed}");
    }
}

/// The device that is being emptied, or the one that takes over, dies in the middle.
#[test]
fn drain_goes_on_when_a_device_dies_in_the_middle() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 5);
        assert!(sim.set_policy(1, true, true).unwrap());
        sim.world.run_for(Duration::from_millis(seed * 7)).unwrap();
        sim.world.kill((seed % 5) as usize);
        sim.world.run_for(Duration::from_secs(3)).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        let left = sim.world.node(1).map_or(0, |node| node.own_claims().count());
        assert_eq!(left, 0, "seed {seed}");
    }
}
