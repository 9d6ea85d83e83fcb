mod asking;
mod bidder;
mod bytes;
mod doors;
mod endings;
mod further_names;
mod harness;
mod history;
mod hostile;
mod old_versions;
mod placing;
mod reach;
mod refused;
mod relay;
mod resources;
mod returning;
mod stalls;
mod standing;
mod steps;
mod unwritten;
mod values;
mod volumes;

use std::time::Duration;

use super::*;
use crate::model::{
    Artifact, Award, InstanceState, ReplicaId, Signed, Spec, SpecForm, Value, WorkloadName,
};
use crate::trust;

use harness::{Harness, cluster, facts, saved, spec};

fn effects_of_a_run(seed: [u8; 32]) -> Vec<String> {
    let cluster = cluster();
    let config = Config { name: "a".into(), founder: true, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let mut saved = cluster.founded();
    saved.changes.push(cluster.admission(NodeId([9; 32])).raw());
    let node = Node::new(config, cluster.identity(10), saved, facts(), wall, seed, Time::ZERO);
    let mut harness = Harness::new(node);
    harness.publish(&cluster, &spec(3, 32 << 20));
    harness.link(NodeId([9; 32]));
    harness.input(Input::Garbage { from: NodeId([9; 32]), why: "noise".into() });
    harness.run_for(Duration::from_secs(30));
    harness.input(Input::LinkDown { peer: NodeId([9; 32]) });
    harness.run_for(Duration::from_secs(30));
    harness.effects
}

/// The effects of two runs are the same, byte for byte.
#[test]
fn same_seed_and_inputs_give_the_same_effects() {
    let (one, other) = (effects_of_a_run([7; 32]), effects_of_a_run([7; 32]));
    assert!(one.len() > 10, "{one:?}");
    assert_eq!(one, other);
    assert_ne!(one, effects_of_a_run([8; 32]), "the seed is used");
}

/// A founder alone in its cluster auctions both places, wins them and runs them.
#[test]
fn lone_founder_places_what_is_published() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let change = harness.signed(&cluster, &spec(2, 32 << 20));
    let reply = harness.command(Command::Submit { change: change.raw() });
    assert_eq!(reply, Reply::Accepted { uid: change.uid(), change: change.hash() });
    harness.run_for(Duration::from_secs(5));
    let view = harness.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!((view.desired, view.healthy), (2, 2), "{view:?}");
    assert_eq!(harness.node.routes().1[&"web".parse::<WorkloadName>().unwrap()].len(), 2);
    let explained = harness.node.explain(&"web/1".parse().unwrap()).unwrap();
    assert_eq!(explained.auctions[0].winner.as_deref(), Some("a"), "{explained:?}");
}

/// The disk does not answer. The author of a change is not answered, and nothing of it runs, before
/// the change is on disk.
#[test]
fn answer_waits_for_the_disk() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let change = harness.signed(&cluster, &spec(1, 32 << 20));
    harness.disk_works = false;
    harness.requests += 1;
    let request = RequestId(harness.requests);
    harness.input(Input::Command { request, command: Command::Submit { change: change.raw() } });
    assert!(harness.replies.is_empty(), "answered before it was on disk");
    harness.run_for(Duration::from_secs(5));
    assert!(harness.orders.is_empty(), "runs what is not on disk");
    harness.input(Input::Stored { upto: harness.last_batch });
    assert!(matches!(&harness.replies[..], [Reply::Accepted { .. }]), "{:?}", harness.replies);
}

/// A restarted node orders its claimed replicas from what is on its disk, without a peer.
#[test]
fn restart_runs_what_was_claimed() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(2, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    assert_eq!(harness.orders.len(), 2);
    let again = Harness::new(cluster.founder(saved(&harness.records)));
    assert_eq!(again.orders.len(), 2, "before any timer, with no peer");
    assert_eq!(again.node.spec(&"web".parse().unwrap()), Some(&spec(2, 32 << 20)));
}

/// A large roster that is written again at each start wears the flash out.
#[test]
fn restart_does_not_rewrite_records_of_others() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let node = cluster.join_member(20, &mut harness).node.id();
    harness.run_for(Duration::from_secs(90));
    let others = |harness: &Harness| {
        harness
            .records
            .iter()
            .filter(|record| matches!(record, Record::Node { node: it, .. } if *it == node))
            .count()
    };
    assert_eq!(others(&harness), 1);
    let mut again = Harness::new(cluster.founder(saved(&harness.records)));
    assert_eq!(again.node.status().nodes, 2);
    again.run_for(Duration::from_secs(90));
    assert_eq!(others(&again), 0);
}

