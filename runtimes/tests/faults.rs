//! Guests that misbehave in each way there is: what the client gets, what the user reads, and that
//! it hurts nothing else.

#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod bed;
#[cfg(test)]
mod guests;

use std::time::Duration;

use bed::{Bed, LONG, MIB, env, id};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use shoal_runtimes::logs::LogStream;
use shoal_runtimes::{BodyError, Runtime, ServeError, State};

/// Short, so that tests of time-outs end soon; nothing depends on how long it really takes.
const SHORT: Duration = Duration::from_millis(200);

/// Where a guest must be quick enough in between, on a busy machine too.
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_ends_when_its_cpu_time_for_one_request_is_used_up() {
    let bed = Bed::with(|config| (config.request_cpu, config.request_time) = (SHORT, LONG)).await;
    bed.faulty(|_| {}).await;
    let (status, text) = bed.failure("/loop").await;
    assert_eq!(status, 504);
    assert_eq!(text, "`faulty/0` used more than 200 ms of CPU time for one request\n");
    assert_eq!(bed.text("/").await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_is_held_to_its_share_ends_when_its_time_is_over() {
    let bed =
        Bed::with(|config| (config.request_cpu, config.request_time) = (LONG, SHORT * 3)).await;
    bed.faulty(|launch| launch.cpu = 1).await;
    let (status, text) = bed.failure("/loop").await;
    assert_eq!(status, 504);
    assert!(
        text.starts_with("`faulty/0` ran longer than 600 ms without an answer (held back for "),
        "{text}"
    );
    assert!(text.ends_with(" by its CPU limit of 1m)\n"), "{text}");
    let usage = bed.wasm.usage(&id("faulty/0")).await.unwrap();
    assert!(usage.throttled > Duration::ZERO);
    assert!(usage.cpu < SHORT * 3, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_sleeps_too_long_is_given_up() {
    let bed = Bed::with(|config| config.request_time = SHORT).await;
    bed.faulty(|_| {}).await;
    let (status, text) = bed.failure("/slow?3600000").await;
    assert_eq!(
        (status, text.as_str()),
        (504, "`faulty/0` ran longer than 200 ms without an answer\n")
    );
    assert_eq!(bed.text("/slow?1").await, "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_the_limit_and_comes_back() {
    let bed = Bed::new().await;
    bed.faulty(|launch| launch.memory = 8 * MIB).await;
    let text = bed.text("/eat").await;
    let pages: u64 = text.strip_suffix(" pages").unwrap().parse().unwrap();
    assert!(
        pages * 65536 < 8 * MIB && pages * 65536 > 5 * MIB,
        "{text}: refused growth is survivable"
    );
    assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, 0);

    let (status, text) = bed.failure("/gorge?16").await;
    assert_eq!((status, text.as_str()), (507, "`faulty/0` exceeded its memory limit of 8 MiB\n"));
    assert_eq!(bed.last_fault(), "exceeded its memory limit of 8 MiB");
    assert_eq!(bed.wasm.usage(&id("faulty/0")).await.unwrap().memory, 0, "no request, no memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_is_for_all_requests_together() {
    let bed = Bed::new().await;
    bed.faulty(|launch| launch.memory = 16 * MIB).await;
    let eaten = join_all((0..4).map(|_| bed.ask("/eat"))).await;
    // Bodies are held back, so that all four instances are alive at once; some may not have had
    // room to begin.
    assert!(bed.wasm.usage(&id("faulty/0")).await.unwrap().memory <= 16 * MIB);
    assert!(eaten.iter().any(Result::is_ok));
    for refused in eaten.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(refused, ServeError::Busy { .. } | ServeError::Guest { .. }), "{refused}");
    }
}

/// As many requests as the node has threads for guests waited for memory that another request of
/// their replica held. Each woke itself by giving back what its failed try had taken, and tried
/// again without an end: for 30 s no guest of the node got a thread. A request that waits costs
/// nothing, and gets the memory when it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_memory_keep_no_thread() {
    let bed = Bed::with(|config| (config.threads, config.request_time) = (2, LONG)).await;
    bed.faulty(|launch| launch.memory = 16 * MIB).await;
    let other = bed.samples.launch("hello/0", bed.samples.hello);
    assert_eq!(bed.start(other).await, State::Running);

    // It has all memory until somebody reads its answer, which is more than waits on the way.
    let holding = bed.ask("/hold?1024").await.unwrap();
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(bed.ask("/slow?0"))).collect();
    until(async || {
        for asking in &mut waiting {
            assert!(futures::poll!(asking.as_mut()).is_pending());
        }
        bed.wasm.usage(&id("faulty/0")).await.unwrap().active == 5
    })
    .await;
    let others = async {
        let mut cpu = None;
        for n in 0..50 {
            let request = http::Request::builder().uri("/").header("host", "hello.localhost");
            let request = request.body(shoal_runtimes::body("")).unwrap();
            let answer = bed.wasm.serve(&id("hello/0"), request).await.unwrap();
            answer.into_body().collect().await.unwrap();
            // By then those that wait have been looked at once.
            if n == 25 {
                cpu = Some(bed.wasm.usage(&id("faulty/0")).await.unwrap().cpu);
            }
        }
        (cpu.unwrap(), bed.wasm.usage(&id("faulty/0")).await.unwrap().cpu)
    };
    let (then, now) = generous("answers of another replica", others).await;
    assert_eq!(then, now, "waiting takes no CPU time");
    assert_eq!(bed.wasm.usage(&id("faulty/0")).await.unwrap().active, 5);

    holding.into_body().collect().await.unwrap();
    for answer in generous("answers of those that waited", join_all(waiting)).await {
        let text = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "at last");
    }
    assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_say_what_happened() {
    let bed = Bed::new().await;
    bed.faulty(|_| {}).await;
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
        let (status, text) = bed.failure(path).await;
        assert_eq!((status, text), (502, format!("`faulty/0` {reason}\n")), "{path}");
        assert_eq!(bed.last_fault(), reason, "{path}");
        assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, n as u64 + 1);
    }
    let status = bed.wasm.status(&id("faulty/0")).unwrap();
    assert_eq!((status.state, status.requests), (State::Running, 5));
    let log = bed.log().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let bed = Bed::new().await;
    bed.faulty(|_| {}).await;
    let answer = bed.ask("/half").await.unwrap();
    assert_eq!(answer.status(), 200);
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("trapped: unreachable"), "{error}");
    assert!(bed.last_fault().contains("trapped: unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_answer_streams_through_little_memory() {
    let bed = Bed::new().await;
    bed.faulty(|launch| launch.memory = 8 * MIB).await;
    let mut body = bed.ask("/big?65536").await.unwrap().into_body();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        len += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(len, 64 << 20, "eight times its memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_holds_no_guest_for_ever() {
    let bed = Bed::with(|config| config.untaken_time = SHORT).await;
    bed.faulty(|_| {}).await;
    let answer = bed.ask("/big?65536").await.unwrap();
    until(async || bed.wasm.usage(&id("faulty/0")).await.unwrap().active == 0).await;
    assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, 0, "the guest had no part in it");
    let told = "GET /big: the guest was cut off, since nothing of its answer was taken for 200 ms";
    assert!(bed.log().await.iter().any(|line| line.text == told), "{:?}", bed.log().await);
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("nothing of its answer was taken"), "{error}");
}

