//! Guests that misbehave in every way we know: the client's answer, the user's message, and that
//! nothing else is harmed.

#[cfg(test)]
mod guests;
#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod harness;

use shoal_protocol::model::InstanceState;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use harness::{Harness, LONG, MIB, env, id};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use shoal_runtimes::logs::LogStream;
use shoal_runtimes::{BodyError, Endpoint, Runtime, ServeError};

/// A time-out that ends soon; no test depends on how long it really takes.
const SHORT: Duration = Duration::from_millis(200);

/// A time-out that a busy machine still keeps between two steps of a guest.
const SECOND: Duration = Duration::from_secs(1);

/// A guest loops for ever with a whole core to itself.
#[tokio::test(flavor = "multi_thread")]
async fn loop_ends_when_its_cpu_time_is_used_up() {
    let harness =
        Harness::with(|config| (config.request_cpu, config.request_time) = (SHORT, LONG)).await;
    harness.faulty(|_| {}).await;
    let (status, text) = harness.failure("/loop").await;
    assert_eq!(status, 504);
    assert_eq!(text, "`faulty/0` used more than 200 ms of CPU time for one request\n");
    assert_eq!(harness.text("/").await, "ok");
}

/// With a thousandth of a core a loop never uses up its CPU time: the time without progress ends
/// it, and the message names the CPU limit.
#[tokio::test(flavor = "multi_thread")]
async fn throttled_loop_ends_when_its_time_is_over() {
    let harness =
        Harness::with(|config| (config.request_cpu, config.request_time) = (LONG, SHORT * 3)).await;
    harness.faulty(|launch| launch.cpu = 1).await;
    let (status, text) = harness.failure("/loop").await;
    assert_eq!(status, 504);
    assert!(
        text.starts_with("`faulty/0` ran longer than 600 ms without an answer (held back for "),
        "{text}"
    );
    assert!(text.ends_with(" by its CPU limit of 1m)\n"), "{text}");
    let usage = harness.wasm.usage(&id("faulty/0")).await.unwrap();
    assert!(usage.throttled > Duration::ZERO);
    assert!(usage.cpu < SHORT * 3, "{usage:?}");
}

/// Sleeping uses no CPU time; the time without progress ends the request.
#[tokio::test(flavor = "multi_thread")]
async fn guest_that_sleeps_too_long_is_cut_off() {
    let harness = Harness::with(|config| config.request_time = SHORT).await;
    harness.faulty(|_| {}).await;
    let (status, text) = harness.failure("/slow?3600000").await;
    assert_eq!(
        (status, text.as_str()),
        (504, "`faulty/0` ran longer than 200 ms without an answer\n")
    );
    assert_eq!(harness.text("/slow?1").await, "at last");
}

/// A guest that survives refused growth is no fault; one that aborts over it is, and names the
/// limit.
#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_the_limit_and_is_given_back() {
    let harness = Harness::new().await;
    harness.faulty(|launch| launch.memory = 8 * MIB).await;
    let text = harness.text("/eat").await;
    let pages: u64 = text.strip_suffix(" pages").unwrap().parse().unwrap();
    assert!(
        pages * 65536 < 8 * MIB && pages * 65536 > 5 * MIB,
        "{text}: refused growth is survivable"
    );
    assert_eq!(harness.wasm.status(&id("faulty/0")).unwrap().faults, 0);

    let (status, text) = harness.failure("/gorge?16").await;
    assert_eq!((status, text.as_str()), (507, "`faulty/0` exceeded its memory limit of 8 MiB\n"));
    assert_eq!(harness.last_fault(), "exceeded its memory limit of 8 MiB");
    assert_eq!(
        harness.wasm.usage(&id("faulty/0")).await.unwrap().memory,
        0,
        "no request, no memory"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_limit_covers_all_requests_together() {
    let harness = Harness::new().await;
    harness.faulty(|launch| launch.memory = 16 * MIB).await;
    let eaten = join_all((0..4).map(|_| harness.ask("/eat"))).await;
    // The bodies are not read, so that all four instances live at once; some may have had no room
    // to begin.
    assert!(harness.wasm.usage(&id("faulty/0")).await.unwrap().memory <= 16 * MIB);
    assert!(eaten.iter().any(Result::is_ok));
    for refused in eaten.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(refused, ServeError::Busy { .. } | ServeError::Guest { .. }), "{refused}");
    }
}

