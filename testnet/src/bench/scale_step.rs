//! The time of a large scale step: three nodes on loopback, one workload of 4 MiB replicas.
//!
//! - `0-500` to `2500-3000`: steps of 500; `1000-3000`: one step of 2,000, after a scale down to
//!   1,000. Each from the start of `shoal scale` until the node it was given to shows every replica
//!   healthy and no claim too many: once in seconds, once as replicas a second;
//! - `duplicates`: replicas that more than one node held at a time, over all steps, each counted by
//!   every holder;
//! - `dropped`: messages that a full queue dropped, of links and of gossip, by node.
//!
//! A step that is not done in time is shown by the seconds waited, and by the rate of the replicas
//! that became healthy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Figures;
use crate::kill::HELLO;
use crate::real::{Cluster, Options};

/// The workload's name.
const NAME: &str = "p";
/// Replicas after the last small step.
const MOST: u32 = 3_000;
/// Replicas that a small step adds.
const STEP: u32 = 500;
/// Replicas before the large step, which goes to `MOST`.
const LARGE_FROM: u32 = 1_000;
/// A step that takes longer counts as not done.
const WAITED: Duration = Duration::from_secs(120);
/// Time between two looks, each of which makes the node count its replicas.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The cases by their names in lines for programs.
const CASES: [&str; 7] =
    ["0-500", "500-1000", "1000-1500", "1500-2000", "2000-2500", "2500-3000", "1000-3000"];

pub(super) fn measure(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let mut steps: Vec<Vec<Step>> = CASES.iter().map(|_| Vec::new()).collect();
    let (mut duplicates, mut dropped) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let cluster = Cluster::start(options, 3)?;
        let taken = once(&cluster, run, &mut steps);
        cluster.report_failure(taken)?;
        for node in &cluster.nodes {
            let counters = &node.api().status()?["counters"];
            let count = |name: &str| counters[name].as_u64().unwrap_or_default() as f64;
            duplicates.push(count("duplicates"));
            dropped.push(count("net_messages_dropped") + count("net_gossip_dropped"));
        }
    }
    let figures = |case, unit, goal, values| Figures {
        bench: "scale-step",
        case,
        unit,
        goal,
        values,
        against: None,
    };
    let mut all = Vec::new();
    for (case, steps) in CASES.iter().zip(&steps) {
        all.push(figures(
            case,
            "s",
            "0.001 s a replica",
            steps.iter().map(|step| step.seconds).collect(),
        ));
        all.push(figures(case, "replicas/s", "1,000", steps.iter().map(Step::rate).collect()));
    }
    all.push(figures("duplicates", "replicas", "none", duplicates));
    all.push(figures("dropped", "messages", "none", dropped));
    Ok(all)
}

/// The time of a step, and the replicas that became healthy.
struct Step {
    seconds: f64,
    replicas: f64,
}

impl Step {
    fn rate(&self) -> f64 {
        self.replicas / self.seconds
    }
}

fn once(cluster: &Cluster, run: u32, steps: &mut [Vec<Step>]) -> Result<()> {
    let file = cluster.guest(HELLO)?;
    let file = file.to_str().context("the component's path is not text")?;
    cluster.shoal(
        0,
        &["run", file, "--name", NAME, "--replicas", "1", "--memory", "4MiB", "--cpu", "0.001"],
    )?;
    cluster.held_everywhere(0, NAME)?;
    cluster.shoal(0, &["scale", &format!("{NAME}=0"), "--no-wait"])?;
    reach(cluster, 0, 0)?;
    let mut from = 0;
    for (case, steps) in CASES.iter().zip(steps.iter_mut()) {
        let to = if from == MOST {
            from = down(cluster)?;
            MOST
        } else {
            from + STEP
        };
        let step = reach(cluster, from, to)?;
        println!(
            "  run {}, {case}: {:.2} s, {:.0} replicas a second",
            run + 1,
            step.seconds,
            step.rate()
        );
        steps.push(step);
        from = to;
    }
    Ok(())
}

fn down(cluster: &Cluster) -> Result<u32> {
    reach(cluster, MOST, LARGE_FROM)?;
    Ok(LARGE_FROM)
}

/// Scales, and waits until exactly `to` replicas run.
fn reach(cluster: &Cluster, from: u32, to: u32) -> Result<Step> {
    let started = Instant::now();
    cluster.shoal(0, &["scale", &format!("{NAME}={to}"), "--no-wait"])?;
    let api = cluster.nodes[0].api();
    let mut healthy;
    loop {
        let status = api.status()?;
        healthy = status["healthy"].as_u64().unwrap_or_default();
        // The nodes' counts also include duplicates, and replicas that are still to be stopped.
        if healthy == u64::from(to)
            && api.nodes()?.iter().map(|node| node.replicas).sum::<usize>() == to as usize
        {
            break;
        }
        if started.elapsed() > WAITED {
            println!("  {from} to {to}: not done in {} s, {healthy} healthy", WAITED.as_secs());
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let replicas = healthy as f64 - f64::from(from);
    Ok(Step { seconds: started.elapsed().as_secs_f64(), replicas: replicas.max(0.0) })
}
