use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_protocol::model::spec::{
    self, Container, Image, Job, Kind, LaunchFact, Mount, OnLoss, Rollout, Target, ValueKind,
    ValueUse, Volume, VolumeSource,
};
use shoal_protocol::model::{Digest, InstanceState, Resources, Spec, SpecForm, WorkloadName};
use shoal_runtimes::given::{Given, Hidden};
use shoal_runtimes::{Instance, Runtime};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::fakes::{FakeRuntime, FakeValues, LONG, NODE, OnStart, replica, spec};
use crate::runtimes::RuntimeSet;
use crate::secrets::NoValues;

/// Takes reports, while there are permits.
struct ReportSink(mpsc::UnboundedSender<Report>, Arc<Semaphore>);

impl Reports for ReportSink {
    fn report(&self, report: Report) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _permit = self.1.acquire().await.unwrap();
            let _ = self.0.send(report);
        })
    }
}

struct World {
    runtime: Arc<FakeRuntime>,
    orders: OrderSink,
    executor: Executor,
    reports: mpsc::UnboundedReceiver<Report>,
    values: Arc<FakeValues>,
    /// The driver takes reports while it has permits.
    driver: Arc<Semaphore>,
}

impl World {
    fn new() -> Self {
        Self::with(FakeRuntime::new())
    }

    fn with(runtime: Arc<FakeRuntime>) -> Self {
        let runtimes = runtime.set();
        Self::with_all(runtime, runtimes)
    }

    /// A node with these runtimes, of which the test watches one.
    fn with_all(runtime: Arc<FakeRuntime>, runtimes: RuntimeSet) -> Self {
        let (orders, waiting) = executor();
        let (sender, reports) = mpsc::unbounded_channel();
        let host = Host { node: NODE, name: "n1".into() };
        let values = Arc::new(FakeValues::default());
        let driver = Arc::new(Semaphore::new(1));
        let sink = Arc::new(ReportSink(sender, driver.clone()));
        let executor = waiting.start(host, runtimes, values.clone(), sink);
        World { runtime, orders, executor, reports, values, driver }
    }

    /// As [`World::run`], with a container that has a volume.
    fn run_with_volume(&mut self, index: u32, generation: u8) -> InstanceId {
        let mut container = Container::of("main", Image::named("redis:7"));
        container.mounts =
            vec![Mount { volume: "data".into(), path: "/data".into(), read_only: false }];
        let resources = Resources { memory: 64 << 20, cpu: 100 };
        let name: WorkloadName = "web".parse().unwrap();
        let mut form = SpecForm::container_service(name.clone(), container, 2, resources);
        let source = VolumeSource::Kept;
        form.storage = vec![Volume { name: "data".into(), source, on_loss: OnLoss::Wait }];
        let spec = form.try_into().unwrap();
        let generation = Digest([generation; 32]);
        let id = instance_id(&name, &replica(index), &generation);
        self.orders.order(Order::Run { replica: replica(index), name, generation, spec });
        id
    }

    fn run(&mut self, index: u32, generation: u8) -> InstanceId {
        self.run_spec(index, generation, spec("web", 2))
    }

    fn run_spec(&mut self, index: u32, generation: u8, spec: Spec) -> InstanceId {
        let (name, generation) = ("web".parse().unwrap(), Digest([generation; 32]));
        let id = instance_id(&name, &replica(index), &generation);
        self.orders.order(Order::Run { replica: replica(index), name, generation, spec });
        id
    }

    fn stop(&mut self, index: u32) {
        self.orders.order(Order::Stop { replica: replica(index) });
    }

    /// Waits for a report of this replica and state.
    async fn until(&mut self, index: u32, state: InstanceState) -> Report {
        let mut last = None;
        let found = async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if report.replica == replica(index) && report.state == state {
                    return report;
                }
                last = Some(report);
            }
        };
        let found = tokio::time::timeout(LONG, found).await;
        found.unwrap_or_else(|_| panic!("{state:?} was not reported, the last was {last:?}"))
    }
}

fn failed(reason: &str) -> InstanceState {
    InstanceState::Failed { reason: reason.into(), retryable: true }
}

/// A failure that is not to be tried again.
fn ended(reason: &str) -> InstanceState {
    InstanceState::Failed { reason: reason.into(), retryable: false }
}

