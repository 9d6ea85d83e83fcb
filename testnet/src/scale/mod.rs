//! `cargo testnet scale`: how what a cluster costs grows with its size. Here are files, clocks and memory, which the simulated world must
//! not know.

mod measure;
mod plots;
mod quantities;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::sim::formed::{Shape, Standing};
use measure::Figures;

/// Entries of which some differ, when it is measured what repair costs; and how many of them do.
const ENTRIES: usize = 10_000;
const DIFFER: [usize; 4] = [1, 10, 100, 1_000];
/// Replicas of one workload.
const EACH: u32 = 2;

/// Measures clusters of growing size in the simulated world: traffic, news, lost nodes, placements, the ring, memory.
///
/// Each size is one process's work on one core. Ten thousand nodes take some 12 GB and, built for release, the better part of an hour:
/// `cargo run --release --package shoal-testnet -- scale`.
#[derive(Args)]
pub struct Scale {
    /// Sizes, ascending.
    #[arg(long, value_delimiter = ',', value_name = "N,..", default_value = "10,30,100,300,1000,3000,10000",
          value_parser = clap::value_parser!(u32).range(4..=20_000))]
    nodes: Vec<u32>,
    /// Replicas a node, of workloads of two each.
    #[arg(long, value_name = "R", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    replicas: u32,
    /// Which world: everything is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes `figures.md`, `figures.jsonl` and the plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

/// Measures, prints, writes. Whether every cluster did what it is there for.
pub fn run(scale: &Scale) -> Result<bool> {
    let mut all: Vec<(usize, Figures)> = Vec::new();
    for nodes in scale.nodes.iter().map(|nodes| *nodes as usize) {
        let shape = Shape { nodes, workloads: nodes * scale.replicas as usize / EACH as usize, replicas: EACH };
        let began = Instant::now();
        match size(scale.seed, shape) {
            Ok(figures) => {
                println!("{}", quantities::json(nodes, &figures));
                eprintln!("{nodes} nodes took {:.0} s", began.elapsed().as_secs_f64());
                all.push((nodes, figures));
            }
            Err(why) => {
                println!("{nodes} nodes, seed {}: {why}", scale.seed);
                return Ok(false);
            }
        }
        if let Some(folder) = &scale.write {
            write(folder, &all, &[])?;
        }
    }
    let mut differences = Vec::new();
    for news in DIFFER {
        match measure::difference(scale.seed, ENTRIES, news) {
            Ok(ratio) => differences.push((news, ratio)),
            Err(why) => {
                println!("{news} of {ENTRIES} entries differ, seed {}: {why}", scale.seed);
                return Ok(false);
            }
        }
    }
    println!("\n{}\n{}", quantities::table(&all), quantities::differences(ENTRIES, &differences));
    if let Some(folder) = &scale.write {
        write(folder, &all, &differences)?;
    }
    Ok(true)
}

fn size(seed: u64, shape: Shape) -> Result<Figures, String> {
    let alone = memory_alone(seed, shape);
    let before = memory();
    let mut figures = measure::cluster(seed, shape, || memory().saturating_sub(before))?;
    figures.extend(measure::ring(shape.nodes));
    figures.push(("memory_alone", alone));
    Ok(figures)
}

/// What one brain takes that read everything from a disk of its own, KiB.
fn memory_alone(seed: u64, shape: Shape) -> f64 {
    let standing = Standing::new(seed, shape);
    let count = (4_000 / shape.nodes).clamp(1, 100);
    let before = memory();
    let nodes: Vec<_> = (0..count).map(|_| standing.newcomer()).collect();
    let taken = memory().saturating_sub(before);
    drop(nodes);
    taken as f64 / count as f64 / 1024.0
}

/// Bytes of memory that this process uses.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

fn write(folder: &std::path::Path, all: &[(usize, Figures)], differences: &[(usize, f64)]) -> Result<()> {
    let within = || format!("in {}", folder.display());
    std::fs::create_dir_all(folder).with_context(within)?;
    let tables = format!("{}\n{}", quantities::table(all), quantities::differences(ENTRIES, differences));
    std::fs::write(folder.join("figures.md"), tables).with_context(within)?;
    let lines: String = all.iter().map(|(nodes, figures)| quantities::json(*nodes, figures) + "\n").collect();
    std::fs::write(folder.join("figures.jsonl"), lines).with_context(within)?;
    plots::draw(folder, all)
}
