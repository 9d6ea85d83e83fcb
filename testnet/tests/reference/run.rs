//! Draws histories from a seed, and shortens the first that fails.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::strategy::Just;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use super::draw::Reference;
use super::state::State;
use super::step::Step;
use super::trial::Trial;

/// Steps of a history at most.
const STEPS: usize = 20;
/// Time for shortening: for proptest first, then again for [`shorten`].
const SHRINK_TIME: Duration = Duration::from_secs(45);

/// Runs this many histories of a seed.
pub fn random(seed: u64, cases: u32) -> Result<(), String> {
    let config = Config { cases, max_shrink_time: SHRINK_TIME.as_millis() as u32, ..quiet() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let ended = runner.run(&Reference::sequential_strategy(1..=STEPS), |(state, steps, seen)| {
        Trial::test_sequential(quiet(), state, steps, seen);
        Ok::<(), TestCaseError>(())
    });
    match ended {
        Ok(()) => Ok(()),
        Err(TestError::Abort(why)) => Err(format!("seed {seed}: no history could be drawn: {why}")),
        Err(TestError::Fail(why, (state, steps, _))) => {
            let (steps, why) = shorten(&state, steps, why.message().to_owned());
            Err(format!(
                "{}to see it again: SHOAL_CASES={cases} SHOAL_SEED={seed}",
                describe(&state, &steps, &why)
            ))
        }
    }
}

/// Runs one history.
pub fn run_one(state: &State, steps: &[Step]) -> Result<(), String> {
    match failure(state, steps) {
        Some(why) => Err(describe(state, steps, &why)),
        None => Ok(()),
    }
}

/// Removes more steps than proptest does: it does not retry a step that a later, meanwhile removed
/// one needed, and never removes two at once, such as a kill and its start.
fn shorten(state: &State, mut steps: Vec<Step>, mut why: String) -> (Vec<Step>, String) {
    let began = Instant::now();
    'anew: loop {
        let singles = (0..steps.len()).rev().map(|last| (last, last));
        let pairs =
            (0..steps.len()).rev().flat_map(|last| (0..last).rev().map(move |first| (first, last)));
        for (first, last) in singles.chain(pairs) {
            let mut fewer = steps.clone();
            fewer.remove(last);
            if first != last {
                fewer.remove(first);
            }
            if is_valid(state.clone(), &fewer)
                && let Some(still) = failure(state, &fewer)
            {
                (steps, why) = (fewer, still);
                continue 'anew;
            }
            if began.elapsed() > SHRINK_TIME {
                break;
            }
        }
        return (steps, why);
    }
}

fn is_valid(mut state: State, steps: &[Step]) -> bool {
    steps.iter().all(|step| {
        let is_valid = Reference::preconditions(&state, step);
        if is_valid {
            state.take(step);
        }
        is_valid
    })
}

/// Runs a history and returns why it fails, if it does. Panics are caught and not printed.
fn failure(state: &State, steps: &[Step]) -> Option<String> {
    let mut runner = TestRunner::new(Config { cases: 1, ..quiet() });
    let ended = runner.run(&Just((state.clone(), steps.to_vec())), |(state, steps)| {
        Trial::test_sequential(quiet(), state, steps, None);
        Ok::<(), TestCaseError>(())
    });
    ended.err().map(|error| match error {
        TestError::Fail(why, _) | TestError::Abort(why) => why.message().to_owned(),
    })
}

/// Writes no file of failing cases.
fn quiet() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

fn describe(state: &State, steps: &[Step], why: &str) -> String {
    let mut describe = format!("a history of {} steps goes wrong, with {state:?}:\n", steps.len());
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(describe, "  {:>2} {step:?}", number + 1);
    }
    describe + why.trim_end() + "\n"
}
