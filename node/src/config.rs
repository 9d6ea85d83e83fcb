//! The configuration of a daemon: `config.json` in its state folder. `shoal up` writes its flags
//! there, so that the next start needs none; a person may edit it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::spec::{
    Allowed, MAX_ALLOWED, MAX_CPU, MAX_DISK, MAX_LABELS, MAX_MEMORY, MIN_MEMORY, NotAnAllowance,
    is_label_text, wrong_amount, wrong_amounts,
};
use shoal_protocol::model::{Amounts, DISK, Facts, ProgramKind, Resources};

use crate::facts::{self, Sources};
use crate::manifest::quantity;
use crate::nearest::did_you_mean;
use crate::publish::{FileError, files};

/// The file in the state folder.
pub const FILE: &str = "config.json";
/// Bytes of a node's name, which is part of tables and of every record.
const MAX_NAME: usize = 63;
/// The default share of memory offered to workloads, in percent: the rest is for the system and for
/// shoal itself.
const OFFERED_PERCENT: u64 = 75;

/// The configuration of a daemon. Every field may be left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's name for people, 1 to 63 letters, digits, `-`, `_` and `.`. If null: the host's
    /// name.
    pub name: Option<String>,
    /// The address for other nodes, `IP:PORT`. `0.0.0.0` is every interface; port 0 is any free
    /// one, and the last one if it is still free.
    pub listen: SocketAddr,
    /// The address for clients of workloads, `IP:PORT`. As `listen`.
    pub http: SocketAddr,
    /// The addresses to announce to other nodes, `IP:PORT`, for example of a router that forwards a
    /// port. If empty: the addresses of the interfaces.
    pub advertise: Vec<SocketAddr>,
    /// Whether members search one another on the local network. Turn it off where packets cost
    /// money or must stay private.
    pub mdns: bool,
    /// Nodes to dial until the cluster is known, `HOST:PORT`, from the invite. At most 16.
    pub seeds: Vec<String>,
    /// Labels that workloads can require, as in `{"zone": "shop"}`. At most 64, each name and value
    /// 1 to 63 letters, digits, `-._/`.
    pub labels: BTreeMap<String, String>,
    /// Memory offered to workloads, as in `512MiB`. If null: three quarters of the device's.
    pub memory: Option<String>,
    /// CPU offered to workloads in cores, as in `1.5`. If null: all cores.
    pub cpu: Option<String>,
    /// Disk offered to workloads, as in `10GiB`. If null: three quarters of the file system of the
    /// state folder.
    pub disk: Option<String>,
    /// What else workloads can reserve, by name, as in `{"camera": 1, "gpu": 2}`. At most 32
    /// names, as those of labels, each 1 to 1000000.
    pub resources: BTreeMap<String, u64>,
    /// The socket of the container engine, as in `/run/podman/podman.sock`, or `none` to run no
    /// containers. If null: the one that is found.
    pub engine: Option<String>,
    /// The rights that this node allows containers beyond those of an ordinary one, as in
    /// `["device=/dev/ttyUSB*", "path=/data", "cap=NET_ADMIN", "host-network"]`; also
    /// `security=OPTION`, and `privileged`, which is all of it. At most 64.
    pub allow: Vec<String>,
    /// The group whose members may use the API's socket, as its owner may, by name or number. If
    /// null: the owner alone.
    pub socket_group: Option<String>,
    /// A file with facts of this node that rules of workloads may be about, a line `NAME=VALUE`
    /// each. It is read every 10 seconds.
    pub facts_file: Option<PathBuf>,
    /// A program, with its arguments, that prints such lines, as in `["/usr/local/bin/measure"]`.
    /// It has 5 seconds. If empty: none.
    pub facts_command: Vec<String>,
    /// The pause between two runs of it, at least `10s`. If null: `30s`.
    pub facts_every: Option<String>,
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
            disk: None,
            resources: BTreeMap::new(),
            engine: None,
            allow: Vec::new(),
            socket_group: None,
            facts_file: None,
            facts_command: Vec::new(),
            facts_every: None,
        }
    }
}

