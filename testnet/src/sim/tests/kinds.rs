//! Daemons, jobs and cron workloads.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::Kind;
use shoal_protocol::model::{Place, ReplicaId, Spec, SpecForm, WorkloadName};

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

/// The replicas that serve, by place: each with the number of devices that run it.
fn serving(world: &World) -> BTreeMap<Place, usize> {
    let mut serving = BTreeMap::new();
    for device in world.running() {
        for (replica, it) in &world.devices[device].runtime.replicas {
            if it.healthy || it.old.is_some() {
                *serving.entry(replica.place).or_default() += 1;
            }
        }
    }
    serving
}

/// The numbers of replicas of each version that serve, the latest last.
fn versions(world: &World, versions: u32) -> Vec<usize> {
    let count = |version: u32| {
        let generation = workload_of("web", version, KindWord::Rolling).revision();
        let devices = world.running().into_iter();
        let served = devices.flat_map(|device| world.devices[device].runtime.replicas.values());
        served.filter(|it| it.serves(generation)).count()
    };
    (1..=versions).map(count).collect()
}

fn state(world: &World) -> String {
    let node = world.node(world.running()[0]).unwrap();
    let view = node.workload(&"web".parse().unwrap()).unwrap();
    view.update.unwrap().state
}

fn rolling(seed: u64, size: usize) -> Simulation {
    let mut sim = cluster(seed, size);
    sim.publish(0, &workload_of("web", 1, KindWord::Rolling)).unwrap();
    sim.settle().unwrap();
    sim
}

/// One replica is replaced at a time, all places serve at every moment, and the update goes on when
/// its owner dies, or a device that was away comes back.
#[test]
fn update_replaces_one_at_a_time_although_its_owner_dies() {
    for seed in 0..10 {
        let mut sim = rolling(seed, 5);
        assert_eq!(state(&sim.world), "done");
        sim.publish(0, &workload_of("web", 2, KindWord::Rolling)).unwrap();
        let mut most = 0;
        for step in 0..400 {
            assert_eq!(serving(&sim.world).len(), 4, "seed {seed}, {step} ms");
            // Those that have not had their turn get requests as well.
            let (_, routes) = sim.world.node(0).unwrap().routes();
            let routes = &routes[&"web".parse::<WorkloadName>().unwrap()];
            assert_eq!(routes.len(), 4, "seed {seed}, {step} ms: {routes:?}");
            let replaced = sim.world.running().into_iter().flat_map(|device| {
                sim.world.devices[device].runtime.replicas.values().filter(|it| it.old.is_some())
            });
            most = most.max(replaced.count());
            sim.world.run_for(Duration::from_millis(1)).unwrap();
        }
        assert_eq!(most, 1, "seed {seed}");
        sim.settle().unwrap();
        assert_eq!(versions(&sim.world, 2), [0, 4], "seed {seed}");

        // The owner is not the only one that has the new version.
        let node = sim.world.node(0).unwrap();
        let owner = node.workload(&"web".parse().unwrap()).unwrap().owner.unwrap();
        let via = usize::from(owner == "n0");
        sim.publish(via, &workload_of("web", 3, KindWord::Rolling)).unwrap();
        sim.world.run_for(Duration::from_millis(5 * seed)).unwrap();
        sim.apply(&"kill owner:web".parse().unwrap()).unwrap();
        let done = |world: &World| versions(world, 3) == [0, 0, 4] && state(world) == "done";
        sim.world.run_till(Duration::from_secs(60), "the update is done", done).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(versions(&sim.world, 3), [0, 0, 4], "seed {seed}");
    }
}

