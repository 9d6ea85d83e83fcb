//! Cameras and disk of devices: none is given twice. The invariants of each step check the sums.

use shoal_protocol::model::{Phase, Spec, SpecForm};

use super::*;

fn filming(version: u32, replicas: u32) -> Spec {
    let mut form = SpecForm::from(workload("film", version, replicas));
    form.later.uses.set("camera", 1);
    form.later.uses.set("disk", 3 << 30);
    form.try_into().unwrap()
}

/// A cluster whose devices have a camera, and disk for three replicas.
fn with_cameras(seed: u64, size: usize) -> Simulation {
    let mut world = World::new(seed);
    world.offers.set("camera", 1);
    world.offers.set("disk", 10 << 30);
    Simulation::with(seed, world, size).unwrap()
}

/// The devices that run replicas of `film`, in order.
fn filmed_on(world: &World) -> Vec<usize> {
    let runs = |device: &usize| world.devices[*device].runtime.replicas.values();
    let healthy = |device: usize| runs(&device).filter(|it| it.healthy).map(move |_| device);
    world.running().into_iter().flat_map(healthy).collect()
}

/// Each device films once, while the owner and a holder die and all devices are off for a while;
/// one replica has no camera.
#[test]
fn each_camera_has_one_replica_whatever_dies() {
    for seed in 0..10 {
        let mut sim = with_cameras(seed, 4);
        sim.publish(0, &filming(1, 5)).unwrap();
        sim.world.run_for(Duration::from_millis(50 + seed * 40)).unwrap();
        sim.world.kill((seed % 4) as usize);
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        assert_eq!(filmed_on(&sim.world).len(), 3, "seed {seed}");
        sim.heal().unwrap();
        sim.world.run_for(Duration::from_secs(40)).unwrap();
        assert_eq!(filmed_on(&sim.world), [0, 1, 2, 3], "seed {seed}");
        for device in 0..4 {
            sim.world.kill(device);
        }
        sim.heal().unwrap();
        sim.publish(0, &filming(2, 5)).unwrap();
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        assert_eq!(filmed_on(&sim.world), [0, 1, 2, 3], "seed {seed}: a new version as well");
    }
}

/// The pause between tries grows to half a minute; room that is freed is used at once.
#[test]
fn room_that_is_freed_is_used_at_once() {
    for seed in 0..10 {
        let mut sim = with_cameras(seed, 3);
        sim.publish(0, &filming(1, 3)).unwrap();
        let films = |world: &World| filmed_on(world) == [0, 1, 2];
        sim.world.run_till(Duration::from_secs(10), "each device films", films).unwrap();
        let mut form = SpecForm::from(workload("watch", 1, 1));
        form.later.uses.set("camera", 1);
        sim.publish(1, &form.try_into().unwrap()).unwrap();
        sim.world.run_for(Duration::from_secs(310)).unwrap();
        let watches = |world: &World| {
            let of = |device: usize| world.node(device).unwrap().own_claims();
            let mut all = world.running().into_iter().flat_map(of);
            all.any(|claim| {
                claim.name.to_string().contains("watch") && claim.phase == Phase::Healthy
            })
        };
        assert!(!watches(&sim.world), "seed {seed}: each camera is in use");
        sim.publish(2, &filming(1, 2)).unwrap();
        let what = "the freed camera is used";
        sim.world.run_till(Duration::from_secs(4), what, watches).unwrap();
    }
}
