//! Carries out the core's orders at the runtimes, and reports the state of replicas to the core.
//!
//! ```text
//!   driver ── order(Run | Stop) ──▶ Inbox ──▶ ┌──────────────┐ ── start, stop ──▶ Runtime of
//!            (latest only)                    │ one task,    │                    the spec's kind
//!   driver ◀── report ◀── Outbox ◀─────────── │ a slot each  │ ◀── watch ──────── RuntimeSet
//!        (latest of a generation)             └──────────────┘
//! ```
//!
//! **Both directions keep the latest value only**: an order that is overtaken is never carried out,
//! a report that is overtaken by another one of its generation is never sent. Calls to a runtime
//! run beside the task, one a replica and a bounded number for each runtime, each under a time-out:
//! a runtime that hangs on one replica delays neither another replica nor another runtime.

mod health;
mod mailbox;
mod slot;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::spec::{
    Container, LaunchFact, Mount, Program, Volume, VolumeSource, World,
};
use shoal_protocol::model::{Digest, NodeId, Place, ReplicaId, ReplicaName, Spec, WorkloadName};
use shoal_protocol::node::{Order, Report};
use shoal_runtimes::{
    Command, ContainerPayload, Folder, InstanceId, Launch, Payload, VolumeKey, VolumeOf,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::driver::{DriverHandle, Orders};
use crate::runtimes::RuntimeSet;
use crate::secrets::Values;

pub use mailbox::Directory;
use mailbox::{Inbox, Outbox};

/// How long a guest may take to end its requests before it is cut.
pub const GRACE: Duration = Duration::from_secs(5);

/// Takes the executor's reports.
pub trait Reports: Send + Sync + 'static {
    /// Sends one report; waits while the driver is busy.
    fn report(&self, report: Report) -> BoxFuture<'_, ()>;
}

impl Reports for DriverHandle {
    fn report(&self, report: Report) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A stopped driver takes no reports.
            let _ = DriverHandle::report(self, report).await;
        })
    }
}

/// This node, as guests see it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its id, `SHOAL_NODE_ID` in the environment of a guest.
    pub node: NodeId,
    /// Its name, `SHOAL_NODE` in the environment of a guest.
    pub name: String,
}

/// The fate of instances that could outlive this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// They go on, and the next start adopts them: a restart or an update of the daemon.
    LeaveRunning,
    /// They are stopped: the user took the node down.
    StopAll,
}

/// The running executor.
pub struct Executor {
    inbox: Inbox,
    directory: Directory,
    stop: Option<oneshot::Sender<Ending>>,
    task: JoinHandle<()>,
    reporter: JoinHandle<()>,
}

/// The driver's end: takes orders.
pub struct OrderSink(Inbox);

impl Orders for OrderSink {
    fn order(&mut self, order: Order) {
        self.0.put(order);
    }
}

/// An executor that takes orders and does not run them yet: the driver needs [`OrderSink`] before
/// the executor can have the driver's handle.
pub struct Waiting {
    inbox: Inbox,
}

/// The two ends before the executor is started.
pub fn executor() -> (OrderSink, Waiting) {
    let inbox = Inbox::default();
    (OrderSink(inbox.clone()), Waiting { inbox })
}

impl Waiting {
    /// Starts to carry out orders. Instances that run now, and that no order names soon, are
    /// stopped.
    pub fn start(
        self,
        host: Host,
        runtimes: RuntimeSet,
        values: Arc<dyn Values>,
        reports: Arc<dyn Reports>,
    ) -> Executor {
        let directory = Directory::default();
        let outbox = Outbox::default();
        let (stop, stopped) = oneshot::channel();
        let ends = task::Ends {
            inbox: self.inbox.clone(),
            outbox: outbox.clone(),
            directory: directory.clone(),
        };
        let task = task::Task::new(host, runtimes, values, ends);
        let task = tokio::spawn(task.run(stopped));
        let reporter = tokio::spawn(async move {
            loop {
                let report = outbox.next().await;
                reports.report(report).await;
            }
        });
        Executor { inbox: self.inbox, directory, stop: Some(stop), task, reporter }
    }
}

impl Executor {
    /// The instances of this node's replicas.
    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Stops the guests, each with its grace, and returns when they are gone or the grace is over.
    /// Sends no report any more: the claims stay, so that the next start runs the replicas again.
    pub async fn stop(mut self, ending: Ending) {
        self.reporter.abort();
        self.inbox.close();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(ending);
        }
        // An error is a panic of the task: nothing is left to wait for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.reporter.abort();
        self.task.abort();
    }
}

/// The runtime's id for a replica of one generation. Stable, so that logs are found after a
/// restart; different for two workloads that had the same name one after the other.
pub fn instance_id(name: &WorkloadName, replica: &ReplicaId, generation: &Digest) -> InstanceId {
    let start = |digest: &Digest| digest.to_string().chars().take(16).collect::<String>();
    let text = format!(
        "{}/{}/{}.{}.{}",
        name.namespace,
        name.name,
        replica.place,
        start(&replica.uid),
        start(generation)
    );
    InstanceId::new(text)
        .expect("labels of 63 and digits of an index stay under 200 visible characters")
}

/// The name at which other containers reach one replica of a stateful workload.
fn address(replica: &ReplicaName) -> String {
    let WorkloadName { namespace, name } = &replica.workload;
    format!("{name}-{}.{name}.{namespace}.shoal", replica.place)
}

/// The host name of a replica that has no other one.
fn hostname(replica: &ReplicaName) -> String {
    format!("{}-{}", replica.workload.name, replica.place)
}

