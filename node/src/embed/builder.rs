//! The settings of a node, and its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shoal_protocol::model::{DISK, Role};
use shoal_protocol::trust::Invite;
use tokio::net::{TcpListener, TcpSocket};
use tracing::warn;

use super::loaded_identity::{LoadedIdentity, load_or_create};
use super::running::{self, Listeners};
use super::{Node, StartError};
use crate::config::{self, Config};
use crate::network::{self, Network, NetworkConfig, NetworkError};
use crate::publish::{Operator, OperatorError, files};
use crate::store::Lock;

/// The API's socket in the state folder.
const SOCKET_FILE: &str = "api.sock";
/// The operator's folder in the state folder, where no other is set.
const OPERATOR_FOLDER: &str = "operator";
/// Ports of the last start, for addresses with port 0.
const PORTS_FILE: &str = "ports.json";

/// Settings of a node. A setting that is not given has its value of the last start in this state
/// folder, or the default.
#[derive(Default)]
pub struct Builder {
    state: Option<PathBuf>,
    socket: Option<PathBuf>,
    operators: Option<PathBuf>,
    operator: Option<Operator>,
    join: Option<String>,
    name: Option<String>,
    listen: Option<SocketAddr>,
    http: Option<SocketAddr>,
    advertise: Vec<SocketAddr>,
    mdns: Option<bool>,
    labels: Vec<(String, String)>,
    memory: Option<String>,
    cpu: Option<String>,
    disk: Option<String>,
    resources: Option<BTreeMap<String, u64>>,
    engine: Option<String>,
    allow: Option<Vec<String>>,
    compiler: Option<PathBuf>,
    socket_group: Option<Option<String>>,
    facts_file: Option<Option<PathBuf>>,
    facts_command: Option<(Vec<String>, Option<String>)>,
}

impl Builder {
    /// The state folder, made when it is missing. Default: as `shoal up`'s.
    pub fn state(mut self, folder: impl AsRef<Path>) -> Self {
        self.state = Some(folder.as_ref().to_owned());
        self
    }

    /// The path of the API's unix socket. Default: `api.sock` in the state folder.
    pub fn socket(mut self, path: impl AsRef<Path>) -> Self {
        self.socket = Some(path.as_ref().to_owned());
        self
    }

