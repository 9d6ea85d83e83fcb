//! Containers outlive daemons: what a daemon finds, keeps and removes.

use std::time::Duration;

use shoal_protocol::model::ReplicaId;

use super::{all_well, cluster};
use crate::sim::engine::EngineState;
use crate::sim::invariants;
use crate::sim::operator::container_workload;
use crate::sim::simulation::Simulation;

/// A cluster of four with two replicas of a container at rest, and a device that has one.
fn with_boxes(seed: u64) -> (Simulation, usize) {
    let mut sim = cluster(seed, 4);
    sim.publish(0, &container_workload("box", 1, 2)).unwrap();
    sim.settle().unwrap();
    let has = |device: &usize| !containers(&sim, *device).is_empty();
    let holder = (1..4).find(has).expect("two nodes have one each");
    (sim, holder)
}

/// The numbers and replicas of a device's containers that run.
fn containers(sim: &Simulation, device: usize) -> Vec<(u64, ReplicaId)> {
    let it = &sim.world.devices[device];
    it.engine.alive(it.id).map(|(number, container)| (number, container.id.0)).collect()
}

/// The daemon is killed and started again. The container is the same one, and runs on.
#[test]
fn container_of_a_killed_daemon_is_adopted() {
    for seed in 0..5 {
        let (mut sim, holder) = with_boxes(seed);
        let before = containers(&sim, holder);
        sim.world.kill(holder);
        sim.world.start(holder, false, &[]);
        sim.settle().unwrap();
        assert_eq!(containers(&sim, holder), before, "seed {seed}");
    }
}

/// The daemon is away for so long that its replica runs elsewhere, or is no longer wished for. Its
/// container is removed when it returns.
#[test]
fn container_that_nobody_wants_is_removed() {
    for is_removed in [false, true] {
        let (mut sim, holder) = with_boxes(7);
        sim.world.kill(holder);
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        if is_removed {
            sim.remove(0, "box").unwrap();
        }
        assert_eq!(containers(&sim, holder).len(), 1, "it outlives its daemon");
        sim.world.start(holder, false, &[]);
        sim.settle().unwrap();
        assert!(all_well(&sim));
        if is_removed {
            assert_eq!(containers(&sim, holder), []);
        }
    }
}

/// The daemon is killed while it ends a container whose claim it has released already. The next
/// daemon has no claim that names it, and removes it all the same.
#[test]
fn container_without_a_claim_is_removed() {
    let mut orphans = 0;
    for seed in 0..8 {
        let (mut sim, holder) = with_boxes(seed);
        sim.remove(0, "box").unwrap();
        sim.world.run_for(Duration::from_millis(15)).unwrap();
        sim.world.kill(holder);
        orphans += usize::from(sim.world.claims_on_disk(holder).is_empty());
        assert_eq!(containers(&sim, holder).len(), 1, "it outlives its daemon");
        sim.world.start(holder, false, &[]);
        sim.settle().unwrap();
        assert_eq!(containers(&sim, holder), []);
    }
    assert!(orphans > 0, "each claim was still on disk");
}

/// The engine makes a container long after the daemon has looked for what others left behind. Looks
/// go on, so it is removed.
#[test]
fn container_that_is_made_late_is_removed() {
    let (mut sim, holder) = with_boxes(5);
    sim.world.run_for(Duration::from_secs(30)).unwrap();
    let before = containers(&sim, holder);
    sim.world.make_late(holder);
    assert_eq!(containers(&sim, holder).len(), before.len() + 1);
    sim.settle().unwrap();
    assert_eq!(containers(&sim, holder), before);
}

/// An engine hangs, then goes on; containers run on and none is started anew. An engine that dies
/// takes them with it: they are started again, there or elsewhere.
#[test]
fn engine_that_returns_is_used_again() {
    let (mut sim, holder) = with_boxes(3);
    let before = containers(&sim, holder);
    sim.world.turn_engine(holder, EngineState::Hangs, true);
    sim.world.run_for(Duration::from_secs(60)).unwrap();
    let facts = |sim: &Simulation| sim.world.node(0).unwrap().nodes();
    let offers = |sim: &Simulation, device: usize| {
        let name = format!("n{device}");
        let view = facts(sim).into_iter().find(|view| view.name == name).unwrap();
        view.runtimes.iter().any(|kind| kind == "container")
    };
    assert!(!offers(&sim, holder), "others know that it runs no containers now");
    sim.world.turn_engine(holder, EngineState::Works, true);
    sim.settle().unwrap();
    assert!(offers(&sim, holder));
    assert_eq!(containers(&sim, holder), before);
    sim.world.turn_engine(holder, EngineState::Gone, false);
    sim.world.run_for(Duration::from_secs(30)).unwrap();
    sim.world.turn_engine(holder, EngineState::Works, true);
    let workloads = &sim.workloads;
    sim.world
        .run_till(Duration::from_secs(60), "the containers are back", |world| {
            invariants::at_rest(world, workloads).is_ok()
        })
        .unwrap();
    assert!(containers(&sim, holder).iter().all(|one| !before.contains(one)));
}
