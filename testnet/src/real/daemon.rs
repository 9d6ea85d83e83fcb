//! A daemon: its folder, its process, its API and ports.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::{Api, cleanup, eventually};

/// How long a daemon may take to stop when it is asked to: it says goodbye, flushes, stops guests.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a node runs and listens.
#[derive(Clone, Debug)]
pub struct Place {
    /// The command that starts its process, as in `nsenter --net=.. --`; empty for none. It must
    /// exec, so that the process is the daemon.
    pub through: Vec<String>,
    /// The address for clients, when it listens on every interface.
    pub reach: Option<IpAddr>,
    /// The address for other nodes, with port.
    pub listen: String,
    /// The address for clients, with port.
    pub http: String,
    /// The state folder, when it is not in the node's own folder.
    pub state: Option<PathBuf>,
    /// The socket of its container engine, or `none`; without it the daemon looks for one.
    pub engine: Option<String>,
    /// Further options of `shoal up` at its first start.
    pub options: Vec<String>,
}

impl Place {
    /// Loopback, with any free ports.
    pub fn loopback() -> Self {
        let any = || "127.0.0.1:0".to_owned();
        Place {
            through: Vec::new(),
            reach: None,
            listen: any(),
            http: any(),
            state: None,
            engine: None,
            options: Vec::new(),
        }
    }
}

/// A node on this machine, running or not.
pub struct Daemon {
    /// Name of the node, as in `n1`.
    pub name: String,
    /// The binary, in a file of its own, so that a build meanwhile does not change it.
    pub binary: PathBuf,
    /// Where it runs. A change takes effect at the next start, except addresses to listen at, which
    /// the daemon keeps from its first start.
    pub place: Place,
    folder: PathBuf,
    operator: PathBuf,
    child: Option<Child>,
    id: String,
    http: Option<SocketAddr>,
}

impl Daemon {
    /// A node that was never started. `folder` is for all its files; `operator` is the folder of
    /// its cluster's operator key.
    pub(super) fn new(
        name: &str,
        binary: &Path,
        folder: PathBuf,
        operator: PathBuf,
        place: Place,
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("home"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let (name, binary) = (name.to_owned(), binary.to_path_buf());
        Ok(Daemon {
            name,
            binary,
            place,
            folder,
            operator,
            child: None,
            id: String::new(),
            http: None,
        })
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.place.state.clone().unwrap_or_else(|| self.folder.join("state"))
    }

    /// A client of its API, which answers while the daemon runs.
    pub fn api(&self) -> Api {
        Api::new(self.state().join("api.sock"))
    }

    /// Its id; empty before it was up.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its HTTP address; an error before it was up.
    pub fn http(&self) -> Result<SocketAddr> {
        self.http.with_context(|| format!("{} was never up", self.name))
    }

    /// Notes another address of its device.
    pub fn moved(&mut self, to: IpAddr) {
        self.place.reach = Some(to);
        self.http = self.http.map(|http| SocketAddr::new(to, http.port()));
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("{} does not run", self.name))
    }

    /// Whether a process was started and not stopped by us.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// An error when its process has ended without being stopped here.
    pub fn check_alive(&mut self) -> Result<()> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        match child.try_wait().with_context(|| format!("cannot look after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.name),
        }
    }

    /// `shoal ARGUMENTS` as this node's user, with the operator's key.
    pub fn shoal(&self, arguments: &[&str]) -> Command {
        self.as_its_user(Command::new(&self.binary), arguments)
    }

