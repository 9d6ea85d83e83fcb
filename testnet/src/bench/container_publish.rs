//! From the start of `shoal run` of a container to the first HTTP 200, and the same by hand.
//!
//! The engine is on the node that the command is given to and runs nothing else; two more nodes
//! have none. It has the image. By hand: create, start, inspect for the address, and requests until
//! one is answered, each call on a connection of its own. Both take turns.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use super::publish::first_answer;
use super::{Against, Figures};
use crate::chaos::net::Net;
use crate::engines::image::{self, PORT, SERVER};
use crate::engines::{Engine, Kind, possible, raw};
use crate::real::cleanup::Folder;
use crate::real::{Cluster, Options, eventually};
use crate::workspace::Workspace;

/// Nodes of the cluster; the first has the engine.
const NODES: usize = 3;
/// Memory of a container, ours and theirs.
pub(super) const MEMORY: u64 = 16 << 20;

/// A cluster whose first node has an engine with the image, in networks of their own.
pub(super) struct Stage {
    // In this order they are dropped: the network last.
    pub(super) cluster: Cluster,
    pub(super) engine: Engine,
    pub(super) net: Net,
    _folder: Folder,
}

impl Stage {
    /// Starts all of it.
    pub(super) fn start(workspace: &Workspace, options: &Options, kind: Kind) -> Result<Self> {
        let (folder, net) = (Folder::new(false)?, Net::new(NODES)?);
        let archive = image::write(workspace, folder.path(), 0)?;
        let files = folder.path().join("engine");
        fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
        let engine = Engine::start(kind, &net.place(0), &files)?;
        engine.load(&archive, SERVER)?;
        let mut places: Vec<_> = (0..NODES).map(|node| net.place(node)).collect();
        for (node, place) in places.iter_mut().enumerate() {
            place.engine = Some(if node == 0 { engine.socket() } else { "none".to_owned() });
        }
        let cluster = Cluster::start_at(options, places)?;
        Ok(Stage { cluster, engine, net, _folder: folder })
    }

    /// Waits until the engine has no container.
    pub(super) fn emptied(&self) -> Result<()> {
        eventually("an engine without containers", || {
            let left = self.engine.containers()?.len();
            anyhow::ensure!(left == 0, "{left} are left");
            Ok(())
        })
    }
}

pub(super) fn measure(workspace: &Workspace, options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for kind in possible() {
        let stage = Stage::start(workspace, options, kind)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first of each is not counted: the engine reads its files for the first time.
        for run in 0..=runs {
            let taken = by_hand(&stage, &format!("raw-{run}"))
                .and_then(|theirs| Ok((theirs, by_shoal(&stage, &format!("run-{run}"))?)));
            let (by_hand, by_shoal) = stage.cluster.report_failure(taken)?;
            if run > 0 {
                theirs.push(by_hand);
                ours.push(by_shoal);
            }
        }
        println!("  {}: done", kind.name());
        all.extend(figures(kind, ours, theirs));
    }
    Ok(all)
}

fn figures(kind: Kind, ours: Vec<f64>, theirs: Vec<f64>) -> [Figures; 3] {
    let (case, raw, more) = match kind {
        Kind::Docker => ("docker", "docker-raw", "docker-more"),
        Kind::Podman => ("podman", "podman-raw", "podman-more"),
    };
    let figures = |case, goal, values| Figures {
        bench: "container-publish",
        case,
        unit: "ms",
        goal,
        values,
        against: None,
    };
    let differences = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect();
    let theirs = figures(raw, "none: the engine by hand, in turn with ours", theirs);
    let against = Some(Against { name: raw, p50: theirs.percentile(50) });
    let ours = Figures { against, ..figures(case, "by hand + 15 ms", ours) };
    [ours, theirs, figures(more, "p50 15 ms", differences)]
}

/// Milliseconds until a container that is made by hand answers; removes it again.
fn by_hand(stage: &Stage, name: &str) -> Result<f64> {
    let (socket, name) = (stage.engine.socket(), name.to_owned());
    let taken = stage.net.within(0, move || -> Result<f64> {
        let started = Instant::now();
        let (id, address) = raw::start(&socket, SERVER, &name, MEMORY)?;
        let taken = raw::answered(address)? - started;
        raw::remove(&socket, &id)?;
        Ok(taken.as_secs_f64() * 1000.0)
    })??;
    stage.emptied()?;
    Ok(taken)
}

/// The same with `shoal run`. Requests are sent from the moment on in which the node reports the
/// replica healthy, as those by hand are from the end of the start on: sent all the time, they
/// would take a part of the device while the engine works.
fn by_shoal(stage: &Stage, name: &str) -> Result<f64> {
    let (port, memory) = (PORT.to_string(), MEMORY.to_string());
    let node = &stage.cluster.nodes[0];
    let started = Instant::now();
    stage.cluster.shoal(
        0,
        &[
            "run",
            SERVER,
            "--name",
            name,
            "--port",
            &port,
            "--pull",
            "never",
            "--memory",
            &memory,
            "--no-wait",
        ]
        .into_iter()
        .chain(raw::SAME_END)
        .collect::<Vec<_>>(),
    )?;
    node.api().watch(name, "it is healthy", |view| view.healthy == 1)?;
    let answered = first_answer(node.http()?, &format!("{name}.localhost"))?;
    let taken = (answered - started).as_secs_f64() * 1000.0;
    stage.cluster.shoal(0, &["rm", name])?;
    stage.emptied()?;
    Ok(taken)
}
