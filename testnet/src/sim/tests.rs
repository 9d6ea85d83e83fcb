mod after;
mod balancing;
mod busy;
mod containers;
mod emptying;
mod failovers;
mod kinds;
mod liars;
mod moves;
mod no_way;
mod outgrown;
mod priority;
mod probes;
mod promises;
mod resources;
mod restarts;
mod returns;
mod scaling;
mod stateful;
mod steps;
mod versions;

use std::time::Duration;

use shoal_protocol::node::DialTarget;

use super::error::SimError;
use super::history::{failure, run_fast, run_hashed};
use super::invariants;
use super::network::{Gossip, Weather};
use super::operator::workload;
use super::scenario::{self, Scenario};
use super::simulation::Simulation;
use super::world::World;

/// A cluster in which each device runs a replica of `web`.
fn at_work(seed: u64, size: usize) -> Simulation {
    let mut sim = cluster(seed, size);
    sim.publish(0, &workload("web", 1, size as u32)).unwrap();
    sim.settle().unwrap();
    sim
}

fn cluster(seed: u64, size: usize) -> Simulation {
    Simulation::with(seed, World::new(seed), size)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

fn all_well(sim: &Simulation) -> bool {
    invariants::at_rest(&sim.world, &sim.workloads).is_ok()
}

/// Fixed seeds, as a regression test. `cargo testnet sim --minutes` tries new ones.
#[test]
fn hundred_random_histories_end_well() {
    let failed: Vec<String> = (0..100)
        .filter_map(|seed| run_fast(seed).err().map(|error| failure(seed, None, &error)))
        .collect();
    // The first report in full is enough; `cargo testnet sim --seed N` prints the others.
    let short: Vec<&str> = failed.iter().filter_map(|error| error.lines().next()).collect();
    assert!(failed.is_empty(), "{} of 100 failed: {short:#?}\n{}", failed.len(), failed[0]);
}

/// Every built-in scenario must converge and say what it is about.
#[test]
fn every_scenario_ends_well() {
    for name in scenario::names() {
        let scenario = Scenario::parse(scenario::built_in(name).unwrap()).unwrap();
        assert!(!scenario.about.is_empty(), "{name} does not say what it is about");
        for seed in 0..3 {
            if let Err(why) = scenario.run(seed, false) {
                panic!("{}", failure(seed, Some(name), &why.to_string()));
            }
        }
    }
}

/// Reports name a seed: two runs of it must do the same, step for step.
#[test]
fn same_seed_gives_the_same_history() {
    let hash = |seed| run_hashed(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}")).history;
    for seed in [3, 14] {
        assert_eq!(hash(seed), hash(seed));
    }
    assert_ne!(hash(3), hash(14));
}

/// The holder of replicas is killed. Others must hold them, healthy, within ten seconds.
#[test]
fn a_killed_nodes_replicas_are_claimed_elsewhere() {
    let mut sim = cluster(1, 5);
    sim.publish(0, &workload("web", 1, 4)).unwrap();
    sim.settle().unwrap();
    let victim = (1..5)
        .find(|i| sim.world.devices[*i].node.as_ref().unwrap().own_claims().next().is_some())
        .unwrap();
    sim.world.kill(victim);
    let workloads = &sim.workloads;
    sim.world
        .run_till(Duration::from_secs(10), "the replicas are healthy elsewhere", |world| {
            invariants::at_rest(world, workloads).is_ok()
        })
        .unwrap();
}

/// Two of three nodes die. The survivor must run all replicas and accept new workloads.
#[test]
fn the_last_survivor_runs_everything_and_takes_writes() {
    let mut sim = cluster(2, 3);
    sim.publish(0, &workload("web", 1, 2)).unwrap();
    sim.settle().unwrap();
    sim.world.kill(0);
    sim.world.kill(1);
    sim.publish(2, &workload("more", 1, 1)).unwrap();
    let workloads = &sim.workloads;
    sim.world
        .run_till(Duration::from_secs(20), "the survivor runs all", |world| {
            invariants::at_rest(world, workloads).is_ok()
        })
        .unwrap();
    assert!(all_well(&sim));
}

/// A holder is cut off and the others take over its replicas. After the partition both claim them,
/// healthy, and the older claim must be kept.
#[test]
fn after_a_partition_the_older_claim_is_kept() {
    let mut sim = cluster(4, 4);
    sim.publish(0, &workload("web", 1, 4)).unwrap();
    sim.settle().unwrap();
    let holder = (0..4)
        .find(|i| sim.world.devices[*i].node.as_ref().unwrap().own_claims().next().is_some())
        .unwrap();
    let before: Vec<_> = sim.world.devices[holder]
        .node
        .as_ref()
        .unwrap()
        .own_claims()
        .map(|claim| claim.replica)
        .collect();
    let others: Vec<usize> = (0..4).filter(|i| *i != holder).collect();
    sim.world.partition(&[holder], &others, true);
    sim.world
        .run_till(Duration::from_secs(30), "the others took over", |world| {
            before.iter().all(|replica| {
                others
                    .iter()
                    .any(|i| world.devices[*i].node.as_ref().unwrap().own_claim(replica).is_some())
            })
        })
        .unwrap();
    sim.heal().unwrap();
    sim.settle().unwrap();
    for replica in before {
        let kept = sim.world.devices[holder].node.as_ref().unwrap().own_claim(&replica);
        assert!(
            kept.is_some(),
            "{replica} was healthy on both sides, and the older claim was not kept"
        );
    }
}

/// All nodes lose power and one starts alone. It must run what it claims within a second.
#[test]
fn node_restarts_its_claims_without_network() {
    let mut sim = cluster(5, 3);
    sim.publish(0, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    let claims: Vec<_> = sim.world.devices[1]
        .node
        .as_ref()
        .unwrap()
        .own_claims()
        .map(|claim| claim.replica)
        .collect();
    assert!(!claims.is_empty(), "three replicas spread over three nodes");
    for device in 0..3 {
        sim.world.kill(device);
    }
    sim.world.start(1, false, &[]);
    sim.world
        .run_till(Duration::from_secs(1), "its replicas run again", |world| {
            claims.iter().all(|replica| {
                world.devices[1].runtime.replicas.get(replica).is_some_and(|it| it.healthy)
            })
        })
        .unwrap();
}

/// A node is down while a workload is deleted. Its outdated disk must not bring the workload back.
#[test]
fn deleted_workload_stays_deleted_when_an_old_node_returns() {
    let mut sim = cluster(6, 4);
    sim.publish(0, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    sim.world.kill(3);
    sim.remove(0, "web").unwrap();
    sim.world.run_for(Duration::from_secs(30)).unwrap();
    sim.world.start(3, false, &[]);
    sim.settle().unwrap();
}

/// Six workloads run well. A new empty node joins, and every claim must stay where it is.
#[test]
fn joining_node_moves_no_replica() {
    let mut sim = cluster(7, 4);
    for number in 0..6 {
        sim.publish(0, &workload(&format!("w{number}"), 1, 2)).unwrap();
    }
    sim.settle().unwrap();
    let held = |sim: &Simulation| -> Vec<Vec<_>> {
        (0..4)
            .map(|i| {
                sim.world.devices[i]
                    .node
                    .as_ref()
                    .unwrap()
                    .own_claims()
                    .map(|claim| claim.replica)
                    .collect()
            })
            .collect()
    };
    let before = held(&sim);
    let joiner = sim.world.add();
    sim.world.start(joiner, false, &[0]);
    sim.settle().unwrap();
    assert_eq!(held(&sim), before);
}

/// A joining node that had only its own admission took itself for the only member. It must know the
/// other members and the workloads before it reports ready.
#[test]
fn joining_node_is_ready_only_after_it_knows_the_members() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &workload("web", 1, 2)).unwrap();
        sim.settle().unwrap();
        let joiner = sim.world.add();
        sim.world.start(joiner, false, &[0]);
        let view = |world: &World| world.devices[joiner].node.as_ref().unwrap().status();
        while !view(&sim.world).ready {
            assert!(
                sim.world.run_for(Duration::from_micros(100)).is_ok()
                    && sim.world.now < 600_000_000
            );
        }
        let view = view(&sim.world);
        assert_eq!(
            (view.nodes, view.workloads),
            (4, 1),
            "seed {seed}: it was ready without knowing what there is"
        );
    }
}

