//! A change that was refused because the disk takes no writes has no effect. A disk that takes
//! writes again gets what it missed.

use super::harness::*;
use super::*;
use crate::model::Change;

const FULL: &str = "no space left";

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn fails(harness: &mut Harness) {
    harness.input(Input::StoreFailed { why: FULL.into() });
}

fn recovers(harness: &mut Harness) {
    harness.disk_works = true;
    harness.input(Input::StoreRecovered);
}

/// A scale was refused with "nothing changed", and took effect in the whole cluster some seconds
/// later: the change was in memory, and a comparison gave it to a peer.
#[test]
fn refused_change_has_no_effect() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(2, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    let (roots, orders) = (harness.node.roots(), harness.orders.len());
    harness.broadcasts.clear();
    harness.disk_works = false;
    let change = harness.signed(&cluster, &spec(0, 32 << 20));
    harness.request(Command::Submit { change: change.raw() });
    let unchanged = |harness: &Harness| {
        assert_eq!(harness.node.spec(&web()).map(|spec| spec.replicas()), Some(2));
        assert_eq!((harness.node.roots(), harness.orders.len()), (roots, orders));
        assert!(!harness.node.holds_change(&change.signed.key, &change.hash()));
        assert!(
            !harness.broadcasts.iter().any(|message| matches!(message, Message::Changed { .. }))
        );
    };
    harness.run_for(Duration::from_secs(1));
    unchanged(&harness);
    fails(&mut harness);
    assert_eq!(harness.replies.pop(), Some(Reply::Refused(Refusal::ReadOnly(FULL.into()))));
    harness.run_for(Duration::from_secs(60));
    unchanged(&harness);
    recovers(&mut harness);
    unchanged(&harness);
    // The disk may have it all the same: memory is written over it.
    let again = Harness::new(cluster.founder(saved(&harness.records)));
    assert_eq!(again.node.spec(&web()).map(|spec| spec.replicas()), Some(2));
}

/// A new node with a link, and its request to be admitted.
fn asks_to_join(cluster: &harness::Cluster, harness: &mut Harness) -> (NodeId, Message) {
    let joiner = cluster.identity(20);
    let id = NodeId(joiner.keys.public().0);
    let node = Node::new(
        Config::default(),
        joiner,
        Saved::default(),
        facts(),
        WallClock(0),
        [7; 32],
        Time::ZERO,
    );
    let mut joiner = Harness::new(node);
    joiner.input(Input::LinkUp { peer: harness.node.id(), dialled: true });
    let join = joiner
        .sent
        .iter()
        .find(|message| matches!(message, Message::Join { .. }))
        .expect("it asks")
        .clone();
    harness.input(Input::LinkUp { peer: id, dialled: false });
    (id, join)
}

/// A joining node was shown to peers as a member before its admission was on disk.
#[test]
fn refused_admission_has_no_effect() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let (id, join) = asks_to_join(&cluster, &mut harness);
    let (before, is_answer) =
        (harness.node.roots(), |it: &Message| matches!(it, Message::Admitted { .. }));
    harness.disk_works = false;
    harness.input(Input::Message { from: id, message: join.clone() });
    harness.input(Input::Message { from: id, message: join.clone() });
    assert_eq!((harness.node.status().nodes, harness.node.roots()), (1, before));
    fails(&mut harness);
    assert_eq!((harness.node.status().nodes, harness.node.roots()), (1, before));
    assert!(!harness.sent.iter().any(is_answer));
    recovers(&mut harness);
    harness.input(Input::Message { from: id, message: join });
    assert_eq!(harness.node.status().nodes, 2);
    assert!(harness.sent.iter().any(is_answer));
}