    /// The folder of the operator's key: read from there, and written there by the first node of a
    /// cluster. Default: `operator` in the state folder.
    pub fn operator_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.operators = Some(folder.as_ref().to_owned());
        self
    }

    /// The operator that signs what this program publishes, where its key is not in a folder.
    pub fn operator(mut self, operator: Operator) -> Self {
        self.operator = Some(operator);
        self
    }

    /// The line that [`Node::invite`] of another node gave. Without one the first start creates a
    /// cluster.
    pub fn join(mut self, line: impl Into<String>) -> Self {
        self.join = Some(line.into());
        self
    }

    /// The device's name for people. Default: the host's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where other nodes connect. Port 0 takes any free one. Default: `0.0.0.0:7700`.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Where clients of workloads connect. Port 0 takes any free one. Default: `0.0.0.0:8080`.
    pub fn http(mut self, address: SocketAddr) -> Self {
        self.http = Some(address);
        self
    }

    /// The addresses that other nodes dial. Default: the addresses of its interfaces.
    pub fn advertise(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.advertise.extend(addresses);
        self
    }

    /// Whether members find one another on the local network (mDNS). Default: yes.
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = Some(on);
        self
    }

    /// A label that workloads can require.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Labels that workloads can require.
    pub fn labels(mut self, labels: impl IntoIterator<Item = (String, String)>) -> Self {
        self.labels.extend(labels);
        self
    }

    /// Memory offered to workloads, as in `512MiB`. Default: three quarters of what there is.
    pub fn memory(mut self, size: impl Into<String>) -> Self {
        self.memory = Some(size.into());
        self
    }

    /// CPU offered to workloads in cores, as in `1.5`. Default: all.
    pub fn cpu(mut self, cores: impl Into<String>) -> Self {
        self.cpu = Some(cores.into());
        self
    }

    /// The socket of the container engine, or `none` to run no containers. Default: the one that is
    /// found.
    pub fn engine(mut self, socket: impl Into<String>) -> Self {
        self.engine = Some(socket.into());
        self
    }

    /// The disk that it offers to workloads, as in `10GiB`. Default: three quarters of the file
    /// system of the state folder.
    pub fn disk(mut self, size: impl Into<String>) -> Self {
        self.disk = Some(size.into());
        self
    }

    /// Resources that workloads can reserve here, by name, as `camera` or `gpu`, and how many there
    /// are. Default: nothing.
    pub fn resources(mut self, all: impl IntoIterator<Item = (String, u64)>) -> Self {
        self.resources = Some(all.into_iter().collect());
        self
    }

    /// The rights that this node allows containers beyond those of an ordinary one, as in
    /// `device=/dev/ttyUSB*`, `path=/data`, `cap=NET_ADMIN`, `security=label=disable`,
    /// `host-network` and `privileged`, which is all of it. An empty list allows nothing. Default:
    /// nothing.
    pub fn allow(mut self, all: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allow = Some(all.into_iter().map(Into::into).collect());
        self
    }

    /// The group whose members may use the API's socket, by name or number. Default: none.
    pub fn socket_group(mut self, group: Option<&str>) -> Self {
        self.socket_group = Some(group.map(str::to_owned));
        self
    }

    /// A file with further facts of this node, a line `NAME=VALUE` each, which is read every 10
    /// seconds. Default: none.
    pub fn facts_file(mut self, file: Option<&Path>) -> Self {
        self.facts_file = Some(file.map(Path::to_owned));
        self
    }

    /// A program with its arguments that prints such lines; none for an empty list. `every`: the
    /// pause between two runs, as in `30s`, which is also the default. Default: none.
    pub fn facts_command(mut self, words: Vec<String>, every: Option<String>) -> Self {
        self.facts_command = Some((words, every));
        self
    }

    /// A program that calls [`super::init`] first thing in its `main`, where this program cannot:
    /// it compiles components.
    pub fn compiler(mut self, program: impl AsRef<Path>) -> Self {
        self.compiler = Some(program.as_ref().to_owned());
        self
    }

    /// Starts the node on the current tokio runtime, and returns when its API answers.
    pub async fn start(mut self) -> Result<Node, StartError> {
        let line = self.join.take().map(|line| line.parse::<Invite>()).transpose()?;
        let state = absolute(self.state.take().unwrap_or_else(config::default_state))?;
        files::make_folder(&state)?;
        let lock = Lock::take(&state)?;
        let config = self.config(&state, line.as_ref())?;
        let mut facts = config.facts()?;
        if config.disk.is_none()
            && let Some(disk) = config::default_disk(&state)
        {
            facts.offers.set(DISK, disk);
        }
        let socket = absolute(self.socket.take().unwrap_or_else(|| state.join(SOCKET_FILE)))?;
        let operators = self.operators.take().unwrap_or_else(|| state.join(OPERATOR_FOLDER));

        // Ports before files: the most common failures leave no files behind. The mesh listens only
        // once the identity is loaded.
        let ports = Ports::load(&state);
        let http = bind_http(config.http, ports.http).await?;
        check_mesh(config.listen).await?;
        let loaded = {
            let (state, operators, line) = (state.clone(), operators.clone(), line);
            blocking(move || load_or_create(&state, &operators, line.as_ref())).await?
        };
        let (network, inbox) = bind_mesh(&loaded, &config, ports.mesh).await?;
        let http_address = http
            .local_addr()
            .map_err(|source| StartError::Http { address: config.http, source })?;
        Ports { mesh: network.listening().port(), http: http_address.port() }.save(&state, &config);
        config.save(&state)?;

        let operator = match (self.operator.take(), &loaded.operator) {
            (Some(given), _) => Ok(given),
            (None, Some(made)) => Ok(made.clone()),
            (None, None) => Operator::load(&operators),
        };
        let operator = operator.and_then(|operator| of_this_cluster(operator, &loaded, &operators));
        let listeners = Listeners { http, http_address, network, inbox, socket: socket.clone() };
        let (name, id, founded) = (config.node_name()?, loaded.identity.node(), loaded.founded);
        let mesh = listeners.network.listening();
        let compiler = self.compiler.take();
        let running = running::start(running::Plan {
            state,
            lock,
            config,
            facts,
            loaded,
            listeners,
            compiler,
        })
        .await?;
        Ok(Node {
            id,
            name,
            mesh,
            http: http_address,
            socket,
            founded,
            operator,
            service: running.service(),
            running,
        })
    }

    /// The saved configuration with the settings of this builder on top.
    fn config(&mut self, state: &Path, line: Option<&Invite>) -> Result<Config, StartError> {
        let mut config = Config::load(state)?;
        config.name = self.name.take().or(config.name);
        config.listen = self.listen.unwrap_or(config.listen);
        config.http = self.http.unwrap_or(config.http);
        config.mdns = self.mdns.unwrap_or(config.mdns);
        config.memory = self.memory.take().or(config.memory);
        config.cpu = self.cpu.take().or(config.cpu);
        config.disk = self.disk.take().or(config.disk);
        config.resources = self.resources.take().unwrap_or(config.resources);
        config.engine = self.engine.take().or(config.engine);
        config.allow = self.allow.take().unwrap_or(config.allow);
        config.socket_group = self.socket_group.take().unwrap_or(config.socket_group);
        if let Some(file) = self.facts_file.take() {
            config.facts_file = file.map(absolute).transpose()?;
        }
        if let Some((words, every)) = self.facts_command.take() {
            (config.facts_command, config.facts_every) = (words, every);
        }
        if !self.advertise.is_empty() {
            config.advertise = std::mem::take(&mut self.advertise);
        }
        if !self.labels.is_empty() {
            config.labels =
                std::mem::take(&mut self.labels).into_iter().collect::<BTreeMap<_, _>>();
        }
        if let Some(line) = line {
            config.seeds = line.addresses.clone();
            if let Some(Role::Inviter { labels, .. }) = line.grant().map(|grant| grant.role) {
                for (key, value) in labels {
                    config.labels.entry(key).or_insert(value);
                }
            }
        }
        Ok(config)
    }
}

