//! A workload's spec as JSON: in requests of the API, and the source of what a view shows of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::id::{Digest, hex};
use super::super::name::{Label, NotALabel, WorkloadName};
use super::super::resources::{Amounts, Resources};
use super::super::spec::{
    Artifact, Autoscale, Component, Container, Exposure, Health, InvalidSpec, Kind, Later, Mount,
    Placement, Port, Program, Requirements, Rollout, Rule, Spec, SpecForm, ValueUse, Volume, World,
};

/// A workload's spec as JSON.
///
/// **It is the second of the two places of a field**; the first is
/// [`SpecForm`](super::super::spec::SpecForm), which says what else a new field needs. Its
/// conversions name every field of both.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecBody {
    /// The workload, as `namespace/name`.
    pub name: String,
    /// The runtime: `wasm` or `container`.
    pub runtime: String,
    /// The component to run, for `wasm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactBody>,
    /// The world of the component, for `wasm`: `http`, or `command` for one that runs as a program.
    #[serde(default, skip_serializing_if = "is_http")]
    pub world: World,
    /// The arguments of a command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The container to run, for `container`. Its environment is `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The other containers of its group, each with its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Container>,
    /// The kind, where it is no service: its replicas are not counted, or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// How replicas get a new revision; without it, all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Rollout>,
    /// The spec to go back to when the update fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<SpecBody>>,
    /// How many replicas there are by their load; without it, `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// The wanted number of replicas of a service; 0 for other kinds.
    pub replicas: u32,
    /// Bytes of memory that are reserved for a replica.
    pub memory: u64,
    /// Thousandths of a core that are reserved for a replica.
    pub cpu: u32,
    /// The most that a replica may take; without it, what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Resources>,
    /// Environment of each replica.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels a node must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// The volumes that the container's mounts are about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<Volume>,
    /// Ports of the device that lead to ports of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The places of a component's volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The standard input of the container's program stays open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// The container's program has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// TCP ports that the container's image names, besides those that the workload names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<u16>,
    /// The secrets and configs that replicas get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueUse>,
    /// The health probes.
    #[serde(default, skip_serializing_if = "Health::is_empty")]
    pub health: Health,
    /// What a node must fulfil besides `require`, as in `arch in (arm64, x86_64)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What makes a node better, with its weight, as in `disk = ssd:80`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    /// The labels over whose values the replicas are spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<String>,
    /// Workloads to be on the same nodes as, or on others: `near shop/db`, `apart shop/db:50`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<String>,
    /// Taints that do not keep it away: `NAME`, `NAME=VALUE` or `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerate: Vec<String>,
    /// The set of workloads that it was published with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Label>,
    /// Raised to replace all replicas without another change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// What each replica takes of its node beside memory and CPU, by name; bytes of `disk`.
    #[serde(default, skip_serializing_if = "Amounts::is_empty")]
    pub resources: Amounts,
    /// Nothing of `memory` and `cpu` is reserved: they are the most that it may take.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
    /// A greater one goes first where there is no room for all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Workloads that it waits for before it is placed for the first time: `db`, `migrate:done`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// The health check that the container's image names does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_healthcheck: bool,
}

