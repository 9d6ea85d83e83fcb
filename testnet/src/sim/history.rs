//! Random histories: a small cluster, a user who writes, and faults; then peace, quiet, and the
//! question whether all is well.

use std::collections::BTreeMap;

use shoal_protocol::model::Digest;

use super::action::{draw, gap, wave};
use super::failovers::Tally;
use super::network::{Weather, below};
use super::simulation::Simulation;
use super::world::World;

/// Of so many deeds one is a wave of several.
const WAVES: u64 = 16;

/// What became of a history.
pub struct Summary {
    /// Everything that happened, hashed.
    pub history: Digest,
    /// Simulated time, microseconds.
    pub lasted: u64,
    pub steps: u64,
    /// Deeds by kind.
    pub actions: BTreeMap<&'static str, u64>,
    /// Who was taken for dead and was not.
    pub tally: Tally,
    /// What was told, if it was kept.
    pub trace: String,
}

/// Runs the history of `seed`. What went wrong, if anything did.
#[cfg(test)]
pub fn run_hashed(seed: u64) -> Result<Summary, String> {
    run_in(seed, World::new(seed)).map(Summary::from)
}

/// As [`history`], as fast as it goes: not hashed.
pub fn run_fast(seed: u64) -> Result<Summary, String> {
    let mut world = World::new(seed);
    world.is_hashed = false;
    run_in(seed, world).map(Summary::from)
}

/// As [`history`], told in full: the trace of events comes first, and an error holds it.
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

/// What is printed of a history that failed.
pub fn failure(seed: u64, scenario: Option<&str>, report: &str) -> String {
    let scenario = scenario.map(|name| format!(" --scenario {name}")).unwrap_or_default();
    format!(
        "seed {seed} failed: {}\nto see it again: cargo testnet sim --seed {seed}{scenario}",
        report.trim_end()
    )
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
            for action in actions {
                sim.world.log(0, format!("-- {action}"));
                sim.apply(&action)?;
            }
            let gap = gap(&mut sim.world.rng);
            sim.world.run_for(gap)?;
            // The last one may have died over it.
            if sim.world.running().is_empty() {
                sim.heal()?;
            }
        }
        sim.heal()?;
        Ok(sim.settle()?)
    });
    sim.map_err(|error| error.to_string())
}
