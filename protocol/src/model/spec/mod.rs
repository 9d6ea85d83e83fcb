//! A workload's spec: what a person wants to run. Valid by construction: the wire's and the
//! manifest's forms become a [`Spec`] by `TryFrom`, and **what this version does not support is
//! refused by name**, never ignored.

mod after;
mod allow;
mod amount;
mod autoscale;
mod container;
mod container_checks;
mod exposure;
mod extra;
mod facts;
mod group;
mod health;
mod hooks;
mod invalid;
mod kind;
mod later;
mod lifecycle;
mod not_yet;
mod older;
mod placement;
mod platform;
mod ports;
mod program;
mod readings;
mod rollout;
mod rule;
mod schedule;
mod shown;
#[cfg(test)]
mod tests;
mod uses;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec;
use super::id::Digest;
use super::name::WorkloadName;
use super::replica::Revision;
use super::resources::{Need, Resources};

pub use after::{After, MAX_AFTER, Until};
pub use allow::{
    Allowance, Allowed, MAX_ALLOWANCE, MAX_ALLOWED, NO_NEW_PRIVILEGES, NotAnAllowance, capability,
    is_below, is_plain_path,
};
pub use amount::unit_of_size;
pub use autoscale::{Autoscale, MAX_PERCENT, MAX_REQUESTS, MAX_WINDOW, MIN_DOWN};
pub use container::{
    Container, Device, Image, Mount, NetworkMode, Privileges, PullPolicy, Tmpfs, Ulimit,
};
pub use exposure::{Exposure, HostPort, OnLoss, Port, Volume, VolumeSource};
pub use extra::{Extra, ExtraHost, HostAddress, LaunchFact, is_alias};
pub use facts::{Facts, Unfit};
pub use group::{MAX_CONTAINERS, Member, Role, size_of_group};
pub use health::{Check, DockerCheck, Health, MAX_PROBE_TIMEOUT, Probe};
pub use hooks::{Hook, HookCommand, Hooks};
pub use invalid::InvalidSpec;
pub use kind::{Cron, Job, Kind, Missed, Overlap, Sequence, Stateful};
pub use later::{Later, MAX_EXPOSED};
pub use lifecycle::{RestartPolicy, UpdatePolicy};
pub use placement::{
    Affinity, DEFAULT_WEIGHT, MAX_RULES, MAX_SPREAD, Placement, Preference, Toleration, tolerates,
};
pub use platform::{PIECE, Pieces, PlatformImage};
pub use program::{Artifact, Component, Permission, Program, ProgramKind, World};
pub use readings::{MAX_PUBLISHED, MAX_PUBLISHED_VALUE};
pub use rollout::{OnFailure, Order, Rollout};
pub use rule::{MAX_RULE_VALUES, NotARule, Op, Reading, Rule};
pub use schedule::Schedule;
pub use uses::{
    MAX_AMOUNT, MAX_DISK, MAX_KINDS, MAX_PRIORITY, counted, devices, wrong_amount, wrong_amounts,
    wrong_priority,
};
pub use values::{MAX_USES, SECRETS, Target, ValueKind, ValueUse};

pub(in crate::model) use later::encode;
pub(in crate::model) use older::decode;
pub(in crate::model) use readings::kept;
pub(in crate::model) use uses::{kept_amounts, size};

/// The newest spec form this program understands. Newer ones are kept and relayed byte for byte,
/// neither owned nor bid on.
pub const SPEC_VERSION: u16 = later::FORM;
/// Replicas of one workload: a sheet must stay small enough to gossip.
pub const MAX_REPLICAS: u32 = 10_000;
/// Completions of one job: the result of each is kept on all nodes.
pub const MAX_COMPLETIONS: u32 = 256;
/// Further tries of an index of a job.
pub const MAX_RETRIES: u32 = 100;
/// Runs of a cron workload that go on at one time, and completions of each: the results of as many
/// are kept.
pub const MAX_RUNS: u32 = 16;
/// Missed ticks of a cron workload that are run at once.
pub const MAX_MISSED: u32 = 8;
/// Environment variables of one workload.
pub const MAX_ENV: usize = 128;
/// Bytes of all environment names and values of one workload: a change must fit one gossip message.
pub const MAX_ENV_BYTES: usize = 16 * 1024;
/// Arguments of a component.
pub const MAX_ARGS: usize = 256;
/// Required labels of one workload, and labels of one node.
pub const MAX_LABELS: usize = 64;
/// The least memory limit: a plain Rust component needs about 2 MiB to instantiate.
pub const MIN_MEMORY: u64 = 2 * 1024 * 1024;
/// The greatest memory limit, 1 TiB: beyond it arithmetic on whole clusters could overflow.
pub const MAX_MEMORY: u64 = 1 << 40;
/// The greatest artifact.
pub const MAX_ARTIFACT: u64 = 1 << 36;
/// Memory where the user names none.
pub const DEFAULT_MEMORY: u64 = 64 * 1024 * 1024;
/// CPU where the user names none, in thousandths of a core.
pub const DEFAULT_CPU: u32 = 100;
/// The greatest CPU limit in thousandths of a core.
pub const MAX_CPU: u32 = 1_000_000;
/// The CPU limit of a container that has none: more cores than any device has. A number, so that
/// programs without this rule give it all cores of their device, which is the same.
pub const NO_CPU_LIMIT: u32 = MAX_CPU;

