//! `cargo testnet fuzz`: builds the programs of all targets, runs each for its share of the time,
//! and tells what came of it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::figures::Figures;
use crate::real::cleanup;
use crate::workspace::{Workspace, output, passes};

/// MiB of memory that an input may take of a program: above what the seeds' clusters take.
const MEMORY: usize = 1_024;
/// Seconds for one input, by which a loop is told from hard work on a busy machine.
const HANG: usize = 20;

/// Hostile input to every decoder, and to the core, under libFuzzer.
///
/// Needs a nightly compiler and cargo-fuzz, and says how to get them. What is found and how far the
/// search came is kept in the build folder, under `fuzz/`: the next run goes on from there. A crash
/// is a failure, with the input that leads to it.
#[derive(Args)]
pub struct Fuzz {
    /// How long in all; each target gets an equal share.
    #[arg(long, value_name = "M", default_value_t = 10)]
    minutes: u64,
    /// Only this target; may be given several times.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
}

/// Where the programs and their findings are.
struct Places {
    programs: PathBuf,
    corpus: PathBuf,
    findings: PathBuf,
}

/// Runs the command. Returns whether nothing was found.
pub fn run(workspace: &Workspace, fuzz: &Fuzz) -> Result<bool> {
    let known = names(workspace)?;
    if fuzz.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    if let Some(odd) = fuzz.targets.iter().find(|it| !known.contains(it)) {
        bail!("there is no target `{odd}`; there are {}", known.join(", "));
    }
    let wanted = if fuzz.targets.is_empty() { known } else { fuzz.targets.clone() };
    check_tools()?;
    let places = build(workspace, &wanted)?;
    let workers = thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    let share = fuzz.minutes * 60 * workers as u64 / wanted.len() as u64;
    println!("{} targets, {share} s each, {workers} at a time\n{}", wanted.len(), Figures::HEAD);
    let all = run_all(&places, wanted, workers, share.max(1))?;
    println!();
    all.iter().for_each(|it| println!("{}", it.json()));
    let total: u64 = all.iter().map(|it| it.executions).sum();
    let found: Vec<&Figures> = all.iter().filter(|it| it.crashes > 0).collect();
    println!("\n{total} executions; {} targets with a crash", found.len());
    for it in &found {
        println!("{}: the inputs and the log are in {}", it.target, places.findings.display());
    }
    Ok(found.is_empty())
}

fn manifest(workspace: &Workspace) -> PathBuf {
    workspace.root.join("testnet/fuzz/Cargo.toml")
}

/// The targets are the programs of the fuzz crate.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path"];
    let mut cargo = workspace.cargo(arguments);
    cargo.arg(manifest(workspace));
    let told: Value = serde_json::from_str(&output(cargo)?).context("cargo metadata")?;
    let programs = told["packages"][0]["targets"].as_array().context("a package has targets")?;
    let is_program = |it: &&Value| it["kind"][0] == "bin";
    let names = programs.iter().filter(is_program).filter_map(|it| it["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn check_tools() -> Result<()> {
    let works = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !works(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
        bail!(
            "libFuzzer needs a nightly compiler: rustup toolchain install nightly --profile minimal"
        );
    }
    if !works(Command::new("rustup").args(["run", "nightly", "cargo", "fuzz", "--version"])) {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

fn build(workspace: &Workspace, wanted: &[String]) -> Result<Places> {
    let root = workspace.target.join("fuzz");
    let mut build = workspace.program(Path::new("rustup"));
    // Ours is safe code, where a sanitizer finds nothing that a panic does not tell, at a third of
    // the speed. Overflow and debug assertions are on.
    build.args(["run", "nightly", "cargo", "fuzz", "build", "--sanitizer", "none"]);
    build.arg("--fuzz-dir").arg(workspace.root.join("testnet/fuzz"));
    if let [only] = wanted {
        build.arg(only);
    }
    build.env_remove("CARGO").env("CARGO_TARGET_DIR", &root);
    println!("building the targets into {} (the first time, many minutes)", root.display());
    passes(build)?;
    let host = output({
        let mut rustc = Command::new("rustup");
        rustc.args(["run", "nightly", "rustc", "--print", "host-tuple"]);
        rustc
    })?;
    let places = Places {
        programs: root.join(host.trim()).join("release"),
        corpus: root.join("corpus"),
        findings: root.join("findings"),
    };
    fs::create_dir_all(&places.findings)
        .with_context(|| format!("cannot make {}", places.findings.display()))?;
    Ok(places)
}

/// Runs the targets, `workers` at a time, and prints a line when one has ended.
fn run_all(
    places: &Places,
    wanted: Vec<String>,
    workers: usize,
    share: u64,
) -> Result<Vec<Figures>> {
    let queue = Mutex::new(VecDeque::from(wanted));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<Figures>> {
        let mut done = Vec::new();
        while let Some(name) = next() {
            let figures = run_one(places, &name, share)?;
            println!("{}", figures.row());
            done.push(figures);
        }
        Ok(done)
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in running {
            all.extend(worker.join().expect("a worker does not panic")?);
        }
        Ok(all)
    })
}

fn run_one(places: &Places, name: &str, share: u64) -> Result<Figures> {
    let corpus = places.corpus.join(name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let temp = cleanup::Folder::new(false)?;
    let log = places.findings.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(places.programs.join(name));
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={share}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-malloc_limit_mb={MEMORY}"))
        .arg(format!("-timeout={HANG}"))
        .arg(format!("-artifact_prefix={}/{name}-", places.findings.display()))
        .arg("-print_final_stats=1")
        .env("SHOAL_FUZZ_SEEDS", &corpus)
        .env("TMPDIR", temp.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file);
    let mut child = cleanup::start(&mut command)
        .with_context(|| format!("cannot start the program of the target {name}"))?;
    let status = child.wait().context("a process that was started can be waited for")?;
    cleanup::end(&mut child);
    let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(Figures::read(name, &String::from_utf8_lossy(&text), status.success()))
}