/// An order to run starts the instance, reports it healthy, and its environment names replica,
/// node, workload and namespace.
#[tokio::test(start_paused = true)]
async fn ordered_replica_runs_with_its_environment() {
    let mut world = World::new();
    let id = world.run(1, 1);
    let report = world.until(1, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([1; 32]));
    assert_eq!(world.executor.directory().instance(&replica(1)), Some(id));

    let host = Host { node: NODE, name: "n1".into() };
    let launch = launch(
        &host,
        &"shop/web".parse().unwrap(),
        &replica(1),
        &Digest([1; 32]),
        &spec("shop/web", 2),
    );
    let env: Vec<&str> = ["SHOAL_REPLICA", "SHOAL_NODE", "SHOAL_WORKLOAD", "SHOAL_NAMESPACE"]
        .map(|name| launch.env[name].as_str())
        .into();
    assert_eq!(env, ["shop/web/1", "n1", "web", "shop"]);
}

/// During a replacement the old instance serves until the new one runs, so that requests are always
/// answered.
#[tokio::test(start_paused = true)]
async fn old_generation_stops_once_the_new_one_runs() {
    let mut world = World::new();
    let old = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    let new = world.run(0, 2);
    world.until(0, InstanceState::Starting).await;
    assert_eq!(world.runtime.calls(2).await, [format!("start {old}"), format!("start {new}")]);
    world.runtime.tell(&new, InstanceState::Running);
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([2; 32]));
    assert_eq!(world.runtime.calls(3).await[2], format!("stop {old}"));
}

/// `shoal rm` returned while containers still ended: a replica counts as running until its runtime
/// has stopped it.
#[tokio::test(start_paused = true)]
async fn replica_runs_until_its_runtime_has_stopped_it() {
    let mut world = World::new();
    let (uid, directory) = (replica(0).uid, world.executor.directory());
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    assert_eq!(directory.running(&uid), [replica(0).place]);
    assert_eq!(directory.running(&Digest([99; 32])), []);
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    assert_eq!(directory.running(&uid), []);
    assert!(directory.instance(&replica(0)).is_some(), "its logs are still found");
}

/// A replica that does not get on, or no longer, is reported with the reason.
#[tokio::test(start_paused = true)]
async fn replica_that_waits_is_reported_with_its_reason() {
    let mut world = World::new();
    let id = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    let paused = InstanceState::Waiting { reason: "paused in the engine".into() };
    world.runtime.tell(&id, paused.clone());
    world.until(0, paused).await;
}

/// Two containers on one volume could destroy what is in it: the old one ends first, and that it
/// serves no more is reported.
#[tokio::test(start_paused = true)]
async fn old_generation_with_a_volume_stops_before_the_new_one_starts() {
    let mut world = World::with(FakeRuntime::of_kind("container"));
    let old = world.run_with_volume(0, 1);
    world.until(0, InstanceState::Running).await;
    let new = world.run_with_volume(0, 2);
    let reason = "stopped: its replacement needs its volume, port or device";
    let report = world.until(0, ended(reason)).await;
    assert_eq!(report.generation, Digest([1; 32]));
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([2; 32]));
    let calls = world.runtime.calls(3).await;
    assert_eq!(calls, [format!("start {old}"), format!("stop {old}"), format!("start {new}")]);
}

/// A workload whose update is stop-first: also of a component, which needs nothing for itself.
#[tokio::test(start_paused = true)]
async fn stop_first_update_stops_the_old_generation_first() {
    let mut world = World::new();
    let mut form = SpecForm::from(spec("web", 2));
    form.later.rollout = Some(Rollout { order: spec::Order::StopFirst, ..Rollout::default() });
    let spec: Spec = form.try_into().unwrap();
    let old = world.run_spec(0, 1, spec.clone());
    world.until(0, InstanceState::Running).await;
    let new = world.run_spec(0, 2, spec);
    let reason = "stopped: its replacement starts when it is gone, as its update says";
    let report = world.until(0, ended(reason)).await;
    assert_eq!(report.generation, Digest([1; 32]), "the node knows that nothing serves");
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([2; 32]));
    let calls = world.runtime.calls(3).await;
    assert_eq!(calls, [format!("start {old}"), format!("stop {old}"), format!("start {new}")]);
}

