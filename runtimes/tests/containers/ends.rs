//! Containers that end by themselves, that do not want to end, and that never begin: the reason is
//! in words for people, and nothing is left.

use std::time::Duration;

use shoal_protocol::model::InstanceState;
use shoal_protocol::model::spec::PullPolicy;
use shoal_runtimes::contract::Subject;
use shoal_runtimes::{InstanceId, Runtime};

use crate::engines::harness::{Harness, id_of, launch, mode, server};
use crate::engines::{Kind, shared};

on_both! {
    exit_code_is_told_after_the_last_lines
    signal_is_named
    memory_limit_is_named
    program_that_ignores_its_signal_is_killed
    program_that_hears_its_signal_ends_itself
    image_without_a_command_is_named
    missing_image_is_named
    image_that_cannot_be_pulled_is_named
    image_of_another_machine_is_refused
    unknown_user_and_program_are_named
    container_removed_from_outside_has_failed
    container_that_ends_at_once_never_runs
    port_that_nothing_listens_on_is_named
    paused_container_takes_no_requests
    order_to_the_engine_is_named
}

async fn exit_code_is_told_after_the_last_lines(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let failure = harness.fails(mode("a/0", "exit")).await;
    assert_eq!(failure, ("exited with code 3".to_owned(), true));
    let lines = harness.lines(&id_of("a/0")).await;
    let at = |text: &str| lines.iter().position(|line| line == text);
    let order = [at("one"), at("the last words"), at("exited with code 3")];
    assert!(order.iter().all(Option::is_some), "{lines:?}");
    assert!(order[0] < order[2] && order[1] < order[2], "{lines:?}");
    harness.nothing_is_left().await.unwrap();
}

async fn signal_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let failure = harness.fails(mode("a/0", "crash")).await;
    assert_eq!(failure, ("was killed by SIGSEGV".to_owned(), true));
    harness.nothing_is_left().await.unwrap();
}

/// Podman never says that a container ran out of memory: there it is a suspicion.
async fn memory_limit_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let (reason, retryable) = harness.fails(mode("a/0", "eat")).await;
    assert!(retryable);
    match kind {
        Kind::Docker => assert_eq!(reason, "ran out of its memory of 64 MiB"),
        Kind::Podman => assert!(reason.contains("its memory of 64 MiB"), "{reason}"),
    }
    harness.nothing_is_left().await.unwrap();
}

/// A stop that would wait for ten minutes is under way; one without a grace ends it now.
async fn program_that_ignores_its_signal_is_killed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |it| it.command = Some(vec!["deaf".into()]))).await;
    let id = id_of("a/0");
    let first = harness.containers.stop(&id, Duration::from_secs(600));
    let second = async {
        // Polled after the first one: its stop is the one that is under way.
        tokio::task::yield_now().await;
        harness.containers.stop(&id, Duration::ZERO).await
    };
    let both = async { tokio::join!(first, second) };
    let (first, second) =
        tokio::time::timeout(crate::engines::harness::TIMEOUT, both).await.expect("it is killed");
    first.unwrap();
    second.unwrap();
    assert_eq!(harness.containers.status(&id).unwrap().state, InstanceState::Stopped);
    harness.nothing_is_left().await.unwrap();
}

/// The stop does not kill a program that has time: its last act is seen in the exit.
async fn program_that_hears_its_signal_ends_itself(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |it| it.stop_grace = Some(Duration::from_secs(600)))).await;
    let id = id_of("a/0");
    let stopped = harness.containers.stop(&id, Duration::ZERO);
    tokio::time::timeout(crate::engines::harness::TIMEOUT, stopped).await.unwrap().unwrap();
    let lines = harness.lines(&id).await;
    assert!(lines.iter().any(|line| line == "asked to end"), "{lines:?}");
    harness.nothing_is_left().await.unwrap();
}

async fn image_without_a_command_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let (reason, retryable) = harness.fails(launch("a/0", "localhost/shoal-empty:1", |_| ())).await;
    assert!(reason.starts_with("the image names no command"), "{reason}");
    assert!(!retryable);
    // With a command it runs: the image is sound.
    let sound = launch("a/0", "localhost/shoal-empty:1", |it| {
        it.entrypoint = Some(Vec::new());
        it.command = Some(vec!["/server".into(), "wait".into()]);
    });
    harness.run(sound).await;
}

