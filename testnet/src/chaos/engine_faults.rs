//! engine-faults: the container engine of a node is killed and started again, and hangs. What runs
//! in its containers runs on and is reached; afterwards each container is there once, and answers.
//!
//! Docker stops its containers when it comes back after a kill: they are started again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::net::Net;
use super::world::World;
use super::{Findings, Setup};
use crate::engines::image::{self, PORT};
use crate::engines::{Engine, Kind, possible};
use crate::real::cleanup::Folder;
use crate::real::readable;
use crate::real::traffic::ask_once;

/// The workload of containers: one on each node that has an engine.
const BOX: &str = "box";
/// Nodes that have an engine, the first ones.
const WITH_ENGINE: usize = 2;
/// How long an engine hangs or is gone: longer than the daemon waits for an answer to a ping.
const LASTS: Duration = Duration::from_secs(20);
/// Pause between two requests meanwhile.
const EVERY: Duration = Duration::from_millis(250);

pub(super) fn impossible() -> Option<String> {
    let why: Vec<String> = Kind::ALL.into_iter().filter_map(Kind::impossible).collect();
    (why.len() == Kind::ALL.len()).then(|| why.join("; "))
}

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let (mut what, mut worst) = (Vec::new(), Duration::ZERO);
    for kind in possible() {
        let findings = with(setup, kind).with_context(|| format!("on {}", kind.name()))?;
        what.push(findings.what);
        worst = worst.max(findings.worst_gap.unwrap_or_default());
    }
    Ok(Findings { what: what.join("; "), worst_gap: Some(worst) })
}

fn with(setup: &Setup, kind: Kind) -> Result<Findings> {
    let (folder, net) = (Folder::new(false)?, Net::new(setup.nodes)?);
    let archive = image::write(&setup.workspace, folder.path(), 0)?;
    let mut engines = Vec::new();
    for node in 0..WITH_ENGINE {
        let files = folder.path().join(format!("engine-{node}"));
        fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
        engines.push(Engine::start(kind, &net.place(node), &files)?);
    }
    let sockets: Vec<String> = engines.iter().map(Engine::socket).collect();
    let prepare = |places: &mut Vec<_>| {
        for (node, place) in places.iter_mut().enumerate() {
            let place: &mut crate::real::Place = place;
            place.engine = Some(sockets.get(node).cloned().unwrap_or_else(|| "none".to_owned()));
        }
        Ok(Vec::new())
    };
    let name = format!("engine-faults-{}", kind.name());
    World::run_in(setup, &name, Some(net), prepare, |world| {
        publish(world, &archive)?;
        let mut worst = Duration::ZERO;
        for (turn, engine) in engines.iter_mut().enumerate() {
            world.say(&format!("the engine of {} is killed", world.name(turn)));
            engine.kill()?;
            answers_for(world, LASTS)?;
            let again_at = Instant::now();
            engine.again()?;
            engine.ready()?;
            worst = worst.max(whole_since(world, again_at, "started again")?);

            world.say(&format!("the engine of {} hangs", world.name(turn)));
            engine.freeze()?;
            answers_for(world, LASTS)?;
            let thawed_at = Instant::now();
            engine.thaw()?;
            worst = worst.max(whole_since(world, thawed_at, "goes on")?);
        }
        let what = format!(
            "{}: {WITH_ENGINE} kills and {WITH_ENGINE} hangs of {}; gap: from its return to rest",
            kind.name(),
            readable(LASTS)
        );
        Ok(Findings { what, worst_gap: Some(worst) })
    })
}

fn publish(world: &mut World, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the image's path is not text")?;
    let (port, replicas) = (PORT.to_string(), WITH_ENGINE.to_string());
    world.cluster.shoal(
        0,
        &[
            "run",
            archive,
            "--name",
            BOX,
            "--port",
            &port,
            "--memory",
            "16MiB",
            "--stop-signal",
            "SIGKILL",
            "--replicas",
            &replicas,
        ],
    )?;
    world.desired.insert(BOX.to_owned(), WITH_ENGINE as u32);
    world.rest()
}

/// Asks the last node, which has no engine, again and again; each request must be answered.
fn answers_for(world: &World, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    let node = world.cluster.nodes.last().context("there are nodes")?;
    while Instant::now() < until {
        let sample = ask_once(node.http()?, &format!("{BOX}.localhost"));
        ensure!(
            sample.good(),
            "a request without an engine: {:?} {}",
            sample.answer,
            sample.text.trim()
        );
        std::thread::sleep(EVERY);
    }
    Ok(())
}

fn whole_since(world: &mut World, since: Instant, what: &str) -> Result<Duration> {
    world.rest()?;
    let gap = since.elapsed();
    world.say(&format!("the engine {what}: at rest after {}", readable(gap)));
    Ok(gap)
}