/// A version was published, another one, and then the first one again. The driver was busy
/// meanwhile, and the report that the second one had ended took the place of the one that the first
/// one runs: the replica was `starting` for ever.
#[tokio::test(start_paused = true)]
async fn end_of_an_old_generation_hides_no_other_report() {
    let mut world = World::new();
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    let taken = world.driver.clone().acquire_owned().await.unwrap();
    let new = world.run(0, 2);
    // The paused clock goes on when nothing else is to be done.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.runtime.calls(3).await[1], format!("start {new}"));
    world.runtime.stuck.lock().unwrap().insert(new.to_string());
    world.run(0, 1);
    assert_eq!(world.runtime.calls(5).await[4], format!("stop {new}"));
    world.runtime.tell(&new, InstanceState::Stopped);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(taken);
    let report = world.until(0, InstanceState::Running).await;
    // The first one that waits is of the second version.
    let report = match report.generation == Digest([2; 32]) {
        true => world.until(0, InstanceState::Running).await,
        false => report,
    };
    assert_eq!(report.generation, Digest([1; 32]));
}

/// A start that fails, and an instance that fails later, are reported with the reason. The core
/// decides on a retry: its next order starts again.
#[tokio::test(start_paused = true)]
async fn failure_is_reported_and_next_order_retries() {
    let mut world = World::new();
    *world.runtime.on_start.lock().unwrap() = OnStart::Fail("it cannot be instantiated");
    let id = world.run(0, 1);
    world.until(0, failed("it cannot be instantiated")).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Run;
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(2).await, [format!("start {id}"), format!("start {id}")]);
    // An instance that fails while it runs is reported, too.
    world.runtime.tell(&id, InstanceState::Failed { reason: "trapped".into(), retryable: true });
    world.until(0, failed("trapped")).await;
}

/// A program that came to its end is no failure: the core hears how it ended, and that it is gone
/// when it ordered so.
#[tokio::test(start_paused = true)]
async fn end_is_reported_with_its_code_and_stopped_later() {
    let mut world = World::new();
    let id = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    let done = InstanceState::Done { exit_code: 3, lines: vec!["bye".into()] };
    world.runtime.tell(&id, done.clone());
    assert_eq!(world.until(0, done).await.generation, Digest([1; 32]));
    // Another try.
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    let done = InstanceState::Done { exit_code: 0, lines: Vec::new() };
    world.runtime.tell(&id, done.clone());
    world.until(0, done).await;
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    let calls = [format!("start {id}"), format!("start {id}"), format!("stop {id}")];
    assert_eq!(world.runtime.calls(3).await, calls);
}

/// The runtimes take the end of a job for one, and that of a service for a failure.
#[test]
fn launch_says_whether_its_program_ends() {
    let host = Host { node: NODE, name: "pi".into() };
    let container = Container::of("main", Image::named("backup:1"));
    let resources = Resources { memory: 64 << 20, cpu: 100 };
    let name: WorkloadName = "backup".parse().unwrap();
    let ends = |kind: Kind, place: Place| {
        let mut form = SpecForm::container_service(name.clone(), container.clone(), 1, resources);
        form.kind = kind;
        let replica = ReplicaId { uid: Digest([9; 32]), place };
        let spec = form.try_into().unwrap();
        let launch = launch(&host, &name, &replica, &Digest([1; 32]), &spec);
        (launch.ends, launch.env["SHOAL_REPLICA"].clone())
    };
    let job = ends(Kind::Job(Job::default()), Place::Run { at: 0, index: 2 });
    assert_eq!(job, (true, "backup/2".to_owned()));
    assert_eq!(ends(Kind::Daemon, Place::OnNode(NODE)), (false, "backup/pi".to_owned()));
    let service = ends(Kind::Service { replicas: 1 }, Place::Ordinal(0));
    assert_eq!(service, (false, "backup/0".to_owned()));
}

