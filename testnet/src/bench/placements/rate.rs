//! Placements a second: three daemons on loopback, whose runtime does nothing (`--engine noop`),
//! and one workload that grows in steps.
//!
//! A step is timed from the start of `shoal scale` until the node that was asked shows every
//! replica healthy, and not one claim more than that. Auctions, awards, signatures, writes to disk,
//! gossip and views are all there; compilation and instances are not.
//! - `0-500` to `3000-10000`: one step after the other, in replicas a second;
//! - `0-10000`: all of it at once, of a workload that is new;
//! - the same in microseconds of CPU for each replica, of all daemons together.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Figures, figures};
use crate::bench::footprint::cpu_ns;
use crate::kill::HELLO;
use crate::real::{Cluster, Options, Place, eventually};

/// The workload that grows, and the one that gets all its replicas at once.
const NAMES: [&str; 2] = ["p", "q"];
/// The number of nodes: 10,000 replicas need two at least, as a node holds 8,192.
const NODES: usize = 3;
/// The steps, by their names in lines for programs.
const STEPS: [(&str, u32, u32); 5] = [
    ("0-500", 0, 500),
    ("500-1000", 500, 1_000),
    ("1000-3000", 1_000, 3_000),
    ("3000-10000", 3_000, 10_000),
    ("0-10000", 0, 10_000),
];
/// The last step, in which there was none before.
const ALL_AT_ONCE: (u32, u32) = (0, 10_000);
/// A step that takes longer has failed.
const WAITED: Duration = Duration::from_secs(180);
/// The pause between two looks. Each makes the node count its replicas.
const LOOK_EVERY: Duration = Duration::from_millis(25);

#[derive(Default)]
struct Step {
    rates: Vec<f64>,
    cpu: Vec<f64>,
}

pub(super) fn measure(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let mut steps: Vec<Step> = STEPS.iter().map(|_| Step::default()).collect();
    for run in 0..runs {
        let offers = ["--memory", "1TiB", "--cpu", "1000", "--disk", "1TiB", "--no-mdns"];
        let place = Place {
            engine: Some("noop".into()),
            options: offers.map(str::to_owned).into(),
            ..Place::loopback()
        };
        let cluster = Cluster::start_at(options, vec![place; NODES])?;
        let taken = once(&cluster, run, &mut steps);
        cluster.report_failure(taken)?;
    }
    let mut all = Vec::new();
    for ((case, ..), step) in STEPS.iter().zip(steps) {
        all.push(figures(case, "replicas/s", "2,000", step.rates));
        all.push(figures(case, "us CPU/replica", "none", step.cpu));
    }
    Ok(all)
}

fn once(cluster: &Cluster, run: u32, steps: &mut [Step]) -> Result<()> {
    let [grows, leaps] = NAMES;
    begin(cluster, grows)?;
    let mut name = grows;
    for ((case, from, to), step) in STEPS.iter().zip(steps) {
        if name == grows && (*from, *to) == ALL_AT_ONCE {
            // A new one: a place that was awarded seconds ago waits for its claim.
            cluster.shoal(0, &["rm", grows])?;
            begin(cluster, leaps)?;
            name = leaps;
        }
        let before = cpu(cluster)?;
        let took = grow(cluster, name, *to)?;
        let (replicas, spent) = (f64::from(to - from), (cpu(cluster)? - before) as f64);
        let (rate, cpu) = (replicas / took.as_secs_f64(), spent / 1e3 / replicas);
        println!("  run {}, {case}: {rate:.0} replicas a second, {cpu:.0} us CPU each", run + 1);
        step.rates.push(rate);
        step.cpu.push(cpu);
    }
    Ok(())
}

/// Publishes a workload without replicas, and waits until nothing else runs and every node holds
/// its artifact.
fn begin(cluster: &Cluster, name: &str) -> Result<()> {
    let file = cluster.guest(HELLO)?;
    let file = file.to_str().context("the component's path is not text")?;
    let small = ["--replicas", "0", "--memory", "2MiB", "--cpu", "0.001"];
    let mut run = vec!["run", file, "--name", name];
    run.extend(small);
    cluster.shoal(0, &run)?;
    cluster.held_everywhere(0, name)?;
    eventually("no replica runs", || {
        let running = running(cluster)?;
        if running == 0 { Ok(()) } else { bail!("{running} run") }
    })
}

/// The replicas of all nodes, as the asked node knows them.
fn running(cluster: &Cluster) -> Result<usize> {
    Ok(cluster.nodes[0].api().nodes()?.iter().map(|node| node.replicas).sum())
}

/// Nanoseconds of CPU of all daemons.
fn cpu(cluster: &Cluster) -> Result<u64> {
    cluster.nodes.iter().map(cpu_ns).sum()
}

/// Scales, and waits until exactly `to` replicas run. Returns the time from the command on.
fn grow(cluster: &Cluster, name: &str, to: u32) -> Result<Duration> {
    let started = Instant::now();
    cluster.shoal(0, &["scale", &format!("{name}={to}"), "--no-wait"])?;
    let api = cluster.nodes[0].api();
    loop {
        let healthy = api.status()?["healthy"].as_u64().unwrap_or_default();
        // The nodes' counts also include duplicates, and replicas that are still to be stopped.
        if healthy == u64::from(to) && running(cluster)? == to as usize {
            return Ok(started.elapsed());
        }
        if started.elapsed() > WAITED {
            bail!("{healthy} of {to} replicas are healthy after {} s", WAITED.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
