//! The cases for every adapter. In each the adapter runs nothing at first.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use shoal_protocol::model::InstanceState;

use super::{Sample, Subject, TIMEOUT, ask, get, instance, requests, run, stop, tail, wait_for};
use crate::endpoint::Endpoint;
use crate::error::{LogsError, ServeError, StartError};
use crate::model::Launch;

/// Longer than any request of these cases takes.
const GRACE: Duration = Duration::from_secs(60);

/// A launch that was not prepared runs and answers, and its status and usage say so.
pub async fn start_runs_and_answers(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    let (status, text) = get(&runtime, "web/0", "/some/path").await.expect("an answer");
    assert_eq!(status, 200);
    assert!(text.contains("hello, web/0") && text.contains("/some/path"), "{text}");
    let instances = runtime.instances().await.expect("the engine answers");
    assert_eq!(instances.iter().map(|found| found.id.as_str()).collect::<Vec<_>>(), ["web/0"]);
    let usage = runtime.usage(&instance("web/0")).await.expect("it runs");
    assert!(usage.cpu > Duration::ZERO);
    assert_eq!(requests(&runtime, "web/0"), Some(1));
}

/// The executor repeats its orders: a repeated start must not restart the instance.
pub async fn repeated_start_changes_nothing(subject: &impl Subject) {
    let runtime = subject.runtime();
    let launch = subject.launch("web/0", Sample::Hello);
    runtime.start(launch.clone()).await.expect("accepted");
    runtime.start(launch.clone()).await.expect("while it starts");
    run(&runtime, launch.clone()).await;
    get(&runtime, "web/0", "/").await.expect("an answer");
    let before = runtime.status(&instance("web/0"));
    runtime.start(launch).await.expect("while it runs");
    assert_eq!(
        runtime.status(&instance("web/0")),
        before,
        "the same life, its requests counted on"
    );
}

/// Ingress asks for the endpoint at each request: it is the one that the watch reports with
/// `Running`, and there is none before and after. The next life has one that answers.
pub async fn endpoint_is_that_of_the_running_state(subject: &impl Subject) {
    let runtime = subject.runtime();
    let id = instance("web/0");
    for _ in 0..2 {
        runtime.start(subject.launch("web/0", Sample::Hello)).await.expect("accepted");
        let status = wait_for(&runtime, "web/0", InstanceState::is_running).await;
        let endpoint = runtime.endpoint(&id).expect("it runs");
        assert_eq!(status.endpoint, Some(endpoint));
        get(&runtime, "web/0", "/").await.expect("an answer");
        stop(&runtime, "web/0", GRACE).await;
        let error = runtime.endpoint(&id).expect_err("it has stopped");
        assert!(
            matches!(&error, ServeError::NotRunning { id: of, state: "stopped" } if *of == id),
            "{error}"
        );
    }
}

/// A request may be on its way to an endpoint when the instance stops: the error says that the
/// guest saw nothing of it. An address may belong to another instance by then, which answers.
pub async fn stopped_endpoint_leaves_requests_untouched(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("gone/0", Sample::Hello)).await;
    let endpoint = runtime.endpoint(&instance("gone/0")).expect("it runs");
    stop(&runtime, "gone/0", GRACE).await;
    let has_address = matches!(endpoint, Endpoint::Tcp(_));
    match ask(&instance("gone/0"), endpoint, "/").await {
        Err(error) => assert!(error.untouched(), "{error}"),
        Ok((_, text)) => assert!(has_address && !text.contains("gone/0"), "{text}"),
    }
}

/// A changed launch needs a stop first; the running one is not disturbed.
pub async fn different_launch_under_a_live_id_is_refused(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    let mut other = subject.launch("web/0", Sample::Hello);
    other.env.insert("NAME".into(), "other".into());
    let error = runtime.start(other.clone()).await.expect_err("the id is taken");
    assert!(matches!(error, StartError::Differs(_)), "{error}");
    assert!(get(&runtime, "web/0", "/").await.expect("undisturbed").1.contains("hello, web/0"));
    stop(&runtime, "web/0", GRACE).await;
    run(&runtime, other).await;
    assert!(get(&runtime, "web/0", "/").await.expect("the new one").1.contains("hello, other"));
}

/// A person needs the reason of a failure, the executor whether to try again.
pub async fn failed_start_says_why_and_can_be_repeated(subject: &impl Subject) {
    let runtime = subject.runtime();
    for (sample, may_be_retried) in [(Sample::Refused, false), (Sample::Missing, true)] {
        for _ in 0..2 {
            runtime
                .start(subject.launch("web/0", sample))
                .await
                .expect("accepted, whatever becomes of it");
            let status = wait_for(&runtime, "web/0", InstanceState::ended).await;
            let InstanceState::Failed { reason, retryable } = status.state else {
                panic!("{status:?}")
            };
            assert!(!reason.is_empty());
            assert_eq!(retryable, may_be_retried, "{reason}");
        }
        assert_eq!(runtime.instances().await.expect("the engine answers"), []);
        let error = get(&runtime, "web/0", "/").await.expect_err("it does not run");
        assert!(error.untouched(), "{error}");
    }
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
}

