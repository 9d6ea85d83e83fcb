//! A workload as a person describes it, before its bytes are read and hashed: in a manifest, by
//! options of `shoal run`, or in a program. All three end here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use shoal_protocol::model::name::NotALabel;
use shoal_protocol::model::spec::{
    Affinity, After, Autoscale, Container, Cron, DEFAULT_CPU, DEFAULT_MEMORY, Extra, Health, Image,
    InvalidSpec, Job, Kind, MAX_EXPOSED, Mount, NO_CPU_LIMIT, Port, Preference, Program,
    Requirements, Rollout, Rule, Sequence, Stateful, Toleration, ValueUse, Volume, World,
    size_of_group,
};
use shoal_protocol::model::{
    Amounts, Artifact, DISK, Digest, Label, Resources, Spec, SpecForm, WorkloadName,
};

/// A component or a container, its source, and its size. A new field of [`SpecForm`] gets a method
/// here.
///
/// ```
/// let workload = shoal::Workload::wasm("hello", "hello.wasm")?.replicas(2).env("GREETING", "hi");
/// # Ok::<(), shoal::protocol::model::name::NotALabel>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// The spec to be, without its artifact: see [`UNREAD`].
    form: SpecForm,
    source: Source,
    /// The sources of the other containers of its group.
    others: Vec<Source>,
}

/// The artifact of a form whose bytes were not read yet. No valid spec has one of 0 bytes, so it
/// cannot be signed by mistake.
const UNREAD: Artifact = Artifact { digest: Digest([0; 32]), size: 0 };

/// The source of a workload's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a file, read when the workload is published.
    File(PathBuf),
    /// In memory.
    Bytes(Bytes),
    /// In the stores of nodes, which hold it already.
    Held(Artifact),
    /// In an image that the engines of the nodes pull, or have.
    Engine,
    /// In a file of an image: an archive of `docker save`, or an OCI layout.
    Image(PathBuf),
}

impl From<&str> for Source {
    fn from(path: &str) -> Source {
        Source::File(path.into())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::File(path)
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Source {
        Source::Bytes(bytes)
    }
}

/// The CPU that is reserved for a replica for which only a limit was named: the limit, where it
/// is below the default.
pub(crate) fn reserved_below(limit: Option<u32>) -> Option<u32> {
    limit.filter(|limit| *limit < DEFAULT_CPU)
}

impl Workload {
    /// A WebAssembly component that answers HTTP or is a command, one replica and default limits.
    /// `name` is `hello` or `namespace/hello`.
    pub fn wasm(name: &str, source: impl Into<Source>) -> Result<Workload, NotALabel> {
        Ok(Self::component(name.parse()?, source.into()))
    }

    /// The same for a name that was parsed already.
    pub fn component(name: WorkloadName, source: Source) -> Workload {
        let resources = Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU };
        let form = SpecForm::wasm_service(name, UNREAD, 1, resources);
        Workload { form, source, others: Vec::new() }
    }

    /// A container of an image, with one replica, the default reservation, and no limit of its CPU.
    /// `name` is `cache` or `namespace/cache`.
    pub fn image(name: &str, reference: impl Into<String>) -> Result<Workload, NotALabel> {
        Ok(Self::container(name.parse()?, reference))
    }