/// The new version does not start anywhere: the old one serves all the time, all replicas run it
/// again in the end, and a version that works is taken afterwards.
#[test]
fn failed_update_goes_back_and_takes_nothing_down() {
    for seed in 0..10 {
        let mut sim = rolling(seed, 4);
        for device in 0..4 {
            sim.apply(&format!("runtime n{device} fails").parse().unwrap()).unwrap();
        }
        sim.publish(0, &workload_of("web", 2, KindWord::Rolling)).unwrap();
        let mut was = String::new();
        for step in 0..4_000 {
            assert_eq!(serving(&sim.world).len(), 4, "seed {seed}, step {step}");
            sim.world.run_for(Duration::from_millis(10)).unwrap();
            was = state(&sim.world);
            if was == "rolled-back" {
                break;
            }
        }
        assert_eq!(was, "rolled-back", "seed {seed}");
        sim.world.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!(versions(&sim.world, 2), [4, 0], "seed {seed}");
        sim.apply(&"kill owner:web".parse().unwrap()).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(state(&sim.world), "rolled-back", "seed {seed}: the next owner knows it");
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(versions(&sim.world, 2), [4, 0], "seed {seed}: also after a restart");
        sim.publish(0, &workload_of("web", 3, KindWord::Rolling)).unwrap();
        sim.settle().unwrap();
        let done = |world: &World| versions(world, 3) == [0, 0, 4];
        sim.world.run_till(Duration::from_secs(60), "the next version", done).unwrap();
    }
}

/// A version is published in place of one that has not proven good, and fails as well: all replicas
/// run the last one that was good.
#[test]
fn failed_update_goes_back_past_a_version_that_was_not_good() {
    for seed in 0..5 {
        let mut sim = rolling(seed, 4);
        for device in 0..4 {
            sim.apply(&format!("runtime n{device} fails").parse().unwrap()).unwrap();
        }
        sim.publish(0, &workload_of("web", 2, KindWord::Rolling)).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(state(&sim.world), "rolling", "seed {seed}");
        sim.publish(0, &workload_of("web", 3, KindWord::Rolling)).unwrap();
        let is_back = |world: &World| state(world) == "rolled-back";
        sim.world.run_till(Duration::from_secs(120), "it goes back", is_back).unwrap();
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        assert_eq!(versions(&sim.world, 3), [4, 0, 0], "seed {seed}");
        // The second version could not start either: it must not be what is wished for.
        let good = workload_of("web", 1, KindWord::Rolling).revision();
        for device in sim.world.running() {
            let spec = sim.world.node(device).unwrap().spec(&"web".parse().unwrap()).unwrap();
            assert_eq!(spec.revision(), good, "seed {seed}, n{device}");
        }
    }
}

/// Two replicas are replaced one by one, and a device dies: each of three, after each number of
/// effects that it asks for meanwhile. Never two are replaced at one time, and the update ends.
#[test]
fn update_of_two_outlives_a_crash_after_any_effect() {
    let two = |version: u32| {
        let mut form = SpecForm::from(workload_of("web", version, KindWord::Rolling));
        form.kind = Kind::Service { replicas: 2 };
        Spec::try_from(form).unwrap()
    };
    let mut crashes = 0;
    for device in 0..3 {
        for effects in 0..400 {
            let mut sim = cluster(7, 3);
            sim.publish(0, &two(1)).unwrap();
            sim.settle().unwrap();
            // Through a device that lives on, so that the new version is not lost.
            sim.publish((device + 1) % 3, &two(2)).unwrap();
            sim.apply(&format!("kill n{device} after {effects}").parse().unwrap()).unwrap();
            for _ in 0..300 {
                let replaced = sim.world.running().into_iter().flat_map(|device| {
                    let replicas = &sim.world.devices[device].runtime.replicas;
                    replicas.values().filter(|it| it.old.is_some())
                });
                assert!(replaced.count() <= 1, "n{device} dies after {effects} effects");
                sim.world.run_for(Duration::from_millis(1)).unwrap();
            }
            let has_died = sim.world.node(device).is_none();
            sim.world.devices[device].dies_after = None;
            sim.heal().unwrap();
            sim.settle().unwrap();
            assert_eq!(versions(&sim.world, 2), [0, 2], "n{device}, {effects} effects");
            assert_eq!(state(&sim.world), "done");
            crashes += usize::from(has_died);
            if !has_died {
                break;
            }
        }
    }
    assert!(crashes > 40, "{crashes} crashes: the update asks for more effects than that");
}
