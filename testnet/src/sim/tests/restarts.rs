//! Daemons that restart in the middle of an update: they go on with the version that served.

use shoal_protocol::model::Spec;

use super::outgrown::{serving, sized};
use super::*;

/// Three devices with twelve replicas of a version, and another one that is wished for.
fn under_update(seed: u64, next: &Spec) -> Simulation {
    let mut sim = cluster(seed, 3);
    sim.publish(0, &sized(1, 12, 256)).unwrap();
    sim.settle().unwrap();
    sim.publish(0, next).unwrap();
    sim
}

fn restart(sim: &mut Simulation, device: usize) {
    let others: Vec<usize> = (0..3).filter(|it| *it != device).collect();
    sim.world.kill(device);
    sim.world.start(device, false, &others);
}

fn until_served(sim: &mut Simulation, replicas: usize, when: &str) {
    let any = sized(1, 1, 64);
    let within = Duration::from_secs(30);
    sim.world.run_till(within, when, |world| serving(world, &any).1 == replicas).unwrap();
}

/// A version for which no device has room, and then all devices restart, at once or one after the
/// other, often: what served before serves again, and goes on.
#[test]
fn version_that_serves_comes_back_beside_one_without_room() {
    for seed in 0..10 {
        let next = sized(2, 12, 300);
        let mut sim = under_update(seed, &next);
        sim.world.run_for(Duration::from_millis(seed * 7)).unwrap();
        for round in 0..3 {
            for device in 0..3 {
                restart(&mut sim, device);
                let pause = Duration::from_secs(20 * (seed % 2));
                sim.world.run_for(pause).unwrap();
            }
            until_served(&mut sim, 12, &format!("seed {seed}, round {round}: all serve again"));
        }
        for _ in 0..600 {
            sim.world.run_for(Duration::from_secs(1)).unwrap();
            assert_eq!(serving(&sim.world, &next), (0, 12), "seed {seed}");
        }
        // With room the update goes on, and nothing of the old version is left on a disk.
        sim.apply(&"join 2".parse().unwrap()).unwrap();
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        assert_eq!(serving(&sim.world, &next), (12, 12), "seed {seed}");
        sim.settle().unwrap();
        for device in &sim.world.devices {
            assert!(device.disk.old_versions.is_empty(), "seed {seed}");
        }
    }
}

/// A device that was away when the version without room was published starts what it had.
#[test]
fn device_that_was_away_serves_what_it_had() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &sized(1, 12, 256)).unwrap();
        sim.settle().unwrap();
        for device in 0..3 {
            sim.world.kill(device);
        }
        sim.world.start(0, false, &[1, 2]);
        sim.world.run_for(Duration::from_secs(1)).unwrap();
        sim.publish(0, &sized(2, 12, 300)).unwrap();
        sim.world.run_for(Duration::from_secs(1)).unwrap();
        sim.world.start(1, false, &[0, 2]);
        sim.world.start(2, false, &[0, 1]);
        until_served(&mut sim, 12, &format!("seed {seed}: all serve again"));
    }
}

/// The replica is not ready for a moment, and the version that is wished for has no room: it is not
/// let go, and serves again.
#[test]
fn replica_that_is_not_ready_for_a_moment_is_not_let_go() {
    for seed in 0..10 {
        let next = sized(2, 12, 300);
        let mut sim = cluster(seed, 3);
        sim.publish(0, &sized(1, 12, 256)).unwrap();
        sim.settle().unwrap();
        let device = (seed % 3) as usize;
        let unready: Vec<_> = sim.world.devices[device].runtime.replicas.keys().copied().collect();
        let unready = &unready[..2];
        unready.iter().for_each(|replica| assert!(sim.world.turn_unready(device, *replica)));
        sim.world.run_for(Duration::from_millis(seed * 100)).unwrap();
        sim.publish(0, &next).unwrap();
        sim.world.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(serving(&sim.world, &next), (0, 10), "seed {seed}");
        sim.world.end_unready(device);
        until_served(&mut sim, 12, &format!("seed {seed}: all serve again"));
        let starts = sim.world.devices[device].runtime.replicas.values().map(|it| it.start).max();
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        let later = sim.world.devices[device].runtime.replicas.values().map(|it| it.start).max();
        assert_eq!((serving(&sim.world, &next), later), ((0, 12), starts), "seed {seed}");
    }
}
