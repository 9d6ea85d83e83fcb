//! The plain types that every module here shares: instances, launches, bodies.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Container, NetworkMode, Port, Qos, Role};

use crate::given::Given;

/// The cause of a body's early end.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request or of an answer, streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body of bytes that are known already.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The greatest length of an [`InstanceId`] in bytes: a name, a namespace and an index fit.
const MAX_ID: usize = 200;

/// The caller's name for an instance. Unique on this node and stable over restarts, since logs are
/// found by it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

/// A text that cannot be an [`InstanceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an instance: 1 to {MAX_ID} visible ASCII characters are expected")]
pub struct InvalidInstanceId(pub String);

impl InstanceId {
    /// An id of 1 to 200 visible ASCII characters.
    ///
    /// # Errors
    /// The text is empty, too long, or has other characters.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidInstanceId> {
        let text = text.into();
        let fits = (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(InstanceId(text)) } else { Err(InvalidInstanceId(text)) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

impl Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An instance to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// The name under which it is stopped, asked and looked up.
    pub id: InstanceId,
    /// The workload's name as users know it, for messages only.
    pub workload: String,
    /// The program.
    pub payload: Payload,
    /// The whole environment: nothing of the host's is added.
    pub env: BTreeMap<String, String>,
    /// Bytes of memory, a hard limit for all its requests together.
    pub memory: u64,
    /// Thousandths of a core, a limit over time; each adapter says how it treats bursts.
    pub cpu: u32,
    /// Thousandths of a core that are reserved: its share where instances compete for the device.
    pub cpu_reserved: u32,
    /// How it fares where the device has too little for all.
    pub qos: Qos,
    /// Its secrets and configs. An instance's id changes with them.
    pub given: Given,
    /// Its program is to come to an end by itself, which is then no failure.
    pub ends: bool,
    /// The volumes of a component; those of a container are in its payload.
    pub folders: Vec<Folder>,
}

/// A volume that a component has as a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// The volume.
    pub key: VolumeKey,
    /// The absolute path at which the component finds it.
    pub path: String,
    /// The component cannot change it.
    pub read_only: bool,
}

/// The program of a launch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A component that answers requests, whose bytes are in the artifact store.
    Component(Digest),
    /// A component that runs as a program does.
    Command(Command),
    /// A container.
    Container(Box<ContainerPayload>),
}

/// A component of the world `wasi:cli/command`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The component, whose bytes are in the artifact store.
    pub component: Digest,
    /// Its arguments, after the workload's name.
    pub args: Vec<String>,
}

impl From<Digest> for Payload {
    fn from(component: Digest) -> Payload {
        Payload::Component(component)
    }
}

/// A container to run, or a group of several. The environment of the main one, memory and CPU are
/// those of the launch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPayload {
    /// The image and the options, without an environment of its own: of a group the main one.
    pub container: Container,
    /// The other containers of its group, each with its whole environment.
    pub others: Vec<Container>,
    /// The host name where the container names none.
    pub hostname: String,
    /// Ports of the device that lead to it.
    pub ports: Vec<Port>,
    /// The sources of its mounts, by the names of their volumes.
    pub volumes: BTreeMap<String, VolumeOf>,
    /// Its program's standard input stays open, so that a session can write to it.
    pub stdin: bool,
    /// Its program has a terminal.
    pub tty: bool,
    /// Its TCP ports that the node probes, in order and each once.
    pub probed: Vec<u16>,
}

/// The source of a mount.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub enum VolumeOf {
    /// A path of the device, which must exist.
    Device(String),
    /// A volume that the node keeps.
    Kept(VolumeKey),
    /// A folder of the instance by this name: empty when it is made, gone with its stop.
    Scratch(String),
}

/// A volume that a node keeps. It outlives the instances that mount it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub struct VolumeKey {
    /// The workload, as `namespace/name`.
    pub workload: String,
    /// The place of the replica, as in `0`.
    pub place: String,
    /// The volume's name within the workload.
    pub name: String,
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.workload, self.place, self.name)
    }
}

