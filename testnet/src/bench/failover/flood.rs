//! kill -9 without and with a flood of connections against the mesh port of every survivor.
//!
//! A third of the connections is TCP alone, a third strangers that complete a handshake and then
//! are silent, a third garbage; from 64 addresses. One that is hung up on comes again in a moment.
//! The flood begins before the loss and ends after the answer. It runs in this process, so on a
//! small machine it also takes processor time from the daemons.
//!
//! A loss takes longer where the lost node was the workload's owner, too, and the workload moves to
//! and fro between two nodes. So two losses without and two with the flood take turns, and each is
//! compared with its like: cases owner and holder. All come equally long after the cluster has
//! recovered.

use std::time::Duration;

use anyhow::Result;

use super::{NODES, loss, publish, sole_holder};
use crate::bench::{Against, Figures};
use crate::hostile::{Attacker, Flood, Target};
use crate::kill::HELLO;
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
    let [owner, holder] = cluster.report_failure(values)?;
    Ok([figures(["owner", "owner-flooded"], owner), figures(["holder", "holder-flooded"], holder)]
        .concat())
}

/// The values of losses of the owner, and of other holders.
fn in_turn(cluster: &mut Cluster, runs: u32, connections: usize) -> Result<[Values; 2]> {
    let (mut owner, mut holder) = (Values::default(), Values::default());
    let kill =
        |cluster: &mut Cluster, victim: usize| cluster.nodes[victim].kill().map(|at| (at, at));
    for run in 1..=runs {
        // Neither of the two is always the first.
        for is_flooded in [run % 2 == 0, run % 2 == 0, run % 2 == 1, run % 2 == 1] {
            let victim = eventually("one holder whom all agree on", || sole_holder(cluster))?;
            let name = cluster.nodes[victim].name.clone();
            let is_owner = cluster.any()?.api().workload(HELLO)?.owner.as_ref() == Some(&name);
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
            let what = if is_owner { "owner" } else { "holder" };
            println!("  {run:>3}/{runs}  {what} {name} lost, {gap:.0} ms ({beside})");
            let values = if is_owner { &mut owner } else { &mut holder };
            if is_flooded { &mut values.flooded } else { &mut values.quiet }.push(gap);
            cluster.restart(victim)?;
            cluster.settled()?;
        }
    }
    Ok([owner, holder])
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
        let [flooded, quiet] = figures(["owner", "owner-flooded"], values).map(|it| it.json());
        assert!(flooded.contains(r#""case":"owner-flooded""#), "{flooded}");
        assert!(flooded.ends_with(r#""against":"owner","ratio":1.25}"#), "{flooded}");
        assert!(quiet.contains(r#""case":"owner""#) && !quiet.contains("against"), "{quiet}");
    }
}
