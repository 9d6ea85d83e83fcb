//! Benchmarks, run by hand on a quiet machine, with release binaries. They print a table for people
//! and one JSON object a line for programs, and judge nothing. With `--against` an older commit's
//! benchmark of the same name runs in turn with today's, and the ratio is added to each figure.

mod cli_options;
mod container_many;
mod container_publish;
pub mod failover;
mod figures;
mod files;
mod footprint;
mod image_spread;
mod older;
mod placements;
mod publish;
mod rounds;
mod scale_step;
pub mod swarm;
mod update;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Args, Subcommand};

use crate::real::Options;
use crate::workspace::{Profile, Workspace};
use cli_options::{CliOption, cli_options};
use failover::Case;
use figures::{Against, Figures, Shown};
use older::OlderCommit;
use swarm::SwarmTurns;

/// Benchmarks: a table and JSON lines. For a quiet machine.
///
/// `cargo testnet bench --against COMMIT NAME ..` measures an older commit beside today's code, in
/// the same run: it clones and builds the commit (kept for the next time), runs its benchmark of
/// that name and today's in turn, and prints the ratio of the p50s, ours / theirs, beside each
/// figure and in the JSON lines.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  cargo testnet bench publish --runs 50\n  \
    cargo testnet bench --against HEAD~20 publish\n  cargo testnet bench --against 1a2b3c4 \
    --rounds 5 failover --case kill --runs 10")]
pub struct Benches {
    /// An older commit to measure in turn with today's code. Options of the benchmark are passed on
    /// where it has them; a case that it lacks has no ratio. Docker Swarm is left out unless
    /// --swarm-times is given.
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// With --against: how often each of the two runs, in turn, the older one first. The figures
    /// are of all rounds, but p50 and ratio are of the medians of the rounds' p50s.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "against",
          value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(subcommand)]
    bench: Bench,
}