/// The winner's claim reached the owner before the gossip of its slot did, and the owner awarded
/// the place again as if it had no holder. Each place must be awarded once.
#[test]
fn late_gossip_causes_no_second_award() {
    for late in [1_000, 100_000, 1_000_000] {
        let mut sim = cluster(10, 5);
        sim.world.network.gossip = Gossip::Late(late);
        sim.publish(0, &workload("web", 1, 3)).unwrap();
        sim.settle().unwrap();
        let awards = |i: usize| {
            sim.world.devices[i].node.as_ref().unwrap().status().counters.get("awards").copied()
        };
        let awards: u64 = (0..5).filter_map(awards).sum();
        assert_eq!(awards, 3, "gossip was late by {late} us");
    }
}

/// Every message that only gossip carried is lost, the artifact holders that `publish` waits for
/// among it. Repair must bring all of it.
#[test]
fn cluster_converges_without_gossip() {
    let mut sim = cluster(11, 5);
    sim.world.network.gossip = Gossip::Lost;
    sim.publish(1, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    sim.world
        .run_till(
            Duration::from_secs(30),
            "all guardians are known to hold the artifact",
            |world| {
                let view = world.devices[1].node.as_ref().unwrap().workloads().remove(0);
                view.artifact_holders >= view.guardians.len()
            },
        )
        .unwrap();
    sim.remove(2, "web").unwrap();
    sim.settle().unwrap();
}

#[test]
fn acknowledged_write_survives_a_crash_of_its_node() {
    let mut sim = cluster(8, 3);
    sim.publish(1, &workload("web", 1, 1)).unwrap();
    // The node dies right after its answer: the change is on its disk and must return with it.
    sim.world.kill(1);
    sim.world.run_for(Duration::from_secs(5)).unwrap();
    sim.world.start(1, false, &[]);
    sim.settle().unwrap();
}

/// Each disk sync takes five seconds. Probes and votes wait for no disk, so no node may be taken
/// for dead.
#[test]
fn slow_disk_is_not_taken_for_a_death() {
    let mut sim = cluster(9, 5);
    sim.publish(0, &workload("web", 1, 5)).unwrap();
    sim.settle().unwrap();
    sim.world.fsync = 5_000_000;
    sim.world.network.weather = Weather { delay: 2_000, jitter: 5_000, loss: 10, ..Weather::LAN };
    sim.publish(1, &workload("more", 1, 5)).unwrap();
    for _ in 0..100 {
        sim.world.run_for(Duration::from_secs(1)).unwrap();
        for device in &sim.world.devices {
            assert_eq!(device.node.as_ref().unwrap().nodes_up(), 5);
        }
    }
}

/// Both ends of a lost link dialled at the same time. The simulator closed the first link at one
/// end when the second dial arrived, so the two ends kept different links and dialled again for
/// ever, and two holders of one replica could not settle their dispute. One link must be left.
#[test]
fn crossing_dials_leave_one_link() {
    let mut sim = cluster(65, 2);
    let ids = [sim.world.devices[0].id, sim.world.devices[1].id];
    for (from, to) in [(0, 1), (1, 0)] {
        let addresses = [format!("/memory/{}", to + 1)];
        sim.world.dial(from, DialTarget::Node(ids[to]), &addresses);
    }
    for _ in 0..20 {
        sim.world.run_for(Duration::from_micros(100)).unwrap();
        for (one, other) in [(0, 1), (1, 0)] {
            assert!(sim.world.devices[one].links.contains_key(&other), "n{one} has lost its link");
        }
    }
}

/// Beyond a full mesh an owner is linked to few bidders, and two holders of a replica need not be
/// linked. Each must still reach the other, over links made on demand.
#[test]
fn nodes_link_on_demand_beyond_a_full_mesh() {
    let mut sim = cluster(12, 48);
    for number in 0..8 {
        sim.publish(number, &workload(&format!("w{number}"), 1, 4)).unwrap();
    }
    sim.settle().unwrap();
    let (left, right): (Vec<usize>, Vec<usize>) = (0..48).partition(|device| device % 2 == 0);
    sim.world.partition(&left, &right, true);
    sim.world
        .run_till(Duration::from_secs(60), "each half runs everything", |world| {
            [&left, &right].into_iter().all(|half| {
                let claims = half
                    .iter()
                    .map(|i| world.devices[*i].node.as_ref().unwrap().own_claims().count());
                claims.sum::<usize>() >= 32
            })
        })
        .unwrap();
    sim.heal().unwrap();
    sim.settle().unwrap();
    for device in &sim.world.devices {
        let undeliverable =
            device.node.as_ref().unwrap().status().counters.get("sends_undeliverable").copied();
        assert_eq!(undeliverable, None, "{} had something to say and did not", device.name);
        assert!(device.links.len() < 48, "{} has {} links", device.name, device.links.len());
    }
}

/// A node was away, came back and ran what it had claimed. As the older holder it took the replicas
/// back from the healthy new holders. They must stay where they are.
#[test]
fn returning_node_takes_nothing_back() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &workload("web", 1, 4)).unwrap();
        sim.settle().unwrap();
        sim.world.kill(1);
        sim.world.run_for(Duration::from_secs(10)).unwrap();
        let before = invariants::healthy_once(&sim.world);
        assert_eq!(before.len(), 4, "seed {seed}: the others have taken over");
        sim.world.start(1, false, &[]);
        sim.settle().unwrap();
        assert_eq!(invariants::healthy_once(&sim.world), before, "seed {seed}");
    }
}

