//! kill -9 of a node that runs a container, until another node's container answers.
//!
//! Each of the three nodes has an engine of its own. The image came from a file through the first
//! node; the others fetched its parts, and their engines get it before the first loss, since each
//! node runs a replica once. After each loss the engine of the lost node starts the same image by
//! hand, to see what the engine alone takes.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{NODES, losses};
use crate::bench::{Against, Figures};
use crate::chaos::net::Net;
use crate::engines::image::{self, PORT};
use crate::engines::{Engine, Kind, raw};
use crate::kill::HELLO;
use crate::real::cleanup::Folder;
use crate::real::{Cluster, Options, eventually};
use crate::workspace::Workspace;

/// Memory of a container, ours and the engine's own.
const MEMORY: u64 = 16 << 20;
/// How the daemon names images that came from files.
const LOADED: &str = "localhost/shoal:";

/// Our figures and the engine's own; none, with a message, where there can be no such engine.
pub(super) fn measure(
    workspace: &Workspace,
    options: &Options,
    kind: Kind,
    runs: u32,
) -> Result<Vec<Figures>> {
    if let Some(why) = kind.impossible() {
        println!("  {}: skipped: {why}", kind.name());
        return Ok(Vec::new());
    }
    let (folder, net) = (Folder::new(false)?, Net::new(NODES)?);
    let archive = image::write(workspace, folder.path(), 0)?;
    let (mut engines, mut places) = (Vec::new(), Vec::new());
    for node in 0..NODES {
        let files = folder.path().join(format!("engine-{node}"));
        fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
        let mut place = net.place(node);
        let engine = Engine::start(kind, &place, &files)?;
        place.engine = Some(engine.socket());
        engines.push(engine);
        places.push(place);
    }
    let mut cluster = Cluster::start_at(options, places)?;
    let published = publish(&cluster, archive.to_str().context("the image's path is not text")?);
    cluster.report_failure(published)?;
    let lose =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    let (mut starts, mut failed) = (Vec::new(), None);
    // A node that is back removes its old container; until then it would go on with it.
    let bring_back = |cluster: &mut Cluster, victim: usize| {
        cluster.restart(victim)?;
        eventually("one container in all", || {
            let mut left = 0;
            for engine in &engines {
                left += engine.containers()?.len();
            }
            ensure!(left == 1, "{left} are there");
            Ok(())
        })
    };
    let values =
        losses(&mut cluster, runs, lose, bring_back, |run| match by_hand(&net, &engines, run) {
            Ok(taken) => starts.push(taken),
            Err(error) => failed = Some(error),
        });
    let values = cluster.report_failure(failed.map_or(values, Err))?;
    Ok(figures(kind, values, starts).into())
}

fn figures(kind: Kind, ours: Vec<f64>, theirs: Vec<f64>) -> [Figures; 2] {
    let (case, start) = match kind {
        Kind::Docker => ("docker", "docker-start"),
        Kind::Podman => ("podman", "podman-start"),
    };
    let figures = |case, goal, values| Figures {
        bench: "failover",
        case,
        unit: "ms",
        goal,
        values,
        against: None,
    };
    let theirs = figures(start, "none: the engine by hand, in turn with ours", theirs);
    let against = Some(Against { name: start, p50: theirs.percentile(50) });
    [Figures { against, ..figures(case, "by hand + 50 ms", ours) }, theirs]
}

/// Runs a replica on every node, so that all engines have the image, and then only one.
fn publish(cluster: &Cluster, archive: &str) -> Result<()> {
    let (port, memory, all) = (PORT.to_string(), MEMORY.to_string(), NODES.to_string());
    let mut run = vec![
        "run",
        archive,
        "--name",
        HELLO,
        "--port",
        &port,
        "--memory",
        &memory,
        "--replicas",
        &all,
    ];
    run.extend(raw::SAME_END);
    cluster.shoal(0, &run)?;
    cluster.held_everywhere(0, HELLO)?;
    cluster.shoal(0, &["scale", &format!("{HELLO}=1")])?;
    cluster.healthy(0, HELLO).map(drop)
}

/// Milliseconds until a container that is made by hand at one of the engines answers.
fn by_hand(net: &Net, engines: &[Engine], run: u32) -> Result<f64> {
    let node = run as usize % engines.len();
    let engine = &engines[node];
    let images = engine.get("/images/json")?;
    let mut tags = images
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
    let is_loaded = |tag: &serde_json::Value| tag.as_str().is_some_and(|it| it.starts_with(LOADED));
    let image = tags.find(is_loaded).context("the engine did not get the image")?;
    let image = image.as_str().unwrap_or_default().to_owned();
    let (socket, name) = (engine.socket(), format!("raw-{run}"));
    net.within(node, move || -> Result<f64> {
        let started = Instant::now();
        let (id, address) = raw::start(&socket, &image, &name, MEMORY)?;
        let taken = raw::answered(address)? - started;
        raw::remove(&socket, &id)?;
        Ok(taken.as_secs_f64() * 1000.0)
    })?
}
