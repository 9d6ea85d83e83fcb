//! The model in the form that the checker needs.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use super::bounds::Scenario;
use super::laws::Law;
use super::setup::Setup;
use super::world::{State, Step};

/// Tries all histories of a scenario.
pub fn check(scenario: &str) {
    let started = Instant::now();
    let histories = Histories::new(scenario.parse().expect("a plot"));
    let steps = histories.scenario.steps;
    let checker = histories.checker().finish_when(HasDiscoveries::AnyFailures);
    // With two threads states are not visited in order of depth, so a bound on steps needs one.
    let checker = match steps {
        Some(steps) => checker.threads(1).target_max_depth(steps + 1),
        None => checker.threads(2),
    };
    let checker = checker.spawn_bfs().join();
    let (states, steps, depth) =
        (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!(
        "{scenario}: {states} states, {steps} steps, at most {depth} deep, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let describe: Vec<String> =
        checker.discoveries().into_iter().map(|(name, path)| describe(name, path)).collect();
    assert!(describe.is_empty(), "{scenario}: {states} states were seen\n{}", describe.join("\n"));
    let endless = checker.model().endless();
    assert!(
        endless.is_empty(),
        "{scenario}: {} of {states} states do not come to rest by themselves",
        endless.len()
    );
}

fn describe(law: &str, path: Path<State, Step>) -> String {
    let steps = path.into_vec();
    let mut text = format!("{law} is broken, {} steps from the beginning:\n", steps.len() - 1);
    for (state, step) in steps {
        let step = step.map(|step| format!("{step:?}")).unwrap_or_default();
        _ = writeln!(text, "  {state:?}\n    {step}");
    }
    text
}

struct Histories {
    setup: Setup,
    scenario: Scenario,
    /// For each state the next one if no further fault happens and the first possible step is
    /// taken.
    next_without_fault: Mutex<HashMap<u64, u64>>,
}

impl Histories {
    fn new(scenario: Scenario) -> Self {
        Histories {
            setup: Setup::new(scenario.start),
            scenario,
            next_without_fault: Mutex::default(),
        }
    }

    /// States that without a further fault never come to rest. Valid once all states were visited.
    fn endless(&self) -> Vec<u64> {
        let next_without_fault = self.next_without_fault.lock().expect("no thread fails with it");
        let mut ends: HashSet<u64> = HashSet::new();
        let mut endless = Vec::new();
        for &from in next_without_fault.keys() {
            let (mut at, mut path) = (from, HashSet::new());
            while !ends.contains(&at) && path.insert(at) {
                match next_without_fault.get(&at) {
                    Some(next) => at = *next,
                    None => _ = ends.insert(at),
                }
            }
            if ends.contains(&at) {
                ends.extend(path);
            } else {
                endless.push(from);
            }
        }
        endless
    }
}

impl Model for Histories {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.setup, self.scenario)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        // The steps after a broken law show nothing new.
        if state.broken.is_empty() {
            state.steps(steps);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = state.after(&self.setup, &step);
        if state.fault_free_step().as_ref() == Some(&step) {
            self.next_without_fault
                .lock()
                .expect("no thread fails with it")
                .insert(state.digest(), next.digest());
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one winner", |_, state: &State| {
                !state.broken.contains(&Law::OneWinner)
            }),
            Property::always("fits", |_, state: &State| !state.broken.contains(&Law::Fits)),
            Property::always("new counter", |_, state: &State| {
                !state.broken.contains(&Law::NewCounter)
            }),
            Property::always("written before said", |_, state: &State| {
                !state.broken.contains(&Law::WrittenBeforeSaid)
            }),
            Property::always("yields to the healthy", |_, state: &State| {
                !state.broken.contains(&Law::YieldsToTheHealthy)
            }),
            Property::always("keeper stays", |_, state: &State| {
                !state.broken.contains(&Law::KeeperStays)
            }),
            Property::always("one at a time", |_, state: &State| {
                !state.broken.contains(&Law::OneAtATime)
            }),
            Property::always("serves", |_, state: &State| !state.broken.contains(&Law::Serves)),
            Property::always("rests well", |_, state: &State| {
                !state.broken.contains(&Law::RestsWell)
            }),
        ]
    }
}
