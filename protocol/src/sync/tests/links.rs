//! Links that lose, delay and break, silent peers, and the rate limit.

use super::*;

#[test]
fn five_nodes_converge_over_lossy_reordering_links() {
    let config = Config::default();
    let mut world = World::new(5, config, 3);
    world.loss_percent = 20;
    world.jitter = millis(80);
    for entry in 0..400 {
        world.restore((entry % 5) as usize, entry, 1);
        world.restore((entry % 3) as usize, entry, 2);
    }
    for node in 0..4 {
        world.link(node, node + 1);
    }
    world.run(secs(120));
    assert!(world.converged());
    assert!((0..4).all(|node| world.in_step(node, node + 1) == (true, true)));
}

#[test]
fn messages_stay_within_the_rate_and_the_size() {
    let config = Config { bytes_per_second: 64 * 1024, burst: 32 * 1024, ..Config::default() };
    let mut world = World::new(2, config, 1);
    for entry in 0..2000 {
        world.restore(0, entry, 1);
    }
    world.link(0, 1);
    for second in 1..=8 {
        world.run(secs(1));
        // At most an answer of 64 KiB and an offer of 1,024 leaves may overdraw the budget;
        // questions are not limited.
        let most = (32 + 64 + 17 + second * (64 + 1)) * 1024;
        let sent: usize = world
            .transcript
            .iter()
            .filter(|(_, from, ..)| *from == 0)
            .map(|(.., bytes)| bytes.len())
            .sum();
        assert!(sent <= most as usize, "{sent} bytes in {second} s");
    }
    assert!(!world.converged(), "else the rate was no bound");
    world.run(secs(60));
    assert!(world.converged());
    assert!(world.largest <= 64 * 1024, "{}", world.largest);
}

#[test]
fn entry_larger_than_a_message_travels_in_parts() {
    let mut world = World::new(2, Config::default(), 1);
    world.set_parts(32, 28 * 1024);
    for entry in 0..3 {
        world.restore(0, entry, 1);
    }
    world.link(0, 1);
    world.run(secs(30));
    assert!(world.converged());
    assert_eq!(world.received(1), 3 * 32);
    assert!(world.largest <= 64 * 1024, "{}", world.largest);
}

/// A node refuses two entries for ever, as an older program would. After a few tries the nodes are
/// in step all the same, and the entries are tried again once a minute.
#[test]
fn unmendable_difference_does_not_keep_nodes_apart() {
    for refusing in [0, 1] {
        let mut world = World::new(2, Config::default(), 1);
        for entry in 0..50 {
            world.restore(0, entry, 1);
            world.restore(1, entry, 1 + u64::from(entry == 7));
        }
        world.restore(1 - refusing, 99, 1);
        world.refuse(refusing, 7);
        world.refuse(refusing, 99);
        world.link(0, 1);
        world.run(secs(55));
        assert_eq!(world.in_step(0, 1), (true, true), "{refusing} refuses");
        let received = world.received(refusing);
        assert!((1..=14).contains(&received), "{received}");
        world.run(secs(600));
        assert!(
            world.received(refusing) - received <= 4 * 11,
            "{}",
            world.received(refusing) - received
        );
        // Once the node takes these entries, they come without a restart.
        world.refusals.clear();
        world.run(secs(180));
        assert!(world.converged());
    }
}

/// A link breaks while 2,000 entries are being fetched over it: the rest is fetched from another
/// peer.
#[test]
fn broken_link_leaves_the_rest_to_other_peers() {
    let config = Config { bytes_per_second: 256 * 1024, burst: 64 * 1024, ..Config::default() };
    let mut world = World::new(3, config, 1);
    for entry in 0..2000 {
        world.restore(0, entry, 1);
        world.restore(2, entry, 1);
    }
    world.link(0, 1);
    world.run(secs(1));
    let some = world.holds(1);
    assert!((1..2000).contains(&some), "{some}");
    world.unlink(0, 1);
    assert!(!world.rooms[1].repair.in_step(&id(0)));
    world.link(1, 2);
    world.run(secs(20));
    assert!(world.converged());
    assert_eq!(world.in_step(1, 2), (true, true));
}

#[test]
fn silent_peer_does_not_stop_the_others() {
    let mut world = World::new(7, Config::default(), 1);
    for entry in 0..500 {
        world.restore(6, entry, 1);
    }
    for silent in 1..6 {
        world.link(0, silent);
        world.mute(silent);
    }
    world.link(0, 6);
    world.run(secs(10));
    assert_eq!(world.holds(0), 500);
    assert_eq!(world.in_step(0, 6), (true, true));
    assert_eq!(world.in_step(0, 1), (false, false));
}

#[test]
fn a_spurious_timeout_says_nothing() {
    let mut world = in_step(10);
    let now = world.now;
    let room = &mut world.rooms[0];
    let next = room.repair.poll_timeout().unwrap();
    assert!(next.0 > now);
    let mut out = Out::new();
    for _ in 0..3 {
        assert_eq!(room.repair.handle_timeout(now, &room.store, &mut out), []);
    }
    assert_eq!(out.pop(), None);
    assert_eq!(room.repair.poll_timeout(), Some(next));
}