/// A valid spec. Only [`Spec::try_from`] makes one. Copies share it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "SpecForm", into = "SpecForm")]
pub struct Spec(Arc<Checked>);

#[derive(PartialEq, Eq, Debug)]
struct Checked {
    form: SpecForm,
    /// Computed once: every decision about a workload compares it.
    revision: Revision,
}

/// The open form of a [`Spec`]: frozen on the wire as version 2, not yet checked. What is `later`
/// stands behind it, in version 3: see [`Later`], which takes new fields until that is frozen, too.
///
/// **A new field stands here and in the API's JSON, [`SpecBody`](super::view::SpecBody)**, whose
/// conversions do not compile without it. For people who write it, `shoal::Workload`, which holds
/// a `SpecForm`, gets a method (node/src/publish/workload.rs), and the manifest's key
/// (node/src/manifest/mod.rs) and the option of `shoal run` (node/src/cli/run.rs) call that
/// method. Once the field is supported, its name leaves both lists in `not_yet.rs`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpecForm {
    /// `namespace/name`: one workload in the cluster has it.
    pub name: WorkloadName,
    /// The program that each replica runs.
    pub program: Program,
    /// How many replicas, and when they end.
    pub kind: Kind,
    /// The memory and CPU that each replica needs.
    pub resources: Requirements,
    /// Conditions on the nodes.
    pub placement: Placement,
    /// Health probes.
    pub health: Health,
    /// How replicas get a new revision.
    pub update: UpdatePolicy,
    /// When an ended replica is started again.
    pub restart: RestartPolicy,
    /// Names and ports besides `NAME.shoal` at the ingress.
    pub exposure: Exposure,
    /// Files that outlive a replica.
    pub storage: Vec<Volume>,
    /// The fields that came after version 2 was frozen.
    #[serde(skip)]
    pub later: Later,
}

/// The memory and CPU that a replica needs of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Requirements {
    /// Reserved at the node before the replica is awarded.
    pub reservation: Resources,
    /// The most that the replica may take. This version takes the reservation only.
    pub limit: Resources,
}

impl From<Resources> for Requirements {
    fn from(resources: Resources) -> Requirements {
        Requirements { reservation: resources, limit: resources }
    }
}

/// How a replica fares where the device has too little for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Qos {
    /// It may take what is reserved, and no more: it yields last.
    #[default]
    Guaranteed,
    /// It may take more than what is reserved.
    Burstable,
    /// Nothing is reserved: it yields first.
    BestEffort,
}

impl Qos {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "guaranteed",
            Qos::Burstable => "burstable",
            Qos::BestEffort => "best-effort",
        }
    }
}

impl SpecForm {
    /// A service of a component with the `wasi:http/proxy` world, without anything optional.
    pub fn wasm_service(
        name: WorkloadName,
        artifact: Artifact,
        replicas: u32,
        resources: Resources,
    ) -> SpecForm {
        let component = Component {
            artifact,
            world: World::Http,
            args: Vec::new(),
            env: BTreeMap::new(),
            allow: Vec::new(),
        };
        Self::service(name, Program::Wasm(component), replicas, resources)
    }

    fn service(
        name: WorkloadName,
        program: Program,
        replicas: u32,
        resources: Resources,
    ) -> SpecForm {
        SpecForm {
            name,
            program,
            kind: Kind::Service { replicas },
            resources: resources.into(),
            placement: Placement::default(),
            health: Health::default(),
            update: UpdatePolicy::default(),
            restart: RestartPolicy::default(),
            exposure: Exposure::default(),
            storage: Vec::new(),
            later: Later::default(),
        }
    }

