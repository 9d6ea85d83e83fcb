//! What clients notice.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::world::World;
use crate::real::traffic::{Sample, Traffic};

/// A request each so often, at the asked nodes in turn.
const PACE: Duration = Duration::from_millis(20);

/// Clients of one workload, asking at some nodes.
pub(super) struct Clients {
    traffic: Traffic,
    /// When the first good answer came, before anything was done.
    good_at: Instant,
}

/// What they noticed.
pub(super) struct Outage {
    /// The longest time between two good answers.
    pub(super) worst: Duration,
    pub(super) asked: usize,
    pub(super) failed: usize,
}

impl Clients {
    /// Begins to ask for a workload at these nodes; returns once there was a good answer.
    pub(super) fn of(world: &World, workload: &str, at: &[usize]) -> Result<Self> {
        let targets = at.iter().map(|node| world.cluster.nodes[*node].http()).collect::<Result<Vec<_>>>()?;
        let traffic = Traffic::start(targets, &format!("{workload}.localhost"), PACE);
        let (first, _) = traffic.until("a good answer before anything is done", Sample::good)?;
        Ok(Clients { traffic, good_at: first.ended })
    }

    /// Waits for a good answer to a question asked from now on, and stops.
    pub(super) fn done(self) -> Result<Outage> {
        let now = Instant::now();
        let (last, mut samples) = self.traffic.until("a good answer", |sample| sample.good() && sample.sent >= now)?;
        samples.extend(self.traffic.stop());
        samples.push(last);
        Ok(outage(self.good_at, &samples))
    }
}

fn outage(good_at: Instant, samples: &[Sample]) -> Outage {
    let mut good: Vec<Instant> = samples.iter().filter(|sample| sample.good()).map(|sample| sample.ended).collect();
    let failed = samples.len() - good.len();
    good.push(good_at);
    good.sort_unstable();
    let worst = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Outage { worst, asked: samples.len(), failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_gap_begins_with_the_last_answer_before_it() {
        let start = Instant::now();
        let sample = |at: u64, good: bool| Sample {
            asked: ([127, 0, 0, 1], 80).into(),
            sent: start,
            ended: start + Duration::from_millis(at),
            answer: if good { Ok(200) } else { Err("refused".into()) },
            served_by: None,
            text: String::new(),
        };
        // In the order in which they came to be known, which is not that of their ends.
        let samples = [sample(950, true), sample(20, false), sample(900, true), sample(500, false)];
        let outage = outage(start, &samples);
        assert_eq!((outage.worst, outage.asked, outage.failed), (Duration::from_millis(900), 4, 2));
    }
}
