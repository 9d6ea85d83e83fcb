//! Reads YAML: a person's text becomes a [`Workload`], or an error that names the line.
//!
//! ```yaml
//! name: hello            # a DNS label
//! namespace: default     # optional
//! wasm: hello.wasm       # path relative to the file; or, for a container: image: redis:7, or a
//!                        # path, as in image: ./redis.tar
//! replicas: 2            # default 1
//! memory: 64MiB          # default 64MiB
//! cpu: 0.1               # cores, or 100m; default 0.1
//! disk: 1GiB             # default none
//! resources: { camera: 1 }   # what its node must have free, and offers by name
//! env: { GREETING: hi }
//! kind: job              # or daemon, or cron, which `schedule` implies; default service
//! schedule: "0 3 * * *"  # with timezone, missed, overlap and suspend
//! retries: 3             # of a job, as completions, parallel, deadline and keep
//! args: [--full]         # of a component that is a command
//! world: command         # of a component that is named by its hash, with `artifact`
//! require: { zone: shop }   # or a list: [zone=shop, "arch in (arm64,x86_64)", "!gpu"]
//! prefer: ["disk=ssd:80"]         # or { rule: disk=ssd, weight: 80 }
//! spread: zone
//! affinity: { near: [db], apart: ["batch:30"] }
//! tolerate: [edge]
//! after: [db, "migrate:done"]    # waits for others before it is placed for the first time
//! secrets: ["db:env=DB_PASSWORD"]   # as the options of `shoal run`; or a mapping of their parts
//! configs: ["site:/etc/site.conf"]   # a container's file
//! health:                # probes, each with every, timeout, failures, successes and delay
//!   readiness: { http: { path: /ready } }   # or tcp: { port: 80 }, or exec: [words]
//! update: { parallel: 1, on-failure: roll-back }   # step by step; also order, min-ready, canary
//! autoscale: { min: 1, max: 10, cpu: 70 }   # by load; also memory, requests, up, down
//! ```
//!
//! A container has further fields: `command`, `entrypoint`, `port` (its HTTP port), `user`,
//! `workdir`, `hostname`, `labels`, `network`, `tmpfs`, `stdin`, `tty`, `read_only`, `init`,
//! `ports`, `volumes`, `volume_on_loss`, `devices`, `cap_add`, `cap_drop`, `security_opt`,
//! `privileged`, `stop_signal`, `stop_grace`, `shm_size`, `ulimits`, `sysctls`,
//! `extra_hosts`, `dns`, `dns_search`, `dns_opt`, `group_add`, `env_from`, `aliases`, `post_start`,
//! `pre_stop`, `pull`, and `limit`, the most memory and CPU that it may take.
//!
//! A file may have several documents, divided by `---`. Unknown fields are refused: an ignored slip
//! would only be found in production.

pub mod bundle;
pub mod compose;
pub mod kubernetes;
pub mod quantity;
pub mod tree;
pub mod verdict;

mod autoscale;
mod container;
mod error;
mod foreign;
pub(crate) mod fuzzing;
mod given;
mod group;
mod health;
mod hooks;
mod kind;
mod placement;
#[cfg(test)]
mod reference;
mod text;
mod update;
pub(crate) mod write;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::spec::{World, wrong_amount};
use shoal_protocol::model::{Label, WorkloadName};

use crate::publish::{Source, Workload, given as options, reserved_below, uses, volume};

pub use error::ManifestError;
use text::{
    ArtifactText, At, Cores, Count, LabelText, Loss, Network, Pairs, PortText, Published, Pull,
    Reserve, Signed, Size, Text, Time, WorldText,
};

/// The JSON schema of a document, for editors: made of the types that read it, and compared with
/// them by a test.
pub const SCHEMA: &str = include_str!("schema.json");
/// Bytes of a manifest file: far above what people write, far below what takes much memory.
pub const MAX_MANIFEST: usize = 1024 * 1024;
/// Documents in one file.
const MAX_DOCUMENTS: usize = 256;

