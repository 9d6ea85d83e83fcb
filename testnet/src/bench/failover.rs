//! kill -9 a node, until its workload of one replica answers at a survivor.
//!
//! The artifact is held, compiled, by all three nodes. The survivors are asked in turn, a request each 4 ms, so a gap is
//! measured to about that. The clock runs from just before the kill to the end of the first good answer to a question
//! asked after it. Between two kills the dead node is started again on its own state, and all must be whole.

use std::time::Duration;

use anyhow::Result;

use super::Figures;
use crate::kill::{HELLO, holder, kill_under_traffic};
use crate::real::{Cluster, Options};

const PACE: Duration = Duration::from_millis(4);

pub(super) fn measure(options: &Options, runs: u32) -> Result<Vec<Figures>> {
    let mut cluster = Cluster::start(options, 3)?;
    let values = kills(&mut cluster, runs);
    let values = cluster.told(values)?;
    let goal = "p50 200 ms, p99 600 ms";
    Ok(vec![Figures { bench: "failover", case: "kill", unit: "ms", goal, values }])
}

fn kills(cluster: &mut Cluster, runs: u32) -> Result<Vec<f64>> {
    cluster.publish(0, &cluster.guest(HELLO)?, HELLO, 1)?;
    cluster.held_everywhere(0, HELLO)?;
    let mut values = Vec::new();
    for run in 1..=runs {
        cluster.settled()?;
        let view = cluster.healthy(0, HELLO)?;
        let victim = holder(cluster, &view)?;
        let (at, answer, traffic) = kill_under_traffic(cluster, victim, PACE)?;
        drop(traffic);
        let gap = (answer.ended - at).as_secs_f64() * 1000.0;
        println!("  {run:>3}/{runs}  {} killed, answered after {gap:.0} ms", cluster.nodes[victim].name);
        values.push(gap);
        cluster.restart(victim)?;
    }
    Ok(values)
}