/// Makes a path absolute, so that it stays valid when the host program changes its folder.
fn absolute(path: PathBuf) -> Result<PathBuf, StartError> {
    std::path::absolute(&path)
        .map_err(|source| StartError::System { doing: "the current folder's name", source })
}

fn of_this_cluster(
    operator: Operator,
    loaded: &LoadedIdentity,
    folder: &Path,
) -> Result<Operator, OperatorError> {
    let other = operator.cluster();
    if other == loaded.identity.cluster() {
        return Ok(operator);
    }
    Err(OperatorError::OtherCluster { file: folder.join(crate::publish::OPERATOR_FILE), other })
}

/// Binds the HTTP port. An address that the device does not have yet is bound all the same: a
/// device may boot before its network.
async fn bind_http(wanted: SocketAddr, last: u16) -> Result<TcpListener, StartError> {
    if wanted.port() == 0
        && last != 0
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(wanted.ip(), last)).await
    {
        share_port(&listener);
        return Ok(listener);
    }
    let bound = match TcpListener::bind(wanted).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            warn!(
                "{wanted}, where HTTP clients connect, is no address of this device: nobody can \
                    until it is there"
            );
            let port = if wanted.port() == 0 { last } else { wanted.port() };
            bind_before_its_address(SocketAddr::new(wanted.ip(), port))
        }
        bound => bound,
    };
    if let Ok(listener) = &bound {
        share_port(listener);
    }
    bound.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::HttpTaken(wanted),
        _ => StartError::Http { address: wanted, source },
    })
}

