//! The containers of a program, and the images that they run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::id::Digest;
use super::super::resources::Resources;
use super::extra::Extra;
use super::group::{self, Member};
use super::hooks::Hooks;
use super::platform::PlatformImage;

/// A container of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The name within the group, a DNS label.
    pub name: String,
    /// The image that it is made of.
    pub image: Image,
    /// Replaces the image's entry point; none keeps it, an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's arguments; none keeps them.
    pub command: Option<Vec<String>>,
    /// Its environment, besides the image's. Names that start with `SHOAL_` are set by shoal.
    pub env: BTreeMap<String, String>,
    /// `USER` or `USER:GROUP`, by number or by a name of the image.
    pub user: Option<String>,
    /// The absolute path of the working directory.
    pub workdir: Option<String>,
    /// Its host name; none for the replica's.
    pub hostname: Option<String>,
    /// Labels of the container, besides those that shoal sets.
    pub labels: BTreeMap<String, String>,
    /// Its network.
    pub network: NetworkMode,
    /// Its TCP port that answers HTTP requests for the workload; none if it answers none.
    pub http: Option<u16>,
    /// Where the replica's volumes are in it.
    pub mounts: Vec<Mount>,
    /// Files in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// A small init process reaps orphans and passes signals on.
    pub init: bool,
    /// The signal that asks it to end, as in `SIGTERM`; none for the image's.
    pub stop_signal: Option<String>,
    /// The time that it has to end before it is killed; none for five seconds.
    pub stop_grace: Option<Duration>,
    /// Bytes of `/dev/shm`; none for 64 MiB.
    pub shm_size: Option<u64>,
    /// Limits of its processes, by `nofile` and the like.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of its own network and IPC.
    pub sysctls: BTreeMap<String, String>,
    /// Its rights beyond those of an ordinary container.
    pub privileges: Privileges,
    /// Its share of the replica's limit; none for all of it.
    pub limit: Option<Resources>,
    /// Its part in a group of several, and the rest that it has there.
    #[serde(default, skip_serializing_if = "Member::is_default", with = "group::in_text")]
    pub member: Member,
    /// Names and name servers of its own, further groups, and variables that its node fills in.
    #[serde(default, skip_serializing_if = "Extra::is_default", with = "group::in_text")]
    pub extra: Extra,
    /// Commands beside its program, after its start and before its end.
    #[serde(default, skip_serializing_if = "Hooks::is_default", with = "group::in_text")]
    pub hooks: Hooks,
}

/// An image, and the way to its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The reference as a person wrote it, as in `docker.io/library/redis:7`.
    pub reference: String,
    /// The digest of the registry's manifest or index: all replicas run the same bytes.
    pub digest: Option<Digest>,
    /// When the engine asks the registry.
    pub pull: PullPolicy,
    /// The image's parts in the artifact store, one entry for each platform. Without an entry for
    /// its platform, the engine of a node pulls the image by its digest; with no entries at all, by
    /// its reference, or it has it.
    pub platforms: Vec<PlatformImage>,
}

/// When the engine asks a registry for an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// When the device does not have it.
    #[default]
    Missing,
    /// At each start.
    Always,
    /// Never: the device must have it.
    Never,
}

/// The network of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Its own address on the engine's bridge.
    #[default]
    Bridge,
    /// The device's own network.
    Host,
    /// None but its loopback.
    None,
}

/// A volume of the replica in a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The absolute path in the container.
    pub path: String,
    /// The container cannot write it.
    pub read_only: bool,
}

/// Files in memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// The absolute path in the container.
    pub path: String,
    /// The most bytes; none for half of the device's memory.
    pub size: Option<u64>,
    /// Files in it may be executed.
    pub exec: bool,
}

/// A limit of processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ulimit {
    /// The limit that counts.
    pub soft: i64,
    /// The most that the soft limit may be raised to.
    pub hard: i64,
}

/// Rights of a container beyond those of an ordinary one. A node refuses what its own configuration
/// does not allow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privileges {
    /// All of the below and more: the container can do what root on the device can.
    pub privileged: bool,
    /// Capabilities added, as in `NET_ADMIN`.
    pub cap_add: Vec<String>,
    /// Capabilities dropped, as in `ALL`.
    pub cap_drop: Vec<String>,
    /// Devices of the node in the container.
    pub devices: Vec<Device>,
    /// Options of the engine's security modules, as in `no-new-privileges`.
    pub security: Vec<String>,
}

/// A device of the node in a container, which may read, write and create it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The path on the node, as in `/dev/ttyUSB0`.
    pub host: String,
    /// The path in the container.
    pub path: String,
}

impl Image {
    /// An image that the engine has or pulls.
    pub fn named(reference: impl Into<String>) -> Image {
        Image {
            reference: reference.into(),
            digest: None,
            pull: PullPolicy::default(),
            platforms: Vec::new(),
        }
    }

    /// The image of this architecture among those whose parts nodes hold.
    pub fn parts_on(&self, arch: &str) -> Option<&PlatformImage> {
        self.platforms.iter().find(|platform| platform.arch == arch)
    }

    /// Whether the engine of a node of this architecture provides the image: it has no parts at
    /// all, or none for this architecture while a registry has the others under its digest.
    pub fn comes_from_engine_on(&self, arch: &str) -> bool {
        let asks_registry = self.digest.is_some() && self.pull != PullPolicy::Never;
        self.parts_on(arch).is_none() && (self.platforms.is_empty() || asks_registry)
    }
}

impl Container {
    /// A container of an image, without anything optional.
    pub fn of(name: impl Into<String>, image: Image) -> Container {
        Container {
            name: name.into(),
            image,
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            hostname: None,
            labels: BTreeMap::new(),
            network: NetworkMode::default(),
            http: None,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            read_only: false,
            init: false,
            stop_signal: None,
            stop_grace: None,
            shm_size: None,
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            privileges: Privileges::default(),
            limit: None,
            member: Member::default(),
            extra: Extra::default(),
            hooks: Hooks::default(),
        }
    }
}
