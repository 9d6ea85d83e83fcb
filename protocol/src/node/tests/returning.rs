//! A node that was away, and its reports before it has compared with other nodes.

use super::bidder::Bidder;
use super::*;
use crate::model::{InstanceState, Phase, Token};

/// While a node was away a new version was published, and another node took over. The node came
/// back, replaced its replica in place, reported it healthy at once and, as the older holder, took
/// it back. It compares with the others before it reports.
#[test]
fn returned_old_version_is_reported_after_comparing() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.publish(&cluster, &spec(1, 32 << 20));
    let newer = harness.signed(&cluster, &spec(1, 64 << 20));
    let mut saved = saved(&harness.records);
    let other = NodeId(cluster.identity(20).keys.public().0);
    saved.changes.push(cluster.admission(other).raw());
    let mut again = Harness::new(cluster.founder(saved));
    again.input(Input::Message {
        from: other,
        message: Message::Changed { change: newer.raw(), holder: None },
    });
    assert_eq!(again.orders.len(), 2, "the new version starts at once: {:?}", again.orders);
    let phase = |harness: &Harness| harness.node.own_claims().next().unwrap().phase.clone();
    assert_eq!((again.node.status().ready, phase(&again)), (false, Phase::Starting));
    again.run_for(Duration::from_secs(15));
    assert_eq!(
        (again.node.status().ready, phase(&again)),
        (true, Phase::Healthy),
        "no other node is there, so it is reported"
    );
}

/// A node was cut off, and another one took its replica over. When they met again, the first one's
/// had just failed. It was started again, reported healthy and, being the older, took the replica
/// from the node that had run it well all the while.
#[test]
fn recovered_replica_is_not_reported_beside_a_healthy_one() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let phase =
        |bidder: &Bidder| bidder.harness.node.own_claim(&bidder.replica).unwrap().phase.as_str();
    assert_eq!(phase(&bidder), "healthy");
    let (replica, generation, other) = (bidder.replica, bidder.generation, bidder.auction().owner);
    let state = InstanceState::Failed { reason: "trapped".into(), retryable: true };
    bidder.harness.input(Input::Report(Report { replica, generation, state }));
    bidder.owner_runs_it();
    bidder.harness.run_for(Duration::from_secs(2));
    assert_eq!(bidder.harness.orders.len(), 2, "it is started anew: {:?}", bidder.harness.orders);
    assert_eq!(phase(&bidder), "failing", "it is not reported beside the healthy one");
    bidder.harness.input(Input::LinkDown { peer: other });
    bidder.harness.run_for(Duration::from_secs(10));
    assert_eq!(phase(&bidder), "healthy", "the other node is gone");
}

/// A node was suspended while its replica started, and another node took over. When it woke up it
/// read the report of its runtime first, reported the replica healthy and, as the older holder,
/// took it back. It compares with the others before it reports.
#[test]
fn replica_started_in_a_stall_is_reported_after_comparing() {
    let mut bidder = Bidder::new();
    bidder.harness.fetch_error = Some("no node has it");
    bidder.bid();
    bidder.receive(bidder.award());
    bidder.harness.input(Input::Lag(Duration::from_secs(5)));
    bidder.harness.fetch_error = None;
    bidder.harness.run_for(Duration::from_secs(2));
    assert_eq!(bidder.harness.orders.len(), 1, "it runs: {:?}", bidder.harness.orders);
    let phase =
        |bidder: &Bidder| bidder.harness.node.own_claim(&bidder.replica).unwrap().phase.as_str();
    assert_eq!(phase(&bidder), "starting");
    bidder.harness.input(Input::LinkDown { peer: bidder.auction().owner });
    bidder.harness.run_for(Duration::from_secs(15));
    assert_eq!(phase(&bidder), "healthy", "no other node is there, so it is reported");
}