/// The facts of a node stand under the names that a container wants, and nothing changes for one
/// that wants none.
#[test]
fn variables_are_filled_in_by_the_node() {
    let host = Host { node: NODE, name: "pi".into() };
    let name: WorkloadName = "shop/db".parse().unwrap();
    let of = |host: &Host, facts: &[(&str, LaunchFact)]| {
        let mut container = Container::of("main", Image::named("db:1"));
        let facts = facts.iter().map(|(name, fact)| ((*name).to_owned(), *fact));
        container.extra.env_from = facts.collect();
        let mut other = Container::of("other", Image::named("db:2"));
        other.extra.env_from = [("WHERE".to_owned(), LaunchFact::Node)].into();
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let mut form = SpecForm::container_service(name.clone(), container, 3, size);
        let Program::Containers(containers) = &mut form.program else { panic!() };
        containers.push(other);
        let spec = form.try_into().unwrap();
        launch(host, &name, &replica(2), &Digest([1; 32]), &spec)
    };
    let (node, id) = (LaunchFact::Node, LaunchFact::NodeId);
    let (full, short, uid) = (LaunchFact::Replica, LaunchFact::Name, LaunchFact::Uid);
    let facts = [("A", node), ("B", id), ("C", full), ("D", short), ("E", uid)];
    let filled = of(&host, &facts);
    let get = |name: &str| filled.env[name].as_str();
    assert_eq!((get("A"), get("C"), get("D")), ("pi", "shop/db/2", "db-2"));
    assert_eq!(get("B"), NODE.to_string());
    let lengths: Vec<usize> = get("E").split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{}", get("E"));
    let elsewhere = Host { node: NodeId([8; 32]), name: "pi".into() };
    assert_ne!(of(&elsewhere, &facts).env["E"], get("E"), "another life");
    assert_eq!(of(&host, &facts).env["E"], get("E"), "the same one after a restart");
    let Payload::Container(payload) = &filled.payload else { panic!() };
    assert_eq!(payload.others[0].env["WHERE"], "pi");
    let plain = of(&host, &[]);
    let extra: Vec<&String> = plain.env.keys().filter(|it| !it.starts_with("SHOAL_")).collect();
    assert_eq!(extra, [""; 0]);
}

/// A replica of a stateful workload knows its own name; other programs see no change. A component
/// has its volumes.
#[test]
fn stateful_replica_knows_its_name_and_has_its_volume() {
    let host = Host { node: NODE, name: "pi".into() };
    let name: WorkloadName = "shop/db".parse().unwrap();
    let of = |change: fn(&mut SpecForm)| {
        let mut form = SpecForm::from(spec("shop/db", 3));
        change(&mut form);
        let spec = form.try_into().unwrap();
        launch(&host, &name, &replica(2), &Digest([1; 32]), &spec)
    };
    let service = of(|_| {});
    assert_eq!(service.env.get("SHOAL_ORDINAL"), None, "it would be started anew");
    assert!(service.folders.is_empty() && !service.is_exclusive());
    let stateful = of(|form| {
        let order = spec::Sequence::Ordered;
        form.kind = Kind::Stateful(spec::Stateful { replicas: 3, order });
        let (name, source) = ("data".to_owned(), VolumeSource::Kept);
        let mount = Mount { volume: name.clone(), path: "/data".into(), read_only: true };
        form.later.mounts = vec![mount];
        form.storage = vec![Volume { name, source, on_loss: OnLoss::Wait }];
    });
    let own = ["SHOAL_ORDINAL", "SHOAL_ADDRESS"].map(|name| stateful.env[name].as_str());
    assert_eq!(own, ["2", "db-2.db.shop.shoal"]);
    let [folder] = &stateful.folders[..] else { panic!("{:?}", stateful.folders) };
    assert_eq!((folder.key.to_string().as_str(), folder.read_only), ("shop/db/2/data", true));
    assert!(stateful.is_exclusive(), "two would write one volume");
}

/// The core frees resources on `Stopped`: it comes once the instance is gone, and also for a
/// replica that never ran here. The logs of the stopped one can still be found.
#[tokio::test(start_paused = true)]
async fn stop_is_reported_when_gone_or_never_run() {
    let mut world = World::new();
    let id = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    world.stop(0);
    let report = world.until(0, InstanceState::Stopped).await;
    assert_eq!(report.generation, Digest([1; 32]));
    assert_eq!(world.runtime.calls(2).await[1], format!("stop {id}"));
    // Its logs can still be read.
    assert_eq!(world.executor.directory().instance(&replica(0)), Some(id));
    world.stop(5);
    world.until(5, InstanceState::Stopped).await;
}

/// The runtime never answers one start: another replica starts meanwhile, and the first one fails
/// after its time-out.
#[tokio::test(start_paused = true)]
async fn hanging_start_delays_no_other_replica() {
    let mut world = World::new();
    *world.runtime.on_start.lock().unwrap() = OnStart::Hang;
    world.run(0, 1);
    world.runtime.calls(1).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Run;
    world.run(1, 1);
    world.until(1, InstanceState::Running).await;
    // The paused clock advances only to time-outs.
    world.until(0, failed("the wasm runtime did not take it within 30s")).await;
}

