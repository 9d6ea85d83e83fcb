//! A workload as a person describes it, before its bytes are read and hashed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use shoal_protocol::model::name::NotALabel;
use shoal_protocol::model::spec::{DEFAULT_CPU, DEFAULT_MEMORY, InvalidSpec};
use shoal_protocol::model::{Artifact, Resources, Spec, SpecForm, WorkloadName};

/// A component, its source, and its size.
///
/// ```
/// let workload = shoal::Workload::wasm("hello", "hello.wasm")?.replicas(2).env("GREETING", "hi");
/// # Ok::<(), shoal::protocol::model::name::NotALabel>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// The name for people; also the host name.
    pub name: WorkloadName,
    /// The source of its bytes.
    pub source: Source,
    /// The wanted number of replicas.
    pub replicas: u32,
    /// Limits of each replica: memory in bytes is a hard limit, CPU is in thousandths of a core.
    pub resources: Resources,
    /// Environment of each replica.
    pub env: BTreeMap<String, String>,
    /// Labels a node must have, all of them.
    pub require: BTreeMap<String, String>,
}

/// The source of a workload's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a file, read when the workload is published.
    File(PathBuf),
    /// In memory.
    Bytes(Bytes),
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

impl Workload {
    /// A WebAssembly component with the `wasi:http/proxy` world, one replica and default limits.
    /// `name` is `hello` or `namespace/hello`.
    pub fn wasm(name: &str, source: impl Into<Source>) -> Result<Workload, NotALabel> {
        Ok(Workload {
            name: name.parse()?,
            source: source.into(),
            replicas: 1,
            resources: Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU },
            env: BTreeMap::new(),
            require: BTreeMap::new(),
        })
    }

    /// Sets the wanted number of replicas.
    pub fn replicas(self, replicas: u32) -> Workload {
        Workload { replicas, ..self }
    }

    /// Sets the hard limit of a replica's memory, in bytes.
    pub fn memory(mut self, bytes: u64) -> Workload {
        self.resources.memory = bytes;
        self
    }

    /// Sets a replica's share of CPU, in thousandths of a core.
    pub fn cpu(mut self, millicores: u32) -> Workload {
        self.resources.cpu = millicores;
        self
    }

    /// Sets a variable in the environment of each replica.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Workload {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Requires a label of the nodes that run it.
    pub fn require(mut self, name: impl Into<String>, value: impl Into<String>) -> Workload {
        self.require.insert(name.into(), value.into());
        self
    }

    /// The spec to sign, once the artifact is known.
    pub fn spec(&self, artifact: Artifact) -> Result<Spec, InvalidSpec> {
        let (name, resources) = (self.name.clone(), self.resources);
        let mut form = SpecForm::wasm_service(name, artifact, self.replicas, resources)
            .with_env(self.env.clone());
        form.placement.require = self.require.clone();
        Spec::try_from(form)
    }
}
