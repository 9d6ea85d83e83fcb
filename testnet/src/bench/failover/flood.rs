//! kill -9 in turn without and with a flood of connections against the mesh port of every survivor.
//!
//! A third of the connections is TCP alone, a third strangers that complete a handshake and then
//! are silent, a third garbage; from 64 addresses. One that is hung up on comes again a second
//! later. The flood begins before the loss and ends after the answer. It runs in this process, so
//! on a small machine it also takes processor time from the daemons.

use anyhow::{Result, ensure};

use super::{NODES, loss, publish, sole_holder};
use crate::bench::{Against, Figures};
use crate::hostile::{Attacker, Flood, Target};
use crate::real::{Cluster, Options, eventually};

/// Addresses from which the flood comes.
const SOURCES: usize = 64;

/// The figures with the flood, and without it.
pub(in crate::bench) fn measure(
    options: &Options,
    runs: u32,
    connections: usize,
) -> Result<Vec<Figures>> {
    let mut cluster = Cluster::start(options, NODES)?;
    publish(&cluster)?;
    let values = in_turn(&mut cluster, runs, connections);
    let (quiet, flooded) = cluster.report_failure(values)?;
    Ok(figures(quiet, flooded).into())
}

fn in_turn(cluster: &mut Cluster, runs: u32, connections: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    let kill =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    for run in 1..=runs {
        for is_flooded in [false, true] {
            let victim = eventually("one holder whom all agree on", || sole_holder(cluster))?;
            let flood = match is_flooded {
                true => Some(begin(cluster, victim, connections)?),
                false => None,
            };
            let gap = loss(cluster, victim, kill)?;
            let beside = flood.as_ref().map_or("no flood".to_owned(), |flood| {
                format!("{} connections at that time, {} made", flood.open(), flood.made())
            });
            drop(flood);
            println!("  {run:>3}/{runs}  answered after {gap:.0} ms ({beside})");
            if is_flooded {
                flooded.push(gap)
            } else {
                quiet.push(gap)
            }
            cluster.restart(victim)?;
            cluster.settled()?;
        }
    }
    Ok((quiet, flooded))
}

/// Starts a flood against all nodes but one, and waits until each connection was made once.
fn begin(cluster: &Cluster, victim: usize, connections: usize) -> Result<Flood> {
    let attacker = Attacker::stolen(&cluster.nodes[victim].state(), [127, 0, 0, 1].into())?;
    let survivors = cluster.running().into_iter().filter(|index| *index != victim);
    let targets = survivors.map(|index| Target::of(&cluster.nodes[index]));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    let all = connections * targets.len();
    let flood = Flood::start(&attacker, targets, connections, SOURCES)?;
    eventually("the flood is there", || {
        ensure!(flood.made() >= all, "{} of {all} connections were made", flood.made());
        Ok(())
    })?;
    Ok(flood)
}

fn figures(quiet: Vec<f64>, flooded: Vec<f64>) -> [Figures; 2] {
    let figures = |case, goal, values| Figures {
        bench: "failover",
        case,
        unit: "ms",
        goal,
        values,
        against: None,
    };
    let quiet = figures("kill", "none: in turn with the flood", quiet);
    let against = Some(Against { name: "kill", p50: quiet.percentile(50) });
    [Figures { against, ..figures("kill-flooded", "p50 1.5x kill's", flooded) }, quiet]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flooded_figures_have_the_ratio_to_the_quiet_ones() {
        let [flooded, quiet] = figures(vec![20.0], vec![25.0]).map(|it| it.json());
        assert!(flooded.contains(r#""case":"kill-flooded""#), "{flooded}");
        assert!(flooded.ends_with(r#""against":"kill","ratio":1.25}"#), "{flooded}");
        assert!(quiet.contains(r#""case":"kill""#) && !quiet.contains("against"), "{quiet}");
    }
}