/// Lets this process listen on the same port of the addresses of workloads, which are the device's
/// own (`crate::names`). Set after the port was bound, so that a second daemon is still refused.
fn share_port(listener: &TcpListener) {
    if let Err(error) = socket2::SockRef::from(listener).set_reuse_port(true) {
        warn!("workloads cannot be reached by name on the port of HTTP: {error}");
    }
}

/// Linux lets a socket listen at an address that the device does not have yet.
fn bind_before_its_address(address: SocketAddr) -> std::io::Result<TcpListener> {
    /// Connections that may wait to be accepted, as in the standard library.
    const BACKLOG: u32 = 1024;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv4() {
        rustix::net::sockopt::set_ip_freebind(&socket, true)?;
    } else {
        rustix::net::sockopt::set_ipv6_freebind(&socket, true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Fails for a port that another program has, before any file is written. An address that the
/// device does not have yet is no error.
async fn check_mesh(address: SocketAddr) -> Result<(), StartError> {
    match TcpListener::bind(address).await {
        Err(source) if source.kind() != std::io::ErrorKind::AddrNotAvailable => {
            Err(refused(address, source).into())
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn bind_mesh(
    loaded: &LoadedIdentity,
    config: &Config,
    last: u16,
) -> Result<(Network, network::Inbox), StartError> {
    let (identity, wanted, advertise) = (&loaded.identity, config.listen, &config.advertise);
    let mdns = config.mdns;
    let config = |listen| NetworkConfig {
        advertise: advertise.clone(),
        mdns,
        ..NetworkConfig::new(identity, listen)
    };
    if wanted.port() == 0 && last != 0 {
        match network::start(config(SocketAddr::new(wanted.ip(), last))).await {
            Ok(started) => return Ok(started),
            Err(NetworkError::Taken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(network::start(config(wanted)).await?)
}

fn refused(address: SocketAddr, source: std::io::Error) -> NetworkError {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => NetworkError::Taken(address),
        _ => NetworkError::Listen { address, source },
    }
}

/// The ports of the last start, so that a node with port 0 keeps the ports that others know.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Ports {
    mesh: u16,
    http: u16,
}

impl Ports {
    /// The defaults when the file is missing or damaged: it is a convenience, and no reason not to
    /// start.
    fn load(state: &Path) -> Ports {
        let text = files::read(&state.join(PORTS_FILE)).ok().flatten().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn save(&self, state: &Path, config: &Config) {
        if config.listen.port() != 0 && config.http.port() != 0 {
            return;
        }
        if let Err(error) = files::write_json(&state.join(PORTS_FILE), self) {
            warn!("the ports are not remembered: {error}");
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let join = tokio::task::spawn_blocking(work).await;
    join.map_err(|error| StartError::System {
        doing: "a thread for the disk",
        source: std::io::Error::other(error),
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device boots before its network: the daemon did not start, and served nothing of what it
    /// claims.
    #[tokio::test]
    async fn missing_address_does_not_stop_the_start() {
        // An address reserved for documentation: no device has it.
        let missing: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let http = bind_http(missing, 0).await.unwrap().local_addr().unwrap();
        assert!(http.ip() == missing.ip() && http.port() != 0);
        assert_eq!(
            bind_http(missing, http.port()).await.unwrap().local_addr().unwrap(),
            http,
            "the port of the last start"
        );
        check_mesh(missing).await.unwrap();
    }

    /// A port of another program is named before any file is written.
    #[tokio::test]
    async fn taken_port_stops_the_start() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = other.local_addr().unwrap();
        let error = check_mesh(taken).await.unwrap_err().to_string();
        assert!(error.contains("is taken by another program"), "{error}");
        assert!(matches!(bind_http(taken, 0).await.unwrap_err(), StartError::HttpTaken(_)));
    }
}
