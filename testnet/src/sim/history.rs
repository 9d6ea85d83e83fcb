//! Random histories: a small cluster, a user who writes, and faults; then peace, quiet, and the
//! question whether all is well.

use std::collections::BTreeMap;

use shoal_protocol::model::Digest;

use super::deed::{draw, gap, wave};
use super::failovers::Tally;
use super::network::{Weather, below};
use super::play::Play;
use super::world::World;

/// Of so many deeds one is a wave of several.
const WAVES: u64 = 16;

/// What became of a history.
pub struct Ended {
    /// Everything that happened, hashed.
    pub history: Digest,
    /// Simulated time, microseconds.
    pub lasted: u64,
    pub steps: u64,
    /// Deeds by kind.
    pub deeds: BTreeMap<&'static str, u64>,
    /// Who was taken for dead and was not.
    pub tally: Tally,
    /// What was told, if it was kept.
    pub trace: String,
}

/// Runs the history of `seed`. What went wrong, if anything did.
#[cfg(test)]
pub fn history(seed: u64) -> Result<Ended, String> {
    run(seed, World::new(seed)).map(Ended::from)
}

/// As [`history`], as fast as it goes: not hashed.
pub fn hurried(seed: u64) -> Result<Ended, String> {
    let mut world = World::new(seed);
    world.is_hashed = false;
    run(seed, world).map(Ended::from)
}

/// As [`history`], told in full: the trace of events comes first, and an error holds it.
pub fn told(seed: u64) -> Result<Ended, String> {
    let mut world = World::new(seed);
    world.keep_all();
    run(seed, world).map(|play| Ended { trace: play.world.trace(), ..Ended::from(play) })
}

impl From<Play> for Ended {
    fn from(play: Play) -> Self {
        let Play { world, deeds, .. } = play;
        let (history, lasted, steps, tally) =
            (world.history, world.now, world.steps, world.failovers.tally);
        Ended { history, lasted, steps, deeds, tally, trace: String::new() }
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

fn run(seed: u64, mut world: World) -> Result<Play, String> {
    let size = 3 + below(&mut world.rng, 6) as usize;
    world.network.weather = match below(&mut world.rng, 4) {
        0..=1 => Weather::LAN,
        2 => Weather::WAN,
        _ => Weather::RADIO,
    };
    let play = Play::with(seed, world, size)?.out(|play| {
        for _ in 0..6 + below(&mut play.world.rng, 14) {
            let deeds = match below(&mut play.world.rng, WAVES) {
                0 => wave(&mut play.world),
                _ => vec![draw(&mut play.world)],
            };
            for deed in deeds {
                play.world.say(0, format!("-- {deed}"));
                play.apply(&deed)?;
            }
            let gap = gap(&mut play.world.rng);
            play.world.run_for(gap)?;
            // The last one may have died over it.
            if play.world.running().is_empty() {
                play.heal()?;
            }
        }
        play.heal()?;
        Ok(play.settle()?)
    });
    play.map_err(|trouble| trouble.to_string())
}
