use super::*;

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

fn digest() -> Digest {
    Digest([7; 32])
}

#[tokio::test]
async fn a_watcher_sees_the_latest_and_not_each_step() {
    let board = Board::new();
    let mut watch = board.watch();
    let seat = board.begin(id("a"), digest());
    seat.set(State::Running);
    seat.set(State::Stopped);
    let changes = watch.next().await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].state, State::Stopped);
}

#[tokio::test]
async fn a_late_watcher_gets_every_instance_once() {
    let board = Board::new();
    for name in ["a", "b", "c"] {
        board.begin(id(name), digest()).set(State::Running);
    }
    let mut watch = board.watch();
    let mut seen: Vec<_> =
        watch.next().await.into_iter().map(|status| status.id.to_string()).collect();
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"]);

    board.begin(id("d"), digest());
    let changes = watch.next().await;
    assert_eq!(changes.len(), 1, "what was seen is not told again");
    assert_eq!(changes[0].id, id("d"));
}

#[test]
fn an_older_life_is_silenced() {
    let board = Board::new();
    let old = board.begin(id("a"), digest());
    let new = board.begin(id("a"), digest());
    new.set(State::Running);
    old.set(State::Stopped);
    old.fault("came too late");
    let status = board.status(&id("a")).unwrap();
    assert_eq!(status.state, State::Running);
    assert_eq!(status.faults, 0);
    assert_eq!(status.last_fault, None);
}

#[tokio::test(start_paused = true)]
async fn faults_are_paced_and_the_last_one_is_told() {
    let board = Board::new();
    let seat = board.begin(id("a"), digest());
    seat.set(State::Running);
    let mut watch = board.watch();
    watch.next().await;

    let mut told = 0;
    let mut last = None;
    for n in 0..100 {
        seat.fault(format!("fault {n}"));
    }
    while last.as_deref() != Some("fault 99") {
        let changes = watch.next().await;
        told += changes.len();
        last = changes[0].last_fault.clone().map(|fault| fault.reason);
    }
    assert!(told <= 2, "told {told} times");
    assert_eq!(board.status(&id("a")).unwrap().faults, 100);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_does_not_wait_for_the_pace_of_faults() {
    let board = Board::new();
    let seat = board.begin(id("a"), digest());
    let mut watch = board.watch();
    watch.next().await;
    let before = Instant::now();
    seat.fault("trapped");
    seat.set(State::Running);
    assert_eq!(watch.next().await[0].state, State::Running);
    assert_eq!(Instant::now(), before, "the clock stands still, so nothing was waited for");
}

#[test]
fn what_ended_is_remembered_within_a_bound() {
    let board = Board::new();
    for n in 0..MAX_ENDED + 10 {
        board.begin(id(&format!("i{n}")), digest()).set(State::Stopped);
    }
    assert_eq!(board.status(&id("i9")), None, "the oldest is forgotten");
    assert!(board.status(&id("i10")).is_some());
    let entries = board.lock();
    assert_eq!((entries.by_id.len(), entries.by_revision.len()), (MAX_ENDED, MAX_ENDED));
}
