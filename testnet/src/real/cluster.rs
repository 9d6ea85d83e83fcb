//! Daemons that form a cluster, in a folder that is removed with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use shoal_protocol::model::view::WorkloadView;

use super::cleanup::Folder;
use super::{Daemon, Place, eventually, held};
use crate::workspace::{Profile, Workspace};

/// The files and settings for a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `shoal` binary.
    pub binary: PathBuf,
    /// The folder with the example components.
    pub guests: PathBuf,
    /// Leave the folder, with logs and state, at the end.
    pub keep: bool,
    /// Give each node a copy of the binary, so that nodes share no pages of it.
    pub own_binaries: bool,
}

impl Options {
    /// Builds the daemon and the guests, except those that the gate has built and named in
    /// `SHOAL_BIN` and `SHOAL_GUESTS_DIR`.
    pub fn build(workspace: &Workspace, profile: Profile) -> Result<Self> {
        Self::build_around(workspace, profile, None)
    }

    /// As [`Options::build`], with this daemon instead of a built one.
    pub fn build_around(
        workspace: &Workspace,
        profile: Profile,
        daemon: Option<PathBuf>,
    ) -> Result<Self> {
        let guests = match std::env::var_os("SHOAL_GUESTS_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                workspace.build_guests()?;
                workspace.guests()
            }
        };
        let binary = match daemon.or_else(|| std::env::var_os("SHOAL_BIN").map(PathBuf::from)) {
            Some(binary) => binary,
            None => workspace.build_daemon(profile)?,
        };
        for file in [&binary, &guests] {
            if !file.exists() {
                bail!("{} does not exist", file.display());
            }
        }
        Ok(Options { binary, guests, keep: false, own_binaries: false })
    }
}

/// Daemons `n1`, `n2`, ...; `n1` made the cluster. Drop kills them and removes the folder.
pub struct Cluster {
    /// The nodes by name. Declared before the folder, so that they are gone before it is removed.
    pub nodes: Vec<Daemon>,
    options: Options,
    folder: Folder,
}

impl Cluster {
    /// Starts `size` daemons on loopback and waits until each is linked to all others and ready.
    pub fn start(options: &Options, size: usize) -> Result<Self> {
        Self::start_at(options, vec![Place::loopback(); size])
    }

    /// As [`Cluster::start`], with a daemon at each of these places.
    pub fn start_at(options: &Options, places: Vec<Place>) -> Result<Self> {
        let folder = Folder::new(options.keep)?;
        let binary = own_name(&options.binary, folder.path())?;
        let options = Options { binary, ..options.clone() };
        let mut cluster = Cluster { nodes: Vec::new(), options, folder };
        for place in places {
            let started = cluster.add(place);
            cluster.report_failure(started)?;
        }
        let settled = cluster.settled();
        cluster.report_failure(settled)?;
        Ok(cluster)
    }

    fn add(&mut self, place: Place) -> Result<()> {
        let name = format!("n{}", self.nodes.len() + 1);
        let folder = self.folder.path().join(&name);
        let binary = if self.options.own_binaries {
            copied(&self.options.binary, &self.folder.path().join(format!("shoal-{name}")))?
        } else {
            self.options.binary.clone()
        };
        let mut node = Daemon::new(&name, &binary, folder, self.operator(), place)?;
        // Only the first node makes an operator key; the others join.
        let line = match self.nodes.first() {
            Some(first) => Some(invite(first)?),
            None => None,
        };
        let Place { listen, http, engine, options, .. } = node.place.clone();
        let mut arguments = vec!["--name", &name, "--listen", &listen, "--http", &http];
        arguments.extend(line.iter().flat_map(|line| ["--join", line]));
        arguments.extend(engine.iter().flat_map(|engine| ["--engine", engine]));
        arguments.extend(options.iter().map(String::as_str));
        let started = node.start(&arguments);
        // Added even when the start failed, so that its last lines can be shown.
        self.nodes.push(node);
        started?;
        self.nodes.last_mut().context("a node was just added")?.ready()?;
        Ok(())
    }

    /// Starts a daemon that is none of the cluster's nodes, and asks to join with this line.
    /// Returns once its API answers.
    pub fn stranger(&self, name: &str, line: &str) -> Result<Daemon> {
        let folder = self.folder.path().join(name);
        let place = Place::loopback();
        let mut node = Daemon::new(name, &self.options.binary, folder, self.operator(), place)?;
        let Place { listen, http, .. } = node.place.clone();
        node.start(&["--name", name, "--listen", &listen, "--http", &http, "--join", line])?;
        node.ready()?;
        Ok(node)
    }

    /// The folder of the operator's key.
    pub fn operator(&self) -> PathBuf {
        self.folder.path().join("operator")
    }

    /// An example component, as in `hello`.
    pub fn guest(&self, name: &str) -> Result<PathBuf> {
        let path = self.options.guests.join(format!("{name}.wasm"));
        if !path.is_file() {
            bail!("there is no example component {}", path.display());
        }
        Ok(path)
    }

