//! `cargo testnet sim`: prints one history, or runs as many as fit into some minutes. Threads,
//! files and real clocks are used here only; the simulated world must not know them.

mod campaign;

use std::time::Duration;

use clap::Args;

use crate::sim::error::SimError;
use crate::sim::{history, scenario};

/// Runs histories in the simulated world: thousands of hours of a cluster's life, every fault, one
/// seed each.
///
/// `--seed` prints what happened, a line an event; the same seed is the same history, step for
/// step. `--scenario` runs what a file says instead of what the seed draws; `--minutes` runs one
/// new seed after another.
#[derive(Args)]
pub struct Sim {
    /// Which history.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A scenario by name, or a file: see `--list`.
    #[arg(long, value_name = "NAME|FILE", default_value = "random")]
    scenario: String,
    /// Runs new histories for so many minutes, from `--seed` on, and prints figures.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Lists the scenarios, and how one is written.
    #[arg(long, conflicts_with_all = ["minutes"])]
    list: bool,
}

/// Runs the command. Returns whether all histories ended well; failures are printed.
pub fn run(sim: &Sim) -> bool {
    if sim.list {
        println!("random          actions drawn from the seed");
        for name in scenario::names() {
            let about = find(name).map(|it| it.about).unwrap_or_default();
            println!("{name:<15} {about}");
        }
        println!(
            "\nA scenario is written so, a line each, times ascending, `#` before a comment:\n\n{}",
            scenario::grammar()
        );
        return true;
    }
    let scenario = match sim.scenario.as_str() {
        "random" => None,
        name => match find(name) {
            Ok(scenario) => Some(scenario),
            Err(why) => {
                eprintln!("error: {why}");
                return false;
            }
        },
    };
    if let Some(minutes) = sim.minutes {
        return campaign::run(
            sim.seed,
            Duration::from_secs(60 * minutes),
            &sim.scenario,
            scenario.as_ref(),
        );
    }
    let told = match &scenario {
        Some(scenario) => scenario.run(sim.seed, true),
        None => history::run_traced(sim.seed).map_err(SimError::Broken),
    };
    match told {
        Ok(ended) => {
            print!("{}", ended.trace);
            println!("seed {} ended well after {} steps: {}", sim.seed, ended.steps, ended.history);
            true
        }
        Err(SimError::Impossible(why)) => {
            eprintln!("error: {}: {why}", sim.scenario);
            false
        }
        Err(report) => {
            let name = scenario.map(|_| sim.scenario.as_str());
            println!("{}", history::failure(sim.seed, name, &report.to_string()));
            false
        }
    }
}

/// Parses a built-in scenario, or one in a file.
fn find(name: &str) -> Result<scenario::Scenario, String> {
    let text = match scenario::built_in(name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(name).map_err(|why| {
            let known: Vec<&str> = scenario::names().collect();
            format!(
                "there is no scenario `{name}`, and no such file ({why}); known are random, {}",
                known.join(", ")
            )
        })?,
    };
    scenario::Scenario::parse(&text).map_err(|why| format!("{name}: {why}"))
}
