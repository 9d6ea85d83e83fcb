//! Container engines of a run's own: Docker or Podman, each in namespaces of its own, so that other
//! engines of the machine are not disturbed and nothing survives the run.
//!
//! - ***Network**: the node's namespace, where the engine finds a bridge for its containers.
//! - ***Processes**: the kernel kills engine and containers with the first process, a small script.
//! - ***Mounts**: it can write into its folder only; its /run and /etc are empty and vanish with
//!   it. So it reads no settings of the machine's engine.
//!
//! Control groups are outside; containers are removed through the engine before it ends.

pub mod image;
pub mod raw;
mod settings;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::chaos::net::{Net, missing_of};
use crate::real::resources::Resource;
use crate::real::{Place, cleanup, eventually, eventually_within};

/// Set-up and first process of the engine's namespaces.
const INSIDE: &str = include_str!("inside.sh");
/// Far longer than an engine takes to start, also one that first ends the containers of a killed
/// one.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// Time between two looks at an engine that starts or ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The kind of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// dockerd, with a containerd of its own.
    Docker,
    /// Podman's service.
    Podman,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Kind; 2] = [Kind::Docker, Kind::Podman];

    /// The name in lines for programs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }

    /// The reason why there can be no such engine here, for people; none when there can.
    pub fn impossible(self) -> Option<String> {
        let common =
            [("unshare", "util-linux"), ("mount", "mount"), ("tar", "tar"), ("nft", "nftables")];
        let own: &[_] = match self {
            Kind::Docker => {
                &[("dockerd", "docker.io"), ("containerd", "containerd"), ("runc", "runc")]
            }
            Kind::Podman => &[("podman", "podman"), ("runc", "runc")],
        };
        Net::impossible().or_else(|| missing_of(&common)).or_else(|| missing_of(own))
    }

    /// The program's name as the kernel shows it.
    fn program(self) -> &'static str {
        match self {
            Kind::Docker => "dockerd",
            Kind::Podman => "podman",
        }
    }
}

/// The kinds that can be started here; says why the others cannot.
pub fn possible() -> Vec<Kind> {
    let is_possible = |kind: &Kind| match kind.impossible() {
        None => true,
        Some(why) => {
            println!("  {}: skipped: {why}", kind.name());
            false
        }
    };
    Kind::ALL.into_iter().filter(is_possible).collect()
}

/// An engine, running or not. Drop removes its containers and ends it; its folder is the caller's.
pub struct Engine {
    /// Docker or Podman.
    pub kind: Kind,
    through: Vec<String>,
    folder: PathBuf,
    cgroup: Option<Resource>,
    process: Option<Child>,
}

