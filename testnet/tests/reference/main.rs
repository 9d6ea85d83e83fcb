//! Random histories beside a small reference.

mod draw;
mod state;
mod step;
mod trial;
mod user;

use std::fmt::Write as _;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use draw::Reference;
use trial::Trial;

/// Histories in the gate, and the seed from which they are drawn: the gate never meets new ones.
const GATE: (u32, u64) = (40, 1);
/// Steps of one history, at most.
const STEPS: usize = 20;

#[test]
fn whatever_is_done_nodes_say_and_show_what_a_person_who_watched_expects() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
    };
    let cases = number("SHOAL_CASES").map(|cases| u32::try_from(cases).expect("not so many"));
    let fresh = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed = number("SHOAL_SEED").unwrap_or_else(|| if cases.is_some() { fresh() } else { GATE.1 });
    if let Err(why) = run(seed, cases.unwrap_or(GATE.0)) {
        panic!("{why}");
    }
}

/// Runs so many histories, and makes the first that fails as short as it goes.
fn run(seed: u64, cases: u32) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 600, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config.clone(), rng);
    let ended = runner.run(&Reference::sequential_strategy(1..=STEPS), |(state, steps, seen)| {
        Trial::test_sequential(config.clone(), state, steps, seen);
        Ok::<(), TestCaseError>(())
    });
    match ended {
        Ok(()) => Ok(()),
        Err(TestError::Abort(why)) => Err(format!("seed {seed}: no history could be drawn: {why}")),
        Err(TestError::Fail(why, (state, steps, _))) => {
            let mut told = format!("a history of {} steps goes wrong, with {state:?}:\n", steps.len());
            for (number, step) in steps.iter().enumerate() {
                let _ = writeln!(told, "  {:>2} {step:?}", number + 1);
            }
            Err(format!("{told}{why}\nto see it again: SHOAL_CASES={cases} SHOAL_SEED={seed}"))
        }
    }
}
