//! The program of a workload.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::id::Digest;
use super::container::Container;
use super::platform::{PIECE, Pieces, PlatformImage};

/// The program that each replica of a workload runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Program {
    /// A WebAssembly component.
    Wasm(Component),
    /// A group of containers that share a network and a life, like a Kubernetes pod. The first one
    /// is the main one.
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// `wasi:http/proxy`: it answers requests.
    #[default]
    Http,
    /// `wasi:cli/command`: it runs to its end.
    Command,
}

impl World {
    /// The word that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            World::Http => "http",
            World::Command => "command",
        }
    }
}

impl FromStr for World {
    type Err = String;

    fn from_str(text: &str) -> Result<World, String> {
        let found = [World::Http, World::Command].into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("`{text}`: `http` or `command`"))
    }
}

/// A permission of a component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Connections to this host and port, as in `db.local:5432`.
    Connect(String),
}

/// A component, or a part of an image: bytes under their hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
}

impl Artifact {
    /// The digests that it has in a list of pieces: none if it is a single piece.
    pub fn pieces(&self) -> u64 {
        if self.size > PIECE { self.size.div_ceil(PIECE) } else { 0 }
    }
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
    /// Whether its replicas answer HTTP requests.
    pub fn answers(&self) -> bool {
        match self {
            Program::Wasm(component) => component.world == World::Http,
            Program::Containers(containers) => containers.iter().any(|it| it.http.is_some()),
        }
    }

    /// Its containers; none of a component.
    pub fn containers(&self) -> &[Container] {
        match self {
            Program::Wasm(_) => &[],
            Program::Containers(containers) => containers,
        }
    }

    /// The kind of runtime that it needs.
    pub fn kind(&self) -> ProgramKind {
        match self {
            Program::Wasm(_) => ProgramKind::Wasm,
            Program::Containers(_) => ProgramKind::Container,
        }
    }

    /// All artifacts that some device needs: those of an image for each of its platforms.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact> + Clone + '_ {
        self.artifacts_on(None)
    }

    /// The artifacts that a device of this architecture must hold before the program can start;
    /// those of every architecture for none.
    pub fn artifacts_on<'a>(
        &'a self,
        arch: Option<&'a str>,
    ) -> impl Iterator<Item = Artifact> + Clone + 'a {
        let component = self.component().map(|component| component.artifact);
        let containers = self.containers().iter().enumerate();
        // Two of a group may be of one image, which is fetched once.
        let platforms = containers.filter(|(at, it)| {
            let earlier = self.containers().iter().take(*at);
            !earlier.into_iter().any(|other| other.image.platforms == it.image.platforms)
        });
        let platforms = platforms.flat_map(|(_, it)| &it.image.platforms);
        let platforms = platforms.filter(move |it| arch.is_none_or(|arch| it.arch == arch));
        component.into_iter().chain(platforms.flat_map(PlatformImage::parts))
    }

    /// The same with the pieces that they are made of, as far as it names any.
    pub fn in_pieces_on<'a>(
        &'a self,
        arch: &'a str,
    ) -> impl Iterator<Item = (Artifact, Option<Pieces>)> + 'a {
        let component = self.component().map(|component| (component.artifact, None));
        let platforms = self.platforms(Some(arch));
        component.into_iter().chain(platforms.flat_map(PlatformImage::parts_in_pieces))
    }

    fn component(&self) -> Option<&Component> {
        match self {
            Program::Wasm(component) => Some(component),
            Program::Containers(_) => None,
        }
    }

    pub(super) fn containers_mut(&mut self) -> &mut [Container] {
        match self {
            Program::Wasm(_) => &mut [],
            Program::Containers(containers) => containers,
        }
    }

    /// The platforms of all its images, for their pieces.
    pub(super) fn platforms_mut(&mut self) -> impl Iterator<Item = &mut PlatformImage> {
        self.containers_mut().iter_mut().flat_map(|container| &mut container.image.platforms)
    }

    pub(super) fn platforms<'a>(
        &'a self,
        arch: Option<&'a str>,
    ) -> impl Iterator<Item = &'a PlatformImage> + Clone + 'a {
        let platforms = self.containers().iter().flat_map(|container| &container.image.platforms);
        platforms.filter(move |platform| arch.is_none_or(|arch| platform.arch == arch))
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
