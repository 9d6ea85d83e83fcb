//! `cargo testnet sim`: one history, to be read by a person.

use clap::Args;

use super::scenario::told;

/// Runs one random history in the simulated world and prints what happened, a line an event.
#[derive(Args)]
pub struct Sim {
    /// Which history: the same seed is the same one, step for step.
    #[arg(long)]
    seed: u64,
}

/// Prints the history. Whether it ended well; what went wrong is printed below it.
pub fn run(sim: &Sim) -> bool {
    match told(sim.seed) {
        Ok((trace, digest)) => {
            print!("{trace}");
            println!("seed {} ended well: {digest}", sim.seed);
            true
        }
        Err(report) => {
            println!("seed {} failed: {}", sim.seed, report.trim_end());
            false
        }
    }
}
