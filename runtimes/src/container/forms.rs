//! The engine's answers, as far as the adapter reads them. All fields are optional, and states are
//! texts: each engine leaves out others, and Podman has states that Docker has not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use shoal_protocol::model::spec::Role;

use super::engine::{CONTAINER, ENDS, ORDER, ROLE};

use crate::model::{Traffic, Usage};

/// The answer to `/version`.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Version {
    pub version: Option<String>,
    pub api_version: Option<String>,
    pub arch: Option<String>,
    pub components: Option<Vec<Component>>,
}

/// A part of the engine; the first is the engine itself.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Component {
    pub name: Option<String>,
}

/// The answer to `/info`.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Info {
    /// The name of the device that it runs on.
    #[serde(rename = "Name")]
    pub name: Option<String>,
    #[serde(rename = "NCPU")]
    pub cpus: Option<u32>,
    #[serde(rename = "DockerRootDir")]
    pub data: Option<PathBuf>,
    #[serde(rename = "SecurityOptions")]
    pub security: Option<Vec<String>>,
}

/// A container in a list.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Listed {
    pub id: String,
    pub state: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
}

/// The answer with the engine's volumes.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Volumes {
    pub volumes: Option<Vec<ListedVolume>>,
}

/// A volume in a list.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListedVolume {
    pub name: Option<String>,
    pub mountpoint: Option<PathBuf>,
    pub labels: Option<BTreeMap<String, String>>,
}

impl ListedVolume {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }
}

/// An inspected container.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Inspected {
    pub state: Option<State>,
    pub network_settings: Option<NetworkSettings>,
    /// The id of its image.
    pub image: Option<String>,
    pub config: Option<Settings>,
}

/// The settings of an inspected container.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Settings {
    pub labels: Option<BTreeMap<String, String>>,
}

/// The state of an inspected container.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub status: Option<String>,
    pub exit_code: Option<i64>,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: Option<bool>,
    pub error: Option<String>,
    pub started_at: Option<String>,
}

/// The addresses of an inspected container.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    pub ip: Option<String>,
    #[serde(rename = "Networks")]
    pub networks: Option<BTreeMap<String, Option<Network>>>,
    #[serde(rename = "Ports")]
    pub ports: Option<BTreeMap<String, Option<Vec<Published>>>>,
}

/// A network that a container is in.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Network {
    #[serde(rename = "IPAddress")]
    pub ip: Option<String>,
}

/// A port of the device that leads to one of the container.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Published {
    pub host_port: Option<String>,
}

/// An image.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Image {
    pub architecture: Option<String>,
    pub id: Option<String>,
    pub repo_digests: Option<Vec<String>>,
    pub config: Option<ImageConfig>,
    /// The health check where Podman has it.
    pub healthcheck: Option<Healthcheck>,
}

impl Image {
    /// The settings for containers with the health check, wherever the engine has that.
    pub fn settings(self) -> ImageConfig {
        let config = self.config.unwrap_or_default();
        ImageConfig { healthcheck: config.healthcheck.or(self.healthcheck), ..config }
    }
}

/// The settings that an image has for its containers.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageConfig {
    pub healthcheck: Option<Healthcheck>,
    /// The shell that runs commands which are one text.
    pub shell: Option<Vec<String>>,
}

/// A health check, with times in nanoseconds. 0 stands for docker's default.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Healthcheck {
    pub test: Option<Vec<String>>,
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
    pub retries: Option<i64>,
}

/// An image in a list.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct ListedImage {
    #[serde(rename = "RepoTags")]
    pub tags: Option<Vec<String>>,
    #[serde(rename = "Size")]
    pub size: Option<u64>,
}

/// A line of a pull.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Pulling {
    pub id: Option<String>,
    pub status: Option<String>,
    #[serde(rename = "progressDetail")]
    pub progress_detail: Option<PullingDetail>,
    pub error: Option<String>,
    #[serde(rename = "errorDetail")]
    pub error_detail: Option<PullingError>,
}

/// Bytes of a layer that is pulled.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct PullingDetail {
    pub current: Option<u64>,
    pub total: Option<u64>,
}

/// Why a pull failed, which comes in its lines.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct PullingError {
    pub message: Option<String>,
}

impl Pulling {
    /// Why the pull failed, in the engine's words.
    pub fn failure(&self) -> Option<String> {
        let detail = self.error_detail.as_ref().and_then(|detail| detail.message.clone());
        detail.or_else(|| self.error.clone()).filter(|why| !why.is_empty())
    }
}

