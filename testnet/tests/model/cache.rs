//! Remembers what a device does with an input: most histories differ only in what happens on other
//! devices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use shoal_protocol::model::Time;

use super::device::Device;
use super::laws::Law;
use super::setup::NODES;
use super::world::InFlight;

/// Node, digest of its device, time, and digest of the input.
pub type StepKey = (usize, u64, Time, u64);

/// Devices by digest and time.
type Devices = HashMap<(u64, Time), Arc<Device>>;

/// The result of a step at one device.
pub struct Outcome {
    pub device: Arc<Device>,
    pub digest: u64,
    pub said: Vec<InFlight>,
    pub broken: Vec<Law>,
}

/// Shared by all threads of a check.
#[derive(Default)]
pub struct Cache {
    outcomes: Mutex<HashMap<StepKey, Arc<Outcome>>>,
    /// Equal devices are kept once.
    devices: [Mutex<Devices>; NODES],
    /// Digests of the same device at a later time: (digest, its time, later time).
    looks: Mutex<HashMap<(u64, Time, Time), u64>>,
}

impl Cache {
    pub fn get(&self, key: &StepKey) -> Option<Arc<Outcome>> {
        self.outcomes.lock().expect("no thread fails with it").get(key).cloned()
    }

    pub fn insert(&self, key: StepKey, outcome: Outcome) -> Arc<Outcome> {
        let (node, _, at, _) = key;
        let mut devices = self.devices[node].lock().expect("no thread fails with it");
        let device = Arc::clone(devices.entry((outcome.digest, at)).or_insert(outcome.device));
        let outcome = Arc::new(Outcome { device, ..outcome });
        self.outcomes.lock().expect("no thread fails with it").insert(key, Arc::clone(&outcome));
        outcome
    }

    /// The digest at `now` of a device whose digest was `digest` at `then`.
    pub fn digest_at(&self, digest: u64, then: Time, now: Time, anew: impl FnOnce() -> u64) -> u64 {
        let key = (digest, then, now);
        if let Some(known) = self.looks.lock().expect("no thread fails with it").get(&key) {
            return *known;
        }
        let found = anew();
        self.looks.lock().expect("no thread fails with it").insert(key, found);
        found
    }
}
