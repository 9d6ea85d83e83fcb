//! Workloads that wait for others before they are placed for the first time.

use shoal_protocol::model::{Spec, SpecForm, WorkloadName};

use super::*;
use crate::sim::action::KindWord;
use crate::sim::operator::workload_of;

/// It waits until `db` is ready and the job `load` is done.
fn web(replicas: u32) -> Spec {
    let mut form = SpecForm::from(workload("web", 1, replicas));
    form.later.after = vec!["db".parse().unwrap(), "load:done".parse().unwrap()];
    form.try_into().unwrap()
}

fn healthy(world: &World, name: &str) -> u32 {
    let name: WorkloadName = name.parse().unwrap();
    let node = world.node(world.running()[0]).unwrap();
    node.workload(&name).map_or(0, |view| view.healthy)
}

fn reason(world: &World) -> String {
    let node = world.node(world.running()[0]).unwrap();
    let view = node.workload(&"web".parse().unwrap()).unwrap();
    view.replicas[0].reason.clone().unwrap_or_default()
}

/// It is placed when the last of the others is far enough, also by the next owner; afterwards it
/// waits for none of them.
#[test]
fn workload_waits_for_others_once_although_owners_die() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &web(3)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        assert_eq!(reason(&sim.world), "waits for db, and there is no such workload");
        sim.publish(0, &workload("db", 1, 2)).unwrap();
        let ready = |world: &World| healthy(world, "db") == 2;
        sim.world.run_till(Duration::from_secs(10), "db is ready", ready).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(healthy(&sim.world, "web"), 0, "seed {seed}: the job is not there");
        sim.publish(0, &workload_of("load", 1, KindWord::Job)).unwrap();
        if seed % 2 == 1 {
            sim.world.run_for(Duration::from_millis(300 * seed)).unwrap();
            sim.apply(&"kill owner:web".parse().unwrap()).unwrap();
        }
        let placed = |world: &World| healthy(world, "web") > 0;
        sim.world.run_till(Duration::from_secs(120), "web is placed", placed).unwrap();
        let load: WorkloadName = "load".parse().unwrap();
        let up = sim.world.running()[0];
        let job = sim.world.node(up).unwrap().workload(&load).unwrap().job;
        assert_eq!(job.as_deref(), Some("done"), "seed {seed}");
        sim.heal().unwrap();
        sim.settle().unwrap();

        // No device runs `db` any more, and a replica is still replaced at once.
        sim.publish(0, &workload("db", 1, 0)).unwrap();
        sim.settle().unwrap();
        sim.world.kill((seed % 5) as usize);
        let all = |world: &World| healthy(world, "web") == 3;
        sim.world.run_till(Duration::from_secs(60), "all run again", all).unwrap();
    }
}
