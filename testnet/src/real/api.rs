//! A node's API over its unix socket, blocking.

use std::io::{BufRead, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shoal_protocol::model::view::{EventView, ExplainView, NodeView, ReplicaView, WorkloadView};

use super::TIMEOUT;
use super::http::{Answer, Request, ask};

/// A client of one node's API.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// Opens nothing yet: each request has a connection of its own.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Api { socket: socket.into() }
    }

    /// The path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn request(&self, method: &str, target: &str, timeout: Duration) -> Result<Answer<UnixStream>> {
        let shown = || format!("{method} {target} at {}", self.socket.display());
        let stream = UnixStream::connect(&self.socket).with_context(shown)?;
        stream.set_read_timeout(Some(timeout)).with_context(shown)?;
        stream.set_write_timeout(Some(timeout)).with_context(shown)?;
        let answer = ask(stream, &Request { method, target, host: "shoal", body: &[] })
            .with_context(shown)?;
        if answer.status >= 300 {
            let status = answer.status;
            bail!("{} answered {status}: {}", shown(), answer.text().unwrap_or_default().trim());
        }
        Ok(answer)
    }

    /// Parses an answer. `status` is a plain `Value`, since the daemon adds figures of its own to
    /// the core's.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T> {
        let text = self.text(target)?;
        serde_json::from_str(&text)
            .with_context(|| format!("GET {target} answered what we do not understand: {text}"))
    }

    /// An answer as text.
    pub fn text(&self, target: &str) -> Result<String> {
        self.request("GET", target, TIMEOUT)?.text().with_context(|| format!("GET {target}"))
    }

    /// GET `/v1/status`.
    pub fn status(&self) -> Result<Value> {
        self.get("/v1/status")
    }

    /// GET `/v1/nodes`.
    pub fn nodes(&self) -> Result<Vec<NodeView>> {
        self.get("/v1/nodes")
    }

    /// GET `/v1/workloads`.
    pub fn workloads(&self) -> Result<Vec<WorkloadView>> {
        self.get("/v1/workloads")
    }

    /// The latest events of the node since its start, at most a thousand.
    pub fn events(&self) -> Result<Vec<EventView>> {
        let text = self.text("/v1/events")?;
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("an event is {line}")));
        lines.collect()
    }

    /// A workload of the default namespace.
    pub fn workload(&self, name: &str) -> Result<WorkloadView> {
        self.get(&format!("/v1/workloads/default/{name}"))
    }

    /// The auctions that placed a replica.
    pub fn explain(&self, name: &str, index: u32) -> Result<ExplainView> {
        self.get(&format!("/v1/explain/default/{name}/{index}"))
    }

    /// Follows a workload of the default namespace until it is as `wanted`; returns the time of
    /// that.
    pub fn watch(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&WorkloadView) -> bool,
    ) -> Result<(Instant, WorkloadView)> {
        let target = format!("/v1/workloads/default/{name}?watch=true");
        let deadline = Instant::now() + TIMEOUT;
        let mut last = None;
        for line in self.request("GET", &target, TIMEOUT)?.reader().lines() {
            let line = match line {
                Ok(line) => line,
                // The read timed out: nothing changed for so long.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).with_context(|| format!("waiting until {what}")),
            };
            let view: WorkloadView =
                serde_json::from_str(&line).with_context(|| format!("{target} wrote {line}"))?;
            if wanted(&view) {
                return Ok((Instant::now(), view));
            }
            last = Some(view);
            if Instant::now() > deadline {
                break;
            }
        }
        bail!(
            "waited until {what}, in vain; last seen: {}",
            last.as_ref().map_or("nothing".to_owned(), shown)
        )
    }
}

/// The replicas that a living node holds; a dead node's claim is shown as `lost` until that node
/// itself changes it.
pub fn held(view: &WorkloadView) -> impl Iterator<Item = &ReplicaView> {
    view.replicas.iter().filter(|one| one.node.is_some() && one.phase != "lost")
}

/// A workload in a line, for messages of failure.
pub fn shown(view: &WorkloadView) -> String {
    let replica = |one: &ReplicaView| {
        let reason = one.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!(
            "{} {} on {}{reason}",
            one.replica,
            one.phase,
            one.node_name.as_deref().unwrap_or("no node")
        )
    };
    let replicas: Vec<String> = view.replicas.iter().map(replica).collect();
    let WorkloadView { healthy, desired, artifact_holders, .. } = view;
    format!(
        "{healthy}/{desired} healthy, {artifact_holders} hold the artifact: {}",
        replicas.join(", ")
    )
}
