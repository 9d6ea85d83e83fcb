//! `cargo testnet scale`: how the costs of a cluster grow with its size. Files, clocks and memory
//! are used here only, since the simulated world must not know them.

mod measure;
mod plots;
mod quantities;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::sim::formed::{FormedState, Shape};
use measure::{Effort, Figures};

/// Entries of two nodes of which some differ, to measure the cost of repair; and how many differ.
const ENTRIES: usize = 10_000;
const DIFFER: [usize; 4] = [1, 10, 100, 1_000];
/// The most workloads: half of a cluster's bound. Further replicas are replicas of these.
const WORKLOADS: usize = 10_000;
/// Measuring so many replicas takes long enough to print progress.
const MIN_REPLICAS_FOR_PROGRESS: usize = 2_000;

/// Measures clusters of growing size in the simulated world: traffic, news, lost nodes, placements,
/// the ring, memory.
///
/// Each size is one process's work on one core. All sizes take some 8 GB and, built for release on
/// two cores, a quarter of an hour: `cargo run --release --package shoal-testnet -- scale`.
#[derive(Args)]
pub struct Scale {
    /// Sizes, ascending.
    #[arg(long, value_delimiter = ',', value_name = "N,..",
          default_value = "10,30,100,300,1000,3000,10000",
          value_parser = clap::value_parser!(u32).range(4..=20_000))]
    nodes: Vec<u32>,
    /// Replicas a node, of workloads of two each; of more each where there would be too many
    /// workloads.
    #[arg(long, value_name = "R", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    replicas: u32,
    /// Seed of the world, from which everything is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measures the one size given in this process, and prints its line.
    #[arg(long, hide = true)]
    one: bool,
    /// Writes `figures.md`, `figures.jsonl` and the plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

/// Measures, prints, writes. True when every cluster met its expectations.
pub fn run(scale: &Scale) -> Result<bool> {
    if let (true, [nodes]) = (scale.one, &scale.nodes[..]) {
        return measure_one(scale, *nodes as usize);
    }
    let all = each_in_its_process(scale)?;
    let Some(mut all) = all.into_iter().collect::<Option<Vec<(usize, Figures)>>>() else {
        return Ok(false);
    };
    all.sort_by_key(|(nodes, _)| *nodes);
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
        write(scale, folder, &all, &differences)?;
    }
    Ok(true)
}

/// Measures each size in a process of its own, so that the memory of one does not count for
/// another. The largest begins.
fn each_in_its_process(scale: &Scale) -> Result<Vec<Option<(usize, Figures)>>> {
    let mut sizes = scale.nodes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let (sizes, found) = (Mutex::new(sizes), Mutex::new(Vec::new()));
    let next = || sizes.lock().expect("nobody panics over a list").pop();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> Result<()> {
        while let Some(nodes) = next() {
            let measured = in_a_process(scale, nodes as usize)?;
            found.lock().expect("nobody panics over a list").push(measured);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(found.into_inner().expect("nobody panics over a list"))
}

fn in_a_process(scale: &Scale, nodes: usize) -> Result<Option<(usize, Figures)>> {
    let began = Instant::now();
    let mut child = std::process::Command::new(std::env::current_exe()?);
    let arguments =
        [("--nodes", nodes as u64), ("--replicas", scale.replicas.into()), ("--seed", scale.seed)];
    child
        .arg("scale")
        .arg("--one")
        .args(arguments.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
    let output = child
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("this program cannot be started once more")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprintln!("{nodes} nodes took {:.0} s", began.elapsed().as_secs_f64());
    Ok(said.lines().find_map(quantities::of_json))
}

/// Measures a single size in this process.
fn measure_one(scale: &Scale, nodes: usize) -> Result<bool> {
    let all = nodes * scale.replicas as usize;
    let each = all.div_ceil(WORKLOADS).max(2);
    let replicas = u32::try_from(each).context("so many replicas")?;
    let shape = Shape { nodes, workloads: all / each, replicas };
    let alone = memory_alone(scale.seed, shape);
    let began = Instant::now();
    // A large cluster takes minutes: print that it goes on.
    let progress = |stage: &str| {
        if nodes * scale.replicas as usize >= MIN_REPLICAS_FOR_PROGRESS {
            eprintln!(
                "{nodes} nodes: {stage}, {:.0} s, {} MiB",
                began.elapsed().as_secs_f64(),
                memory() >> 20
            );
        }
    };
    let measured = measure::cluster(scale.seed, shape, Effort::of(shape), memory, progress);
    let (figures, ended_well) = match measured {
        Ok(mut figures) => {
            figures.extend(measure::ring(nodes));
            figures.push(("memory_alone", alone));
            (quantities::json(nodes, &figures), true)
        }
        Err(why) => (format!("{nodes} nodes, seed {}: {why}", scale.seed), false),
    };
    println!("{figures}");
    Ok(ended_well)
}

/// KiB of a core that read all its state from a disk of its own.
fn memory_alone(seed: u64, shape: Shape) -> f64 {
    let standing = FormedState::new(seed, shape);
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
    let pages: u64 =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

fn write(
    scale: &Scale,
    folder: &Path,
    all: &[(usize, Figures)],
    differences: &[(usize, f64)],
) -> Result<()> {
    let within = || format!("in {}", folder.display());
    std::fs::create_dir_all(folder).with_context(within)?;
    let sizes: Vec<String> = all.iter().map(|(nodes, _)| nodes.to_string()).collect();
    let (sizes, Scale { replicas, seed, .. }) = (sizes.join(","), scale);
    let tables = format!(
        "Made by `scale --nodes {sizes} --replicas {replicas} --seed {seed} --write {}`.\n\n\
         {}\n{}",
        folder.display(),
        quantities::table(all),
        quantities::differences(ENTRIES, differences)
    );
    std::fs::write(folder.join("figures.md"), tables).with_context(within)?;
    let lines: String =
        all.iter().map(|(nodes, figures)| quantities::json(*nodes, figures) + "\n").collect();
    let lines = lines + &quantities::differences_json(ENTRIES, differences);
    std::fs::write(folder.join("figures.jsonl"), lines).with_context(within)?;
    plots::draw(folder, all, differences)
}
