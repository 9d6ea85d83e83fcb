//! Replicas with probes. The clock is paused: it advances to the next probe when nothing else
//! happens.

use shoal_protocol::model::spec::{Check, Health, Probe};
use tokio::time::Instant;

use super::*;
use crate::fakes::Serving;

const SECOND: Duration = Duration::from_secs(1);

fn http() -> Probe {
    Probe::of(Check::http("/health", None))
}

fn exec() -> Probe {
    Probe::of(Check::Exec { command: vec!["ping".into(), "db".into()] })
}

/// As [`World::run`], with these probes, and of the runtime's kind.
fn run(world: &mut World, generation: u8, health: Health) -> InstanceId {
    let (name, generation) = ("web".parse().unwrap(), Digest([generation; 32]));
    let id = instance_id(&name, &replica(0), &generation);
    let mut form = SpecForm::from(spec("web", 2));
    if world.runtime.kind() == "container" {
        let container = Container::of("main", Image::named("redis:7"));
        form = SpecForm::container_service(name.clone(), container, 2, form.reservation());
    }
    form.health = health;
    let spec = form.try_into().unwrap();
    world.orders.order(Order::Run { replica: replica(0), name, generation, spec });
    id
}

fn serve(world: &World, serving: Serving) {
    *world.runtime.serving.lock().unwrap() = serving;
}

fn not_ready(reason: &str) -> InstanceState {
    InstanceState::Waiting { reason: format!("not ready: {reason}") }
}

/// The reports that came so far and were not read.
fn reported(world: &mut World) -> Vec<InstanceState> {
    std::iter::from_fn(|| world.reports.try_recv().ok()).map(|report| report.state).collect()
}

/// The program runs and answers 503: it gets no requests until it says that it is ready, and it is
/// not restarted for it.
#[tokio::test(start_paused = true)]
async fn replica_that_is_not_ready_gets_no_requests_and_is_not_restarted() {
    let mut world = World::new();
    serve(&world, Serving::Status(503));
    let id = run(&mut world, 1, Health { readiness: Some(http()), ..Health::default() });
    world.until(0, not_ready("HTTP 503 from GET /health")).await;
    serve(&world, Serving::Status(204));
    world.until(0, InstanceState::Running).await;
    // Less than three failures in a row change nothing.
    let since = Instant::now();
    serve(&world, Serving::Status(500));
    world.until(0, not_ready("HTTP 500 from GET /health")).await;
    assert!(since.elapsed() >= 19 * SECOND, "{:?}", since.elapsed());
    serve(&world, Serving::Say);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(1).await, [format!("start {id}")]);
}

/// What starts within a moment is ready within a moment, whatever the interval: and nobody is told
/// why it was not.
#[tokio::test(start_paused = true)]
async fn replica_that_starts_is_asked_soon_and_quietly() {
    let mut world = World::new();
    serve(&world, Serving::Status(503));
    run(&mut world, 1, Health { readiness: Some(http()), ..Health::default() });
    let since = Instant::now();
    tokio::time::sleep(SECOND).await;
    assert!(!reported(&mut world).iter().any(|it| matches!(it, InstanceState::Waiting { .. })));
    serve(&world, Serving::Say);
    world.until(0, InstanceState::Running).await;
    assert!(since.elapsed() < 2 * SECOND, "{:?}", since.elapsed());
}

/// A program that hangs is stopped, and started again when the core orders it: its probes begin
/// anew.
#[tokio::test(start_paused = true)]
async fn replica_that_is_not_live_is_stopped_and_started_by_the_next_order() {
    let mut world = World::new();
    let health = Health { liveness: Some(http()), ..Health::default() };
    let id = run(&mut world, 1, health.clone());
    world.until(0, InstanceState::Running).await;
    serve(&world, Serving::Never);
    let since = Instant::now();
    world.until(0, failed("liveness: no answer to GET /health within 1s")).await;
    assert!(since.elapsed() >= 19 * SECOND, "{:?}", since.elapsed());
    let calls = world.runtime.calls(2).await;
    assert_eq!(calls, [format!("start {id}"), format!("stop {id}")]);
    // Nothing is asked any more, and its end is no second failure.
    let served = world.runtime.served.load(Ordering::Relaxed);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(world.runtime.served.load(Ordering::Relaxed), served);
    let last = reported(&mut world).pop();
    assert!(last.is_none_or(|it| it == failed("liveness: no answer to GET /health within 1s")));
    serve(&world, Serving::Say);
    run(&mut world, 1, health);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(3).await[2], format!("start {id}"));
    assert!(world.runtime.served.load(Ordering::Relaxed) >= served);
}