    /// A service of one container, without anything optional.
    pub fn container_service(
        name: WorkloadName,
        container: Container,
        replicas: u32,
        resources: Resources,
    ) -> SpecForm {
        Self::service(name, Program::Containers(vec![container]), replicas, resources)
    }

    /// The environment of its component, or of its first container.
    pub fn env(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match &self.program {
            Program::Wasm(component) => &component.env,
            Program::Containers(containers) => {
                containers.first().map_or(&NONE, |container| &container.env)
            }
        }
    }

    /// The same with this environment of its component, or of its first container.
    pub fn with_env(mut self, env: BTreeMap<String, String>) -> SpecForm {
        match &mut self.program {
            Program::Wasm(component) => component.env = env,
            Program::Containers(containers) => {
                if let Some(container) = containers.first_mut() {
                    container.env = env;
                }
            }
        }
        self
    }

    /// The same with another component.
    pub fn with_artifact(mut self, artifact: Artifact) -> SpecForm {
        if let Program::Wasm(component) = &mut self.program {
            component.artifact = artifact;
        }
        self
    }

    /// The wanted number of replicas; 0 for a kind that names none.
    pub fn replicas(&self) -> u32 {
        self.kind.replicas().unwrap_or_default()
    }

    /// The number of replicas, where the spec alone says it: not of a kind that names none, and not
    /// of a service that is scaled by load.
    pub fn fixed_replicas(&self) -> Option<u32> {
        self.kind.replicas().filter(|_| self.later.autoscale.is_none())
    }

    /// The number of replicas at one time that a quota counts: of a daemon none, since that follows
    /// from the nodes; of a cron workload those of one run; the most of one that is scaled by load.
    pub fn at_once(&self) -> u32 {
        let most = self.later.autoscale.as_ref().map_or(self.replicas(), |scale| scale.max);
        self.kind.job().map_or(most, |job| job.parallel)
    }

    /// Whether its program needs this artifact.
    pub fn uses(&self, digest: &Digest) -> bool {
        self.program.artifacts().any(|artifact| artifact.digest == *digest)
    }

    /// The volume that a mount of a container is about; a valid spec has one for each.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.storage.iter().find(|volume| volume.name == name)
    }

    /// The secrets and configs of all its containers, or of its component.
    pub fn values(&self) -> impl Iterator<Item = &ValueUse> {
        let members = self.program.containers().iter().map(|it| &it.member);
        self.later.values.iter().chain(members.flat_map(|it| &it.values))
    }

    /// The probes of all its containers, or of its component, those that there are: each with the
    /// container that it asks, none for the main one.
    pub fn probes(&self) -> impl Iterator<Item = (Option<&Container>, &Health)> {
        let main = [(None, &self.health)];
        let others = self.program.containers().iter().map(|it| (Some(it), &it.member.health));
        main.into_iter().chain(others).filter(|(_, health)| !health.is_empty())
    }

    /// The volumes that nodes keep for its replicas.
    pub fn kept(&self) -> impl Iterator<Item = &Volume> {
        self.storage.iter().filter(|volume| volume.source == VolumeSource::Kept)
    }

    /// The ports of the device that each replica needs for itself: those that lead to it, and the
    /// one at which a container in the device's own network answers.
    pub fn host_ports(&self) -> BTreeSet<HostPort> {
        let published = self.exposure.ports.iter();
        let published = published.map(|it| HostPort { port: it.device, udp: it.udp });
        let own = self.program.containers().iter().filter(|it| it.network == NetworkMode::Host);
        let own = own.filter_map(|it| Some(HostPort { port: it.http?, udp: false }));
        published.chain(own).collect()
    }

    /// The paths of the device that a container mounts.
    pub fn device_paths<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let mounts = container.mounts.iter();
        mounts.filter_map(|mount| match &self.volume(&mount.volume)?.source {
            VolumeSource::Device(path) => Some(path.as_str()),
            VolumeSource::Kept | VolumeSource::Scratch => None,
        })
    }

    /// The memory and CPU that are reserved for each replica.
    pub fn reservation(&self) -> Resources {
        self.resources.reservation
    }

    /// All that is reserved for each replica.
    pub fn need(&self) -> Need {
        let size = if self.later.best_effort { Resources::default() } else { self.reservation() };
        Need { size, counted: self.later.uses.clone() }
    }

    /// Its class of service, as Kubernetes derives it.
    pub fn qos(&self) -> Qos {
        match self.resources.limit == self.resources.reservation {
            _ if self.later.best_effort => Qos::BestEffort,
            true => Qos::Guaranteed,
            false => Qos::Burstable,
        }
    }
}