/// Reads every document of `text`. Relative paths are relative to the folder `base`. Returns at
/// least one workload, and no name twice.
pub fn parse(text: &str, base: &Path) -> Result<Vec<Workload>, ManifestError> {
    Ok(read(text, base)?.into_iter().map(|it| it.workload).collect())
}

/// A workload of a manifest, and where it stands.
#[derive(Clone, Debug)]
pub struct Described {
    /// The workload.
    pub workload: Workload,
    /// The line of its name, counted from 1.
    pub line: u64,
}

/// The same as [`parse`], with the place of each workload.
pub fn read(text: &str, base: &Path) -> Result<Vec<Described>, ManifestError> {
    documents(text, base).map_err(|error| foreign::better(text, error))
}

fn documents(text: &str, base: &Path) -> Result<Vec<Described>, ManifestError> {
    if text.len() > MAX_MANIFEST {
        return Err(ManifestError::plain(format!(
            "the file is larger than {}",
            quantity::show_size(MAX_MANIFEST as u64)
        )));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: MAX_DOCUMENTS },
        with_snippet: false,
    };
    let documents: Vec<Document> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ManifestError::of_yaml(&error))?;
    if documents.is_empty() {
        return Err(ManifestError::plain("there is nothing in it")
            .hint("The least is:  name: hello\n               wasm: hello.wasm"));
    }
    let mut workloads: Vec<Described> = Vec::with_capacity(documents.len());
    for document in documents {
        let line = document.name.line();
        let workload = document.workload(base)?;
        let name = workload.name();
        if let Some(other) = workloads.iter().find(|other| other.workload.name() == name) {
            let first = other.line;
            let message = format!("`{name}` stands in this file twice, first in line {first}");
            return Err(ManifestError::at(line, message));
        }
        workloads.push(Described { workload, line });
    }
    Ok(workloads)
}

