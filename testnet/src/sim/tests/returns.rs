//! Nodes that were away, and what they bring back.

use super::*;

/// Two nodes came back while a third woke up that had missed what happened. They were in step with
/// both, and so thought that they knew all. A fourth, slow to answer, had taken over what they had
/// run; what it ran well went back for nothing.
#[test]
fn returning_node_waits_for_peers_not_compared_with() {
    for seed in 0..20 {
        let mut sim = at_work(seed, 4, 4);
        sim.world.pause(0, 15_000_000);
        (1..3).for_each(|device| sim.world.kill(device));
        sim.world.run_for(Duration::from_secs(15)).unwrap();
        let before = invariants::healthy_once(&sim.world);
        sim.world.devices[3].inbox.slowness = 20_000;
        (1..3).for_each(|device| sim.world.start(device, false, &[]));
        sim.world.run_for(Duration::from_millis(300)).unwrap();
        sim.world.devices[3].inbox.slowness = 0;
        sim.settle().unwrap();
        let after = invariants::healthy_once(&sim.world);
        assert!(
            before.iter().all(|(replica, place)| after.get(replica) == Some(place)),
            "seed {seed}: {before:?} {after:?}"
        );
    }
}

/// One that was cut off found one of the others again, and through it a new version of what it ran.
/// It replaced its own replica and said that it was healthy, a moment before it saw the node that
/// had taken over: what ran there well went back for nothing.
#[test]
fn returning_node_delays_health_of_replicas_taken_over() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 5, 1);
        let holder = holders(&sim.world)[0];
        let others: Vec<usize> = (0..5).filter(|device| *device != holder).collect();
        sim.world.partition(&[holder], &others, true);
        sim.world.run_for(Duration::from_secs(12)).unwrap();
        sim.publish(others[0], &workload("web", 2, 1)).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        let taker = holders(&sim.world)
            .into_iter()
            .find(|device| *device != holder)
            .expect("somebody took over");
        let others: Vec<usize> = others.into_iter().filter(|device| *device != taker).collect();
        sim.world.partition(&[holder], &others, false);
        let is_back = |world: &World| {
            others.iter().any(|other| world.devices[holder].links.contains_key(other))
        };
        sim.world.run_till(Duration::from_secs(30), "a link is back", is_back).unwrap();
        sim.world.run_for(Duration::from_secs(1)).unwrap();
        sim.world.partition(&[holder], &[taker], false);
        sim.settle().unwrap();
        assert_eq!(holders(&sim.world), [taker], "seed {seed}: n{holder} was cut off");
    }
}

/// Seed 1638610: as above, but the taker itself was the first that it found, and what it had missed
/// came in that order: the new version, and then who ran that already.
#[test]
fn returning_node_delays_health_of_a_new_version() {
    for seed in 0..60 {
        let mut sim = at_work(seed, 2, 1);
        let holder = holders(&sim.world)[0];
        let taker = 1 - holder;
        sim.world.partition(&[holder], &[taker], true);
        sim.world.run_for(Duration::from_secs(12)).unwrap();
        sim.publish(taker, &workload("web", 2, 1)).unwrap();
        sim.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(holders(&sim.world).len(), 2, "seed {seed}: nobody took over");
        sim.world.network.weather = Weather::WAN;
        sim.world.partition(&[holder], &[taker], false);
        sim.settle().unwrap();
        assert_eq!(holders(&sim.world), [taker], "seed {seed}: n{holder} was cut off");
    }
}

/// One that was cut off found the others again and heard that there should be more of what it knew.
/// It placed them, a moment before it heard that they had been placed long ago.
#[test]
fn returning_node_places_nothing_twice() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 5, 1);
        for away in 0..5 {
            let others: Vec<usize> = (0..5).filter(|device| *device != away).collect();
            sim.world.partition(&[away], &others, true);
            sim.world.run_for(Duration::from_secs(12)).unwrap();
            sim.publish(others[0], &workload("web", 1, 2 + away as u32 * 3)).unwrap();
            sim.world.run_for(Duration::from_secs(5)).unwrap();
            let before = auctions(&sim.world);
            sim.world.partition(&[away], &others, false);
            sim.settle().unwrap();
            assert_eq!(auctions(&sim.world), before, "seed {seed}: n{away} was cut off");
        }
    }
}

