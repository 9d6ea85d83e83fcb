//! `cargo testnet sim`: one history to be read by a person, or as many as fit into some minutes.

use std::time::Duration;

use clap::Args;

use super::{campaign, history, scenario};

/// Runs histories in the simulated world: thousands of hours of a cluster's life, every fault, one seed each.
///
/// `--seed` prints what happened, a line an event; the same seed is the same history, step for step. `--scenario` runs what a
/// file says instead of what the seed draws; `--minutes` runs one new seed after another.
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

/// Runs what was asked for. Whether all ended well; what went wrong is printed.
pub fn run(sim: &Sim) -> bool {
    if sim.list {
        println!("random          deeds drawn from the seed");
        for name in scenario::names() {
            let about = scenario::Scenario::find(name).map(|it| it.about).unwrap_or_default();
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
        name => match scenario::Scenario::find(name) {
            Ok(scenario) => Some(scenario),
            Err(why) => {
                eprintln!("error: {why}");
                return false;
            }
        },
    };
    if let Some(minutes) = sim.minutes {
        return campaign::run(sim.seed, Duration::from_secs(60 * minutes), &sim.scenario, scenario.as_ref());
    }
    let told = match &scenario {
        Some(scenario) => scenario.run(sim.seed, true),
        None => history::told(sim.seed),
    };
    match told {
        Ok(ended) => {
            print!("{}", ended.trace);
            println!("seed {} ended well after {} steps: {}", sim.seed, ended.steps, ended.history);
            true
        }
        Err(report) => {
            println!("{}", campaign::failure(sim.seed, &sim.scenario, &report));
            false
        }
    }
}
