//! A node of a one-replica workload is lost, until the workload answers at a survivor.
//!
//! The artifact is held, compiled, by all three nodes. The survivors are asked in turn, a request each 4 ms, so a gap is
//! measured to about that. The clock runs from just before the loss to the end of the first good answer to a question
//! asked after it.
//! - kill: kill -9, on loopback; between two kills the dead node is started again on its own state;
//! - cut: its link is cut, in network namespaces, which need root; between two cuts the link is mended.
//!
//! Before the next loss all must be whole.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::Figures;
use crate::chaos::net::Net;
use crate::kill::{HELLO, holder, under_traffic};
use crate::real::{Cluster, Options, eventually, shown};

const PACE: Duration = Duration::from_millis(4);
const NODES: usize = 3;

/// How a node is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Case {
    /// kill -9.
    Kill,
    /// Its link is cut.
    Cut,
}

pub(super) fn measure(options: &Options, cases: &[Case], runs: u32) -> Result<Vec<Figures>> {
    let cases = if cases.is_empty() { Case::value_variants() } else { cases };
    let mut figures = Vec::new();
    for case in cases {
        figures.extend(match case {
            Case::Kill => Some(kill(options, runs)?),
            Case::Cut => cut(options, runs)?,
        });
    }
    Ok(figures)
}

fn kill(options: &Options, runs: u32) -> Result<Figures> {
    let mut cluster = Cluster::start(options, NODES)?;
    let lose = |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    let values = losses(&mut cluster, runs, lose, Cluster::restart);
    let values = cluster.told(values)?;
    Ok(Figures { bench: "failover", case: "kill", unit: "ms", goal: "p50 200 ms, p99 600 ms", values })
}

/// None, with a line that says why, where links cannot be cut.
fn cut(options: &Options, runs: u32) -> Result<Option<Figures>> {
    if let Some(why) = Net::impossible() {
        println!("  cut: skipped: {why}");
        return Ok(None);
    }
    // Declared first, so that the nodes are gone before it.
    let net = Net::new(NODES)?;
    let mut cluster = Cluster::start_at(options, (0..NODES).map(|node| net.place(node)).collect())?;
    let lose = |_: &mut Cluster, victim: usize| {
        let at = Instant::now();
        net.cut(victim)?;
        // The command that cuts takes some milliseconds, in which the victim still answers.
        Ok((at, Instant::now()))
    };
    let values = losses(&mut cluster, runs, lose, |_, victim| net.mend(victim));
    let values = cluster.told(values)?;
    Ok(Some(Figures { bench: "failover", case: "cut", unit: "ms", goal: "p50 1200 ms, p99 2000 ms", values }))
}

/// The node that serves alone, as every node sees it: one that was cut off for a moment may not know yet that it was.
fn sole_holder(cluster: &Cluster) -> Result<usize> {
    let mut holders = BTreeSet::new();
    for node in &cluster.nodes {
        let view = node.api().workload(HELLO)?;
        ensure!(view.healthy == 1, "as {} sees it, {}", node.name, shown(&view));
        holders.insert(holder(cluster, &view)?);
    }
    ensure!(holders.len() == 1, "nodes differ about who holds it");
    holders.pop_first().context("no node runs")
}

fn losses(
    cluster: &mut Cluster,
    runs: u32,
    lose: impl Fn(&mut Cluster, usize) -> Result<(Instant, Instant)>,
    bring_back: impl Fn(&mut Cluster, usize) -> Result<()>,
) -> Result<Vec<f64>> {
    cluster.publish(0, &cluster.guest(HELLO)?, HELLO, 1)?;
    cluster.held_everywhere(0, HELLO)?;
    let mut values = Vec::new();
    for run in 1..=runs {
        cluster.settled()?;
        let victim = eventually("one holder whom all agree on", || sole_holder(cluster))?;
        let (at, answer, traffic) = under_traffic(cluster, victim, PACE, &lose)?;
        drop(traffic);
        let gap = (answer.ended - at).as_secs_f64() * 1000.0;
        println!("  {run:>3}/{runs}  {} lost, answered after {gap:.0} ms", cluster.nodes[victim].name);
        values.push(gap);
        bring_back(cluster, victim)?;
    }
    Ok(values)
}
