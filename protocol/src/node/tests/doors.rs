//! The words of a node to one that has not shown who it is, and the devices that it lets in.

use super::harness::*;
use super::*;
use crate::model::{Chain, PublicKey, RawChange};
use crate::trust::{serial_at, ticket};

fn id(number: u8) -> NodeId {
    NodeId(KeyPair::from_seed(&[number; 32]).public().0)
}

/// The messages to one node, in order.
fn told(harness: &mut Harness, to: NodeId) -> Vec<Message> {
    std::mem::take(&mut harness.mail)
        .into_iter()
        .filter_map(|(node, message)| (node == to).then_some(message))
        .collect()
}

fn hangs_up(harness: &Harness, peer: NodeId) -> bool {
    let action = format!("None {:?}", Action::Disconnect(peer));
    harness.effects.contains(&action)
}

/// A founder that runs something.
fn busy_founder(cluster: &harness::Cluster) -> Harness {
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(cluster, &spec(1, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    harness.mail.clear();
    harness
}

/// Whoever knew the address and the cluster's id got hellos, beats, comparisons and gossip.
#[test]
fn stranger_is_told_nothing_and_hung_up_on() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    let stranger = id(66);
    harness.input(Input::LinkUp { peer: stranger, dialled: false });
    let question = Message::AskKey { question: 1, key: Digest([0; 32]), holds: Digest([0; 32]) };
    let beat = membership::Message::Beat { lag_ms: 0, view: 0 };
    for message in [Message::Membership(beat), question] {
        harness.input(Input::Message { from: stranger, message });
        harness.run_for(Duration::from_secs(1));
    }
    assert_eq!(told(&mut harness, stranger), []);
    assert!(!hangs_up(&harness, stranger));
    harness.run_for(Duration::from_secs(4));
    assert_eq!(told(&mut harness, stranger), []);
    assert!(hangs_up(&harness, stranger));
}

/// The answer of a founder to a device that shows this invite, at its clock of [`NOW`].
fn answer(harness: &mut Harness, cluster: &harness::Cluster, joiner: u8, chain: Chain) -> String {
    let mut other = Harness::new(Node::new(
        Config::default(),
        cluster.identity(joiner),
        Saved::default(),
        facts(),
        NOW,
        [7; 32],
        Time::ZERO,
    ));
    let (me, peer) = (harness.node.id(), other.node.id());
    other.input(Input::LinkUp { peer: me, dialled: true });
    let join = other.sent.iter().find_map(|message| match message {
        Message::Join { record, .. } => {
            Some(Message::Join { record: record.clone(), chain: chain.clone() })
        }
        _ => None,
    });
    harness.input(Input::LinkUp { peer, dialled: false });
    harness.mail.clear();
    harness.input(Input::Message { from: peer, message: join.expect("it asks") });
    let answers = told(harness, peer);
    match &answers[..] {
        [Message::NotAdmitted { why, .. }] => {
            assert!(!harness.node.is_member(&peer), "{why}");
            assert!(hangs_up(harness, peer), "{why}");
            why.clone()
        }
        [Message::Admitted { .. }, ..] => String::new(),
        other => panic!("{other:?}"),
    }
}

/// The chain of an invite with a ticket for the founder to admit `joiner`.
fn shown(cluster: &harness::Cluster, invite: &Admittance, joiner: u8) -> Chain {
    let founder = PublicKey(id(10).0);
    let ticket = ticket(&cluster.genesis, &invite.keys, founder, id(joiner), serial_at(NOW));
    invite.chain.with(ticket)
}

/// Each refusal says what is wrong and what to do.
#[test]
fn device_is_let_in_once_and_in_time() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let single = cluster.invite(2, 1);
    assert_eq!(answer(&mut harness, &cluster, 21, shown(&cluster, &single, 21)), "");
    assert!(harness.node.is_member(&id(21)));
    let used = answer(&mut harness, &cluster, 22, shown(&cluster, &single, 22));
    assert!(used.contains("used already") && used.contains("shoal invite"), "{used}");
    let ended = cluster.invite_until(3, 5, WallClock(NOW.0 - 1));
    let late = answer(&mut harness, &cluster, 22, shown(&cluster, &ended, 22));
    assert!(late.contains("the invite ended at 2027") && late.contains("clock"), "{late}");
    // A ticket for another device, and one of nobody's.
    let fresh = cluster.invite(4, 5);
    let others = answer(&mut harness, &cluster, 22, shown(&cluster, &fresh, 23));
    assert!(others.contains("does not hold"), "{others}");
    let unsigned = Admittance { keys: KeyPair::from_seed(&[77; 32]), ..fresh.clone() };
    let forged = answer(&mut harness, &cluster, 22, shown(&cluster, &unsigned, 22));
    assert!(forged.contains("does not hold"), "{forged}");
    // An invite whose line was lost is revoked by its key.
    let revoked = cluster.revocation(fresh.keys.public(), serial_at(NOW) - 1, false);
    harness.gossip(id(21), Message::Changed { change: revoked.raw(), holder: None });
    let lost = answer(&mut harness, &cluster, 22, shown(&cluster, &fresh, 22));
    assert!(lost.contains("was revoked") && lost.contains("stolen"), "{lost}");
}