fn is_default(number: &i32) -> bool {
    *number == 0
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An artifact: the bytes' hash and size.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactBody {
    /// SHA-256 of the bytes.
    #[serde(with = "hex")]
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

impl From<&Spec> for SpecBody {
    fn from(spec: &Spec) -> SpecBody {
        // The parts without a name here have their default in every valid spec of this version.
        let SpecForm {
            name,
            program,
            kind,
            resources: Requirements { reservation, limit },
            placement: Placement { require, prefer, spread, affinity, tolerate },
            health,
            update: _,
            restart: _,
            exposure: Exposure { hosts: _, ports },
            storage,
            later,
        } = &**spec;
        let Later { stdin, tty, exposed, values, require: rules, .. } = later;
        let Later { set, restarts, rollout, previous, autoscale, .. } = later;
        let Later { uses, best_effort, priority, mounts, after, no_healthcheck, .. } = later;
        let (mut world, mut args) = (World::Http, Vec::new());
        let others = program.containers().iter().skip(1).cloned().collect();
        let (artifact, container) = match program {
            Program::Wasm(component) => {
                let Component { artifact, env: _, allow: _, .. } = component;
                (world, args) = (component.world, component.args.clone());
                let Artifact { digest, size } = *artifact;
                (Some(ArtifactBody { digest, size }), None)
            }
            Program::Containers(containers) => {
                let container = containers.first().cloned();
                let bare = |it: Container| Container { env: BTreeMap::new(), ..it };
                (None, container.map(bare))
            }
        };
        SpecBody {
            name: full_name(name),
            runtime: program.kind().to_string(),
            artifact,
            world,
            args,
            container,
            others,
            kind: Some(kind.clone()).filter(|kind| !matches!(kind, Kind::Service { .. })),
            update: rollout.clone(),
            previous: previous.as_ref().map(|spec| Box::new(SpecBody::from(spec))),
            autoscale: autoscale.clone(),
            replicas: kind.replicas().unwrap_or_default(),
            memory: reservation.memory,
            cpu: reservation.cpu,
            limit: (limit != reservation).then_some(*limit),
            env: spec.env().clone(),
            require: require.clone(),
            storage: storage.clone(),
            ports: ports.clone(),
            mounts: mounts.clone(),
            stdin: *stdin,
            tty: *tty,
            exposed: exposed.clone(),
            values: values.clone(),
            health: health.clone(),
            rules: texts(rules),
            prefer: texts(prefer),
            spread: spread.clone(),
            affinity: texts(affinity),
            tolerate: texts(tolerate),
            set: set.clone(),
            restarts: *restarts,
            resources: uses.clone(),
            best_effort: *best_effort,
            priority: *priority,
            after: texts(after),
            no_healthcheck: *no_healthcheck,
        }
    }
}

fn is_http(world: &World) -> bool {
    *world == World::Http
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(T::to_string).collect()
}

/// The rules of a list, which stands in a field of this name.
fn read<T: FromStr<Err: Display>>(
    field: &'static str,
    all: Vec<String>,
) -> Result<Vec<T>, BadSpec> {
    let one = |text: String| {
        text.parse().map_err(|error: T::Err| BadSpec::Rule(field, error.to_string()))
    };
    all.into_iter().map(one).collect()
}

/// Why a [`SpecBody`] is not a valid spec.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadSpec {
    #[error("name: {0}")]
    Name(#[from] NotALabel),
    #[error("runtime: `{0}` is not known; this version runs `wasm` and `container`")]
    Runtime(String),
    #[error("runtime: `{0}` needs `{1}`, and nothing else to run")]
    Program(&'static str, &'static str),
    #[error("{0}: {1}")]
    Rule(&'static str, String),
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
}

impl TryFrom<SpecBody> for Spec {
    type Error = BadSpec;

    fn try_from(body: SpecBody) -> Result<Spec, BadSpec> {
        let SpecBody {
            name,
            runtime,
            artifact,
            world,
            args,
            container,
            others,
            kind,
            update,
            previous,
            autoscale,
            replicas,
            memory,
            cpu,
            limit,
            env,
            require,
            storage,
            ports,
            mounts,
            stdin,
            tty,
            exposed,
            values,
            health,
            rules,
            prefer,
            spread,
            affinity,
            tolerate,
            set,
            restarts,
            resources: uses,
            best_effort,
            priority,
            after,
            no_healthcheck,
        } = body;
        let (name, resources) = (name.parse()?, Resources { memory, cpu });
        let form = match (runtime.as_str(), artifact, container) {
            ("wasm", Some(ArtifactBody { digest, size }), None) => {
                SpecForm::wasm_service(name, Artifact { digest, size }, replicas, resources)
            }
            ("container", None, Some(container)) => {
                SpecForm::container_service(name, container, replicas, resources)
            }
            ("wasm", ..) => return Err(BadSpec::Program("wasm", "artifact")),
            ("container", ..) => return Err(BadSpec::Program("container", "container")),
            _ => return Err(BadSpec::Runtime(runtime)),
        };
        let mut form = form.with_env(env);
        match &mut form.program {
            Program::Wasm(_) if !others.is_empty() => {
                return Err(BadSpec::Program("wasm", "artifact"));
            }
            Program::Wasm(component) => (component.world, component.args) = (world, args),
            Program::Containers(_) if world != World::Http || !args.is_empty() => {
                return Err(BadSpec::Program("container", "container"));
            }
            Program::Containers(containers) => containers.extend(others),
        }
        if let Some(limit) = limit {
            form.resources.limit = limit;
        }
        form.placement = Placement {
            require,
            prefer: read("prefer", prefer)?,
            spread,
            affinity: read("affinity", affinity)?,
            tolerate: read("tolerate", tolerate)?,
        };
        let rules = read::<Rule>("rules", rules)?;
        if let Some(kind) = kind {
            form.kind = kind;
        }
        form.storage = storage;
        form.exposure.ports = ports;
        form.health = health;
        let previous = previous.map(|body| Spec::try_from(*body)).transpose()?;
        form.later = Later {
            stdin,
            tty,
            exposed,
            values,
            require: rules,
            set,
            restarts,
            rollout: update,
            previous,
            autoscale,
            uses,
            best_effort,
            priority,
            mounts,
            after: read("after", after)?,
            no_healthcheck,
        };
        form.check_end()?;
        Ok(Spec::try_from(form)?)
    }
}

/// `namespace/name`, also for the default namespace, which programs should not have to know.
pub fn full_name(name: &WorkloadName) -> String {
    format!("{}/{}", name.namespace, name.name)
}
