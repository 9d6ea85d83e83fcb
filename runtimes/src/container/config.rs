//! Settings of the adapter.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use shoal_protocol::model::spec::Allowed;

use crate::artifacts::ArtifactStore;
use crate::status::StatusTable;

/// Settings of the adapter. [`Config::new`] has sane defaults.
#[derive(Clone)]
pub struct Config {
    /// The engine's socket. `None`: `$DOCKER_HOST` or `$CONTAINER_HOST` names it, or it is the
    /// first that exists of `/var/run/docker.sock`, `/run/podman/podman.sock`,
    /// `$XDG_RUNTIME_DIR/docker.sock` and `$XDG_RUNTIME_DIR/podman/podman.sock`.
    pub socket: Option<PathBuf>,
    /// The text that marks this node's containers, its id: others are never touched. 1 to 100
    /// letters, digits, `-`, `_` and `.`.
    pub owner: String,
    /// The store with the parts of images that nodes hold, so that no registry is needed.
    pub artifacts: Option<ArtifactStore>,
    /// The name server of its containers, by which they reach other workloads; none for the
    /// engine's own choice.
    pub dns: Option<Ipv4Addr>,
    /// The table for the states of its instances; a caller that has it can watch them before the
    /// engine is there.
    pub statuses: StatusTable,
    /// A folder for the containers' logs.
    pub logs: PathBuf,
    /// Bounds of the logs.
    pub log_limits: crate::logs::Limits,
    /// The rights that containers may have beyond those of an ordinary one. Some of them let a
    /// container take over the device.
    pub allowed: Allowed,
    /// The file with the credentials of registries, in the form of docker's `config.json`. `None`:
    /// those that `docker login` and `podman login` write, for the user of this process.
    pub credentials: Option<PathBuf>,
    /// How long an image that was loaded from its parts stays in the engine though nothing needs
    /// it: long enough to go back to the last version without loading it again.
    pub images_kept: Duration,
    /// Instances on this node, failed ones included.
    pub instances: usize,
    /// How long a container without an HTTP port must run before it counts as running: nothing
    /// else tells one that works from one that ends at once. 2 s.
    pub settle: Duration,
}

impl Config {
    /// The engine that is found, nothing allowed, unused images for a day, 1024 instances.
    pub fn new(owner: impl Into<String>, logs: impl Into<PathBuf>) -> Self {
        Config {
            socket: None,
            owner: owner.into(),
            artifacts: None,
            dns: None,
            statuses: StatusTable::new(),
            logs: logs.into(),
            log_limits: crate::logs::Limits::default(),
            allowed: Allowed::default(),
            credentials: None,
            images_kept: Duration::from_secs(24 * 3600),
            instances: 1024,
            settle: Duration::from_secs(2),
        }
    }
}
