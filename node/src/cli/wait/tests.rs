use super::*;
use crate::fakes::{replica_view, spec, workload_view};

fn view(replicas: Vec<ReplicaView>) -> WorkloadView {
    WorkloadView {
        generation: spec("web", 1).revision().to_string(),
        ..workload_view("web", replicas)
    }
}

fn progress(replicas: u32) -> Progress {
    Progress::new(&spec("web", replicas), false)
}

/// The wait ends neither on the view of an older spec nor while a surplus replica stops; a lost
/// replica of a dead node does not count.
#[tokio::test]
async fn wait_ends_when_exactly_the_wanted_replicas_run() {
    let healthy = |name: &str| replica_view(name, "healthy", Some("n1"));
    let waiting = progress(2);
    assert!(waiting.runs(&view(vec![healthy("web/0"), healthy("web/1")])));
    assert!(
        !waiting.runs(&view(vec![healthy("web/0"), replica_view("web/1", "starting", Some("n2"))]))
    );
    assert!(
        !waiting.runs(&view(vec![healthy("web/0")])),
        "the older spec, of one replica, is still shown"
    );
    let mut surplus = view(vec![
        healthy("web/0"),
        healthy("web/1"),
        replica_view("web/2", "stopping", Some("n1")),
    ]);
    surplus.desired = 2;
    assert!(!waiting.runs(&surplus));
    let mut old = view(vec![healthy("web/0"), healthy("web/1")]);
    old.generation = "00".repeat(32);
    assert!(!waiting.runs(&old));
    let mut after_a_kill =
        view(vec![healthy("web/0"), replica_view("web/0", "lost", Some("n3")), healthy("web/1")]);
    after_a_kill.desired = 2;
    assert!(waiting.runs(&after_a_kill), "what a dead node held does not run");
    let none = progress(0);
    assert!(none.runs(&view(vec![])));
}

/// A component that cannot run is restarted for ever: the wait gives up after three tries of the
/// new version.
#[tokio::test]
async fn replica_has_failed_after_three_restarts() {
    let mut failing = replica_view("web/0", "failing", Some("n1"));
    let waiting = progress(1);
    failing.restarts = FAILED_AFTER - 1;
    assert!(waiting.failed(&view(vec![failing.clone()])).is_none());
    failing.restarts = FAILED_AFTER;
    assert!(waiting.failed(&view(vec![failing.clone()])).is_some());
    let mut old = view(vec![failing]);
    old.generation = "00".repeat(32);
    assert!(waiting.failed(&old).is_none(), "what the new version replaces does not count");
}

/// A replica has a lost holder and a healthy one: one line shows the healthy one.
#[tokio::test]
async fn each_replica_has_one_line_of_its_best_holder() {
    let mut waiting = progress(2);
    let mut lost = replica_view("web/0", "lost", Some("n3"));
    lost.reason = Some("n3 is down".into());
    waiting.update(&view(vec![lost.clone(), replica_view("web/1", "starting", Some("n2"))]), false);
    let lines = |progress: &Progress| {
        progress.rows.values().map(|row| text(row, Duration::from_millis(1200))).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&waiting),
        ["· web/0 lost on n3: n3 is down  1.2s", "· web/1 starting on n2  1.2s"]
    );
    waiting.update(&view(vec![lost, replica_view("web/0", "healthy", Some("n1"))]), false);
    let now = lines(&waiting);
    assert_eq!(now.len(), 1);
    assert!(now[0].starts_with("✓ web/0 healthy on n1  "), "{now:?}");
}
