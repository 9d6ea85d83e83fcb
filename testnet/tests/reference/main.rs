//! Random histories beside a small reference: real cores on simulated devices, compared with what
//! an observer of all requests and faults would know.
//!
//! A history is a list of steps: users send requests through any device, also such that must be
//! refused, and devices are killed, cut off, paused, filled, lost and added. After each step the
//! answer and the state that each node shows are compared with the reference. In the end all faults
//! end, and every node must show the promised workloads, run as often as was asked for and
//! reachable from every node. The simulator's own invariants are checked all the time.
//!
//! | file | what |
//! | --- | --- |
//! | `state` | **the reference: allowed answers and values**, in rules of a page or two |
//! | `step` | the steps and their text form |
//! | `draw` | which steps are possible when, and how often each is drawn |
//! | `trial` | the cluster beside the reference: does the steps, compares |
//! | `user` | what the command line does |
//! | `run` | from a seed to histories, and from a failing one to a short one |
//!
//! **What the reference leaves open:** if a device may have received a write, or a request got no
//! answer, both possibilities are allowed. A device that was cut off has received nothing; a device
//! that was connected for a minute and a half has received everything. Clocks are right, so the
//! later of two writes wins; wrong clocks, clones, bad weather and failing runtimes are tested by
//! `cargo testnet sim`.
//!
//! More and new histories, by hand; without `SHOAL_SEED` the seed is new, and a failure names it:
//!
//! ```text
//! SHOAL_CASES=1000 SHOAL_SEED=7 cargo test --release -p shoal-testnet --test reference
//! ```

mod draw;
mod run;
mod state;
mod step;
mod trial;
mod user;

use proptest_state_machine::ReferenceStateMachine;
use state::State;
use step::{Request, Step, Twist, Workload};

/// Cases and seed of the gate, which always runs the same histories.
const GATE: (u32, u64) = (150, 5);

/// The gate runs a fixed seed; `SHOAL_CASES` and `SHOAL_SEED` choose others.
#[test]
fn random_histories_match_the_reference() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
    };
    let cases = number("SHOAL_CASES").map(|cases| u32::try_from(cases).expect("not so many"));
    let fresh = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed =
        number("SHOAL_SEED").unwrap_or_else(|| if cases.is_some() { fresh() } else { GATE.1 });
    run::random(seed, cases.unwrap_or(GATE.0)).unwrap_or_else(|why| panic!("{why}"));
}

/// Seed 11 drew these two, and the simulator refuses the second: the founder was never admitted, so
/// n1 is the last member that it knows.
#[test]
fn last_admitted_member_is_not_lost() {
    let mut state = State::new(11, 3);
    let may = |state: &State, device| draw::Reference::preconditions(state, &Step::Lose(device));
    assert!(may(&state, 1) && may(&state, 2));
    state.take(&Step::Lose(2));
    assert!(!may(&state, 1));
    assert!(may(&state, 0), "n1 can admit others");
}

/// A device wins several places at once, and its disk turns out to be full before the claims are
/// durable. It released one after another, and the slot that it announced with the first release
/// contained the others, which were never on disk. No node may announce a claim that a restart
/// would lose.
#[test]
fn full_disk_makes_no_node_tell_of_unwritten_claims() {
    let workload = Workload { version: 1, replicas: 4, is_huge: false, is_stateful: false };
    let request = Request::Publish { workload, force: false };
    let steps = [Step::Ask { name: "db", request, via: 2, twist: Twist::None }, Step::Fill(0)];
    for seed in 0..100 {
        run::run_one(&State::new(seed, 3), &steps).unwrap_or_else(|why| panic!("{why}"));
    }
}