/// A device slept. Meanwhile the only one that it saw died, and one that had been cut off took
/// over. It woke, found the dead one dead, and placed what that had run: it had compared with
/// everybody in sight, which was nobody.
#[test]
fn stalled_node_without_peers_places_nothing() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 3, 6);
        sim.world.partition(&[1], &[0, 2], true);
        sim.world.run_for(Duration::from_secs(12)).unwrap();
        sim.world.suspend(0, 40_000_000);
        sim.world.partition(&[1], &[0, 2], false);
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        sim.world.kill(2);
        sim.world.run_for(Duration::from_millis(19_900)).unwrap();
        let before = auctions(&sim.world)[0];
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        assert_eq!(auctions(&sim.world)[0], before, "seed {seed}");
    }
}

/// Two devices joined through a third, which died in that instant. They had been admitted, knew of
/// nobody else, took one another for the cluster, and served; whoever asked them was told that all
/// was well. Nobody looked for anybody any more.
#[test]
fn joining_nodes_that_lose_their_sponsor_stay_unready() {
    for effects in 1..40 {
        let mut sim = cluster(effects.into(), 3);
        sim.world.devices[2].dies_after = Some(effects);
        for device in [sim.world.add(), sim.world.add()] {
            sim.world.partition(&[device], &[0, 1], true);
            sim.world.start(device, false, &[0, 1, 2]);
        }
        sim.world.run_for(Duration::from_secs(25)).unwrap();
        let is_alone = |device: usize| sim.world.node(device).is_some_and(|node| node.is_ready());
        assert!(
            sim.world.node(2).is_some() || !is_alone(3) && !is_alone(4),
            "after {effects} effects"
        );
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
}

/// Seed 1221294: one that admitted two newcomers died before it could tell them of itself, and all
/// they had was what gossip had brought of their admission. They had one another, all members that
/// they knew of, and asked their seeds no more.
#[test]
fn joining_nodes_that_know_only_each_other_redial_seeds() {
    for seed in 0..300 {
        let effects = 8 + seed as u32 % 20;
        let mut sim = cluster(seed, 1);
        sim.world.run_for(Duration::from_secs(1)).unwrap();
        sim.world.network.weather = Weather::WAN;
        sim.world.devices[0].dies_after = Some(effects);
        for device in [sim.world.add(), sim.world.add()] {
            sim.world.start(device, false, &[0, 1]);
        }
        sim.world.run_for(Duration::from_secs(25)).unwrap();
        sim.heal().unwrap();
        sim.settle().unwrap_or_else(|why| panic!("seed {seed}, after {effects} effects: {why}"));
    }
}

/// Seed 1819737: all that knew anything lost their disks, and newcomers had one another. They do
/// not take themselves for the cluster, and go on with what they know when they are restarted.
#[test]
fn joining_nodes_without_members_serve_after_a_restart() {
    let mut tried = 0;
    for seed in 0..20 {
        let mut sim = cluster(seed, 1);
        let newcomers = [sim.world.add(), sim.world.add()];
        newcomers.iter().for_each(|newcomer| sim.world.start(*newcomer, false, &[0]));
        let know_all =
            |world: &World| newcomers.iter().all(|it| world.node(*it).unwrap().status().nodes == 3);
        sim.world.run_till(Duration::from_secs(2), "they are admitted", know_all).unwrap();
        // A newcomer that had compared with the founder by then knows all there is.
        if newcomers.iter().any(|it| sim.world.node(*it).unwrap().is_ready()) {
            continue;
        }
        tried += 1;
        sim.lose(0, &newcomers);
        sim.world.run_for(Duration::from_secs(60)).unwrap();
        let is_any_ready =
            sim.world.devices.iter().filter_map(|it| it.node.as_ref()).any(|node| node.is_ready());
        assert!(!is_any_ready, "seed {seed}: nobody knows anything");
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
    assert!(tried >= 5, "only {tried} seeds came to it");
}

/// Seeds 995473 and 996904: everybody but a newcomer lost power before it was ready. Who came back
/// compared with it, and was ready a moment later. Nothing made the newcomer look again, and it
/// never was.
#[test]
fn joining_node_is_ready_once_a_compared_peer_is() {
    for seed in 0..10 {
        let mut sim = cluster(seed, 3);
        let newcomer = sim.world.add();
        sim.world.partition(&[newcomer], &[0, 1], true);
        sim.world.start(newcomer, false, &[2]);
        let knows_all =
            |world: &World| world.node(newcomer).is_some_and(|node| node.status().nodes == 4);
        sim.world.run_till(Duration::from_secs(2), "it is admitted", knows_all).unwrap();
        (0..3).for_each(|device| sim.world.kill(device));
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        assert!(!sim.world.node(newcomer).unwrap().is_ready(), "seed {seed}: it knows nothing yet");
        sim.world.partition(&[newcomer], &[0], false);
        sim.world.partition(&[newcomer], &[1, 2], true);
        (0..3).for_each(|device| sim.world.start(device, false, &[newcomer]));
        sim.world.run_for(Duration::from_secs(30)).unwrap();
        let is_ready = |device: usize| sim.world.node(device).unwrap().is_ready();
        assert_eq!((is_ready(0), is_ready(newcomer)), (true, true), "seed {seed}");
        sim.heal().unwrap();
        sim.settle().unwrap();
    }
}

/// Seed 980777: a device that had just started stood still, and woke up when its patience with the
/// others was over. It had not heard that another had taken over what it ran, took it back, and the
/// other let go of it.
#[test]
fn stall_right_after_start_restarts_the_sync_grace() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 5, 1);
        sim.world.network.weather = Weather { delay: 40_000, ..Weather::LAN };
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        let holder = holders(&sim.world)[0];
        sim.world.kill(holder);
        sim.world.start(holder, false, &[]);
        let is_linked = |world: &World| !world.devices[holder].links.is_empty();
        sim.world.run_till(Duration::from_secs(2), "it is linked", is_linked).unwrap();
        wakes_after(seed, &mut sim, holder, Duration::from_millis(2_900));
    }
}

