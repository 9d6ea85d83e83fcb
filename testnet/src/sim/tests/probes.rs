//! Replicas with probes: what is not ready leaves the routes of all nodes and comes back, what is
//! not live is started again, and neither moves a replica without need.

use shoal_protocol::model::ReplicaId;

use super::*;

/// The time within which all nodes of a small cluster have heard of it.
const HEARD: Duration = Duration::from_secs(1);

fn name() -> shoal_protocol::model::WorkloadName {
    "web".parse().unwrap()
}

/// A device other than the one that the user talks to, and a replica that runs there.
fn victim(sim: &Simulation) -> (usize, ReplicaId) {
    let of = |device: usize| {
        let node = sim.world.node(device)?;
        node.own_claims().next().map(|claim| (device, claim.replica))
    };
    (1..sim.world.devices.len()).find_map(of).expect("a replica runs there")
}

/// The devices whose routes have a replica.
fn routed(world: &World, replica: &ReplicaId) -> usize {
    let has = |device: &usize| {
        let node = world.node(*device).unwrap();
        let routes = node.routes().1.get(&name());
        routes.is_some_and(|all| all.iter().any(|route| route.replica == *replica))
    };
    world.running().iter().filter(|device| has(device)).count()
}

fn until_routed(sim: &mut Simulation, replica: &ReplicaId, by: usize) {
    let what = format!("{by} devices have a route to it");
    sim.world.run_till(HEARD, &what, |world| routed(world, replica) == by).unwrap();
}

/// The starts of a replica on a device, and the device that claims it.
fn place(sim: &Simulation, replica: &ReplicaId) -> Vec<(usize, u64)> {
    let of = |device: usize| {
        let it = &sim.world.devices[device];
        it.node.as_ref()?.own_claim(replica)?;
        Some((device, it.runtime.replicas.get(replica)?.start))
    };
    sim.world.running().into_iter().filter_map(of).collect()
}

/// Its holder says that it is not ready, for minutes: no node sends it requests, and nothing else
/// follows. Then all nodes send it requests again.
#[test]
fn unready_replica_leaves_all_routes_and_comes_back() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 5);
        let (device, replica) = victim(&sim);
        let before = place(&sim, &replica);
        until_routed(&mut sim, &replica, 5);
        assert!(sim.world.turn_unready(device, replica));
        until_routed(&mut sim, &replica, 0);
        sim.world.run_for(Duration::from_secs(300)).unwrap();
        assert_eq!(routed(&sim.world, &replica), 0, "seed {seed}");
        assert_eq!(place(&sim, &replica), before, "seed {seed}: it was restarted or moved");
        sim.world.turn_ready(device, replica);
        until_routed(&mut sim, &replica, 5);
        sim.settle().unwrap();
        assert_eq!(place(&sim, &replica), before, "seed {seed}");
    }
}

/// The same of the version that serves while a new one does not come.
#[test]
fn unready_old_version_leaves_all_routes_and_comes_back() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 5);
        let (device, replica) = victim(&sim);
        sim.apply(&format!("runtime n{device} hangs").parse().unwrap()).unwrap();
        sim.publish(0, &workload("web", 2, 5)).unwrap();
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        // All other replicas have the new version, and get the requests.
        let serves = |sim: &Simulation| sim.world.node(device).unwrap().routes().1.clone();
        let old = workload("web", 1, 5).revision();
        let claimed = |sim: &Simulation| {
            let claim = sim.world.node(device).unwrap().own_claim(&replica).unwrap().clone();
            (claim.generation, claim.phase.as_str())
        };
        assert_eq!(claimed(&sim), (old, "healthy"), "seed {seed}");
        sim.world.turn_unready(device, replica);
        sim.world.run_for(HEARD).unwrap();
        assert_eq!(claimed(&sim), (old, "not-ready"), "seed {seed}");
        assert!(serves(&sim)[&name()].iter().all(|it| it.replica != replica), "seed {seed}");
        sim.world.turn_ready(device, replica);
        assert_eq!(claimed(&sim), (old, "healthy"), "seed {seed}");
        // It fails, and is started again.
        sim.world.fail_liveness(device, replica);
        assert_eq!(claimed(&sim), (old, "failing"), "seed {seed}");
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(claimed(&sim), (old, "healthy"), "seed {seed}");
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
}

/// The only replica, so that nothing else hides it: its old version fails while the new one hangs,
/// and answers again at all nodes.
#[test]
fn old_version_that_is_not_live_serves_again() {
    for seed in 0..20 {
        let mut sim = cluster(seed, 4);
        sim.publish(0, &workload("web", 1, 1)).unwrap();
        sim.settle().unwrap();
        let place = |world: &World| {
            let of = |device: usize| world.node(device)?.own_claims().next().map(|it| it.replica);
            world.running().into_iter().find_map(|device| Some((device, of(device)?))).unwrap()
        };
        let (device, replica) = place(&sim.world);
        sim.apply(&format!("runtime n{device} hangs").parse().unwrap()).unwrap();
        sim.publish(0, &workload("web", 2, 1)).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        until_routed(&mut sim, &replica, 4);
        for pause in [1, 2, 4] {
            sim.world.fail_liveness(device, replica);
            until_routed(&mut sim, &replica, 0);
            sim.world.run_for(Duration::from_secs(pause)).unwrap();
            until_routed(&mut sim, &replica, 4);
        }
        assert_eq!(place(&sim.world), (device, replica), "seed {seed}: it was moved");
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
}

/// A replica that is never live on one device ends up on another one, where it is.
#[test]
fn replica_that_is_not_live_here_ends_up_elsewhere() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 5);
        let (device, replica) = victim(&sim);
        for _ in 0..100 {
            sim.world.fail_liveness(device, replica);
            sim.world.run_for(Duration::from_millis(500)).unwrap();
        }
        let now: Vec<usize> = place(&sim, &replica).into_iter().map(|it| it.0).collect();
        assert_eq!(now.len(), 1, "seed {seed}");
        assert_ne!(now, [device], "seed {seed}");
        until_routed(&mut sim, &replica, 5);
        sim.settle().unwrap();
    }
}