/// Two people scale at once. The second one was shown a change that the disk had not taken yet.
#[test]
fn command_waits_for_the_change_before_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.disk_works = false;
    let first = harness.signed(&cluster, &spec(2, 32 << 20));
    harness.request(Command::Submit { change: first.raw() });
    harness.request(Command::Prepare { name: web(), spec: Some(spec(2, 32 << 20)), force: false });
    assert!(harness.replies.is_empty());
    fails(&mut harness);
    let refused = || Reply::Refused(Refusal::ReadOnly(FULL.into()));
    assert_eq!(harness.replies, [refused(), refused()], "each is answered");
    recovers(&mut harness);
    harness.disk_works = false;
    harness.replies.clear();
    let first = harness.signed(&cluster, &spec(2, 32 << 20));
    harness.request(Command::Submit { change: first.raw() });
    harness.request(Command::Prepare { name: web(), spec: Some(spec(3, 32 << 20)), force: false });
    harness.disk_works = true;
    harness.input(Input::Stored { upto: harness.last_batch });
    let [Reply::Accepted { .. }, Reply::Prepared { draft, current, .. }] = &harness.replies[..]
    else {
        panic!("{:?}", harness.replies)
    };
    assert_eq!(current.as_ref().map(|spec| spec.replicas()), Some(2));
    assert!(draft.serial > first.signed.serial);
}

/// Changes that came from peers while the disk was full counted here, and were never written.
#[test]
fn recovered_disk_holds_what_memory_holds() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    harness.publish(&cluster, &spec(2, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    fails(&mut harness);
    harness.disk_works = false;
    assert!(harness.node.status().read_only.is_some());
    // A peer scales the workload down: this node releases a replica, and sends that.
    let mut other = Harness::new(cluster.founder(saved(&harness.records)));
    let change = other.signed(&cluster, &spec(1, 32 << 20));
    let message = Message::Changed { change: change.raw(), holder: None };
    harness.input(Input::Message { from: peer, message });
    harness.run_for(Duration::from_secs(70));
    assert_eq!(harness.node.spec(&web()).map(|spec| spec.replicas()), Some(1));
    let claims = harness.node.own_claims().count();
    assert!(claims <= 1, "{claims}");
    recovers(&mut harness);
    harness.run_for(Duration::from_secs(5));
    assert_eq!(harness.node.status().read_only, None);
    assert!(!harness.node.status().warnings.iter().any(|warning| warning.contains("disk")));
    let again = Harness::new(cluster.founder(saved(&harness.records)));
    assert_eq!(again.node.spec(&web()).map(|spec| spec.replicas()), Some(1));
    assert_eq!(again.node.own_claims().count(), claims, "also what was let go meanwhile");
    // The node takes changes and new replicas again.
    assert!(matches!(harness.publish(&cluster, &spec(3, 32 << 20)), Reply::Accepted { .. }));
    harness.run_for(Duration::from_secs(5));
    assert!(harness.node.own_claims().count() > claims);
}

/// The disk failed over the incarnation by which the node refutes its death, and the node did not
/// ask for it again: to other nodes it was down until its restart.
#[test]
fn refused_incarnation_is_written_when_the_disk_recovers() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let incarnation = |harness: &Harness| harness.node.nodes()[0].incarnation;
    let before = incarnation(&harness);
    harness.disk_works = false;
    harness.node.persist_incarnation(before + 5);
    fails(&mut harness);
    recovers(&mut harness);
    assert_eq!(incarnation(&harness), before + 5);
    assert!(
        harness
            .records
            .iter()
            .any(|record| matches!(record, Record::Incarnation(it) if *it == before + 5))
    );
}

/// A disk recovers and fails at once, three times. Each time the node is read-only as before.
#[test]
fn disk_that_fails_again_makes_the_node_read_only_again() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    for _ in 0..3 {
        harness.disk_works = false;
        fails(&mut harness);
        assert!(harness.draft(Some(spec(2, 32 << 20))).is_err());
        harness.input(Input::StoreRecovered);
        let change = harness.signed(&cluster, &spec(2, 32 << 20));
        harness.request(Command::Submit { change: change.raw() });
        fails(&mut harness);
        assert!(matches!(harness.replies.pop(), Some(Reply::Refused(Refusal::ReadOnly(_)))));
    }
    recovers(&mut harness);
    assert!(matches!(harness.publish(&cluster, &spec(2, 32 << 20)), Reply::Accepted { .. }));
}

