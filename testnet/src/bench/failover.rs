//! A node of a one-replica workload is lost, until the workload answers at a survivor.
//!
//! All three nodes hold the artifact, compiled. The survivors get a request each 4 ms in turn, so a
//! gap is measured to about that. The clock runs from just before the loss to the end of the first
//! good answer to a request sent after it.
//! - kill: kill -9, on loopback; between two kills the dead node is started again on its own state;
//! - bridges: kill -9 as well, of nodes with two more addresses each, at which packets are lost
//!   silently; in network namespaces, which need root. The addresses should cost nothing: a p50
//!   within 1.2 times kill's is the goal;
//! - cut: its link is cut, in network namespaces, which need root; between two cuts the link is
//!   mended.
//!
//! - docker, podman: kill -9 of a node that runs a container, see `failover/containers.rs`.
//!
//! - with `--flood`: kill alone, in turn without and with a flood, see `failover/flood.rs`.
//!
//! Before the next loss the cluster must have recovered. Between our losses Docker Swarm loses its
//! node in the same ways, see [`super::swarm`].

mod containers;
pub(super) mod flood;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{Against, Figures, SwarmTurns};
use crate::chaos::net::{Clutter, Net};
use crate::engines::Kind;
use crate::kill::{HELLO, holder, under_traffic};
use crate::real::{Cluster, Options, eventually, shown};
use crate::workspace::Workspace;

pub(super) const PACE: Duration = Duration::from_millis(4);
pub(super) const NODES: usize = 3;

/// How a node is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Case {
    /// kill -9.
    Kill,
    /// kill -9, where each node has two addresses that cannot be reached.
    Bridges,
    /// Its link is cut.
    Cut,
    /// kill -9 of a node that runs a container, each node with a Docker of its own.
    Docker,
    /// The same with Podman.
    Podman,
}

pub(super) fn measure(
    workspace: &Workspace,
    options: &Options,
    cases: &[Case],
    runs: u32,
    mut beside: SwarmTurns,
) -> Result<Vec<Figures>> {
    let cases = if cases.is_empty() { Case::value_variants() } else { cases };
    let mut figures = Vec::new();
    for case in cases {
        let ours = match case {
            Case::Kill => Some(kill(options, runs, &mut beside)?),
            Case::Bridges => bridges(options, runs)?,
            Case::Cut => cut(options, runs, &mut beside)?,
            Case::Docker => {
                figures.extend(containers::measure(workspace, options, Kind::Docker, runs)?);
                None
            }
            Case::Podman => {
                figures.extend(containers::measure(workspace, options, Kind::Podman, runs)?);
                None
            }
        };
        figures.extend(ours.into_iter().flat_map(|ours| compared(*case, ours, beside.taken())));
    }
    Ok(figures)
}

/// Our figures of a case, and Swarm's as a case of their own when it took part.
fn compared(case: Case, ours: Vec<f64>, theirs: Vec<f64>) -> Vec<Figures> {
    let (case, swarm, goal) = match case {
        Case::Kill => ("kill", "swarm-kill", "p50 200 ms, p99 600 ms"),
        Case::Bridges => ("bridges", "", "p50 1.2x kill's"),
        Case::Cut => ("cut", "swarm-cut", "p50 1200 ms, p99 2000 ms"),
        // They are compared with the engine's own start instead.
        Case::Docker | Case::Podman => ("container", "", ""),
    };
    let figures = |case, goal, values| Figures {
        bench: "failover",
        case,
        unit: "ms",
        goal,
        values,
        against: None,
    };
    let ours = figures(case, goal, ours);
    if theirs.is_empty() {
        return vec![ours];
    }
    let theirs = figures(swarm, "none: Docker Swarm, in turn with ours", theirs);
    let against = Some(Against { name: "swarm", p50: theirs.percentile(50) });
    vec![Figures { against, ..ours }, theirs]
}

