//! Versions that serve and are wished for no more, over a restart of the daemon.

use super::*;
use crate::model::spec::{Component, Program};

/// A version with other bytes.
fn version(bytes: &[u8]) -> Spec {
    let mut form = SpecForm::from(spec(1, 32 << 20));
    let artifact = Artifact { digest: Digest::of(bytes), size: 5 };
    form.program = Program::Wasm(Component { artifact, ..component(&form.program) });
    form.try_into().unwrap()
}

fn component(program: &Program) -> Component {
    let Program::Wasm(component) = program else { panic!("{program:?}") };
    component.clone()
}

fn runs(harness: &Harness) -> Vec<(Digest, Digest)> {
    let run = |order: &Order| match order {
        Order::Run { generation, spec, .. } => {
            Some((*generation, component(&spec.program).artifact.digest))
        }
        Order::Stop { .. } | Order::Again { .. } => None,
    };
    harness.orders.iter().filter_map(run).collect()
}

/// The bytes of a new version are nowhere, and the daemon restarts: it runs what it ran before,
/// with its spec and its bytes, and goes on with the update when that serves.
#[test]
fn restart_in_an_update_runs_what_served_before() {
    let cluster = cluster();
    let (old, new) = (version(b"old"), version(b"new"));
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &old);
    harness.run_for(Duration::from_secs(5));
    harness.fetch_hangs = true;
    harness.publish(&cluster, &new);
    harness.run_for(Duration::from_secs(60));
    assert_eq!(runs(&harness).len(), 1, "only the old version was started");
    assert!(harness.node.pinned().contains(&Digest::of(b"old")), "its bytes stay");

    let mut again = Harness::new(cluster.founder(saved(&harness.records)));
    again.run_for(Duration::from_secs(30));
    let expected = [(old.revision(), Digest::of(b"old")), (new.revision(), Digest::of(b"new"))];
    assert_eq!(runs(&again), expected);
    assert_eq!(again.node.own_claims().next().unwrap().generation, new.revision());
    harness.records.extend(again.records);
    assert!(saved(&harness.records).old_versions.is_empty(), "it is kept no longer");
}

/// What served does not start any more after the restart: it has its tries, then the version that
/// is wished for takes its place.
#[test]
fn version_that_cannot_come_back_makes_way() {
    let cluster = cluster();
    let (old, new) = (version(b"old"), version(b"new"));
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &old);
    harness.run_for(Duration::from_secs(5));
    harness.fetch_hangs = true;
    harness.publish(&cluster, &new);
    let mut again = Harness::of(cluster.founder(saved(&harness.records)), false);
    again.run_for(Duration::from_millis(100));
    for tries in 1..=4 {
        assert_eq!(runs(&again), vec![(old.revision(), Digest::of(b"old")); tries]);
        let replica = again.node.own_claims().next().unwrap().replica;
        let state = InstanceState::Failed { reason: "trapped".into(), retryable: true };
        again.input(Input::Report(Report { replica, generation: old.revision(), state }));
        let pause = if tries == 4 { 0 } else { 30 };
        again.run_for(Duration::from_secs(pause));
    }
    assert_eq!(runs(&again).last().unwrap().0, new.revision());
    assert!(saved(&again.records).old_versions.is_empty());
}

/// The same version is published with another number of replicas: nothing is kept.
#[test]
fn nothing_is_kept_of_a_version_that_stays() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    harness.publish(&cluster, &spec(2, 32 << 20));
    harness.run_for(Duration::from_secs(5));
    assert!(!harness.records.iter().any(|record| matches!(record, Record::OldVersion { .. })));
}
