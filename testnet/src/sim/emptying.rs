//! An administrator cordons devices and has them emptied.

use std::time::Duration;

use shoal_protocol::model::{Key, NodePolicy, Place, ReplicaId, Value};

use super::simulation::Simulation;
use super::world::World;

/// How often an administrator tries to let a device take work again, a second apart.
const TRIES: u32 = 60;

impl Simulation {
    /// Sets the policy of a device through the first device that accepts it. None may run, or be a
    /// member yet.
    pub(super) fn set_policy(
        &mut self,
        device: usize,
        cordoned: bool,
        drained: bool,
    ) -> Result<bool, String> {
        let node = self.world.devices[device].id;
        let policy = NodePolicy { cordoned, drained, ..NodePolicy::default() };
        for via in self.world.honest() {
            let (key, value) = (Key::Policy(node), Value::Policy(policy.clone()));
            if self.operator.rule(&mut self.world, via, key, value)? {
                self.world.log(device, format!("has the policy {policy:?}, through n{via}"));
                return Ok(true);
            }
        }
        self.world.log(device, "gets no policy: no device takes it now");
        Ok(false)
    }

    /// Lets a device take work again if none that runs would.
    pub(super) fn keep_a_place(&mut self) -> Result<(), String> {
        for _ in 0..TRIES {
            if self.world.running().iter().any(|device| self.world.takes_work(*device)) {
                return Ok(());
            }
            for device in self.world.running() {
                self.set_policy(device, false, false)?;
            }
            self.world.run_for(Duration::from_secs(1))?;
        }
        Ok(())
    }
}

impl World {
    /// Whether any running device knows such a policy of this one. They may not be in step yet.
    fn is_said(&self, device: usize, of: impl Fn(&NodePolicy) -> bool) -> bool {
        let id = self.devices[device].id;
        self.running().into_iter().filter_map(|it| self.node(it)).any(|it| of(&it.policy(&id)))
    }

    pub(super) fn is_drained(&self, device: usize) -> bool {
        self.is_said(device, |policy| policy.drained)
    }

    fn takes_work(&self, device: usize) -> bool {
        !self.is_said(device, |policy| !policy.takes_work())
    }

    /// A device that is to be empty, and is not though another one would take what it runs.
    pub(super) fn not_emptied(&self) -> Option<String> {
        let running = self.running();
        if !running.iter().any(|device| self.takes_work(*device)) {
            return None;
        }
        // Daemons stay.
        let moves = |replica: &&ReplicaId| !matches!(replica.place, Place::OnNode(_));
        let is_full =
            |device: &usize| self.devices[*device].runtime.replicas.keys().any(|it| moves(&it));
        let mut drained = running.into_iter().filter(|device| self.is_drained(*device));
        let left = drained.find(is_full)?;
        let runs: Vec<String> =
            self.devices[left].runtime.replicas.keys().map(ToString::to_string).collect();
        Some(format!("n{left} is drained, and still runs {}", runs.join(", ")))
    }
}