/// An event of a container.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "Action")]
    pub action: Option<String>,
    #[serde(rename = "Actor")]
    pub actor: Option<Actor>,
}

/// The container of an event.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub id: Option<String>,
    pub attributes: Option<BTreeMap<String, String>>,
}

/// Resources that a container uses.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Stats {
    pub memory_stats: Option<MemoryStats>,
    pub cpu_stats: Option<CpuStats>,
    pub networks: Option<BTreeMap<String, InterfaceStats>>,
    pub blkio_stats: Option<BlockStats>,
}

/// Bytes over a network interface of a container.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct InterfaceStats {
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
}

/// Bytes of block devices, by device and operation.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct BlockStats {
    pub io_service_bytes_recursive: Option<Vec<BlockEntry>>,
}

/// Bytes of one operation on one device.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct BlockEntry {
    pub op: Option<String>,
    pub value: Option<u64>,
}

impl BlockStats {
    fn traffic(&self) -> Traffic {
        // Docker has them in lower case on a kernel with version 2 of control groups.
        let of = |wanted: &str| {
            let entries = self.io_service_bytes_recursive.iter().flatten();
            let is_wanted =
                |it: &&BlockEntry| it.op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(wanted));
            sum(entries.filter(is_wanted).filter_map(|it| it.value))
        };
        Traffic { input: of("read"), output: of("write") }
    }
}

/// The sum of counters. An engine's counter may be anything: the greatest number stands for more.
fn sum(counters: impl Iterator<Item = u64>) -> u64 {
    counters.fold(0, u64::saturating_add)
}

/// Memory that a container uses.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct MemoryStats {
    pub usage: Option<u64>,
}

/// CPU time that a container used.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct CpuStats {
    pub cpu_usage: Option<CpuUsage>,
    pub throttling_data: Option<Throttling>,
}

/// Nanoseconds of CPU time.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct CpuUsage {
    pub total_usage: Option<u64>,
}

/// Nanoseconds for which a container was held back.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Throttling {
    pub throttled_time: Option<u64>,
}

/// The part of its life that a container is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It was made and never started.
    Created,
    /// Its program runs, or is frozen.
    Alive,
    /// Its program has ended.
    Ended,
}

/// The phase of a state's name. A name that is unknown counts as ended, as Podman's `stopped` does:
/// whatever it is, it does not run.
pub(super) fn phase(state: Option<&str>) -> Phase {
    match state.unwrap_or_default() {
        "created" | "configured" | "initialized" => Phase::Created,
        "running" | "paused" | "stopping" | "restarting" => Phase::Alive,
        _ => Phase::Ended,
    }
}

impl Listed {
    /// Whether it is one of a group.
    pub fn is_of_group(&self) -> bool {
        self.label(CONTAINER).is_some()
    }

    /// Its number in the order in which its group is started.
    pub fn order(&self) -> usize {
        self.label(ORDER).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Whether it ends after the others of its group.
    pub fn is_beside(&self) -> bool {
        self.label(ROLE).is_some_and(|role| role != Role::App.as_str())
    }

    pub fn phase(&self) -> Phase {
        phase(self.state.as_deref())
    }

    /// It came to its end, as it was to, and may still tell how.
    pub fn is_done(&self) -> bool {
        self.phase() == Phase::Ended && self.label(ENDS).is_some()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }
}

impl Inspected {
    pub fn label(&self, key: &str) -> Option<&str> {
        self.config.as_ref()?.labels.as_ref()?.get(key).map(String::as_str)
    }

    pub fn phase(&self) -> Phase {
        phase(self.state.as_ref().and_then(|state| state.status.as_deref()))
    }

    pub fn is_paused(&self) -> bool {
        self.state.as_ref().and_then(|state| state.status.as_deref()) == Some("paused")
    }

    /// The time of the last start, as the engine writes it.
    pub fn started_at(&self) -> Option<&str> {
        self.state.as_ref()?.started_at.as_deref()
    }

    /// The container's own address.
    pub fn address(&self) -> Option<IpAddr> {
        let settings = self.network_settings.as_ref()?;
        let networks = settings.networks.iter().flatten().filter_map(|(_, net)| net.as_ref());
        let all = settings.ip.iter().chain(networks.filter_map(|network| network.ip.as_ref()));
        all.filter_map(|ip| ip.parse().ok()).next()
    }