/// Whether `text` may be a label's name or value: 1 to 63 of letters, digits, `-`, `_`, `.`, `/`.
pub fn is_label_text(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

impl TryFrom<SpecForm> for Spec {
    type Error = InvalidSpec;

    fn try_from(form: SpecForm) -> Result<Self, InvalidSpec> {
        if let Some(field) = not_yet::unsupported(&form) {
            return Err(InvalidSpec::NotSupported(field));
        }
        if form.replicas() > MAX_REPLICAS {
            return Err(InvalidSpec::Replicas(form.replicas()));
        }
        let Resources { memory, cpu } = form.reservation();
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&memory) {
            return Err(InvalidSpec::Memory(memory));
        }
        if !(1..=MAX_CPU).contains(&cpu) {
            return Err(InvalidSpec::Cpu(cpu));
        }
        for artifact in form.program.artifacts() {
            if !(1..=MAX_ARTIFACT).contains(&artifact.size) {
                return Err(InvalidSpec::Artifact(artifact.size));
            }
        }
        check_env(form.env())?;
        let Resources { memory: least, cpu: least_cpu } = form.reservation();
        let Resources { memory: most, cpu: most_cpu } = form.resources.limit;
        if most < least || most > MAX_MEMORY {
            return Err(InvalidSpec::MemoryLimit { limit: most, reservation: least });
        }
        if most_cpu < least_cpu || most_cpu > MAX_CPU {
            return Err(InvalidSpec::CpuLimit { limit: most_cpu, reservation: least_cpu });
        }
        if let Program::Containers(containers) = &form.program {
            container_checks::check(containers, most, &form)?;
            group::check(containers, &form)?;
            extra::check(containers, &form)?;
            hooks::check(containers)?;
        }
        kind::check(&form)?;
        if let Program::Wasm(component) = &form.program {
            check_args(&component.args)?;
        }
        rollout::check(&form)?;
        autoscale::check(&form)?;
        health::check(&form)?;
        later::check(&form)?;
        uses::check(&form)?;
        values::check(&form)?;
        let require = &form.placement.require;
        if require.len() > MAX_LABELS {
            return Err(InvalidSpec::LabelCount(require.len()));
        }
        for text in require.iter().flat_map(|(name, value)| [name, value]) {
            if !is_label_text(text) {
                return Err(InvalidSpec::Label(text.clone()));
            }
        }
        placement::check(&form)?;
        let revision = revision(&form);
        Ok(Spec(Arc::new(Checked { form, revision })))
    }
}

fn check_args(args: &[String]) -> Result<(), InvalidSpec> {
    let wrong = |why| Err(InvalidSpec::Container { field: "args", why });
    let bytes: usize = args.iter().map(String::len).sum();
    if args.len() > MAX_ARGS || bytes > MAX_ENV_BYTES {
        let n = args.len();
        return wrong(format!(
            "{n} arguments of {bytes} bytes, at most {MAX_ARGS} of {MAX_ENV_BYTES} are allowed"
        ));
    }
    match args.iter().any(|arg| arg.contains('\0')) {
        true => wrong("an argument contains a NUL byte".into()),
        false => Ok(()),
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), InvalidSpec> {
    if env.len() > MAX_ENV {
        return Err(InvalidSpec::EnvCount(env.len()));
    }
    let bytes = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ENV_BYTES {
        return Err(InvalidSpec::EnvBytes(bytes));
    }
    for (name, value) in env {
        check_env_name(name)?;
        if value.contains('\0') {
            return Err(InvalidSpec::EnvValue(name.clone()));
        }
    }
    Ok(())
}

fn check_env_name(name: &str) -> Result<(), InvalidSpec> {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !head || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(InvalidSpec::EnvName(name.to_owned()));
    }
    if name.starts_with("SHOAL_") {
        return Err(InvalidSpec::EnvReserved(name.to_owned()));
    }
    Ok(())
}