/// A replica requires more memory than any node has.
#[test]
fn impossible_requirement_is_refused_with_its_reason() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let refusal = harness.draft(Some(spec(1, 1 << 39))).unwrap_err();
    let text = refusal.to_string();
    assert!(
        text.contains("524288 MiB of memory required") && text.contains("1 node left out"),
        "{text}"
    );
}

/// Two changes are signed for the same draft. The second one has not seen the first one, and is
/// refused.
#[test]
fn change_of_an_outdated_state_is_stale() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let draft = harness.draft(Some(spec(1, 32 << 20))).unwrap();
    let first =
        cluster.sign(draft.clone(), &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    harness.command(Command::Submit { change: first.raw() });
    let second = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(2, 32 << 20)));
    assert_eq!(
        harness.command(Command::Submit { change: second.raw() }),
        Reply::Refused(Refusal::Stale)
    );
    assert_eq!(harness.node.spec(&"web".parse().unwrap()).unwrap().replicas(), 1);
}

/// A publish changes the digest of desired state, and no other.
#[test]
fn status_shows_digests_of_what_is_held() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let before = harness.node.status().roots;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["desired", "records", "rulings", "sheets"]);
    harness.publish(&cluster, &spec(1, 32 << 20));
    let after = harness.node.status().roots;
    assert_ne!(after["desired"], before["desired"]);
    assert_eq!(after["rulings"], before["rulings"]);
}

/// The node refuses writes with the disk's reason, and its status shows that.
#[test]
fn failed_disk_makes_the_node_read_only() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.input(Input::StoreFailed { why: "no space left".into() });
    let refusal = harness.draft(Some(spec(1, 32 << 20))).unwrap_err();
    assert_eq!(refusal, Refusal::ReadOnly("no space left".into()));
    assert_eq!(harness.node.status().read_only.as_deref(), Some("no space left"));
}

/// The runtime reports a failure that no further try mends. The claim shows the reason before the
/// replica is released, and the workload's view shows it afterwards.
#[test]
fn replica_that_cannot_start_is_given_up_with_its_reason() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.run_for(Duration::from_millis(500));
    let Order::Run { replica, generation, .. } = harness.orders[0].clone() else {
        panic!("{:?}", harness.orders)
    };
    let state = InstanceState::Failed { reason: "trapped".into(), retryable: false };
    harness.input(Input::Report(Report { replica, generation, state }));
    let view = harness.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!(
        (view.replicas[0].phase.as_str(), view.replicas[0].reason.as_deref()),
        ("failing", Some("trapped"))
    );
    harness.run_for(Duration::from_secs(5));
    assert!(harness.orders.contains(&Order::Stop { replica }), "{:?}", harness.orders);
    let reason =
        harness.node.workload(&"web".parse().unwrap()).unwrap().replicas[0].reason.clone().unwrap();
    assert!(reason.contains("trapped"), "{reason}");
}

/// A device with a small disk won an auction and could not store the component. It held the place,
/// `starting`, for ever, while other nodes had room. It gives the place up with the reason now, and
/// takes it again once it has room.
#[test]
fn replica_without_its_bytes_is_given_up_with_the_reason() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.fetch_error = Some("no space left on the disk");
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.run_for(Duration::from_secs(1));
    assert_eq!(harness.node.own_claims().count(), 1);
    harness.run_for(Duration::from_secs(11));
    assert_eq!(harness.node.own_claims().count(), 0);
    let reason =
        harness.node.workload(&"web".parse().unwrap()).unwrap().replicas[0].reason.clone().unwrap();
    assert!(reason.contains("no space left"), "{reason}");
    // Once there is room again, the node runs the replica.
    harness.fetch_error = None;
    harness.run_for(Duration::from_secs(120));
    assert_eq!(harness.node.workload(&"web".parse().unwrap()).unwrap().healthy, 1);
}

/// A new version was published, and the old one again before the bytes of the new one had come. The
/// runtime had no order for the new version, so the node had nothing to order and waited for a
/// start that no runtime reported: the replica stayed `starting`, without requests, though it ran.
#[test]
fn withdrawn_version_leaves_the_old_one_healthy() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let web: WorkloadName = "web".parse().unwrap();
    let old = spec(1, 32 << 20);
    let artifact = Artifact { digest: Digest::of(b"other bytes"), size: 11 };
    let new: Spec = SpecForm::from(old.clone()).with_artifact(artifact).try_into().unwrap();
    for (spec, fetch_error) in
        [(&old, None), (&new, Some("no node has it yet")), (&old, Some("no node has it yet"))]
    {
        harness.fetch_error = fetch_error;
        harness.publish(&cluster, spec);
        harness.run_for(Duration::from_millis(100));
    }
    let view = harness.node.workload(&web).unwrap();
    assert_eq!((view.replicas[0].phase.as_str(), view.healthy), ("healthy", 1));
    assert_eq!(harness.node.routes().1[&web].len(), 1);
}

