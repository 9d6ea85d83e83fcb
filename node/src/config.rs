//! How a daemon is set up: `config.json` in its state folder. `shoal up` writes there what its
//! flags say, so that the next start needs none; a person may edit it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::spec::{MAX_CPU, MAX_LABELS, MAX_MEMORY, MIN_MEMORY, is_label_text};
use shoal_protocol::model::{Facts, Resources, RuntimeKind};

use crate::manifest::quantity;
use crate::nearest::did_you_mean;
use crate::publish::{FileError, files};

/// The file in the state folder.
pub const FILE: &str = "config.json";
/// Bytes of a node's name: it stands in tables and in every record.
const MAX_NAME: usize = 63;
/// What is offered to workloads where nobody says otherwise, in percent of the memory: the rest is
/// for the system and for shoal itself.
const OFFERED_PERCENT: u64 = 75;

/// How a daemon is set up. Every field may be left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What people call this device, 1 to 63 of letters, digits, `-`, `_` and `.`. Where null: the
    /// host's name.
    pub name: Option<String>,
    /// Where other nodes connect, `IP:PORT`. `0.0.0.0` is every interface; port 0 is any free one,
    /// the last one if it is still free.
    pub listen: SocketAddr,
    /// Where clients of workloads connect, `IP:PORT`. As `listen`.
    pub http: SocketAddr,
    /// Where others shall be told to reach this node, `IP:PORT`: behind a router that forwards a
    /// port. Where empty: the addresses of its interfaces.
    pub advertise: Vec<SocketAddr>,
    /// Whether members look for one another on the local network. Off where packets are paid for,
    /// or are nobody's business.
    pub mdns: bool,
    /// Nodes to dial until the cluster is known, `HOST:PORT`; what the join line named. At most 16.
    pub seeds: Vec<String>,
    /// What workloads can require, as in `{"zone": "shop"}`. At most 64, each name and value 1 to
    /// 63 letters, digits, `-_./`.
    pub labels: BTreeMap<String, String>,
    /// Memory offered to workloads, as in `512MiB`. Where null: three quarters of what the device
    /// has.
    pub memory: Option<String>,
    /// CPU offered to workloads in cores, as in `1.5`. Where null: all.
    pub cpu: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        Config {
            name: None,
            listen: any(7700),
            http: any(8080),
            advertise: Vec::new(),
            mdns: true,
            seeds: Vec::new(),
            labels: BTreeMap::new(),
            memory: None,
            cpu: None,
        }
    }
}

/// Why a daemon cannot be set up so. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("{}: {message}", file.display())]
    Wrong { file: PathBuf, message: String, hint: Option<String> },
    #[error(
        "name: `{0}` is not a node's name: 1 to {MAX_NAME} letters, digits, `-`, `_` and `.` are \
            expected"
    )]
    Name(String),
    #[error(
        "labels: `{0}` is not a label: 1 to 63 letters, digits, `-`, `_`, `.` and `/` are expected"
    )]
    Label(String),
    #[error("labels: there are {0}, at most {MAX_LABELS} are allowed")]
    Labels(usize),
    #[error("memory: {0}")]
    Memory(String),
    #[error("cpu: {0}")]
    Cpu(String),
    #[error("advertise: `{0}` is not an address that others can dial")]
    Advertise(SocketAddr),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Config {
    /// What stands in `state`'s file; the default when there is none.
    pub fn load(state: &Path) -> Result<Config, ConfigError> {
        let file = state.join(FILE);
        let Some(text) = files::read(&file)? else { return Ok(Config::default()) };
        serde_json::from_str(&text).map_err(|error| {
            let message = error.to_string();
            let hint = unknown_field(&message).and_then(|field| did_you_mean(field, FIELDS));
            ConfigError::Wrong { file, message, hint }
        })
    }

    /// Writes it, unless it stands there just so.
    pub fn save(&self, state: &Path) -> Result<(), ConfigError> {
        let there = Config::load(state);
        if there.is_ok_and(|there| there == *self) && state.join(FILE).exists() {
            return Ok(());
        }
        Ok(files::write_json(&state.join(FILE), self)?)
    }

    /// The node's name: the one set, or the host's.
    pub fn node_name(&self) -> Result<String, ConfigError> {
        match &self.name {
            Some(name) if is_name(name) => Ok(name.clone()),
            Some(name) => Err(ConfigError::Name(name.clone())),
            None => Ok(host_name()),
        }
    }

    /// What this device offers, checked.
    pub fn facts(&self) -> Result<Facts, ConfigError> {
        self.node_name()?;
        if self.labels.len() > MAX_LABELS {
            return Err(ConfigError::Labels(self.labels.len()));
        }
        if let Some(wrong) = self
            .labels
            .iter()
            .flat_map(|(name, value)| [name, value])
            .find(|text| !is_label_text(text))
        {
            return Err(ConfigError::Label(wrong.clone()));
        }
        if let Some(wrong) = self
            .advertise
            .iter()
            .find(|address| address.port() == 0 || address.ip().is_unspecified())
        {
            return Err(ConfigError::Advertise(*wrong));
        }
        let memory = match &self.memory {
            None => device_memory() * OFFERED_PERCENT / 100,
            Some(text) => {
                quantity::size(text).map_err(|error| ConfigError::Memory(error.to_string()))?
            }
        };
        if memory > MAX_MEMORY {
            return Err(ConfigError::Memory(format!(
                "{} is more than {}",
                quantity::show_size(memory),
                quantity::show_size(MAX_MEMORY)
            )));
        }
        // A number whose unit was forgotten would take the node out of every auction, and what it
        // runs off it.
        if (1..MIN_MEMORY).contains(&memory) {
            return Err(ConfigError::Memory(format!(
                "{} is less than any workload can have ({}): give a unit, as in `512MiB`, or 0 to \
                    offer none",
                quantity::show_size(memory),
                quantity::show_size(MIN_MEMORY)
            )));
        }
        let cpu = match &self.cpu {
            None => device_cpu(),
            Some(text) => {
                quantity::cpu(text).map_err(|error| ConfigError::Cpu(error.to_string()))?
            }
        };
        if cpu > MAX_CPU {
            return Err(ConfigError::Cpu(format!(
                "{} cores are more than {}",
                quantity::show_cpu(cpu),
                MAX_CPU / 1000
            )));
        }
        Ok(Facts {
            arch: std::env::consts::ARCH.into(),
            runtimes: BTreeSet::from([RuntimeKind::Wasm]),
            labels: self.labels.clone(),
            capacity: Resources { memory, cpu },
        })
    }
}

