//! Rules about nodes, from the publish to the claim.

use std::time::Duration;

use super::harness::{Harness, cluster, facts, spec};
use super::*;
use crate::model::{Facts, Spec, SpecForm, WorkloadName};

fn web() -> WorkloadName {
    "web".parse().unwrap()
}

fn ruled(replicas: u32, rules: &[&str]) -> Spec {
    let mut form = SpecForm::from(spec(replicas, 32 << 20));
    rules.iter().for_each(|rule| form.add_required(rule.parse().unwrap()));
    form.try_into().unwrap()
}

/// The refusal counts the nodes that each rule leaves out, and tells a slip in a label.
#[test]
fn refusal_counts_nodes_by_rule() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let refused = |harness: &mut Harness, rules: &[&str]| {
        harness.draft(Some(ruled(1, rules))).unwrap_err().to_string()
    };
    let text = refused(&mut harness, &["arch=arm64"]);
    assert!(text.contains("arch = arm64: 1 node left out") && !text.contains("known:"), "{text}");
    let text = refused(&mut harness, &["zome in (a, b)"]);
    assert!(text.contains("zome in (a, b): 1 node left out"), "{text}");
    assert!(text.contains("no node has the label `zome`; known: arch, "), "{text}");
    assert!(harness.draft(Some(ruled(1, &["arch=amd64", "cores>2", "!zome"]))).is_ok());
}

/// Only the node knows how much of its disk is free: a rule about it is judged when it bids, and
/// the replica starts once there is room. The wait names the rule.
#[test]
fn measured_fact_is_judged_by_the_bidder() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let disk = |free: u64| Facts { measured: [("disk.free".into(), free)].into(), ..facts() };
    harness.input(Input::Facts(disk(1 << 30)));
    harness.publish(&cluster, &ruled(1, &["disk.free>2GiB"]));
    harness.run_for(Duration::from_secs(10));
    let view = harness.node.workload(&web()).unwrap();
    assert_eq!(view.healthy, 0, "{view:?}");
    let explained = harness.node.explain(&"web/0".parse().unwrap()).unwrap();
    assert!(explained.auctions[0].outcome.contains("disk.free > 2GiB"), "{explained:?}");
    harness.input(Input::Facts(disk(3 << 30)));
    harness.run_for(Duration::from_secs(40));
    assert_eq!(harness.node.workload(&web()).unwrap().healthy, 1);
}

/// What replicas take is not free: the second one finds less than it asks for.
#[test]
fn free_memory_is_what_replicas_leave() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let free = (facts().capacity.memory >> 20) - 10;
    harness.publish(&cluster, &ruled(2, &[&format!("memory.free>{free}MiB")]));
    harness.run_for(Duration::from_secs(10));
    assert_eq!(harness.node.workload(&web()).unwrap().healthy, 1);
}
