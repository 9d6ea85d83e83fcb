//! Benchmarks, run by hand on a quiet machine, with release binaries. They print a table for people and one JSON object a
//! line for programs, and say what was measured, whatever came out.

pub mod failover;
mod figures;
mod footprint;
mod publish;
pub mod swarm;

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::real::Options;
use crate::workspace::{Profile, Workspace};
use failover::Case;
use figures::{Against, Figures};
use swarm::Beside;

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// Lose the node of a one-replica workload, until a survivor answers. Cases kill (kill -9) and cut (its link is cut,
    /// which needs root). Three nodes; beside them, in turn, a Docker Swarm of three managers where there can be one (root
    /// and dockerd).
    Failover {
        /// Only this case; may be given several times.
        #[arg(long = "case", value_enum)]
        cases: Vec<Case>,
        /// How many losses a case.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// How many losses a case of Docker Swarm, spread among ours; each takes about a minute. 0: without Swarm.
        #[arg(long, default_value_t = 3)]
        swarm_times: u32,
    },
    /// From `shoal run` to the first HTTP 200. Cases warm (artifact held and compiled) and cold (never seen). Three nodes.
    Publish {
        /// How many publishes a case.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// What a node costs while nothing happens: cases pss, cpu, disk_writes, traffic, ready. Nine nodes, eight links each.
    Footprint {
        /// How long to watch them idle.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
}

/// Runs one benchmark and prints what it found.
pub fn run(workspace: &Workspace, bench: &Bench) -> Result<()> {
    println!("building the daemon for release and the example component (the first time takes many minutes)");
    let options = Options::build(workspace, Profile::Release)?;
    println!("measuring {} on {}", options.binary.display(), machine());
    let all = match bench {
        Bench::Failover { cases, runs, swarm_times } => {
            failover::measure(&options, cases, *runs, Beside::start(workspace, *swarm_times))?
        }
        Bench::Publish { runs } => publish::measure(&options, *runs)?,
        Bench::Footprint { seconds } => footprint::measure(&options, Duration::from_secs(*seconds))?,
    };
    println!("\n{}", figures::table(&all));
    for figures in &all {
        println!("{}", figures.json());
    }
    Ok(())
}

/// Cores, architecture and load, since the figures mean little without them.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!("{cores} cores, {}, load {load} (on a busy machine the figures are worse)", std::env::consts::ARCH)
}
