//! Docker Swarm beside shoal, in the same run and by the same method.
//!
//! Three managers with Swarm's default settings, each a dockerd of its own in a network namespace
//! of its own; one service of one replica, whose image all three hold. The node that runs it is
//! lost. Where the set-up differs from the usual it favours Swarm:
//! - the replica listens in its node's own network, without an ingress network or a published port,
//!   whose modules many kernels lack; clients ask the survivors themselves until one answers;
//! - it runs an image by its id, so that no registry is asked first;
//! - when its node dies, all its processes die at once, and closed connections tell the others;
//! - the lost node is not the leader: otherwise the others would elect a new one first, which then
//!   gives all nodes more time to report. When Swarm has put the replica on the leader, it is moved
//!   before.

mod engine;
mod image;
mod managers;
mod view;

use anyhow::Result;

use super::failover::Case;
use crate::real::leave_to_signal;
use crate::workspace::Workspace;
use managers::Swarm;

/// Losses of Swarm, in turn with ours.
pub(super) struct SwarmTurns {
    /// None when Swarm does not take part; the reason was printed.
    swarm: Option<Swarm>,
    times: u32,
    values: Vec<f64>,
}

impl SwarmTurns {
    /// Starts a Swarm for so many losses a case; none for 0. Where that is not possible it prints
    /// the reason, and shoal is measured alone.
    pub(super) fn start(workspace: &Workspace, times: u32) -> Self {
        let swarm = if times == 0 { None } else { started(workspace) };
        SwarmTurns { swarm, times, values: Vec::new() }
    }

    /// To be called after our loss `run` of `runs`: makes the losses of Swarm that are due then.
    pub(super) fn after(&mut self, case: Case, run: u32, runs: u32) {
        for _ in 0..due(run, runs, self.times) {
            if let Err(error) = self.turn(case) {
                leave_to_signal();
                println!("  swarm: left out from here on: {error:#}");
                self.swarm = None;
            }
        }
    }

    fn turn(&mut self, case: Case) -> Result<()> {
        let Some(swarm) = &mut self.swarm else { return Ok(()) };
        let loss = swarm.lose(case)?;
        // The value counts, whether or not the node comes back.
        self.values.push(loss.milliseconds);
        let (turn, times) = (self.values.len(), self.times);
        println!(
            "  swarm {turn}/{times}  {} lost, answered after {:.0} ms",
            loss.name, loss.milliseconds
        );
        swarm.bring_back(&loss)
    }

    /// Takes the milliseconds of the case that has ended.
    pub(super) fn taken(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.values)
    }
}

/// The reason why Swarm cannot run here, for people; none when it can.
pub fn impossible() -> Option<String> {
    Swarm::impossible()
}

fn started(workspace: &Workspace) -> Option<Swarm> {
    if let Some(why) = impossible() {
        println!("  swarm: left out: {why}");
        return None;
    }
    let started = image::dockerd_version().and_then(|version| {
        println!("  beside it Docker Swarm, three managers ({version})");
        Swarm::start(workspace)
    });
    match started {
        Ok(swarm) => Some(swarm),
        Err(error) => {
            leave_to_signal();
            println!("  swarm: left out: {error:#}");
            None
        }
    }
}

/// The number of `times` turns that come after the turn `run` of `runs`, spread evenly.
fn due(run: u32, runs: u32, times: u32) -> u32 {
    let until = |run: u32| u64::from(run) * u64::from(times) / u64::from(runs);
    u32::try_from(until(run) - until(run - 1)).expect("no more than all of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swarm_turns_are_spread_evenly_and_none_is_lost() {
        let after = |runs, times| -> Vec<u32> {
            (1..=runs).flat_map(|run| vec![run; due(run, runs, times) as usize]).collect()
        };
        assert_eq!(after(30, 3), [10, 20, 30]);
        assert_eq!(after(5, 2), [3, 5]);
        assert_eq!(after(2, 5), [1, 1, 2, 2, 2]);
        assert_eq!(after(3, 0), [0; 0]);
        for (runs, times) in [(7, 3), (1, 1), (30, 29), (1000, 7)] {
            assert_eq!(after(runs, times).len(), times as usize, "{times} among {runs}");
        }
    }
}
