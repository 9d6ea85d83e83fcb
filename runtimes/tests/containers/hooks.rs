//! Commands beside a container's program: after its start, and before it is asked to end.

use std::time::Duration;

use shoal_protocol::model::InstanceState;
use shoal_protocol::model::spec::{Hook, HookCommand, Hooks, Mount};
use shoal_runtimes::contract::Subject;
use shoal_runtimes::{Launch, Payload, Runtime, VolumeKey, VolumeOf};

use crate::engines::harness::{Harness, TIMEOUT, id_of, server};
use crate::engines::{Kind, shared};

on_both! {
    hook_after_the_start_has_ended_before_it_is_ready
    hook_that_fails_fails_the_start_with_its_last_words
    hook_before_the_end_runs_before_it_is_asked_to_end
    hook_before_the_end_has_no_more_than_the_grace
    start_whose_hook_was_cut_off_is_begun_anew
}

fn exec(words: &[&str]) -> Hook {
    let command = ["/server"].iter().chain(words).map(|&word| word.to_owned()).collect();
    Hook::Exec(HookCommand { command, ..HookCommand::default() })
}

/// A server with hooks, and a volume at `/shared` that outlives it.
fn hooked(id: &str, post_start: Vec<Hook>, pre_stop: Vec<Hook>) -> Launch {
    let mut launch = server(id, |it| it.hooks = Hooks { post_start, pre_stop });
    let key =
        VolumeKey { workload: "default/sample".into(), place: "0".into(), name: "data".into() };
    let Payload::Container(payload) = &mut launch.payload else { unreachable!() };
    let mount = Mount { volume: "data".into(), path: "/shared".into(), read_only: false };
    payload.container.mounts.push(mount);
    payload.volumes.insert("data".into(), VolumeOf::Kept(key));
    launch
}

async fn hook_after_the_start_has_ended_before_it_is_ready(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let late = exec(&["note", "/shared/one", "first", "300"]);
    let mut second = exec(&["note", "two", "second"]);
    if let Hook::Exec(it) = &mut second {
        (it.workdir, it.user) = (Some("/shared".into()), Some("0".into()));
    }
    harness.run(hooked("a/0", vec![late, Hook::Sleep(Duration::ZERO), second], vec![])).await;
    assert_eq!(harness.get(&id_of("a/0"), "/read?/shared/one").await, "first");
    assert_eq!(harness.get(&id_of("a/0"), "/read?/shared/two").await, "second");
}

async fn hook_that_fails_fails_the_start_with_its_last_words(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let hooks = vec![exec(&["end", "4"]), exec(&["note", "/shared/one", "not run"])];
    let (reason, retryable) = harness.fails(hooked("a/0", hooks, vec![])).await;
    let told = reason.strip_prefix("failed after its start: `/server end 4` ended with 4: ");
    let told = told.unwrap_or_else(|| panic!("{reason}"));
    assert!(told.contains("about to exit") && told.contains("with code 4"), "{reason}");
    assert!(retryable);
    let lines = harness.lines(&id_of("a/0")).await;
    assert_eq!(lines.iter().filter(|it| **it == reason).count(), 1, "{lines:?}");
    harness.nothing_is_left().await.unwrap();
    let missing = Hook::Exec(HookCommand { command: vec!["/no".into()], ..Default::default() });
    let (reason, _) = harness.fails(hooked("a/1", vec![missing], vec![])).await;
    assert!(reason.starts_with("failed after its start: `/no` "), "{reason}");
}

/// Also of a daemon that knows nothing of it but what the engine has.
async fn hook_before_the_end_runs_before_it_is_asked_to_end(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let fails = exec(&["end", "4"]);
    let of = |name: &str| exec(&["note", &format!("/shared/{name}"), name]);
    harness.run(hooked("a/0", vec![], vec![fails.clone(), of("one")])).await;
    harness.containers.stop(&id_of("a/0"), Duration::from_secs(20)).await.unwrap();
    harness.run(hooked("a/1", vec![], vec![fails, of("two")])).await;
    assert_eq!(harness.get(&id_of("a/1"), "/read?/shared/one").await, "one");
    let harness = harness.restart().await;
    harness.containers.stop(&id_of("a/1"), Duration::from_secs(20)).await.unwrap();
    harness.run(hooked("a/2", vec![], vec![])).await;
    assert_eq!(harness.get(&id_of("a/2"), "/read?/shared/two").await, "two");
}

async fn hook_before_the_end_has_no_more_than_the_grace(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let long = Hook::Sleep(Duration::from_secs(3600));
    let waits = exec(&["wait"]);
    for (id, hook) in [("a/0", long.clone()), ("a/1", waits)] {
        harness.run(hooked(id, vec![], vec![hook])).await;
        let stop = harness.containers.stop(&id_of(id), Duration::from_secs(1));
        tokio::time::timeout(TIMEOUT, stop).await.unwrap().unwrap();
    }
    // A second stop that gives it less time cuts the first one short.
    harness.run(hooked("a/2", vec![], vec![long])).await;
    let id = id_of("a/2");
    let slow = harness.containers.stop(&id, Duration::from_secs(3600));
    let fast = harness.containers.stop(&id, Duration::from_secs(1));
    let both = async { tokio::join!(slow, fast) };
    let (slow, fast) = tokio::time::timeout(TIMEOUT, both).await.unwrap();
    slow.and(fast).unwrap();
    harness.nothing_is_left().await.unwrap();
}

/// The daemon ends while a hook runs: nothing says later whether the hook has succeeded.
async fn start_whose_hook_was_cut_off_is_begun_anew(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let launch = |pause: u64| {
        let pause = exec(&["note", "/shared/one", "x", &pause.to_string()]);
        hooked("a/0", vec![pause], vec![])
    };
    harness.containers.start(launch(3_600_000)).await.unwrap();
    let waits = |state: &InstanceState| match state {
        InstanceState::Waiting { reason } => reason.contains("after its start"),
        _ => false,
    };
    harness.wait(&id_of("a/0"), waits).await;
    let before = harness.the_container()["Id"].clone();
    let harness = harness.restart().await;
    harness.containers.start(launch(3_600_000)).await.unwrap();
    harness.wait(&id_of("a/0"), waits).await;
    assert_ne!(harness.the_container()["Id"], before);
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    harness.run(launch(0)).await;
    let before = harness.the_container()["Id"].clone();
    let harness = harness.restart().await;
    harness.run(launch(0)).await;
    assert_eq!(harness.the_container()["Id"], before, "its hooks have ended");
}
