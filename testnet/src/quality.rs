//! `cargo testnet quality`: how far the placements of auctions are from the best ones. Small random
//! clusters in the simulated world, and all ways to place the same replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shoal_protocol::model::{Artifact, Digest, Resources, Spec, SpecForm};

use crate::sim::TestCluster;

/// What each simulated device offers.
const CAPACITY: Resources = Resources { memory: 1 << 30, cpu: 4_000 };
/// The most replicas of a case: all ways to place them are tried.
const MOST: u32 = 7;
/// Each workload is published so long after the one before: the order of a person.
const BETWEEN: Duration = Duration::from_secs(5);
/// After this time nothing moves any more.
const CALM: Duration = Duration::from_secs(1_200);
/// A replica beside another one of its workload costs as much as a node and a half that is full, as
/// in the price of a bid.
const BESIDE: f64 = 1.5;

/// Compares placements with the best possible ones, in small random clusters: a table and JSON
/// lines.
///
/// A placement costs the squares of the nodes' shares in use, and 1.5 for each pair of replicas of
/// one workload on one node. The ratio is its cost / the least cost of all ways to place the same
/// replicas. `placed` is right after the workloads were published one after the other, `moved` is
/// 20 minutes later, when replicas have moved to nodes with more room.
#[derive(Args)]
pub struct Quality {
    /// Random cases.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    cases: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A way to place replicas: the node of each, by workload.
type Placement = Vec<Vec<usize>>;

/// A workload of a case.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    size: Resources,
    replicas: u32,
}

/// The figures of one case.
struct Case {
    placed: f64,
    moved: f64,
    /// Replicas that found no node though all could have one.
    left: usize,
}

/// Runs the comparison. True whatever the figures.
///
/// # Errors
/// The simulated cluster did not do what every cluster does.
pub fn run(quality: &Quality) -> Result<bool> {
    let (mut placed, mut moved, mut left) = (Vec::new(), Vec::new(), 0);
    for seed in quality.seed..quality.seed.saturating_add(quality.cases) {
        let Some(case) = case(seed).map_err(|why| anyhow!("seed {seed}: {why}"))? else {
            continue;
        };
        placed.push(case.placed);
        moved.push(case.moved);
        left += case.left;
    }
    println!("{:<8}{:>6}{:>8}{:>8}{:>8}{:>8}", "case", "n", "mean", "p50", "p95", "most");
    for (name, ratios) in [("placed", &mut placed), ("moved", &mut moved)] {
        ratios.sort_by(f64::total_cmp);
        let at = |share: usize| ratios.get((ratios.len() * share / 100).min(ratios.len() - 1));
        let at = |share| at(share).copied().unwrap_or(f64::NAN);
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let (p50, p95, most) = (at(50), at(95), at(100));
        println!("{name:<8}{:>6}{mean:>8.3}{p50:>8.3}{p95:>8.3}{most:>8.3}", ratios.len());
        let line = serde_json::json!({
            "bench": "quality", "case": name, "unit": "ratio", "n": ratios.len(),
            "mean": mean, "p50": p50, "p95": p95, "max": most,
        });
        println!("{line}");
    }
    println!("{left} replicas found no node though all could have one");
    Ok(true)
}

/// One random case; none if there is no room for all.
fn case(seed: u64) -> Result<Option<Case>, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nodes = 2 + below(&mut rng, 3);
    let mut wanted: Vec<Wanted> = Vec::new();
    for _ in 0..1 + below(&mut rng, 4) {
        let room = MOST - wanted.iter().map(|it| it.replicas).sum::<u32>();
        let memory = (64 << 20) * (1 + below(&mut rng, 7) as u64);
        let cpu = 200 * (1 + below(&mut rng, 9) as u32);
        let replicas = room.min(1 + below(&mut rng, 3) as u32);
        if replicas > 0 {
            wanted.push(Wanted { size: Resources { memory, cpu }, replicas });
        }
    }
    let Some(best) = least(nodes, &wanted) else { return Ok(None) };
    let mut cluster = TestCluster::new(seed, nodes)?;
    let specs: Vec<Spec> =
        wanted.iter().enumerate().map(|(at, wanted)| spec(at, *wanted)).collect();
    for spec in &specs {
        cluster.publish(spec)?;
        cluster.pass(BETWEEN)?;
    }
    let now = found(&cluster, &specs);
    let all: u32 = wanted.iter().map(|it| it.replicas).sum();
    let left = all as usize - now.iter().map(Vec::len).sum::<usize>();
    let placed = cost(nodes, &wanted, &now);
    cluster.pass(CALM)?;
    let moved = cost(nodes, &wanted, &found(&cluster, &specs));
    if left > 0 {
        return Ok(Some(Case { placed: 1.0, moved: 1.0, left }));
    }
    Ok(Some(Case { placed: placed / best, moved: moved / best, left }))
}

