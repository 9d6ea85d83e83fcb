//! The program of a workload.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::id::Digest;
use super::super::resources::Resources;

/// The program that each replica of a workload runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Program {
    /// A WebAssembly component.
    Wasm(Component),
    /// A group of containers that share a network and a life, like a Kubernetes pod. Not
    /// supported yet: its form may change until it is.
    Containers(Vec<Container>),
}

/// A WebAssembly component and its surroundings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Component {
    /// The bytes of the component.
    pub artifact: Artifact,
    /// The world that it implements.
    pub world: World,
    /// The arguments of a command.
    pub args: Vec<String>,
    /// Its environment; names that start with `SHOAL_` are set by shoal.
    pub env: BTreeMap<String, String>,
    /// The hosts that it may reach besides its own requests.
    pub allow: Vec<Permission>,
}

/// The WIT world that a component implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum World {
    /// `wasi:http/proxy`: it answers requests.
    Http,
    /// `wasi:cli/command`: it runs to its end.
    Command,
}

/// A permission of a component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Connections to this host and port, as in `db.local:5432`.
    Connect(String),
}

/// A container of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The name within the group, a DNS label.
    pub name: String,
    /// The image reference, as in `docker.io/library/redis:7`.
    pub image: String,
    /// Replaces the image's entry point, when it is not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments, when it is not empty.
    pub args: Vec<String>,
    /// Its environment, besides the image's.
    pub env: BTreeMap<String, String>,
    /// Its share of the replica's limit; none for all of it.
    pub limit: Option<Resources>,
}

/// The bytes of a component.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
}

/// The kind of a program, by which a node finds the runtime for it. On the wire it is a number: a
/// node may have runtimes that an older program does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProgramKind {
    /// WebAssembly components.
    Wasm,
    /// Groups of containers from OCI images.
    Container,
    /// A kind of a newer program, by its number.
    Other(u16),
}

impl Program {
    /// The kind of runtime that it needs.
    pub fn kind(&self) -> ProgramKind {
        match self {
            Program::Wasm(_) => ProgramKind::Wasm,
            Program::Containers(_) => ProgramKind::Container,
        }
    }

    /// The artifacts that must be on a device before it can start.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact> {
        match self {
            Program::Wasm(component) => Some(component.artifact),
            Program::Containers(_) => None,
        }
        .into_iter()
    }
}

impl ProgramKind {
    fn number(self) -> u16 {
        match self {
            ProgramKind::Wasm => 0,
            ProgramKind::Container => 1,
            ProgramKind::Other(number) => number,
        }
    }
}

impl fmt::Display for ProgramKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramKind::Wasm => f.write_str("wasm"),
            ProgramKind::Container => f.write_str("container"),
            ProgramKind::Other(number) => write!(f, "unknown-{number}"),
        }
    }
}

impl Serialize for ProgramKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ProgramKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match u16::deserialize(deserializer)? {
            0 => ProgramKind::Wasm,
            1 => ProgramKind::Container,
            number => ProgramKind::Other(number),
        })
    }
}