/// A text of an instance that no other one has, and none on another node, in the form of a UUID.
fn uid(host: &Host, id: &InstanceId) -> String {
    let hash = Digest::of(format!("{}/{id}", host.node).as_bytes()).to_string();
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The variables of a container that are known now.
fn env_from(
    container: &Container,
    known: &impl Fn(LaunchFact) -> String,
) -> BTreeMap<String, String> {
    let all = container.extra.env_from.iter();
    all.map(|(name, fact)| (name.clone(), known(*fact))).collect()
}

/// The program of a launch. `shoals`: the variables that shoal sets in each container; `known`:
/// what is known of the replica.
fn payload(
    spec: &Spec,
    replica: &ReplicaName,
    shoals: &BTreeMap<String, String>,
    known: &impl Fn(LaunchFact) -> String,
) -> Payload {
    match &spec.program {
        Program::Wasm(component) => match component.world {
            World::Http => Payload::Component(component.artifact.digest),
            World::Command => Payload::Command(Command {
                component: component.artifact.digest,
                args: component.args.clone(),
            }),
        },
        Program::Containers(containers) => {
            let mut all = containers.iter().cloned();
            let container = all.next().expect("a valid spec has a container");
            let with_env = |it: Container| {
                let filled = env_from(&it, known);
                let own = it.env.into_iter().chain(filled).chain(shoals.clone());
                Container { env: own.collect(), ..it }
            };
            Payload::Container(Box::new(ContainerPayload {
                container: Container { env: BTreeMap::new(), ..container },
                others: all.map(with_env).collect(),
                hostname: hostname(replica),
                ports: spec.exposure.ports.clone(),
                volumes: spec.storage.iter().map(|it| volume(it, replica)).collect(),
                stdin: spec.later.stdin,
                tty: spec.later.tty,
                probed: probed(spec),
            }))
        }
    }
}

/// The TCP ports that its probes name.
fn probed(spec: &Spec) -> Vec<u16> {
    let probes = spec.probes().flat_map(|(_, health)| health.probes());
    let ports = probes.filter_map(|(_, probe)| probe.check.port());
    ports.collect::<BTreeSet<u16>>().into_iter().collect()
}

fn volume(volume: &Volume, replica: &ReplicaName) -> (String, VolumeOf) {
    let of = match &volume.source {
        VolumeSource::Device(path) => VolumeOf::Device(path.clone()),
        VolumeSource::Kept => VolumeOf::Kept(kept(&volume.name, replica)),
        VolumeSource::Scratch => VolumeOf::Scratch(volume.name.clone()),
    };
    (volume.name.clone(), of)
}

fn kept(name: &str, replica: &ReplicaName) -> VolumeKey {
    VolumeKey {
        workload: format!("{}/{}", replica.workload.namespace, replica.workload.name),
        place: replica.place.of_volumes().to_string(),
        name: name.to_owned(),
    }
}

/// The volumes of a component.
fn folders(spec: &Spec, replica: &ReplicaName) -> Vec<Folder> {
    let folder = |mount: &Mount| Folder {
        key: kept(&mount.volume, replica),
        path: mount.path.clone(),
        read_only: mount.read_only,
    };
    spec.later.mounts.iter().map(folder).collect()
}

fn launch(
    host: &Host,
    name: &WorkloadName,
    replica: &ReplicaId,
    generation: &Digest,
    spec: &Spec,
) -> Launch {
    let replica_name = ReplicaName { workload: name.clone(), place: replica.place };
    let mut shoals: BTreeMap<String, String> = BTreeMap::new();
    let place = match replica.place {
        // It is this one, and people know it by its name.
        Place::OnNode(_) => host.name.clone(),
        place => place.to_string(),
    };
    shoals.insert("SHOAL_REPLICA".into(), format!("{name}/{place}"));
    if let (true, Place::Ordinal(ordinal)) = (spec.kind.is_stateful(), replica.place) {
        shoals.insert("SHOAL_ORDINAL".into(), ordinal.to_string());
        shoals.insert("SHOAL_ADDRESS".into(), address(&replica_name));
    }
    shoals.insert("SHOAL_NODE".into(), host.name.clone());
    shoals.insert("SHOAL_NODE_ID".into(), host.node.to_string());
    shoals.insert("SHOAL_WORKLOAD".into(), name.name.to_string());
    shoals.insert("SHOAL_NAMESPACE".into(), name.namespace.to_string());
    let id = instance_id(name, replica, generation);
    let known = |fact: LaunchFact| match fact {
        LaunchFact::Node => host.name.clone(),
        LaunchFact::NodeId => host.node.to_string(),
        LaunchFact::Replica => format!("{name}/{place}"),
        LaunchFact::Name => hostname(&replica_name),
        LaunchFact::Uid => uid(host, &id),
        LaunchFact::Index => match replica_name.place {
            Place::Ordinal(index) | Place::Run { index, .. } => index.to_string(),
            Place::OnNode(_) => "0".to_owned(),
        },
    };
    let payload = payload(spec, &replica_name, &shoals, &known);
    let mut env = spec.env().clone();
    let main = spec.program.containers().first();
    env.extend(main.map(|it| env_from(it, &known)).unwrap_or_default());
    env.extend(shoals);
    Launch {
        id,
        workload: name.to_string(),
        payload,
        env,
        memory: spec.resources.limit.memory,
        cpu: spec.resources.limit.cpu,
        cpu_reserved: spec.need().size.cpu,
        qos: spec.qos(),
        given: shoal_runtimes::given::Given::default(),
        ends: spec.kind.job().is_some(),
        folders: folders(spec, &replica_name),
    }
}

#[cfg(test)]
mod tests;