/// Downloads of some MB at 20 to 100 KB/s were cut off, and the guest was blamed: the time in which
/// it was held back counted as its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    let bed = Bed::with(|config| config.request_time = SECOND).await;
    bed.faulty(|_| {}).await;
    let mut body = bed.ask("/big?4096").await.unwrap().into_body();
    let mut len = 0;
    for pauses in 0.. {
        if pauses < 3 {
            // The client's pace, longer than the guest's whole time. It is what is tried here, not
            // a wait for something.
            tokio::time::sleep(SECOND * 3 / 2).await;
        }
        let Some(frame) = body.frame().await else { break };
        len += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!((len, bed.wasm.status(&id("faulty/0")).unwrap().faults), (4 << 20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_slowly_is_answered() {
    let bed = Bed::with(|config| config.request_time = SECOND).await;
    bed.faulty(|_| {}).await;
    let pieces = futures::stream::unfold(0, |sent| async move {
        // As above: more than the guest may be silent, less than a client may.
        tokio::time::sleep(SECOND * 5 / 4).await;
        (sent < 2)
            .then(|| (Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[7; 1000]))), sent + 1))
    });
    let answer = bed.post("/count", StreamBody::new(pieces).boxed_unsync()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_no_more_is_blamed_and_not_the_guest() {
    let bed = Bed::with(|config| config.request_time = SECOND).await;
    bed.faulty(|_| {}).await;
    let silent = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, BodyError>>())
        .boxed_unsync();
    let error = bed.post("/count", silent).await.unwrap_err();
    assert_eq!(error.to_string(), "`faulty/0` was sent nothing more of its request for 2 s");
    assert_eq!(error.status(), 408);

    // The guest panics over half a request, as many would.
    let broken: Result<Frame<Bytes>, BodyError> = Err("the client sent nothing for 30 s".into());
    let error = bed
        .post("/count", StreamBody::new(futures::stream::iter([broken])).boxed_unsync())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`faulty/0` was sent half a request: the client sent nothing for 30 s"
    );
    assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, 0);
    let told = "POST /count: the guest was sent half a request: the client sent nothing for 30 s";
    assert!(bed.log().await.iter().any(|line| line.text == told), "{:?}", bed.log().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_request_and_blames_nobody() {
    let bed = Bed::with(|config| config.request_time = LONG).await;
    bed.faulty(|_| {}).await;
    drop(bed.ask("/big?65536").await.unwrap());
    let asking = bed.ask("/slow?3600000");
    futures::future::select(
        Box::pin(asking),
        Box::pin(until(async || bed.wasm.usage(&id("faulty/0")).await.unwrap().active > 0)),
    )
    .await;
    until(async || bed.wasm.usage(&id("faulty/0")).await.unwrap().active == 0).await;
    assert_eq!(bed.wasm.status(&id("faulty/0")).unwrap().faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_that_breaks_off_is_the_client_s_fault() {
    let bed = Bed::new().await;
    bed.faulty(|_| {}).await;
    let broken: Result<Frame<Bytes>, BodyError> = Err("the client's connection broke".into());
    let body = StreamBody::new(futures::stream::iter([broken])).boxed_unsync();
    let request =
        http::Request::builder().method("POST").uri("/").header("host", "x").body(body).unwrap();
    let answer = bed.wasm.serve(&id("faulty/0"), request).await.unwrap();
    assert_eq!(answer.status(), 200, "this guest does not read bodies");
    let nameless = http::Request::builder().uri("/").body(shoal_runtimes::body("")).unwrap();
    let error = bed.wasm.serve(&id("faulty/0"), nameless).await.unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(error.to_string().contains("it names no host"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_fit_are_turned_away_at_once() {
    let bed =
        Bed::with(|config| (config.concurrent, config.waiting, config.request_time) = (2, 3, LONG))
            .await;
    bed.faulty(|_| {}).await;
    let mut under_way: Vec<_> = (0..5).map(|_| Box::pin(bed.ask("/slow?3600000"))).collect();
    let busy = async {
        let full = async || {
            // Each look polls all of them once, so that they enter.
            for asking in &mut under_way {
                assert!(futures::poll!(asking.as_mut()).is_pending());
            }
            bed.wasm.usage(&id("faulty/0")).await.unwrap().active == 2
        };
        until(full).await;
    };
    busy.await;
    let error = bed.ask("/").await.unwrap_err();
    assert!(matches!(error, ServeError::Busy { limit: 5, .. }), "{error}");
    assert!(error.untouched());
    let response = error.into_response();
    assert_eq!(
        (response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()),
        (503, "1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_can_be_reached() {
    let bed = Bed::new().await;
    bed.faulty(|launch| launch.env = env(&[])).await;
    let text = bed.text("/escape").await;
    assert!(text.starts_with("file false, folder false, write false, connect Err("), "{text}");
    assert!(
        text.contains(
            "listen false, udp false, arguments 1, http refused ErrorCode::HttpRequestDenied"
        ),
        "{text}"
    );
    assert_eq!(bed.text("/env").await, "");
    let log = bed.log().await;
    let told = "a request to https://127.0.0.1:1/ was denied: guests have no network of their own";
    assert!(
        log.iter().any(|line| line.stream == LogStream::System && line.text == told),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_too_small_to_start_is_said_so() {
    let bed = Bed::new().await;
    let mut launch = bed.samples.launch("tiny/0", bed.samples.hello);
    launch.memory = 512 << 10;
    let state = bed.start(launch).await;
    let reason = "needs more than its memory limit of 0.5 MiB to start".to_owned();
    assert_eq!(state, State::Failed { reason, retryable: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_limit_means_few_requests_at_a_time_and_not_failures() {
    let bed = Bed::new().await;
    bed.faulty(|launch| launch.memory = 4 * MIB).await;
    let answers = join_all((0..32).map(|_| bed.ask("/slow?5"))).await;
    let failed: Vec<_> =
        answers.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert_eq!(failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_bounded() {
    let bed = Bed::new().await;
    bed.faulty(|_| {}).await;
    assert_eq!(bed.text("/chatter?100000").await, "said");
    bed.wasm.stop(&id("faulty/0"), LONG).await.unwrap();
    let log = bed.log().await;
    assert!(log.len() < 10_000, "{} lines", log.len());
    assert!(log.iter().any(|line| {
        line.text.ends_with("lines were not kept: they came faster than they may be written")
    }));
}

/// Waits for what must come; far longer than it takes on a busy machine.
async fn generous<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Looks again and again, giving way in between.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    while !so().await {
        tokio::task::yield_now().await;
    }
}
