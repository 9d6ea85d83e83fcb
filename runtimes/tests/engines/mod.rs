//! Engines of the tests' own: on private sockets, in a private folder, in a private network
//! namespace, so that other engines of the device are not disturbed. Each is started once and
//! shared by all tests of this program; a guard process stops them and removes everything when the
//! program ends, however it ends.

pub mod harness;
pub mod http;
pub mod image;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The kind of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Docker,
    Podman,
}

/// An engine of the tests' own.
pub struct TestEngine {
    pub kind: Kind,
    pub socket: PathBuf,
    folder: PathBuf,
    bridge: &'static str,
    process: Mutex<Option<Child>>,
}

/// Far longer than an engine takes to start, also one that first ends the containers of a killed
/// one.
const START_WITHIN: Duration = Duration::from_secs(120);

/// The engine of a kind that all tests share.
pub fn shared(kind: Kind) -> &'static TestEngine {
    static DOCKER: OnceLock<TestEngine> = OnceLock::new();
    static PODMAN: OnceLock<TestEngine> = OnceLock::new();
    let engine = match kind {
        Kind::Docker => &DOCKER,
        Kind::Podman => &PODMAN,
    };
    engine.get_or_init(|| TestEngine::start(kind, "shared"))
}

/// An engine for one test, which may stop it. Its containers should have no network.
pub fn own(kind: Kind, name: &str) -> &'static TestEngine {
    Box::leak(Box::new(TestEngine::start(kind, name)))
}

/// The process that holds the network namespace, and cleans up.
struct Guard {
    folder: PathBuf,
    network: File,
    pipe: Mutex<ChildStdin>,
}

#[allow(
    clippy::zombie_processes,
    reason = "the guard outlives the tests and stops what they began"
)]
fn guard() -> &'static Guard {
    static GUARD: OnceLock<Guard> = OnceLock::new();
    GUARD.get_or_init(start_guard)
}