/// As many requests as there are guest threads waited for memory that another request of their
/// replica held. Each failed try gave back memory, which woke the request for the next try: for 30
/// s no guest of the node got a thread. A waiting request must use no CPU, and get the memory when
/// it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_memory_keep_no_thread() {
    let harness = Harness::with(|config| (config.threads, config.request_time) = (2, LONG)).await;
    harness.faulty(|launch| launch.memory = 16 * MIB).await;
    let other = harness.samples.launch("hello/0", harness.samples.hello);
    assert!(harness.start(other).await.is_running());

    // This request holds all memory until its answer is read, which is longer than the buffers on
    // the way.
    let holding = harness.ask("/hold?1024").await.unwrap();
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(harness.ask("/slow?0"))).collect();
    until(async || {
        for asking in &mut waiting {
            assert!(futures::poll!(asking.as_mut()).is_pending());
        }
        harness.wasm.usage(&id("faulty/0")).await.unwrap().active == 5
    })
    .await;
    let others = async {
        let mut cpu = None;
        for n in 0..50 {
            let request = http::Request::builder().uri("/").header("host", "hello.localhost");
            let request = request.body(shoal_runtimes::body("")).unwrap();
            let answer = harness.send(&id("hello/0"), request).await.unwrap();
            answer.into_body().collect().await.unwrap();
            // By then each waiting request was polled at least once.
            if n == 25 {
                cpu = Some(harness.wasm.usage(&id("faulty/0")).await.unwrap().cpu);
            }
        }
        (cpu.unwrap(), harness.wasm.usage(&id("faulty/0")).await.unwrap().cpu)
    };
    let (then, now) = generous("answers of another replica", others).await;
    assert_eq!(then, now, "waiting takes no CPU time");
    assert_eq!(harness.wasm.usage(&id("faulty/0")).await.unwrap().active, 5);

    holding.into_body().collect().await.unwrap();
    for answer in generous("answers of those that waited", join_all(waiting)).await {
        let text = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "at last");
    }
    assert_eq!(harness.wasm.status(&id("faulty/0")).unwrap().faults, 0);
}

/// The client, the status and the log each name the reason.
#[tokio::test(flavor = "multi_thread")]
async fn traps_say_what_happened() {
    let harness = Harness::new().await;
    harness.faulty(|_| {}).await;
    let unreachable = "trapped: unreachable executed (a panic or an abort; its log may tell)";
    let cases = [
        ("/trap", unreachable),
        ("/panic", unreachable),
        (
            "/overflow",
            "trapped: out of bounds memory access (a recursion without end, or a bad pointer?)",
        ),
        ("/exit", "exited with code 1 instead of answering"),
        ("/silent", "ended without an answer"),
    ];
    for (n, (path, reason)) in cases.into_iter().enumerate() {
        let (status, text) = harness.failure(path).await;
        assert_eq!((status, text), (502, format!("`faulty/0` {reason}\n")), "{path}");
        assert_eq!(harness.last_fault(), reason, "{path}");
        assert_eq!(harness.wasm.status(&id("faulty/0")).unwrap().faults, n as u64 + 1);
    }
    let status = harness.wasm.status(&id("faulty/0")).unwrap();
    assert!(status.state.is_running() && status.requests == 5, "{status:?}");
    let log = harness.log().await;
    assert!(
        log.iter().any(|line| line.stream == LogStream::Err && line.text.contains("on purpose")),
        "{log:?}"
    );
    let told = format!("GET /overflow: the guest {}", cases[2].1);
    assert!(
        log.iter().any(|line| line.stream == LogStream::System && line.text == told),
        "{log:?}"
    );
}

/// The guest traps in the middle of its body, which must not look like the body's end.
#[tokio::test(flavor = "multi_thread")]
async fn answer_that_breaks_off_ends_in_an_error() {
    let harness = Harness::new().await;
    harness.faulty(|_| {}).await;
    let answer = harness.ask("/half").await.unwrap();
    assert_eq!(answer.status(), 200);
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("trapped: unreachable"), "{error}");
    assert!(harness.last_fault().contains("trapped: unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answer_streams_through_little_memory() {
    let harness = Harness::new().await;
    harness.faulty(|launch| launch.memory = 8 * MIB).await;
    let mut body = harness.ask("/big?65536").await.unwrap().into_body();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        len += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(len, 64 << 20, "eight times its memory");
}

/// The caller keeps the answer and never reads its body: the guest is cut off after `untaken_time`,
/// without a fault.
#[tokio::test(flavor = "multi_thread")]
async fn untaken_answer_releases_the_guest() {
    let harness = Harness::with(|config| config.untaken_time = SHORT).await;
    harness.faulty(|_| {}).await;
    let answer = harness.ask("/big?65536").await.unwrap();
    until(async || harness.wasm.usage(&id("faulty/0")).await.unwrap().active == 0).await;
    assert_eq!(
        harness.wasm.status(&id("faulty/0")).unwrap().faults,
        0,
        "the guest had no part in it"
    );
    let told = "GET /big: the guest was cut off, since nothing of its answer was taken for 200 ms";
    assert!(harness.log().await.iter().any(|line| line.text == told), "{:?}", harness.log().await);
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("nothing of its answer was taken"), "{error}");
}

