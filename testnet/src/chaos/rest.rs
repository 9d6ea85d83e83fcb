//! The checks after all faults: those that the simulated world makes at rest, on real nodes through
//! their API and HTTP ports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use shoal_protocol::model::view::WorkloadView;

use crate::real::traffic::ask_once;
use crate::real::{Cluster, Daemon, shown};

use super::world::Desired;

/// How long nodes may take to come to rest. They dial dead members every ten seconds at most,
/// compare digests every five, and try again with growing pauses what failed; a busy machine
/// doubles all of it.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two looks: their requests must not keep the nodes busy.
const EVERY: Duration = Duration::from_millis(100);
/// How long nothing may change: some rounds of all periodic work of nodes.
const STEADY: Duration = Duration::from_secs(10);

/// Waits until the running nodes agree, and exactly the desired replicas run, each once.
pub fn at_rest(cluster: &mut Cluster, desired: &Desired) -> Result<()> {
    at_rest_apart(cluster, desired, &[])
}

/// As [`at_rest`], although these nodes cannot reach one another and so have no link.
pub fn at_rest_apart(cluster: &mut Cluster, desired: &Desired, apart: &[usize]) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        for index in cluster.running() {
            cluster.nodes[index].check_alive()?;
        }
        match look(cluster, desired, apart) {
            Ok(()) => return Ok(()),
            Err(seen) if Instant::now() >= deadline => {
                bail!("the nodes did not come to rest within {} s: {seen:#}", TIMEOUT.as_secs())
            }
            Err(_) => std::thread::sleep(EVERY),
        }
    }
}

/// Checks for ten seconds that the nodes stay at rest and no replica moves.
pub fn stays(cluster: &Cluster, desired: &Desired) -> Result<()> {
    let witness = &cluster.nodes[*cluster.running().first().context("no node runs")?];
    let (until, before) = (Instant::now() + STEADY, places(witness)?);
    while Instant::now() < until {
        std::thread::sleep(EVERY * 5);
        look(cluster, desired, &[]).context("it had been at rest")?;
        nothing_moved(&before, &places(witness)?).context("it had been at rest")?;
    }
    Ok(())
}

/// By replica: the name of its holder and the counter of its token, as a node sees them.
pub type Places = BTreeMap<String, (Option<String>, Option<u64>)>;

/// All replicas with their holders, as a node sees them now.
pub fn places(node: &Daemon) -> Result<Places> {
    let workloads = node.api().workloads()?;
    Ok(workloads
        .into_iter()
        .flat_map(|view| view.replicas)
        .map(|one| (one.replica, (one.node_name, one.token)))
        .collect())
}

/// An error when a replica was moved, or awarded again to its holder.
pub fn nothing_moved(before: &Places, after: &Places) -> Result<()> {
    for (replica, holder) in before {
        let now = after.get(replica);
        ensure!(
            now == Some(holder),
            "{replica} moved without need: {holder:?} before, {now:?} after"
        );
    }
    Ok(())
}

/// Makes all checks once; an error names the first that fails.
fn look(cluster: &Cluster, desired: &Desired, apart: &[usize]) -> Result<()> {
    let nodes: Vec<&Daemon> =
        cluster.running().into_iter().map(|index| &cluster.nodes[index]).collect();
    for index in cluster.running() {
        let unlinked = if apart.contains(&index) { apart.len() } else { 1 };
        sees_all_up(&cluster.nodes[index], nodes.len(), nodes.len() - unlinked)?;
    }
    agree(&nodes)?;
    let views = nodes
        .iter()
        .map(|node| Ok((*node, node.api().workloads()?)))
        .collect::<Result<Vec<_>>>()?;
    for (node, workloads) in &views {
        as_desired(cluster, workloads, desired)
            .with_context(|| format!("as {} sees it", node.name))?;
    }
    nothing_else_runs(&nodes, desired)?;
    for node in &nodes {
        for (name, replicas) in desired {
            answers(node, name, *replicas)?;
        }
    }
    Ok(())
}

fn sees_all_up(node: &Daemon, size: usize, links: usize) -> Result<()> {
    let status = node.api().status()?;
    ensure!(
        status["ready"] == Value::Bool(true),
        "{} is not ready: {}",
        node.name,
        status["warnings"]
    );
    ensure!(
        status["read_only"].is_null(),
        "{} takes no writes: {}",
        node.name,
        status["read_only"]
    );
    let members = node.api().nodes()?;
    let wrong = members.iter().find(|member| member.state != "up" || !member.ready);
    if let Some(member) = wrong {
        let why = member.reason.as_deref().unwrap_or("no reason given");
        bail!(
            "{} sees {} {}, ready: {} ({why})",
            node.name,
            member.name,
            member.state,
            member.ready
        );
    }
    ensure!(members.len() == size, "{} knows {} members, {size} run", node.name, members.len());
    ensure!(
        status["links"].as_u64() == Some(links as u64),
        "{} has {} links",
        node.name,
        status["links"]
    );
    Ok(())
}

fn agree(nodes: &[&Daemon]) -> Result<()> {
    let mut minds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        let roots = node.api().status()?["roots"].clone();
        minds.entry(roots.to_string()).or_default().push(&node.name);
    }
    ensure!(minds.len() == 1, "the nodes differ: {minds:?}");
    Ok(())
}

fn as_desired(cluster: &Cluster, workloads: &[WorkloadView], desired: &Desired) -> Result<()> {
    let found: BTreeMap<&str, u32> =
        workloads.iter().map(|view| (view.name.as_str(), view.desired)).collect();
    let wished: BTreeMap<&str, u32> =
        desired.iter().map(|(name, replicas)| (name.as_str(), *replicas)).collect();
    ensure!(found == wished, "desired is {wished:?}, shown is {found:?}");
    for view in workloads {
        ensure!(view.replicas.len() == view.desired as usize, "{}: {}", view.name, shown(view));
        let mut places: Vec<&str> = view.replicas.iter().map(|one| one.replica.as_str()).collect();
        places.dedup();
        ensure!(places.len() == view.replicas.len(), "a place is held twice: {}", shown(view));
        for one in &view.replicas {
            ensure!(one.phase == "healthy" && one.current, "{}: {}", view.name, shown(view));
            cluster.by_id(one.node.as_deref().context("nobody holds it")?)?;
        }
    }
    Ok(())
}

/// Counts claims in the nodes' views, and instances in their engines: a node might run a replica
/// that is in no view.
fn nothing_else_runs(nodes: &[&Daemon], desired: &Desired) -> Result<()> {
    let wished = desired.values().map(|replicas| u64::from(*replicas)).sum::<u64>();
    for node in nodes {
        let claims: usize = node.api().nodes()?.iter().map(|member| member.replicas).sum();
        ensure!(
            claims as u64 == wished,
            "{} knows of {claims} claims, {wished} are desired",
            node.name
        );
    }
    let running =
        nodes.iter().map(|node| Ok((&node.name, node.api().status()?["instances"].as_u64())));
    let running = running.collect::<Result<BTreeMap<_, _>>>()?;
    let sum = running.values().copied().map(Option::unwrap_or_default).sum::<u64>();
    ensure!(sum == wished, "{sum} instances run, {wished} are desired: {running:?}");
    Ok(())
}

fn answers(node: &Daemon, name: &str, replicas: u32) -> Result<()> {
    if replicas == 0 {
        return Ok(());
    }
    let sample = ask_once(node.http()?, &format!("{name}.localhost"));
    ensure!(
        sample.good(),
        "{name} does not answer at {}: {:?} {}",
        node.name,
        sample.answer,
        sample.text.trim()
    );
    Ok(())
}
