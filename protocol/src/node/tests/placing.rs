//! Rules about nodes, from the publish to the claim.

use std::time::Duration;

use super::harness::{Harness, cluster, facts, spec};
use super::*;
use crate::model::spec::{Container, Image, Kind, Port};
use crate::model::{Facts, NodePolicy, Resources, Spec, SpecForm, Unfit, Value, WorkloadName};

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

fn named(name: &str, replicas: u32, relations: &[&str]) -> Spec {
    let mut form = SpecForm::from(spec(replicas, 32 << 20));
    form.name = name.parse().unwrap();
    form.placement.affinity = relations.iter().map(|text| text.parse().unwrap()).collect();
    form.try_into().unwrap()
}

fn publish(harness: &mut Harness, spec: &Spec) {
    let cluster = cluster();
    let Reply::Prepared { draft, .. } = harness.command(Command::Prepare {
        name: spec.name.clone(),
        spec: Some(spec.clone()),
        force: true,
    }) else {
        panic!("it is not prepared")
    };
    let change = cluster.sign(draft, &spec.name, Value::workload(spec));
    let reply = harness.command(Command::Submit { change: change.raw() });
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    harness.run_for(Duration::from_secs(10));
}

fn healthy(harness: &Harness, name: &str) -> u32 {
    harness.node.workload(&name.parse().unwrap()).unwrap().healthy
}

/// A workload that is apart from itself has one replica on a node; the reason of the other one is
/// counted.
#[test]
fn workload_apart_from_itself_is_once_on_a_node() {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    publish(&mut harness, &named("web", 3, &["apart web"]));
    harness.run_for(Duration::from_secs(60));
    assert_eq!(healthy(&harness, "web"), 1);
    let view = harness.node.workload(&web()).unwrap();
    let missing = view.replicas.iter().find(|it| it.phase == "missing").unwrap();
    let name = missing.replica.parse().unwrap();
    let outcome = harness.node.explain(&name).unwrap().auctions[0].outcome.clone();
    assert!(outcome.contains("1 node: unfit: apart from web, which has a replica"), "{outcome}");
}

/// The relation holds both ways: the workload that came first did not name the other one.
#[test]
fn apart_keeps_both_workloads_away() {
    for relations in [[&["apart db"][..], &[][..]], [&[][..], &["apart web"][..]]] {
        let mut harness = Harness::new(cluster().founder(Saved::default()));
        publish(&mut harness, &named("web", 1, relations[0]));
        publish(&mut harness, &named("db", 1, relations[1]));
        assert_eq!((healthy(&harness, "web"), healthy(&harness, "db")), (1, 0));
    }
}

/// A workload waits for the one that it must be near to, and then runs beside it.
#[test]
fn near_waits_for_the_other_workload() {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    let web = named("web", 1, &["near db"]);
    let Reply::Prepared { warnings, .. } = harness.command(Command::Prepare {
        name: web.name.clone(),
        spec: Some(web.clone()),
        force: false,
    }) else {
        panic!("it is not prepared")
    };
    assert_eq!(warnings, ["there is no workload `db` to be near to or apart from"]);
    publish(&mut harness, &web);
    assert_eq!(healthy(&harness, "web"), 0);
    publish(&mut harness, &named("db", 1, &[]));
    harness.run_for(Duration::from_secs(60));
    assert_eq!((healthy(&harness, "web"), healthy(&harness, "db")), (1, 1));
}

fn warnings(spec: &Spec) -> Vec<String> {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    let (name, spec) = (spec.name.clone(), Some(spec.clone()));
    match harness.command(Command::Prepare { name, spec, force: true }) {
        Reply::Prepared { warnings, .. } => warnings,
        _ => panic!("it is not prepared"),
    }
}

/// Replicas that no node can have would stay away without a word.
#[test]
fn places_that_no_node_can_fill_are_told() {
    let ported = |replicas: u32| -> Spec {
        let container = Container::of("main", Image::named("db:1"));
        let size = Resources { memory: 32 << 20, cpu: 100 };
        let name = "db".parse().unwrap();
        let mut form = SpecForm::container_service(name, container, replicas, size);
        form.exposure.ports = vec![Port { device: 80, replica: 80, udp: false, address: None }];
        form.try_into().unwrap()
    };
    assert_eq!(
        warnings(&ported(3)),
        ["one replica of a node has its port 80/tcp, and 0 nodes can run it: 3 of 3 replicas \
          stay missing"]
    );
    assert_eq!(
        warnings(&named("web", 3, &["apart web"])),
        ["its replicas are on different nodes, and 1 node can run it: 2 of 3 replicas stay \
          missing"]
    );
    assert_eq!(warnings(&named("web", 1, &["apart web"])), [""; 0]);
    assert_eq!(warnings(&named("web", 3, &["apart web:50"])), [""; 0]);
}

