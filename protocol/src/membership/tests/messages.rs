//! False and malformed messages, and the roster.

use rand_chacha::rand_core::RngCore;

use super::net::{MS, Net, SECOND, mesh_up_to};
use crate::membership::{
    Fact, Gone, Goodbye, Membership, Message, Notice, ProbeIntent, Seen, State, Vote, Worth,
};
use crate::model::{Digest, NodeId, Out, Outgoing};

/// The vote of a single member is no majority, and the subject shows that it lives.
#[test]
fn false_notice_of_one_member_downs_nobody() {
    for size in [5, 40] {
        let mut net = Net::with(size, 25, mesh_up_to(8));
        net.start_all();
        let subject = net.devices[1].id;
        let vote = net.sign(0, Vote { subject, incarnation: 1, seen: Seen::Refused });
        let notice = Notice { subject, incarnation: 1, votes: vec![vote.clone()] };
        net.gossip(0, Message::Down(notice.clone(), None));
        (2..size).for_each(|to| net.inject(0, to, Message::Down(notice.clone(), None)));
        net.run(5 * SECOND);
        assert_eq!(net.downs(), []);
        let forged = net.sign(0, Vote { subject, incarnation: 1, seen: Seen::Silent });
        let twice = Notice { subject, incarnation: 1, votes: vec![vote, forged] };
        let relay = net.devices[0].id;
        let mut out = Out::new();
        let now = net.now;
        let room = net.devices[2].room.as_mut().unwrap();
        assert_eq!(
            room.handle_gossip(now, relay, Message::Down(twice, None), &mut out).0,
            Worth::Ignore,
            "an old life"
        );
    }
}

/// Messages of a broken or stolen member harm none of the others.
#[test]
fn garbage_of_one_member_harms_no_other() {
    for seed in 0..6 {
        let mut net = Net::running(5, seed);
        let ids: Vec<NodeId> =
            net.devices.iter().map(|device| device.id).chain([NodeId([7; 32])]).collect();
        for _ in 0..3000 {
            let mut any = || net.rng.next_u32();
            let (subject, other) = (ids[any() as usize % 6], ids[any() as usize % 6]);
            let incarnation = [0, 1, 2, 3, u64::MAX][any() as usize % 5];
            let (round, to, kind) = (any() % 200, 1 + any() as usize % 4, any() % 11);
            let seen = [Seen::Closed, Seen::Silent, Seen::Refused][any() as usize % 3];
            let vote = net.sign(0, Vote { subject, incarnation, seen });
            let gone = Gone { node: subject, incarnation, down: round % 2 == 0 };
            let message = match kind {
                0 => Message::Hello { record: None, settled: false },
                1 => Message::Beat { lag_ms: u16::MAX, view: round },
                2 => Message::Probe {
                    seq: incarnation,
                    intent: [ProbeIntent::Beats, ProbeIntent::ReleaseLink][round as usize % 2],
                },
                3 => Message::Answer { seq: incarnation, lag_ms: u16::MAX },
                4 => Message::Ask { subject, incarnation, round, vote: Some(vote) },
                5 => Message::Alive { subject, incarnation, round },
                6 => Message::Vote(vote),
                7 => Message::Down(
                    Notice { subject, incarnation, votes: vec![vote; round as usize % 3] },
                    None,
                ),
                8 => Message::View { after: Some(other), upto: None, gone: vec![gone] },
                9 => Message::Want(vec![subject; 100]),
                _ => Message::Goodbye(
                    net.sign(0, Goodbye { incarnation, back_in_ms: 1 << (round % 32) }),
                ),
            };
            net.inject(0, to, message);
            let pause = MS * (net.rng.next_u32() % 20);
            net.run(pause);
        }
        let fallen: Vec<_> = net.downs().into_iter().filter(|(_, of)| *of != 0).collect();
        assert_eq!(fallen, [], "seed {seed}");
        net.run(40 * SECOND);
        assert!((1..5).all(|n| net.ups(n) == 5), "seed {seed}");
        net.kill(3);
        net.run_until(15 * SECOND, |net| net.all_hold(3, State::Down))
            .expect("deaths are still found");
    }
}