/// A peer's change of a workload comes while another change of it is on its way to disk. The peer's
/// was written as the only one, over the other, whose author had been answered that it counts: a
/// restart did not know it.
#[test]
fn change_on_its_way_to_disk_outlives_one_from_a_peer() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    harness.publish(&cluster, &spec(1, 32 << 20));
    let (mine, theirs) = (spec(2, 32 << 20), spec(3, 32 << 20));
    let draft = harness.draft(Some(mine.clone())).unwrap();
    let theirs = cluster.sign_on(1, draft.clone(), &web(), Value::workload(&theirs));
    let mine = cluster.sign(draft, &web(), Value::workload(&mine));
    harness.disk_works = false;
    harness.request(Command::Submit { change: mine.raw() });
    harness.disk_works = true;
    harness.input(Input::Message {
        from: peer,
        message: Message::Changed { change: theirs.raw(), holder: None },
    });
    assert!(matches!(harness.replies.pop(), Some(Reply::Accepted { .. })));
    let again = cluster.founder(saved(&harness.records));
    let has = |change: &Change| again.holds_change(&change.signed.key, &change.hash());
    assert!(has(&theirs) && has(&mine));
}

/// A joining node asks every two seconds. Each request was a write of its own, which the next one
/// postponed.
#[test]
fn repeated_join_is_answered_by_the_first_write() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let (id, join) = asks_to_join(&cluster, &mut harness);
    harness.disk_works = false;
    harness.input(Input::Message { from: id, message: join.clone() });
    let first = harness.last_batch;
    harness.input(Input::Message { from: id, message: join });
    harness.input(Input::Stored { upto: first });
    assert_eq!(harness.node.status().nodes, 2);
    assert!(harness.sent.iter().any(|message| matches!(message, Message::Admitted { .. })));
}

/// The disk hangs. Neither changes nor the commands that wait for them pile up without end: further
/// ones are refused.
#[test]
fn waiting_for_a_slow_disk_is_bounded() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let spec = spec(1, 32 << 20);
    let draft = harness.draft(Some(spec.clone())).unwrap();
    harness.disk_works = false;
    let submit = |harness: &mut Harness, number: usize| {
        let name = format!("w{number}").parse().unwrap();
        let spec = Spec::try_from(SpecForm { name, ..spec.clone().into() }).unwrap();
        let change = cluster.sign(draft.clone(), &spec.name, Value::workload(&spec));
        harness.request(Command::Submit { change: change.raw() });
        harness.request(Command::Prepare {
            name: spec.name.clone(),
            spec: Some(spec),
            force: false,
        });
    };
    (0..1_024).for_each(|number| submit(&mut harness, number));
    assert_eq!(harness.replies, []);
    let name: WorkloadName = "w0".parse().unwrap();
    harness.request(Command::Prepare { name, spec: None, force: false });
    submit(&mut harness, 1_024);
    let busy: Vec<bool> =
        harness.replies.iter().map(|it| matches!(it, Reply::Refused(Refusal::Busy(_)))).collect();
    assert_eq!(busy, [true, true, false], "{:?}", harness.replies);
    harness.node.queues().iter().for_each(|queue| assert!(!queue.is_overfull(), "{queue:?}"));
}

/// If a read-only node started a new version, a restart would not know that and start the old one.
/// It looks for another node, and serves the old one until then.
#[test]
fn node_that_cannot_write_starts_no_new_version() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    assert_eq!(harness.node.own_claims().count(), 1);
    let newer = harness.signed(&cluster, &spec(1, 64 << 20));
    harness.disk_works = false;
    fails(&mut harness);
    harness.orders.clear();
    harness.input(Input::Message {
        from: peer,
        message: Message::Changed { change: newer.raw(), holder: None },
    });
    harness.run_for(Duration::from_secs(5));
    assert!(harness.orders.is_empty(), "{:?}", harness.orders);
    let view = harness.node.workload(&"web".parse().unwrap()).unwrap();
    let reason = view.replicas[0].reason.clone().unwrap();
    assert!(reason.contains("the disk takes no writes"), "{reason}");
}