/// A device without a battery clock starts in 1970, and every invite seems to hold for ever.
#[test]
fn member_with_a_clock_of_1970_lets_nobody_in() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.input(Input::WallClock(WallClock(5_000)));
    let invite = cluster.invite(2, 1);
    let why = answer(&mut harness, &cluster, 21, shown(&cluster, &invite, 21));
    assert!(why.contains("says 1970-01-01") && why.contains("made at 2027"), "{why}");
}

/// A member that was admitted in another part of the cluster, by one that was itself admitted
/// there, shows how it came in.
#[test]
fn unknown_member_is_accepted_on_sight() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    let (founder, middle) = (cluster.identity(10).keys, KeyPair::from_seed(&[31; 32]));
    let invite = cluster.invite(2, 5);
    let at = serial_at(NOW);
    let first = cluster.admitted_by(&founder, &invite, id(31), at).raw();
    let second = cluster.admitted_by(&middle, &invite, id(32), at + 1).raw();
    let greets = |harness: &mut Harness, lineage: Vec<RawChange>| {
        harness.input(Input::LinkUp { peer: id(32), dialled: false });
        let revocations = harness.node.desired.revocations_digest();
        harness.mail.clear();
        let message = Message::Greet { lineage, revocations };
        harness.input(Input::Message { from: id(32), message });
        told(harness, id(32))
    };
    let alone = greets(&mut harness, vec![second.clone()]);
    assert!(matches!(alone[..], [Message::NotAdmitted { .. }]), "{alone:?}");
    harness.input(Input::LinkDown { peer: id(32) });
    let answer = greets(&mut harness, vec![second, first]);
    assert!(harness.node.is_member(&id(32)) && harness.node.is_member(&id(31)));
    assert!(matches!(answer.first(), Some(Message::Greet { .. })), "{answer:?}");
    assert!(answer.iter().any(|it| matches!(it, Message::Membership(_))), "{answer:?}");
}

/// A part of the cluster that slept learns of a stolen device before it hears anything else.
#[test]
fn revocations_are_exchanged_first() {
    let cluster = cluster();
    let stolen = cluster.revocation(PublicKey(id(40).0), 5, false);
    for here_first in [true, false] {
        let mut saved = cluster.founded();
        saved.changes.push(cluster.admission(id(30)).raw());
        saved.changes.push(cluster.admission(id(40)).raw());
        if here_first {
            saved.changes.push(stolen.raw());
        }
        let config = Config { name: "a".into(), founder: true, ..Config::default() };
        let node =
            Node::new(config, cluster.identity(10), saved, facts(), NOW, [7; 32], Time::ZERO);
        let mut harness = Harness::new(node);
        harness.input(Input::LinkUp { peer: id(30), dialled: true });
        let first = told(&mut harness, id(30));
        assert!(matches!(first[..], [Message::Greet { .. }]), "{first:?}");
        let theirs = Message::Greet { lineage: Vec::new(), revocations: Digest([9; 32]) };
        harness.input(Input::Message { from: id(30), message: theirs });
        let second = told(&mut harness, id(30));
        let [Message::Revocations { changes, answer: true, .. }] = &second[..] else {
            panic!("{second:?}")
        };
        assert_eq!(changes.len(), usize::from(here_first));
        let changes = if here_first { Vec::new() } else { vec![stolen.raw()] };
        let theirs = Message::Revocations { changes, more: false, answer: false };
        harness.input(Input::Message { from: id(30), message: theirs });
        assert!(!harness.node.is_member(&id(40)));
        let then = told(&mut harness, id(30));
        assert!(then.iter().any(|it| matches!(it, Message::Membership(_))), "{then:?}");
    }
}