fn kill(options: &Options, runs: u32, beside: &mut SwarmTurns) -> Result<Vec<f64>> {
    let mut cluster = Cluster::start(options, NODES)?;
    let lose =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    publish(&cluster)?;
    let values = losses(&mut cluster, runs, lose, Cluster::restart, |run| {
        beside.after(Case::Kill, run, runs)
    });
    cluster.report_failure(values)
}

/// None, with a message, where network namespaces are not possible.
fn bridges(options: &Options, runs: u32) -> Result<Option<Vec<f64>>> {
    if let Some(why) = Net::impossible() {
        println!("  bridges: skipped: {why}");
        return Ok(None);
    }
    // Declared first, so that the nodes are gone before it.
    let net = Net::cluttered(NODES, Clutter::DeadEnds)?;
    let mut cluster = Cluster::start_at(options, (0..NODES).map(|node| net.place(node)).collect())?;
    for node in &cluster.nodes {
        let told = node.api().nodes()?.into_iter().map(|view| view.addresses.len()).min();
        ensure!(
            told == Some(3),
            "each node is to tell of three addresses, {} sees {told:?}",
            node.name
        );
    }
    let lose =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    publish(&cluster)?;
    let values = losses(&mut cluster, runs, lose, Cluster::restart, |_| {});
    cluster.report_failure(values).map(Some)
}

/// None, with a message, where links cannot be cut.
fn cut(options: &Options, runs: u32, beside: &mut SwarmTurns) -> Result<Option<Vec<f64>>> {
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
    publish(&cluster)?;
    let mend = |_: &mut Cluster, victim: usize| net.mend(victim);
    let values = losses(&mut cluster, runs, lose, mend, |run| beside.after(Case::Cut, run, runs));
    cluster.report_failure(values).map(Some)
}

fn publish(cluster: &Cluster) -> Result<()> {
    let published = cluster
        .publish(0, &cluster.guest(HELLO)?, HELLO, 1)
        .and_then(|_| cluster.held_everywhere(0, HELLO));
    cluster.report_failure(published).map(drop)
}

/// The node that is the only holder in every node's view: a node that was just cut off may not know
/// yet that another took over.
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
    mut after: impl FnMut(u32),
) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    for run in 1..=runs {
        let victim = eventually("one holder whom all agree on", || sole_holder(cluster))?;
        let gap = loss(cluster, victim, &lose)?;
        println!(
            "  {run:>3}/{runs}  {} lost, answered after {gap:.0} ms",
            cluster.nodes[victim].name
        );
        values.push(gap);
        bring_back(cluster, victim)?;
        cluster.settled()?;
        after(run);
    }
    Ok(values)
}

/// Milliseconds from a loss to the first good answer at a survivor.
fn loss(
    cluster: &mut Cluster,
    victim: usize,
    lose: impl Fn(&mut Cluster, usize) -> Result<(Instant, Instant)>,
) -> Result<f64> {
    let (at, answer, traffic) = under_traffic(cluster, victim, PACE, lose)?;
    drop(traffic);
    Ok((answer.ended - at).as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swarm_figures_have_a_case_of_their_own_or_are_absent() {
        let lines = |theirs| {
            compared(Case::Cut, vec![1100.0], theirs).iter().map(Figures::json).collect::<Vec<_>>()
        };
        let [ours, theirs] = &lines(vec![16_000.0, 17_600.0, 16_500.0])[..] else {
            panic!("two lines")
        };
        assert!(
            ours.contains(r#""case":"cut""#)
                && ours.ends_with(r#""against":"swarm","ratio":0.0667}"#),
            "{ours}"
        );
        assert!(
            theirs.contains(r#""case":"swarm-cut","unit":"ms","n":3,"p50":16500.0"#),
            "{theirs}"
        );
        let [alone] = &lines(Vec::new())[..] else { panic!("one line") };
        assert!(!alone.contains("against"), "{alone}");
    }
}