    /// The folder of this run, for files that are removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The index of the node with this id.
    pub fn by_id(&self, id: &str) -> Result<usize> {
        let found = self.nodes.iter().position(|node| node.id() == id);
        found.with_context(|| format!("no node of ours has the id {id}"))
    }

    /// The indices of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].runs()).collect()
    }

    /// Any node that runs.
    pub fn any(&self) -> Result<&Daemon> {
        self.nodes.iter().find(|node| node.runs()).context("no node runs")
    }

    /// Waits until all running nodes are linked to one another and ready to own workloads.
    pub fn settled(&mut self) -> Result<()> {
        let running = self.running();
        let size = running.len() as u64;
        for index in running {
            let node = &mut self.nodes[index];
            let what = format!("{} in step with {} others", node.name, size - 1);
            // The outer error may pass, the inner one will not.
            let look = || match node.check_alive() {
                Ok(()) => in_step(node, size).map(Ok),
                Err(ended) => Ok(Err(ended)),
            };
            eventually(&what, look).flatten()?;
        }
        Ok(())
    }

    /// Starts a node that was killed or stopped on its own state, and waits until its API answers.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.nodes[index].start(&[])?;
        self.nodes[index].ready()?;
        Ok(())
    }

    /// Runs `shoal` at a node. Returns its stdout, or an error with its stderr.
    pub fn shoal(&self, index: usize, arguments: &[&str]) -> Result<String> {
        let mut command = self.nodes[index].shoal(arguments);
        let shown = format!("`shoal {}` at {}", arguments.join(" "), self.nodes[index].name);
        let output = command
            .stderr(Stdio::piped())
            .output()
            .with_context(|| format!("cannot run {shown}"))?;
        if !output.status.success() {
            bail!(
                "{shown} failed ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Publishes a component and waits until all replicas are healthy (and, as `shoal run` does,
    /// two nodes hold it).
    pub fn publish(
        &self,
        index: usize,
        file: &Path,
        name: &str,
        replicas: u32,
    ) -> Result<WorkloadView> {
        let file = file.to_str().context("the component's path is not text")?;
        self.shoal(index, &["run", file, "--name", name, "--replicas", &replicas.to_string()])?;
        self.healthy(index, name)
    }

    /// Waits until a workload is as desired and every running node holds its artifact.
    pub fn held_everywhere(&self, index: usize, name: &str) -> Result<WorkloadView> {
        let nodes = self.running().len();
        let what = format!("{name} is healthy and its artifact held by {nodes} nodes");
        self.watched(index, name, &what, |view| whole(view) && view.artifact_holders >= nodes)
    }

    /// Waits until exactly the desired replicas of a workload are held, all of them healthy.
    pub fn healthy(&self, index: usize, name: &str) -> Result<WorkloadView> {
        self.watched(index, name, &format!("{name} is healthy"), whole)
    }

    fn watched(
        &self,
        index: usize,
        name: &str,
        what: &str,
        wanted: impl Fn(&WorkloadView) -> bool,
    ) -> Result<WorkloadView> {
        self.nodes[index].api().watch(name, what, wanted).map(|(_, view)| view)
    }

    /// Stops every node gracefully.
    pub fn stop(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.runs()).try_for_each(Daemon::stop)
    }

    /// Passes a result on; prints the last lines of every node when it is an error.
    pub fn report_failure<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            for node in &self.nodes {
                eprintln!("{}", node.last_lines(15));
            }
        }
        result
    }
}

fn whole(view: &WorkloadView) -> bool {
    view.healthy == view.desired && held(view).count() as u32 == view.desired
}

fn in_step(node: &Daemon, size: u64) -> Result<()> {
    let status = node.api().status()?;
    let (up, links) = (status["nodes_up"].as_u64(), status["links"].as_u64());
    if (up, links) != (Some(size), Some(size - 1)) || status["ready"] != Value::Bool(true) {
        bail!("nodes up {up:?}, links {links:?}, ready {}", status["ready"]);
    }
    Ok(())
}

/// A line for one more node.
fn invite(first: &Daemon) -> Result<String> {
    let output = first.shoal(&["invite", "--quiet"]).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    // A binary of before, in a comparison, has a line that holds for ever.
    let old: Result<Value> = first.api().get("/v1/join-line");
    match old.as_ref().ok().and_then(|answer| answer["line"].as_str()) {
        Some(line) => Ok(line.to_owned()),
        None => bail!("no invite: {}", String::from_utf8_lossy(&output.stderr).trim_end()),
    }
}

/// Links the binary into the folder: cargo may replace the file in its build folder, and all starts
/// must run the same binary.
fn own_name(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let name = folder.join("shoal");
    // A hard link fails across file systems.
    if fs::hard_link(binary, &name).is_err() { copied(binary, &name) } else { Ok(name) }
}

fn copied(binary: &Path, name: &Path) -> Result<PathBuf> {
    fs::copy(binary, name)
        .with_context(|| format!("cannot copy {} to {}", binary.display(), name.display()))?;
    Ok(name.to_path_buf())
}