/// The start-up probe holds the others back; when it has failed often enough, the replica is
/// restarted.
#[tokio::test(start_paused = true)]
async fn replica_that_does_not_start_in_time_is_restarted() {
    let mut world = World::with(FakeRuntime::of_kind("container"));
    *world.runtime.exits.lock().unwrap() = Some(1);
    let startup = Probe { failures: 5, ..exec() };
    let health =
        Health { startup: Some(startup), liveness: Some(http_at_8080()), ..Health::default() };
    let id = run(&mut world, 1, health);
    let since = Instant::now();
    world.until(0, not_ready("startup: `ping` ended with 1: ping says 1")).await;
    world.until(0, failed("startup: `ping` ended with 1: ping says 1")).await;
    // The first failure counts at once.
    assert!(since.elapsed() >= 40 * SECOND, "{:?}", since.elapsed());
    assert!(since.elapsed() < 50 * SECOND, "{:?}", since.elapsed());
    assert_eq!(world.runtime.calls(2).await[1], format!("stop {id}"));
}

/// A check that would fail: nothing listens at that port.
fn http_at_8080() -> Probe {
    Probe::of(Check::http("/", Some(1)))
}

/// A new version that is not ready never ends the old one.
#[tokio::test(start_paused = true)]
async fn old_generation_serves_until_the_new_one_is_ready() {
    let mut world = World::new();
    let health = Health { readiness: Some(http()), ..Health::default() };
    let old = run(&mut world, 1, health.clone());
    world.until(0, InstanceState::Running).await;
    serve(&world, Serving::Status(503));
    let new = run(&mut world, 2, health);
    let report = world.until(0, not_ready("HTTP 503 from GET /health")).await;
    assert_eq!(report.generation, Digest([2; 32]));
    let calls = world.runtime.calls(2).await;
    assert_eq!(calls, [format!("start {old}"), format!("start {new}")], "the old one goes on");
    serve(&world, Serving::Say);
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([2; 32]));
    assert_eq!(world.runtime.calls(3).await[2], format!("stop {old}"));
}

/// The version that serves until the new one is ready is probed as before: while it is not ready it
/// gets no requests, and it gets them again when it is.
#[tokio::test(start_paused = true)]
async fn readiness_of_the_old_generation_counts_during_an_update() {
    let mut world = World::new();
    let health = Health { readiness: Some(http()), ..Health::default() };
    let old = run(&mut world, 1, health.clone());
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    let new = run(&mut world, 2, health);
    world.until(0, InstanceState::Starting).await;
    serve(&world, Serving::Status(503));
    let report = world.until(0, not_ready("HTTP 503 from GET /health")).await;
    assert_eq!(report.generation, Digest([1; 32]));
    serve(&world, Serving::Say);
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([1; 32]));
    let calls = world.runtime.calls(2).await;
    assert_eq!(calls, [format!("start {old}"), format!("start {new}")], "nothing was restarted");
}

/// It is stopped when it is not live, started again when the core orders it, and stopped for good
/// when the new one is ready.
#[tokio::test(start_paused = true)]
async fn old_generation_that_is_not_live_is_started_again() {
    let mut world = World::new();
    let health = Health { liveness: Some(http()), ..Health::default() };
    let old = run(&mut world, 1, health.clone());
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    let new = run(&mut world, 2, health);
    world.until(0, InstanceState::Starting).await;
    serve(&world, Serving::Never);
    let report = world.until(0, failed("liveness: no answer to GET /health within 1s")).await;
    assert_eq!(report.generation, Digest([1; 32]));
    assert_eq!(world.runtime.calls(3).await[2], format!("stop {old}"));
    serve(&world, Serving::Say);
    *world.runtime.on_start.lock().unwrap() = OnStart::Run;
    let again = Order::Again { replica: replica(0), generation: Digest([1; 32]) };
    world.orders.order(again.clone());
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([1; 32]));
    assert_eq!(world.runtime.calls(4).await[3], format!("start {old}"));
    // It is probed as before.
    serve(&world, Serving::Never);
    let report = world.until(0, failed("liveness: no answer to GET /health within 1s")).await;
    assert_eq!(report.generation, Digest([1; 32]));
    serve(&world, Serving::Say);
    world.orders.order(again.clone());
    world.until(0, InstanceState::Running).await;
    world.runtime.tell(&new, InstanceState::Running);
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([2; 32]));
    let stops = [format!("stop {old}"), format!("start {old}"), format!("stop {old}")];
    assert_eq!(world.runtime.calls(7).await[4..], stops);
    // The new one has its place: a late order says so.
    world.orders.order(again);
    let report = world.until(0, ended("it cannot be started again beside its replacement")).await;
    assert_eq!(report.generation, Digest([1; 32]));
}

/// A replica that was stopped is not asked any more.
#[tokio::test(start_paused = true)]
async fn probes_end_with_their_replica() {
    let mut world = World::new();
    let health = Health { readiness: Some(http()), liveness: Some(http()), ..Health::default() };
    run(&mut world, 1, health);
    world.until(0, InstanceState::Running).await;
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    let served = world.runtime.served.load(Ordering::Relaxed);
    tokio::time::sleep(LONG).await;
    assert_eq!(world.runtime.served.load(Ordering::Relaxed), served);
}

