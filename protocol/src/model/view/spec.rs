//! A workload's spec as JSON: in requests of the API, and the source of what a view shows of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::id::{Digest, hex};
use super::super::name::{NotALabel, WorkloadName};
use super::super::resources::Resources;
use super::super::spec::{
    Artifact, Component, InvalidSpec, Kind, Placement, Program, ProgramKind, Requirements, Spec,
    SpecForm,
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
    /// The runtime: `wasm` is the only one.
    pub runtime: String,
    /// The component to run.
    pub artifact: ArtifactBody,
    /// The wanted number of replicas.
    pub replicas: u32,
    /// Bytes a replica may take.
    pub memory: u64,
    /// Thousandths of a core a replica may take.
    pub cpu: u32,
    /// Environment of each replica.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels a node must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
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
            resources: Requirements { reservation: Resources { memory, cpu }, limit: _ },
            placement: Placement { require, prefer: _, spread: _, affinity: _, tolerate: _ },
            health: _,
            update: _,
            restart: _,
            exposure: _,
            storage: _,
        } = &**spec;
        let (Program::Wasm(component), Kind::Service { replicas }) = (program, kind) else {
            unreachable!("a valid spec is a service of a component: no other is supported yet")
        };
        let Component { artifact: Artifact { digest, size }, world: _, args: _, env, allow: _ } =
            component;
        SpecBody {
            name: full_name(name),
            runtime: program.kind().to_string(),
            artifact: ArtifactBody { digest: *digest, size: *size },
            replicas: *replicas,
            memory: *memory,
            cpu: *cpu,
            env: env.clone(),
            require: require.clone(),
        }
    }
}

/// Why a [`SpecBody`] is not a valid spec.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadSpec {
    #[error("name: {0}")]
    Name(#[from] NotALabel),
    #[error("runtime: `{0}` is not known; this version runs `wasm`")]
    Runtime(String),
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
}

impl TryFrom<SpecBody> for Spec {
    type Error = BadSpec;

    fn try_from(body: SpecBody) -> Result<Spec, BadSpec> {
        let SpecBody { name, runtime, artifact, replicas, memory, cpu, env, require } = body;
        if runtime != ProgramKind::Wasm.to_string() {
            return Err(BadSpec::Runtime(runtime));
        }
        let ArtifactBody { digest, size } = artifact;
        let (artifact, resources) = (Artifact { digest, size }, Resources { memory, cpu });
        let mut form =
            SpecForm::wasm_service(name.parse()?, artifact, replicas, resources).with_env(env);
        form.placement.require = require;
        Ok(Spec::try_from(form)?)
    }
}

/// `namespace/name`, also for the default namespace, which programs should not have to know.
pub fn full_name(name: &WorkloadName) -> String {
    format!("{}/{}", name.namespace, name.name)
}