impl Engine {
    /// Starts an engine in a node's network, with its files in a new folder, and waits until it
    /// answers.
    pub fn start(kind: Kind, place: &Place, folder: &Path) -> Result<Self> {
        for inner in ["tmp", "networks"] {
            let path = folder.join(inner);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        settings::write(folder)?;
        let through = place.through.clone();
        let folder = folder.to_owned();
        let mut engine = Engine { kind, through, folder, cgroup: None, process: None };
        engine.run()?;
        Ok(engine)
    }

    /// The socket of its API, as the daemon is told of it.
    pub fn socket(&self) -> String {
        self.folder.join("api.sock").display().to_string()
    }

    /// Starts engine and namespaces.
    fn run(&mut self) -> Result<()> {
        let (nsenter, rest) = self.through.split_first().context("it has a namespace")?;
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.with_context(|| format!("cannot open {}", self.log().display()))?;
        let mut command = Command::new(nsenter);
        command.args(rest).args(["unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "--", "sh", "-c", INSIDE, "inside"]).arg(&self.folder);
        match self.kind {
            Kind::Docker => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                let cgroup = format!("{}{}-engine-{next}", cleanup::PREFIX, std::process::id());
                self.cgroup = Some(cleanup::register(Resource::Cgroup(cgroup.clone()))?);
                command.args(settings::dockerd(&self.folder, &cgroup));
            }
            Kind::Podman => {
                command.args(settings::podman(&self.folder));
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = cleanup::start(&mut command).context("cannot start a container engine")?;
        self.process = Some(child);
        let answers = self.ready();
        answers.map_err(|error| anyhow!("{error:#}\n{}", self.last_lines(10)))
    }

    /// Waits until it answers.
    pub fn ready(&mut self) -> Result<()> {
        let what = format!("the API of {}", self.kind.name());
        eventually_within(STARTS_WITHIN, LOOK_EVERY, &what, || {
            let ended = self.process.as_mut().context("it was started")?.try_wait()?;
            Ok(match ended {
                None => Ok(self.call("GET", "/_ping", &[]).map(drop)?),
                Some(status) => Err(anyhow!("{} ended by itself ({status})", self.kind.name())),
            })
        })
        .flatten()
    }

    /// kill -9 of the engine's own process; its containers run on. Returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        eventually("the end of the killed engine", || self.is_gone())
    }

    /// Stops the engine in order, as `systemctl stop` does: Docker ends its containers, Podman
    /// leaves them. Returns when it is gone.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let what = "the end of the stopped engine";
        eventually_within(STARTS_WITHIN, LOOK_EVERY, what, || self.is_gone())
    }

    fn is_gone(&self) -> Result<()> {
        let left = self.children(&[self.kind.program(), "containerd"])?;
        if left.is_empty() { Ok(()) } else { Err(anyhow!("{left:?} are left")) }
    }

    /// Starts a killed engine on what it left, without waiting until it answers.
    pub fn again(&self) -> Result<()> {
        let path = self.folder.join("again");
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }

    /// SIGSTOP: it takes connections and answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen engine go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let found = self.children(&[self.kind.program()])?;
        let first = found.first().with_context(|| format!("{} does not run", self.kind.name()))?;
        kill_process(*first, signal).with_context(|| format!("cannot signal {}", self.kind.name()))
    }

    /// Children of the first process that run one of these programs.
    fn children(&self, programs: &[&str]) -> Result<Vec<Pid>> {
        let process = self.process.as_ref().context("it was started")?;
        let first = first_child(process.id()).context("its first process has ended")?;
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
        let runs = |id: &&str| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            programs.contains(&name.trim())
        };
        let found = children.split_whitespace().filter(runs);
        Ok(found.filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect())
    }

    /// Sends a request to its API and returns the answer's body. A status of 300 or more is an
    /// error.
    pub fn call(&self, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>> {
        raw::call(&self.socket(), method, target, body)
    }

    /// Sends a GET and parses the answer.
    pub fn get(&self, target: &str) -> Result<Value> {
        let body = self.call("GET", target, &[])?;
        serde_json::from_slice(&body).with_context(|| format!("GET {target} answers no JSON"))
    }

    /// Gives it an image, as a file of `docker save`.
    pub fn load(&self, archive: &Path, name: &str) -> Result<()> {
        let bytes =
            fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        let said = self.call("POST", "/images/load", &bytes)?;
        // Docker says 200 also to what it does not load.
        self.get(&format!("/images/{name}/json"))
            .map(drop)
            .with_context(|| format!("it said {}", String::from_utf8_lossy(&said)))
    }

    /// The containers in any state.
    pub fn containers(&self) -> Result<Vec<Value>> {
        Ok(self.get("/containers/json?all=1")?.as_array().cloned().unwrap_or_default())
    }

    /// The ids of the containers that run.
    pub fn running(&self) -> Result<BTreeSet<String>> {
        let all = self.get("/containers/json")?.as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|one| Some(one["Id"].as_str()?.to_owned())).collect())
    }

    fn clear(&self) -> Result<()> {
        for container in self.containers()? {
            if let Some(id) = container["Id"].as_str() {
                raw::remove(&self.socket(), id)?;
            }
        }
        Ok(())
    }

    /// The last lines of its log, for error messages.
    pub fn last_lines(&self, count: usize) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(count)..];
        format!("-- {}, its last lines\n{}", self.kind.name(), shown.join("\n"))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(mut child) = self.process.take() else { return };
        // It may be dead or frozen; then groups of its containers may be left, which are empty.
        if self.call("GET", "/_ping", &[]).is_ok() {
            let _ = self.clear();
        }
        if let Some(first) = first_child(child.id()).and_then(Pid::from_raw) {
            // unshare waits for it, and it ends after all others in its namespace.
            let _ = kill_process(first, Signal::KILL);
            let _ = child.wait();
        }
        cleanup::end(&mut child);
        if let Some(cgroup) = &self.cgroup {
            cleanup::remove(cgroup);
        }
    }
}

/// The only child of unshare.
fn first_child(unshare: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