/// Commands that hang would fill the container with processes: none is begun beside another one.
#[tokio::test(start_paused = true)]
async fn command_that_hangs_is_not_run_again_beside_itself() {
    let mut world = World::with(FakeRuntime::of_kind("container"));
    *world.runtime.exits.lock().unwrap() = None;
    run(&mut world, 1, Health { readiness: Some(exec()), ..Health::default() });
    world.until(0, not_ready("`ping db` still runs and was not run again")).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(*world.runtime.executed.borrow(), 1);
}

/// docker's health check is readiness and liveness in one: its command runs once an interval, not
/// twice, and has the time of both before the container is restarted.
#[tokio::test(start_paused = true)]
async fn one_check_for_both_probes_is_tried_once() {
    let mut world = World::with(FakeRuntime::of_kind("container"));
    let health = Health { readiness: Some(exec()), liveness: Some(exec()), ..Health::default() };
    let id = run(&mut world, 1, health);
    world.until(0, InstanceState::Running).await;
    tokio::time::sleep(100 * SECOND).await;
    let count = *world.runtime.executed.borrow();
    assert!((9..=12).contains(&count), "{count}");
    *world.runtime.exits.lock().unwrap() = Some(1);
    let since = Instant::now();
    world.until(0, failed("liveness: `ping` ended with 1: ping says 1")).await;
    assert!(since.elapsed() >= 19 * SECOND, "{:?}", since.elapsed());
    assert_eq!(world.runtime.calls(2).await[1], format!("stop {id}"));
}

/// A component that has as many requests as it takes is not dead, and must not lose its routes
/// either: its neighbours would be the next.
#[tokio::test(start_paused = true)]
async fn busy_replica_is_neither_restarted_nor_unready() {
    let mut world = World::new();
    let health = Health { readiness: Some(http()), liveness: Some(http()), ..Health::default() };
    let id = run(&mut world, 1, health);
    world.until(0, InstanceState::Running).await;
    reported(&mut world);
    *world.runtime.busy.lock().unwrap() = true;
    tokio::time::sleep(LONG).await;
    assert_eq!(reported(&mut world), []);
    assert_eq!(world.runtime.calls(1).await, [format!("start {id}")]);
}

/// A paused container is not asked, and its probes begin anew when it goes on.
#[tokio::test(start_paused = true)]
async fn instance_that_is_not_up_is_not_asked() {
    let mut world = World::new();
    let id = run(&mut world, 1, Health { liveness: Some(http()), ..Health::default() });
    world.until(0, InstanceState::Running).await;
    serve(&world, Serving::Never);
    world.runtime.pause(&id);
    world.until(0, InstanceState::Waiting { reason: "paused".into() }).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(world.runtime.calls(1).await, [format!("start {id}")]);
    serve(&world, Serving::Say);
    world.runtime.tell(&id, InstanceState::Running);
    world.until(0, InstanceState::Running).await;
}

/// A container of an image with a health check, and no probes of its own: the check counts, unless
/// it is switched off.
#[tokio::test(start_paused = true)]
async fn health_check_of_the_image_counts_unless_it_is_off() {
    let start = |is_off: bool| {
        let mut world = World::with(FakeRuntime::of_kind("container"));
        let own = Health { readiness: Some(exec()), liveness: Some(exec()), ..Health::default() };
        *world.runtime.own_probes.lock().unwrap() = Some(own);
        *world.runtime.exits.lock().unwrap() = Some(1);
        let container = Container::of("main", Image::named("redis:7"));
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let mut form = SpecForm::container_service("web".parse().unwrap(), container, 2, size);
        form.later.no_healthcheck = is_off;
        let id = world.run_spec(0, 1, form.try_into().unwrap());
        (world, id)
    };
    let (mut world, id) = start(false);
    let why = "`ping` ended with 1: ping says 1 (HEALTHCHECK of its image)";
    world.until(0, not_ready(why)).await;
    *world.runtime.exits.lock().unwrap() = Some(0);
    world.until(0, InstanceState::Running).await;
    *world.runtime.exits.lock().unwrap() = Some(1);
    world.until(0, failed(&format!("liveness: {why}"))).await;
    assert_eq!(world.runtime.calls(2).await[1], format!("stop {id}"));
    let (mut world, _) = start(true);
    world.until(0, InstanceState::Running).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(*world.runtime.executed.borrow(), 0);
}

/// The port is free: the message says so, and what to look at.
#[tokio::test]
async fn port_on_which_nobody_listens_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = World::with(FakeRuntime::of_kind("container"));
    let probe = Probe { failures: 1, ..Probe::of(Check::Tcp { port }) };
    run(&mut world, 1, Health { readiness: Some(probe.clone()), ..Health::default() });
    world.until(0, InstanceState::Running).await;
    drop(listener);
    run(&mut world, 2, Health { liveness: Some(probe), ..Health::default() });
    let why =
        format!("liveness: connection refused at port {port}; does the program listen there?");
    world.until(0, failed(&why)).await;
}