/// Stops an unknown instance, a running one twice at once, and a stopped one.
pub async fn stop_is_idempotent_and_leaves_nothing(subject: &impl Subject) {
    let runtime = subject.runtime();
    stop(&runtime, "nobody/0", GRACE).await;
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    let id = instance("web/0");
    let (first, second) = tokio::join!(runtime.stop(&id, GRACE), runtime.stop(&id, Duration::ZERO));
    first.expect("stops");
    second.expect("stops");
    stop(&runtime, "web/0", GRACE).await;
    assert_eq!(runtime.status(&id).map(|status| status.state), Some(InstanceState::Stopped));
    assert_eq!(runtime.instances().await.expect("the engine answers"), []);
    assert_eq!(runtime.usage(&id).await, None);
    let error = get(&runtime, "web/0", "/").await.expect_err("it is gone");
    assert!(error.untouched(), "{error}");
    subject.nothing_is_left().await.expect("nothing");
}

/// A later life under the same id counts its own requests, also when it starts during the stop.
pub async fn stopped_instance_starts_again(subject: &impl Subject) {
    let runtime = subject.runtime();
    for _ in 0..3 {
        run(&runtime, subject.launch("web/0", Sample::Hello)).await;
        get(&runtime, "web/0", "/").await.expect("an answer");
        assert_eq!(requests(&runtime, "web/0"), Some(1));
        stop(&runtime, "web/0", GRACE).await;
    }
    // Stopped while it starts.
    runtime.start(subject.launch("web/0", Sample::Hello)).await.expect("accepted");
    stop(&runtime, "web/0", GRACE).await;
    assert_eq!(
        runtime.status(&instance("web/0")).map(|status| status.state),
        Some(InstanceState::Stopped)
    );
    // Started while it stops.
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    let id = instance("web/0");
    let stopping = runtime.stop(&id, GRACE);
    runtime.start(subject.launch("web/0", Sample::Hello)).await.expect("accepted");
    stopping.await.expect("stops");
    wait_for(&runtime, "web/0", InstanceState::is_running).await;
    get(&runtime, "web/0", "/").await.expect("the newer one answers");
}

/// A watcher that was made after all changes gets the latest state of each instance.
pub async fn late_watcher_sees_every_instance(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("a/0", Sample::Hello)).await;
    run(&runtime, subject.launch("b/0", Sample::Hello)).await;
    stop(&runtime, "b/0", GRACE).await;
    let mut seen = runtime.watch().next().await;
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    let seen: Vec<_> =
        seen.iter().map(|status| (status.id.as_str(), status.state.word())).collect();
    assert_eq!(seen, [("a/0", "running"), ("b/0", "stopped")]);
}

/// The guest sees the launch's variables and none of the host's.
pub async fn environment_is_that_of_the_launch_only(subject: &impl Subject) {
    let runtime = subject.runtime();
    let mut launch = subject.launch("env/0", Sample::Faulty);
    launch.env.insert("GREETING".into(), "grüß dich = ok".into());
    run(&runtime, launch).await;
    let (_, text) = get(&runtime, "env/0", "/env").await.expect("an answer");
    assert!(text.lines().any(|line| line == "GREETING=grüß dich = ok"), "{text}");
    assert!(text.lines().any(|line| line == "NAME=env/0"), "{text}");
    // Every test has a PATH, whose value no guest may see.
    let path = std::env::var("PATH").expect("tests are run with a PATH");
    assert!(!text.contains(&path), "{text}");
}

/// The last lines explain a crash, so they must be readable after the instance has ended.
pub async fn logs_outlive_the_instance(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    get(&runtime, "web/0", "/first").await.expect("an answer");
    get(&runtime, "web/0", "/second").await.expect("an answer");
    stop(&runtime, "web/0", GRACE).await;
    let lines = runtime.logs(&instance("web/0"), tail(100, false)).await.expect("there are logs");
    let lines: Vec<_> = lines.map(|line| line.text).collect().await;
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    assert!(at("/first").is_some() && at("/first") < at("/second"), "{lines:?}");
    let followed = runtime.logs(&instance("web/0"), tail(0, true)).await.expect("there are logs");
    let more = tokio::time::timeout(TIMEOUT, followed.count()).await;
    assert_eq!(more.expect("following what has stopped ends"), 0);
    let unknown = runtime.logs(&instance("nobody/0"), tail(1, false)).await.err();
    assert!(matches!(unknown, Some(LogsError::Unknown(_))), "{unknown:?}");
}