/// A benchmark to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// Lose the node of a one-replica workload, until a survivor answers. Cases kill (kill -9),
    /// bridges (the same, where each node has two addresses that nobody reaches; needs root),
    /// cut (its link is cut, which needs root), docker and podman (kill -9, and the workload is a
    /// container; beside it the engine's own start). Three nodes; beside them, in turn, a Swarm
    /// of three managers where there can be one (root and dockerd).
    Failover {
        /// Only this case; may be given several times.
        #[arg(long = "case", value_enum)]
        cases: Vec<Case>,
        /// How many losses a case.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// How many losses a case of Docker Swarm, spread among ours; each takes about a minute. 0:
        /// without Swarm.
        #[arg(long, default_value_t = 3)]
        swarm_times: u32,
        /// Only kill -9, in turn without and with so many connections at a time against the mesh
        /// port of every survivor: TCP alone, strangers that are silent, garbage. Cases kill and
        /// kill-back, between two nodes to and fro; each run has two losses of both kinds.
        #[arg(long, value_name = "CONNECTIONS", conflicts_with = "cases",
              value_parser = clap::value_parser!(u16).range(1..=4096))]
        flood: Option<u16>,
    },
    /// From `shoal run` to the first HTTP 200. Cases warm (artifact held and compiled) and cold
    /// (never seen). Three nodes.
    Publish {
        /// How many publishes a case.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// From `shoal run` of a container to the first HTTP 200, in turn with the same by hand at the
    /// engine: create, start, ask until it answers. On Docker and on Podman, started for it; cases
    /// NAME, NAME-raw, and NAME-more: the differences. Three nodes; needs root.
    ContainerPublish {
        /// How many publishes, of each of the two on each engine.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// Fifty replicas of a container on one engine, until all are healthy, in turn with a plain
    /// loop at the engine of the same concurrency. On Docker and on Podman; needs root.
    ContainerMany {
        /// How many times, of each of the two on each engine.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// An image of 100 MB to five nodes at once, over links of 100 Mbit/s: cases bytes (sent by the
    /// source, by the image's size), held (until all five hold it), healthy (until all five run
    /// it), and tcp-copy (one plain copy to one node, in turn). Six nodes; needs root and Podman.
    ImageSpread {
        /// How many images.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Bytes of an image, in millions.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        megabytes: u64,
    },
    /// Ten HTTP replicas get a new version, one at a time, while clients ask every node: cases
    /// failed (requests), requests, seconds. Three nodes.
    Update {
        /// How many updates.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// A node is drained of its share of twenty HTTP replicas while clients ask every node: cases
    /// as `update`. Three nodes.
    Drain {
        /// How many drains.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// The cost of an idle node: cases pss, cpu, disk_writes, traffic, ready. Nine nodes, eight
    /// links each.
    Footprint {
        /// How long to watch them idle.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Scale a workload of 4 MiB replicas: steps of 500 up to 3,000, and one from 1,000 to 3,000;
    /// each until all are healthy. Duplicates and dropped messages are counted, too. Three nodes.
    ScaleStep {
        /// How many times, each with a fresh cluster.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
    },
    /// Reads files of other tools, in turn with the tools themselves: cases compose (200 services,
    /// `shoal convert` beside `docker-compose config`) and kubernetes (some 2 MB, beside `kubectl
    /// kustomize`). No node is started.
    Files {
        /// How many times, of each of the two.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// The docker-compose to measure.
        #[arg(long, value_name = "FILE", default_value = "docker-compose")]
        compose: PathBuf,
        /// The kubectl to measure.
        #[arg(long, value_name = "FILE", default_value = "kubectl")]
        kubectl: PathBuf,
    },
    /// Placements. Case rate: how many a second, of one workload that grows to 10,000 replicas on
    /// three nodes whose runtime does nothing. Cases p99-1000 and p99-10000: how long a single one
    /// takes in a simulated cluster of so many nodes, and its CPU time, for which this program
    /// should be a release build: `cargo run --release --package shoal-testnet -- bench
    /// placements`. The greatest cluster takes some 8 GB.
    Placements {
        /// Only this case; may be given several times.
        #[arg(long = "case", value_enum)]
        cases: Vec<placements::Case>,
        /// How many times the workload grows, each with a fresh cluster.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// How many single placements a simulated cluster.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
    },
}

/// Options with another default when an older commit is measured: Swarm would take turns, too.
const COMPARISON_DEFAULTS: [(&str, &str); 1] = [("--swarm-times", "0")];

/// Runs a benchmark and prints its figures. `benches` was parsed from `matches`.
pub fn run(workspace: &Workspace, benches: &Benches, matches: &ArgMatches) -> Result<()> {
    let Some(commit) = &benches.against else {
        let all = match benches.bench.simulated() {
            Some(measured) => measured?,
            None => benches.bench.measure(workspace, &built(workspace)?)?,
        };
        show(all.iter().map(Figures::shown));
        return Ok(());
    };
    let (name, mut given) =
        cli_options(matches).expect("a benchmark was chosen: clap refuses to go on without");
    // Before today's build, since it may fail: on a commit that does not exist, or does not build.
    let older = OlderCommit::prepare(workspace, commit)?;
    let options = built(workspace)?;
    let bench = benches.bench.with_comparison_defaults(&mut given);
    let supported = older.supported_options(&name)?;
    let Some(passed) = supported.and_then(|supported| supported.pass(&given, commit)) else {
        println!("{commit} has no such benchmark: {name} of today's code alone");
        let all = bench.measure(workspace, &options)?;
        show(all.iter().map(Figures::shown));
        return Ok(());
    };
    let all = rounds::in_turn(
        benches.rounds,
        || older.measure(&name, &passed),
        || bench.measure(workspace, &options),
    )?;
    show(all.iter().map(|compared| compared.shown(commit)));
    Ok(())
}

fn built(workspace: &Workspace) -> Result<Options> {
    println!(
        "building the daemon for release and the example component (the first time takes many \
            minutes)"
    );
    let options = Options::build(workspace, Profile::Release)?;
    println!("measuring {} on {}", options.binary.display(), machine());
    Ok(options)
}

fn show<'a>(all: impl Iterator<Item = Shown<'a>> + Clone) {
    println!("\n{}", figures::table(all.clone()));
    for shown in all {
        println!("{}", shown.json());
    }
}

impl Bench {
    /// The figures of a benchmark that starts no real node, for which no daemon has to be built.
    fn simulated(&self) -> Option<Result<Vec<Figures>>> {
        let Bench::Placements { cases, runs, times } = self else { return None };
        let is_real = placements::Case::chosen(cases).contains(&placements::Case::Rate);
        (!is_real).then(|| placements::measure(None, cases, *runs, *times))
    }

    fn measure(&self, workspace: &Workspace, options: &Options) -> Result<Vec<Figures>> {
        match self {
            Bench::Failover { runs, flood: Some(connections), .. } => {
                failover::flood::measure(options, *runs, usize::from(*connections))
            }
            Bench::Failover { cases, runs, swarm_times, flood: None } => {
                let swarm = SwarmTurns::start(workspace, *swarm_times);
                failover::measure(workspace, options, cases, *runs, swarm)
            }
            Bench::Publish { runs } => publish::measure(options, *runs),
            Bench::ContainerPublish { runs } => {
                container_publish::measure(workspace, options, *runs)
            }
            Bench::ImageSpread { runs, megabytes } => {
                image_spread::measure(workspace, options, *runs, *megabytes)
            }
            Bench::ContainerMany { runs } => container_many::measure(workspace, options, *runs),
            Bench::Update { runs } => update::update(options, *runs),
            Bench::Drain { runs } => update::drain(options, *runs),
            Bench::Files { runs, compose, kubectl } => {
                files::measure(options, *runs, compose, kubectl)
            }
            Bench::ScaleStep { runs } => scale_step::measure(options, *runs),
            Bench::Placements { cases, runs, times } => {
                placements::measure(Some(options), cases, *runs, *times)
            }
            Bench::Footprint { seconds } => {
                footprint::measure(options, Duration::from_secs(*seconds))
            }
        }
    }

    /// Applies [`COMPARISON_DEFAULTS`], here and to the options that are passed on.
    fn with_comparison_defaults(&self, given: &mut [CliOption]) -> Bench {
        let mut bench = self.clone();
        for CliOption { flag, values, by_user } in given {
            let Some((_, value)) =
                COMPARISON_DEFAULTS.iter().find(|(name, _)| name == flag).filter(|_| !*by_user)
            else {
                continue;
            };
            *values = vec![(*value).to_owned()];
            if let Bench::Failover { swarm_times, .. } = &mut bench {
                *swarm_times = 0;
            }
        }
        bench
    }
}

/// Cores, architecture and load, without which the figures mean little.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "{cores} cores, {}, load {load} (on a busy machine the figures are worse)",
        std::env::consts::ARCH
    )
}
