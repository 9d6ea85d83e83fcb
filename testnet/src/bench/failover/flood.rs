//! kill -9 without and with a flood of connections against the mesh port of every survivor.
//!
//! A third of the connections is TCP alone, a third strangers that complete a handshake and then
//! are silent, a third garbage; from 64 addresses. One that is hung up on comes again in a moment.
//! The flood begins before the loss and ends after the answer. It runs in this process, in a thread
//! that leaves the processors to the daemons; what it costs the kernel is theirs all the same.
//!
//! How long a loss takes depends on the nodes, and the workload moves to and fro between two of
//! them. So two losses without and two with the flood take turns, and each is compared with its
//! like: cases `kill` (there) and `kill-back`. All come equally long after the cluster has
//! recovered.

use std::time::Duration;

use anyhow::Result;

use super::{NODES, loss, publish, sole_holder};
use crate::bench::{Against, Figures};
use crate::hostile::{Attacker, Flood, Target};
use crate::real::{Cluster, Options, eventually};

/// Addresses from which the flood comes.
const SOURCES: usize = 64;
/// From the recovery of the cluster to the next loss; the flood runs meanwhile.
const BEFORE: Duration = Duration::from_secs(3);

/// Milliseconds until an answer, without and with the flood.
#[derive(Default)]
struct Values {
    quiet: Vec<f64>,
    flooded: Vec<f64>,
}

pub(in crate::bench) fn measure(
    options: &Options,
    runs: u32,
    connections: usize,
) -> Result<Vec<Figures>> {
    let mut cluster = Cluster::start(options, NODES)?;
    publish(&cluster)?;
    let values = in_turn(&mut cluster, runs, connections);
    let [there, back] = cluster.report_failure(values)?;
    let there = figures(["kill", "kill-flooded"], there);
    Ok([there, figures(["kill-back", "kill-back-flooded"], back)].concat())
}

/// The values of the first and of the second loss of each pair.
fn in_turn(cluster: &mut Cluster, runs: u32, connections: usize) -> Result<[Values; 2]> {
    let mut values = [Values::default(), Values::default()];
    let kill =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    for run in 1..=runs {
        // Neither of the two is always the first.
        let first = run % 2 == 0;
        for (turn, is_flooded) in [(0, first), (1, first), (0, !first), (1, !first)] {
            let victim = eventually("one holder whom all agree on", || sole_holder(cluster))?;
            let name = cluster.nodes[victim].name.clone();
            let flood = match is_flooded {
                true => Some(begin(cluster, victim, connections)?),
                false => None,
            };
            std::thread::sleep(BEFORE);
            let made = flood.as_ref().map_or(0, Flood::made);
            let gap = loss(cluster, victim, kill)?;
            let beside = flood.as_ref().map_or("no flood".to_owned(), |flood| {
                let rate = made as f64 / BEFORE.as_secs_f64();
                format!("{} connections open, {rate:.0} made a second", flood.open())
            });
            drop(flood);
            println!("  {run:>3}/{runs}  {name} lost, {gap:.0} ms ({beside})");
            let of: &mut Values = &mut values[turn];
            if is_flooded { &mut of.flooded } else { &mut of.quiet }.push(gap);
            cluster.restart(victim)?;
            cluster.settled()?;
        }
    }
    Ok(values)
}

/// Starts a flood against all nodes but one.
fn begin(cluster: &Cluster, victim: usize, connections: usize) -> Result<Flood> {
    let attacker = Attacker::stolen(&cluster.nodes[victim].state(), [127, 0, 0, 1].into())?;
    let survivors = cluster.running().into_iter().filter(|index| *index != victim);
    let targets = survivors.map(|index| Target::of(&cluster.nodes[index]));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    Flood::start(&attacker, targets, connections, SOURCES)
}

fn figures(names: [&'static str; 2], values: Values) -> [Figures; 2] {
    let figures = |case, goal, values| Figures {
        bench: "failover",
        case,
        unit: "ms",
        goal,
        values,
        against: None,
    };
    let quiet = figures(names[0], "none: in turn with the flood", values.quiet);
    let against = Some(Against { name: names[0], p50: quiet.percentile(50) });
    [Figures { against, ..figures(names[1], "p50 1.5x without", values.flooded) }, quiet]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flooded_figures_have_the_ratio_to_the_quiet_ones() {
        let values = Values { quiet: vec![20.0], flooded: vec![25.0] };
        let [flooded, quiet] = figures(["kill", "kill-flooded"], values).map(|it| it.json());
        assert!(flooded.contains(r#""case":"kill-flooded""#), "{flooded}");
        assert!(flooded.ends_with(r#""against":"kill","ratio":1.25}"#), "{flooded}");
        assert!(quiet.contains(r#""case":"kill""#) && !quiet.contains("against"), "{quiet}");
    }
}