#[expect(clippy::zombie_processes, reason = "it outlives this process, to clean up after it")]
fn start_guard() -> Guard {
    assert!(rustix::process::geteuid().is_root(), "engines are started as root");
    let folder = std::env::temp_dir().join(format!("shoal-engines-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut child = Command::new("setsid")
        .args(["unshare", "--net", "sh", "-c", include_str!("guard.sh"), "guard"])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "the guard has a network namespace");
    let network = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
    Guard { folder, network, pipe: Mutex::new(child.stdin.take().unwrap()) }
}

/// Runs a test on threads in the engines' network namespace: new threads and processes inherit it.
pub fn run(test: impl Future<Output = ()>) {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let network = guard().network.as_fd();
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(test);
}

impl TestEngine {
    fn start(kind: Kind, name: &str) -> Self {
        let guard = guard();
        // Podman too: a service that is frozen holds the locks of its folder.
        let folder = guard.folder.join(match kind {
            Kind::Docker => format!("docker-{name}"),
            Kind::Podman => format!("podman-{name}"),
        });
        fs::create_dir_all(&folder).unwrap();
        if kind == Kind::Podman {
            configure_podman(&folder);
        }
        let bridge = match name {
            "shared" => "shoal0",
            _ => "none",
        };
        let socket = folder.join(format!("{name}.sock"));
        let engine = TestEngine { kind, socket, folder, bridge, process: Mutex::default() };
        engine.run();
        for archive in image::archives() {
            let (status, text) =
                http::call(&engine.socket, "POST", "/images/load", "application/x-tar", &archive)
                    .unwrap();
            assert_eq!(status, 200, "{text}");
        }
        engine
    }

    /// Starts the engine, anew after a stop, and waits until it answers.
    pub fn run(&self) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = match self.kind {
            Kind::Docker => self.dockerd(),
            Kind::Podman => {
                fs::write(self.folder.join("used"), "").unwrap();
                self.podman()
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("the engine is installed");
        writeln!(guard().pipe.lock().unwrap(), "{}", child.id()).unwrap();
        *self.process.lock().unwrap() = Some(child);
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Ok((200, _)) = http::call(&self.socket, "GET", "/_ping", "text/plain", b"") {
                return;
            }
            let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "{:?}: {}", self.kind, log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn dockerd(&self) -> Command {
        let mut command = Command::new("dockerd");
        let path = |name: &str| self.folder.join(name);
        command
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["-H", &format!("unix://{}", self.socket.display()), "--bridge", self.bridge])
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--ip-masq=false", "--storage-driver", "overlay2"]);
        command
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        let path = |name: &str| self.folder.join(name);
        command
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", path("storage.conf"))
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .args(["system", "service", "-t", "0"])
            .arg(format!("unix://{}", self.socket.display()));
        command
    }

    /// Kills the engine; its containers run on.
    pub fn kill(&self) {
        let mut child = self.process.lock().unwrap().take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        // Docker's containerd ends a little later; a dockerd that is started meanwhile waits for
        // the old one, and gives up.
        let id = fs::read_to_string(self.folder.join("exec/containerd/containerd.pid"));
        let Ok(id) = id else { return };
        let deadline = Instant::now() + START_WITHIN;
        while Path::new("/proc").join(id.trim()).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the engine's process in its tracks: it takes connections and answers nothing.
    pub fn freeze(&self) {
        let id = self.signal("-STOP");
        // The signal is on its way: a thread that still runs would answer a call.
        let deadline = Instant::now() + START_WITHIN;
        while !is_stopped(id) {
            assert!(Instant::now() < deadline, "the engine does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a frozen engine go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) -> u32 {
        let id = self.process.lock().unwrap().as_ref().expect("it runs").id();
        let sent = Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
        assert!(sent.success());
        id
    }

    pub fn get(&self, path: &str) -> Value {
        http::json(&self.socket, "GET", path, &Value::Null)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        http::json(&self.socket, "POST", path, body)
    }

    /// The containers of an owner, in any state.
    pub fn containers(&self, owner: &str) -> Vec<Value> {
        http::labelled(&self.socket, &format!("shoal.node={owner}"))
    }

    /// The names of an owner's volumes.
    pub fn volumes(&self, owner: &str) -> Vec<String> {
        let all = self.get("/volumes");
        let all = all["Volumes"].as_array().cloned().unwrap_or_default();
        let own = all.iter().filter(|it| it["Labels"]["shoal.node"] == owner);
        own.map(|it| it["Name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Removes the containers and the volumes of an owner.
    pub fn clear(&self, owner: &str) {
        for container in self.containers(owner) {
            let Some(id) = container["Id"].as_str() else { continue };
            self.remove(id);
        }
        for name in self.volumes(owner) {
            let path = format!("/volumes/{name}");
            let _ = http::call(&self.socket, "DELETE", &path, "application/json", b"");
        }
    }

    /// Does to a container what somebody might by hand: `pause`, `unpause`, `kill`.
    pub fn act(&self, container: &Value, what: &str) {
        let id = container["Id"].as_str().unwrap();
        let path = format!("/containers/{id}/{what}");
        let _ = http::call(&self.socket, "POST", &path, "application/json", b"");
    }

    /// Removes a container that may run.
    pub fn remove(&self, id: &str) {
        for (method, path) in [
            ("POST", format!("/containers/{id}/kill")),
            ("DELETE", format!("/containers/{id}?force=1&v=1")),
        ] {
            let _ = http::call(&self.socket, method, &path, "application/json", b"");
        }
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status"));
        // A thread that has ended meanwhile answers nothing.
        status.is_err() || status.is_ok_and(|status| status.contains("State:\tT"))
    })
}

fn configure_podman(folder: &Path) {
    let path = folder.display();
    let configuration = format!(
        r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{path}/tmp"
volume_path = "{path}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{path}/networks"
default_subnet = "10.213.7.0/24"
"#
    );
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{path}/root\"\nrunroot = \"{path}/run\"\n"
    );
    fs::create_dir_all(folder.join("networks")).unwrap();
    for (name, text) in [("containers.conf", configuration), ("storage.conf", storage)] {
        fs::write(folder.join(name), text).unwrap();
    }
}
