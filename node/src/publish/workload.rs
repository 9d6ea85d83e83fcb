//! A workload as a person describes it, before its bytes are read and hashed: in a manifest, by
//! options of `shoal run`, or in a program. All three end here.

use std::path::PathBuf;

use bytes::Bytes;
use shoal_protocol::model::name::NotALabel;
use shoal_protocol::model::spec::{DEFAULT_CPU, DEFAULT_MEMORY, InvalidSpec, Kind, Program};
use shoal_protocol::model::{Artifact, Digest, Resources, Spec, SpecForm, WorkloadName};

/// A component, its source, and its size. A new field of [`SpecForm`] gets a method here.
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
        Ok(Self::component(name.parse()?, source.into()))
    }

    /// The same for a name that was parsed already.
    pub fn component(name: WorkloadName, source: Source) -> Workload {
        let resources = Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU };
        Workload { form: SpecForm::wasm_service(name, UNREAD, 1, resources), source }
    }

    /// Sets the wanted number of replicas.
    pub fn replicas(mut self, replicas: u32) -> Workload {
        self.form.kind = Kind::Service { replicas };
        self
    }

    /// Sets the hard limit of a replica's memory, in bytes.
    pub fn memory(self, bytes: u64) -> Workload {
        let reservation = self.form.reservation();
        self.resources(Resources { memory: bytes, ..reservation })
    }

    /// Sets a replica's share of CPU, in thousandths of a core.
    pub fn cpu(self, millicores: u32) -> Workload {
        let reservation = self.form.reservation();
        self.resources(Resources { cpu: millicores, ..reservation })
    }

    fn resources(mut self, resources: Resources) -> Workload {
        self.form.resources = resources.into();
        self
    }

    /// Sets a variable in the environment of each replica.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Workload {
        self.envs([(name.into(), value.into())])
    }

    /// Sets several variables in the environment of each replica.
    pub fn envs(mut self, all: impl IntoIterator<Item = (String, String)>) -> Workload {
        if let Program::Wasm(component) = &mut self.form.program {
            component.env.extend(all);
        }
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

    /// The name for people; also the host name.
    pub fn name(&self) -> &WorkloadName {
        &self.form.name
    }

    /// The source of its bytes.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The spec to sign, once the artifact is known.
    pub fn spec(&self, artifact: Artifact) -> Result<Spec, InvalidSpec> {
        Spec::try_from(self.form.clone().with_artifact(artifact))
    }
}