impl ContainerPayload {
    /// All containers, the main one first.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        [&self.container].into_iter().chain(&self.others)
    }

    /// Whether there are several.
    pub fn is_group(&self) -> bool {
        !self.others.is_empty()
    }

    /// All containers as they are started: init containers and sidecars in their order, then the
    /// others, the main one first.
    pub fn in_order(&self) -> Vec<&Container> {
        let (apps, before): (Vec<_>, Vec<_>) =
            self.containers().partition(|it| it.member.role == Role::App);
        before.into_iter().chain(apps).collect()
    }

    /// The port that answers HTTP, of whichever container.
    pub fn http(&self) -> Option<u16> {
        self.containers().find_map(|it| it.http)
    }

    fn sources(&self) -> impl Iterator<Item = &VolumeOf> {
        let mounts = self.containers().flat_map(|it| &it.mounts);
        mounts.filter_map(|mount| self.volumes.get(&mount.volume))
    }

    /// The paths of the device that a container mounts.
    pub fn device_paths_of<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = &'a str> {
        container.mounts.iter().filter_map(|mount| match self.volumes.get(&mount.volume)? {
            VolumeOf::Device(path) => Some(path.as_str()),
            VolumeOf::Kept(_) | VolumeOf::Scratch(_) => None,
        })
    }

    /// The volumes of the node that it mounts, one that several mount as often.
    pub fn kept(&self) -> impl Iterator<Item = &VolumeKey> {
        self.sources().filter_map(|source| match source {
            VolumeOf::Kept(key) => Some(key),
            VolumeOf::Device(_) | VolumeOf::Scratch(_) => None,
        })
    }

    /// The names of the folders that go with it.
    pub fn scratch(&self) -> impl Iterator<Item = &str> {
        self.sources().filter_map(|source| match source {
            VolumeOf::Scratch(name) => Some(name.as_str()),
            VolumeOf::Device(_) | VolumeOf::Kept(_) => None,
        })
    }
}

impl Launch {
    /// Whether the same is to run. Secrets do not count: those of a running instance are what they
    /// were at its start, and other ones come under another id.
    pub fn is_as(&self, other: &Launch) -> bool {
        let Launch { id, workload, payload, env, memory, cpu, .. } = self;
        let Launch { cpu_reserved, qos, given: _, ends, folders, .. } = self;
        (id, workload, payload, env) == (&other.id, &other.workload, &other.payload, &other.env)
            && (*memory, *cpu, *cpu_reserved) == (other.memory, other.cpu, other.cpu_reserved)
            && (*qos, *ends, folders) == (other.qos, other.ends, &other.folders)
    }

    /// Its environment with the variables that are kept from people.
    pub fn whole_env(&self) -> impl Iterator<Item = (&str, &str)> {
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        env.chain(self.given.variables())
    }

    /// Whether it needs something that no other instance of its replica may have at the same time:
    /// a volume, a device, or a port of the device.
    pub fn is_exclusive(&self) -> bool {
        let Payload::Container(payload) = &self.payload else { return !self.folders.is_empty() };
        let container = &payload.container;
        payload.kept().next().is_some()
            || !payload.ports.is_empty()
            || payload.containers().any(|it| !it.privileges.devices.is_empty())
            || container.network == NetworkMode::Host
    }
}

/// An instance that the engine runs, for a caller that reconciles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The id of its launch.
    pub id: InstanceId,
}

/// Resources that an instance uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes of memory at this moment.
    pub memory: u64,
    /// CPU time since it was started.
    pub cpu: Duration,
    /// Time for which its CPU limit held it back since it was started.
    pub throttled: Duration,
    /// Requests that are being answered at this moment.
    pub active: u32,
    /// Bytes over its own network since it was started; none where nobody counts them.
    pub network: Option<Traffic>,
    /// Bytes of disks since it was started; none where nobody counts them.
    pub disk: Option<Traffic>,
}

impl Usage {
    /// What two use together.
    #[cfg(feature = "container")]
    pub(crate) fn plus(self, other: Usage) -> Usage {
        let sum = |a: Option<Traffic>, b: Option<Traffic>| match (a, b) {
            (Some(a), Some(b)) => Some(Traffic {
                input: a.input.saturating_add(b.input),
                output: a.output.saturating_add(b.output),
            }),
            (a, b) => a.or(b),
        };
        Usage {
            memory: self.memory.saturating_add(other.memory),
            cpu: self.cpu.saturating_add(other.cpu),
            throttled: self.throttled.saturating_add(other.throttled),
            active: self.active.saturating_add(other.active),
            network: sum(self.network, other.network),
            disk: sum(self.disk, other.disk),
        }
    }
}

/// Bytes in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Received, or read.
    pub input: u64,
    /// Sent, or written.
    pub output: u64,
}