/// A stop that does not answer in time is called again until the runtime confirms it.
#[tokio::test(start_paused = true)]
async fn hanging_stop_is_retried() {
    let mut world = World::new();
    let id = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    world.runtime.stuck.lock().unwrap().insert(id.to_string());
    world.stop(0);
    world.runtime.calls(3).await;
    world.runtime.stuck.lock().unwrap().clear();
    world.until(0, InstanceState::Stopped).await;
}

/// Three orders for one replica come before the task runs: only the last one reaches the runtime.
#[tokio::test(start_paused = true)]
async fn overtaken_order_is_not_carried_out() {
    let mut world = World::new();
    // The task does not run between these orders.
    world.run(0, 1);
    world.stop(0);
    let id = world.run(0, 2);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(1).await, [format!("start {id}")]);
}

/// A previous process left two instances running. The one that an order names is kept, the other
/// one is stopped.
#[tokio::test(start_paused = true)]
async fn leftover_instance_is_stopped_unless_ordered() {
    let runtime = FakeRuntime::new();
    let name = "web".parse().unwrap();
    let wanted = instance_id(&name, &replica(0), &Digest([1; 32]));
    let stray = instance_id(&name, &replica(1), &Digest([1; 32]));
    for id in [&wanted, &stray] {
        runtime.run(id.clone());
        runtime.found.lock().unwrap().push(Instance { id: id.clone() });
    }
    let mut world = World::with(runtime);
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(2).await, [format!("start {wanted}"), format!("stop {stray}")]);
}

/// The engine does not answer the first look, and shows one of the containers only later: a start
/// that a killed process had ordered was still under way. Both are stopped.
#[tokio::test(start_paused = true)]
async fn stray_is_found_by_a_later_look() {
    let runtime = FakeRuntime::new();
    let name = "web".parse().unwrap();
    let strays = [0, 1].map(|index| instance_id(&name, &replica(index), &Digest([1; 32])));
    runtime.silent.store(true, Ordering::Relaxed);
    runtime.found.lock().unwrap().push(Instance { id: strays[0].clone() });
    let world = World::with(runtime);
    assert_eq!(world.runtime.calls(1).await, [format!("stop {}", strays[0])]);
    world.runtime.found.lock().unwrap().push(Instance { id: strays[1].clone() });
    assert_eq!(world.runtime.calls(2).await[1], format!("stop {}", strays[1]));
}

/// A new version is published seconds after the daemon's start, and is slow. The old container,
/// which ran before the start, serves meanwhile: it is no stray.
#[tokio::test(start_paused = true)]
async fn adopted_instance_that_is_being_replaced_is_no_stray() {
    let runtime = FakeRuntime::new();
    let name = "web".parse().unwrap();
    let old = instance_id(&name, &replica(0), &Digest([1; 32]));
    let stray = instance_id(&name, &replica(1), &Digest([1; 32]));
    for id in [&old, &stray] {
        runtime.found.lock().unwrap().push(Instance { id: id.clone() });
    }
    let mut world = World::with(runtime);
    world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    let new = world.run(0, 2);
    world.until(0, InstanceState::Starting).await;
    let calls = [format!("start {old}"), format!("start {new}"), format!("stop {stray}")];
    assert_eq!(world.runtime.calls(3).await, calls);
    world.runtime.tell(&new, InstanceState::Running);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(4).await[3], format!("stop {old}"));
}

/// A third version comes while the second one still starts. The second one never served, so it is
/// stopped at once; the first one goes on.
#[tokio::test(start_paused = true)]
async fn version_that_never_ran_is_stopped_when_a_newer_one_comes() {
    let mut world = World::new();
    let first = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    let second = world.run(0, 2);
    world.until(0, InstanceState::Starting).await;
    let third = world.run(0, 3);
    world.until(0, InstanceState::Starting).await;
    let calls = world.runtime.calls(4).await;
    let expected = [format!("start {third}"), format!("stop {second}")];
    assert_eq!(calls[..2], [format!("start {first}"), format!("start {second}")]);
    assert_eq!(calls[2..], expected);
}

