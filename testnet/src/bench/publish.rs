//! From the start of `shoal run` to the first HTTP 200 at the node it was given to.
//!
//! As a user sees it: the start of the command line, hashing, upload and signing are included.
//! - warm: another workload of the same component runs, so every node holds it, compiled;
//! - cold: a component no node has seen (the same one with a different custom section), so it is
//!   uploaded and compiled.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Figures;
use crate::kill::HELLO;
use crate::real::traffic::ask_once;
use crate::real::{Cluster, Options, TIMEOUT};

pub(super) fn measure(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let cluster = Cluster::start(options, 3)?;
    let figures = cases(&cluster, runs);
    cluster.report_failure(figures)
}

fn cases(cluster: &Cluster, runs: u32) -> Result<Vec<Figures>> {
    let component = cluster.guest(HELLO)?;
    cluster.publish(0, &component, HELLO, 1)?;
    cluster.held_everywhere(0, HELLO)?;
    let mut warm = Vec::new();
    for run in 0..runs {
        warm.push(publish(cluster, &component, &format!("warm-{run}"))?);
    }
    println!("  warm: done");
    let bytes =
        fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    let mut cold = Vec::new();
    for run in 0..runs {
        let file = cluster.folder().join(format!("cold-{run}.wasm"));
        fs::write(&file, another(&bytes, run))
            .with_context(|| format!("cannot write {}", file.display()))?;
        cold.push(publish(cluster, &file, &format!("cold-{run}"))?);
    }
    println!("  cold: done");
    Ok(vec![
        Figures {
            bench: "publish",
            case: "warm",
            unit: "ms",
            goal: "p50 10 ms",
            values: warm,
            against: None,
        },
        Figures {
            bench: "publish",
            case: "cold",
            unit: "ms",
            goal: "compile + 30 ms",
            values: cold,
            against: None,
        },
    ])
}

/// The same component under another digest: a custom section, which engines skip, is added at its
/// end.
fn another(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"bench";
    let mut section = vec![u8::try_from(name.len()).expect("a short name")];
    section.extend(name);
    section.extend(number.to_le_bytes());
    let mut bytes = component.to_vec();
    bytes.extend([0, u8::try_from(section.len()).expect("a short section")]);
    bytes.extend(section);
    bytes
}

/// Milliseconds to the first 200; removes the workload again.
fn publish(cluster: &Cluster, file: &Path, name: &str) -> Result<f64> {
    let file = file.to_str().context("the component's path is not text")?;
    let taken = timed(cluster, name, &["run", file, "--name", name, "--no-wait"])?;
    cluster.shoal(0, &["rm", name])?;
    Ok(taken)
}

/// Milliseconds from the start of a command at the first node to the first 200 of a workload there.
fn timed(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<f64> {
    let node = &cluster.nodes[0];
    let mut command = node.shoal(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let run = command.spawn().context("cannot run shoal")?;
    let answered = first_answer(node.http()?, &format!("{name}.localhost"));
    let output = run.wait_with_output().context("cannot wait for shoal")?;
    ensure!(
        output.status.success(),
        "`shoal run` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok((answered? - started).as_secs_f64() * 1000.0)
}

/// The moment of the first 200 of a workload at a node.
pub(super) fn first_answer(port: SocketAddr, host: &str) -> Result<Instant> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let sample = ask_once(port, host);
        if sample.good() {
            return Ok(sample.ended);
        }
        if Instant::now() > deadline {
            bail!(
                "{host} never answered; the last time: {:?} {}",
                sample.answer,
                sample.text.trim()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
