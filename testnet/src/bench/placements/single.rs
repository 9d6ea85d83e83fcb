//! The time of a single placement in a large cluster, in the simulated world: the cores of all
//! nodes in this process.
//!
//! The cluster has long been up and runs two replicas a node. Workloads of one replica are
//! published one after the other, each at another node:
//! - `ms`: simulated time from the publish until the winner's claim says healthy. The simulated
//!   processor costs nothing, so this is messages, disks, waits, and the start of an instance (1 to
//!   31 ms, drawn);
//! - `ms CPU`: what the cores of all nodes compute in that time, the simulator's own work included.
//!   It is real time of a processor, for which the build must be a release build.

use std::time::Duration;

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

use super::{Figures, figures};
use crate::sim::formed::{Shape, large_workload};
use crate::sim::operator::{Operator, Outcome};
use crate::sim::world::World;

/// The seed of the world.
const SEED: u64 = 1;
/// The greatest step of simulated time between two looks for the claim.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// A placement that takes longer, in simulated time, has failed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Simulated time in which the news of a placement reaches everybody before the next one.
const SETTLES: Duration = Duration::from_millis(500);

pub(super) fn measure(case: &'static str, nodes: usize, times: u32) -> Result<Vec<Figures>> {
    println!("  {case}: making a cluster of {nodes} nodes");
    if cfg!(debug_assertions) {
        println!(
            "  {case}: this is no release build, so its CPU time says little: \
                cargo run --release --package shoal-testnet -- bench placements"
        );
    }
    let shape = Shape { nodes, workloads: nodes, replicas: 2 };
    let placed = placements(SEED, shape, times as usize);
    let placed = placed.map_err(|why| anyhow::anyhow!("{nodes} nodes, seed {SEED}: {why}"))?;
    if placed.is_empty() {
        bail!("no workload was published");
    }
    let (took, cpu) = placed.into_iter().map(|it| (it.took, it.cpu)).unzip();
    Ok(vec![figures(case, "ms", "none", took), figures(case, "ms CPU", "none", cpu)])
}

/// A placement, in milliseconds of simulated time and of real CPU time.
struct Placed {
    took: f64,
    cpu: f64,
}

fn placements(seed: u64, shape: Shape, times: usize) -> Result<Vec<Placed>, String> {
    let mut world = World::formed(seed, shape)?;
    let operator = Operator::new(&world, seed);
    let mut all = Vec::new();
    for number in 0..times {
        let spec = large_workload(shape.workloads + number, 1);
        let subject = format!("{}/0", spec.name);
        let at = (number * 7_919) % shape.nodes;
        world.observe();
        let (began, cpu) = (world.now, cpu_ms());
        let (outcome, _) = operator.publish(&mut world, at, &spec)?;
        if outcome != Outcome::Accepted {
            return Err(format!("a change was not taken: {outcome:?}"));
        }
        let healthy = |world: &World| {
            let mut told = world.meter.notifications.iter();
            let is_it = |told: &str, of: &Option<String>| {
                told == "replica-healthy" && of.as_deref() == Some(subject.as_str())
            };
            told.find(|it| is_it(&it.kind, &it.subject)).map(|it| it.at)
        };
        let healthy_at = loop {
            if let Some(at) = healthy(&world) {
                break at;
            }
            if world.now - began > TIMEOUT.as_micros() as u64 {
                return Err(format!("{subject} was not healthy within {TIMEOUT:?}"));
            }
            world.run_for(LOOK_EVERY)?;
        };
        let took = (healthy_at - began) as f64 / 1e3;
        all.push(Placed { took, cpu: cpu_ms() - cpu });
        world.run_for(SETTLES)?;
    }
    Ok(all)
}

/// CPU time of this process, milliseconds.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time is the simulator's, so it is the same in each run.
    #[test]
    fn single_placements_take_the_same_time_in_each_run() {
        let shape = Shape { nodes: 40, workloads: 40, replicas: 2 };
        let times = |seed| -> Vec<f64> {
            let placed = placements(seed, shape, 5).unwrap_or_else(|why| panic!("{why}"));
            placed.into_iter().map(|it| it.took).collect()
        };
        let first = times(3);
        assert_eq!(first.len(), 5);
        assert!(first.iter().all(|took| *took > 0.0), "{first:?}");
        assert_eq!(first, times(3));
        assert_ne!(first, times(4));
    }
}
