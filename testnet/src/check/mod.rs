//! The gate: the same command for a person and for CI.

mod deny;
mod engines;
mod steps;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

/// Steps of the gate in their order: those that fail fastest come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Step {
    /// The WASM target, the example guests, cargo-deny.
    Setup,
    /// rustfmt, workspace and guests.
    Format,
    /// The law: imports, dependencies, lengths of lines, doc comments.
    Law,
    /// cargo-deny: banned crates, licenses, sources.
    Deny,
    /// clippy without warnings, workspace and guests.
    Clippy,
    /// The documentation builds without warnings.
    Docs,
    /// All tests, the simulator's fixed seeds among them.
    Tests,
    /// The tests that need container engines; only when they are asked for.
    Engines,
}

/// Runs the given steps (none: all) and stops at the first failure. True when all passed. The step
/// with the engines may install packages, so it runs only if `engines` or the step itself is given.
pub fn run(workspace: &Workspace, asked: &[Step], engines: bool) -> Result<bool> {
    let is_asked = |step: &Step| match step {
        Step::Engines => engines || asked.contains(step),
        _ => asked.is_empty() || asked.contains(step),
    };
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(is_asked).collect();
    println!("building into {}", workspace.target.display());
    let started = Instant::now();
    let mut taken = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n== {}/{} {}", index + 1, steps.len(), step.title());
        let step_started = Instant::now();
        if let Err(error) = step.run(workspace) {
            println!(
                "\n== {} FAILED after {}: {error:#}",
                step.title(),
                seconds(step_started.elapsed())
            );
            println!("   {}", step.remedy());
            println!("   Again, this step alone: cargo testnet check {}", step.name());
            return Ok(false);
        }
        println!("   passed in {}", seconds(step_started.elapsed()));
        taken.push((step, step_started.elapsed()));
    }
    println!("\n== all passed in {}", seconds(started.elapsed()));
    if asked.is_empty() && !engines {
        println!("   left out: {}, which --engines adds", Step::Engines.title());
    }
    for (step, elapsed) in taken {
        println!("   {:>8}  {}", seconds(elapsed), step.title());
    }
    Ok(true)
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn title(self) -> &'static str {
        match self {
            Step::Setup => "set-up: WASM target, example guests, cargo-deny",
            Step::Format => "format: cargo fmt --check",
            Step::Law => "law: imports, dependencies, lines, comments",
            Step::Deny => "deny: banned crates, licenses, sources",
            Step::Clippy => "clippy: no warnings",
            Step::Docs => "docs: no warnings",
            Step::Tests => "tests: cargo test --workspace",
            Step::Engines => "engines: containers on Docker and Podman",
        }
    }

    /// The remedy for a failure, for a person.
    fn remedy(self) -> &'static str {
        match self {
            Step::Setup => {
                "Set-up needs rustup, a C compiler and a way to crates.io; the lines above say \
                    which was missing."
            }
            Step::Format => {
                "Run: cargo fmt --all, and cargo fmt --all --manifest-path \
                    examples/guests/Cargo.toml; look at the diff, keep it."
            }
            Step::Law => {
                "Each line above says what to do; if the law itself is wrong, change \
                    testnet/src/law and say why."
            }
            Step::Deny => "Drop the dependency, or add the exception with its reason to deny.toml.",
            Step::Clippy => {
                "Mend what the lines above name; an exception is #[expect(.., reason = \"..\")] \
                    at the smallest scope."
            }
            Step::Docs => "Mend the links and comments that the lines above name.",
            Step::Engines => {
                "It needs root, Debian's packages docker.io and podman, and the target musl. One \
                    test alone: cargo test -p shoal-runtimes --test containers -- --ignored NAME."
            }
            Step::Tests => {
                "One test alone: cargo test -p PACKAGE NAME -- --nocapture. A simulator's seed is \
                    in its message."
            }
        }
    }
}