/// The node stops: every guest gets a stop, and an order that comes later is dropped.
#[tokio::test(start_paused = true)]
async fn executor_stop_ends_all_guests_and_drops_orders() {
    let mut world = World::new();
    let ids = [world.run(0, 1), world.run(1, 1)];
    world.until(0, InstanceState::Running).await;
    world.until(1, InstanceState::Running).await;
    let World { runtime, mut orders, executor, .. } = world;
    executor.stop(Ending::StopAll).await;
    orders.order(Order::Stop { replica: replica(0) });
    let calls = runtime.calls(4).await;
    assert!(ids.iter().all(|id| calls.contains(&format!("stop {id}"))), "{calls:?}");
    assert_eq!(calls.len(), 4);
}

/// The new generation cannot start: the old instance goes on answering, and only the new one's
/// failure is reported. Once a retry runs, the old one is stopped.
#[tokio::test(start_paused = true)]
async fn old_generation_outlives_a_failed_start() {
    let mut world = World::new();
    let old = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Fail("it cannot be instantiated");
    let new = world.run(0, 2);
    let report = world.until(0, failed("it cannot be instantiated")).await;
    assert_eq!(report.generation, Digest([2; 32]));
    // The next order is carried out after any step that the failure had led to.
    *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
    world.run(0, 2);
    world.until(0, InstanceState::Starting).await;
    let calls = world.runtime.calls(3).await;
    assert_eq!(calls[1..], [format!("start {new}"), format!("start {new}")]);
    assert!(world.runtime.status(&old).unwrap().state.is_running());
    world.runtime.tell(&new, InstanceState::Running);
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(4).await[3], format!("stop {old}"));
}

/// The old instance fails, or is stopped from outside, while the new one starts: the core must not
/// think that it still answers. The report has the old generation, and the rest of the old instance
/// is removed.
#[tokio::test(start_paused = true)]
async fn end_of_an_old_instance_has_its_own_generation() {
    let trapped = InstanceState::Failed { reason: "trapped".into(), retryable: false };
    let stopped = "it was stopped from outside";
    for (state, reported) in
        [(trapped, ended("trapped")), (InstanceState::Stopped, failed(stopped))]
    {
        let mut world = World::new();
        let old = world.run(0, 1);
        world.until(0, InstanceState::Running).await;
        *world.runtime.on_start.lock().unwrap() = OnStart::Wait;
        let new = world.run(0, 2);
        world.until(0, InstanceState::Starting).await;
        world.runtime.tell(&old, state);
        let report = world.until(0, reported).await;
        assert_eq!(report.generation, Digest([1; 32]));
        assert_eq!(world.runtime.calls(3).await[2], format!("stop {old}"));
        world.runtime.tell(&new, InstanceState::Running);
        let report = world.until(0, InstanceState::Running).await;
        assert_eq!(report.generation, Digest([2; 32]));
    }
}

/// A workload is changed back while its new generation fails: the old instance, which never
/// stopped, is healthy at once, and the new one is removed.
#[tokio::test(start_paused = true)]
async fn return_to_the_old_generation_removes_the_new_one() {
    let mut world = World::new();
    let old = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    *world.runtime.on_start.lock().unwrap() = OnStart::Fail("it cannot be instantiated");
    let new = world.run(0, 2);
    world.until(0, failed("it cannot be instantiated")).await;
    // As a runtime does: the same launch again changes nothing while it runs.
    *world.runtime.on_start.lock().unwrap() = OnStart::Run;
    world.run(0, 1);
    let report = world.until(0, InstanceState::Running).await;
    assert_eq!(report.generation, Digest([1; 32]));
    let calls = world.runtime.calls(4).await;
    assert_eq!(calls[2..], [format!("start {old}"), format!("stop {new}")]);
    assert!(world.runtime.status(&old).unwrap().state.is_running());
    assert_eq!(world.executor.directory().instance(&replica(0)), Some(old));
}

/// A node with two runtimes: an order goes to the one that its spec names, and so does the stop. An
/// instance that was left at the other one is stopped there.
#[tokio::test(start_paused = true)]
async fn order_goes_to_the_runtime_of_its_kind() {
    let (wasm, other) = (FakeRuntime::new(), FakeRuntime::of_kind("container"));
    let stray = instance_id(&"db".parse().unwrap(), &replica(7), &Digest([1; 32]));
    other.run(stray.clone());
    other.found.lock().unwrap().push(Instance { id: stray.clone() });
    let both = RuntimeSet::new([other.clone() as Arc<dyn Runtime>, wasm.clone()]);
    let mut world = World::with_all(wasm, both);
    let id = world.run(0, 1);
    world.until(0, InstanceState::Running).await;
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    assert_eq!(world.runtime.calls(2).await, [format!("start {id}"), format!("stop {id}")]);
    assert_eq!(other.calls(1).await, [format!("stop {stray}")]);
}

