//! The cases for adapters that run components: artifacts, and guests inside this process that harm
//! only their own request. In each the adapter runs nothing at first.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use shoal_protocol::model::InstanceState;

use super::{ComponentSubject, TIMEOUT, get, instance, run, stop, tail, wait_for};
use crate::error::PrepareError;

/// Longer than any request of these cases takes.
const GRACE: Duration = Duration::from_secs(60);

/// Preparing twice is like preparing once, and can be repeated after the future was dropped.
pub async fn prepare_is_idempotent_and_cancellable(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    // Polled once, so that it has begun, and dropped.
    futures::future::select(runtime.prepare(samples.hello), std::future::ready(())).await;
    for _ in 0..2 {
        runtime.prepare(samples.hello).await.expect("a sound artifact");
    }
    let all = join_all((0..4).map(|_| runtime.prepare(samples.faulty))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
}

/// The error says whether to fetch the artifact and try again, or to give up.
pub async fn prepare_distinguishes_missing_from_refused(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    let missing = runtime.prepare(samples.missing()).await.expect_err("nobody has it");
    assert!(
        matches!(missing, PrepareError::Missing(digest) if digest == samples.missing()),
        "{missing}"
    );
    assert!(missing.retryable());
    let refused = runtime.prepare(samples.refused).await.expect_err("it cannot run");
    assert!(
        matches!(&refused, PrepareError::Refused { reason, .. } if !reason.is_empty()),
        "{refused}"
    );
    assert!(!refused.retryable());
}

/// A request that began before the stop, and ends within the grace, is answered.
pub async fn request_under_way_may_end_within_the_grace(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    run(&runtime, samples.launch("slow/0", samples.faulty)).await;
    let (answer, ()) = tokio::join!(get(&runtime, "slow/0", "/slow?500"), async {
        under_way(subject, "slow/0").await;
        stop(&runtime, "slow/0", GRACE).await;
    });
    assert_eq!(answer.expect("an answer").1, "at last");
}

/// With no grace the stop cuts the request instead of waiting ten minutes.
pub async fn request_that_outlives_the_grace_is_cut(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    run(&runtime, samples.launch("slow/0", samples.faulty)).await;
    let (answer, ()) = tokio::join!(get(&runtime, "slow/0", "/slow?600000"), async {
        under_way(subject, "slow/0").await;
        stop(&runtime, "slow/0", Duration::ZERO).await;
    });
    answer.expect_err("it was cut");
    assert_eq!(
        runtime.status(&instance("slow/0")).map(|status| status.state),
        Some(InstanceState::Stopped)
    );
    subject.nothing_is_left().await.expect("nothing");
}

/// Waits until a request is being answered.
async fn under_way(subject: &impl ComponentSubject, id: &str) {
    let runtime = subject.runtime();
    let begun = async {
        while runtime.usage(&instance(id)).await.is_none_or(|usage| usage.active == 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, begun).await.expect("the request begins");
}

/// The memory limit holds, the fault names it, and neighbours are not affected.
pub async fn memory_excess_fails_only_that_request(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    run(&runtime, samples.launch("eater/0", samples.faulty)).await;
    run(&runtime, samples.launch("web/0", samples.hello)).await;
    let error =
        get(&runtime, "eater/0", "/gorge?64").await.expect_err("64 MiB are more than the limit");
    assert!(!error.untouched());
    assert!(error.to_string().contains("memory limit"), "{error}");
    let status = runtime.status(&instance("eater/0")).expect("it is known");
    assert_eq!(status.faults, 1);
    let fault = status.last_fault.expect("there was one");
    assert!(fault.reason.contains("memory limit"), "{}", fault.reason);
    get(&runtime, "web/0", "/").await.expect("its neighbour answers");
    wait_for(&runtime, "eater/0", InstanceState::is_running).await;
    assert_eq!(get(&runtime, "eater/0", "/").await.expect("it answers again").1, "ok");
}

/// A crash is answered with an error, counted, and explained in status and log.
pub async fn crash_fails_only_that_request(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    run(&runtime, samples.launch("faulty/0", samples.faulty)).await;
    let error = get(&runtime, "faulty/0", "/panic").await.expect_err("it panics");
    let response = error.into_response();
    assert!(response.status().is_server_error());
    wait_for(&runtime, "faulty/0", InstanceState::is_running).await;
    assert_eq!(get(&runtime, "faulty/0", "/").await.expect("it answers again").1, "ok");
    let status = runtime.status(&instance("faulty/0")).expect("it is known");
    assert_eq!(status.faults, 1);
    assert!(status.last_fault.is_some_and(|fault| !fault.reason.is_empty()));
    let lines =
        runtime.logs(&instance("faulty/0"), tail(100, false)).await.expect("there are logs");
    let lines: Vec<_> = lines.map(|line| line.text).collect().await;
    assert!(lines.iter().any(|line| line.contains("on purpose")), "the panic's message: {lines:?}");
}

/// Eight requests loop for ever on a shared device; a neighbour must still answer.
pub async fn looping_guest_does_not_stop_its_neighbours(subject: &impl ComponentSubject) {
    let (runtime, samples) = (subject.runtime(), subject.samples());
    run(&runtime, samples.launch("loops/0", samples.faulty)).await;
    run(&runtime, samples.launch("web/0", samples.hello)).await;
    let looping = join_all((0..8).map(|_| get(&runtime, "loops/0", "/loop")));
    let neighbour = async {
        under_way(subject, "loops/0").await;
        for _ in 0..10 {
            get(&runtime, "web/0", "/").await.expect("its neighbour answers");
        }
        stop(&runtime, "loops/0", Duration::ZERO).await;
    };
    let (ends, ()) = tokio::join!(looping, neighbour);
    assert!(ends.iter().all(Result::is_err), "{ends:?}");
    subject.nothing_is_left().await.expect_err("the neighbour still runs");
    stop(&runtime, "web/0", GRACE).await;
    subject.nothing_is_left().await.expect("nothing");
}