/// A workload of shoal. A file may hold several, divided by `---`; a field that is not known is
/// refused.
// The YAML of a `Workload`, which is made of it by its own methods. Scalars are kept as text with
// their place, so that each error can name its line. The comment of each field ends with `Default`
// and `Example`: the reference page is made of them, and each example is read by a test.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Document {
    /// Its name, a DNS label: also its host name. Example: `name: web`
    name: At<LabelText>,
    /// The namespace that it is in. Default: default. Example: `namespace: shop`
    namespace: Option<At<LabelText>>,
    /// The file of a WebAssembly component, relative to the manifest. Example: `wasm: hello.wasm`
    wasm: Option<At<String>>,
    /// A component that nodes hold already, by its SHA-256 and its size in bytes, instead of a
    /// file: `shoal export` writes it.
    /// Example:
    /// `artifact: sha256:0101010101010101010101010101010101010101010101010101010101010101/7`
    artifact: Option<At<ArtifactText>>,
    /// The image of a container, or the path of an archive of one, relative to the manifest.
    /// Example: `image: redis:7`
    image: Option<At<String>>,
    /// The exact bytes of the image, by their hashes: `shoal export` writes it, and no registry is
    /// asked. Example: `pinned: { platforms: [] }`
    pinned: Option<At<container::Pinned>>,
    /// How many replicas run at once; 0 stops them all and keeps the workload. Default: 1.
    /// Example: `replicas: 2`
    replicas: Option<At<Count>>,
    /// The memory that is reserved for a replica, with a unit as in `64MiB`; the most that it may
    /// take unless `limit` says otherwise. Default: 64MiB. Example: `memory: 128MiB`
    memory: Option<At<Size>>,
    /// The CPU that is reserved for a replica, in cores as in `0.1`, or thousandths as in `100m`; a
    /// component gets no more. Default: 0.1. Example: `cpu: 0.5`
    cpu: Option<At<Cores>>,
    /// none: nothing of `memory` and `cpu` is reserved; the replica takes what others leave, and
    /// yields first. Default: both are reserved. Example: `reserve: none`
    reserve: Option<At<Reserve>>,
    /// From -1000 to 1000: where there is no room for all, a greater one goes first, and above 0 it
    /// takes the place of lower ones. Default: 0. Example: `priority: 100`
    priority: Option<At<Signed>>,
    /// Disk that is reserved for a replica, with a unit: for its volumes and what it writes. It is
    /// counted, and not enforced. Default: none. Example: `disk: 1GiB`
    disk: Option<At<Size>>,
    /// Resources that a replica has for itself while it runs, as its node offers them, by name.
    /// Example: `resources: { camera: 1 }`
    #[serde(default)]
    resources: BTreeMap<String, At<Count>>,
    /// The most that a replica may take. Default: the memory that is reserved; any CPU that is free
    /// for a container. Example: `limit: { memory: 256MiB, cpu: 2 }`
    #[serde(default)]
    limit: Option<Limit>,
    /// The environment of each replica; names that begin with `SHOAL_` are set by shoal.
    /// Example: `env: { GREETING: hi }`
    #[serde(default)]
    env: Pairs,
    /// What its nodes must fulfil: labels with their values, or a list of rules.
    /// Example: `require: [zone=shop, "arch in (arm64,x86_64)", "!gpu"]`
    require: Option<At<placement::Require>>,
    /// Rules that make a node better, each with a weight from 1 to 100 behind a colon, 50 if there
    /// is none. Example: `prefer: ["disk=ssd:80"]`
    prefer: Option<At<placement::Prefer>>,
    /// Labels over whose values its replicas are spread. Example: `spread: [zone]`
    spread: Option<At<placement::Texts>>,
    /// Workloads to be on the same nodes as, or on others.
    /// Example: `affinity: { near: [db], apart: ["batch:30"] }`
    affinity: Option<placement::Relations>,
    /// Taints that do not keep it away: `NAME`, `NAME=VALUE` or `*`. Example: `tolerate: [edge]`
    tolerate: Option<At<placement::Texts>>,
    /// Workloads of its namespace that it waits for before it is placed for the first time: until
    /// all their replicas are ready, one runs (`db:started`), or a job is done (`migrate:done`).
    /// Example: `after: [db, "migrate:done"]`
    after: Option<At<placement::Texts>>,
    /// Secrets of its namespace, each as a file or a variable.
    /// Example: `secrets: ["db:env=DB_PASSWORD"]`
    secrets: Option<At<Vec<given::Given>>>,
    /// Configs of its namespace, each as a file or a variable.
    /// Example: `configs: ["site:env=SITE"]`
    configs: Option<At<Vec<given::Given>>>,
    /// Probes of each replica; `none`: those that its image names do not count either.
    /// Example: `health: { readiness: { http: { path: /ready } } }`
    health: Option<At<health::HealthForm>>,
    /// How replicas get a new version, step by step; without it all are replaced at once.
    /// Example: `update: { parallel: 1, on-failure: roll-back }`
    update: Option<update::UpdateText>,
    /// How many replicas there are, by their load; `replicas` is then the first number.
    /// Example: `autoscale: { min: 1, max: 10, cpu: 70 }`
    autoscale: Option<autoscale::AutoscaleText>,
    /// What it is: service, for ever; stateful, for ever, each replica with a name of its own and
    /// never two of one; daemon, a replica on each node; job, to its end; cron, a job for each
    /// tick. Default: service, or cron with a schedule. Example: `kind: daemon`
    kind: Option<At<Text>>,
    /// Of a stateful workload: replicas start and end one after the other (ordered), or all at once
    /// (parallel). Default: ordered. Example: `order: parallel`
    order: Option<At<Text>>,
    /// Of a job: indices that must succeed. Default: 1. Example: `completions: 5`
    completions: Option<At<Count>>,
    /// Of a job: indices that run at one time. Default: 1. Example: `parallel: 2`
    parallel: Option<At<Count>>,
    /// Of a job: further tries of an index. Default: 6. Example: `retries: 3`
    retries: Option<At<Count>>,
    /// Of a job: it has failed if it is not done so long after it was due. Example: `deadline: 10m`
    deadline: Option<At<Time>>,
    /// Of a job: lists leave it out so long after its end. Default: never. Example: `keep: 1h`
    keep: Option<At<Time>>,
    /// When a job is run: minute, hour, day of the month, month, day of the week; or `@daily` and
    /// the like. Example: `schedule: "*/5 * * * *"`
    schedule: Option<At<Text>>,
    /// The time zone of the schedule. Default: UTC. Example: `timezone: Europe/Berlin`
    timezone: Option<At<Text>>,
    /// Of ticks that no node could start in time, run none (skip), the last one (once), or so many
    /// at most. Default: once. Example: `missed: skip`
    missed: Option<At<Text>>,
    /// While an earlier run goes on, run both (allow), skip the tick (forbid), or stop the earlier
    /// run (replace). Default: allow. Example: `overlap: forbid`
    overlap: Option<At<Text>>,
    /// Start no ticks for now. Default: false. Example: `suspend: true`
    suspend: Option<At<bool>>,
    /// Of a component that is named by its hash (`artifact`): http if it answers requests, command
    /// if it is a program with a `main`. A file tells it. Default: command for a job and with
    /// `args`, else http. Example: `world: command`
    world: Option<At<WorldText>>,
    /// The arguments of a component that is a command: words, or one text that is split as a shell
    /// does. Example: `args: [--full]`
    args: Option<At<container::Command>>,
    /// The set of workloads that it belongs to: `shoal publish --prune` removes what has left the
    /// set's files. No restart. Example: `set: shop`
    set: Option<At<LabelText>>,
    /// How often all its replicas were replaced without another change: `shoal restart` counts it
    /// up. Default: as it is. Example: `restarts: 1`
    restarts: Option<At<Count>>,
    /// Several containers in one replica, which share a network and volumes: each with the fields
    /// of a container. The first one is the main one.
    /// Example: `containers: [{ name: app, image: "app:1" }, { name: log, image: "log:1" }]`
    containers: Option<At<Vec<group::ContainerText>>>,
    // The fields of a container; `container` reads them.
    /// Replaces the image's arguments: words, or one text that is split as a shell does.
    /// Example: `command: [redis-server, --appendonly, "yes"]`
    command: Option<At<container::Command>>,
    /// Replaces the image's entry point; an empty text clears it. Example: `entrypoint: [sh, -c]`
    entrypoint: Option<At<container::Command>>,
    /// The TCP port at which it answers HTTP; every node serves it. Example: `port: 80`
    port: Option<At<PortText>>,
    /// Further TCP ports at which it listens, as its image names them: other workloads reach them
    /// by its name. Default: those of the image. Example: `exposed: [5432]`
    exposed: Option<At<Vec<PortText>>>,
    /// The user that it runs as, by number or by a name of the image. Example: `user: 1000:1000`
    user: Option<At<Text>>,
    /// Its working directory, absolute. Example: `workdir: /srv`
    workdir: Option<At<Text>>,
    /// Its host name. Default: the workload's name and the replica's number.
    /// Example: `hostname: till`
    hostname: Option<At<Text>>,
    /// Labels of the container. Example: `labels: { team: shop }`
    labels: Option<At<Pairs>>,
    /// Its network: bridge, none, or host where a node allows it. Default: bridge.
    /// Example: `network: none`
    network: Option<At<Network>>,
    /// Files in memory, with a size. Example: `tmpfs: ["/run:size=16MiB"]`
    tmpfs: Option<At<Vec<String>>>,
    /// Its standard input stays open, for `shoal attach`. Default: false. Example: `stdin: true`
    stdin: Option<At<bool>>,
    /// Its program has a terminal. Default: false. Example: `tty: true`
    tty: Option<At<bool>>,
    /// Its root file system cannot be written. Default: false. Example: `read_only: true`
    read_only: Option<At<bool>>,
    /// A small init process reaps orphans and passes signals on. Default: false.
    /// Example: `init: true`
    init: Option<At<bool>>,
    /// Ports of the device that lead to the container; one replica of a node has them.
    /// Example: `ports: ["8080:80", "127.0.0.1:53:53/udp"]`
    ports: Option<At<Vec<Published>>>,
    /// Volumes of its own, or paths of the device where a node allows them: `SOURCE:PATH[:ro]`, or
    /// their parts by name. Example: `volumes: ["data:/var/lib/db", "/srv/www:/www:ro"]`
    volumes: Option<At<Vec<container::VolumeText>>>,
    /// When the node that keeps its volumes is down: wait for it, or start elsewhere with empty
    /// ones. Default: wait. Example: `volume_on_loss: wait`
    volume_on_loss: Option<At<Loss>>,
    /// Devices of a node that allows them. Example: `devices: [/dev/ttyUSB0]`
    devices: Option<At<Vec<String>>>,
    /// Capabilities that it gets, where a node allows them. Example: `cap_add: [NET_ADMIN]`
    cap_add: Option<At<Vec<String>>>,
    /// Options of the engine's security modules. Example: `security_opt: [no-new-privileges]`
    security_opt: Option<At<Vec<String>>>,
    /// It can do what root on the device can, where a node allows that. Default: false.
    /// Example: `privileged: true`
    privileged: Option<At<bool>>,
    /// Capabilities that it gives up, or ALL. Example: `cap_drop: [ALL]`
    cap_drop: Option<At<Vec<String>>>,
    /// The signal that asks it to end. Default: the image's. Example: `stop_signal: SIGINT`
    stop_signal: Option<At<Text>>,
    /// The time to end before it is killed, with a unit. Default: 5s. Example: `stop_grace: 30s`
    stop_grace: Option<At<Time>>,
    /// The size of /dev/shm, with a unit. Default: 64MiB. Example: `shm_size: 128MiB`
    shm_size: Option<At<Size>>,
    /// Limits of its processes, each SOFT or SOFT:HARD. Example: `ulimits: { nofile: "1024:4096" }`
    ulimits: Option<At<Pairs>>,
    /// Kernel parameters of its own network and IPC.
    /// Example: `sysctls: { net.core.somaxconn: "1024" }`
    sysctls: Option<At<Pairs>>,
    /// Lines of its /etc/hosts; the address `host-gateway` is the node. Of a group they are in the
    /// main one. Example: `extra_hosts: ["db:10.0.0.5", "node:host-gateway"]`
    extra_hosts: Option<At<Vec<String>>>,
    /// Name servers that it asks in place of its node's, which alone knows other workloads by name.
    /// Example: `dns: [1.1.1.1]`
    dns: Option<At<Vec<String>>>,
    /// Domains in which its resolver looks for a name. Example: `dns_search: [example.org]`
    dns_search: Option<At<Vec<String>>>,
    /// Options of its resolver. Example: `dns_opt: ["ndots:2"]`
    dns_opt: Option<At<Vec<String>>>,
    /// Further groups of its user, by number or by a name of the image.
    /// Example: `group_add: [audio, 1001]`
    group_add: Option<At<Vec<Text>>>,
    /// Variables that its node fills in, each with one of node, node-id, replica, name, uid and
    /// index.
    /// Example: `env_from: { NODE_NAME: node }`
    env_from: Option<At<Pairs>>,
    /// Further names at which others of its namespace reach it. Example: `aliases: [my_db]`
    aliases: Option<At<Vec<String>>>,
    /// Commands in the container after its start, beside its program: the replica is not ready
    /// before they end with 0, and fails when one fails.
    /// Example: `post_start: [{ command: [chown, app, /data], user: root }]`
    post_start: Option<At<Vec<hooks::HookText>>>,
    /// Commands or pauses before the container is asked to end, within `stop_grace`.
    /// Example: `pre_stop: [{ sleep: 5s }, { command: nginx -s quit }]`
    pre_stop: Option<At<Vec<hooks::HookText>>>,
    /// When the engine asks the registry: missing, always or never. Default: missing.
    /// Example: `pull: always`
    pull: Option<At<Pull>>,
}