    fn as_its_user(&self, mut command: Command, arguments: &[&str]) -> Command {
        let home = self.folder.join("home");
        for (name, _) in std::env::vars_os() {
            // The user's own node must not interfere; the log level may.
            if name.to_string_lossy().starts_with("SHOAL_") && name != "SHOAL_LOG" {
                command.env_remove(&name);
            }
        }
        command
            .env("SHOAL_STATE", self.state())
            .env("SHOAL_CONFIG", &self.operator)
            .env("HOME", &home);
        command
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Starts the process with `shoal up ARGUMENTS`; returns the time, without waiting until it is
    /// ready.
    pub fn start(&mut self, arguments: &[&str]) -> Result<Instant> {
        if self.runs() {
            bail!("{} runs already", self.name);
        }
        let program = match &self.place.through[..] {
            [] => Command::new(&self.binary),
            [first, rest @ ..] => {
                let mut through = Command::new(first);
                through.args(rest).arg(&self.binary);
                through
            }
        };
        let mut command = self.as_its_user(program, &["up"]);
        command.args(arguments).stdout(self.log("out")?).stderr(self.log("err")?);
        let started = Instant::now();
        let child = cleanup::start(&mut command);
        self.child =
            Some(child.with_context(|| format!("cannot start {}", self.binary.display()))?);
        Ok(started)
    }

    fn log(&self, of: &str) -> Result<File> {
        let path = self.folder.join(format!("std{of}.log"));
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Waits until the API answers; returns the time and the status.
    pub fn ready(&mut self) -> Result<(Instant, Value)> {
        let (api, name) = (self.api(), self.name.clone());
        let answer = eventually(&format!("{name}'s API"), || {
            // A daemon that has ended will not answer: stop asking.
            Ok(match self.check_alive() {
                Ok(()) => Ok((api.status()?, Instant::now())),
                Err(ended) => Err(ended),
            })
        });
        let (status, at) = match answer.flatten() {
            Ok(answer) => answer,
            Err(error) => {
                self.end_process();
                return Err(error);
            }
        };
        let text = |field: &str| {
            status[field].as_str().with_context(|| format!("the status of {name} has no `{field}`"))
        };
        self.id = text("node")?.to_owned();
        let http: SocketAddr =
            text("http")?.parse().with_context(|| format!("the `http` of {name} is no address"))?;
        let reach = self.place.reach.filter(|_| http.ip().is_unspecified());
        self.http = Some(SocketAddr::new(reach.unwrap_or(http.ip()), http.port()));
        Ok((at, status))
    }

    /// `kill -9` of the daemon and all it started; returns the time just before. Its state stays.
    pub fn kill(&mut self) -> Result<Instant> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let at = Instant::now();
        cleanup::signal(child, Signal::KILL);
        self.end_process();
        Ok(at)
    }

    /// SIGSTOP: the process does nothing, as on a device that hangs. Returns the time just before.
    pub fn pause(&self) -> Result<Instant> {
        let at = Instant::now();
        self.signal(Signal::STOP)?;
        Ok(at)
    }

    /// SIGCONT, after `pause`.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        cleanup::signal(child, signal);
        Ok(())
    }

    /// Copies its logs into a folder.
    pub(crate) fn save_logs(&self, into: &Path) -> Result<()> {
        for of in ["out", "err"] {
            let (from, to) = (
                self.folder.join(format!("std{of}.log")),
                into.join(format!("{}.std{of}.log", self.name)),
            );
            fs::copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }

    /// A graceful stop; an error when the daemon does not end in time, or not with 0.
    pub fn stop(&mut self) -> Result<()> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        cleanup::signal(child, Signal::TERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        let status = loop {
            match child.try_wait().with_context(|| format!("cannot wait for {}", self.name))? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.end_process();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} was asked to stop and ended with {status}", self.name),
            None => bail!(
                "{} did not stop within {} s of being asked",
                self.name,
                STOP_TIMEOUT.as_secs()
            ),
        }
    }

    /// An error while its process runs, or when it did not end with 0. Otherwise the node can be
    /// started again.
    pub fn check_ended(&mut self) -> Result<()> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let status =
            child.try_wait().with_context(|| format!("cannot look after {}", self.name))?;
        let status = status.with_context(|| format!("the process of {} still runs", self.name))?;
        self.end_process();
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(())
    }

    /// Kills what is left of the process group.
    fn end_process(&mut self) {
        if let Some(mut child) = self.child.take() {
            cleanup::end(&mut child);
        }
    }

    /// The last lines of its logs, for error messages.
    pub fn last_lines(&self, count: usize) -> String {
        let tail = |of: &str| {
            let path = self.folder.join(format!("std{of}.log"));
            let text = tail(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown: Vec<String> =
                lines.iter().rev().take(count).rev().map(|line| format!("  {line}")).collect();
            shown.join("\n")
        };
        let runs = if self.runs() { "runs" } else { "does not run" };
        format!("-- {} ({runs}), its last lines\n{}\n{}", self.name, tail("out"), tail("err"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end_process();
    }
}

/// The end of a file: at most 64 KiB.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