/// A joining node that knew no other member would look for none, should the node that admitted it
/// die in the next moment.
#[test]
fn joiner_learns_which_node_admits_it() {
    let cluster = cluster();
    let joiner = cluster.join_member(20, &mut Harness::new(cluster.founder(Saved::default())));
    assert_eq!(joiner.node.status().nodes, 2);
}

/// A joining node that received its own admission alone, from a member that it does not know yet.
fn lone_joiner() -> (NodeId, Harness) {
    let cluster = cluster();
    let config = Config { name: "b".into(), founder: false, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(
        config,
        cluster.identity(20),
        Saved::default(),
        facts(),
        wall,
        [7; 32],
        Time::ZERO,
    );
    let (me, other) = (node.id(), NodeId([9; 32]));
    let mut harness = Harness::new(node);
    harness.input(Input::LinkUp { peer: other, dialled: true });
    let admission = cluster.admission(me);
    harness.input(Input::Message {
        from: other,
        message: Message::Admitted { changes: vec![admission.raw()] },
    });
    (other, harness)
}

/// A joining node received its own admission alone. It does not know yet which node admitted it,
/// nor what runs, so it must not be ready as the only member that it knows.
#[test]
fn joiner_that_knows_no_other_member_is_not_ready() {
    let (_, mut harness) = lone_joiner();
    harness.run_for(Duration::from_secs(60));
    let status = harness.node.status();
    assert_eq!((status.nodes, status.ready), (1, false));
}

/// The member that admitted a node died at once. A user removed a workload through the new node,
/// which knew no other member to ask, and was told that there was no such workload.
#[test]
fn joiner_that_knows_no_other_member_denies_no_workload() {
    let (other, mut harness) = lone_joiner();
    harness.input(Input::LinkDown { peer: other });
    let name: crate::model::WorkloadName = "web".parse().unwrap();
    let command = Command::Prepare { name: name.clone(), spec: None, force: false };
    let unheard = vec!["the member that admitted this node".to_owned()];
    let refused = Reply::Refused(Refusal::MayBeElsewhere { name, unheard });
    assert_eq!(harness.command(command), refused);
}

/// The invite may name addresses that cannot be reached from here, while members are seen on the
/// local network. However many are seen, the seeds are bounded.
#[test]
fn newcomer_dials_where_a_member_was_seen() {
    let cluster = cluster();
    let config = Config { name: "b".into(), ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(
        config,
        cluster.identity(11),
        Saved::default(),
        facts(),
        wall,
        [7; 32],
        Time::ZERO,
    );
    let mut harness = Harness::new(node);
    let seen = |n: u8| Input::Sighted {
        node: NodeId([n; 32]),
        addresses: vec![format!("/ip4/10.0.0.{n}/tcp/7700")],
    };
    harness.input(seen(9));
    harness.run_for(Duration::from_secs(1));
    let dialled = harness
        .effects
        .iter()
        .any(|asked| asked.contains("Dial") && asked.contains("/ip4/10.0.0.9/tcp/7700"));
    assert!(dialled, "{:?}", harness.effects);
    (0..200).for_each(|n| harness.input(seen(n)));
    assert!(harness.node.reach.seeds() <= 48, "however many are seen");
}

/// The node's old address belongs to another node by now. The view names that node until there is a
/// link to the right one.
#[test]
fn view_of_a_node_names_who_answers_at_its_address() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let other = cluster.join_member(11, &mut harness);
    let id = other.node.id();
    harness.input(Input::LinkDown { peer: id });
    let address = "/ip4/10.0.0.9/tcp/7700".to_owned();
    harness.input(Input::Sighted { node: id, addresses: vec![address.clone()] });
    let me = harness.node.id();
    harness.input(Input::Answered { node: id, address: address.clone(), by: Answerer::Node(me) });
    let view = |harness: &Harness| {
        harness.node.nodes().into_iter().find(|view| view.id == id.to_string()).unwrap()
    };
    assert_eq!(view(&harness).answered_by, [(address, "node a".to_owned())].into());
    harness.link(id);
    assert!(view(&harness).answered_by.is_empty(), "it answers for itself");
}