/// The most that a replica may take.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Limit {
    /// Memory, with a unit. Example: `memory: 256MiB`
    memory: Option<At<Size>>,
    /// CPU in cores, or thousandths as in `500m`. Example: `cpu: 2`
    cpu: Option<At<Cores>>,
}

impl Document {
    fn workload(mut self, base: &Path) -> Result<Workload, ManifestError> {
        let namespace = match &self.namespace {
            Some(text) => field("namespace", text, |text| text.parse::<Label>())?,
            None => DEFAULT_NAMESPACE.parse().expect("the default namespace is a label"),
        };
        let name = field("name", &self.name, |text| text.parse::<Label>())?;
        let replicas = self
            .replicas
            .as_ref()
            .map(|text| field("replicas", text, quantity::count))
            .transpose()?;
        let memory =
            self.memory.as_ref().map(|text| field("memory", text, quantity::memory)).transpose()?;
        let cpu = self.cpu.as_ref().map(|text| field("cpu", text, quantity::cpu)).transpose()?;
        let disk =
            self.disk.as_ref().map(|text| field("disk", text, quantity::disk)).transpose()?;
        let mut amounts = Vec::new();
        for (name, text) in &self.resources {
            let amount = field("resources", text, |text| match quantity::count(text) {
                Ok(amount) => match wrong_amount(name, amount.into()) {
                    Some(why) => Err(why),
                    None => Ok(amount),
                },
                Err(error) => Err(format!("{name}: {error}")),
            })?;
            amounts.push((name.clone(), amount.into()));
        }
        let reserve = self.reserve.as_ref();
        let best_effort = reserve.map(|text| field("reserve", text, uses::reserve)).transpose()?;
        let priority = self.priority.as_ref();
        let priority = priority.map(|text| field("priority", text, uses::priority)).transpose()?;
        if self.containers.is_some() {
            self.check_no_fields_of_containers()?;
        }
        let secrets = given::uses("secrets", self.secrets.take(), options::secret)?;
        let configs = given::uses("configs", self.configs.take(), options::config)?;
        let (health, no_healthcheck) = health::health(self.health.take())?;
        let require = placement::required(self.require.take())?;
        let prefer = placement::preferred(self.prefer.take())?;
        let spread = placement::list("spread", self.spread.take(), |text| {
            Ok::<_, std::convert::Infallible>(text.to_owned())
        })?;
        let set = self.set.as_ref().map(|text| field("set", text, |text| text.parse::<Label>()));
        let set = set.transpose()?;
        let restarts = self.restarts.as_ref();
        let restarts = restarts.map(|text| field("restarts", text, quantity::count)).transpose()?;
        let tolerate = placement::list("tolerate", self.tolerate.take(), str::parse)?;
        let after = placement::list("after", self.after.take(), str::parse)?;
        let name = WorkloadName { namespace, name };
        let affinity = placement::relations(self.affinity.take(), &name)?;
        let env = text::pairs(std::mem::take(&mut self.env));
        let kind = self.kind(replicas)?;
        let scale = autoscale::autoscale(self.autoscale.take())?;
        let most = scale.as_ref().map(|scale| scale.max).or(kind.replicas());
        let update = update::update(self.update.take(), &kind, most)?;
        let mut program = self.program(name, base)?.kind(kind);
        let is_group = program.is_group();
        if let Some(world) = self.world(program.source())? {
            program = program.world(world);
        }
        let mut workload = program.envs(env).rules(require).prefers(prefer);
        workload = workload.spread(spread).affinity(affinity).tolerates(tolerate).after(after);
        if let Some(set) = set {
            workload = workload.set(set);
        }
        workload = workload.restarts(restarts.unwrap_or_default().into());
        workload = workload.given(secrets.into_iter().chain(configs));
        if !is_group {
            workload = workload.health(health).no_healthcheck(no_healthcheck);
        }
        if let Some(update) = update {
            workload = workload.update(update);
        }
        if let Some(scale) = scale {
            workload = workload.autoscale(scale);
        }
        if let Some(memory) = memory {
            workload = workload.memory(memory);
        }
        workload = workload.resources(amounts).best_effort(best_effort.unwrap_or_default());
        workload = workload.priority(priority.unwrap_or_default());
        if let Some(disk) = disk {
            workload = workload.disk(disk);
        }
        let Limit { memory, cpu: most_cpu } = self.limit.take().unwrap_or_default();
        let memory = memory.map(|text| field("limit", &text, quantity::memory)).transpose()?;
        let most_cpu = most_cpu.map(|text| field("limit", &text, quantity::cpu)).transpose()?;
        if let Some(cpu) = cpu.or_else(|| reserved_below(most_cpu)) {
            workload = workload.cpu(cpu);
        }
        Ok(workload.limit(memory, most_cpu))
    }

