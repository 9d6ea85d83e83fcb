//! Nodes that were away, and what they bring back.

use super::*;

/// Two nodes came back while a third woke up that had missed what happened. They were in step with
/// both, and so thought that they knew all. A fourth, slow to answer, had taken over what they had
/// run; what it ran well went back for nothing.
#[test]
fn who_returns_hears_out_those_it_has_not_compared_with() {
    for seed in 0..20 {
        let mut play = at_work(seed, 4, 4);
        play.world.pause(0, 15_000_000);
        (1..3).for_each(|device| play.world.kill(device));
        play.world.run_for(Duration::from_secs(15)).unwrap();
        let before = invariants::healthy_alone(&play.world);
        play.world.devices[3].pulse.slowness = 20_000;
        (1..3).for_each(|device| play.world.start(device, false, &[]));
        play.world.run_for(Duration::from_millis(300)).unwrap();
        play.world.devices[3].pulse.slowness = 0;
        play.settle().unwrap();
        let after = invariants::healthy_alone(&play.world);
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
fn who_returns_says_nothing_of_what_others_took_over_before_it_has_seen_them() {
    for seed in 0..10 {
        let mut play = at_work(seed, 5, 1);
        let holder = holders(&play.world)[0];
        let others: Vec<usize> = (0..5).filter(|device| *device != holder).collect();
        play.world.partition(&[holder], &others, true);
        play.world.run_for(Duration::from_secs(12)).unwrap();
        play.publish(others[0], &workload("web", 2, 1)).unwrap();
        play.world.run_for(Duration::from_secs(2)).unwrap();
        let taker = holders(&play.world)
            .into_iter()
            .find(|device| *device != holder)
            .expect("somebody took over");
        let others: Vec<usize> = others.into_iter().filter(|device| *device != taker).collect();
        play.world.partition(&[holder], &others, false);
        let is_back = |world: &World| {
            others.iter().any(|other| world.devices[holder].links.contains_key(other))
        };
        play.world.run_till(Duration::from_secs(30), "a link is back", is_back).unwrap();
        play.world.run_for(Duration::from_secs(1)).unwrap();
        play.world.partition(&[holder], &[taker], false);
        play.settle().unwrap();
        assert_eq!(holders(&play.world), [taker], "seed {seed}: n{holder} was cut off");
    }
}

/// Seed 1638610: as above, but the taker itself was the first that it found, and what it had missed
/// came in that order: the new version, and then who ran that already.
#[test]
fn who_returns_says_nothing_of_a_new_version_before_it_knows_who_runs_that() {
    for seed in 0..60 {
        let mut play = at_work(seed, 2, 1);
        let holder = holders(&play.world)[0];
        let taker = 1 - holder;
        play.world.partition(&[holder], &[taker], true);
        play.world.run_for(Duration::from_secs(12)).unwrap();
        play.publish(taker, &workload("web", 2, 1)).unwrap();
        play.world.run_for(Duration::from_secs(2)).unwrap();
        assert_eq!(holders(&play.world).len(), 2, "seed {seed}: nobody took over");
        play.world.network.weather = Weather::WAN;
        play.world.partition(&[holder], &[taker], false);
        play.settle().unwrap();
        assert_eq!(holders(&play.world), [taker], "seed {seed}: n{holder} was cut off");
    }
}

/// One that was cut off found the others again and heard that there should be more of what it knew.
/// It placed them, a moment before it heard that they had been placed long ago.
#[test]
fn who_returns_places_nothing_a_second_time() {
    for seed in 0..10 {
        let mut play = at_work(seed, 5, 1);
        for away in 0..5 {
            let others: Vec<usize> = (0..5).filter(|device| *device != away).collect();
            play.world.partition(&[away], &others, true);
            play.world.run_for(Duration::from_secs(12)).unwrap();
            play.publish(others[0], &workload("web", 1, 2 + away as u32 * 3)).unwrap();
            play.world.run_for(Duration::from_secs(5)).unwrap();
            let before = auctions(&play.world);
            play.world.partition(&[away], &others, false);
            play.settle().unwrap();
            assert_eq!(auctions(&play.world), before, "seed {seed}: n{away} was cut off");
        }
    }
}

/// A device slept. Meanwhile the only one that it saw died, and one that had been cut off took
/// over. It woke, found the dead one dead, and placed what that had run: it had compared with
/// everybody in sight, which was nobody.
#[test]
fn who_stood_still_and_sees_nobody_places_nothing() {
    for seed in 0..10 {
        let mut play = at_work(seed, 3, 6);
        play.world.partition(&[1], &[0, 2], true);
        play.world.run_for(Duration::from_secs(12)).unwrap();
        play.world.suspend(0, 40_000_000);
        play.world.partition(&[1], &[0, 2], false);
        play.world.run_for(Duration::from_secs(20)).unwrap();
        play.world.kill(2);
        play.world.run_for(Duration::from_millis(19_900)).unwrap();
        let before = auctions(&play.world)[0];
        play.world.run_for(Duration::from_secs(20)).unwrap();
        assert_eq!(auctions(&play.world)[0], before, "seed {seed}");
    }
}

/// Two devices joined through a third, which died in that instant. They had been admitted, knew of
/// nobody else, took one another for the cluster, and served; whoever asked them was told that all
/// was well. Nobody looked for anybody any more.
#[test]
fn newcomers_whose_only_friend_dies_look_for_the_others_and_take_no_orders() {
    for effects in 1..40 {
        let mut play = cluster(effects.into(), 3);
        play.world.devices[2].doom = Some(effects);
        for device in [play.world.add(), play.world.add()] {
            play.world.partition(&[device], &[0, 1], true);
            play.world.start(device, false, &[0, 1, 2]);
        }
        play.world.run_for(Duration::from_secs(25)).unwrap();
        let is_alone = |device: usize| play.world.node(device).is_some_and(|node| node.is_ready());
        assert!(
            play.world.node(2).is_some() || !is_alone(3) && !is_alone(4),
            "after {effects} effects"
        );
        play.heal().unwrap();
        play.settle().unwrap();
    }
}

/// Seed 1221294: one that admitted two newcomers died before it could tell them of itself, and all
/// they had was what gossip had brought of their admission. They had one another, all members that
/// they knew of, and asked their seeds no more.
#[test]
fn newcomers_that_know_of_nobody_but_one_another_go_on_asking_their_seeds() {
    for seed in 0..300 {
        let effects = 8 + seed as u32 % 20;
        let mut play = cluster(seed, 1);
        play.world.run_for(Duration::from_secs(1)).unwrap();
        play.world.network.weather = Weather::WAN;
        play.world.devices[0].doom = Some(effects);
        for device in [play.world.add(), play.world.add()] {
            play.world.start(device, false, &[0, 1]);
        }
        play.world.run_for(Duration::from_secs(25)).unwrap();
        play.heal().unwrap();
        play.settle().unwrap_or_else(|why| panic!("seed {seed}, after {effects} effects: {why}"));
    }
}

/// Seed 1819737: all that knew anything lost their disks, and newcomers had one another. They do
/// not take themselves for the cluster, and go on with what they know when they are restarted.
#[test]
fn newcomers_whose_friends_are_gone_for_good_go_on_when_somebody_restarts_them() {
    let mut tried = 0;
    for seed in 0..20 {
        let mut play = cluster(seed, 1);
        let newcomers = [play.world.add(), play.world.add()];
        newcomers.iter().for_each(|newcomer| play.world.start(*newcomer, false, &[0]));
        let know_all =
            |world: &World| newcomers.iter().all(|it| world.node(*it).unwrap().status().nodes == 3);
        play.world.run_till(Duration::from_secs(2), "they are admitted", know_all).unwrap();
        // A newcomer that had compared with the founder by then knows all there is.
        if newcomers.iter().any(|it| play.world.node(*it).unwrap().is_ready()) {
            continue;
        }
        tried += 1;
        play.lose(0, &newcomers);
        play.world.run_for(Duration::from_secs(60)).unwrap();
        let is_any_ready =
            play.world.devices.iter().filter_map(|it| it.node.as_ref()).any(|node| node.is_ready());
        assert!(!is_any_ready, "seed {seed}: nobody knows anything");
        play.heal().unwrap();
        play.settle().unwrap();
    }
    assert!(tried >= 5, "only {tried} seeds came to it");
}

/// Seeds 995473 and 996904: everybody but a newcomer lost power before it was ready. Who came back
/// compared with it, and was ready a moment later. Nothing made the newcomer look again, and it
/// never was.
#[test]
fn a_newcomer_is_ready_as_soon_as_somebody_is_whom_it_has_compared_with() {
    for seed in 0..10 {
        let mut play = cluster(seed, 3);
        let newcomer = play.world.add();
        play.world.partition(&[newcomer], &[0, 1], true);
        play.world.start(newcomer, false, &[2]);
        let knows_all =
            |world: &World| world.node(newcomer).is_some_and(|node| node.status().nodes == 4);
        play.world.run_till(Duration::from_secs(2), "it is admitted", knows_all).unwrap();
        (0..3).for_each(|device| play.world.kill(device));
        play.world.run_for(Duration::from_secs(20)).unwrap();
        assert!(
            !play.world.node(newcomer).unwrap().is_ready(),
            "seed {seed}: it knows nothing yet"
        );
        play.world.partition(&[newcomer], &[0], false);
        play.world.partition(&[newcomer], &[1, 2], true);
        (0..3).for_each(|device| play.world.start(device, false, &[newcomer]));
        play.world.run_for(Duration::from_secs(30)).unwrap();
        let is_ready = |device: usize| play.world.node(device).unwrap().is_ready();
        assert_eq!((is_ready(0), is_ready(newcomer)), (true, true), "seed {seed}");
        play.heal().unwrap();
        play.settle().unwrap();
    }
}

/// Seed 980777: a device that had just started stood still, and woke up when its patience with the
/// others was over. It had not heard that another had taken over what it ran, took it back, and the
/// other let go of it.
#[test]
fn who_stands_still_right_after_its_start_has_not_waited_for_the_others() {
    for seed in 0..10 {
        let mut play = at_work(seed, 5, 1);
        play.world.network.weather = Weather { delay: 40_000, ..Weather::LAN };
        play.world.run_for(Duration::from_secs(5)).unwrap();
        let holder = holders(&play.world)[0];
        play.world.kill(holder);
        play.world.start(holder, false, &[]);
        let is_linked = |world: &World| !world.devices[holder].links.is_empty();
        play.world.run_till(Duration::from_secs(2), "it is linked", is_linked).unwrap();
        wakes_after(seed, &mut play, holder, Duration::from_millis(2_900));
    }
}

/// Seed 1505978: as above, but what it overslept first was the end of its patience. That much later
/// was now.
#[test]
fn who_oversleeps_the_end_of_its_patience_waits_once_more() {
    for seed in 0..10 {
        let mut play = at_work(seed, 5, 1);
        play.world.network.weather = Weather { delay: 400_000, ..Weather::LAN };
        play.world.run_for(Duration::from_secs(20)).unwrap();
        let holder = holders(&play.world)[0];
        play.world.kill(holder);
        play.world.start(holder, false, &[]);
        play.world.run_for(Duration::from_millis(2_990)).unwrap();
        assert!(
            !play.world.node(holder).unwrap().is_ready(),
            "seed {seed}: it has heard too little"
        );
        wakes_after(seed, &mut play, holder, Duration::from_secs(12));
    }
}

/// A holder stands still for so long, and another takes over what it ran. When it wakes up that
/// stays where it is.
fn wakes_after(seed: u64, play: &mut Play, holder: usize, time: Duration) {
    play.world.pause(holder, 60_000_000);
    play.world.run_for(time).unwrap();
    let taken_over_by: Vec<usize> =
        holders(&play.world).into_iter().filter(|device| *device != holder).collect();
    assert_eq!(taken_over_by.len(), 1, "seed {seed}");
    play.heal().unwrap();
    play.settle().unwrap();
    assert_eq!(holders(&play.world), taken_over_by, "seed {seed}: it was moved back");
}

/// Seed 1733913: a winner's disk hung. When its claim was written its owner had found another, and
/// that ran it well; the winner had not heard of it, said that it was healthy, and being the older
/// it was left alone.
#[test]
fn whose_claim_comes_late_says_nothing_before_it_can_know_who_was_found_instead() {
    let mut came_late = 0;
    for seed in 0..40 {
        let mut play = cluster(seed, 3);
        play.world.network.weather = Weather { delay: 100_000, jitter: 50_000, ..Weather::LAN };
        play.world.run_for(Duration::from_secs(5)).unwrap();
        play.world.devices[1].disk.stalled_until = play.world.now + 60_000_000;
        play.publish(0, &workload("web", 1, 1)).unwrap();
        let is_healthy = |world: &World| !invariants::healthy_alone(world).is_empty();
        play.world.run_till(Duration::from_secs(20), "somebody runs it", is_healthy).unwrap();
        came_late += u32::from(play.world.node(1).unwrap().own_claims().next().is_some());
        play.heal().unwrap();
        play.settle().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
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
fn at_work(seed: u64, size: usize, replicas: u32) -> Play {
    let mut play = cluster(seed, size);
    play.publish(0, &workload("web", 1, replicas)).unwrap();
    play.settle().unwrap();
    play
}

fn holders(world: &World) -> Vec<usize> {
    let holds =
        |device: &usize| world.node(*device).is_some_and(|node| node.own_claims().next().is_some());
    (0..world.devices.len()).filter(holds).collect()
}
