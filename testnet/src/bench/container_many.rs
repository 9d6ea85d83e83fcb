//! Fifty replicas of a container on one engine, published at once, until all are healthy; in turn
//! with a plain loop at the engine.
//!
//! The loop creates, starts and inspects as many at a time as the daemon does, and a container
//! counts when its port takes a connection, which is what shoal calls healthy.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::container_publish::{MEMORY, Stage};
use super::{Against, Figures};
use crate::engines::image::{PORT, SERVER};
use crate::engines::{Kind, possible, raw};
use crate::real::{Options, eventually};
use crate::workspace::Workspace;

/// Replicas of the one workload.
const MANY: u32 = 50;
/// Containers that are made at a time: as many as the daemon makes.
const AT_A_TIME: usize = 16;
/// Pause of the loop before it tries again to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(2);
/// The workload's name.
const NAME: &str = "many";

pub(super) fn measure(workspace: &Workspace, options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for kind in possible() {
        let stage = Stage::start(workspace, options, kind)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 1..=runs {
            let taken = by_hand(&stage).and_then(|theirs| Ok((theirs, by_shoal(&stage)?)));
            let (by_hand, by_shoal) = stage.cluster.report_failure(taken)?;
            println!("  {} {run}/{runs}: {by_shoal:.2} s, by hand {by_hand:.2} s", kind.name());
            theirs.push(by_hand);
            ours.push(by_shoal);
        }
        all.extend(figures(kind, ours, theirs));
    }
    Ok(all)
}

fn figures(kind: Kind, ours: Vec<f64>, theirs: Vec<f64>) -> [Figures; 2] {
    let (case, raw) = match kind {
        Kind::Docker => ("docker", "docker-raw"),
        Kind::Podman => ("podman", "podman-raw"),
    };
    let figures = |case, goal, values| Figures {
        bench: "container-many",
        case,
        unit: "s",
        goal,
        values,
        against: None,
    };
    let theirs = figures(raw, "none: a loop at the engine, in turn with ours", theirs);
    let against = Some(Against { name: raw, p50: theirs.percentile(50) });
    [Figures { against, ..figures(case, "1.1x by hand", ours) }, theirs]
}

/// Seconds of the plain loop.
fn by_hand(stage: &Stage) -> Result<f64> {
    let socket = stage.engine.socket();
    let taken = stage.net.within(0, move || -> Result<f64> {
        let started = Instant::now();
        let queue: Arc<Mutex<VecDeque<u32>>> = Arc::new(Mutex::new((0..MANY).collect()));
        let worker = || {
            let (queue, socket) = (queue.clone(), socket.clone());
            std::thread::spawn(move || work(&queue, &socket))
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| worker()).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker of the loop panicked"))??;
        }
        Ok(started.elapsed().as_secs_f64())
    })??;
    for container in stage.engine.containers()? {
        raw::remove(&stage.engine.socket(), container["Id"].as_str().unwrap_or_default())?;
    }
    stage.emptied()?;
    Ok(taken)
}

fn work(queue: &Mutex<VecDeque<u32>>, socket: &str) -> Result<()> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(number) = next else { return Ok(()) };
        let (_, address) = raw::start(socket, SERVER, &format!("raw-{number}"), MEMORY)?;
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(AGAIN_AFTER);
        }
    }
}

/// Seconds from the start of `shoal run` until all replicas are healthy.
fn by_shoal(stage: &Stage) -> Result<f64> {
    let (many, port, memory) = (MANY.to_string(), PORT.to_string(), MEMORY.to_string());
    let started = Instant::now();
    let mut run = vec![
        "run",
        SERVER,
        "--name",
        NAME,
        "--port",
        &port,
        "--pull",
        "never",
        "--memory",
        &memory,
        "--cpu",
        "0.01",
        "--replicas",
        &many,
        "--no-wait",
    ];
    run.extend(raw::SAME_END);
    stage.cluster.shoal(0, &run)?;
    let api = stage.cluster.nodes[0].api();
    let what = "all replicas are healthy";
    let (ended, _) = eventually(what, || api.watch(NAME, what, |view| view.healthy == MANY))?;
    stage.cluster.shoal(0, &["rm", NAME])?;
    stage.emptied()?;
    Ok((ended - started).as_secs_f64())
}