    /// The workload with its program: a component or a container.
    fn program(&mut self, name: WorkloadName, base: &Path) -> Result<Workload, ManifestError> {
        let component = self.component(base)?;
        if let Some(containers) = self.containers.take() {
            if component.is_some() || self.image.is_some() {
                let why = "containers: it has `image` or `wasm`, too, and runs one of the two";
                return Err(ManifestError::at(containers.line(), why));
            }
            return self.group(&name, containers, base);
        }
        match (component, self.image.take()) {
            (Some((at, _)), Some(_)) => Err(ManifestError::at(
                at,
                "wasm: it has an `image`, too, and a workload runs one of the two",
            )),
            (None, None) => Err(ManifestError::at(
                self.name.line(),
                "wasm: the path of a component is missing, or `image` with a container's",
            )),
            (Some((_, source)), None) => {
                self.check_no_container()?;
                let args = self.args.take().map(|it| container::command("args", it)).transpose()?;
                let workload = Workload::component(name, source);
                let workload = workload.args(args.map(|words| words.0).unwrap_or_default());
                self.folders(workload)
            }
            (None, Some(_)) if self.args.is_some() => Err(ManifestError::at(
                self.args.as_ref().map_or(0, At::line),
                "args: those of a container are its `command`",
            )),
            (None, Some(image)) => self.container(name, image.take(), base),
        }
    }

