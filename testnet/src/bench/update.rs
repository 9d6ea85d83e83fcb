//! Requests that fail while a workload of ten HTTP replicas gets a new version step by step, and
//! while a node is drained of a workload of twenty. Three nodes; clients ask every node's HTTP port
//! in turn, 500 requests a second. A step of an update takes some
//! 15 ms here, so one run says little: twenty make some thousand requests.
//!
//! - `requests`: all requests from the start of the command to its end;
//! - `failed`: those that were not answered with 200;
//! - `seconds`: from the start of the command until it says that all is done.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Figures;
use crate::kill::HELLO;
use crate::real::traffic::Traffic;
use crate::real::{Cluster, Options};

/// The workload's name.
const NAME: &str = "web";
/// The time between two requests.
const PACE: Duration = Duration::from_millis(2);
/// Replicas that are updated.
const UPDATED: u32 = 10;
/// Replicas, of which a third or so is on the node that is drained.
const DRAINED: u32 = 20;

/// The counts of all runs.
#[derive(Default)]
struct Counts {
    requests: Vec<f64>,
    failed: Vec<f64>,
    seconds: Vec<f64>,
}

pub(super) fn update(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let cluster = Cluster::start(options, 3)?;
    let counted = updates(&cluster, runs);
    Ok(cluster.report_failure(counted)?.figures("update"))
}

pub(super) fn drain(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let cluster = Cluster::start(options, 3)?;
    let counted = drains(&cluster, runs);
    Ok(cluster.report_failure(counted)?.figures("drain"))
}

fn updates(cluster: &Cluster, runs: u32) -> Result<Counts> {
    let mut counts = Counts::default();
    publish(cluster, UPDATED, "0")?;
    for run in 1..=runs {
        let before = cluster.nodes[0].api().workload(NAME)?.generation;
        counts.during(cluster, || publish(cluster, UPDATED, &run.to_string()))?;
        let view = cluster.nodes[0].api().workload(NAME)?;
        ensure!(view.generation != before, "the version did not change");
        let update = view.update.context("the workload has a policy for updates")?;
        ensure!((update.state.as_str(), update.done) == ("done", UPDATED), "{update:?}");
    }
    Ok(counts)
}

fn drains(cluster: &Cluster, runs: u32) -> Result<Counts> {
    let mut counts = Counts::default();
    publish(cluster, DRAINED, "0")?;
    for _ in 0..runs {
        // Not the one that is given the commands.
        let node = cluster.nodes[2].id();
        let left = || -> Result<usize> {
            let all = cluster.nodes[0].api().nodes()?;
            Ok(all.iter().find(|it| it.id == *node).map_or(0, |it| it.replicas))
        };
        ensure!(left()? > 0, "the node that is to be drained runs nothing");
        counts.during(cluster, || cluster.shoal(0, &["drain", node]).map(drop))?;
        ensure!(left()? == 0, "the node is not empty");
        cluster.shoal(0, &["uncordon", node])?;
        // Fresh replicas, of which that node gets its share again.
        cluster.shoal(0, &["scale", &format!("{NAME}=0")])?;
        cluster.shoal(0, &["scale", &format!("{NAME}={DRAINED}"), "--timeout", "3m"])?;
    }
    Ok(counts)
}

/// Publishes a version of the workload, and waits until all replicas run it.
fn publish(cluster: &Cluster, replicas: u32, version: &str) -> Result<()> {
    let component = cluster.guest(HELLO)?;
    let mut text = format!("name: {NAME}\nwasm: {}\n", component.display());
    let _ = writeln!(text, "replicas: {replicas}\nmemory: 8MiB\ncpu: 0.01");
    let _ = writeln!(text, "env: {{ VERSION: \"{version}\" }}\nupdate: {{ parallel: 1 }}");
    let file = cluster.folder().join("web.yaml");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let file = file.to_str().context("the manifest's path is not text")?;
    cluster.shoal(0, &["publish", file, "--timeout", "5m"]).map(drop)
}

impl Counts {
    /// Counts the requests while `work` runs.
    fn during(&mut self, cluster: &Cluster, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let targets: Result<Vec<SocketAddr>> = cluster.nodes.iter().map(|it| it.http()).collect();
        let traffic = Traffic::start(targets?, &format!("{NAME}.localhost"), PACE);
        traffic.until("a first answer", |sample| sample.good())?;
        let started = Instant::now();
        work()?;
        let seconds = started.elapsed().as_secs_f64();
        let samples = traffic.stop();
        let failed: Vec<_> = samples.iter().filter(|sample| !sample.good()).collect();
        println!("  {:.1} s, {} requests, {} failed", seconds, samples.len(), failed.len());
        if let Some(first) = failed.first() {
            println!("  the first that failed: {:?} {}", first.answer, first.text.trim());
        }
        self.requests.push(samples.len() as f64);
        self.failed.push(failed.len() as f64);
        self.seconds.push(seconds);
        Ok(())
    }

    fn figures(self, bench: &'static str) -> Vec<Figures> {
        let of =
            |case, unit, goal, values| Figures { bench, case, unit, goal, values, against: None };
        vec![
            of("failed", "requests", "0", self.failed),
            of("requests", "requests", "500 a second", self.requests),
            of("seconds", "s", "none", self.seconds),
        ]
    }
}
