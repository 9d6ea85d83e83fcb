use std::time::Duration;

use shoal_protocol::model::view::{ReplacementView, ReplicaView, WorkloadView};

use super::gone::running;
use super::progress::{FAILED_AFTER, Failure, Progress};
use super::verdict::late_text;
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

/// The old version had failed three times when a new one was published: the wait for the new one
/// ended at once. Its tries count only once its holder has begun with it.
#[tokio::test]
async fn tries_of_the_old_version_do_not_count() {
    let mut waiting = progress(1);
    let mut old = replica_view("web/0", "failing", Some("n1"));
    old.current = false;
    old.restarts = FAILED_AFTER;
    old.reason = Some("runs generation ab, is to be replaced there by cd".into());
    assert!(waiting.failed(&view(vec![old.clone()])).is_none());
    assert_eq!(waiting.take(&view(vec![old.clone()])), ["· web/0 to be updated on n1  1.2s"]);
    let stays = ReplicaView { reason: Some("no room for the new one".into()), ..old.clone() };
    assert_eq!(
        late_text(&stays, 0, None, None, "6.0s"),
        "accepted, but web/0 is to be updated after 6.0s: no room for the new one"
    );
    let mut replacement = ReplacementView { phase: "starting".into(), reason: None, restarts: 0 };
    old.replacement = Some(replacement.clone());
    assert_eq!(waiting.take(&view(vec![old.clone()])), ["· web/0 updating on n1  1.2s"]);
    replacement.reason = Some("nothing listens on port 81 yet".into());
    old.replacement = Some(replacement.clone());
    assert_eq!(
        waiting.take(&view(vec![old.clone()])),
        ["· web/0 updating on n1: nothing listens on port 81 yet  1.2s"]
    );
    (replacement.phase, replacement.restarts) = ("failing".into(), FAILED_AFTER);
    old.replacement = Some(replacement);
    let found = view(vec![old]);
    assert_eq!(waiting.failed(&found).map(|(_, restarts)| restarts), Some(FAILED_AFTER));
}

/// The last line once was "web/0 is healthy after 12s": the old version served, and the new one
/// listened on no port.
#[test]
fn last_line_is_about_the_new_version() {
    let mut old = replica_view("web/0", "healthy", Some("n1"));
    old.current = false;
    old.replacement = Some(ReplacementView {
        phase: "starting".into(),
        reason: Some("nothing listens on port 81 yet".into()),
        restarts: 0,
    });
    assert_eq!(
        late_text(&old, 0, None, None, "12.0s"),
        "accepted, but web/0 is updating after 12.0s: nothing listens on port 81 yet"
    );
}

/// Its holder had given the replica up: the last line said so, and not why.
#[tokio::test]
async fn last_line_has_the_last_failure() {
    let mut waiting = progress(1);
    let mut failing = replica_view("web/0", "failing", Some("n2"));
    failing.reason = Some("exited with code 3".into());
    waiting.take(&view(vec![failing]));
    let mut missing = replica_view("web/0", "missing", None);
    missing.reason = Some("its last holder gave it up".into());
    waiting.take(&view(vec![missing.clone()]));
    let last = waiting.last_failure("web/0").cloned();
    let failure = Failure { reason: "exited with code 3".into(), node: Some("n2".into()) };
    assert_eq!(last, Some(failure.clone()));
    assert_eq!(
        late_text(&missing, 2, None, last.as_ref(), "60.0s"),
        "accepted, but web/0 is missing (and 2 others are not healthy) after 60.0s: its last \
         holder gave it up; it failed on n2: exited with code 3"
    );
    let auction = "nobody took it: 2 nodes: it failed there lately: exited with code 3";
    let text = late_text(&missing, 0, Some(auction), Some(&failure), "60.0s");
    assert_eq!(text, format!("accepted, but web/0 is missing after 60.0s: {auction}"));
}

/// `scale web=100` printed a line for each step of each replica.
#[tokio::test]
async fn many_replicas_are_counted_by_their_states() {
    let mut waiting = progress(100);
    let of = |phase: &str| -> Vec<ReplicaView> {
        (0..100).map(|n| replica_view(&format!("web/{n}"), phase, Some("n1"))).collect()
    };
    let mut starting = of("starting");
    starting[7] = replica_view("web/7", "failing", Some("n2"));
    starting[7].reason = Some("exited with code 3".into());
    assert_eq!(
        waiting.take(&view(starting)),
        [
            "✗ web/7 failing on n2: exited with code 3  1.2s",
            "· 0 of 100 healthy, 1 failing, 99 starting  1.2s",
        ]
    );
    let mut nearly = of("healthy");
    nearly[7] = replica_view("web/7", "starting", Some("n2"));
    assert!(waiting.take(&view(nearly)).is_empty(), "the counts come once a second");
    assert_eq!(waiting.take(&view(of("healthy"))), ["✓ 100 of 100 healthy  1.2s"]);
}

/// Those that stop are counted, too, also beside few that stay.
#[tokio::test]
async fn replicas_that_stop_are_counted() {
    let mut waiting = progress(1);
    let mut all = vec![replica_view("web/0", "healthy", Some("n1"))];
    all.extend((1..9).map(|n| replica_view(&format!("web/{n}"), "stopping", Some("n2"))));
    let found = WorkloadView { desired: 1, ..view(all) };
    assert_eq!(waiting.take(&found), ["✓ web/0 healthy on n1  1.2s", "· 8 stopping  1.2s"]);
}

/// Replicas that end are waited for on the nodes that run them; a dead node cannot be asked.
#[test]
fn replicas_that_end_are_those_that_run() {
    let view = view(vec![
        replica_view("web/0", "healthy", Some("n1")),
        replica_view("web/1", "starting", Some("n2")),
        replica_view("web/2", "lost", Some("n3")),
        replica_view("web/3", "missing", None),
    ]);
    let names = |ends: fn(u32) -> bool| -> Vec<String> {
        running(&view, ends).into_iter().map(|it| it.replica).collect()
    };
    assert_eq!(names(|_| true), ["web/0", "web/1"]);
    assert_eq!(names(|place| place >= 1), ["web/1"]);
}

/// A replica has a lost holder and a healthy one: one line shows the healthy one.
#[tokio::test]
async fn each_replica_has_one_line_of_its_best_holder() {
    let mut waiting = progress(2);
    let mut lost = replica_view("web/0", "lost", Some("n3"));
    lost.reason = Some("n3 is down".into());
    waiting.update(&view(vec![lost.clone(), replica_view("web/1", "starting", Some("n2"))]), false);
    let lines = |progress: &Progress| progress.lines(Duration::from_millis(1200));
    assert_eq!(
        lines(&waiting),
        ["· web/0 lost on n3: n3 is down  1.2s", "· web/1 starting on n2  1.2s"]
    );
    waiting.update(&view(vec![lost, replica_view("web/0", "healthy", Some("n1"))]), false);
    let now = lines(&waiting);
    assert_eq!(now.len(), 1);
    assert!(now[0].starts_with("✓ web/0 healthy on n1  "), "{now:?}");
}
