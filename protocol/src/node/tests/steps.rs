//! Many replicas at once: the messages that are sent, and the records that are written.

use std::collections::BTreeMap;

use super::*;
use crate::model::{InstanceState, Phase, Resources, Slot};

/// Replicas so small that a node holds hundreds.
fn tiny(replicas: u32) -> Spec {
    let form = SpecForm::from(spec(replicas, 2 << 20));
    let resources = Resources { memory: 2 << 20, cpu: 1 };
    SpecForm { resources: resources.into(), ..form }.try_into().unwrap()
}

fn sent_slots(harness: &Harness) -> Vec<Slot> {
    let slots = harness.broadcasts.iter().filter_map(|message| match message {
        Message::Slot(slot) => Some(slot.peek().unwrap()),
        _ => None,
    });
    slots.collect()
}

/// Each claim and each phase was a message to all with its whole slot: hundreds at once for 400
/// replicas, and the inboxes of others hold 256.
#[test]
fn hundreds_of_replicas_take_few_messages() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(400));
    harness.run_for(Duration::from_secs(3));
    let healthy = harness.node.own_claims().filter(|claim| claim.phase == Phase::Healthy).count();
    assert_eq!(healthy, 400);
    let slots = sent_slots(&harness);
    assert!(slots.len() < 200, "{} messages", slots.len());
    // The last message of each slot shows the final state.
    let last: BTreeMap<u8, Slot> = slots.into_iter().map(|slot| (slot.slot, slot)).collect();
    let claims = last.values().flat_map(|slot| &slot.claims);
    assert_eq!(claims.filter(|claim| claim.phase == Phase::Healthy).count(), 400);
}

/// A single replica, as after a failover: neither its claim nor its health waits for anything but
/// the disk.
#[test]
fn single_replica_is_reported_at_once() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(1));
    let phase = |slot: &Slot| slot.claims.first().map(|claim| claim.phase.clone());
    assert_eq!(
        sent_slots(&harness).last().and_then(phase),
        Some(Phase::Healthy),
        "no time has passed"
    );
}

/// It starts in the moment in which its claim is written. One message shows both.
#[test]
fn replica_that_starts_at_once_takes_one_message() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(1));
    harness.run_for(Duration::from_secs(1));
    assert_eq!(sent_slots(&harness).len(), 1);
}

/// Each place of one award was a batch on disk of its own, with its whole slot.
#[test]
fn places_won_together_are_written_once() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(64));
    let mut written: BTreeMap<u8, usize> = BTreeMap::new();
    for record in &harness.records {
        if let Record::Slot { slot, .. } = record {
            *written.entry(slot.peek().unwrap().slot).or_default() += 1;
        }
    }
    assert_eq!(harness.node.own_claims().count(), 64);
    assert!(written.len() > 1 && written.values().all(|times| *times == 1), "{written:?}");
}

/// A large workload rests between two looks. A change that comes meanwhile is looked at afterwards,
/// without further news.
#[test]
fn change_while_a_large_workload_rests_is_placed() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(400));
    harness.run_for(Duration::from_secs(3));
    harness.publish(&cluster, &tiny(410));
    harness.publish(&cluster, &tiny(420));
    assert_eq!(harness.node.own_claims().count(), 410, "the set-up: it rests");
    harness.run_for(Duration::from_millis(100));
    assert_eq!(harness.node.own_claims().count(), 420);
    let name: WorkloadName = "web".parse().unwrap();
    assert_eq!(harness.node.routes().1[&name].len(), 420);
}

/// More slots change than are sent in one burst. The last of them follow without other news.
#[test]
fn changes_above_a_burst_follow_soon() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &tiny(400));
    harness.run_for(Duration::from_secs(3));
    harness.broadcasts.clear();
    let replicas: Vec<_> =
        harness.node.own_claims().map(|claim| (claim.replica, claim.generation)).collect();
    for (replica, generation) in replicas {
        let state = InstanceState::Failed { reason: "trapped".into(), retryable: true };
        harness.input(Input::Report(Report { replica, generation, state }));
    }
    let failing = |harness: &Harness| {
        let last: BTreeMap<u8, Slot> =
            sent_slots(harness).into_iter().map(|slot| (slot.slot, slot)).collect();
        let claims = last.values().flat_map(|slot| &slot.claims);
        claims.filter(|claim| matches!(claim.phase, Phase::Failing { .. })).count()
    };
    assert!(sent_slots(&harness).len() <= 32 && failing(&harness) < 400, "the set-up: some wait");
    harness.run_for(Duration::from_millis(300));
    assert_eq!(failing(&harness), 400);
}

/// Two workloads have more replicas than an owner has under way. The first one takes all the room.
/// The other one is auctioned when there is some, although nothing has happened to it.
#[test]
fn workload_without_auction_room_is_placed_later() {
    let cluster = cluster();
    let facts = Facts { capacity: Resources { memory: 4 << 30, cpu: 4_000 }, ..facts() };
    let config = Config { name: "a".into(), founder: true, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(
        config,
        cluster.identity(10),
        cluster.founded(),
        facts,
        wall,
        [7; 32],
        Time::ZERO,
    );
    let mut harness = Harness::new(node);
    harness.disk_works = false;
    for name in ["one", "two"] {
        let spec =
            Spec::try_from(SpecForm { name: name.parse().unwrap(), ..tiny(600).into() }).unwrap();
        let prepare =
            Command::Prepare { name: spec.name.clone(), spec: Some(spec.clone()), force: false };
        let Reply::Prepared { draft, .. } = harness.command(prepare) else {
            panic!("it is prepared")
        };
        let change = cluster.sign(draft, &spec.name, Value::workload(&spec));
        harness.request(Command::Submit { change: change.raw() });
    }
    harness.input(Input::Stored { upto: harness.last_batch });
    assert_eq!(harness.node.own_claims().count(), 512, "the set-up: there is no room for more");
    let names: BTreeSet<_> = harness.node.own_claims().map(|claim| claim.name.clone()).collect();
    assert_eq!(names.len(), 1, "the set-up: the other has found none");
    harness.disk_works = true;
    harness.input(Input::Stored { upto: harness.last_batch });
    harness.run_for(Duration::from_secs(3));
    assert_eq!(harness.node.own_claims().count(), 1_200);
}
