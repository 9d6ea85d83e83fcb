//! Daemons, jobs and cron workloads.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::{Place, ReplicaId};

use super::*;
use crate::sim::action::KindWord;
use crate::sim::operator::workload_of;

/// The replicas that run healthy, each with its device.
fn running(world: &World) -> Vec<(usize, ReplicaId)> {
    let devices = world.running().into_iter();
    let of = |device: usize| {
        let replicas = world.devices[device].runtime.replicas.iter();
        replicas.filter(|(_, it)| it.healthy).map(move |(replica, _)| (device, *replica))
    };
    devices.flat_map(of).collect()
}

/// How often each index of each run came to its end.
fn ends(world: &World) -> BTreeMap<Place, usize> {
    let mut ends = BTreeMap::new();
    for (_, replica, _) in &world.ends {
        *ends.entry(replica.place).or_default() += 1;
    }
    ends
}

/// Each device runs one replica of a daemon, a new one as well; no other device takes the place of
/// one that is down, and a drain leaves it where it is.
#[test]
fn daemon_runs_once_on_each_device() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &workload_of("agent", 1, KindWord::Daemon)).unwrap();
        sim.settle().unwrap();
        let on_each = |world: &World| {
            let at: Vec<(usize, ReplicaId)> = running(world);
            let devices: BTreeSet<usize> = at.iter().map(|(device, _)| *device).collect();
            let is_own = |(device, replica): &(usize, ReplicaId)| {
                replica.place == Place::OnNode(world.devices[*device].id)
            };
            at.len() == world.running().len() && devices.len() == at.len() && at.iter().all(is_own)
        };
        assert!(on_each(&sim.world), "seed {seed}: {:?}", running(&sim.world));
        sim.world.kill(2);
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        assert!(on_each(&sim.world), "seed {seed}: nobody else runs what belongs to the dead");
        assert!(sim.set_policy(1, true, true).unwrap());
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        assert!(on_each(&sim.world), "seed {seed}: a drained device keeps its daemons");
        sim.apply(&"join 1".parse().unwrap()).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert!(on_each(&sim.world), "seed {seed}: the new one and the one that is back");
        assert_eq!(sim.world.running().len(), 5);
    }
}

/// Each index of a job runs to its end once, while its owner and a holder die, and nothing of it
/// runs again after all devices were off.
#[test]
fn job_is_done_once_although_devices_die() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 5);
        sim.publish(0, &workload_of("load", 1, KindWord::Job)).unwrap();
        sim.world.run_for(Duration::from_millis(200 + seed * 100)).unwrap();
        sim.world.kill((seed % 5) as usize);
        let is_over = |world: &World| {
            let up = world.running();
            let node = world.node(up[0]).unwrap();
            let view = node.workload(&"load".parse().unwrap()).unwrap();
            view.job.as_deref() == Some("done")
        };
        sim.world.run_till(Duration::from_secs(60), "the job is done", is_over).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        let before = sim.world.ends.len();
        for device in 0..5 {
            sim.world.kill(device);
        }
        sim.heal().unwrap();
        sim.settle().unwrap();
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        assert_eq!(sim.world.ends.len(), before, "seed {seed}: it ran again");
        assert!(running(&sim.world).is_empty());
        let ends = ends(&sim.world);
        assert_eq!(ends.len(), 3, "seed {seed}: {ends:?}");
        // What the dead device had not told runs once more.
        assert!(ends.values().all(|times| *times <= 2), "seed {seed}: {ends:?}");
    }
}

/// Without a fault, each index runs exactly once, two at one time.
#[test]
fn job_runs_each_index_once_and_so_many_at_a_time() {
    let mut sim = cluster(1, 3);
    sim.publish(0, &workload_of("load", 1, KindWord::Job)).unwrap();
    let mut most = 0;
    for _ in 0..20_000 {
        sim.world.run_for(Duration::from_millis(1)).unwrap();
        most = most.max(running(&sim.world).len());
    }
    assert_eq!(most, 2);
    let once: BTreeMap<Place, usize> =
        (0..3).map(|index| (Place::Run { at: 0, index }, 1)).collect();
    assert_eq!(ends(&sim.world), once);
}

/// A job that fails is tried again as often as it says, on whatever device, and is failed then; its
/// exit code and last lines are there, also on a device that joins later.
#[test]
fn failing_job_ends_with_its_result() {
    let mut sim = cluster(2, 3);
    for device in 0..3 {
        sim.apply(&format!("runtime n{device} dies").parse().unwrap()).unwrap();
    }
    sim.publish(0, &workload_of("load", 1, KindWord::Job)).unwrap();
    let view = |world: &World, device: usize| {
        world.node(device).unwrap().workload(&"load".parse().unwrap()).unwrap()
    };
    let failed = |world: &World| view(world, 0).job.as_deref() == Some("failed");
    sim.world.run_till(Duration::from_secs(600), "the job fails", failed).unwrap();
    sim.apply(&"join 1".parse().unwrap()).unwrap();
    sim.settle().unwrap();
    let result = view(&sim.world, 3).results.remove(0);
    assert_eq!((result.outcome.as_str(), result.exit_code), ("failed", Some(3)));
    assert_eq!(result.lines, ["end"]);
    let before = sim.world.ends.len();
    sim.world.run_for(Duration::from_secs(120)).unwrap();
    assert_eq!(sim.world.ends.len(), before, "a failed job is not tried again");
}

/// Each minute has one run, while the owner is killed and comes back again and again.
#[test]
fn tick_runs_once_although_owners_die() {
    for seed in 0..5 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &workload_of("clean", 1, KindWord::Cron)).unwrap();
        for round in 0..8 {
            sim.world.run_for(Duration::from_secs(40)).unwrap();
            let owner = sim.apply(&"kill owner:clean".parse().unwrap());
            owner.unwrap_or_else(|why| panic!("seed {seed}, round {round}: {why}"));
            sim.world.run_for(Duration::from_secs(5)).unwrap();
            sim.heal().unwrap();
        }
        sim.settle().unwrap();
        let mut runs: Vec<u64> = ends(&sim.world)
            .into_keys()
            .map(|place| match place {
                Place::Run { at, .. } => at,
                place => panic!("{place:?}"),
            })
            .collect();
        runs.sort_unstable();
        let gaps: Vec<u64> = runs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(runs.len() >= 5, "seed {seed}: {runs:?}");
        assert!(gaps.iter().all(|gap| *gap == 60_000), "seed {seed}: {gaps:?}");
    }
}
