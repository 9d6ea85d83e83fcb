//! Placements a second: three daemons on loopback, whose runtime does nothing (`--engine noop`),
//! and one workload that grows in steps.
//!
//! A step is timed from the start of `shoal scale` until the node that was asked shows every
//! replica healthy, and not one claim more than that. Auctions, awards, signatures, writes to disk,
//! gossip and views are all there; compilation and instances are not.
//! - `0-500` to `3000-10000`: one step after the other, in replicas a second;
//! - `0-10000`: all of it at once;
//! - the same in microseconds of CPU for each replica, of all daemons together.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Figures, figures};
use crate::bench::footprint::cpu_ns;
use crate::kill::HELLO;
use crate::real::{Cluster, Options, Place};

/// The workload's name.
const NAME: &str = "p";
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
/// A step that takes longer has failed.
const WAITED: Duration = Duration::from_secs(180);
/// The pause between two looks. Each makes the node count its replicas.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
    let file = cluster.guest(HELLO)?;
    let file = file.to_str().context("the component's path is not text")?;
    cluster.shoal(
        0,
        &["run", file, "--name", NAME, "--replicas", "1", "--memory", "2MiB", "--cpu", "0.001"],
    )?;
    cluster.held_everywhere(0, NAME)?;
    let mut at = 1;
    for ((case, from, to), step) in STEPS.iter().zip(steps) {
        if at != *from {
            grow(cluster, *from)?;
        }
        let before = cpu(cluster)?;
        let took = grow(cluster, *to)?;
        let (replicas, spent) = (f64::from(to - from), (cpu(cluster)? - before) as f64);
        let (rate, cpu) = (replicas / took.as_secs_f64(), spent / 1e3 / replicas);
        println!("  run {}, {case}: {rate:.0} replicas a second, {cpu:.0} us CPU each", run + 1);
        step.rates.push(rate);
        step.cpu.push(cpu);
        at = *to;
    }
    Ok(())
}

/// Nanoseconds of CPU of all daemons.
fn cpu(cluster: &Cluster) -> Result<u64> {
    cluster.nodes.iter().map(cpu_ns).sum()
}

/// Scales, and waits until exactly `to` replicas run. Returns the time from the command on.
fn grow(cluster: &Cluster, to: u32) -> Result<Duration> {
    let started = Instant::now();
    cluster.shoal(0, &["scale", &format!("{NAME}={to}"), "--no-wait"])?;
    let api = cluster.nodes[0].api();
    loop {
        let healthy = api.status()?["healthy"].as_u64().unwrap_or_default();
        // The nodes' counts also include duplicates, and replicas that are still to be stopped.
        if healthy == u64::from(to)
            && api.nodes()?.iter().map(|node| node.replicas).sum::<usize>() == to as usize
        {
            return Ok(started.elapsed());
        }
        if started.elapsed() > WAITED {
            bail!("{healthy} of {to} replicas are healthy after {} s", WAITED.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
