//! Deaths, and how soon the others know of them.

use std::time::Duration;

use super::net::{MS, Net, SECOND, mesh_up_to};
use crate::membership::State;
use crate::membership::message::{Message, Notice, Seen, Vote};

#[test]
fn killed_node_is_down_within_a_few_round_trips() {
    for seed in 0..20 {
        let mut net = Net::running(3, seed);
        net.kill(2);
        let took = net.run_until(SECOND, |net| net.all_hold(2, State::Down)).expect("found out");
        assert!(took < 40 * MS, "seed {seed}: {took:?}");
        assert_eq!(net.ups(0), 2);
        assert!(net.room(0).why_down(&net.devices[2].id).unwrap().contains("nobody listens"));
    }
}

#[test]
fn survivor_of_two_decides_alone() {
    let mut net = Net::running(2, 1);
    net.kill(1);
    let took = net.run_until(SECOND, |net| net.all_hold(1, State::Down)).expect("found out");
    assert!(took < 40 * MS, "{took:?}");
}

#[test]
fn kill_among_twenty_is_known_to_all() {
    let mut net = Net::running(20, 3);
    net.kill(7);
    let took = net.run_until(SECOND, |net| net.all_hold(7, State::Down)).expect("found out");
    assert!(took < 60 * MS, "{took:?}");
    net.run(5 * SECOND);
    assert_eq!(net.downs().iter().filter(|(_, of)| *of != 7).count(), 0, "no other node is down");
}

#[test]
fn last_survivor_knows_that_it_is_alone() {
    for size in [3, 5, 20] {
        let mut net = Net::running(size, 4);
        (1..size).for_each(|n| net.kill(n));
        let took = net.run_until(5 * SECOND, |net| net.ups(0) == 1).expect("found out");
        assert!(took < 100 * MS, "{size}: {took:?}");
    }
}

/// The others decide in about a second, since two agree. The cut-off node has nobody to correct it,
/// so it waits three seconds before it holds the others to be down.
#[test]
fn cut_off_node_falls_in_a_second_and_waits_longer_itself() {
    for seed in 0..10 {
        let mut net = Net::running(3, seed);
        net.devices[2].dark = true;
        let took = net.run_until(5 * SECOND, |net| {
            net.state(0, 2) == State::Down && net.state(1, 2) == State::Down
        });
        let took = took.expect("found out");
        assert!(took > 500 * MS && took < 1300 * MS, "seed {seed}: {took:?}");
        assert_eq!(net.ups(2), 3, "no other node corrects it, so it waits");
        net.run_until(5 * SECOND, |net| net.ups(2) == 1).expect("but not for ever");
        net.run(5 * SECOND);
        net.devices[2].dark = false;
        net.run_until(15 * SECOND, |net| (0..3).all(|n| net.ups(n) == 3))
            .expect("a healed cut is found");
    }
}

#[test]
fn absence_is_bounded() {
    let mut net = Net::running(3, 12);
    net.stop(2, 3600 * SECOND);
    net.run(32 * SECOND);
    assert!(net.all_hold(2, State::Down));
}

#[test]
fn goodbye_for_good_is_down_at_once() {
    let mut net = Net::running(5, 13);
    net.stop(2, Duration::ZERO);
    assert!(net.all_hold(2, State::Down), "before its links were even closed");
    net.run(5 * SECOND);
    assert!(net.room(0).why_down(&net.devices[2].id).unwrap().contains("goodbye"));
    net.start(2);
    net.run_until(12 * SECOND, |net| (0..5).all(|n| net.ups(n) == 5)).expect("and may come back");
}

#[test]
fn large_cluster_has_few_links_and_learns_deaths_soon() {
    let mut net = Net::with(100, 15, mesh_up_to(0));
    net.start_all();
    net.run(60 * SECOND);
    let links: Vec<usize> = (0..100).map(|n| net.room(n).links().count()).collect();
    // Far from a full mesh; the links that the start needed in addition are closed again.
    assert!(*links.iter().max().unwrap() <= 32 && links.iter().sum::<usize>() <= 1600, "{links:?}");
    net.facts.clear();
    (0..10).for_each(|n| net.kill(n * 10));
    net.run_until(SECOND, |net| (0..10).all(|n| net.all_hold(n * 10, State::Down)))
        .expect("found out");
    net.run(5 * SECOND);
    assert!(net.downs().iter().all(|(_, of)| of % 10 == 0), "no other node is down");
}

#[test]
fn survivors_learn_that_half_the_cluster_died() {
    let mut net = Net::with(60, 16, mesh_up_to(0));
    net.start_all();
    (0..30).for_each(|n| net.kill(n * 2));
    net.run_until(20 * SECOND, |net| (0..30).all(|n| net.all_hold(n * 2, State::Down)))
        .expect("found out");
    assert!(net.downs().iter().all(|(_, of)| of % 2 == 0), "no other node is down");
}

/// Devices of one mains switch boot seconds apart, so a member that was never seen is unknown, not
/// down, until its grace is over.
#[test]
fn absent_member_is_down_after_the_grace_not_before() {
    let mut net = Net::new(3, 21);
    net.start(0);
    net.start(1);
    net.run(9 * SECOND);
    assert_eq!(net.state(0, 2), State::Unknown, "it may still be booting");
    assert!(!net.room(0).settled());
    net.run(2 * SECOND);
    assert!(net.all_hold(2, State::Down) && net.room(0).settled());
    net.start(2);
    net.run_until(12 * SECOND, |net| (0..3).all(|n| net.ups(n) == 3)).expect("late but here");
}

#[test]
fn newcomer_learns_who_is_down_from_first_neighbour() {
    let mut net = Net::running(5, 22);
    net.kill(1);
    net.kill(2);
    net.run(5 * SECOND);
    net.start(1);
    net.run(SECOND / 2);
    assert_eq!(net.state(1, 2), State::Down, "long before its grace is over");
    assert!(net.room(1).settled());
}

/// All observers of a node but one stalled, and that one decided alone. A member with a hung link
/// to the node does not observe it, and must look for itself instead of believing for ever that the
/// node lives.
#[test]
fn notice_with_too_few_votes_is_checked_despite_a_link() {
    let mut net = Net::running(20, 31);
    let (subject, id) = (7, net.devices[7].id);
    let (observers, others): (Vec<usize>, Vec<usize>) =
        (0..20).filter(|n| *n != subject).partition(|n| net.room(*n).watched.contains_key(&id));
    let far = others[0];
    net.devices[subject].dark = true;
    observers.iter().for_each(|n| net.pause(*n));
    let vote = net.sign(observers[0], Vote { subject: id, incarnation: 1, seen: Seen::Silent });
    let notice = Notice { subject: id, incarnation: 1, votes: vec![vote] };
    net.inject(observers[0], far, Message::Down(notice, None));
    let took =
        net.run_until(5 * SECOND, |net| net.state(far, subject) == State::Down).expect("found out");
    assert!(took < 1500 * MS, "{took:?}");
}