/// The peer restarted, and this end of the link has not noticed. The peer waited behind its door in
/// vain, until it gave the link up.
#[test]
fn peer_that_took_the_link_for_a_new_one_is_answered() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    let peer = cluster.join_member(50, &mut harness).node.id();
    harness.mail.clear();
    let revocations = harness.node.desired.revocations_digest();
    let greeting = Message::Greet { lineage: Vec::new(), revocations };
    harness.input(Input::Message { from: peer, message: greeting });
    let answers = told(&mut harness, peer);
    assert!(matches!(answers[..], [Message::Greet { .. }]), "{answers:?}");
}

/// The link to a device that was revoked ends in the same moment, and the device is told why.
#[test]
fn revoked_device_is_told_and_cut_off() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    let other = cluster.join_member(50, &mut harness);
    let peer = other.node.id();
    harness.mail.clear();
    let revoked = cluster.revocation(PublicKey(peer.0), serial_at(NOW), false);
    harness.gossip(harness.node.id(), Message::Changed { change: revoked.raw(), holder: None });
    assert!(!harness.node.is_member(&peer));
    let last = told(&mut harness, peer);
    let Some(Message::NotAdmitted { why, changes }) = last.first() else { panic!("{last:?}") };
    assert!(why.contains("stolen") && changes == &[revoked.raw()], "{why}");
    assert!(hangs_up(&harness, peer));
    // It comes back, and is turned away with the same words.
    harness.input(Input::LinkDown { peer });
    harness.input(Input::LinkUp { peer, dialled: false });
    let lineage = other.node.desired.lineage(peer, 8);
    let revocations = other.node.desired.revocations_digest();
    let message = Message::Greet { lineage, revocations };
    harness.input(Input::Message { from: peer, message });
    let again = told(&mut harness, peer);
    assert!(matches!(again[..], [Message::NotAdmitted { .. }]), "{again:?}");
}

/// An honest device that was revoked by mistake, or found again, must not go on beside the replicas
/// that replaced its own.
#[test]
fn revoked_node_runs_nothing_any_more() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    assert_eq!(harness.node.own_claims().count(), 1);
    let me = harness.node.id();
    let revoked = cluster.revocation(PublicKey(me.0), serial_at(NOW), false);
    harness.orders.clear();
    harness.gossip(me, Message::Changed { change: revoked.raw(), holder: None });
    harness.run_for(Duration::from_secs(10));
    assert!(matches!(harness.orders[..], [Order::Stop { .. }]), "{:?}", harness.orders);
    let warnings = harness.node.status().warnings.join(" ");
    assert!(warnings.contains("was revoked"), "{warnings}");
}

/// Whoever once saw an invite told a member that it was not admitted, in words of its own choice,
/// and the member showed them as a warning.
#[test]
fn strangers_words_are_not_shown_by_a_member() {
    let cluster = cluster();
    let mut harness = busy_founder(&cluster);
    let peer = cluster.join_member(50, &mut harness).node.id();
    harness.input(Input::LinkUp { peer: id(66), dialled: false });
    let says = |why: &str| Message::NotAdmitted { why: why.into(), changes: Vec::new() };
    harness.input(Input::Message { from: id(66), message: says("send your keys to me") });
    assert_eq!(harness.node.reach.refused, None);
    assert_eq!(harness.node.shown.counters["dropped_stranger"], 1);
    // A member that does not know this one is heard.
    harness.input(Input::Message { from: peer, message: says("who let you in?") });
    assert_eq!(harness.node.reach.refused.as_deref(), Some("who let you in?"));
}

/// A greeting over an open link was answered by a greeting, that one by the next, and so on: two
/// nodes said nothing else any more.
#[test]
fn greetings_over_an_open_link_are_answered_once() {
    let cluster = cluster();
    let mut founder = Harness::new(cluster.founder(Saved::default()));
    let member = cluster.join_member(11, &mut founder);
    let peer = member.node.id();
    founder.mail.clear();
    let lineage = vec![cluster.admission(peer).raw()];
    let revocations = founder.node.desired.revocations_digest();
    for _ in 0..5 {
        let greet = Message::Greet { lineage: lineage.clone(), revocations };
        founder.input(Input::Message { from: peer, message: greet });
    }
    let is_greeting = |message: &Message| matches!(message, Message::Greet { .. });
    let answers =
        |founder: &mut Harness| told(founder, peer).into_iter().filter(is_greeting).count();
    assert_eq!(answers(&mut founder), 1);
    // The peer may take the link for a new one again.
    founder.run_for(Duration::from_secs(1));
    let greet = Message::Greet { lineage, revocations };
    founder.input(Input::Message { from: peer, message: greet });
    assert_eq!(answers(&mut founder), 1);
}
