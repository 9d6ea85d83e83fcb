//! That the figure on nodes taken for dead counts what it says.

use super::*;
use crate::sim::failovers::Tally;

fn told(play: &Play) -> (u64, u64) {
    let Tally { falls, failovers, .. } = play.world.failovers.tally;
    (falls, failovers)
}

fn at_work(seed: u64) -> Play {
    let mut play = cluster(seed, 5);
    play.publish(0, &workload("web", 1, 4)).unwrap();
    play.settle().unwrap();
    play.world.run_for(Duration::from_secs(15)).unwrap();
    play
}

/// What is wrong with a node, or between two, is no false fall, nor what comes of it a little
/// later.
#[test]
fn trouble_makes_no_false_failover() {
    let mut play = at_work(1);
    play.world.kill(1);
    play.world.run_for(Duration::from_secs(5)).unwrap();
    play.world.start(1, false, &[]);
    play.world.suspend(2, 8_000_000);
    play.world.run_for(Duration::from_secs(30)).unwrap();
    play.world.partition(&[0, 1], &[2, 3, 4], true);
    play.world.run_for(Duration::from_secs(8)).unwrap();
    play.heal().unwrap();
    play.settle().unwrap();
    assert_eq!(told(&play), (0, 0));
}

/// Nothing is wrong with any node, and all of them lose what they say: whoever is taken for dead is
/// so falsely.
#[test]
fn bad_weather_is_no_excuse() {
    let mut play = at_work(2);
    let Tally { ran, well, .. } = play.world.failovers.tally;
    assert!(ran > 5 * 30_000_000 && well < ran, "{ran} {well}");
    play.world.network.weather = Weather { delay: 20_000_000, ..Weather::LAN };
    play.world.run_for(Duration::from_secs(30)).unwrap();
    let (falls, failovers) = told(&play);
    assert!(falls > 0 && failovers > 0, "{falls} {failovers}");
}
