//! Probes of replicas: what the executor would report of them. A replica turns not ready and ready
//! again, its liveness fails, and an old version is started again.

use shoal_protocol::model::claim::NOT_READY;
use shoal_protocol::model::{Digest, InstanceState, ReplicaId};
use shoal_protocol::node::{Input, Report};

use super::event::Event;
use super::network::below;
use super::world::World;

impl World {
    /// What serves of a replica takes no requests from now on. Returns whether something did.
    pub fn turn_unready(&mut self, device: usize, replica: ReplicaId) -> bool {
        let runtime = &mut self.devices[device].runtime;
        let Some(running) = runtime.replicas.get_mut(&replica) else { return false };
        let serves = running.healthy.then_some(running.generation).or(running.old);
        let Some(generation) = serves else { return false };
        match running.healthy {
            true => running.healthy = false,
            false => running.old = None,
        }
        running.unready = Some(generation);
        let reason = format!("{NOT_READY}HTTP 503 from GET /ready");
        self.tell(device, replica, generation, InstanceState::Waiting { reason });
        true
    }

    /// It takes requests again, unless it has ended meanwhile.
    pub fn turn_ready(&mut self, device: usize, replica: ReplicaId) {
        let runtime = &mut self.devices[device].runtime;
        let Some(running) = runtime.replicas.get_mut(&replica) else { return };
        let Some(generation) = running.unready.take() else { return };
        match generation == running.generation {
            true => running.healthy = true,
            false => running.old = Some(generation),
        }
        self.tell(device, replica, generation, InstanceState::Running);
    }

    /// The liveness of what serves, or served until it was not ready, has failed: it is stopped.
    /// Returns whether something ran.
    pub fn fail_liveness(&mut self, device: usize, replica: ReplicaId) -> bool {
        let runtime = &mut self.devices[device].runtime;
        let Some(running) = runtime.replicas.get_mut(&replica) else { return false };
        let serves = running.healthy.then_some(running.generation).or(running.old);
        let Some(generation) = serves.or(running.unready) else { return false };
        // A container is ended by its engine, which has faults of its own.
        if running.image.is_some() {
            return false;
        }
        running.unready = None;
        match generation == running.generation {
            true => running.healthy = false,
            false => running.old = None,
        }
        let reason = "liveness: no answer to GET /live within 1s".into();
        let state = InstanceState::Failed { reason, retryable: true };
        self.tell(device, replica, generation, state);
        true
    }

    /// The liveness of a replica of this device fails.
    pub fn be_not_live(&mut self, device: usize) {
        let replicas = self.devices[device].runtime.replicas.keys().copied().collect::<Vec<_>>();
        match replicas.into_iter().find(|replica| self.fail_liveness(device, *replica)) {
            None => self.log(device, "has no component that runs"),
            Some(replica) => self.log(device, format!("{replica} is not live")),
        }
    }

    /// A replica of this device is not ready for so long, microseconds.
    pub fn be_unready(&mut self, device: usize, lasting: u64) {
        let replicas = self.devices[device].runtime.replicas.keys().copied().collect::<Vec<_>>();
        match replicas.into_iter().find(|replica| self.turn_unready(device, *replica)) {
            None => self.log(device, "has no replica that is ready"),
            Some(replica) => {
                let boot = self.devices[device].boot;
                self.log(device, format!("{replica} is not ready"));
                self.schedule(self.now + lasting, Event::Ready { device, boot, replica });
            }
        }
    }

    /// Every replica of this device is ready that was not.
    pub fn end_unready(&mut self, device: usize) {
        let runtime = &self.devices[device].runtime;
        let unready = runtime.replicas.iter().filter(|(_, running)| running.unready.is_some());
        let unready: Vec<ReplicaId> = unready.map(|(replica, _)| *replica).collect();
        unready.into_iter().for_each(|replica| self.turn_ready(device, replica));
    }

    /// Carries out an order to start an old version again.
    pub(super) fn run_again(&mut self, device: usize, replica: ReplicaId, generation: Digest) {
        let is_container = self.devices[device]
            .runtime
            .replicas
            .get(&replica)
            .is_some_and(|it| it.image.is_some());
        if is_container {
            return self.run_container_again(device, (replica, generation));
        }
        let (boot, after) = (self.devices[device].boot, 1_000 + below(&mut self.rng, 30_000));
        let again = Event::Again { device, boot, replica, generation };
        self.schedule(self.now + after, again);
    }

    /// An old version was started again.
    pub(super) fn started_again(&mut self, device: usize, replica: ReplicaId, generation: Digest) {
        let runtime = &mut self.devices[device].runtime;
        let Some(running) = runtime.replicas.get_mut(&replica) else { return };
        if running.healthy || running.old.is_some() || running.generation == generation {
            return; // it is too late
        }
        running.old = Some(generation);
        self.tell(device, replica, generation, InstanceState::Running);
    }

    fn tell(
        &mut self,
        device: usize,
        replica: ReplicaId,
        generation: Digest,
        state: InstanceState,
    ) {
        self.input(device, Input::Report(Report { replica, generation, state }));
    }
}
