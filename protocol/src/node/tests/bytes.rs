//! Artifacts: those that no workload names keep none from being fetched that a workload names, and
//! no lost announcement hides a holder for ever.

use std::time::Duration;

use super::harness::{Harness, cluster, facts, saved, spec};
use super::*;
use crate::model::{Artifact, NodeRecord, ProgramKind, Spec, SpecForm, WorkloadName};

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn artifact(number: u64) -> Artifact {
    Artifact { digest: Digest::of(&number.to_be_bytes()), size: 8 }
}

fn version(number: u64) -> Spec {
    SpecForm::from(spec(1, 32 << 20)).with_artifact(artifact(number)).try_into().unwrap()
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

/// After 4,096 uploads of artifacts that can never run, the list of artifacts was full: a workload
/// that was published then stayed `starting`, without a reason.
#[test]
fn uploads_do_not_keep_a_workload_from_running() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_outcome = FetchOutcome::Unusable("an inner module that no compiler takes".into());
    for number in 0..4_200 {
        assert_eq!(
            harness
                .command(Command::Uploaded { artifact: artifact(number), kind: ProgramKind::Wasm }),
            Reply::Done
        );
    }
    within_bounds(&harness);
    harness.fetch_outcome = FetchOutcome::Ready;
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

/// Each version of a workload left its artifact in the list until some workload was removed.
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

/// An artifact that is still being made ready cannot be forgotten, so uploads above the bound are
/// refused. An artifact that a workload names never is.
#[test]
fn too_many_uploads_at_once_are_refused_with_a_reason() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_hangs = true;
    let replies: Vec<Reply> = (0..2_000)
        .map(|number| {
            harness
                .command(Command::Uploaded { artifact: artifact(number), kind: ProgramKind::Wasm })
        })
        .collect();
    within_bounds(&harness);
    assert_eq!(replies[..256], vec![Reply::Done; 256]);
    let Reply::Refused(refusal) = &replies[1_999] else { panic!("{:?}", replies[1_999]) };
    assert!(refusal.to_string().contains("still being made ready"), "{refusal}");
    harness.fetch_hangs = false;
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

/// An upload that no workload names is pinned for ten minutes.
#[test]
fn unpublished_upload_is_not_pinned_for_ever() {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    harness.command(Command::Uploaded { artifact: artifact(1), kind: ProgramKind::Wasm });
    harness.run_for(Duration::from_secs(590));
    assert!(harness.node.pinned().contains(&artifact(1).digest));
    harness.run_for(Duration::from_secs(20));
    assert!(harness.node.pinned().is_empty());
}

/// A member announced 4,096 artifacts that do not exist, and the node never fetched anything new
/// again.
#[test]
fn announcements_of_unnamed_artifacts_are_dropped() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    for number in 0..4_200 {
        let message = Message::Have { node: peer, digest: artifact(number).digest };
        harness.input(Input::Gossip { ticket: Ticket(number), from: peer, message });
    }
    within_bounds(&harness);
    assert_eq!(harness.node.artifacts.queues(0, |_| false)[0].len, 0);
    assert!(!harness.effects.iter().any(|asked| asked.contains("Accept")), "relayed to others");
    harness.input(Input::LinkDown { peer });
    harness.publish(&cluster, &version(5_000));
    assert_eq!(healthy(&mut harness), 1);
}

/// A holder's announcement came before the change that names the artifact, or was lost, and the
/// holder does not repeat it. A node that is asked for the workload asks the holder.
#[test]
fn holder_that_announced_too_early_is_asked_again() {
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
    // The same again: members are asked whether they hold it, and the answer comes later.
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

/// The announcements of all holders may be lost. The node that wrote the change asks the guardians
/// whether they hold the artifact.
#[test]
fn node_that_wrote_a_change_asks_guardians_for_holders() {
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

/// A member must not fill the list of holders with nodes that are no members.
#[test]
fn announcement_about_a_stranger_is_dropped() {
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

/// The artifact was ready before a change named it. Other nodes would have dropped an announcement
/// at that time.
#[test]
fn node_announces_an_artifact_once_a_change_names_it() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let peer = cluster.join_member(20, &mut harness).node.id();
    harness.command(Command::Uploaded { artifact: artifact(1), kind: ProgramKind::Wasm });
    let have = Message::Have { node: harness.node.id(), digest: artifact(1).digest };
    assert!(!harness.broadcasts.contains(&have), "no workload names it yet");
    let change = harness.signed(&cluster, &version(1));
    harness.input(Input::Message {
        from: peer,
        message: Message::Changed { change: change.raw(), holder: None },
    });
    assert!(harness.broadcasts.contains(&have));
}

/// The only holder was no guardian and its announcement was lost; or sixteen members announced
/// falsely that they held the artifact. The same sixteen were asked for ever.
#[test]
fn failing_fetch_asks_every_node_in_turn() {
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
fn replica_that_waits_for_its_bytes_says_why() {
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

/// The artifact of the latest version is named after a restart, that of a replaced version is not.
#[test]
fn restart_names_the_published_artifact_again() {
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

/// A member with a link, on the ring.
fn ready_member(cluster: &harness::Cluster, number: u8, harness: &mut Harness) -> NodeId {
    let keys = cluster.identity(number).keys;
    let id = NodeId(keys.public().0);
    let admission = cluster.admission(id);
    let me = harness.node.id();
    harness.gossip(me, Message::Changed { change: admission.raw(), holder: None });
    harness.link(id);
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

/// Parts of an image come from several holders: each artifact is asked of another one first, and
/// each node begins elsewhere.
#[test]
fn artifacts_are_asked_of_different_holders_first() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let holders: BTreeSet<NodeId> =
        (20..24).map(|number| ready_member(&cluster, number, &mut harness)).collect();
    harness.fetch_hangs = true;
    let mut first = BTreeSet::new();
    for number in 1..12 {
        harness.publish(&cluster, &version(number));
        let digest = artifact(number).digest;
        for node in &holders {
            harness.input(Input::Message {
                from: *node,
                message: Message::Have { node: *node, digest },
            });
        }
        first.insert(harness.node.candidates(&digest)[0]);
    }
    assert!(first.len() > 1 && first.is_subset(&holders), "{first:?} of {holders:?}");
}
