//! `cargo testnet`: the gate, the demo and the benchmarks. `cargo testnet help` lists them.

use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use shoal_testnet::bench::{self, Benches};
use shoal_testnet::chaos::{self, Chaos};
use shoal_testnet::check::{self, Step};
use shoal_testnet::conformance::{self, Conformance};
use shoal_testnet::fuzz::{self, Fuzz};
use shoal_testnet::quality::{self, Quality};
use shoal_testnet::real::{Options, leave_to_signal};
use shoal_testnet::scale::{self, Scale};
use shoal_testnet::simulate::{self, Sim};
use shoal_testnet::workspace::{Profile, Workspace};
use shoal_testnet::{demo, kill, law};

/// The world around shoal: the gate, the demo, the benchmarks.
#[derive(Parser)]
#[command(name = "cargo testnet", bin_name = "cargo testnet", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The gate: everything that must pass before a change is accepted.
    ///
    /// It sets up what it needs (WASM target, cargo-deny, example guests), says what it does and
    /// how long each step took, and stops at the first failure with what to do.
    Check {
        /// Run only these steps, in the gate's order.
        #[arg(value_enum)]
        steps: Vec<Step>,
        /// Also the tests that need container engines, as root; Debian's docker.io and podman are
        /// installed if they are missing.
        #[arg(long)]
        engines: bool,
    },
    /// The law alone: imports, dependencies, lengths of lines, doc comments.
    Law,
    /// Three real nodes, a workload of two replicas, two kills: seen and timed, in about a minute.
    Demo {
        /// Leave the folder with state and logs when it ends.
        #[arg(long)]
        keep: bool,
    },
    /// Kill one of three real nodes, as the test does it, again and again.
    Kill {
        /// How often.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Leave the folders with state and logs.
        #[arg(long)]
        keep: bool,
    },
    /// Faults of the field, done to real daemons: kills, cuts, hangs, full disks, clocks,
    /// blackouts, bad weather.
    ///
    /// As root each node gets a network of its own; otherwise what needs one is skipped. Nothing is
    /// left behind.
    Chaos(Chaos),
    Bench(Benches),
    Sim(Sim),
    Scale(Scale),
    Quality(Quality),
    Conformance(Conformance),
    Fuzz(Fuzz),
}

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let ended = run(arguments.verb, &matches);
    leave_to_signal();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command. `false`: it found something wrong; an error: it could not find out.
fn run(verb: Verb, matches: &ArgMatches) -> anyhow::Result<bool> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Check { steps, engines } => check::run(&workspace, &steps, engines),
        Verb::Law => law::run(&workspace),
        Verb::Demo { keep } => demo::run(&workspace, keep).map(|()| true),
        Verb::Kill { times, keep } => {
            let options = Options { keep, ..Options::build(&workspace, Profile::Dev)? };
            kill::run(&options, times)
        }
        Verb::Chaos(chaos) => chaos::run(&workspace, &chaos),
        Verb::Bench(benches) => {
            let own = matches.subcommand_matches("bench").context("the verb has another name")?;
            bench::run(&workspace, &benches, own).map(|()| true)
        }
        Verb::Sim(sim) => Ok(simulate::run(&sim)),
        Verb::Scale(scale) => scale::run(&scale),
        Verb::Quality(quality) => quality::run(&quality),
        Verb::Conformance(all) => conformance::run(&workspace, &all),
        Verb::Fuzz(fuzz) => fuzz::run(&workspace, &fuzz),
    }
}
