//! Artifacts: none that nobody wishes for keeps one from being fetched that somebody does, and no
//! lost word hides a holder for good.

use std::time::Duration;

use super::harness::{Harness, cluster, facts, saved, spec};
use super::*;
use crate::model::{Artifact, NodeRecord, Spec, SpecForm, WorkloadName};
use crate::trust;

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn artifact(number: u64) -> Artifact {
    Artifact { digest: Digest::of(&number.to_be_bytes()), size: 8 }
}

fn version(number: u64) -> Spec {
    SpecForm { artifact: artifact(number), ..SpecForm::from(spec(1, 32 << 20)) }.try_into().unwrap()
}

fn healthy(harness: &mut Harness) -> u32 {
    harness.run_for(Duration::from_secs(5));
    harness.node.workload(&web()).unwrap().healthy
}

fn within_bounds(harness: &Harness) {
    for queue in harness.node.queues() {
        assert!(!queue.is_overfull(), "{queue:?}");
    }
}

/// After 4,096 uploads, of what can never run, the book was full: what was published then stayed
/// `starting`, and nothing said why.
#[test]
fn uploads_do_not_keep_a_workload_from_running() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_outcome = FetchOutcome::Unusable("an inner module that no compiler takes".into());
    for number in 0..4_200 {
        assert_eq!(harness.command(Command::Uploaded { artifact: artifact(number) }), Reply::Done);
    }
    within_bounds(&harness);
    harness.fetch_outcome = FetchOutcome::Ready;
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

/// Each version of a workload left its artifact behind until some workload was removed.
#[test]
fn replaced_versions_are_forgotten() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    for number in 0..600 {
        harness.publish(&cluster, &version(number));
        within_bounds(&harness);
    }
    assert_eq!(healthy(&mut harness), 1);
}

/// What is still being made ready cannot be forgotten, so more than fit are refused; what is wished
/// for never is.
#[test]
fn too_many_uploads_at_once_are_refused_in_words() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_hangs = true;
    let replies: Vec<Reply> = (0..2_000)
        .map(|number| harness.command(Command::Uploaded { artifact: artifact(number) }))
        .collect();
    within_bounds(&harness);
    assert_eq!(replies[..256], vec![Reply::Done; 256]);
    let Reply::Refused(refusal) = &replies[1_999] else { panic!("{:?}", replies[1_999]) };
    assert!(refusal.to_string().contains("still being made ready"), "{refusal}");
    harness.fetch_hangs = false;
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

#[test]
fn an_upload_that_nobody_publishes_is_not_pinned_for_ever() {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    harness.command(Command::Uploaded { artifact: artifact(1) });
    harness.run_for(Duration::from_secs(590));
    assert!(harness.node.pinned().contains(&artifact(1).digest));
    harness.run_for(Duration::from_secs(20));
    assert!(harness.node.pinned().is_empty());
}

/// A member told of 4,096 artifacts that do not exist: the node never fetched anything new again.
#[test]
fn words_about_what_nobody_wishes_for_are_dropped() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    for number in 0..4_200 {
        let message = Message::Have { node: peer, digest: artifact(number).digest };
        harness.input(Input::Gossip { ticket: Ticket(number), from: peer, message });
    }
    within_bounds(&harness);
    assert_eq!(harness.node.artifacts.len(), 0);
    assert!(!harness.effects.iter().any(|asked| asked.contains("Accept")), "relayed to others");
    harness.input(Input::LinkDown { peer });
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

/// A holder's word overtook the change that names its artifact, or was lost. It is not repeated by
/// itself: a node that is asked for the workload asks the holder.
#[test]
fn a_holder_that_was_heard_too_early_is_heard_again() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = ready_member(&cluster, 20, &mut harness);
    let change = harness.signed(&cluster, &version(1));
    let have = Message::Have { node: peer, digest: artifact(1).digest };
    harness.input(Input::Gossip { ticket: Ticket(1), from: peer, message: have.clone() });
    harness.input(Input::Message {
        from: peer,
        message: Message::Changed { change: change.raw(), holder: None },
    });
    let holders = |harness: &Harness| harness.node.workload(&web()).unwrap().artifact_holders;
    assert_eq!(holders(&harness), 1, "itself");
    harness.sent.clear();
    // The same once more: the others are asked whether they know of it, and that is answered later.
    harness.request(Command::Prepare { name: web(), spec: Some(version(1)), force: false });
    harness.run_for(Duration::from_secs(2));
    assert!(
        harness.sent.contains(&Message::AskHolder { digest: artifact(1).digest }),
        "{:?}",
        harness.sent
    );
    harness.input(Input::Message { from: peer, message: have });
    assert_eq!(holders(&harness), 2);
}

