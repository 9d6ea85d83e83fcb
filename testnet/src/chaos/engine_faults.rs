//! engine-faults: the container engine of a node is killed and started again, restarted in order,
//! hangs, and has a full disk. What runs in its containers runs on and is reached, or another node
//! answers; afterwards each container is there once, and answers.
//!
//! Docker stops its containers when it is stopped in order, and when it comes back after a kill:
//! they are started again. Podman leaves them running.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shoal_protocol::model::view::EventView;

use super::disk::Disk;
use super::net::Net;
use super::world::World;
use super::{Findings, Setup};
use crate::engines::image::{self, PORT};
use crate::engines::{Engine, Kind, possible};
use crate::real::cleanup::Folder;
use crate::real::traffic::ask_once;
use crate::real::{eventually_within, readable};

/// The workload of containers: one on each node that has an engine.
const BOX: &str = "box";
/// Nodes that have an engine, the first ones.
const WITH_ENGINE: usize = 2;
/// The node whose engine has a small disk.
const FULL: usize = 0;
/// Replicas more than there are engines, so that each engine is offered one.
const MORE: u32 = 2;
/// Far longer than a replica is tried at one node before it goes to another.
const REST_WITHIN: Duration = Duration::from_secs(120);
/// How long an engine hangs or is gone: longer than the daemon waits for an answer to a ping.
const LASTS: Duration = Duration::from_secs(20);
/// Pause between two requests meanwhile.
const EVERY: Duration = Duration::from_millis(250);

pub(super) fn impossible() -> Option<String> {
    let why: Vec<String> = Kind::ALL.into_iter().filter_map(Kind::impossible).collect();
    let none = (why.len() == Kind::ALL.len()).then(|| why.join("; "));
    none.or_else(Disk::impossible)
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
    // Unmounted after the engine on it has ended.
    let disk = Disk::small()?;
    let mut engines = Vec::new();
    for node in 0..WITH_ENGINE {
        let files = match node {
            FULL => disk.folder("engine"),
            _ => folder.path().join(format!("engine-{node}")),
        };
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

            world.say(&format!("the engine of {} is restarted", world.name(turn)));
            engine.stop()?;
            answers_for(world, LASTS)?;
            let again_at = Instant::now();
            engine.again()?;
            engine.ready()?;
            worst = worst.max(whole_since(world, again_at, "was started again")?);

            world.say(&format!("the engine of {} hangs", world.name(turn)));
            engine.freeze()?;
            answers_for(world, LASTS)?;
            let thawed_at = Instant::now();
            engine.thaw()?;
            worst = worst.max(whole_since(world, thawed_at, "goes on")?);
        }
        worst = worst.max(fills(world, &engines[FULL], &disk)?);
        let what = format!(
            "{}: {WITH_ENGINE} kills, restarts and hangs of {}, a full disk; gap: from its return \
             to rest",
            kind.name(),
            readable(LASTS)
        );
        Ok(Findings { what, worst_gap: Some(worst) })
    })
}

/// The disk of an engine is full: its container runs on, a new one fails there with a clear reason
/// and goes to the other engine. When there is room again, all is as before.
fn fills(world: &mut World, engine: &Engine, disk: &Disk) -> Result<Duration> {
    let name = world.name(FULL).to_owned();
    let before = engine.running()?;
    world.say(&format!("the disk of {name}'s engine is full"));
    disk.fill()?;
    let replicas = WITH_ENGINE as u32 + MORE;
    world.cluster.shoal(0, &["scale", &format!("{BOX}={replicas}"), "--no-wait"])?;
    let said = eventually_within(REST_WITHIN, EVERY, "a failure that names the disk", || {
        ensure!(ask(world)?, "a request was not answered");
        let events = world.cluster.nodes[0].api().events()?;
        let events = events.into_iter().chain(world.cluster.nodes[FULL].api().events()?);
        let is_it = |event: &EventView| {
            event.kind == "replica-failed" && event.message.contains("disk is full")
        };
        let mut events = events.filter(is_it);
        events.next().context("no replica failed for it").map(|event| event.message)
    })?;
    world.say(&format!("{name} says: {said}"));
    eventually_within(REST_WITHIN, EVERY, "the new replicas elsewhere", || {
        ensure!(ask(world)?, "a request was not answered");
        let view = world.cluster.nodes[0].api().workload(BOX)?;
        ensure!(view.healthy == replicas, "{} of {replicas} are healthy", view.healthy);
        Ok(())
    })?;
    ensure!(engine.running()? == before, "other containers run at {name} than before");
    let freed_at = Instant::now();
    disk.free()?;
    world.cluster.shoal(0, &["scale", &format!("{BOX}={WITH_ENGINE}"), "--no-wait"])?;
    let gap = whole_since(world, freed_at, "has room again")?;
    ensure!(engine.running()? == before, "other containers run at {name} than before");
    Ok(gap)
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

/// Whether the last node answers a request.
fn ask(world: &World) -> Result<bool> {
    let node = world.cluster.nodes.last().context("there are nodes")?;
    Ok(ask_once(node.http()?, &format!("{BOX}.localhost")).good())
}

fn whole_since(world: &mut World, since: Instant, what: &str) -> Result<Duration> {
    world.rest()?;
    let gap = since.elapsed();
    world.say(&format!("the engine {what}: at rest after {}", readable(gap)));
    Ok(gap)
}
