//! Services whose number of replicas follows from their load.

use std::collections::BTreeSet;

use shoal_protocol::model::spec::Autoscale;
use shoal_protocol::model::{Load, ReplicaId, Spec, SpecForm, WorkloadName};
use shoal_protocol::node::Input;

use super::*;

/// How often daemons measure loads.
const EVERY: Duration = Duration::from_secs(5);

fn scaled(min: u32, max: u32) -> Spec {
    let mut form = SpecForm::from(workload("web", 1, 1));
    let down = Duration::from_secs(60);
    form.later.autoscale =
        Some(Autoscale { min, max, requests: Some(10), down, ..Autoscale::default() });
    form.try_into().unwrap()
}

/// The replicas that answer, each once.
fn serving(world: &World) -> BTreeSet<ReplicaId> {
    let devices = world.running().into_iter();
    let of = |device: usize| {
        let replicas = world.devices[device].runtime.replicas.iter();
        replicas.filter(|(_, it)| it.healthy).map(|(replica, _)| *replica)
    };
    devices.flat_map(of).collect()
}

/// So many seconds with so many requests at a time, shared by the replicas. Returns the numbers of
/// replicas on the way.
fn under_load(world: &mut World, seconds: u64, requests: u32) -> Vec<usize> {
    let mut numbers = Vec::new();
    for _ in 0..seconds / EVERY.as_secs() {
        world.run_for(EVERY).unwrap();
        let replicas = u32::try_from(serving(world).len()).unwrap();
        numbers.push(replicas as usize);
        for device in world.running() {
            let measured = world.node(device).unwrap().measured();
            let load = Load {
                in_flight: (requests * 1_000) / replicas.max(1),
                requests,
                ..Load::default()
            };
            let loads = measured.into_iter().map(|(_, replica, _)| (replica, load)).collect();
            world.input(device, Input::Measured(loads));
        }
    }
    numbers
}

fn views(world: &World) -> Vec<u32> {
    let name = "web".parse().unwrap();
    let of = |device: usize| world.node(device).unwrap().workload(&name).unwrap().desired;
    world.running().into_iter().map(of).collect()
}

/// The number follows the load, and is kept while its owner dies: no replica goes before a new
/// owner has seen the load for the whole window.
#[test]
fn number_follows_the_load_over_deaths_of_its_owner() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 6);
        sim.publish(0, &scaled(1, 8)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        let grown = under_load(&mut sim.world, 90, 45);
        assert_eq!(grown.last(), Some(&5), "seed {seed}: {grown:?}");
        assert!(grown.is_sorted(), "seed {seed}: it swings: {grown:?}");
        for _ in 0..3 {
            sim.apply(&"kill owner:web".parse().unwrap()).unwrap();
            sim.world.run_for(Duration::from_secs(10)).unwrap();
            let numbers = under_load(&mut sim.world, 30, 45);
            assert!(numbers.iter().all(|it| *it == 5), "seed {seed}: {numbers:?}");
        }
        let shrinking = under_load(&mut sim.world, 50, 4);
        assert!(shrinking.iter().all(|it| *it == 5), "seed {seed}: {shrinking:?}");
        let shrunk = under_load(&mut sim.world, 60, 4);
        assert_eq!(shrunk.last(), Some(&1), "seed {seed}: {shrunk:?}");
        assert!(views(&sim.world).iter().all(|it| *it == 1), "seed {seed}: all know it");
        let most = under_load(&mut sim.world, 120, 1_000);
        assert_eq!(most.last(), Some(&8), "seed {seed}: {most:?}");
    }
}

/// It was scaled by load before, to one replica, and by hand then: scaled by load again it begins
/// with the replicas that it has.
#[test]
fn number_of_an_earlier_time_stops_nothing() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &scaled(1, 8)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        under_load(&mut sim.world, 60, 25);
        let few = under_load(&mut sim.world, 90, 1);
        assert_eq!(few.last(), Some(&1), "seed {seed}: {few:?}");
        sim.publish(0, &workload("web", 1, 6)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        assert_eq!(serving(&sim.world).len(), 6, "seed {seed}");
        sim.publish(0, &scaled(1, 8)).unwrap();
        let kept = under_load(&mut sim.world, 50, 1);
        assert!(kept.iter().all(|it| *it == 6), "seed {seed}: {kept:?}");
    }
}

/// The last replica goes when nobody asks, the next request starts one although the owner dies at
/// that moment, and devices that were off know that it sleeps.
#[test]
fn sleeping_workload_is_woken_by_a_request() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &scaled(0, 3)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        let busy = under_load(&mut sim.world, 90, 1);
        assert!(busy.iter().all(|it| *it == 1), "seed {seed}: {busy:?}");
        let idle = under_load(&mut sim.world, 90, 0);
        assert_eq!(idle.last(), Some(&0), "seed {seed}: {idle:?}");
        for device in 0..5 {
            sim.world.kill(device);
        }
        sim.heal().unwrap();
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        assert!(serving(&sim.world).is_empty(), "seed {seed}: it sleeps on");
        let name: WorkloadName = "web".parse().unwrap();
        let wish = |world: &mut World, device: usize| {
            world.input(device, Input::Wished("web".parse().unwrap()));
        };
        let asker = (seed % 5) as usize;
        wish(&mut sim.world, asker);
        sim.apply(&"kill owner:web".parse().unwrap()).unwrap();
        // As the ingress does while the request waits.
        for _ in 0..20 {
            sim.world.run_for(Duration::from_millis(500)).unwrap();
            let asker = *sim.world.running().first().unwrap();
            let (_, routes) = sim.world.node(asker).unwrap().routes();
            if routes.get(&name).is_none_or(|routes| routes.is_empty()) {
                wish(&mut sim.world, asker);
            }
        }
        assert_eq!(serving(&sim.world).len(), 1, "seed {seed}");
        let on = under_load(&mut sim.world, 50, 0);
        assert!(on.iter().all(|it| *it == 1), "seed {seed}: {on:?}");
    }
}