/// Downloads of some MB at 20 to 100 KB/s were cut off and counted as faults: the time for which
/// the client held the guest back was taken for the guest's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    let harness = Harness::with(|config| config.request_time = SECOND).await;
    harness.faulty(|_| {}).await;
    let mut body = harness.ask("/big?4096").await.unwrap().into_body();
    let mut len = 0;
    for pauses in 0.. {
        if pauses < 3 {
            // The client pauses for longer than the guest's whole time. The pause is the case
            // itself, not a wait for an event.
            tokio::time::sleep(SECOND * 3 / 2).await;
        }
        let Some(frame) = body.frame().await else { break };
        len += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!((len, harness.wasm.status(&id("faulty/0")).unwrap().faults), (4 << 20, 0));
}

/// A client sends two parts, each later than a guest may go without progress: waiting for them must
/// not count as the guest's time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_slowly_is_answered() {
    let harness = Harness::with(|config| config.request_time = SECOND).await;
    harness.faulty(|_| {}).await;
    let pieces = futures::stream::unfold(0, |sent| async move {
        // Longer than the guest may be silent, shorter than a client may.
        tokio::time::sleep(SECOND * 5 / 4).await;
        (sent < 2)
            .then(|| (Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[7; 1000]))), sent + 1))
    });
    let answer = harness.post("/count", StreamBody::new(pieces).boxed_unsync()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "2000");
}

/// The body never comes, or breaks off: the error and the log name the client, and the guest's
/// faults stay at zero.
#[tokio::test(flavor = "multi_thread")]
async fn silent_client_is_at_fault_and_not_the_guest() {
    let harness = Harness::with(|config| config.request_time = SECOND).await;
    harness.faulty(|_| {}).await;
    let silent = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, BodyError>>())
        .boxed_unsync();
    let error = harness.post("/count", silent).await.unwrap_err();
    assert_eq!(error.to_string(), "`faulty/0` was sent nothing more of its request for 2 s");
    assert_eq!(error.status(), 408);

    // The guest panics over half a request, as many guests would.
    let broken: Result<Frame<Bytes>, BodyError> = Err("the client sent nothing for 30 s".into());
    let error = harness
        .post("/count", StreamBody::new(futures::stream::iter([broken])).boxed_unsync())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`faulty/0` was sent half a request: the client sent nothing for 30 s"
    );
    assert_eq!(harness.wasm.status(&id("faulty/0")).unwrap().faults, 0);
    let told = "POST /count: the guest was sent half a request: the client sent nothing for 30 s";
    assert!(harness.log().await.iter().any(|line| line.text == told), "{:?}", harness.log().await);
}

/// Dropping the answer, or the future of the answer, ends the guest without a fault.
#[tokio::test(flavor = "multi_thread")]
async fn client_that_goes_away_ends_its_request() {
    let harness = Harness::with(|config| config.request_time = LONG).await;
    harness.faulty(|_| {}).await;
    drop(harness.ask("/big?65536").await.unwrap());
    let asking = harness.ask("/slow?3600000");
    futures::future::select(
        Box::pin(asking),
        Box::pin(until(async || harness.wasm.usage(&id("faulty/0")).await.unwrap().active > 0)),
    )
    .await;
    until(async || harness.wasm.usage(&id("faulty/0")).await.unwrap().active == 0).await;
    assert_eq!(harness.wasm.status(&id("faulty/0")).unwrap().faults, 0);
}

/// A program drops the runtime and still has an endpoint: the endpoint must neither answer nor keep
/// the replica's memory.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_does_not_keep_a_dropped_runtime() {
    let harness = Harness::new().await;
    harness.faulty(|_| {}).await;
    let Endpoint::InProcess(service) = harness.wasm.endpoint(&id("faulty/0")).unwrap() else {
        panic!("guests are in this process")
    };
    drop(harness);
    // "stopping" while the task that started the replica ends, "stopped" once all of it is gone.
    let gone = until(async || {
        let request = http::Request::builder().uri("/").header("host", "x");
        let request = request.body(shoal_runtimes::body("")).unwrap();
        let error = service.call(request).await.expect_err("the runtime is gone");
        matches!(error, ServeError::NotRunning { state: "stopped", .. })
    });
    generous("the end of the replica", gone).await;
}

