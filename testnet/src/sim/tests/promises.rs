//! Answers to users hold, also those of a node that missed a change, or whose disk is full.

use shoal_protocol::model::WorkloadName;

use super::*;
use crate::sim::device::Device;
use crate::sim::operator::Outcome;

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

/// Replicas of `web` in a device's desired state.
fn desired_replicas(world: &World, device: usize) -> Option<u32> {
    world.node(device)?.spec(&web()).map(|spec| spec.replicas())
}

/// n0 acknowledged a scale while n1 was down, and was lost. n1 was asked for the value that it
/// still had, answered "is up to date" and wrote nothing. When n0 returned, its older change won.
/// The last acknowledged write must win.
#[test]
fn last_acknowledged_write_outlasts_a_stale_node() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 2);
        sim.publish(0, &workload("web", 1, 2)).unwrap();
        sim.settle().unwrap();
        sim.world.kill(1);
        sim.publish(0, &workload("web", 1, 1)).unwrap();
        sim.world.kill(0);
        sim.world.start(1, false, &[]);
        let is_ready = |world: &World| world.node(1).is_some_and(|node| node.is_ready());
        sim.world.run_till(Duration::from_secs(30), "n1 acts on what it knows", is_ready).unwrap();
        assert_eq!(desired_replicas(&sim.world, 1), Some(2), "it has missed the change");
        sim.publish(1, &workload("web", 1, 2)).unwrap();
        sim.world.start(0, false, &[]);
        sim.settle().unwrap();
        assert_eq!(
            (desired_replicas(&sim.world, 0), desired_replicas(&sim.world, 1)),
            (Some(2), Some(2)),
            "seed {seed}"
        );
    }
}

/// As above, within a second of the cut: the link still counts as up, and a comparison a moment ago
/// found no difference.
#[test]
fn cut_link_does_not_confirm_an_unchanged_workload() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &workload("web", 1, 2)).unwrap();
        sim.settle().unwrap();
        sim.world.partition(&[0], &[1, 2], true);
        sim.publish(0, &workload("web", 1, 1)).unwrap();
        // n1 has this value already. If it wrote nothing, the write at n0 would win.
        sim.publish(1, &workload("web", 1, 2)).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap();
        assert_eq!(desired_replicas(&sim.world, 0), Some(2), "seed {seed}");
    }
}

/// Repeating a publish in a healthy cluster must write nothing and return quickly.
#[test]
fn repeated_publish_in_a_healthy_cluster_writes_nothing() {
    let mut sim = cluster(3, 5);
    sim.publish(0, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    let holds =
        |world: &World| world.devices.iter().map(|it| it.disk.desired.clone()).collect::<Vec<_>>();
    let before = holds(&sim.world);
    for device in 0..5 {
        let (outcome, change) =
            sim.operator.publish(&mut sim.world, device, &workload("web", 1, 3)).unwrap();
        assert_eq!((outcome, change), (Outcome::Unchanged, None), "n{device}");
    }
    sim.world.run_for(Duration::from_secs(5)).unwrap();
    assert!(before == holds(&sim.world));
}

fn read_only(world: &World, device: usize) -> bool {
    world.node(device).is_some_and(|node| node.status().read_only.is_some())
}

/// The first write to a full disk was refused with "nothing changed", and 3 to 30 seconds later it
/// took effect in the whole cluster. It must never take effect, also not after the disk has room
/// again or the node restarts.
#[test]
fn refused_change_is_never_seen_anywhere() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 3);
        sim.publish(0, &workload("web", 1, 3)).unwrap();
        sim.settle().unwrap();
        sim.world.devices[2].disk.full = true;
        let (outcome, change) =
            sim.operator.publish(&mut sim.world, 2, &workload("web", 1, 1)).unwrap();
        assert!(
            matches!(&outcome, Outcome::Refused(why) if why.contains("takes no writes")),
            "{outcome:?}"
        );
        let change = change.expect("it was signed");
        let nobody_has_it = |sim: &Simulation| {
            for (device, it) in sim.world.devices.iter().enumerate() {
                let has = |node: &shoal_protocol::node::Node| {
                    node.holds_change(&change.signed.key, &change.hash())
                };
                assert!(!it.node.as_ref().is_some_and(has), "seed {seed}: n{device}");
                assert_eq!(desired_replicas(&sim.world, device), Some(3), "seed {seed}: n{device}");
            }
        };
        nobody_has_it(&sim);
        sim.world.run_for(Duration::from_secs(40)).unwrap();
        nobody_has_it(&sim);
        assert!(read_only(&sim.world, 2));
        sim.world.devices[2].disk.full = false;
        sim.world
            .run_till(Duration::from_secs(40), "it takes writes", |world| !read_only(world, 2))
            .unwrap();
        sim.settle().unwrap();
        nobody_has_it(&sim);
        sim.world.kill(2);
        sim.world.start(2, false, &[]);
        sim.settle().unwrap();
        nobody_has_it(&sim);
    }
}

/// A full disk made a node read-only until a restart. It must find free room by itself, and then
/// persist the changes that it received meanwhile.
#[test]
fn disk_with_room_again_is_found_without_a_restart() {
    let mut sim = cluster(1, 3);
    sim.publish(0, &workload("web", 1, 3)).unwrap();
    sim.settle().unwrap();
    let boots: Vec<u32> = sim.world.devices.iter().map(|it| it.boot).collect();
    sim.world.devices[1].disk.full = true;
    sim.publish(1, &workload("web", 1, 2)).unwrap();
    assert!(read_only(&sim.world, 1));
    sim.publish(0, &workload("more", 1, 2)).unwrap();
    sim.remove(0, "web").unwrap();
    sim.world.run_for(Duration::from_secs(20)).unwrap();
    sim.world.devices[1].disk.full = false;
    sim.world
        .run_till(Duration::from_secs(40), "it takes writes", |world| !read_only(world, 1))
        .unwrap();
    sim.publish(1, &workload("third", 1, 3)).unwrap();
    sim.settle().unwrap();
    assert_eq!(
        sim.world.devices.iter().map(|it| it.boot).collect::<Vec<_>>(),
        boots,
        "nobody was restarted"
    );
    let keys = |it: &Device| it.disk.desired.clone();
    assert!(keys(&sim.world.devices[1]) == keys(&sim.world.devices[0]));
    // The claims must be on disk too: a start without network restores them.
    let claims = |world: &World| {
        world.node(1).unwrap().own_claims().map(|claim| claim.replica).collect::<Vec<_>>()
    };
    let before = claims(&sim.world);
    assert!(!before.is_empty());
    sim.world.kill(1);
    sim.world.partition(&[1], &[0, 2], true);
    sim.world.start(1, false, &[]);
    assert_eq!(claims(&sim.world), before);
}