    /// The port of the device that leads to a TCP port of the container.
    pub fn published(&self, port: u16) -> Option<SocketAddr> {
        let ports = self.network_settings.as_ref()?.ports.as_ref()?;
        let published = ports.get(&format!("{port}/tcp"))?.as_ref()?.first()?;
        let port = published.host_port.as_ref()?.parse().ok().filter(|port| *port != 0)?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl Stats {
    /// The resources of this reading; `None` for that of a container that does not run, which has
    /// zeros.
    pub fn usage(&self) -> Option<Usage> {
        let cpu = self.cpu_stats.as_ref()?;
        let used = cpu.cpu_usage.as_ref()?.total_usage.filter(|used| *used > 0)?;
        let throttled = cpu.throttling_data.as_ref().and_then(|data| data.throttled_time);
        Some(Usage {
            memory: self.memory_stats.as_ref().and_then(|memory| memory.usage).unwrap_or(0),
            cpu: Duration::from_nanos(used),
            throttled: Duration::from_nanos(throttled.unwrap_or(0)),
            active: 0,
            // A container in the device's network, or in none, has no interface of its own.
            network: self.networks.as_ref().filter(|all| !all.is_empty()).map(|all| Traffic {
                input: sum(all.values().filter_map(|it| it.rx_bytes)),
                output: sum(all.values().filter_map(|it| it.tx_bytes)),
            }),
            disk: self.blkio_stats.as_ref().map(BlockStats::traffic),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields are missing, null and empty, in turn, as both engines have them.
    #[test]
    fn addresses_are_found_in_the_forms_of_both_engines() {
        let docker = r#"{"State":{"Status":"running"},"NetworkSettings":{"IPAddress":"172.17.0.2",
            "Networks":{"bridge":{"IPAddress":"172.17.0.2"}},
            "Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"49153"}],"81/tcp":null}}}"#;
        let docker: Inspected = serde_json::from_str(docker).unwrap();
        assert_eq!(docker.address(), Some([172, 17, 0, 2].into()));
        assert_eq!(docker.published(80), Some(([127, 0, 0, 1], 49153).into()));
        assert_eq!(docker.published(81), None);
        let podman = r#"{"State":{"Status":"stopped"},"NetworkSettings":{"IPAddress":"",
            "Networks":{"podman":{"IPAddress":"10.88.0.2"}},"Ports":null}}"#;
        let podman: Inspected = serde_json::from_str(podman).unwrap();
        assert_eq!(podman.address(), Some([10, 88, 0, 2].into()));
        assert_eq!((podman.published(80), podman.phase()), (None, Phase::Ended));
        let nothing: Inspected = serde_json::from_str("{}").unwrap();
        assert_eq!((nothing.address(), nothing.phase()), (None, Phase::Ended));
    }

    /// Docker has no entries before the first read, and Podman words of its own.
    #[test]
    fn traffic_is_read_in_the_forms_of_both_engines() {
        let usage = |text: &str| {
            let text = format!(r#"{{"cpu_stats":{{"cpu_usage":{{"total_usage":1}}}},{text}}}"#);
            let usage = serde_json::from_str::<Stats>(&text).unwrap().usage().unwrap();
            let pair = |it: Traffic| (it.input, it.output);
            (usage.network.map(pair), usage.disk.map(pair))
        };
        let docker = r#""networks":{"eth0":{"rx_bytes":7,"tx_bytes":1},"eth1":{"rx_bytes":1}},
            "blkio_stats":{"io_service_bytes_recursive":[{"major":8,"op":"read","value":5},
            {"major":8,"op":"write","value":2},{"major":9,"op":"read","value":1}]}"#;
        assert_eq!(usage(docker), (Some((8, 1)), Some((6, 2))));
        let none = r#""blkio_stats":{"io_service_bytes_recursive":null}"#;
        assert_eq!(usage(none), (None, Some((0, 0))), "in the device's network");
        let podman = r#""networks":{"podman":{"rx_bytes":7,"tx_bytes":1}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":5},
            {"op":"Write","value":2},{"op":"Total","value":7}]}"#;
        assert_eq!(usage(podman), (Some((7, 1)), Some((5, 2))));
        assert_eq!(usage(r#""memory_stats":{}"#), (None, None));
        let absurd = r#""networks":{"a":{"rx_bytes":18446744073709551615},"b":{"rx_bytes":9}}"#;
        assert_eq!(usage(absurd), (Some((u64::MAX, 0)), None));
    }
}
