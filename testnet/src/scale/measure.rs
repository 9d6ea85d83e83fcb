//! The costs of a cluster of a size, measured in the simulated world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shoal_protocol::model::{Digest, NodeId};
use shoal_protocol::ring::{Probes, Ring};

use crate::sim::formed::{Shape, large_workload};
use crate::sim::meter::Spread;
use crate::sim::operator::{Operator, Outcome};
use crate::sim::world::World;

/// Measured values by quantity, in the units of [`super::quantities::QUANTITIES`].
pub type Figures = Vec<(&'static str, f64)>;

/// The extent of a measurement.
#[derive(Clone, Copy)]
pub struct Effort {
    /// How long an idle cluster is watched.
    pub rest: Duration,
    /// Number of changes published, of nodes killed, and of nodes unplugged.
    pub times: usize,
    /// Nodes that are killed and restarted, one every two seconds, to measure churn.
    pub restarts: usize,
}

impl Effort {
    /// Less for a large cluster, in which each event takes long to simulate.
    pub fn of(shape: Shape) -> Effort {
        let is_large = shape.nodes > 2_000 || shape.workloads * shape.replicas as usize > 20_000;
        Effort { rest: Duration::from_secs(30), times: if is_large { 3 } else { 5 }, restarts: 5 }
    }
}

/// With fewer nodes most memory of the process is the program itself.
const MIN_NODES_FOR_MEMORY: usize = 1_000;
/// The longest wait for an expected event, in simulated time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Measures all quantities for a size. `memory` returns the bytes that the process uses; `progress`
/// is called after each stage.
pub fn cluster(
    seed: u64,
    shape: Shape,
    effort: Effort,
    memory: impl Fn() -> u64,
    progress: impl Fn(&str),
) -> Result<Figures, String> {
    let mut world = World::formed(seed, shape)?;
    progress("the cluster stands");
    let mut figures = rest(&mut world, effort)?;
    progress("its rest was watched");
    if shape.nodes >= MIN_NODES_FOR_MEMORY {
        figures.push(("memory_shared", memory() as f64 / shape.nodes as f64 / 1024.0));
    }
    figures.extend(publishing(&mut world, seed, shape, effort)?);
    progress("changes were published");
    let names = ["kill_detected", "kill_known", "kill_failover", "kill_return"];
    figures.extend(losses(&mut world, effort, true, names, &progress)?);
    let names = ["cut_detected", "cut_known", "cut_failover", "cut_return"];
    figures.extend(losses(&mut world, effort, false, names, &progress)?);
    figures.extend(churn(&mut world, effort)?);
    progress("nodes went and came back, one after the other");
    Ok(figures)
}

fn rest(world: &mut World, effort: Effort) -> Result<Figures, String> {
    world.measure();
    world.run_for(effort.rest)?;
    let (total, a_node) = (world.meter.total(), per_node_second(world, effort.rest));
    let busiest = world.meter.by_device.iter().max().copied().unwrap_or_default();
    if let Some(told) = world.meter.notifications.first() {
        return Err(format!(
            "a quiet cluster is not quiet: {told:?}\n{}",
            world.report_on(told.device)
        ));
    }
    Ok(vec![
        ("rest_messages", total.messages as f64 * a_node),
        ("rest_bytes", total.bytes as f64 * a_node),
        ("rest_busiest", busiest as f64 / effort.rest.as_secs_f64()),
    ])
}

/// Publishes changes at a node and measures their spread, their auctions, and the time until they
/// run.
fn publishing(
    world: &mut World,
    seed: u64,
    shape: Shape,
    effort: Effort,
) -> Result<Figures, String> {
    let operator = Operator::new(world, seed);
    let (mut times, mut hops, mut copies, mut auctions, mut runs) =
        (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..effort.times {
        let spec = large_workload(shape.workloads + number, 1);
        world.measure();
        let began = world.now;
        let (outcome, _) = operator.publish(world, pick(world, number), &spec)?;
        if outcome != Outcome::Accepted {
            return Err(format!("a change was not taken: {outcome:?}"));
        }
        let healthy =
            |world: &World| first_event(world, "replica-healthy", &format!("{}/0", spec.name));
        world.run_till(TIMEOUT, "the new workload runs", |world| healthy(world).is_some())?;
        runs.extend(healthy(world).map(|at| (at - began) as f64 / 1e3));
        world.run_for(Duration::from_secs(2))?;
        let auction = world.meter.sent.get("auction").map(|flow| flow.messages);
        auctions.push(auction.unwrap_or_default() as f64);
        let all: Vec<&Spread> =
            world.meter.spreads.values().filter(|spread| spread.kind == "changed").collect();
        let [spread] = all[..] else { return Err(format!("{} rumours of one change", all.len())) };
        if spread.reached.len() + 1 != shape.nodes {
            return Err(format!(
                "a change reached {} of {} nodes by gossip",
                spread.reached.len() + 1,
                shape.nodes
            ));
        }
        times.extend(spread.reached.iter().map(|(time, _)| *time as f64 / 1e3));
        hops.extend(spread.reached.iter().map(|(_, hops)| f64::from(*hops)));
        let told =
            world.meter.gossiped.get("changed").map(|flow| flow.messages).unwrap_or_default();
        copies.push(told as f64 / shape.nodes as f64);
    }
    Ok(vec![
        ("news_50", percentile(&mut times, 50)),
        ("news_99", percentile(&mut times, 99)),
        ("news_100", percentile(&mut times, 100)),
        ("hops_50", percentile(&mut hops, 50)),
        ("hops_99", percentile(&mut hops, 99)),
        ("hops_100", percentile(&mut hops, 100)),
        ("news_copies", percentile(&mut copies, 50)),
        ("placement_messages", percentile(&mut auctions, 50)),
        ("placement_time", percentile(&mut runs, 50)),
    ])
}

/// Loses nodes one after the other and measures the times until the first other node knows, until
/// 99 of 100 know, and until all replicas run elsewhere.
fn losses(
    world: &mut World,
    effort: Effort,
    by_kill: bool,
    names: [&'static str; 4],
    progress: &impl Fn(&str),
) -> Result<Figures, String> {
    let (mut first, mut known, mut moved, mut back) = (vec![], vec![], vec![], vec![]);
    for number in 0..effort.times {
        let lost = pick(world, number + if by_kill { 100 } else { 200 });
        let ran: Vec<String> = replicas_of(world, lost);
        let (name, others) = (world.devices[lost].name.clone(), world.devices.len() - 1);
        world.measure();
        let began = world.now;
        if by_kill {
            world.kill(lost);
        } else {
            world.unplug(lost);
        }
        let is_over = |world: &World| {
            ran.iter().all(|replica| first_event(world, "replica-healthy", replica).is_some())
                && first_event_by_node(world, "node-down", &name).len() * 100 >= others * 99
        };
        world.run_till(TIMEOUT, "what a lost node ran runs elsewhere", is_over)?;
        let at = first_event_by_node(world, "node-down", &name);
        let since = |at: u64| (at - began) as f64 / 1e3;
        first.push(since(at[0]));
        known.push(since(at[(others * 99).div_ceil(100) - 1]));
        let last =
            ran.iter().filter_map(|replica| first_event(world, "replica-healthy", replica)).max();
        moved.extend(last.map(since));
        world.run_for(Duration::from_secs(2))?;
        let began = world.now;
        world.start(lost, false, &[]);
        let is_back = |world: &World| first_event_by_node(world, "node-up", &name).len() >= others;
        world.run_till(TIMEOUT, "everybody knows that a node is back", is_back)?;
        let at = first_event_by_node(world, "node-up", &name);
        back.push((at[(others * 99).div_ceil(100) - 1] - began) as f64 / 1e3);
        world.run_for(Duration::from_secs(5))?;
        let how = if by_kill { "killed" } else { "unplugged" };
        progress(&format!("{} of {} were {how}, and came back", number + 1, effort.times));
    }
    let figures =
        [&mut first, &mut known, &mut moved, &mut back].map(|values| percentile(values, 50));
    Ok(names.into_iter().zip(figures).collect())
}

/// Kills and restarts nodes one after the other and measures the traffic of each node.
fn churn(world: &mut World, effort: Effort) -> Result<Figures, String> {
    if effort.restarts == 0 {
        return Ok(Vec::new());
    }
    world.measure();
    let began = world.now;
    for number in 0..effort.restarts {
        let goes = pick(world, number + 300);
        world.kill(goes);
        world.run_for(Duration::from_secs(1))?;
        world.start(goes, false, &[]);
        world.run_for(Duration::from_secs(1))?;
    }
    let lasted = Duration::from_micros(world.now - began);
    let (total, a_node) = (world.meter.total(), per_node_second(world, lasted));
    world.run_for(Duration::from_secs(20))?;
    let up = world.node(1).map(|node| node.nodes_up());
    if up != Some(world.devices.len()) {
        return Err(format!(
            "after the churn n1 sees {up:?} of {} nodes up\n{}",
            world.devices.len(),
            world.report_on(1)
        ));
    }
    Ok(vec![
        ("churn_messages", total.messages as f64 * a_node),
        ("churn_bytes", total.bytes as f64 * a_node),
    ])
}

/// The ring of so many nodes: keys that move when a node leaves, as a multiple of its fair share,
/// and the busiest owner against the average.
pub fn ring(nodes: usize) -> Figures {
    let id = |n: usize| NodeId(Digest::of(&n.to_be_bytes()).0);
    let before = Ring::new((0..nodes).map(|n| (id(n), n as u64)));
    // Enough that chance alone makes no owner much busier than the others.
    let keys = (nodes * 1_000).clamp(20_000, 4_000_000);
    let mut after = before.clone();
    let gone = id(nodes / 2);
    after.remove(&gone);
    let (mut owned, mut moved) = (BTreeMap::<NodeId, u64>::new(), 0u64);
    for key in 0..keys {
        let key = Probes::of(&Digest::of(&key.to_be_bytes()));
        let Some(owner) = before.owner(&key) else { continue };
        *owned.entry(owner).or_default() += 1;
        moved += u64::from(after.owner(&key) != Some(owner));
    }
    let most = owned.values().max().copied().unwrap_or_default();
    let average = keys as f64 / nodes as f64;
    vec![("keys_moved", moved as f64 / average), ("balance", most as f64 / average)]
}

/// A node of two with `entries` entries comes back and lacks `news` of them: bytes of repair for
/// each byte that it lacked.
pub fn difference(seed: u64, entries: usize, news: usize) -> Result<f64, String> {
    let mut world = World::formed(seed, Shape { nodes: 2, workloads: entries, replicas: 0 })?;
    let operator = Operator::new(&world, seed);
    world.kill(1);
    let mut lacked = 0;
    for number in 0..news {
        let (_, change) = operator.publish(&mut world, 0, &large_workload(entries + number, 0))?;
        let change = change.ok_or("a change was not taken")?;
        lacked += shoal_protocol::model::codec::encode(&change.raw()).len();
    }
    world.run_for(Duration::from_secs(5))?;
    world.measure();
    world.start(1, false, &[]);
    let root = |world: &World, device: usize| world.node(device).map(|node| node.roots()[0]);
    world.run_till(Duration::from_secs(120), "the two hold the same", |world| {
        root(world, 0) == root(world, 1)
    })?;
    let repair = world.meter.sent.get("repair").map(|flow| flow.bytes).unwrap_or_default();
    Ok(repair as f64 / lacked as f64)
}

/// A device for a number, spread over the cluster; never the first.
fn pick(world: &World, number: usize) -> usize {
    let nodes = world.devices.len();
    1 + (number * 7_919) % (nodes - 1)
}

fn replicas_of(world: &World, device: usize) -> Vec<String> {
    let Some(node) = world.node(device) else { return Vec::new() };
    let name =
        |claim: &shoal_protocol::model::Claim| format!("{}/{}", claim.name, claim.replica.place);
    node.own_claims().map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The time of the first event of this kind about this subject.
fn first_event(world: &World, kind: &str, subject: &str) -> Option<u64> {
    let said = world
        .meter
        .notifications
        .iter()
        .find(|told| told.kind == kind && told.subject.as_deref() == Some(subject));
    said.map(|told| told.at)
}

/// The times at which each other node first reported this event about the node, ascending.
fn first_event_by_node(world: &World, kind: &str, name: &str) -> Vec<u64> {
    let said = world
        .meter
        .notifications
        .iter()
        .filter(|told| told.kind == kind && told.node.as_deref() == Some(name));
    let mut first: BTreeMap<usize, u64> = BTreeMap::new();
    said.filter(|told| world.devices[told.device].name != name)
        .for_each(|told| _ = first.entry(told.device).or_insert(told.at));
    let mut at: Vec<u64> = first.into_values().collect();
    at.sort_unstable();
    at
}

fn per_node_second(world: &World, lasted: Duration) -> f64 {
    1.0 / world.devices.len() as f64 / lasted.as_secs_f64()
}

/// The value that `percent` of the values do not exceed (nearest rank).
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &Figures, name: &str) -> f64 {
        figures.iter().find(|(known, _)| *known == name).expect("it was measured").1
    }

    /// A change must reach all nodes, replicas of a lost node must run elsewhere, and a node of a
    /// thousand must not send more than one of a hundred.
    #[test]
    fn cost_per_node_does_not_grow_with_the_cluster() {
        let effort = Effort { rest: Duration::from_secs(5), times: 1, restarts: 0 };
        let [small, large] = [100, 1_000].map(|nodes| {
            let shape = Shape { nodes, workloads: nodes, replicas: 2 };
            cluster(3, shape, effort, || 0, |_| ())
                .unwrap_or_else(|why| panic!("{nodes} nodes: {why}"))
        });
        for name in ["rest_bytes", "rest_messages", "placement_messages", "news_copies"] {
            let (small, large) = (of(&small, name), of(&large, name));
            assert!(large <= small * 1.25, "{name}: {small} of a hundred, {large} of a thousand");
        }
        assert!(
            of(&large, "hops_100") <= of(&small, "hops_100") + 3.0,
            "hops grow as a logarithm does"
        );
        let moved = ring(300);
        assert!(
            (0.5..2.0).contains(&of(&moved, "keys_moved")) && of(&moved, "balance") < 1.5,
            "{moved:?}"
        );
    }

    /// A node of two comes back and lacks 100 of 2,000 entries.
    #[test]
    fn repair_costs_less_than_three_times_the_difference() {
        let ratio = difference(1, 2_000, 100).unwrap();
        assert!((1.0..3.0).contains(&ratio), "{ratio}");
    }
}