async fn missing_image_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let (reason, retryable) = harness.fails(launch("a/0", "localhost/nobody/has:1", |_| ())).await;
    assert_eq!(
        reason,
        "the image localhost/nobody/has:1 is not on this device, and its pull policy is never"
    );
    assert!(retryable);
    harness.nothing_is_left().await.unwrap();
}

/// No registry answers at port 1. Podman says so inside a stream that begins with success.
async fn image_that_cannot_be_pulled_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    for policy in [PullPolicy::Missing, PullPolicy::Always] {
        let launch = launch("a/0", "localhost:1/nobody/has", |it| it.image.pull = policy);
        let (reason, retryable) = harness.fails(launch).await;
        let start = "the image localhost:1/nobody/has cannot be pulled: ";
        assert!(reason.starts_with(start) && reason.contains("refused"), "{reason}");
        assert!(retryable);
    }
}

async fn image_of_another_machine_is_refused(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let (reason, retryable) = harness.fails(launch("a/0", "localhost/shoal-other:1", |_| ())).await;
    assert!(reason.contains("is made for s390x, and this device is"), "{reason}");
    assert!(!retryable);
}

async fn unknown_user_and_program_are_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let launch = server("a/0", |it| it.user = Some("nobody-knows".into()));
    let (reason, retryable) = harness.fails(launch).await;
    assert!(reason.starts_with("the image has no such user"), "{reason}");
    assert!(!retryable);
    let launch = server("a/0", |it| it.entrypoint = Some(vec!["/nothing".into()]));
    let (reason, retryable) = harness.fails(launch).await;
    assert!(reason.contains("/nothing") && reason.starts_with("the image "), "{reason}");
    assert!(!retryable);
    harness.nothing_is_left().await.unwrap();
}

async fn container_removed_from_outside_has_failed(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| ())).await;
    let container = harness.the_container();
    harness.engine.remove(container["Id"].as_str().unwrap());
    let (_, retryable) = harness.failure(&id_of("a/0")).await;
    assert!(retryable);
    harness.run(server("a/0", |_| ())).await;
}

/// Without a port it counted as running as soon as it was started, and so `shoal run` said of a
/// program that ended at once that it was healthy.
async fn container_that_ends_at_once_never_runs(kind: Kind) {
    let harness = Harness::settling(shared(kind), crate::engines::harness::TIMEOUT).await;
    let mut watch = harness.containers.watch();
    harness.containers.start(mode("a/0", "exit")).await.unwrap();
    loop {
        let states = watch.next().await.into_iter().map(|status| status.state);
        let Some(last) = states.last() else { continue };
        assert!(!last.is_running(), "it was taken for running");
        if last.ended() {
            break;
        }
    }
    harness.nothing_is_left().await.unwrap();
}

async fn waits_for(harness: &Harness, id: &InstanceId) -> String {
    let waits = |state: &InstanceState| {
        assert!(!state.ended(), "{state:?}");
        matches!(state, InstanceState::Waiting { .. })
    };
    match harness.wait(id, waits).await.state {
        InstanceState::Waiting { reason } => reason,
        state => panic!("{state:?}"),
    }
}

/// The wrong port: people saw only that it started.
async fn port_that_nothing_listens_on_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.containers.start(server("a/0", |it| it.http = Some(81))).await.unwrap();
    let reason = waits_for(&harness, &id_of("a/0")).await;
    assert!(reason.starts_with("nothing listens on port 81 yet"), "{reason}");
}

async fn paused_container_takes_no_requests(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let id = id_of("a/0");
    harness.run(server("a/0", |_| ())).await;
    let container = harness.the_container();
    harness.engine.act(&container, "pause");
    assert_eq!(waits_for(&harness, &id).await, "paused in the engine");
    assert!(harness.containers.endpoint(&id).is_err());
    harness.engine.act(&container, "unpause");
    harness.wait(&id, InstanceState::is_running).await;
}

/// After `podman kill` people read that the container may have run out of memory.
async fn order_to_the_engine_is_named(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(server("a/0", |_| ())).await;
    harness.engine.act(&harness.the_container(), "kill");
    let (reason, _) = harness.failure(&id_of("a/0")).await;
    assert_eq!(reason, "was killed by SIGKILL, by an order to the engine from outside shoal");
}