impl From<Spec> for SpecForm {
    fn from(spec: Spec) -> SpecForm {
        spec.0.form.clone()
    }
}

impl std::ops::Deref for Spec {
    type Target = SpecForm;

    fn deref(&self) -> &SpecForm {
        &self.0.form
    }
}

impl Spec {
    /// The hash of all parts whose change needs a restart: not the number of replicas, and not the
    /// nodes that they may run on.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The revision of its replicas while the secrets and configs that it uses are of these
    /// versions: another value is as good a reason to replace a replica as another image. `None`
    /// for a spec that uses none.
    pub fn revision_with(&self, versions: Option<Digest>) -> Revision {
        match versions {
            None => self.revision(),
            Some(versions) => Digest::of_parts(&[
                b"shoal/revision-with-values/1",
                self.revision().as_bytes(),
                versions.as_bytes(),
            ]),
        }
    }

    /// The same without the spec to go back to: what its author wrote.
    pub fn without_previous(&self) -> Spec {
        let mut form = self.0.form.clone();
        if form.later.previous.take().is_none() {
            return self.clone();
        }
        Spec(Arc::new(Checked { form, revision: self.0.revision }))
    }

    /// The same as an author signs it in place of `current`: if it is to be rolled back when its
    /// update fails, with the spec to go back to. That is the current one if it has proven good,
    /// else the one that this would go back to itself.
    pub fn replacing(&self, current: Option<&Spec>, is_good: bool) -> Spec {
        let rolls_back = |it: &Rollout| it.on_failure == OnFailure::RollBack;
        let mut form = self.0.form.clone();
        form.later.previous = current
            .filter(|_| form.later.rollout.as_ref().is_some_and(rolls_back))
            .and_then(|current| match current.revision() == self.revision() {
                true => current.later.previous.clone(),
                false if is_good => Some(current.without_previous()),
                false => {
                    let before = current.later.previous.clone();
                    before.or_else(|| Some(current.without_previous()))
                }
            });
        Spec(Arc::new(Checked { form, revision: self.0.revision }))
    }

    /// The same spec, of a revision of its own: all replicas are replaced.
    ///
    /// # Errors
    /// None but for a spec that was invalid before.
    pub fn restarted(&self) -> Result<Spec, InvalidSpec> {
        let mut form = self.0.form.clone();
        form.later.restarts = form.later.restarts.wrapping_add(1);
        form.try_into()
    }

    /// The same spec, restarted as often as another one that it is about to replace: a file that
    /// knows nothing of restarts undoes none. None if there is nothing to keep.
    pub fn with_restarts_of(&self, current: &Spec) -> Option<Spec> {
        let restarts = current.later.restarts;
        if self.later.restarts != 0 || restarts == 0 {
            return None;
        }
        let mut form = self.0.form.clone();
        form.later.restarts = restarts;
        form.try_into().ok()
    }

    /// The same spec with another number of replicas.
    ///
    /// # Errors
    /// It has none, as a daemon or a job, may not have so many, or is scaled by load.
    pub fn scaled(&self, replicas: u32) -> Result<Spec, InvalidSpec> {
        let Some(kind) = self.kind.with_replicas(replicas) else {
            let why = format!("a {} has no number of replicas", self.kind.as_str());
            return Err(InvalidSpec::Kind { field: "replicas", why });
        };
        if let Some(scale) = &self.later.autoscale {
            let why = format!(
                "it is scaled by load, from {} to {}: change `autoscale`",
                scale.min, scale.max
            );
            return Err(InvalidSpec::Kind { field: "replicas", why });
        }
        SpecForm { kind, ..self.0.form.clone() }.try_into()
    }
}

fn revision(form: &SpecForm) -> Revision {
    let mut bytes = codec::encode(&(
        &form.program,
        &form.resources,
        &form.health,
        &form.restart,
        &form.exposure,
        &form.storage,
    ));
    bytes.extend(form.later.revised());
    // A program that may end is started in another way than one that runs for ever.
    if form.kind.job().is_some() {
        bytes.extend(b"ends");
    }
    if let Some(members) = group::members(&form.program) {
        bytes.extend(codec::encode(&("group", members)));
    }
    if let Some(extras) = extra::extras(&form.program) {
        bytes.extend(codec::encode(&("extra", extras)));
    }
    if let Some(hooks) = hooks::hooks(&form.program) {
        bytes.extend(codec::encode(&("hooks", hooks)));
    }
    Revision::of(&bytes)
}
