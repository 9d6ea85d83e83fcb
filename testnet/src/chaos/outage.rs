//! The effect of a fault on clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::world::World;
use crate::real::traffic::{Sample, Traffic};

/// Time between two requests, which the given nodes get in turn.
const PACE: Duration = Duration::from_millis(20);

/// Clients of a workload that send requests to some nodes.
pub(super) struct Clients {
    traffic: Traffic,
    /// The time of the first good answer, before the fault.
    good_at: Instant,
}

/// Gaps and failures that clients saw.
pub(super) struct Outage {
    /// The longest time between two good answers.
    pub(super) worst: Duration,
    asked: usize,
    failed: usize,
    /// The most frequent error, in a line.
    mostly: Option<String>,
}

impl fmt::Display for Outage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "of {} requests {} failed", self.asked, self.failed)?;
        self.mostly.iter().try_for_each(|why| write!(to, " (mostly: {why})"))
    }
}

impl Clients {
    /// Starts requests for a workload at these nodes; returns after the first good answer.
    pub(super) fn of(world: &World, workload: &str, at: &[usize]) -> Result<Self> {
        let targets =
            at.iter().map(|node| world.cluster.nodes[*node].http()).collect::<Result<Vec<_>>>()?;
        let traffic = Traffic::start(targets, &format!("{workload}.localhost"), PACE);
        let (first, _) = traffic.until("a good answer before anything is done", Sample::good)?;
        Ok(Clients { traffic, good_at: first.ended })
    }

    /// Waits for a good answer to a request sent from now on, and stops.
    pub(super) fn done(self) -> Result<Outage> {
        let now = Instant::now();
        let (last, mut samples) =
            self.traffic.until("a good answer", |sample| sample.good() && sample.sent >= now)?;
        samples.extend(self.traffic.stop());
        samples.push(last);
        Ok(outage(self.good_at, &samples))
    }
}

fn outage(good_at: Instant, samples: &[Sample]) -> Outage {
    let (good, bad): (Vec<&Sample>, Vec<&Sample>) =
        samples.iter().partition(|sample| sample.good());
    let mut answers: Vec<Instant> =
        good.iter().map(|sample| sample.ended).chain([good_at]).collect();
    answers.sort_unstable();
    let worst = answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let mut whys: BTreeMap<String, usize> = BTreeMap::new();
    for sample in &bad {
        *whys.entry(why(sample)).or_default() += 1;
    }
    let mostly = whys.into_iter().max_by_key(|(_, count)| *count).map(|(why, _)| why);
    Outage { worst, asked: samples.len(), failed: bad.len(), mostly }
}

fn why(sample: &Sample) -> String {
    match &sample.answer {
        Ok(status) => format!("{status} {}", sample.text.lines().next().unwrap_or_default()),
        Err(error) => error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_gap_is_between_two_good_answers() {
        let start = Instant::now();
        let sample = |at: u64, good: bool| Sample {
            asked: ([127, 0, 0, 1], 80).into(),
            sent: start,
            ended: start + Duration::from_millis(at),
            answer: if good { Ok(200) } else { Err("refused".into()) },
            served_by: None,
            text: String::new(),
        };
        // In the order in which they were reported, which is not that of their ends.
        let samples = [sample(950, true), sample(20, false), sample(900, true), sample(500, false)];
        let outage = outage(start, &samples);
        assert_eq!(outage.worst, Duration::from_millis(900));
        assert_eq!(outage.to_string(), "of 4 requests 2 failed (mostly: refused)");
    }
}
