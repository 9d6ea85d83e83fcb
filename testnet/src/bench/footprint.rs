//! The cost of an idle node: nine nodes, each linked to the eight others, one small workload.
//!
//! Each daemon runs from a file of its own, so that its code counts in full: shared pages would be
//! divided among the nine.
//! - pss: the proportional set size of each daemon after the idle time (a component was compiled
//!   before);
//! - cpu: share of one core over the idle time;
//! - disk_writes: bytes that reached the block layer in that time;
//! - traffic: bytes sent to other nodes in that time, as the daemon itself counts them;
//! - ready: from the start of the process to the first answer of its API, for a node that restarts
//!   on its state.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Figures;
use crate::kill::HELLO;
use crate::real::{Cluster, Daemon, Options};

const NODES: usize = 9;
const RESTARTS: usize = 10;

pub(super) fn measure(options: &Options, idle: Duration) -> Result<Vec<Figures>> {
    let mut cluster = Cluster::start(&Options { own_binaries: true, ..options.clone() }, NODES)?;
    let figures = cases(&mut cluster, idle);
    cluster.report_failure(figures)
}

fn cases(cluster: &mut Cluster, idle: Duration) -> Result<Vec<Figures>> {
    cluster.shoal(
        0,
        &["run", cluster.guest(HELLO)?.to_str().context("the path is not text")?, "--name", HELLO],
    )?;
    cluster.settled()?;
    println!("  {NODES} nodes run; watching them idle for {} s", idle.as_secs());
    let before = all(cluster, Reading::of)?;
    let started = Instant::now();
    std::thread::sleep(idle);
    let after = all(cluster, Reading::of)?;
    let seconds = started.elapsed().as_secs_f64();
    let per_second = |of: fn(&Reading) -> u64| -> Vec<f64> {
        let grown =
            before.iter().zip(&after).map(|(before, after)| of(after).saturating_sub(of(before)));
        grown.map(|grown| grown as f64 / seconds).collect()
    };
    let figures = |case, unit, goal, values| Figures {
        bench: "footprint",
        case,
        unit,
        goal,
        values,
        against: None,
    };
    let pss =
        all(cluster, |node| Ok(number_of(&proc(node, "smaps_rollup")?, "Pss:")? as f64 / 1024.0))?;
    let cpu = per_second(|reading| reading.cpu_ns).into_iter().map(|ns| ns / 1e7).collect();
    Ok(vec![
        figures("pss", "MiB", "12 MiB", pss),
        figures("cpu", "% core", "0.2 %", cpu),
        figures("disk_writes", "B/s", "none", per_second(|reading| reading.written)),
        figures("traffic", "B/s", "1024 B/s sent", per_second(|reading| reading.sent)),
        figures("ready", "ms", "50 ms", ready(cluster)?),
    ])
}

fn all<T>(cluster: &Cluster, read: impl Fn(&Daemon) -> Result<T>) -> Result<Vec<T>> {
    cluster.nodes.iter().map(read).collect()
}

/// Resources that a daemon has used since its start.
struct Reading {
    cpu_ns: u64,
    written: u64,
    sent: u64,
}

impl Reading {
    fn of(node: &Daemon) -> Result<Self> {
        let status = node.api().status()?;
        let sent = status["counters"]["net_bytes_sent"].as_u64();
        Ok(Reading {
            cpu_ns: cpu_ns(node)?,
            written: number_of(&proc(node, "io")?, "write_bytes:")?,
            sent: sent.context("the status has no counter net_bytes_sent")?,
        })
    }
}

/// CPU time of all threads, from the scheduler's count in nanoseconds; /proc/PID/stat would round
/// to 10 ms.
pub(super) fn cpu_ns(node: &Daemon) -> Result<u64> {
    let folder = format!("/proc/{}/task", node.pid()?);
    let mut sum = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))? {
        let path = thread?.path().join("schedstat");
        // The time of a thread that ended meanwhile is lost.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum += first.with_context(|| format!("{} says {text}", path.display()))?;
    }
    Ok(sum)
}

fn proc(node: &Daemon, file: &str) -> Result<String> {
    let path = format!("/proc/{}/{file}", node.pid()?);
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn number_of(text: &str, field: &str) -> Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("no {field} in {text}"))?;
    let word = line.split_whitespace().next().unwrap_or_default();
    word.parse().with_context(|| format!("{field} is not a number: {line}"))
}

/// Milliseconds from start to ready, of restarts of the last node.
fn ready(cluster: &mut Cluster) -> Result<Vec<f64>> {
    let node = cluster.nodes.last_mut().context("nodes run")?;
    let mut values = Vec::new();
    for _ in 0..RESTARTS {
        node.stop()?;
        let started = node.start(&[])?;
        let (at, _) = node.ready()?;
        values.push((at - started).as_secs_f64() * 1000.0);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_proc_files() {
        let io =
            "rchar: 10\nwchar: 20\nread_bytes: 30\nwrite_bytes: 4096\ncancelled_write_bytes: 50\n";
        assert_eq!(number_of(io, "write_bytes:").unwrap(), 4096);
        let rollup = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:    5000 kB\nPss:      4321 \
            kB\nPss_Dirty: 9 kB\n";
        assert_eq!(number_of(rollup, "Pss:").unwrap(), 4321);
        assert!(number_of(io, "Pss:").is_err());
    }
}