/// Why the configuration is refused. Nothing was changed.
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
    #[error("disk: {0}")]
    Disk(String),
    #[error("resources: {0}")]
    Resources(String),
    #[error("allow: {0}")]
    Allow(#[from] NotAnAllowance),
    #[error("allow: there are {0}, at most {MAX_ALLOWED} are allowed")]
    Allowances(usize),
    #[error("facts_every: {0}")]
    FactsEvery(String),
    #[error("facts_file: `{}` is no absolute path", .0.display())]
    FactsFile(PathBuf),
    #[error("advertise: `{0}` is not an address that others can dial")]
    Advertise(SocketAddr),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Config {
    /// Reads the file in `state`; the default when there is none.
    pub fn load(state: &Path) -> Result<Config, ConfigError> {
        let file = state.join(FILE);
        let Some(text) = files::read(&file)? else { return Ok(Config::default()) };
        serde_json::from_str(&text).map_err(|error| {
            let message = error.to_string();
            let hint = unknown_field(&message).and_then(|field| did_you_mean(field, FIELDS));
            ConfigError::Wrong { file, message, hint }
        })
    }

    /// Writes the file, unless it has this content already.
    pub fn save(&self, state: &Path) -> Result<(), ConfigError> {
        let there = Config::load(state);
        if there.is_ok_and(|there| there == *self) && state.join(FILE).exists() {
            return Ok(());
        }
        Ok(files::write_json(&state.join(FILE), self)?)
    }

    /// The node's name: the configured one, or the host's.
    pub fn node_name(&self) -> Result<String, ConfigError> {
        match &self.name {
            Some(name) if is_name(name) => Ok(name.clone()),
            Some(name) => Err(ConfigError::Name(name.clone())),
            None => Ok(host_name()),
        }
    }

    /// The rights that this node allows containers.
    pub fn allowed(&self) -> Result<Allowed, ConfigError> {
        if self.allow.len() > MAX_ALLOWED {
            return Err(ConfigError::Allowances(self.allow.len()));
        }
        let parsed = self.allow.iter().map(|text| text.parse());
        Ok(Allowed(parsed.collect::<Result<_, _>>()?))
    }

    /// Where further facts come from.
    pub fn fact_sources(&self) -> Result<Sources, ConfigError> {
        let every = match &self.facts_every {
            None => facts::EVERY,
            Some(text) => quantity::duration(text)
                .map_err(|error| ConfigError::FactsEvery(error.to_string()))?,
        };
        if every < facts::LEAST_EVERY {
            let why = format!("{every:?} is less than {:?}", facts::LEAST_EVERY);
            return Err(ConfigError::FactsEvery(why));
        }
        // The folder that the daemon is started in is not always the same.
        if let Some(file) = self.facts_file.as_ref().filter(|it| !it.is_absolute()) {
            return Err(ConfigError::FactsFile(file.clone()));
        }
        let (file, command) = (self.facts_file.clone(), self.facts_command.clone());
        Ok(Sources { file, command, every })
    }

    /// The facts of this device, checked.
    pub fn facts(&self) -> Result<Facts, ConfigError> {
        self.node_name()?;
        self.fact_sources()?;
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
            return Err(ConfigError::Memory(too_much(memory, MAX_MEMORY)));
        }
        // A number without a unit would take the node out of every auction, and its workloads off
        // it.
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
            runtimes: BTreeSet::from([ProgramKind::Wasm]),
            labels: self.labels.clone(),
            capacity: Resources { memory, cpu },
            allowed: self.allowed()?,
            volumes: Vec::new(),
            sealing: None,
            busy_ports: BTreeSet::new(),
            published: published(),
            measured: BTreeMap::new(),
            offers: self.offers()?,
        })
    }

    /// What is offered beside memory and CPU, checked.
    fn offers(&self) -> Result<Amounts, ConfigError> {
        // An amount of 0 is no offer; none is as good as leaving it out.
        let mut offers: Amounts = self.resources.clone().into();
        if let Some(why) = self.resources.get(DISK).and_then(|n| wrong_amount(DISK, *n)) {
            return Err(ConfigError::Resources(why));
        }
        if let Some(why) = wrong_amounts(&offers) {
            return Err(ConfigError::Resources(why));
        }
        if let Some(text) = &self.disk {
            let disk =
                quantity::disk(text).map_err(|error| ConfigError::Disk(error.to_string()))?;
            if disk > MAX_DISK {
                return Err(ConfigError::Disk(too_much(disk, MAX_DISK)));
            }
            offers.set(DISK, disk);
        }
        Ok(offers)
    }
}

/// Rounded, both may read the same.
fn too_much(bytes: u64, most: u64) -> String {
    match [bytes, most].map(quantity::show_size) {
        [much, bound] if much == bound => format!("{bytes} bytes are more than {most}"),
        [much, bound] => format!("{much} is more than {bound}"),
    }
}