fn below(rng: &mut ChaCha8Rng, bound: u64) -> usize {
    usize::try_from(rng.next_u64() % bound).unwrap_or_default()
}

fn spec(number: usize, wanted: Wanted) -> Spec {
    let name = format!("w{number}");
    let artifact = Artifact { digest: Digest::of(name.as_bytes()), size: 60_000 };
    let name = name.parse().expect("a name of its own");
    let form = SpecForm::wasm_service(name, artifact, wanted.replicas, wanted.size);
    form.try_into().expect("a spec of its own")
}

/// Where the replicas of each workload are.
fn found(cluster: &TestCluster, specs: &[Spec]) -> Placement {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for device in cluster.running() {
        let claims = cluster.node(device).into_iter().flat_map(|node| node.own_claims());
        for claim in claims {
            by_name.entry(claim.name.to_string()).or_default().push(device);
        }
    }
    specs.iter().map(|spec| by_name.remove(&spec.name.to_string()).unwrap_or_default()).collect()
}

/// The cost of a placement.
fn cost(nodes: usize, wanted: &[Wanted], placement: &Placement) -> f64 {
    let mut used = vec![(0_u64, 0_u64); nodes];
    let mut beside = 0;
    for (wanted, at) in wanted.iter().zip(placement) {
        for node in at {
            used[*node].0 += wanted.size.memory;
            used[*node].1 += u64::from(wanted.size.cpu);
        }
        let count = |node: usize| at.iter().filter(|it| **it == node).count();
        beside +=
            (0..nodes).map(|node| count(node) * count(node).saturating_sub(1) / 2).sum::<usize>();
    }
    let share = |(memory, cpu): &(u64, u64)| {
        let memory = *memory as f64 / CAPACITY.memory as f64;
        memory.max(*cpu as f64 / f64::from(CAPACITY.cpu))
    };
    used.iter().map(|it| share(it).powi(2)).sum::<f64>() + BESIDE * beside as f64
}

/// The least cost of all ways to place everything; none if there is no way.
fn least(nodes: usize, wanted: &[Wanted]) -> Option<f64> {
    let all: Vec<usize> =
        wanted.iter().enumerate().flat_map(|(at, it)| (0..it.replicas).map(move |_| at)).collect();
    let mut best: Option<f64> = None;
    for number in 0..nodes.pow(u32::try_from(all.len()).unwrap_or(u32::MAX)) {
        let mut placement: Placement = vec![Vec::new(); wanted.len()];
        let mut left = vec![CAPACITY; nodes];
        let mut rest = number;
        let fits = all.iter().all(|workload| {
            let node = rest % nodes;
            rest /= nodes;
            let size = wanted[*workload].size;
            let fits = left[node].holds(size);
            left[node] = left[node].minus(size);
            placement[*workload].push(node);
            fits
        });
        if fits {
            let cost = cost(nodes, wanted, &placement);
            best = Some(best.map_or(cost, |best| best.min(cost)));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(memory: u64, replicas: u32) -> Wanted {
        Wanted { size: Resources { memory: memory << 20, cpu: 100 }, replicas }
    }

    /// Two halves share two nodes; replicas of one workload keep apart; three halves and a bit have
    /// no room on one node.
    #[test]
    fn least_cost_is_that_of_the_best_way() {
        assert_eq!(least(2, &[of(512, 1), of(512, 1)]), Some(0.5));
        assert_eq!(least(2, &[of(256, 2)]), Some(0.125));
        assert_eq!(least(1, &[of(256, 2)]), Some(0.25 + BESIDE));
        assert_eq!(least(1, &[of(512, 1), of(600, 1)]), None);
    }

    #[test]
    fn auctions_come_near_to_it() {
        let cases: Vec<Case> = (1..6).filter_map(|seed| case(seed).unwrap()).collect();
        assert!(cases.len() > 3, "{} cases have room for all", cases.len());
        assert!(cases.iter().all(|it| it.placed > 0.999 && it.moved > 0.999 && it.left == 0));
        let mean = cases.iter().map(|it| it.moved).sum::<f64>() / cases.len() as f64;
        assert!(mean < 1.1, "{mean} times the least cost, on average");
    }
}