impl ConfigError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Wrong { hint: Some(hint), .. } => Some(hint.clone()),
            ConfigError::Wrong { .. } => {
                Some("Mend it, or delete it and give `shoal up` its flags again.".into())
            }
            ConfigError::Name(_) => Some("Choose one with --name.".into()),
            ConfigError::Label(_)
            | ConfigError::Labels(_)
            | ConfigError::Memory(_)
            | ConfigError::Cpu(_)
            | ConfigError::Advertise(_)
            | ConfigError::File(_) => None,
        }
    }
}

/// Where a node keeps its state when nobody says otherwise.
pub fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/shoal".into();
    }
    home_folder("XDG_STATE_HOME", ".local/state").join("shoal")
}

/// Where an operator's key is when nobody says otherwise.
pub fn default_operator() -> PathBuf {
    home_folder("XDG_CONFIG_HOME", ".config").join("shoal")
}

fn home_folder(variable: &str, below_home: &str) -> PathBuf {
    // The XDG specification: a relative path is to be ignored.
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.unwrap_or_else(|| std::env::home_dir().unwrap_or_else(|| "/".into()).join(below_home))
}

const FIELDS: [&str; 9] =
    ["name", "listen", "http", "advertise", "mdns", "seeds", "labels", "memory", "cpu"];

fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    if name.is_empty() { "node".into() } else { name }
}

/// Bytes this process may use: the device's memory, or less where a control group says so.
#[expect(clippy::useless_conversion, reason = "the kernel's figure has 32 bits on 32-bit devices")]
fn device_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let installed =
        u64::try_from(info.totalram).unwrap_or(u64::MAX).saturating_mul(u64::from(info.mem_unit));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    installed.min(group.unwrap_or(u64::MAX)).min(MAX_MEMORY)
}

/// Thousandths of a core this process may use, its control group and affinity respected.
fn device_cpu() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(1000).min(MAX_CPU)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the documentation.
    const EXAMPLE: &str = r#"{
        "name": null,
        "listen": "0.0.0.0:7700",
        "http": "0.0.0.0:8080",
        "advertise": [],
        "mdns": true,
        "seeds": [],
        "labels": {},
        "memory": null,
        "cpu": null
    }"#;

    #[test]
    fn example_config_is_the_default_with_every_field() {
        assert_eq!(serde_json::from_str::<Config>(EXAMPLE).unwrap(), Config::default());
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(fields.keys().map(String::as_str).collect::<BTreeSet<_>>(), FIELDS.into());
    }

    #[test]
    fn saved_config_is_loaded_again() {
        let state = tempfile::tempdir().unwrap();
        let config = Config {
            name: Some("till-3".into()),
            memory: Some("1GiB".into()),
            ..Config::default()
        };
        config.save(state.path()).unwrap();
        assert_eq!(Config::load(state.path()).unwrap(), config);
        assert_eq!(Config::load(&state.path().join("none")).unwrap(), Config::default());
    }

    /// A slip in a key that was ignored would leave the default in force without a word.
    #[test]
    fn unknown_key_is_refused_with_the_nearest() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), r#"{"lable": {}}"#).unwrap();
        let error = Config::load(state.path()).unwrap_err();
        assert!(error.to_string().contains("unknown field `lable`"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("Did you mean `labels`?"));
    }

    /// Each invalid setting is named, among them a memory size whose unit was forgotten.
    #[test]
    fn invalid_offers_are_refused() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.facts().unwrap_err().to_string()
        };
        assert!(wrong(|config| config.name = Some("a b".into())).starts_with("name: `a b`"));
        assert!(wrong(|config| config.memory = Some("much".into())).starts_with("memory: `much`"));
        assert!(
            wrong(|config| config.memory = Some("512".into())).starts_with("memory: 512 B is less")
        );
        assert!(wrong(|config| config.cpu = Some("2GHz".into())).starts_with("cpu: `2GHz`"));
        assert!(
            wrong(|config| drop(config.labels.insert("a b".into(), "c".into())))
                .starts_with("labels: `a b`")
        );
        assert!(
            wrong(|config| config.advertise.push("0.0.0.0:1".parse().unwrap()))
                .starts_with("advertise:")
        );
    }

    #[test]
    fn default_offer_is_not_empty() {
        let facts = Config { labels: [("zone".into(), "shop".into())].into(), ..Config::default() }
            .facts()
            .unwrap();
        assert!(facts.capacity.memory > 0 && facts.capacity.cpu >= 1000 / 100);
        assert_eq!(facts.labels["zone"], "shop");
    }
}
