//! What one cluster of a size costs, measured in the simulated world.

use std::collections::BTreeSet;
use std::time::Duration;

use shoal_protocol::model::{Digest, NodeId};
use shoal_protocol::ring::{Probes, Ring};

use crate::sim::formed::{Shape, large_workload};
use crate::sim::meter::Spread;
use crate::sim::operator::{Operator, Outcome};
use crate::sim::world::World;

/// What was measured: which quantity, and its value in the unit that [`super::QUANTITIES`] says.
pub type Figures = Vec<(&'static str, f64)>;

/// How long a quiet cluster is watched.
const REST: Duration = Duration::from_secs(30);
/// Changes published, nodes killed, nodes cut off.
const TIMES: usize = 5;
/// Nodes that go and return, one after the other, while a restless cluster is watched: one every two seconds.
const GOINGS: usize = 10;
/// After that nothing is expected any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// All of it, for one size. `memory` tells what the process uses for it, in bytes.
pub fn cluster(seed: u64, shape: Shape, memory: impl Fn() -> u64) -> Result<Figures, String> {
    let mut world = World::formed(seed, shape)?;
    let mut figures = rest(&mut world)?;
    figures.push(("memory_shared", memory() as f64 / shape.nodes as f64 / 1024.0));
    figures.extend(news(&mut world, seed, shape)?);
    figures.extend(losses(&mut world, true, ["kill_detected", "kill_known", "kill_failover"])?);
    figures.extend(losses(&mut world, false, ["cut_detected", "cut_known", "cut_failover"])?);
    figures.extend(churn(&mut world)?);
    Ok(figures)
}

fn rest(world: &mut World) -> Result<Figures, String> {
    world.measure();
    world.run_for(REST)?;
    let (total, a_node) = (world.meter.total(), per_node_second(world, REST));
    let busiest = world.meter.by_device.iter().max().copied().unwrap_or_default();
    if let Some(told) = world.meter.told.first() {
        return Err(format!("a quiet cluster is not quiet: {told:?}\n{}", world.report_on(told.device)));
    }
    Ok(vec![
        ("rest_messages", total.messages as f64 * a_node),
        ("rest_bytes", total.bytes as f64 * a_node),
        ("rest_busiest", busiest as f64 / REST.as_secs_f64()),
    ])
}

/// Changes are published at one node: how they get round, and what it takes until they run.
fn news(world: &mut World, seed: u64, shape: Shape) -> Result<Figures, String> {
    let operator = Operator::new(world, seed);
    let (mut times, mut hops, mut copies, mut auctions, mut runs) = (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..TIMES {
        let spec = large_workload(shape.workloads + number, 1);
        world.measure();
        let began = world.now;
        let (outcome, _) = operator.publish(world, pick(world, number), &spec)?;
        if outcome != Outcome::Accepted {
            return Err(format!("a change was not taken: {outcome:?}"));
        }
        let healthy = |world: &World| told(world, "replica-healthy", &format!("{}/0", spec.name));
        world.run_till(PATIENCE, "the new workload runs", |world| healthy(world).is_some())?;
        runs.extend(healthy(world).map(|at| (at - began) as f64 / 1e3));
        world.run_for(Duration::from_secs(2))?;
        let auction = world.meter.sent.get("auction").map(|flow| flow.messages);
        auctions.push(auction.unwrap_or_default() as f64);
        let all: Vec<&Spread> = world.meter.spreads.values().filter(|spread| spread.kind == "changed").collect();
        let [spread] = all[..] else { return Err(format!("{} rumours of one change", all.len())) };
        if spread.reached.len() + 1 != shape.nodes {
            return Err(format!("a change reached {} of {} nodes by gossip", spread.reached.len() + 1, shape.nodes));
        }
        times.extend(spread.reached.iter().map(|(time, _)| *time as f64 / 1e3));
        hops.extend(spread.reached.iter().map(|(_, hops)| f64::from(*hops)));
        let told = world.meter.gossiped.get("changed").map(|flow| flow.messages).unwrap_or_default();
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

/// Nodes are lost, one after the other: until the first knows it, until 99 of 100 do, until all it ran runs elsewhere.
fn losses(world: &mut World, by_kill: bool, names: [&'static str; 3]) -> Result<Figures, String> {
    let (mut first, mut known, mut moved) = (vec![], vec![], vec![]);
    for number in 0..TIMES {
        let lost = pick(world, TIMES + number + if by_kill { 0 } else { TIMES });
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
            ran.iter().all(|replica| told(world, "replica-healthy", replica).is_some())
                && noticed(world, &name).len() * 100 >= others * 99
        };
        world.run_till(PATIENCE, "what a lost node ran runs elsewhere", is_over)?;
        let mut at = noticed(world, &name);
        at.sort_unstable();
        let since = |at: u64| (at - began) as f64 / 1e3;
        first.push(since(at[0]));
        known.push(since(at[(others * 99).div_ceil(100) - 1]));
        let last = ran.iter().filter_map(|replica| told(world, "replica-healthy", replica)).max();
        moved.extend(last.map(since));
        world.run_for(Duration::from_secs(2))?;
        world.start(lost, false, &[]);
        world.run_for(Duration::from_secs(8))?;
    }
    let figures = [&mut first, &mut known, &mut moved].map(|values| percentile(values, 50));
    Ok(names.into_iter().zip(figures).collect())
}

/// One node after the other goes and returns: what that costs each of the others.
fn churn(world: &mut World) -> Result<Figures, String> {
    world.measure();
    let began = world.now;
    for number in 0..GOINGS {
        let goes = pick(world, 3 * TIMES + number);
        world.kill(goes);
        world.run_for(Duration::from_secs(1))?;
        world.start(goes, false, &[]);
        world.run_for(Duration::from_secs(1))?;
    }
    let lasted = Duration::from_micros(world.now - began);
    let (total, a_node) = (world.meter.total(), per_node_second(world, lasted));
    world.run_for(Duration::from_secs(20))?;
    let up = world.node(1).map(|node| node.status().nodes_up);
    if up != Some(world.devices.len()) {
        return Err(format!(
            "after the churn n1 sees {up:?} of {} nodes up\n{}",
            world.devices.len(),
            world.report_on(1)
        ));
    }
    Ok(vec![("churn_messages", total.messages as f64 * a_node), ("churn_bytes", total.bytes as f64 * a_node)])
}

/// The ring of so many nodes: keys that move when one goes, as a multiple of its fair share, and the busiest owner against the average.
pub fn ring(nodes: usize) -> Figures {
    let id = |n: usize| NodeId(Digest::of(&n.to_be_bytes()).0);
    let before = Ring::new((0..nodes).map(|n| (id(n), n as u64)));
    // Enough that chance alone makes nobody much busier than the others.
    let keys = (nodes * 1_000).clamp(20_000, 4_000_000);
    let mut after = before.clone();
    let gone = id(nodes / 2);
    after.remove(&gone);
    let (mut owned, mut moved) = (std::collections::BTreeMap::<NodeId, u64>::new(), 0u64);
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

/// Of two nodes with `entries` one comes back to `news` of them that it does not know: bytes of repair for each byte that it lacked.
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
    world.run_till(Duration::from_secs(120), "the two hold the same", |world| root(world, 0) == root(world, 1))?;
    let repair = world.meter.sent.get("repair").map(|flow| flow.bytes).unwrap_or_default();
    Ok(repair as f64 / lacked as f64)
}

/// A device that runs, another one for each number, spread over the cluster; never the first.
fn pick(world: &World, number: usize) -> usize {
    let nodes = world.devices.len();
    1 + (number * 7_919) % (nodes - 1)
}

fn replicas_of(world: &World, device: usize) -> Vec<String> {
    let Some(node) = world.node(device) else { return Vec::new() };
    let name = |claim: &shoal_protocol::model::Claim| {
        let shoal_protocol::model::Place::Index(index) = claim.replica.place;
        format!("{}/{index}", claim.name)
    };
    node.own_claims().map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

/// When somebody first said that of this subject.
fn told(world: &World, kind: &str, subject: &str) -> Option<u64> {
    let said = world.meter.told.iter().find(|told| told.kind == kind && told.subject.as_deref() == Some(subject));
    said.map(|told| told.at)
}

/// When each node noticed that this one is down.
fn noticed(world: &World, name: &str) -> Vec<u64> {
    let said = world.meter.told.iter().filter(|told| told.kind == "node-down" && told.node.as_deref() == Some(name));
    said.map(|told| told.at).collect()
}

fn per_node_second(world: &World, lasted: Duration) -> f64 {
    1.0 / world.devices.len() as f64 / lasted.as_secs_f64()
}

/// The value that so many of a hundred do not exceed (nearest rank).
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
