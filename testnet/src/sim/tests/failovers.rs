//! Tests of the count of false falls and failovers.

use super::*;
use crate::sim::failovers::Tally;

fn told(sim: &Simulation) -> (u64, u64) {
    let Tally { falls, failovers, .. } = sim.world.failovers.tally;
    (falls, failovers)
}

fn at_work(seed: u64) -> Simulation {
    let mut sim = cluster(seed, 5);
    sim.publish(0, &workload("web", 1, 4)).unwrap();
    sim.settle().unwrap();
    sim.world.run_for(Duration::from_secs(15)).unwrap();
    sim
}

/// A dead node, a suspended node and a partition are real trouble. The falls that they cause, also
/// shortly after, must not count as false.
#[test]
fn node_in_trouble_counts_as_no_false_failover() {
    let mut sim = at_work(1);
    sim.world.kill(1);
    sim.world.run_for(Duration::from_secs(5)).unwrap();
    sim.world.start(1, false, &[]);
    sim.world.suspend(2, 8_000_000);
    sim.world.run_for(Duration::from_secs(30)).unwrap();
    sim.world.partition(&[0, 1], &[2, 3, 4], true);
    sim.world.run_for(Duration::from_secs(8)).unwrap();
    sim.heal().unwrap();
    sim.settle().unwrap();
    assert_eq!(told(&sim), (0, 0));
}

/// All nodes are healthy, but the weather delays their messages for too long. Each fall must count
/// as false.
#[test]
fn fall_in_bad_weather_counts_as_false() {
    let mut sim = at_work(2);
    let Tally { ran, well, .. } = sim.world.failovers.tally;
    assert!(ran > 5 * 30_000_000 && well < ran, "{ran} {well}");
    sim.world.network.weather = Weather { delay: 20_000_000, ..Weather::LAN };
    sim.world.run_for(Duration::from_secs(30)).unwrap();
    let (falls, failovers) = told(&sim);
    assert!(falls > 0 && failovers > 0, "{falls} {failovers}");
}