/// A body that breaks off does not matter to a guest that never reads it; a request that names no
/// host is refused before any guest sees it.
#[tokio::test(flavor = "multi_thread")]
async fn unread_broken_body_and_missing_host() {
    let harness = Harness::new().await;
    harness.faulty(|_| {}).await;
    let broken: Result<Frame<Bytes>, BodyError> = Err("the client's connection broke".into());
    let body = StreamBody::new(futures::stream::iter([broken])).boxed_unsync();
    let request =
        http::Request::builder().method("POST").uri("/").header("host", "x").body(body).unwrap();
    let answer = harness.send(&id("faulty/0"), request).await.unwrap();
    assert_eq!(answer.status(), 200, "this guest does not read bodies");
    let nameless = http::Request::builder().uri("/").body(shoal_runtimes::body("")).unwrap();
    let error = harness.send(&id("faulty/0"), nameless).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.to_string().contains("it names no host"), "{error}");
}

/// Two requests are answered and three wait: the sixth is refused without waiting, and may be sent
/// to another replica.
#[tokio::test(flavor = "multi_thread")]
async fn excess_requests_are_refused_at_once() {
    let harness = Harness::with(|config| {
        (config.concurrent, config.waiting, config.request_time) = (2, 3, LONG)
    })
    .await;
    harness.faulty(|_| {}).await;
    let mut under_way: Vec<_> = (0..5).map(|_| Box::pin(harness.ask("/slow?3600000"))).collect();
    let busy = async {
        let full = async || {
            // Polls each request once, so that it enters the queue.
            for asking in &mut under_way {
                assert!(futures::poll!(asking.as_mut()).is_pending());
            }
            harness.wasm.usage(&id("faulty/0")).await.unwrap().active == 2
        };
        until(full).await;
    };
    busy.await;
    let error = harness.ask("/").await.unwrap_err();
    assert!(matches!(error, ServeError::Busy { limit: 5, .. }), "{error}");
    assert!(error.untouched());
    let response = error.into_response();
    assert_eq!(
        (response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()),
        (503, "1")
    );
}

/// Files, sockets, the environment, arguments, and requests of its own.
#[tokio::test(flavor = "multi_thread")]
async fn guest_cannot_reach_the_host() {
    let harness = Harness::new().await;
    harness.faulty(|launch| launch.env = env(&[])).await;
    let text = harness.text("/escape").await;
    assert!(text.starts_with("file false, folder false, write false, connect Err("), "{text}");
    assert!(
        text.contains(
            "listen false, udp false, arguments 1, http refused ErrorCode::HttpRequestDenied"
        ),
        "{text}"
    );
    assert_eq!(harness.text("/env").await, "");
    let log = harness.log().await;
    let told = "a request to https://127.0.0.1:1/ was denied: guests have no network of their own";
    assert!(
        log.iter().any(|line| line.stream == LogStream::System && line.text == told),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_limit_too_small_to_start_is_reported() {
    let harness = Harness::new().await;
    let mut launch = harness.samples.launch("tiny/0", harness.samples.hello);
    launch.memory = 512 << 10;
    let state = harness.start(launch).await;
    let reason = "needs more than its memory limit of 0.5 MiB to start".to_owned();
    assert_eq!(state, InstanceState::Failed { reason, retryable: false });
}

/// 4 MiB hold few instances at a time: of 32 requests at once the rest wait, and none fails.
#[tokio::test(flavor = "multi_thread")]
async fn small_memory_limit_queues_requests() {
    let harness = Harness::new().await;
    harness.faulty(|launch| launch.memory = 4 * MIB).await;
    let answers = join_all((0..32).map(|_| harness.ask("/slow?5"))).await;
    let failed: Vec<_> =
        answers.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert_eq!(failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_lines_is_bounded() {
    let harness = Harness::new().await;
    harness.faulty(|_| {}).await;
    assert_eq!(harness.text("/chatter?100000").await, "said");
    harness.wasm.stop(&id("faulty/0"), LONG).await.unwrap();
    let log = harness.log().await;
    assert!(log.len() < 10_000, "{} lines", log.len());
    assert!(log.iter().any(|line| {
        line.text.ends_with("lines were not kept: they came faster than they may be written")
    }));
}

/// Waits up to a minute, far longer than a busy machine needs.
async fn generous<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Polls a condition, yielding in between.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    while !so().await {
        tokio::task::yield_now().await;
    }
}
