//! Stateful workloads: their replicas start, end and are replaced in order, and there are never two
//! of one.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{Kind, Mount, OnLoss, Sequence, Stateful, Volume, VolumeSource};
use shoal_protocol::model::{Place, Spec, SpecForm};

use super::*;
use crate::sim::action::KindWord;
use crate::sim::operator::{container_workload, workload_of};

fn name() -> shoal_protocol::model::WorkloadName {
    "db".parse().unwrap()
}

/// A version of the workload with so many replicas.
fn db(version: u32, replicas: u32) -> Spec {
    workload_of("db", version, KindWord::Stateful).scaled(replicas).unwrap()
}

/// The devices on which something of a place is: it starts, runs or is being stopped.
fn instances(world: &World) -> BTreeMap<u32, Vec<usize>> {
    let mut all: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for device in world.running() {
        let runtime = &world.devices[device].runtime;
        let replicas: BTreeSet<_> = runtime.replicas.keys().chain(&runtime.ending).collect();
        for replica in replicas {
            let Place::Ordinal(index) = replica.place else { panic!("{replica}") };
            all.entry(index).or_default().push(device);
        }
    }
    all
}

/// The places that run healthy.
fn ready(world: &World) -> BTreeSet<u32> {
    let devices = world.running().into_iter();
    let of = |device: usize| {
        let replicas = world.devices[device].runtime.replicas.iter();
        replicas.filter(|(_, it)| it.healthy).map(|(replica, _)| replica.place)
    };
    let index = |place| match place {
        Place::Ordinal(index) => index,
        place => panic!("{place:?}"),
    };
    devices.flat_map(of).map(index).collect()
}

/// The versions that run healthy, by place.
fn versions(world: &World) -> BTreeMap<u32, u32> {
    let mut versions = BTreeMap::new();
    for device in world.running() {
        for (replica, it) in &world.devices[device].runtime.replicas {
            let Place::Ordinal(index) = replica.place else { panic!("{replica}") };
            let version = (1..9).find(|version| db(*version, 1).revision() == it.generation);
            if it.healthy {
                versions.insert(index, version.unwrap());
            }
        }
    }
    versions
}

/// Lets a millisecond pass, and checks that no place has two instances.
fn tick(sim: &mut Simulation, when: &str) {
    sim.world.run_for(Duration::from_millis(1)).unwrap();
    let twice = instances(&sim.world).into_iter().find(|(_, devices)| devices.len() > 1);
    assert_eq!(twice, None, "{when}");
}

fn kill_owner(sim: &mut Simulation) {
    sim.apply(&"kill owner:db".parse().unwrap()).unwrap();
}

/// A replica is started when all before it are ready, also by the next owner.
#[test]
fn replicas_start_in_order_although_the_owner_dies() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &db(1, 4)).unwrap();
        let (mut seen, mut was_ready) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..6_000 {
            if step == 20 + seed * 12 {
                kill_owner(&mut sim);
            }
            let before = ready(&sim.world);
            tick(&mut sim, &format!("seed {seed}, {step} ms"));
            was_ready.extend(before);
            for index in instances(&sim.world).into_keys() {
                let first = seen.insert(index);
                let all = (0..index).all(|lower| was_ready.contains(&lower));
                assert!(!first || all, "seed {seed}, {step} ms: {index} after {was_ready:?}");
            }
        }
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(ready(&sim.world), (0..4).collect(), "seed {seed}");
    }
}

/// With `order: parallel` none waits for another.
#[test]
fn parallel_replicas_start_at_once() {
    let mut form = SpecForm::from(db(1, 4));
    form.kind = Kind::Stateful(Stateful { replicas: 4, order: Sequence::Parallel });
    let mut sim = cluster(3, 4);
    sim.apply(&"runtime n0 hangs".parse().unwrap()).unwrap();
    sim.apply(&"runtime n1 hangs".parse().unwrap()).unwrap();
    sim.publish(0, &form.try_into().unwrap()).unwrap();
    let all = |world: &World| instances(world).len() == 4;
    sim.world.run_till(Duration::from_secs(5), "all are started", all).unwrap();
    assert!(ready(&sim.world).len() < 4, "no start waited for these");
}

/// The last one ends first, and the next when nothing of it is left, also while the owner dies.
#[test]
fn replicas_end_in_order_although_the_owner_dies() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &db(1, 5)).unwrap();
        sim.settle().unwrap();
        sim.publish(0, &db(1, 1)).unwrap();
        let mut last = 4;
        for step in 0..4_000 {
            // A device that dies takes its replicas with it, so only the order of stops counts.
            if step == seed * 3 {
                kill_owner(&mut sim);
            }
            tick(&mut sim, &format!("seed {seed}, {step} ms"));
            for device in sim.world.running() {
                let ending = sim.world.devices[device].runtime.ending.iter();
                for replica in ending {
                    let Place::Ordinal(index) = replica.place else { panic!("{replica}") };
                    let there = instances(&sim.world);
                    let later = there.keys().find(|other| **other > index);
                    assert_eq!(later, None, "seed {seed}, {step} ms: {index} ends");
                    assert!(index <= last, "seed {seed}, {step} ms: {index} after {last}");
                    last = index;
                }
            }
        }
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(ready(&sim.world), [0].into(), "seed {seed}");
        sim.publish(0, &db(1, 3)).unwrap();
        sim.settle().unwrap();
        assert_eq!(ready(&sim.world), (0..3).collect(), "seed {seed}: and up again");
    }
}

