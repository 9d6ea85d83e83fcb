//! Tests of the behaviour that every adapter must have.
//!
//! An adapter's tests implement [`Subject`] and write `shoal_runtimes::contract_suite!(subject)`,
//! where `subject` is an expression that makes one; each case becomes a test of its own. Adapters
//! that run components implement [`ComponentSubject`] too and write `component_suite!(subject)`.
//! The cases send HTTP requests to the samples' endpoints, so these must be the guests of
//! `examples/guests` or behave like them.

mod cases;
mod components;
mod tcp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use shoal_protocol::model::{Digest, InstanceState};

use crate::endpoint::{Endpoint, Service};
use crate::error::ServeError;
use crate::logs::Tail;
use crate::model::{InstanceId, Launch, Payload, body};
use crate::runtime::Runtime;
use crate::status::Status;

pub use cases::*;
pub use components::*;

/// Far longer than any step takes: a case fails instead of hanging.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The host that requests name.
const HOST: &str = "sample.localhost";

/// An adapter under test, with nothing running.
pub trait Subject: Send + Sync {
    /// The adapter under test.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// A launch of a sample with plenty of everything, and with `NAME=id` as its environment.
    fn launch(&self, id: &str, sample: Sample) -> Launch;

    /// Waits, bounded, until nothing of any instance is left on the device. Checks the device
    /// itself, not what the runtime reports.
    fn nothing_is_left(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// A program that the cases launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// Answers `hello, $NAME` and the path to any path, and prints the path on its standard output.
    Hello,
    /// Answers its environment to `/env`, a line `NAME=value` each.
    Faulty,
    /// A program that the adapter cannot run, today or later.
    Refused,
    /// A program whose bytes are not on this device, and may be there later.
    Missing,
    /// Prints `about to exit` and `with code CODE`, and ends with that code.
    Ends(u8),
}

/// An adapter under test that runs components inside this process.
pub trait ComponentSubject: Subject {
    /// Artifacts that the cases prepare and launch.
    fn samples(&self) -> &Samples;
}

/// Artifacts in the adapter's store.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Answers `hello, $NAME` to any path, and prints the path on its standard output.
    pub hello: Digest,
    /// Misbehaves by path, as `examples/guests/faulty` does.
    pub faulty: Digest,
    /// Bytes that are in the store, and that the adapter cannot run.
    pub refused: Digest,
    /// A memory limit in bytes that both guests live with, below 64 MiB.
    pub memory: u64,
}

impl Samples {
    /// A digest whose bytes the store does not have.
    pub fn missing(&self) -> Digest {
        Digest::of(b"nobody has these bytes")
    }

    /// A launch of `payload` with plenty of everything but memory.
    pub fn launch(&self, id: &str, payload: impl Into<Payload>) -> Launch {
        Launch {
            id: instance(id),
            workload: "default/sample".into(),
            payload: payload.into(),
            env: BTreeMap::from([("NAME".into(), id.into())]),
            memory: self.memory,
            cpu: 4000,
            cpu_reserved: 100,
            qos: Default::default(),
            given: crate::given::Given::default(),
            ends: false,
            folders: Vec::new(),
        }
    }
}

/// Makes a test of each case for every adapter. `$subject` is evaluated in each, in an async
/// context. With `run = function,
/// ignore = "reason"` the function runs each test, and only when it is asked for.
#[macro_export]
macro_rules! contract_suite {
    ($subject:expr $(, run = $run:path, ignore = $reason:literal)?) => {
        $crate::contract_cases! { [$($run, $reason)?] $subject =>
            start_runs_and_answers
            endpoint_is_that_of_the_running_state
            stopped_endpoint_leaves_requests_untouched
            repeated_start_changes_nothing
            different_launch_under_a_live_id_is_refused
            failed_start_says_why_and_can_be_repeated
            stop_is_idempotent_and_leaves_nothing
            stopped_instance_starts_again
            late_watcher_sees_every_instance
            environment_is_that_of_the_launch_only
            logs_outlive_the_instance
            follower_sees_lines_as_they_come
            unknown_instance_is_a_typed_error
            concurrent_starts_and_stops_leave_nothing
            program_that_is_to_end_is_done
            program_that_is_to_run_for_ever_fails_at_its_end
            done_instance_is_stopped_and_leaves_nothing
        }
    };
}