/// The facts of this device that rules of workloads may be about, besides those that every record
/// has.
fn published() -> BTreeMap<String, String> {
    let facts = [("os", std::env::consts::OS), ("version", env!("CARGO_PKG_VERSION"))];
    facts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

impl ConfigError {
    /// Advice for the person who wrote the configuration.
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
            | ConfigError::Disk(_)
            | ConfigError::Resources(_)
            | ConfigError::Allow(_)
            | ConfigError::Allowances(_)
            | ConfigError::FactsEvery(_)
            | ConfigError::FactsFile(_)
            | ConfigError::Advertise(_)
            | ConfigError::File(_) => None,
        }
    }
}

/// The default state folder.
pub fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/shoal".into();
    }
    home_folder("XDG_STATE_HOME", ".local/state").join("shoal")
}

/// The default folder of an operator's key.
pub fn default_operator() -> PathBuf {
    home_folder("XDG_CONFIG_HOME", ".config").join("shoal")
}

fn home_folder(variable: &str, below_home: &str) -> PathBuf {
    // The XDG specification says to ignore relative paths.
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.unwrap_or_else(|| std::env::home_dir().unwrap_or_else(|| "/".into()).join(below_home))
}

const FIELDS: [&str; 17] = [
    "name",
    "listen",
    "http",
    "advertise",
    "mdns",
    "seeds",
    "labels",
    "memory",
    "cpu",
    "disk",
    "resources",
    "engine",
    "allow",
    "socket_group",
    "facts_file",
    "facts_command",
    "facts_every",
];

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

/// Bytes that this process may use: the device's memory, or less if a control group says so.
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

/// Bytes of disk that are offered unless the configuration says otherwise: a share of the whole
/// file system, so that it is the same after each start. Unknown if the system does not say.
pub fn default_disk(state: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(state).ok()?;
    let size = stat.f_blocks.saturating_mul(stat.f_frsize).min(MAX_DISK);
    // In whole MiB, which people can read.
    Some(((size / 100 * OFFERED_PERCENT) >> 20) << 20)
}

/// Thousandths of a core that this process may use, within its control group and affinity.
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
        "cpu": null,
        "disk": null,
        "resources": {},
        "engine": null,
        "allow": [],
        "socket_group": null,
        "facts_file": null,
        "facts_command": [],
        "facts_every": null
    }"#;

    /// The documented example must not drift from the defaults, or miss a field.
    #[test]
    fn example_config_is_the_default_with_every_field() {
        assert_eq!(serde_json::from_str::<Config>(EXAMPLE).unwrap(), Config::default());
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(fields.keys().map(String::as_str).collect::<BTreeSet<_>>(), FIELDS.into());
    }

    /// A saved configuration is read back equal; a folder without one has the defaults.
    #[test]
    fn saved_config_is_read_back() {
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

    /// A misspelled key would otherwise be ignored silently.
    #[test]
    fn unknown_key_is_refused_with_a_suggestion() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), r#"{"lable": {}}"#).unwrap();
        let error = Config::load(state.path()).unwrap_err();
        assert!(error.to_string().contains("unknown field `lable`"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("Did you mean `labels`?"));
    }

    /// Each wrong value is refused with the name of its field.
    #[test]
    fn impossible_offers_are_refused() {
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
        assert!(wrong(|config| config.disk = Some("-1".into())).starts_with("disk: `-1`"));
        let offering = |name: &str, amount: u64| {
            let resources = [(name.to_owned(), amount)].into();
            Config { resources, ..Config::default() }.facts().unwrap_err().to_string()
        };
        assert!(offering("a b", 1).starts_with("resources: `a b` is no name"));
        assert!(offering("gpu", 2_000_000).starts_with("resources: 2000000 of `gpu`"));
        assert!(offering("disk", 5).contains("has a key of its own"));
        assert!(offering("memory", 5).contains("has a key of its own"));
        assert!(
            wrong(|config| drop(config.labels.insert("a b".into(), "c".into())))
                .starts_with("labels: `a b`")
        );
        assert!(
            wrong(|config| config.allow.push("device=ttyUSB0".into()))
                .starts_with("allow: `device=ttyUSB0`")
        );
        assert!(
            wrong(|config| config.advertise.push("0.0.0.0:1".parse().unwrap()))
                .starts_with("advertise:")
        );
        assert!(
            wrong(|config| config.facts_every = Some("5s".into())).starts_with("facts_every: 5s")
        );
        assert!(
            wrong(|config| config.facts_file = Some("a".into())).starts_with("facts_file: `a`")
        );
    }

    /// A node without a configuration still offers memory and CPU.
    #[test]
    fn default_config_offers_resources() {
        let facts = Config { labels: [("zone".into(), "shop".into())].into(), ..Config::default() }
            .facts()
            .unwrap();
        assert!(facts.capacity.memory > 0 && facts.capacity.cpu >= 1000 / 100);
        assert_eq!(facts.labels["zone"], "shop");
    }
}
