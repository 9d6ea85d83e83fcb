//! A Docker engine: dockerd, its containerd, their containers, in namespaces of their own.
//!
//! - ***Network**: the node's namespace, in which also its containers listen.
//! - ***Processes**: dockerd is the first of its namespace, so the kernel kills all others with it,
//!   containers included. Killing it is like killing the device, and nothing survives this run.
//! - ***Mounts**: it can write into its folder only; its /run and /etc are empty and vanish with
//!   it. So it neither reads the settings of the machine's engine nor connects to it, and a restart
//!   finds no files in /run, as after a power cut.
//!
//! Only its control group is outside; its name carries the id of this process.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::real::http::{Request, ask};
use crate::real::{Place, TIMEOUT, cleanup, eventually};

/// Programs of the engine and of its set-up, with their Debian packages.
pub(super) const PROGRAMS: &[(&str, &str)] = &[
    ("dockerd", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("tar", "tar"),
];

/// Set-up of the first process before it becomes dockerd. The first argument is its folder, the
/// others are dockerd's.
const SCRIPT: &str = r#"set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs none /run
mount -t tmpfs none /etc
: > /etc/hosts
: > /etc/resolv.conf
shift
exec dockerd "$@""#;

/// An engine, running or not. Drop kills it; its folder is the caller's.
pub(super) struct Engine {
    /// Name of the engine, as in `s1`.
    pub(super) name: String,
    place: Place,
    folder: PathBuf,
    cgroup: String,
    process: Option<Child>,
}

impl Engine {
    /// An engine that was never started, in a new folder.
    pub(super) fn new(name: &str, place: Place, folder: PathBuf, cgroup: &str) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Engine {
            name: name.to_owned(),
            place,
            folder,
            cgroup: cgroup.to_owned(),
            process: None,
        })
    }

    /// Starts it on its own data, and waits until its API answers.
    pub(super) fn start(&mut self) -> Result<()> {
        let (nsenter, rest) =
            self.place.through.split_first().context("an engine runs in a namespace")?;
        let log = self.log();
        let log = File::options().create(true).append(true).open(&log);
        let log = log.with_context(|| format!("cannot open the log of {}", self.name))?;
        let mut command = Command::new(nsenter);
        command.args(rest).args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ]);
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(&self.folder).args(self.settings());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            cleanup::start(&mut command).with_context(|| format!("cannot start {}", self.name))?;
        self.process = Some(child);
        self.ready()
    }

    fn settings(&self) -> Vec<String> {
        let folder = self.folder.display();
        vec![
            format!("--host=unix://{folder}/api.sock"),
            format!("--data-root={folder}/data"),
            // In /run, which is its own.
            "--exec-root=/run/docker".to_owned(),
            "--pidfile=/run/docker.pid".to_owned(),
            // Containers use the node's network as it is.
            "--bridge=none".to_owned(),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            format!("--cgroup-parent=/{}", self.cgroup),
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
        ]
    }

    fn ready(&mut self) -> Result<()> {
        let name = self.name.clone();
        let answered = eventually(&format!("the API of the engine {name}"), || {
            // An engine that has ended will not answer: stop asking.
            let ended = self.process.as_mut().context("it was started")?.try_wait()?;
            Ok(match ended {
                None => Ok(self.call("GET", "/_ping", &[]).map(drop)?),
                Some(status) => {
                    Err(anyhow::anyhow!("the engine {name} ended by itself ({status})"))
                }
            })
        });
        answered.flatten()
    }

    /// Sends a request to its API and returns the answer's body. A status of 300 or more is an
    /// error.
    pub(super) fn call(&self, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>> {
        let shown = || format!("{method} {target} at the engine {}", self.name);
        let stream = UnixStream::connect(self.folder.join("api.sock")).with_context(shown)?;
        stream.set_read_timeout(Some(TIMEOUT)).with_context(shown)?;
        stream.set_write_timeout(Some(TIMEOUT)).with_context(shown)?;
        let answer =
            ask(stream, &Request { method, target, host: "docker", body }).with_context(shown)?;
        let status = answer.status;
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut answer.reader(), &mut body).with_context(shown)?;
        if status >= 300 {
            bail!("{} answered {status}: {}", shown(), String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }

    /// Sends a GET and parses the answer.
    pub(super) fn get(&self, target: &str) -> Result<Value> {
        let body = self.call("GET", target, &[])?;
        serde_json::from_slice(&body)
            .with_context(|| format!("GET {target} at {} is not answered by JSON", self.name))
    }

    /// Sends a POST with JSON.
    pub(super) fn post(&self, target: &str, body: &Value) -> Result<()> {
        self.call("POST", target, body.to_string().as_bytes()).map(drop)
    }

    /// kill -9 of dockerd, containerd and containers. Returns the time just before; its data stay.
    pub(super) fn kill(&mut self) -> Result<Instant> {
        let child = self.process.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let first = first_process(child)
            .with_context(|| format!("cannot find the dockerd of {}", self.name))?;
        let at = Instant::now();
        kill_process(first, Signal::KILL)
            .with_context(|| format!("cannot kill the dockerd of {}", self.name))?;
        self.end_process();
        Ok(at)
    }

    /// Kills all processes that are left.
    fn end_process(&mut self) {
        let Some(mut child) = self.process.take() else { return };
        if let Some(first) = first_process(&child) {
            // It may be gone already. unshare waits for it, and it ends after all others in its
            // namespace.
            let _ = kill_process(first, Signal::KILL);
            let _ = child.wait();
        }
        cleanup::end(&mut child);
    }

    /// The last lines of its log, for error messages.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(count)..];
        format!("-- {}, its last lines\n{}", self.name, shown.join("\n"))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end_process();
    }
}

/// The only child of unshare, which is dockerd or about to become it.
fn first_process(unshare: &Child) -> Option<Pid> {
    let id = unshare.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}
