//! Random histories: a small cluster, user writes and faults. Then all faults end, and the cluster
//! must converge.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::Digest;

use super::action::{SimAction, draw, gap, wave};
use super::device::FailureMode;
use super::failovers::Tally;
use super::network::{Weather, below};
use super::simulation::Simulation;
use super::world::World;

/// Every so many draws is a wave of several actions, on average.
const WAVES: u64 = 16;

/// The result of a history that ended well.
pub struct Summary {
    /// Hash of all inputs and effects.
    pub history: Digest,
    /// Simulated time, microseconds.
    pub lasted: u64,
    pub steps: u64,
    /// Number of actions by keyword.
    pub actions: BTreeMap<&'static str, u64>,
    /// False falls and failovers.
    pub tally: Tally,
    /// The whole trace, if it was kept.
    pub trace: String,
}

/// Runs the random history of `seed`. The error is a report of what went wrong.
#[cfg(test)]
pub fn run_hashed(seed: u64) -> Result<Summary, String> {
    run_in(seed, World::new(seed)).map(Summary::from)
}

/// As [`run_hashed`], but faster: the history is not hashed.
pub fn run_fast(seed: u64) -> Result<Summary, String> {
    let mut world = World::new(seed);
    world.is_hashed = false;
    run_in(seed, world).map(Summary::from)
}

/// As [`run_hashed`], with the whole trace in the result or the error.
pub fn run_traced(seed: u64) -> Result<Summary, String> {
    let mut world = World::new(seed);
    world.keep_whole_trace();
    run_in(seed, world).map(|sim| Summary { trace: sim.world.trace(), ..Summary::from(sim) })
}

impl From<Simulation> for Summary {
    fn from(sim: Simulation) -> Self {
        let Simulation { world, actions, .. } = sim;
        let (history, lasted, steps, tally) =
            (world.history, world.now, world.steps, world.failovers.tally);
        Summary { history, lasted, steps, actions, tally, trace: String::new() }
    }
}

/// The text that is printed for a history that failed.
pub fn failure(seed: u64, scenario: Option<&str>, report: &str) -> String {
    let scenario = scenario.map(|name| format!(" --scenario {name}")).unwrap_or_default();
    format!(
        "seed {seed} failed: {}\nto see it again: cargo testnet sim --seed {seed}{scenario}",
        report.trim_end()
    )
}

/// Whether replacements do not come from now on, so that what they replace goes on.
fn leaves_old_versions(action: &SimAction) -> bool {
    matches!(action, SimAction::Runtime(_, FailureMode::Hangs))
}

fn run_in(seed: u64, mut world: World) -> Result<Simulation, String> {
    let size = 3 + below(&mut world.rng, 6) as usize;
    world.network.weather = match below(&mut world.rng, 4) {
        0..=1 => Weather::LAN,
        2 => Weather::WAN,
        _ => Weather::RADIO,
    };
    let sim = Simulation::with(seed, world, size)?.run(|sim| {
        for _ in 0..6 + below(&mut sim.world.rng, 14) {
            let actions = match below(&mut sim.world.rng, WAVES) {
                0 => wave(&mut sim.world),
                _ => vec![draw(&mut sim.world)],
            };
            for action in &actions {
                sim.world.log(0, format!("-- {action}"));
                sim.apply(action)?;
            }
            // Longer than the pause between two looks at what nobody ordered.
            let gap = match actions.iter().any(leaves_old_versions) {
                true => Duration::from_secs(65 + below(&mut sim.world.rng, 30)),
                false => gap(&mut sim.world.rng),
            };
            sim.world.run_for(gap)?;
            // The action may have killed the last running daemon.
            if sim.world.running().is_empty() {
                sim.heal()?;
            }
        }
        sim.heal()?;
        Ok(sim.settle()?)
    });
    sim.map_err(|error| error.to_string())
}