    /// The same for a name that was parsed already.
    pub fn container(name: WorkloadName, reference: impl Into<String>) -> Workload {
        let resources = Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU };
        let container = Container::of("main", Image::named(reference));
        let mut form = SpecForm::container_service(name, container, 1, resources);
        form.resources.limit.cpu = NO_CPU_LIMIT;
        Workload { form, source: Source::Engine, others: Vec::new() }
    }

    /// A container of the image in a file. `reference` names the image if the file has several.
    pub fn image_file(
        name: WorkloadName,
        file: impl Into<PathBuf>,
        reference: Option<String>,
    ) -> Workload {
        let workload = Self::container(name, reference.unwrap_or_default());
        Workload { source: Source::Image(file.into()), ..workload }
    }

    /// The reference of an image, if one was given: of the container of this number.
    pub(super) fn image_reference(&self, at: usize) -> Option<String> {
        let reference = &self.form.program.containers().get(at)?.image.reference;
        (!reference.is_empty()).then(|| reference.clone())
    }

    /// The images that the engines provide, each with the number of its container.
    pub(super) fn engine_images(&self) -> Vec<(usize, Image)> {
        let images = self.form.program.containers().iter().map(|it| &it.image);
        let sources = [&self.source].into_iter().chain(&self.others);
        let open = images.zip(sources).enumerate().filter(|(_, (image, source))| {
            let is_open = image.platforms.is_empty() && image.digest.is_none();
            **source == Source::Engine && is_open
        });
        open.map(|(at, (image, _))| (at, image.clone())).collect()
    }

    /// The files of images, each with the number of its container.
    pub(super) fn image_files(&self) -> Vec<(usize, PathBuf)> {
        let sources = [&self.source].into_iter().chain(&self.others).enumerate();
        let files = sources.filter_map(|(at, source)| match source {
            Source::Image(file) => Some((at, file.clone())),
            _ => None,
        });
        files.collect()
    }

    /// Adds the container of another workload to its group, with its volumes, values and probes.
    /// The first workload's own container is the main one.
    ///
    /// # Errors
    /// Either is no single container, or both have a volume of one name that differ.
    pub fn beside(mut self, other: Workload) -> Result<Workload, String> {
        let Workload { form, source, others } = other;
        let SpecForm { program: Program::Containers(containers), health, storage, later, .. } =
            form
        else {
            return Err("containers: a component is in no group".into());
        };
        let (Program::Containers(all), true) = (&mut self.form.program, others.is_empty()) else {
            return Err("containers: a component is in no group".into());
        };
        for volume in storage {
            match self.form.storage.iter().find(|it| it.name == volume.name) {
                None => self.form.storage.push(volume),
                Some(known) if *known == volume => {}
                Some(_) => {
                    let name = &volume.name;
                    return Err(format!("volumes: two of different kinds are called `{name}`"));
                }
            }
        }
        for mut container in containers {
            container.member.health = health.clone();
            container.member.values.clone_from(&later.values);
            all.push(container);
        }
        self.others.push(source);
        Ok(self)
    }

    /// Sets the size of its replicas by those of its containers, if each has one.
    pub fn sized_by_containers(mut self) -> Workload {
        if let Some(size) = size_of_group(self.form.program.containers()) {
            self.form.resources = size;
        }
        self
    }

    /// Takes the size of its replicas for that of its container in a group.
    pub(crate) fn own_size(self) -> Workload {
        let Requirements { reservation, limit } = self.form.resources;
        self.with_container(|container| {
            container.member.reservation = Some(reservation);
            container.limit = Some(limit);
        })
    }

    /// Whether nothing of memory and CPU is reserved, and what is counted besides.
    pub(crate) fn counts(&self) -> (bool, &Amounts) {
        (self.form.later.best_effort, &self.form.later.uses)
    }

    /// Whether it is a group of several containers.
    pub fn is_group(&self) -> bool {
        self.form.program.containers().len() > 1
    }

    /// Changes the container of this number, if there is one.
    pub(super) fn with_container_at(
        mut self,
        at: usize,
        change: impl FnOnce(&mut Container),
    ) -> Workload {
        if let Program::Containers(containers) = &mut self.form.program
            && let Some(container) = containers.get_mut(at)
        {
            change(container);
        }
        self
    }

    /// The sources of the other containers of its group, in order.
    pub fn other_sources(&self) -> &[Source] {
        &self.others
    }

    /// Changes the container, if it is one: of a group the main one.
    pub fn with_container(self, change: impl FnOnce(&mut Container)) -> Workload {
        self.with_container_at(0, change)
    }

    /// Sets the arguments that replace the image's, if it is a container.
    pub fn command(self, words: Vec<String>) -> Workload {
        self.with_container(|container| container.command = Some(words))
    }

    /// Sets names and name servers of its own, further groups of its user, and variables that its
    /// node fills in, if it is a container.
    pub fn extra(self, extra: Extra) -> Workload {
        self.with_container(|container| container.extra = extra)
    }

    /// Sets the most that a container may take, in bytes of memory and thousandths of a core.
    /// Without it, that is the memory that is reserved, and any CPU that is free.
    pub fn limit(mut self, memory: Option<u64>, cpu: Option<u32>) -> Workload {
        let limit = &mut self.form.resources.limit;
        limit.memory = memory.unwrap_or(limit.memory);
        limit.cpu = cpu.unwrap_or(limit.cpu);
        self
    }

    /// Sets the volumes that the mounts of its container are about.
    pub fn storage(mut self, volumes: Vec<Volume>) -> Workload {
        self.form.storage = volumes;
        self
    }

    /// Sets the volumes of a component, and the paths at which it finds them.
    pub fn folders(mut self, volumes: Vec<Volume>, mounts: Vec<Mount>) -> Workload {
        self.form.storage = volumes;
        self.form.later.mounts = mounts;
        self
    }

    /// Sets the ports of the device that lead to its container.
    pub fn ports(mut self, ports: Vec<Port>) -> Workload {
        self.form.exposure.ports = ports;
        self
    }

    /// Keeps the standard input of its container's program open, and gives it a terminal.
    pub fn streams(mut self, stdin: bool, tty: bool) -> Workload {
        self.form.later.stdin = stdin;
        self.form.later.tty = tty;
        self
    }

    /// Adds the TCP ports that its image exposes to those that its file names.
    pub(crate) fn exposes_also(self, ports: impl IntoIterator<Item = u16>) -> Workload {
        let own = self.form.later.exposed.clone();
        self.exposes(own.into_iter().chain(ports))
    }

    /// Sets the TCP ports that other workloads reach by its name. Those that lead to a port of the
    /// device or answer HTTP are reached, too, and left out here.
    pub(crate) fn exposes(mut self, ports: impl IntoIterator<Item = u16>) -> Workload {
        self.form.later.exposed.clear();
        let named = self.form.ports();
        let ports: BTreeSet<u16> = ports.into_iter().filter(|it| *it != 0).collect();
        let more = ports.into_iter().filter(|port| !named.contains_key(port));
        self.form.later.exposed = more.take(MAX_EXPOSED).collect();
        self
    }

    /// Sets the wanted number of replicas: of a service, unless it is stateful.
    pub fn replicas(mut self, replicas: u32) -> Workload {
        let kind = self.form.kind.with_replicas(replicas);
        self.form.kind = kind.unwrap_or(Kind::Service { replicas });
        self
    }

    /// Runs so many replicas that are told apart, one after the other: each has a name of its own,
    /// and there are never two of one.
    pub fn stateful(self, replicas: u32) -> Workload {
        self.kind(Kind::Stateful(Stateful { replicas, order: Sequence::default() }))
    }

    /// Runs a replica on each node that fits.
    pub fn daemon(self) -> Workload {
        self.kind(Kind::Daemon)
    }

    /// Runs it to its end.
    pub fn job(self, job: Job) -> Workload {
        self.kind(Kind::Job(job))
    }

    /// Runs it to its end at each tick of a schedule.
    pub fn cron(self, cron: Cron) -> Workload {
        self.kind(Kind::Cron(cron))
    }

    /// Sets how many replicas it has, and whether they end.
    pub fn kind(mut self, kind: Kind) -> Workload {
        self.form.kind = kind;
        self.guess_world();
        self
    }

    /// Sets the arguments of a component that is a command.
    pub fn args(mut self, args: Vec<String>) -> Workload {
        if let Program::Wasm(component) = &mut self.form.program {
            component.args = args;
        }
        self.guess_world();
        self
    }

    /// Only a command ends, or has arguments. What it is, its bytes tell when they are read.
    fn guess_world(&mut self) {
        let ends = self.form.kind.job().is_some();
        if let Program::Wasm(component) = &mut self.form.program
            && (ends || !component.args.is_empty())
        {
            component.world = World::Command;
        }
    }

    /// Sets the world of a component that nodes hold already; for any other its bytes tell it when
    /// it is published.
    pub fn world(mut self, world: World) -> Workload {
        if let Program::Wasm(component) = &mut self.form.program {
            component.world = world;
        }
        self
    }

    /// Sets the memory that is reserved for a replica, and the most that it may take, in bytes.
    pub fn memory(mut self, bytes: u64) -> Workload {
        let resources = &mut self.form.resources;
        (resources.reservation.memory, resources.limit.memory) = (bytes, bytes);
        self
    }

    /// Sets the CPU that is reserved for a replica, in thousandths of a core. A component gets no
    /// more; a container gets what is free, unless [`Workload::limit`] says how much.
    pub fn cpu(mut self, millicores: u32) -> Workload {
        let resources = &mut self.form.resources;
        resources.reservation.cpu = millicores;
        if matches!(self.form.program, Program::Wasm(_)) {
            resources.limit.cpu = millicores;
        }
        self
    }

    /// Sets a variable in the environment of each replica.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Workload {
        self.envs([(name.into(), value.into())])
    }

    /// Sets several variables in the environment of each replica.
    pub fn envs(mut self, all: impl IntoIterator<Item = (String, String)>) -> Workload {
        let env = match &mut self.form.program {
            Program::Wasm(component) => Some(&mut component.env),
            Program::Containers(containers) => containers.first_mut().map(|it| &mut it.env),
        };
        if let Some(env) = env {
            env.extend(all);
        }
        self
    }

    /// Gives its replicas secrets and configs of its namespace.
    pub fn given(mut self, all: impl IntoIterator<Item = ValueUse>) -> Workload {
        self.form.later.values.extend(all);
        self
    }

    /// The secrets and configs that its replicas get.
    pub fn values(&self) -> &[ValueUse] {
        &self.form.later.values
    }

    /// The same with those of the other containers of its group.
    pub fn all_values(&self) -> impl Iterator<Item = &ValueUse> {
        self.form.values()
    }

    /// Sets its health probes.
    pub fn health(mut self, health: Health) -> Workload {
        self.form.health = health;
        self
    }

    /// The health check that its image names does not count, or counts again.
    pub fn no_healthcheck(mut self, is: bool) -> Workload {
        self.form.later.no_healthcheck = is;
        self
    }

    /// Lets the number of replicas follow from their load.
    pub fn autoscale(mut self, scale: Autoscale) -> Workload {
        self.form.later.autoscale = Some(scale);
        self
    }

    /// Has its replicas replaced step by step when it changes. Without it all are replaced at once.
    pub fn update(mut self, rollout: Rollout) -> Workload {
        self.form.later.rollout = Some(rollout);
        self
    }

    /// Marks it as one of a set, which `shoal publish --prune` keeps together.
    pub fn set(mut self, set: Label) -> Workload {
        self.form.later.set = Some(set);
        self
    }

    /// The set that it is marked as one of.
    pub fn set_name(&self) -> Option<&Label> {
        self.form.later.set.as_ref()
    }

    /// Sets how often all its replicas were replaced without another change.
    pub fn restarts(mut self, restarts: u64) -> Workload {
        self.form.later.restarts = restarts;
        self
    }

    /// Requires a label of the nodes that run it.
    pub fn require(self, name: impl Into<String>, value: impl Into<String>) -> Workload {
        self.requires([(name.into(), value.into())])
    }

    /// Requires several labels of the nodes that run it, all of them.
    pub fn requires(mut self, all: impl IntoIterator<Item = (String, String)>) -> Workload {
        self.form.placement.require.extend(all);
        self
    }

    /// Requires a rule of the nodes that run it, as in `arch in (arm64, x86_64)`.
    pub fn rule(self, rule: Rule) -> Workload {
        self.rules([rule])
    }

    /// Requires several rules of the nodes that run it, all of them.
    pub fn rules(mut self, all: impl IntoIterator<Item = Rule>) -> Workload {
        all.into_iter().for_each(|rule| self.form.add_required(rule));
        self
    }

    /// Prefers nodes that fulfil these rules.
    pub fn prefers(mut self, all: impl IntoIterator<Item = Preference>) -> Workload {
        self.form.placement.prefer.extend(all);
        self
    }

    /// Reserves bytes of disk for each replica; 0 for none.
    pub fn disk(mut self, bytes: u64) -> Workload {
        self.form.later.uses.set(DISK, bytes);
        self
    }

    /// Reserves for each replica, besides what was named before, so many of what nodes offer by
    /// these names, as `camera` or `gpu`.
    pub fn resources(mut self, all: impl IntoIterator<Item = (String, u64)>) -> Workload {
        all.into_iter().for_each(|(name, amount)| self.form.later.uses.set(&name, amount));
        self
    }

    /// Reserves nothing of its memory and CPU, or both again: it takes what others leave.
    pub fn best_effort(mut self, is: bool) -> Workload {
        self.form.later.best_effort = is;
        self
    }

    /// Sets the workloads of its namespace that it waits for before it is placed for the first
    /// time.
    pub fn after(mut self, after: Vec<After>) -> Workload {
        self.form.later.after = after;
        self
    }

    /// Sets its priority, from -1000 to 1000: where there is no room for all, a greater one goes
    /// first, and above 0 it takes the place of lower ones.
    pub fn priority(mut self, priority: i32) -> Workload {
        self.form.later.priority = priority;
        self
    }

    /// Spreads its replicas over the values of these labels.
    pub fn spread(mut self, labels: impl IntoIterator<Item = String>) -> Workload {
        self.form.placement.spread.extend(labels);
        self
    }

    /// Sets its relations to other workloads.
    pub fn affinity(mut self, all: impl IntoIterator<Item = Affinity>) -> Workload {
        self.form.placement.affinity.extend(all);
        self
    }

    /// Lets it run on nodes with these taints.
    pub fn tolerates(mut self, all: impl IntoIterator<Item = Toleration>) -> Workload {
        let known = &mut self.form.placement.tolerate;
        for toleration in all {
            if !known.contains(&toleration) {
                known.push(toleration);
            }
        }
        self
    }

    /// Whether it runs to its end, once.
    pub fn is_job(&self) -> bool {
        matches!(self.form.kind, Kind::Job(_))
    }

    /// The name for people; also the host name.
    pub fn name(&self) -> &WorkloadName {
        &self.form.name
    }

    /// The source of its bytes.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The spec to sign, once the artifact of a component is known.
    pub fn spec(&self, artifact: Option<Artifact>) -> Result<Spec, InvalidSpec> {
        let form = self.form.clone();
        form.check_end()?;
        if let Program::Containers(containers) = &form.program {
            containers.iter().try_for_each(super::container::check)?;
        }
        Spec::try_from(match artifact {
            Some(artifact) => form.with_artifact(artifact),
            None => form,
        })
    }
}