/// Seed 1505978: as above, but what it overslept first was the end of its patience. That much later
/// was now.
#[test]
fn stall_over_the_grace_timer_starts_it_again() {
    for seed in 0..10 {
        let mut sim = at_work(seed, 5, 1);
        sim.world.network.weather = Weather { delay: 400_000, ..Weather::LAN };
        sim.world.run_for(Duration::from_secs(20)).unwrap();
        let holder = holders(&sim.world)[0];
        sim.world.kill(holder);
        sim.world.start(holder, false, &[]);
        sim.world.run_for(Duration::from_millis(2_990)).unwrap();
        assert!(
            !sim.world.node(holder).unwrap().is_ready(),
            "seed {seed}: it has heard too little"
        );
        wakes_after(seed, &mut sim, holder, Duration::from_secs(12));
    }
}

/// A holder stands still for so long, and another takes over what it ran. When it wakes up that
/// stays where it is.
fn wakes_after(seed: u64, sim: &mut Simulation, holder: usize, time: Duration) {
    sim.world.pause(holder, 60_000_000);
    sim.world.run_for(time).unwrap();
    let taken_over_by: Vec<usize> =
        holders(&sim.world).into_iter().filter(|device| *device != holder).collect();
    assert_eq!(taken_over_by.len(), 1, "seed {seed}");
    sim.heal().unwrap();
    sim.settle().unwrap();
    assert_eq!(holders(&sim.world), taken_over_by, "seed {seed}: it was moved back");
}

/// Seed 1733913: a winner's disk hung. When its claim was written its owner had found another, and
/// that ran it well; the winner had not heard of it, said that it was healthy, and being the older
/// it was left alone.
#[test]
fn late_claim_delays_health_report() {
    let mut came_late = 0;
    for seed in 0..40 {
        let mut sim = cluster(seed, 3);
        sim.world.network.weather = Weather { delay: 100_000, jitter: 50_000, ..Weather::LAN };
        sim.world.run_for(Duration::from_secs(5)).unwrap();
        sim.world.devices[1].disk.stalled_until = sim.world.now + 60_000_000;
        sim.publish(0, &workload("web", 1, 1)).unwrap();
        let is_healthy = |world: &World| !invariants::healthy_once(world).is_empty();
        sim.world.run_till(Duration::from_secs(20), "somebody runs it", is_healthy).unwrap();
        came_late += u32::from(sim.world.node(1).unwrap().own_claims().next().is_some());
        sim.heal().unwrap();
        sim.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(came_late > 5, "only {came_late} claims came late");
}

/// Of each device how many auctions it has opened in this life.
fn auctions(world: &World) -> Vec<u64> {
    let count = |device| {
        world.node(device).and_then(|node| node.status().counters.get("auctions").copied())
    };
    (0..world.devices.len()).map(|device| count(device).unwrap_or_default()).collect()
}

/// A cluster that runs so many replicas of one workload.
fn at_work(seed: u64, size: usize, replicas: u32) -> Simulation {
    let mut sim = cluster(seed, size);
    sim.publish(0, &workload("web", 1, replicas)).unwrap();
    sim.settle().unwrap();
    sim
}

fn holders(world: &World) -> Vec<usize> {
    let holds =
        |device: &usize| world.node(*device).is_some_and(|node| node.own_claims().next().is_some());
    (0..world.devices.len()).filter(holds).collect()
}