/// Makes a test of each case for adapters that run components, as [`contract_suite!`] does.
///
/// [`contract_suite!`]: crate::contract_suite
#[macro_export]
macro_rules! component_suite {
    ($subject:expr $(, run = $run:path, ignore = $reason:literal)?) => {
        $crate::contract_cases! { [$($run, $reason)?] $subject =>
            prepare_is_idempotent_and_cancellable
            prepare_distinguishes_missing_from_refused
            request_under_way_may_end_within_the_grace
            request_that_outlives_the_grace_is_cut
            memory_excess_fails_only_that_request
            crash_fails_only_that_request
            looping_guest_does_not_stop_its_neighbours
        }
    };
}

/// Makes a test of each named case.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_cases {
    ([] $subject:expr => $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let subject = $subject;
                $crate::contract::$case(&subject).await;
            }
        )*
    };
    ([$run:path, $reason:literal] $subject:expr => $($case:ident)*) => {
        $(
            #[test]
            #[ignore = $reason]
            fn $case() {
                $run(async {
                    let subject = $subject;
                    $crate::contract::$case(&subject).await;
                });
            }
        )*
    };
}

fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).expect("the ids of this suite are valid")
}

/// Waits for the wanted state and returns the status.
async fn wait_for(
    runtime: &Arc<dyn Runtime>,
    id: &str,
    wanted: impl Fn(&InstanceState) -> bool,
) -> Status {
    let mut watch = runtime.watch();
    let id = instance(id);
    let found = async {
        loop {
            let found = watch
                .next()
                .await
                .into_iter()
                .find(|status| status.id == id && wanted(&status.state));
            if let Some(status) = found {
                return status;
            }
        }
    };
    match tokio::time::timeout(TIMEOUT, found).await {
        Ok(status) => status,
        Err(_) => panic!("`{id}` did not get there: {:?}", runtime.status(&id)),
    }
}

/// Starts a launch and waits until it runs.
async fn run(runtime: &Arc<dyn Runtime>, launch: Launch) {
    let id = launch.id.to_string();
    runtime.start(launch).await.expect("a fresh launch is accepted");
    let status = wait_for(runtime, &id, |state| state.is_running() || state.ended()).await;
    assert!(status.state.is_running(), "{:?}", status.state);
}

/// The requests that an instance has taken; 1 where its endpoint is outside this process, which
/// nobody counts: the cases send one.
fn requests(runtime: &Arc<dyn Runtime>, id: &str) -> Option<u64> {
    let status = runtime.status(&instance(id))?;
    match status.endpoint? {
        Endpoint::InProcess(_) => Some(status.requests),
        Endpoint::Tcp(_) => Some(1),
    }
}

/// Sends a GET to the instance's endpoint and returns the answer's status and text.
async fn get(
    runtime: &Arc<dyn Runtime>,
    id: &str,
    path: &str,
) -> Result<(u16, String), ServeError> {
    let id = instance(id);
    ask(&id, runtime.endpoint(&id)?, path).await
}

/// Sends a GET to an endpoint and returns the answer's status and text.
async fn ask(id: &InstanceId, endpoint: Endpoint, path: &str) -> Result<(u16, String), ServeError> {
    let answer = async {
        match endpoint {
            Endpoint::InProcess(service) => in_process(&*service, path).await,
            Endpoint::Tcp(address) => tcp::get(id, address, path).await,
        }
    };
    tokio::time::timeout(TIMEOUT, answer).await.expect("an answer or an error comes in time")
}

async fn in_process(service: &dyn Service, path: &str) -> Result<(u16, String), ServeError> {
    let request = http::Request::builder().uri(path).header(http::header::HOST, HOST);
    let request = request.body(body(Bytes::new())).expect("the paths of this suite are valid");
    let answer = service.call(request).await?;
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("the whole answer comes").to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

async fn stop(runtime: &Arc<dyn Runtime>, id: &str, grace: Duration) {
    let stopped = tokio::time::timeout(TIMEOUT, runtime.stop(&instance(id), grace)).await;
    stopped.expect("it stops in time").expect("the engine obeys");
}

fn tail(lines: usize, follow: bool) -> Tail {
    Tail { lines, follow }
}
