//! Versions that reserve more than their devices have left: the old one serves until another device
//! runs the new one, or for ever.

use std::collections::BTreeSet;

use shoal_protocol::model::{ReplicaId, Resources, Spec, SpecForm};

use super::*;

pub(super) fn sized(version: u32, replicas: u32, mib: u64) -> Spec {
    let mut form = SpecForm::from(workload("web", version, replicas));
    let size = Resources { memory: mib << 20, cpu: 100 };
    (form.resources.reservation, form.resources.limit) = (size, size);
    form.try_into().unwrap()
}

/// The number of replicas that a version has, and of those that run at all.
pub(super) fn serving(world: &World, version: &Spec) -> (usize, usize) {
    let devices = world.running().into_iter();
    let served: Vec<(ReplicaId, bool)> = devices
        .flat_map(|device| world.devices[device].runtime.replicas.iter())
        .filter(|(_, it)| it.healthy || it.old.is_some())
        .map(|(replica, it)| (*replica, it.serves(version.revision())))
        .collect();
    let count = |of: &dyn Fn(&&(ReplicaId, bool)) -> bool| {
        served.iter().filter(of).map(|(replica, _)| *replica).collect::<BTreeSet<_>>().len()
    };
    (count(&|it| it.1), count(&|_| true))
}

/// Runs for so many milliseconds, in which each replica runs somewhere at all times.
fn all_the_time(world: &mut World, millis: u64, replicas: usize, when: &str) {
    let version = sized(1, 1, 64);
    for step in 0..millis {
        world.run_for(Duration::from_millis(1)).unwrap();
        assert_eq!(serving(world, &version).1, replicas, "{when}, {step} ms");
    }
}

/// All devices are full, so no replica of the new version fits beside the others: nothing is taken
/// down, also when the owner dies. With two more devices all are replaced, without a gap.
#[test]
fn version_without_room_takes_nothing_down() {
    for seed in 0..6 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &sized(1, 12, 256)).unwrap();
        sim.settle().unwrap();
        let next = sized(2, 12, 300);
        sim.publish(0, &next).unwrap();
        all_the_time(&mut sim.world, 4_000, 12, &format!("seed {seed}: no room"));
        assert_eq!(serving(&sim.world, &next).0, 0, "seed {seed}");
        let shown = sim.world.node(0).unwrap().workload(&"web".parse().unwrap()).unwrap();
        let reasons: Vec<String> = shown.replicas.into_iter().filter_map(|it| it.reason).collect();
        let tells = |it: &&String| it.contains("finds no room");
        assert_eq!(reasons.iter().filter(tells).count(), 12, "{reasons:?}");

        sim.apply(&"join 2".parse().unwrap()).unwrap();
        all_the_time(&mut sim.world, 20_000, 12, &format!("seed {seed}: more devices"));
        assert_eq!(serving(&sim.world, &next), (12, 12), "seed {seed}");
        sim.settle().unwrap();
    }
}

/// The same while the owner dies, or a device that took one over.
#[test]
fn replicas_without_room_move_although_devices_die() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &sized(1, 12, 256)).unwrap();
        sim.settle().unwrap();
        let next = sized(2, 12, 300);
        sim.publish(0, &next).unwrap();
        sim.world.run_for(Duration::from_millis(20 + seed * 30)).unwrap();
        match seed % 2 {
            0 => sim.apply(&"kill owner:web".parse().unwrap()).unwrap(),
            _ => sim.world.kill((seed % 4) as usize),
        }
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        sim.heal().unwrap();
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        sim.settle().unwrap();
        assert_eq!(serving(&sim.world, &next), (12, 12), "seed {seed}");
    }
}

/// Its devices go back to the version that fits: no move is left over.
#[test]
fn version_that_fits_again_stays_where_it_is() {
    let mut sim = cluster(2, 3);
    sim.publish(0, &sized(1, 12, 256)).unwrap();
    sim.settle().unwrap();
    sim.publish(0, &sized(2, 12, 300)).unwrap();
    sim.world.run_for(Duration::from_secs(5)).unwrap();
    let back = sized(3, 12, 256);
    sim.publish(0, &back).unwrap();
    all_the_time(&mut sim.world, 5_000, 12, "a version that fits");
    assert_eq!(serving(&sim.world, &back), (12, 12));
    sim.settle().unwrap();
}
