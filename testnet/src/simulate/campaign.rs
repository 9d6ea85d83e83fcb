//! Many histories, one seed after another, on all cores, until time is up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sim::failovers::Tally;
use crate::sim::history::{self, Ended};
use crate::sim::scenario::Scenario;

/// Failures that are told in full; of the others the first line.
const TOLD: usize = 3;

#[derive(Default)]
struct Sum {
    histories: u64,
    /// Simulated, microseconds.
    lasted: u64,
    steps: u64,
    tally: Tally,
    /// Seeds in whose histories a node that was well was called down by such.
    with_falls: Vec<u64>,
    deeds: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

/// Runs histories from `first` on. Whether all ended well.
pub fn run(first: u64, time: Duration, name: &str, scenario: Option<&Scenario>) -> bool {
    let began = Instant::now();
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while began.elapsed() < time {
                    let seed = next.fetch_add(1, Relaxed);
                    let ended = one(seed, scenario);
                    let mut sum = sum.lock().expect("nobody panics over a sum");
                    sum.histories += 1;
                    match ended {
                        Ok(ended) => {
                            sum.lasted += ended.lasted;
                            sum.steps += ended.steps;
                            sum.tally.add(ended.tally);
                            if ended.tally.falls > 0 {
                                sum.with_falls.push(seed);
                            }
                            for (deed, count) in ended.deeds {
                                *sum.deeds.entry(deed).or_default() += count;
                            }
                        }
                        Err(report) => {
                            if sum.failed.len() < TOLD {
                                println!(
                                    "{}\n",
                                    history::failure(seed, scenario.map(|_| name), &report)
                                );
                            } else {
                                println!(
                                    "seed {seed} failed: {}\n",
                                    report.lines().next().unwrap_or_default()
                                );
                            }
                            sum.failed.push((seed, report));
                        }
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().expect("nobody panics over a sum");
    tell(&sum, first, began.elapsed());
    sum.failed.is_empty()
}

fn one(seed: u64, scenario: Option<&Scenario>) -> Result<Ended, String> {
    match scenario {
        Some(scenario) => scenario.run(seed, false).map_err(|trouble| trouble.to_string()),
        None => history::hurried(seed),
    }
}

fn tell(sum: &Sum, first: u64, took: Duration) {
    let hours = sum.lasted as f64 / 3.6e9;
    println!(
        "{} histories (seeds {first}..{}) in {:.1} minutes: {hours:.1} cluster-hours simulated, \
            {:.0} events a second, {} failed",
        sum.histories,
        first + sum.histories,
        took.as_secs_f64() / 60.0,
        sum.steps as f64 / took.as_secs_f64(),
        sum.failed.len()
    );
    tell_falls(&sum.tally);
    if !sum.with_falls.is_empty() {
        println!("seeds with false falls: {}", listed(&sum.with_falls));
    }
    println!("deeds of users and fate:");
    for (deed, count) in &sum.deeds {
        println!("  {deed:<10} {count:>8}");
    }
    if !sum.failed.is_empty() {
        let seeds: Vec<u64> = sum.failed.iter().map(|(seed, _)| *seed).collect();
        println!("seeds that failed: {}", listed(&seeds));
    }
}

fn listed(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// What is said of nodes that were well. Histories that failed are not in it.
fn tell_falls(tally: &Tally) {
    let Tally { ran, well, falls, misled, failovers } = *tally;
    let (hours, well) = (ran as f64 / 3.6e9, well as f64 / 3.6e9);
    let rate = |count: u64| if ran == 0 { 0.0 } else { count as f64 * 1e3 / hours };
    println!("{hours:.1} node-hours simulated, {well:.1} of them without trouble for ten seconds:");
    println!("  false failovers {failovers:>6}, {:.2} per 1,000 node-hours", rate(failovers));
    println!("  false falls     {falls:>6}, {:.2} per 1,000 node-hours", rate(falls));
    println!("  misled          {misled:>6}, {:.2} per 1,000 node-hours", rate(misled));
}