/// The words of all holders may be lost: whoever wrote the change asks the guardians for them.
#[test]
fn a_node_that_took_a_change_asks_guardians_whether_they_hold_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    ready_member(&cluster, 20, &mut harness);
    harness.publish(&cluster, &version(1));
    harness.sent.clear();
    harness.run_for(Duration::from_millis(1_500));
    assert!(
        harness.sent.contains(&Message::AskHolder { digest: artifact(1).digest }),
        "{:?}",
        harness.sent
    );
}

/// A member may not fill the list of holders with nodes that are none.
#[test]
fn a_word_about_a_stranger_is_dropped() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = ready_member(&cluster, 20, &mut harness);
    harness.publish(&cluster, &version(1));
    let holders = |harness: &Harness| harness.node.workload(&web()).unwrap().artifact_holders;
    for (node, expected) in [(NodeId([9; 32]), 1), (peer, 2)] {
        let message = Message::Have { node, digest: artifact(1).digest };
        harness.input(Input::Message { from: peer, message });
        assert_eq!(holders(&harness), expected);
    }
}

/// It was ready before anybody wished for it, and nobody would have taken its word then.
#[test]
fn a_node_that_has_what_a_change_names_says_so() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    harness.command(Command::Uploaded { artifact: artifact(1) });
    let have = Message::Have { node: harness.node.id(), digest: artifact(1).digest };
    assert!(!harness.broadcasts.contains(&have), "nobody names it yet");
    let change = harness.signed(&cluster, &version(1));
    harness.input(Input::Message {
        from: peer,
        message: Message::Changed { change: change.raw(), holder: None },
    });
    assert!(harness.broadcasts.contains(&have));
}

/// The only holder was no guardian and its word was lost; or sixteen members said falsely that they
/// held it. The same sixteen were asked for ever.
#[test]
fn a_fetch_that_fails_asks_every_node_in_turn() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let members: BTreeSet<NodeId> =
        (20..60).map(|number| ready_member(&cluster, number, &mut harness)).collect();
    harness.fetch_hangs = true;
    harness.publish(&cluster, &version(1));
    let digest = artifact(1).digest;
    for liar in members.iter().take(16) {
        harness
            .input(Input::Message { from: *liar, message: Message::Have { node: *liar, digest } });
    }
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    let first = harness.node.candidates(&digest);
    assert!(
        members.iter().take(16).all(|node| first.contains(node)),
        "those that say so come first"
    );
    for _ in 0..5 {
        let candidates = harness.node.candidates(&digest);
        assert_eq!(candidates.len(), candidates.iter().collect::<BTreeSet<_>>().len());
        asked.extend(candidates);
        harness.node.artifacts.failed(harness.now, digest, "node does not have it".into());
    }
    assert_eq!(asked, members);
}

#[test]
fn a_replica_that_waits_for_its_bytes_says_why() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_hangs = true;
    harness.publish(&cluster, &version(1));
    harness.run_for(Duration::from_secs(1));
    let why = |harness: &Harness| {
        let explained = harness.node.explain(&"web/0".parse().unwrap()).unwrap();
        explained.now[0].reason.clone().unwrap_or_default()
    };
    assert_eq!(why(&harness), "its artifact is being fetched and made ready");
    let outcome = FetchOutcome::Failed("no space left on the disk".into());
    harness.input(Input::Fetched { digest: artifact(1).digest, outcome });
    assert_eq!(
        why(&harness),
        "its artifact could not be fetched, 1 times: no space left on the disk"
    );
}

#[test]
fn after_a_restart_what_was_published_is_named_again() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &version(1));
    harness.publish(&cluster, &version(2));
    let again = cluster.founder(saved(&harness.records));
    assert!(again.desired.names_artifact(&artifact(2).digest));
    assert_eq!(
        (again.desired.artifacts(), again.desired.names_artifact(&artifact(1).digest)),
        (1, false)
    );
}

/// A member with a link that is on the ring.
fn ready_member(cluster: &harness::Cluster, number: u8, harness: &mut Harness) -> NodeId {
    let keys = cluster.identity(number).keys;
    let id = NodeId(keys.public().0);
    let admission = trust::admit(&cluster.genesis, &cluster.join, id, 1, 1).unwrap();
    harness.input(Input::Message {
        from: id,
        message: Message::Admitted { changes: vec![admission.raw()] },
    });
    harness.input(Input::LinkUp { peer: id });
    let record = NodeRecord {
        counter: 1,
        incarnation: 1,
        name: format!("n{number}"),
        addresses: vec!["/ip4/127.0.0.1/tcp/9".into()],
        facts: facts(),
        version: String::new(),
        ready: true,
        leaving: false,
        no_way_to: Vec::new(),
    };
    let record = Signed::sign(record, &keys, &harness.node.cluster).wire();
    harness.input(Input::Message {
        from: id,
        message: Message::Membership(membership::Message::Record(record)),
    });
    id
}