/// One replica is replaced at a time, the last first, the old one stops before the new one starts,
/// and the update goes on when its owner dies.
#[test]
fn update_goes_down_one_by_one_and_never_runs_two_of_one() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &db(1, 4)).unwrap();
        sim.settle().unwrap();
        let node = sim.world.node(0).unwrap();
        let owner = node.workload(&name()).unwrap().owner.unwrap();
        sim.publish(usize::from(owner == "n0"), &db(2, 4)).unwrap();
        let mut order = Vec::new();
        for step in 0..20_000 {
            if seed > 4 && step == seed * 6 {
                kill_owner(&mut sim);
            }
            tick(&mut sim, &format!("seed {seed}, {step} ms"));
            let versions = versions(&sim.world);
            if seed <= 4 {
                assert!(versions.len() >= 3, "seed {seed}, {step} ms: {versions:?}");
            }
            let new = versions.iter().filter(|(_, version)| **version == 2);
            for (index, _) in new.filter(|(index, _)| !order.contains(*index)).collect::<Vec<_>>() {
                order.push(*index);
            }
            if order.len() == 4 && step > 500 {
                break;
            }
        }
        if seed <= 4 {
            assert_eq!(order, [3, 2, 1, 0], "seed {seed}");
        }
        sim.heal().unwrap();
        sim.settle().unwrap();
        let all = (0..4).map(|index| (index, 2)).collect();
        assert_eq!(versions(&sim.world), all, "seed {seed}");
    }
}

/// A replica whose device died is started elsewhere at once, although another one is not ready.
#[test]
fn replica_of_a_dead_device_waits_for_no_other() {
    let mut sim = cluster(1, 5);
    sim.publish(0, &db(1, 3)).unwrap();
    sim.settle().unwrap();
    let at = instances(&sim.world);
    // Replica 0 is away with its device, and finds no place: nothing starts anywhere but there.
    for device in 0..5 {
        sim.apply(&format!("runtime n{device} hangs").parse().unwrap()).unwrap();
    }
    let (first, last) = (at[&0][0], at[&2][0]);
    assert_ne!(first, last);
    sim.world.kill(first);
    let is_moved = |index: u32, from: usize| {
        move |world: &World| instances(world).get(&index).is_some_and(|it| it[0] != from)
    };
    let within = Duration::from_secs(10);
    sim.world.run_till(within, "0 is started elsewhere", is_moved(0, first)).unwrap();
    sim.world.kill(last);
    sim.world.run_till(within, "2 is started elsewhere", is_moved(2, last)).unwrap();
    assert!(!ready(&sim.world).contains(&0));
}

/// A replica belongs to the device with its volume: it waits for that, and no other has it.
#[test]
fn replica_with_a_volume_comes_back_where_it_is() {
    for seed in 0..5 {
        let mut form = SpecForm::from(container_workload("db", 1, 3));
        form.kind = Kind::Stateful(Stateful { replicas: 3, order: Sequence::Ordered });
        form.storage =
            vec![Volume { name: "data".into(), source: VolumeSource::Kept, on_loss: OnLoss::Wait }];
        if let shoal_protocol::model::spec::Program::Containers(all) = &mut form.program {
            let mount = Mount { volume: "data".into(), path: "/data".into(), read_only: false };
            all[0].mounts.push(mount);
        }
        let mut sim = cluster(seed, 4);
        sim.publish(0, &form.try_into().unwrap()).unwrap();
        sim.settle().unwrap();
        let at = instances(&sim.world);
        let home = at[&1][0];
        sim.world.kill(home);
        for _ in 0..60 {
            sim.world.run_for(Duration::from_secs(1)).unwrap();
            assert!(!instances(&sim.world).contains_key(&1), "seed {seed}");
        }
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(instances(&sim.world), at, "seed {seed}");
    }
}

/// A device that is emptied stops a replica before the next one starts it, also when the owner or
/// the next one dies in the middle.
#[test]
fn drained_replica_stops_before_another_device_starts_it() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &db(1, 4)).unwrap();
        sim.settle().unwrap();
        let at = instances(&sim.world)[&1][0];
        assert!(sim.set_policy(at, true, true).unwrap());
        for step in 0..6_000 {
            let there = instances(&sim.world);
            match seed % 4 {
                0 if step == 5 * seed => kill_owner(&mut sim),
                1 if there.get(&1).is_some_and(|it| it[0] != at)
                    && sim.world.running().len() > 4 =>
                {
                    sim.world.kill(there[&1][0]);
                }
                _ => {}
            }
            tick(&mut sim, &format!("seed {seed}, {step} ms"));
        }
        let (there, ready) = (instances(&sim.world), ready(&sim.world));
        assert_eq!(ready, (0..4).collect(), "seed {seed}: {there:?}");
        assert!(!there.values().any(|devices| devices.contains(&at)), "seed {seed}: {there:?}");
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
}

/// A device with several replicas of a workload is emptied: they go one after the other, and the
/// others are ready meanwhile.
#[test]
fn drained_replicas_leave_one_at_a_time() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 1);
        sim.publish(0, &db(1, 4)).unwrap();
        sim.settle().unwrap();
        sim.apply(&"join 2".parse().unwrap()).unwrap();
        sim.settle().unwrap();
        assert_eq!(instances(&sim.world)[&3], [0], "seed {seed}: they stay until they are to go");
        assert!(sim.set_policy(0, true, true).unwrap());
        for step in 0..4_000 {
            tick(&mut sim, &format!("seed {seed}, {step} ms"));
            let ready = ready(&sim.world);
            assert!(ready.len() >= 3, "seed {seed}, {step} ms: {ready:?}");
        }
        let there = instances(&sim.world);
        assert!(!there.values().any(|devices| devices.contains(&0)), "seed {seed}: {there:?}");
        sim.settle().unwrap();
    }
}
