//! Runs many histories, one seed after another, on all cores, until time is up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::sim::failovers::Tally;
use crate::sim::history::{self, Summary};
use crate::sim::scenario::Scenario;

/// Failures printed in full; of further ones the first line is printed.
const PRINTED_IN_FULL: usize = 3;

#[derive(Default)]
struct Totals {
    histories: u64,
    /// Simulated time, microseconds.
    lasted: u64,
    steps: u64,
    tally: Tally,
    /// Seeds of histories with a false fall.
    seeds_with_falls: Vec<u64>,
    actions: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

/// Runs histories from seed `first` on. Returns whether all ended well.
pub fn run(first: u64, time: Duration, name: &str, scenario: Option<&Scenario>) -> bool {
    let began = Instant::now();
    let (next, totals) = (AtomicU64::new(first), Mutex::new(Totals::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while began.elapsed() < time {
                    let seed = next.fetch_add(1, Relaxed);
                    let ended = run_one(seed, scenario);
                    let mut totals = totals.lock().expect("nobody panics over a sum");
                    totals.histories += 1;
                    match ended {
                        Ok(ended) => {
                            totals.lasted += ended.lasted;
                            totals.steps += ended.steps;
                            totals.tally.add(ended.tally);
                            if ended.tally.falls > 0 {
                                totals.seeds_with_falls.push(seed);
                            }
                            for (action, count) in ended.actions {
                                *totals.actions.entry(action).or_default() += count;
                            }
                        }
                        Err(report) => {
                            if totals.failed.len() < PRINTED_IN_FULL {
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
                            totals.failed.push((seed, report));
                        }
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("nobody panics over a sum");
    print_totals(&totals, first, began.elapsed());
    totals.failed.is_empty()
}

fn run_one(seed: u64, scenario: Option<&Scenario>) -> Result<Summary, String> {
    match scenario {
        Some(scenario) => scenario.run(seed, false).map_err(|error| error.to_string()),
        None => history::run_fast(seed),
    }
}

fn print_totals(totals: &Totals, first: u64, took: Duration) {
    let hours = totals.lasted as f64 / 3.6e9;
    println!(
        "{} histories (seeds {first}..{}) in {:.1} minutes: {hours:.1} cluster-hours simulated, \
            {:.0} events a second, {} failed",
        totals.histories,
        first + totals.histories,
        took.as_secs_f64() / 60.0,
        totals.steps as f64 / took.as_secs_f64(),
        totals.failed.len()
    );
    print_falls(&totals.tally);
    if !totals.seeds_with_falls.is_empty() {
        println!("seeds with false falls: {}", join_seeds(&totals.seeds_with_falls));
    }
    println!("actions of users and faults:");
    for (action, count) in &totals.actions {
        println!("  {action:<10} {count:>8}");
    }
    if !totals.failed.is_empty() {
        let seeds: Vec<u64> = totals.failed.iter().map(|(seed, _)| *seed).collect();
        println!("seeds that failed: {}", join_seeds(&seeds));
    }
}

fn join_seeds(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Prints the false falls and failovers. Histories that failed are not counted.
fn print_falls(tally: &Tally) {
    let Tally { ran, well, falls, misled, failovers } = *tally;
    let (hours, well) = (ran as f64 / 3.6e9, well as f64 / 3.6e9);
    let rate = |count: u64| if ran == 0 { 0.0 } else { count as f64 * 1e3 / hours };
    println!("{hours:.1} node-hours simulated, {well:.1} of them without trouble for ten seconds:");
    println!("  false failovers {failovers:>6}, {:.2} per 1,000 node-hours", rate(failovers));
    println!("  false falls     {falls:>6}, {:.2} per 1,000 node-hours", rate(falls));
    println!("  misled          {misled:>6}, {:.2} per 1,000 node-hours", rate(misled));
}
