//! Scenarios: a list of actions, each with its time, one per line. After the last one all faults
//! end, and the cluster must converge.
//!
//! ```text
//! # what it is about
//! nodes 5
//! at 1s   publish web 3
//! at 5s   kill holder:web/0
//! at 20s  start n2
//! ```

use std::time::Duration;

use super::action::{self, NotUnderstood, SimAction, Words};
use super::error::SimError;
use super::history::Summary;
use super::simulation::Simulation;
use super::world::World;

/// Built-in scenarios, by name.
const BUILT_IN: [(&str, &str); 19] = [
    ("bad-clocks", include_str!("../../scenarios/bad-clocks.txt")),
    ("blackout", include_str!("../../scenarios/blackout.txt")),
    ("clone", include_str!("../../scenarios/clone.txt")),
    ("crowded", include_str!("../../scenarios/crowded.txt")),
    ("disks", include_str!("../../scenarios/disks.txt")),
    ("engines", include_str!("../../scenarios/engines.txt")),
    ("flapping", include_str!("../../scenarios/flapping.txt")),
    ("kill", include_str!("../../scenarios/kill.txt")),
    ("moves", include_str!("../../scenarios/moves.txt")),
    ("no-way", include_str!("../../scenarios/no-way.txt")),
    ("one-way", include_str!("../../scenarios/one-way.txt")),
    ("partition", include_str!("../../scenarios/partition.txt")),
    ("paused", include_str!("../../scenarios/paused.txt")),
    ("promises", include_str!("../../scenarios/promises.txt")),
    ("rolling", include_str!("../../scenarios/rolling.txt")),
    ("runtimes", include_str!("../../scenarios/runtimes.txt")),
    ("satellite", include_str!("../../scenarios/satellite.txt")),
    ("versions", include_str!("../../scenarios/versions.txt")),
    ("waves", include_str!("../../scenarios/waves.txt")),
];
/// Devices at the start of a scenario at most.
const MOST_NODES: usize = 10_000;

/// A parsed scenario.
#[derive(Debug, PartialEq)]
pub struct Scenario {
    /// The first comment: its description.
    pub about: String,
    nodes: usize,
    actions: Vec<Line>,
}

/// An action, its line number, and its time after the start.
#[derive(Debug, PartialEq)]
struct Line {
    number: usize,
    at: Duration,
    action: SimAction,
}

/// The names of the built-in scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The text of a built-in scenario.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

impl Scenario {
    /// Parses a scenario. An error names the line.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario { about: String::new(), nodes: 3, actions: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix('#') {
                if scenario.about.is_empty() {
                    scenario.about = comment.trim().to_owned();
                }
            } else if !line.is_empty() {
                let number = index + 1;
                scenario
                    .line(number, line)
                    .map_err(|NotUnderstood(why)| format!("line {number}: {why}"))?;
            }
        }
        Ok(scenario)
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), NotUnderstood> {
        let mut words = Words::of(line);
        match words.some("a word")? {
            "nodes" => {
                self.nodes = words.number("a number of devices")?;
                if self.nodes == 0 || self.nodes > MOST_NODES {
                    return Err(NotUnderstood(format!("1 to {MOST_NODES} devices can be had")));
                }
                words.end()
            }
            "at" => {
                let at = words.time()?;
                if self.actions.last().is_some_and(|before| before.at > at) {
                    return Err(NotUnderstood("it is earlier than the line before".into()));
                }
                let rest: Vec<&str> = std::iter::from_fn(|| words.next()).collect();
                self.actions.push(Line { number, at, action: rest.join(" ").parse()? });
                Ok(())
            }
            other => Err(NotUnderstood(format!(
                "`{other}` begins no line: `nodes NUMBER` and `at TIME ACTION` do"
            ))),
        }
    }

    /// Runs the scenario in the world of `seed`; `keeps_trace` keeps the whole trace.
    pub fn run(&self, seed: u64, keeps_trace: bool) -> Result<Summary, SimError> {
        let mut world = World::new(seed);
        if keeps_trace {
            world.keep_whole_trace();
        }
        let sim = Simulation::with(seed, world, self.nodes)?.run(|sim| {
            let zero = sim.world.now;
            for Line { number, at, action } in &self.actions {
                let at = zero + at.as_micros() as u64;
                sim.world.run_until(at.max(sim.world.now))?;
                sim.world.log(0, format!("-- {action}"));
                sim.apply(action).map_err(|error| match error {
                    SimError::Impossible(why) => {
                        SimError::Impossible(format!("line {number}: `{action}`: {why}"))
                    }
                    other => other,
                })?;
            }
            sim.heal()?;
            Ok(sim.settle()?)
        })?;
        let trace = if keeps_trace { sim.world.trace() } else { String::new() };
        Ok(Summary { trace, ..Summary::from(sim) })
    }
}

/// The syntax of scenarios, as `--list` prints it.
pub fn grammar() -> String {
    format!("nodes NUMBER\nat TIME ACTION\nAn ACTION is one of\n{}", action::known())
}
