//! What a person wishes to run. Valid by construction: the wire's and the manifest's forms become a
//! [`Spec`] by `TryFrom`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::codec;
use super::id::Digest;
use super::name::WorkloadName;
use super::replica::Revision;
use super::resources::Resources;

/// The newest spec form this program understands. Newer ones are kept and relayed byte for byte,
/// neither owned nor bid on.
pub const SPEC_VERSION: u16 = 1;
/// Replicas of one workload: a sheet must stay small enough to gossip.
pub const MAX_REPLICAS: u32 = 10_000;
/// Environment variables of one workload.
pub const MAX_ENV: usize = 128;
/// Bytes of all environment names and values of one workload: a change must fit one gossip message.
pub const MAX_ENV_BYTES: usize = 16 * 1024;
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

/// What runs a workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RuntimeKind {
    /// A WebAssembly component with the `wasi:http/proxy` world.
    Wasm,
}

impl RuntimeKind {
    /// The word users see.
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeKind::Wasm => "wasm",
        }
    }
}

/// The bytes to run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

/// A named wish. Only [`Spec::try_from`] makes one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "SpecForm", into = "SpecForm")]
pub struct Spec {
    form: SpecForm,
    /// Computed once: every decision about a workload compares it.
    revision: Revision,
}

/// The open form of a [`Spec`]: frozen on the wire as version [`SPEC_VERSION`], not yet checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpecForm {
    /// `namespace/name`.
    pub name: WorkloadName,
    /// What runs it.
    pub runtime: RuntimeKind,
    /// What to run.
    pub artifact: Artifact,
    /// How many at once, 0 to [`MAX_REPLICAS`].
    pub replicas: u32,
    /// What each replica needs.
    pub resources: Resources,
    /// Environment of each replica.
    pub env: BTreeMap<String, String>,
    /// Labels a node must have, all of them.
    pub require: BTreeMap<String, String>,
}

/// Why a spec cannot be. Each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidSpec {
    #[error("replicas: {0} is more than {MAX_REPLICAS}")]
    Replicas(u32),
    #[error("memory: {0} bytes is outside {MIN_MEMORY} (2 MiB) to {MAX_MEMORY} (1 TiB)")]
    Memory(u64),
    #[error("cpu: {0} thousandths of a core is outside 1 to {MAX_CPU}")]
    Cpu(u32),
    #[error("artifact: {0} bytes is outside 1 to {MAX_ARTIFACT}")]
    Artifact(u64),
    #[error("env: {0} variables, at most {MAX_ENV} are allowed")]
    EnvCount(usize),
    #[error("env: {0} bytes in all, at most {MAX_ENV_BYTES} are allowed")]
    EnvBytes(usize),
    #[error(
        "env: `{0}` is not a variable name (letters, digits and `_`, not starting with a digit)"
    )]
    EnvName(String),
    #[error("env: the value of `{0}` contains a NUL byte")]
    EnvValue(String),
    #[error("env: `{0}` is set by shoal itself; names starting with SHOAL_ are reserved")]
    EnvReserved(String),
    #[error("require: {0} labels, at most {MAX_LABELS} are allowed")]
    LabelCount(usize),
    #[error("require: `{0}` is not a label (1 to 63 letters, digits, `-`, `_`, `.` and `/`)")]
    Label(String),
}

/// Whether `text` may be a label's name or value: 1 to 63 of letters, digits, `-`, `_`, `.`, `/`.
pub fn is_label_text(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

impl TryFrom<SpecForm> for Spec {
    type Error = InvalidSpec;

    fn try_from(form: SpecForm) -> Result<Self, InvalidSpec> {
        if form.replicas > MAX_REPLICAS {
            return Err(InvalidSpec::Replicas(form.replicas));
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&form.resources.memory) {
            return Err(InvalidSpec::Memory(form.resources.memory));
        }
        if !(1..=MAX_CPU).contains(&form.resources.cpu) {
            return Err(InvalidSpec::Cpu(form.resources.cpu));
        }
        if !(1..=MAX_ARTIFACT).contains(&form.artifact.size) {
            return Err(InvalidSpec::Artifact(form.artifact.size));
        }
        check_env(&form.env)?;
        if form.require.len() > MAX_LABELS {
            return Err(InvalidSpec::LabelCount(form.require.len()));
        }
        for text in form.require.iter().flat_map(|(name, value)| [name, value]) {
            if !is_label_text(text) {
                return Err(InvalidSpec::Label(text.clone()));
            }
        }
        let revision = revision(&form);
        Ok(Spec { form, revision })
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
        let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !head || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(InvalidSpec::EnvName(name.clone()));
        }
        if name.starts_with("SHOAL_") {
            return Err(InvalidSpec::EnvReserved(name.clone()));
        }
        if value.contains('\0') {
            return Err(InvalidSpec::EnvValue(name.clone()));
        }
    }
    Ok(())
}

impl From<Spec> for SpecForm {
    fn from(spec: Spec) -> SpecForm {
        spec.form
    }
}

impl std::ops::Deref for Spec {
    type Target = SpecForm;

    fn deref(&self) -> &SpecForm {
        &self.form
    }
}

impl Spec {
    /// The hash of all parts whose change needs a restart: not the number of replicas, and not the
    /// nodes that they may run on.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The same spec with another number of replicas.
    pub fn scaled(&self, replicas: u32) -> Result<Spec, InvalidSpec> {
        SpecForm { replicas, ..self.form.clone() }.try_into()
    }
}

fn revision(form: &SpecForm) -> Revision {
    Revision::of(&codec::encode(&(form.runtime, form.artifact, form.resources, &form.env)))
}

/// The static facts of a node, by which it is asked to bid or not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// CPU architecture as Rust names it, `x86_64` or `aarch64`.
    pub arch: String,
    /// What it can run.
    pub runtimes: BTreeSet<RuntimeKind>,
    /// Labels its owner gave it.
    pub labels: BTreeMap<String, String>,
    /// What it offers to workloads in all.
    pub capacity: Resources,
}

/// Why a node cannot run a spec, by static facts alone.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error,
)]
#[allow(missing_docs)]
pub enum Unfit {
    #[error("no {} runtime", .0.as_str())]
    Runtime(RuntimeKind),
    #[error("label {name}={value} is required")]
    Label { name: String, value: String },
    #[error("{} MiB of memory required, more than the node has", .0 / (1024 * 1024))]
    Memory(u64),
    #[error("{0} thousandths of a core required, more than the node has")]
    Cpu(u32),
}

impl Facts {
    /// The first requirement of `spec` that these facts fail.
    pub fn fits(&self, spec: &Spec) -> Result<(), Unfit> {
        if !self.runtimes.contains(&spec.runtime) {
            return Err(Unfit::Runtime(spec.runtime));
        }
        for (name, value) in &spec.require {
            if self.labels.get(name) != Some(value) {
                return Err(Unfit::Label { name: name.clone(), value: value.clone() });
            }
        }
        if spec.resources.memory > self.capacity.memory {
            return Err(Unfit::Memory(spec.resources.memory));
        }
        if spec.resources.cpu > self.capacity.cpu {
            return Err(Unfit::Cpu(spec.resources.cpu));
        }
        Ok(())
    }
}