/// A node with a link did not dial its seeds. Two joining nodes were linked to each other only, so
/// neither reached a member. They must go on dialling.
#[test]
fn joining_nodes_do_not_wait_for_each_other() {
    let mut sim = cluster(13, 3);
    let (one, other) = (sim.world.add(), sim.world.add());
    sim.world.partition(&[one, other], &[0, 1, 2], true);
    sim.world.start(one, false, &[0]);
    sim.world.start(other, false, &[one, 0]);
    sim.world.run_for(Duration::from_secs(20)).unwrap();
    sim.heal().unwrap();
    sim.settle().unwrap();
}

/// Both devices of a cloned key took links from each other as fast as messages travel, and each
/// overwrote the other's record on disk. Both must be slow, and one must warn.
#[test]
fn cloned_key_is_reported_and_causes_few_writes() {
    let mut sim = cluster(14, 3);
    sim.publish(0, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    let twin = sim.world.clone_of(1);
    sim.world.start(twin, false, &[]);
    let (steps, commits) = (sim.world.steps, sim.world.devices[1].disk.commits);
    sim.world.run_for(Duration::from_secs(600)).unwrap();
    let (steps, commits) = (sim.world.steps - steps, sim.world.devices[1].disk.commits - commits);
    assert!(steps < 100_000, "{steps} steps in ten minutes");
    assert!(commits < 400, "{commits} writes in ten minutes");
    let told = |device: usize| {
        sim.world.node(device).unwrap().status().warnings.join(" ").contains("identity")
    };
    assert!(told(1) || told(twin), "nobody says what is wrong");
}

/// After a heal an owner believed nodes to be down that others knew to be up. It awarded their
/// replicas; the winner yielded at once and was awarded again, many times a second. The histories
/// of these seeds had such disputes.
#[test]
fn healthy_replica_is_not_awarded_again() {
    for seed in [2036, 2061, 2175, 2243, 2333] {
        run_fast(seed).map_err(|why| panic!("seed {seed}: {why}")).ok();
    }
}

/// An author of a scenario must learn which line is wrong, and what would be right.
#[test]
fn wrong_scenario_is_refused_with_its_line() {
    for (text, why) in [
        ("nodes 3\nat 1s kil n0", "line 2: `kil` is no action; known are"),
        ("nodes none", "line 1: `none` is not a number of devices"),
        ("# a\n\nat soon kill n0", "line 3: `soon` is no time"),
        ("at 5s mend\nat 1s mend", "line 2: it is earlier than the line before"),
        ("kill n0", "line 1: `kill` begins no line"),
        ("nodes 0", "line 1: 1 to 10000 devices can be had"),
    ] {
        let error = Scenario::parse(text).expect_err(text);
        assert!(error.starts_with(why), "{text}: {error}");
    }
    // Errors that depend on the state of the world.
    for (text, why) in [
        ("at 1s mend\nat 1s kill n7", "line 2: `kill n7`: there is no n7, the last is n2"),
        ("at 1s start n0", "line 1: `start n0`: n0 runs already"),
        (
            "nodes 2\nat 1s join 1\nat 9s lose n0\nat 9s lose n1\nat 9s lose n2",
            "line 5: `lose n2`: n2 is the last member",
        ),
    ] {
        match Scenario::parse(text).unwrap().run(0, false) {
            Err(SimError::Impossible(error)) => assert!(error.starts_with(why), "{text}: {error}"),
            other => panic!("{text}: {:?}", other.map(|ended| ended.steps)),
        }
    }
}

/// Whether a replica has a holder depends on the seed. An action without one must be logged and
/// skipped.
#[test]
fn action_without_a_target_is_skipped() {
    let text = "at 1s cut holder:web/0 n1\nat 1s isolate owner:web\nat 1s publish web 1 via \
        holder:db/0\nat 2s kill holder:web/0";
    Scenario::parse(text).unwrap().run(0, false).unwrap();
}

/// A panic in a node must be reported like a broken invariant, with the trace.
#[test]
fn panic_is_reported_with_the_trace() {
    let outcome = cluster(3, 2).run(|sim| {
        sim.world.log(1, "is about to break");
        panic!("nobody has thought of this");
    });
    let Err(SimError::Broken(why)) = outcome else { panic!("it went on") };
    assert!(why.starts_with("a panic: nobody has thought of this\nat "), "{why}");
    assert!(why.contains("n1: is about to break"), "{why}");
}