    /// A component with its volumes.
    fn folders(&mut self, workload: Workload) -> Result<Workload, ManifestError> {
        let line = self.volumes.as_ref().map(At::line);
        let line = line.or(self.volume_on_loss.as_ref().map(At::line)).unwrap_or_default();
        let all = self.volumes.take().map(container::volumes).transpose()?.unwrap_or_default();
        let on_loss = self.volume_on_loss.take();
        let on_loss = container::read("volume_on_loss", on_loss, volume::on_loss)?;
        let with = volume::folders(workload, &all, on_loss);
        with.map_err(|why| ManifestError::at(line, why))
    }

    /// The world that is named beside the hash of a component.
    fn world(&mut self, source: &Source) -> Result<Option<World>, ManifestError> {
        let Some(text) = self.world.take() else { return Ok(None) };
        if !matches!(source, Source::Held(_)) {
            let why = match source {
                Source::File(_) | Source::Bytes(_) => "the file of a component tells it",
                _ => "only a component has it, and `image` is a container's",
            };
            return Err(ManifestError::at(text.line(), format!("world: {why}")));
        }
        field("world", &text, str::parse).map(Some)
    }

    /// The component, by its file or its hash, and the line in which it stands.
    fn component(&mut self, base: &Path) -> Result<Option<(u64, Source)>, ManifestError> {
        match (self.wasm.take(), self.artifact.take()) {
            (Some(wasm), Some(_)) => Err(ManifestError::at(
                wasm.line(),
                "wasm: it has an `artifact`, too, which is another component",
            )),
            (Some(wasm), None) if wasm.get().is_empty() => {
                Err(ManifestError::at(wasm.line(), "wasm: the path of a file is expected"))
            }
            (Some(wasm), None) => Ok(Some((wasm.line(), Source::File(base.join(wasm.take()))))),
            (None, Some(artifact)) => {
                let held = field("artifact", &artifact, container::artifact)?;
                Ok(Some((artifact.line(), Source::Held(held))))
            }
            (None, None) => Ok(None),
        }
    }
}

fn field<T, E: std::fmt::Display>(
    name: &str,
    text: &At<impl AsRef<str>>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, ManifestError> {
    parse(text.get().as_ref()).map_err(|error| {
        let wrong = ManifestError::at(text.line(), format!("{name}: {error}"));
        wrong.column(text.column())
    })
}

#[cfg(test)]
mod tests;
