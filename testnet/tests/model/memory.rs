//! What one device did about one input, remembered: most of the histories differ in what happens
//! elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use shoal_protocol::model::Time;

use super::device::Device;
use super::forming::NODES;
use super::laws::Law;
use super::world::Flying;

/// Whose turn it was, how it looked, when, and what came.
pub type Turn = (usize, u64, Time, u64);

/// Devices by how they look, and when.
type Alike = HashMap<(u64, Time), Arc<Device>>;

/// What came of a turn.
pub struct Outcome {
    pub device: Arc<Device>,
    pub digest: u64,
    pub said: Vec<Flying>,
    pub broken: Vec<Law>,
}

/// Shared by all threads of a check.
#[derive(Default)]
pub struct Memory {
    turns: Mutex<HashMap<Turn, Arc<Outcome>>>,
    /// Equal devices are kept once.
    devices: [Mutex<Alike>; NODES],
    /// How a device looks later: its digest, when that was, and when it is looked at.
    looks: Mutex<HashMap<(u64, Time, Time), u64>>,
}

impl Memory {
    pub fn of_turn(&self, turn: &Turn) -> Option<Arc<Outcome>> {
        self.turns.lock().expect("no thread fails with it").get(turn).cloned()
    }

    pub fn keep_turn(&self, turn: Turn, outcome: Outcome) -> Arc<Outcome> {
        let (node, _, at, _) = turn;
        let mut devices = self.devices[node].lock().expect("no thread fails with it");
        let device = Arc::clone(devices.entry((outcome.digest, at)).or_insert(outcome.device));
        let outcome = Arc::new(Outcome { device, ..outcome });
        self.turns.lock().expect("no thread fails with it").insert(turn, Arc::clone(&outcome));
        outcome
    }

    /// The digest at `now` of what looked like `digest` at `then`.
    pub fn look(&self, digest: u64, then: Time, now: Time, anew: impl FnOnce() -> u64) -> u64 {
        let key = (digest, then, now);
        if let Some(known) = self.looks.lock().expect("no thread fails with it").get(&key) {
            return *known;
        }
        let found = anew();
        self.looks.lock().expect("no thread fails with it").insert(key, found);
        found
    }
}