/// A container was started with the wrong port: all nodes only showed that it starts. Its holder
/// writes the reason into its claim, and a replica that is paused is no longer healthy.
#[test]
fn reason_of_a_replica_that_waits_is_in_its_claim() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let (replica, generation) = (bidder.replica, bidder.generation);
    let told = |bidder: &mut Bidder, state| {
        bidder.harness.input(Input::Report(Report { replica, generation, state }));
        bidder.harness.node.own_claim(&replica).unwrap().phase.clone()
    };
    assert_eq!(told(&mut bidder, InstanceState::Running), Phase::Healthy);
    let reason = "paused in the engine".to_owned();
    let paused = InstanceState::Waiting { reason: reason.clone() };
    assert_eq!(told(&mut bidder, paused), Phase::Waiting { reason: reason.clone() });
    let name = bidder.harness.node.workloads()[0].replicas[0].clone();
    assert_eq!((name.phase.as_str(), name.reason), ("starting", Some(reason)));
    told(&mut bidder, InstanceState::Running);
    bidder.harness.run_for(Duration::from_secs(1));
    assert_eq!(bidder.harness.node.own_claim(&replica).unwrap().phase, Phase::Healthy);
}

/// The probe of a replica fails: it gets no requests, here and elsewhere, is not restarted, and
/// gets them again when it is ready.
#[test]
fn replica_that_is_not_ready_has_no_route_and_is_not_restarted() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let (replica, generation) = (bidder.replica, bidder.generation);
    let told = |bidder: &mut Bidder, state| {
        bidder.harness.input(Input::Report(Report { replica, generation, state }));
        bidder.harness.run_for(Duration::from_secs(1));
        let routes = bidder.harness.node.routes().1.values().map(|routes| routes.len()).sum();
        let view = bidder.harness.node.workloads()[0].replicas[0].clone();
        (routes, view.phase, view.reason)
    };
    let none: usize = 0;
    let healthy = (1, "healthy".to_owned(), None);
    assert_eq!(told(&mut bidder, InstanceState::Running), healthy);
    let reason = "not ready: HTTP 503 from GET /health".to_owned();
    let state = InstanceState::Waiting { reason: reason.clone() };
    let orders = bidder.harness.orders.len();
    let not_ready = (none, "not-ready".to_owned(), Some(reason));
    assert_eq!(told(&mut bidder, state), not_ready);
    bidder.harness.run_for(Duration::from_secs(300));
    assert_eq!(bidder.harness.orders.len(), orders, "nothing is restarted or moved");
    assert_eq!(told(&mut bidder, InstanceState::Running), healthy);
}

/// The engine of the node that held a replica longest was gone, and its containers with it; it did
/// not know, and said when asked that the replica runs. The other holder stopped the one that ran.
#[test]
fn node_without_the_runtime_does_not_answer_that_a_replica_is_healthy() {
    let mut bidder = Bidder::new();
    bidder.bid();
    bidder.receive(bidder.award());
    let (replica, from) = (bidder.replica, bidder.auction().owner);
    let answer = |bidder: &mut Bidder, facts| {
        bidder.harness.input(Input::Facts(facts));
        bidder.harness.sent.clear();
        let token = Token { counter: 1, by: from, incarnation: 1 };
        let ask = claims::Message::AskKeeper { replica, token, question: 1 };
        bidder.harness.input(Input::Message { from, message: Message::Claims(ask) });
        let healthy = bidder.harness.sent.iter().find_map(|message| match message {
            Message::Claims(claims::Message::Keeping { healthy, .. }) => Some(*healthy),
            _ => None,
        });
        let phase = bidder.harness.node.own_claim(&replica).unwrap().phase.as_str();
        (healthy.expect("it answers"), phase)
    };
    assert_eq!(answer(&mut bidder, facts()), (true, "healthy"));
    let without = Facts { runtimes: [].into(), ..facts() };
    assert_eq!(answer(&mut bidder, without), (false, "healthy"), "it may serve all the same");
    assert_eq!(answer(&mut bidder, facts()), (true, "healthy"));
}