/// A daemon is done when it is on the nodes that take it, however few they are.
#[test]
fn nodes_that_a_daemon_leaves_out_are_told() {
    let daemon = |require: &[(&str, &str)]| -> Spec {
        let mut form = SpecForm::from(named("web", 1, &[]));
        form.kind = Kind::Daemon;
        let pairs = require.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        form.placement.require = pairs.collect();
        form.try_into().unwrap()
    };
    assert_eq!(warnings(&daemon(&[])), [""; 0]);
    let told = warnings(&daemon(&[("zone", "shop")]));
    assert!(told.iter().any(|it| it.starts_with("it gets no replica on ")), "{told:?}");
}

/// Preferences exclude no node, and stand in the price.
#[test]
fn unmet_preferences_stand_in_the_price() {
    let mut harness = Harness::new(cluster().founder(Saved::default()));
    let mut form = SpecForm::from(named("web", 1, &["near db:5", "apart cache:7"]));
    form.placement.prefer =
        ["zone=front:30", "arch=amd64:40", "cpu.free>2:2"].map(|it| it.parse().unwrap()).into();
    form.placement.spread = vec!["rack".into()];
    let spec: Spec = form.try_into().unwrap();
    let Reply::Prepared { warnings, .. } = harness.command(Command::Prepare {
        name: spec.name.clone(),
        spec: Some(spec.clone()),
        force: false,
    }) else {
        panic!("it is not prepared")
    };
    assert!(warnings.iter().any(|it| it.contains("no node has the label `zone`")), "{warnings:?}");
    assert!(warnings.iter().any(|it| it.contains("no node has the label `rack`")), "{warnings:?}");
    publish(&mut harness, &spec);
    assert_eq!(healthy(&harness, "web"), 1);
    let explained = harness.node.explain(&"web/0".parse().unwrap()).unwrap();
    let bid = &explained.auctions[0].bids[0];
    assert_eq!((bid.prefer, bid.balance), (350_000, 0), "{bid:?}");
    assert_eq!(bid.price, bid.share + bid.fetch + bid.spread + bid.prefer);
}

/// A node that is cordoned or tainted takes nothing new that does not tolerate it, and says so to
/// who publishes; what it runs goes on, also in a new version. Its labels are those that operators
/// set.
#[test]
fn node_takes_what_operators_let_it_take() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let me = harness.node.id();
    harness.publish(&cluster, &spec(1, 1 << 26));
    assert_eq!(harness.node.own_claims().count(), 1);
    let policy = NodePolicy {
        cordoned: true,
        labels: [("zone".to_owned(), Some("front".to_owned()))].into(),
        ..NodePolicy::default()
    };
    let change = cluster.policy(me, policy.clone()).raw();
    assert!(matches!(harness.command(Command::Submit { change }), Reply::Accepted { .. }));
    assert_eq!(harness.node.own_claims().count(), 1, "it stays");
    let view = harness.node.nodes().into_iter().find(|it| it.me).unwrap();
    assert_eq!(view.labels.get("zone").map(String::as_str), Some("front"));
    assert!(view.cordoned && !view.drained);
    let mut other = SpecForm::from(spec(1, 1 << 26));
    other.name = "other".parse().unwrap();
    let other = Spec::try_from(other).unwrap();
    let Err(Refusal::Unplaceable(why)) = harness.draft(Some(other)) else { panic!("it is taken") };
    assert!(why[0].contains("an operator cordoned or drained it"), "{why:?}");
    let newer = harness.publish(&cluster, &spec(1, 1 << 27));
    assert!(matches!(newer, Reply::Accepted { .. }), "{newer:?}");
    let current = harness.node.workloads()[0].generation.clone();
    let claim = harness.node.own_claims().next().unwrap();
    assert_eq!(claim.generation.to_string(), current, "the new version runs");
}

/// A taint keeps away what does not tolerate it.
#[test]
fn taint_keeps_away_what_does_not_tolerate_it() {
    let taints = [("payment".to_owned(), String::new()), ("net".to_owned(), "lte".to_owned())];
    let policy = NodePolicy { taints: taints.into(), ..NodePolicy::default() };
    let of = |tolerate: &[&str]| {
        let mut form = SpecForm::from(spec(1, 1 << 26));
        form.placement.tolerate = tolerate.iter().map(|it| it.parse().unwrap()).collect();
        policy.takes(&form)
    };
    assert_eq!(of(&[]), Err(Unfit::Taint("net=lte".into())));
    assert_eq!(of(&["net=lte"]), Err(Unfit::Taint("payment".into())));
    assert_eq!(of(&["net=wifi", "payment"]), Err(Unfit::Taint("net=lte".into())));
    assert_eq!(of(&["net", "payment"]), Ok(()));
    assert_eq!(of(&["*"]), Ok(()));
}
