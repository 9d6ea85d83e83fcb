use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(100_000 + millis)
}

/// Two ready peers, both in step.
const PEERS: Surroundings = Surroundings {
    reachable: 2,
    in_step: 2,
    has_ready_witness: true,
    others_up: 2,
    is_settled: true,
    is_alone: false,
};
const ALONE: Surroundings = Surroundings {
    reachable: 0,
    in_step: 0,
    has_ready_witness: false,
    others_up: 0,
    is_settled: false,
    is_alone: true,
};

fn booting() -> Readiness {
    Readiness::waiting(false, Some(at(3_000)))
}

/// A single witness may be a node that was cut off itself, so it is not enough before the wait is
/// over. Afterwards a node acts on what it knows.
#[test]
fn booting_node_wants_two_witnesses_or_waits() {
    let one = Surroundings { in_step: 1, ..PEERS };
    let mut node = booting();
    assert!(!node.advance(at(0), &one));
    assert!(!node.advance(at(0), &Surroundings { is_settled: false, ..PEERS }));
    assert!(node.advance(at(0), &PEERS));
    assert_eq!(node, Readiness::SyncGrace { until: at(3_000) });

    let mut node = booting();
    assert_eq!(node.handle_timeout(at(2_999)), None);
    assert_eq!(node.handle_timeout(at(3_000)), Some(Ended::Wait));
    assert!(!node.advance(at(3_000), &one), "both can be reached");
    assert!(node.advance(at(3_000), &Surroundings { reachable: 1, ..one }));
}

/// The only survivor of a power cut reaches no member. After its wait it must run the cluster
/// alone.
#[test]
fn survivor_that_reaches_nobody_is_ready_after_its_wait() {
    let mut node = booting();
    assert!(!node.advance(at(0), &ALONE));
    node.handle_timeout(at(3_000));
    assert!(node.advance(at(3_000), &ALONE));
    assert_eq!(node, Readiness::Ready);
}

/// Nodes that join together know nothing: being in step with any number of them proves nothing.
#[test]
fn newcomer_needs_a_ready_witness() {
    let mut node = Readiness::waiting(true, None);
    assert!(!node.advance(at(0), &Surroundings { has_ready_witness: false, ..PEERS }));
    assert!(node.is_newcomer() && !node.is_ready());
    assert!(node.advance(at(0), &PEERS));
    assert!(!node.is_newcomer() && node.is_ready());
}

/// While a node was stalled, others may have taken over its replicas. It must compare with them
/// before it plans, and before it reports a replica healthy.
#[test]
fn stalled_node_plans_nothing_before_it_has_compared() {
    let mut node = Readiness::Ready;
    node.stalled(at(0), Duration::from_secs(5));
    assert!(node.is_ready() && !node.may_plan(|| false) && node.may_plan(|| true));
    assert!(!node.has_compared(|| false));
    assert_eq!(node.handle_timeout(at(3_000)), Some(Ended::Grace));
    assert_eq!(node, Readiness::Ready);

    let mut node = booting();
    node.stalled(at(0), Duration::from_secs(1));
    assert_eq!(node.poll_timeout(), Some(at(4_000)), "it has waited for nobody meanwhile");
    assert!(node.advance(at(0), &PEERS));
    assert_eq!(node, Readiness::Stalled { until: at(3_000) });
}

/// In its grace a node owns workloads. A returning peer extends the grace, and never shortens it.
#[test]
fn returned_peer_extends_the_grace() {
    let mut node = Readiness::Ready;
    node.peer_returned(None);
    assert_eq!(node, Readiness::Ready);
    node.peer_returned(Some(at(2_000)));
    assert!(node.is_in_grace() && node.may_plan(|| false) && !node.has_compared(|| false));
    node.peer_returned(Some(at(1_000)));
    assert_eq!(node.poll_timeout(), Some(at(2_000)));
}

/// After its goodbye a node plans nothing and never becomes ready, whatever it learns.
#[test]
fn leaving_node_takes_no_work() {
    let mut node = Readiness::Ready;
    node.leave();
    node.stalled(at(0), Duration::from_secs(5));
    node.peer_returned(Some(at(2_000)));
    assert!(node.is_leaving() && node.is_ready() && !node.may_plan(|| true));
    let mut node = booting();
    node.leave();
    assert!(!node.advance(at(0), &PEERS) && !node.is_ready());
}
