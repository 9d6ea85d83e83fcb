use super::*;
use shoal_protocol::model::InstanceState;

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint::Tcp(([127, 0, 0, 1], 80).into())
}

/// Nothing may depend on seeing `Running` between `Starting` and `Stopped`.
#[tokio::test]
async fn watcher_sees_the_latest_state_only() {
    let table = StatusTable::new();
    let mut watch = table.watch();
    let handle = table.begin(id("a"));
    handle.running(endpoint());
    handle.stopped();
    let changes = watch.next().await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].state, InstanceState::Stopped);
}

/// A watcher that starts late gets every instance at first, and then only changes.
#[tokio::test]
async fn late_watcher_gets_every_instance_once() {
    let table = StatusTable::new();
    for name in ["a", "b", "c"] {
        table.begin(id(name)).running(endpoint());
    }
    let mut watch = table.watch();
    let mut seen: Vec<_> =
        watch.next().await.into_iter().map(|status| status.id.to_string()).collect();
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"]);

    table.begin(id("d"));
    let changes = watch.next().await;
    assert_eq!(changes.len(), 1, "what was seen is not told again");
    assert_eq!(changes[0].id, id("d"));
}

/// An instance is started again under the same id while the end of its first life is still under
/// way: the late report must not hide that the new one runs.
#[test]
fn older_handle_cannot_change_a_newer_life() {
    let table = StatusTable::new();
    let old = table.begin(id("a"));
    let new = table.begin(id("a"));
    new.running(endpoint());
    old.stopped();
    old.fault("came too late");
    let status = table.status(&id("a")).unwrap();
    assert_eq!(status.state, InstanceState::Running);
    assert_eq!(status.faults, 0);
    assert_eq!(status.last_fault, None);
}

/// A hundred faults at once wake a watcher at most twice; the last fault must not be lost.
#[tokio::test(start_paused = true)]
async fn faults_are_rate_limited_and_the_last_is_shown() {
    let table = StatusTable::new();
    let handle = table.begin(id("a"));
    handle.running(endpoint());
    let mut watch = table.watch();
    watch.next().await;

    let mut told = 0;
    let mut last = None;
    for n in 0..100 {
        handle.fault(format!("fault {n}"));
    }
    while last.as_deref() != Some("fault 99") {
        let changes = watch.next().await;
        told += changes.len();
        last = changes[0].last_fault.clone().map(|fault| fault.reason);
    }
    assert!(told <= 2, "told {told} times");
    assert_eq!(table.status(&id("a")).unwrap().faults, 100);
}

#[tokio::test(start_paused = true)]
async fn state_change_is_not_delayed_by_fault_rate_limit() {
    let table = StatusTable::new();
    let handle = table.begin(id("a"));
    let mut watch = table.watch();
    watch.next().await;
    let before = Instant::now();
    handle.fault("trapped");
    handle.running(endpoint());
    assert_eq!(watch.next().await[0].state, InstanceState::Running);
    assert_eq!(Instant::now(), before, "the clock stands still, so nothing was waited for");
}

#[test]
fn stopped_instances_are_remembered_within_a_bound() {
    let table = StatusTable::new();
    for n in 0..MAX_ENDED + 10 {
        table.begin(id(&format!("i{n}"))).stopped();
    }
    assert_eq!(table.status(&id("i9")), None, "the oldest is forgotten");
    assert!(table.status(&id("i10")).is_some());
    let entries = table.lock();
    assert_eq!((entries.by_id.len(), entries.by_revision.len()), (MAX_ENDED, MAX_ENDED));
}