/// The spec's kind has no runtime on this node: no retry can help. Nothing was started, so a stop
/// has nothing to end.
#[tokio::test(start_paused = true)]
async fn kind_without_a_runtime_is_refused_for_good() {
    let other = FakeRuntime::of_kind("container");
    let mut world = World::with(other);
    world.run(0, 1);
    let reason = "this node has no `wasm` runtime".into();
    let report = world.until(0, InstanceState::Failed { reason, retryable: false }).await;
    assert_eq!(report.generation, Digest([1; 32]));
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    assert_eq!(*world.runtime.calls.lock().unwrap(), Vec::<String>::new());
}

/// As [`World::run`], with a secret.
fn run_with_secret(world: &mut World, generation: u8) -> InstanceId {
    let (name, generation) = ("web".parse().unwrap(), Digest([generation; 32]));
    let id = instance_id(&name, &replica(0), &generation);
    let mut form = SpecForm::from(spec("web", 2));
    form.later.values = vec![ValueUse {
        kind: ValueKind::Secret,
        name: "db".parse().unwrap(),
        to: Target::Env("DB".into()),
    }];
    let spec = form.try_into().unwrap();
    world.orders.order(Order::Run { replica: replica(0), name, generation, spec });
    id
}

fn lacks(reason: &str) -> Result<Given, NoValues> {
    Err(NoValues(reason.into()))
}

fn has(value: &str) -> Result<Given, NoValues> {
    let value = Hidden::new(value.as_bytes());
    Ok(Given { env: [("DB".to_owned(), value)].into(), ..Given::default() })
}

/// It says what it lacks, and starts by itself once that is there.
#[tokio::test(start_paused = true)]
async fn replica_waits_for_its_secret_and_starts_with_it() {
    let mut world = World::new();
    *world.values.0.lock().unwrap() = lacks("secret db does not exist");
    let id = run_with_secret(&mut world, 1);
    let reason = "secret db does not exist".into();
    let report = world.until(0, InstanceState::Waiting { reason }).await;
    assert_eq!(report.generation, Digest([1; 32]));
    assert!(world.runtime.calls.lock().unwrap().is_empty(), "nothing was started");
    *world.values.0.lock().unwrap() = has("hunter2");
    world.until(0, InstanceState::Running).await;
    assert_eq!(world.runtime.calls(1).await, [format!("start {id}")]);
    let launched = world.runtime.launched.lock().unwrap().clone().unwrap();
    assert_eq!(launched.whole_env().find(|(name, _)| *name == "DB"), Some(("DB", "hunter2")));
    assert!(!format!("{launched:?}").contains("hunter2"));
}

/// A new version that lacks its secret must not end the old one, which serves.
#[tokio::test(start_paused = true)]
async fn old_generation_serves_while_the_new_one_lacks_its_secret() {
    let mut world = World::new();
    *world.values.0.lock().unwrap() = has("hunter2");
    let old = run_with_secret(&mut world, 1);
    world.until(0, InstanceState::Running).await;
    *world.values.0.lock().unwrap() = lacks("gone");
    let new = run_with_secret(&mut world, 2);
    world.until(0, InstanceState::Waiting { reason: "gone".into() }).await;
    assert_eq!(world.runtime.calls(1).await, [format!("start {old}")]);
    *world.values.0.lock().unwrap() = has("hunter3");
    world.until(0, InstanceState::Running).await;
    let calls = world.runtime.calls(3).await;
    assert_eq!(calls[1..], [format!("start {new}"), format!("stop {old}")]);
}

/// An order to stop ends the wait.
#[tokio::test(start_paused = true)]
async fn replica_that_waits_for_a_secret_can_be_stopped() {
    let mut world = World::new();
    *world.values.0.lock().unwrap() = lacks("gone");
    run_with_secret(&mut world, 1);
    world.until(0, InstanceState::Waiting { reason: "gone".into() }).await;
    world.stop(0);
    world.until(0, InstanceState::Stopped).await;
    *world.values.0.lock().unwrap() = has("hunter2");
    tokio::time::sleep(LONG).await;
    assert!(world.runtime.calls.lock().unwrap().is_empty());
}

mod health;