/// As `logs -f` needs it: each line comes soon after the guest wrote it.
pub async fn follower_sees_lines_as_they_come(subject: &impl Subject) {
    let runtime = subject.runtime();
    run(&runtime, subject.launch("web/0", Sample::Hello)).await;
    let mut lines = runtime.logs(&instance("web/0"), tail(0, true)).await.expect("there are logs");
    for path in ["/one", "/two"] {
        get(&runtime, "web/0", path).await.expect("an answer");
        let line = async {
            while let Some(line) = lines.next().await {
                if line.text.contains(path) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(TIMEOUT, line).await.expect("the line comes"));
    }
}

/// Ingress asks another replica only when the error says that the guest saw nothing.
pub async fn unknown_instance_is_a_typed_error(subject: &impl Subject) {
    let runtime = subject.runtime();
    let error = get(&runtime, "nobody/0", "/").await.expect_err("nobody is there");
    assert!(matches!(&error, ServeError::Unknown(id) if *id == instance("nobody/0")), "{error}");
    assert!(error.untouched());
    assert_eq!(error.into_response().status(), 503);
    assert_eq!(runtime.status(&instance("nobody/0")), None);
    assert_eq!(runtime.usage(&instance("nobody/0")).await, None);
}

/// Two tasks start and stop each of four ids: in any order, the last stop leaves nothing.
pub async fn concurrent_starts_and_stops_leave_nothing(subject: &impl Subject) {
    let runtime = subject.runtime();
    let rounds = (0..8).map(|n| {
        let runtime = subject.runtime();
        async move {
            let name = format!("web/{}", n % 4);
            let id = instance(&name);
            for round in 0..8 {
                // Two tasks fight over each id: a start may be accepted, or the other's stop may
                // win.
                let _ = runtime.start(subject.launch(&name, Sample::Hello)).await;
                if round % 2 == 0 {
                    let _ = get(&runtime, &name, "/").await;
                }
                let _ = runtime.stop(&id, GRACE).await;
            }
        }
    });
    join_all(rounds).await;
    for n in 0..4 {
        stop(&runtime, &format!("web/{n}"), GRACE).await;
        assert_eq!(
            runtime.status(&instance(&format!("web/{n}"))).map(|status| status.state),
            Some(InstanceState::Stopped)
        );
    }
    assert_eq!(runtime.instances().await.expect("the engine answers"), []);
    subject.nothing_is_left().await.expect("nothing");
}

/// A job: its end is told with its exit code, whatever that is, and with its last lines; and it can
/// be tried again under the same id.
pub async fn program_that_is_to_end_is_done(subject: &impl Subject) {
    let runtime = subject.runtime();
    for code in [0, 3] {
        for _ in 0..2 {
            let launch = Launch { ends: true, ..subject.launch("job/0", Sample::Ends(code)) };
            runtime.start(launch).await.expect("accepted");
            let status = wait_for(&runtime, "job/0", InstanceState::ended).await;
            let InstanceState::Done { exit_code, mut lines } = status.state else {
                panic!("{status:?}")
            };
            assert_eq!(exit_code, i32::from(code));
            // Output and error are two streams.
            lines.sort_unstable();
            assert_eq!(lines, ["about to exit".to_owned(), format!("with code {code}")]);
            assert_eq!((status.is_up, status.endpoint), (false, None));
            assert_eq!(runtime.instances().await.expect("the engine answers"), []);
        }
    }
    let mut follower = runtime.logs(&instance("job/0"), tail(100, true)).await.expect("a log");
    let all = async {
        let mut lines = Vec::new();
        while let Some(line) = follower.next().await {
            lines.push(line.text);
        }
        lines
    };
    let lines = tokio::time::timeout(TIMEOUT, all).await.expect("a follower's stream ends with it");
    assert!(lines.iter().any(|line| line == "exited with code 3"), "{lines:?}");
}

/// The same program as a service: its end is a failure, also with code 0.
pub async fn program_that_is_to_run_for_ever_fails_at_its_end(subject: &impl Subject) {
    let runtime = subject.runtime();
    for code in [0, 3] {
        runtime.start(subject.launch("web/0", Sample::Ends(code))).await.expect("accepted");
        let status = wait_for(&runtime, "web/0", InstanceState::ended).await;
        let reason = format!("exited with code {code}");
        assert_eq!(status.state, InstanceState::Failed { reason, retryable: true });
    }
}

/// What was done stays until it is stopped, so that its end can be told again.
pub async fn done_instance_is_stopped_and_leaves_nothing(subject: &impl Subject) {
    let runtime = subject.runtime();
    let launch = Launch { ends: true, ..subject.launch("job/0", Sample::Ends(0)) };
    runtime.start(launch).await.expect("accepted");
    wait_for(&runtime, "job/0", InstanceState::ended).await;
    stop(&runtime, "job/0", GRACE).await;
    let state = runtime.status(&instance("job/0")).map(|status| status.state);
    assert!(matches!(state, None | Some(InstanceState::Stopped)), "{state:?}");
    subject.nothing_is_left().await.expect("nothing");
}