#[test]
fn member_off_the_roster_is_forgotten() {
    let mut net = Net::running(4, 28);
    let gone = net.devices[3].id;
    let roster: imbl::OrdMap<NodeId, u64> = (0..3).map(|n| (net.devices[n].id, n as u64)).collect();
    let (mut out, now) = (Out::new(), net.now);
    let room = net.devices[0].room.as_mut().unwrap();
    room.set_roster(now, &roster, &mut out);
    assert_eq!(out.pop(), Some(Outgoing::Hangup(gone)));
    room.handle_link_down(now, gone, &mut out);
    assert_eq!(
        (room.state(&gone), room.record(&gone), room.has_link(&gone)),
        (State::Unknown, None, false)
    );
    assert!(!room.links().any(|peer| peer == gone) && room.records().count() == 3);
}

#[test]
fn record_is_found_under_its_sync_key() {
    let net = Net::running(2, 29);
    for device in &net.devices {
        let record = net.room(0).item(&Membership::item_key(&device.id)).expect("both are known");
        assert_eq!(record.by().0, device.id.0);
    }
    assert!(net.room(0).item(&Digest([0; 32])).is_none());
}

/// A stranger is linked whose admission has not come here yet. Once it has, the stranger is up with
/// the record of its hello.
#[test]
fn link_before_admission_counts_afterwards() {
    let mut net = Net::running(3, 30);
    let all: imbl::OrdMap<NodeId, u64> = (0..3).map(|n| (net.devices[n].id, n as u64)).collect();
    let id = net.devices[2].id;
    let hello = Message::Hello {
        record: net.room(2).record(&id).map(|record| record.wire()),
        settled: true,
    };
    let (mut out, now) = (Out::new(), net.now);
    let room = net.devices[0].room.as_mut().unwrap();
    let few =
        all.iter().filter(|(node, _)| **node != id).map(|(node, salt)| (*node, *salt)).collect();
    room.set_roster(now, &few, &mut out);
    room.handle_link_down(now, id, &mut out);
    room.handle_link_up(now, id, &mut out);
    assert_eq!(room.handle_message(now, id, hello, &mut out), [], "not a member yet");
    let facts = room.set_roster(now, &all, &mut out);
    assert_eq!(facts, [Fact::Up { node: id }, Fact::Record { node: id }]);
}

#[test]
fn oversized_records_are_refused() {
    let mut net = Net::running(2, 31);
    let mut record = net.room(1).record(&net.devices[1].id).unwrap().body().clone();
    record.counter += 1;
    record.addresses = vec!["/x".into(); 17];
    let (relay, now) = (net.devices[1].id, net.now);
    let long = net.sign(1, record.clone());
    record.addresses.clear();
    record.incarnation = u64::MAX;
    let high = net.sign(1, record);
    let mut out = Out::new();
    let room = net.devices[0].room.as_mut().unwrap();
    for record in [long, high] {
        assert_eq!(
            room.handle_gossip(now, relay, Message::Record(record), &mut out),
            (Worth::Reject, vec![])
        );
    }
    let stray = Message::Beat { lag_ms: 0, view: 0 };
    assert_eq!(
        room.handle_gossip(now, relay, stray, &mut out).0,
        Worth::Reject,
        "beats do not travel by gossip"
    );
}

#[test]
fn a_spurious_timeout_is_harmless() {
    let mut net = Net::running(3, 32);
    let now = net.now;
    let room = net.devices[0].room.as_mut().unwrap();
    let before = room.poll_timeout();
    let mut out = Out::new();
    for _ in 0..5 {
        assert_eq!(room.handle_timeout(now, &mut out), []);
    }
    assert_eq!((room.poll_timeout(), out.pop()), (before, None));
}
