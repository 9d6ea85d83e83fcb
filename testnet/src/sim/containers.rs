//! The way of a daemon with its container engine, in the simulator: what the executor and the
//! container adapter do. An instance is asked for, pulled, made, and reported when it runs; what
//! runs from an earlier daemon is adopted.

use shoal_protocol::model::{Digest, InstanceState, ReplicaId, Spec};
use shoal_protocol::node::{Input, Report};

use super::device::{FailureMode, Running};
use super::engine::{Container, ContainerState, EngineState, Id, Life, Stage};
use super::event::Event;
use super::network::below;
use super::world::World;

/// Time after which a call to a hanging engine is given up, microseconds.
const CALL: u64 = 10_000_000;
/// Time after which people are told what a start waits for, microseconds.
const TELL_AFTER: u64 = 2_000_000;
/// Time after which the engine kills a container that does not end, microseconds.
const KILLED_AFTER: u64 = 10_000_000;
/// Pause between a stop that failed and the next try, microseconds.
const STOP_AGAIN_AFTER: u64 = 5_000_000;

impl World {
    /// Carries out an order to run a replica in a container.
    pub(super) fn run_container(&mut self, device: usize, order: (ReplicaId, Digest), spec: &Spec) {
        let (replica, generation) = order;
        let runtime = &mut self.devices[device].runtime;
        let runs = runtime.replicas.get(&replica);
        let serves = runs.and_then(|it| it.healthy.then_some(it.generation).or(it.old));
        self.starts += 1;
        let running = Running {
            generation,
            healthy: serves == Some(generation),
            old: serves.filter(|serves| *serves != generation),
            unready: runs.and_then(|it| it.unready),
            again: None,
            start: self.starts,
            image: Some(image(spec)),
        };
        runtime.replicas.insert(replica, running);
        self.supersede(device, &replica);
        let adapter = &mut self.devices[device].adapter;
        let is_stopping = adapter.is_stopping(&replica);
        match adapter.lives.get_mut(&order).map(|life| (life.stage, life)) {
            Some((Stage::Stopping, life)) => life.is_due = true,
            // A repeated order changes nothing; the runtime reports the state once more.
            Some((Stage::Up(_), _)) => self.report_state(device, order, InstanceState::Running),
            Some((Stage::Asking | Stage::Unanswered | Stage::Pulling | Stage::Settling(_), _)) => {}
            // A start waits for a stop of the same replica that is under way.
            Some((Stage::Failed, life)) if is_stopping => life.is_due = true,
            None if is_stopping => {
                let life = Life { number: 0, stage: Stage::Failed, is_due: true };
                adapter.lives.insert(order, life);
            }
            Some((Stage::Failed, _)) | None => self.begin(device, order),
        }
    }

    /// Carries out an order to start an old version in a container again.
    pub(super) fn run_container_again(&mut self, device: usize, id: Id) {
        let Some(running) = self.devices[device].runtime.replicas.get_mut(&id.0) else { return };
        if running.healthy || running.old.is_some() || running.generation == id.1 {
            return; // it is too late
        }
        running.again = Some(id.1);
        let adapter = &mut self.devices[device].adapter;
        let is_stopping = adapter.is_stopping(&id.0);
        match adapter.lives.get_mut(&id) {
            Some(life) if life.stage == Stage::Stopping => life.is_due = true,
            Some(life) if is_stopping && life.stage == Stage::Failed => life.is_due = true,
            None if is_stopping => {
                let life = Life { number: 0, stage: Stage::Failed, is_due: true };
                adapter.lives.insert(id, life);
            }
            Some(life) if life.stage != Stage::Failed => {}
            _ => self.begin(device, id),
        }
    }

    /// Begins a life of an instance.
    fn begin(&mut self, device: usize, id: Id) {
        self.starts += 1;
        let life = Life { number: self.starts, stage: Stage::Asking, is_due: false };
        self.devices[device].adapter.lives.insert(id, life);
        let after = 1_000 + below(&mut self.rng, 30_000);
        self.later(device, id, after);
    }

    /// Schedules the next step of a life.
    fn later(&mut self, device: usize, id: Id, after: u64) {
        let it = &self.devices[device];
        let (boot, number) = (it.boot, it.adapter.lives[&id].number);
        self.schedule(self.now + after, Event::Life { device, boot, id, number });
    }

    /// Takes the next step of an instance.
    pub(super) fn live(&mut self, device: usize, id: Id, number: u64) -> Option<usize> {
        let life = self.devices[device].adapter.lives.get(&id).filter(|it| it.number == number)?;
        match life.stage {
            Stage::Asking => self.ask_engine(device, id),
            Stage::Unanswered if self.devices[device].engine.state == EngineState::Hangs => {
                self.fail(device, id, "the engine does not answer");
            }
            Stage::Unanswered => self.ask_engine(device, id),
            Stage::Pulling => self.make(device, id),
            Stage::Settling(container) => self.settled(device, id, container),
            Stage::Stopping => self.try_to_stop(device, id),
            Stage::Up(_) | Stage::Failed => return None,
        }
        Some(device)
    }

    fn stage(&mut self, device: usize, id: Id, stage: Stage) {
        if let Some(life) = self.devices[device].adapter.lives.get_mut(&id) {
            life.stage = stage;
        }
    }

    /// Looks for a container that runs already, or gets the image for one.
    fn ask_engine(&mut self, device: usize, id: Id) {
        let me = self.devices[device].id;
        let engine = &mut self.devices[device].engine;
        match engine.state {
            EngineState::Gone => return self.fail(device, id, "the engine is gone"),
            EngineState::Hangs => {
                self.stage(device, id, Stage::Unanswered);
                return self.later(device, id, CALL);
            }
            EngineState::Works => {}
        }
        if let Some(container) = engine.alive_of(me, id) {
            engine
                .containers
                .retain(|number, it| it.owner != Some(me) || it.id != id || *number == container);
            self.log(device, format!("{} is found running", id.0));
            self.stage(device, id, Stage::Settling(container));
            return self.later(device, id, 1_000);
        }
        engine.clear(me, id);
        let image = self.devices[device].runtime.replicas.get(&id.0).and_then(|it| it.image);
        let is_there =
            image.is_none_or(|image| self.devices[device].engine.images.contains(&image));
        let after = match below(&mut self.rng, 4) {
            _ if is_there => 50_000 + below(&mut self.rng, 500_000),
            0 => 10_000_000 + below(&mut self.rng, 20_000_000),
            _ => 500_000 + below(&mut self.rng, 8_000_000),
        };
        self.stage(device, id, Stage::Pulling);
        if after > TELL_AFTER {
            let (boot, number) =
                (self.devices[device].boot, self.devices[device].adapter.lives[&id].number);
            self.schedule(self.now + TELL_AFTER, Event::Pulls { device, boot, id, number });
        }
        self.devices[device].engine.images.extend(image);
        self.later(device, id, after);
    }

    /// Tells that a start takes long.
    pub(super) fn tell_pull(&mut self, device: usize, id: Id, number: u64) -> Option<usize> {
        let life = self.devices[device].adapter.lives.get(&id)?;
        if life.number != number || life.stage != Stage::Pulling {
            return None;
        }
        let reason = "the engine is pulling its image".to_owned();
        self.report_state(device, id, InstanceState::Waiting { reason });
        Some(device)
    }

    /// Makes and starts a container.
    fn make(&mut self, device: usize, id: Id) {
        let me = self.devices[device].id;
        let mode = self.devices[device].runtime.failure_mode;
        let container = Container { owner: Some(me), id, state: ContainerState::Starting };
        let engine = &mut self.devices[device].engine;
        match (engine.state, mode) {
            (EngineState::Gone, _) => self.fail(device, id, "the engine is gone"),
            (EngineState::Hangs, _) => {
                // Its answer does not come; it may have taken the order all the same.
                if engine.taken.iter().all(|it| it.id != id) && below(&mut self.rng, 2) == 0 {
                    self.devices[device].engine.taken.push(container);
                }
                self.fail(device, id, "the engine does not answer");
            }
            (EngineState::Works, FailureMode::Fails) => self.fail(device, id, "it does not start"),
            (EngineState::Works, FailureMode::Hangs) => {}
            (EngineState::Works, FailureMode::Works | FailureMode::Dies) => {
                // A late order may have made one meanwhile, which has the name.
                engine.clear(me, id);
                let number = engine.add(container);
                self.watch_made(device, id);
                self.stage(device, id, Stage::Settling(number));
                let takes = 50_000 + below(&mut self.rng, 800_000);
                self.schedule(self.now + takes, Event::Starts { device, container: number });
                if mode == FailureMode::Dies {
                    let after = takes + 1 + below(&mut self.rng, 5_000_000);
                    self.schedule(self.now + after, Event::Exits { device, container: number });
                }
                let settles = takes + 1 + below(&mut self.rng, 3_000_000);
                self.later(device, id, settles);
            }
        }
    }

    fn settled(&mut self, device: usize, id: Id, container: u64) {
        let engine = &self.devices[device].engine;
        if engine.state != EngineState::Works {
            // It is inspected again until the engine answers.
            return self.later(device, id, 1_000_000);
        }
        match engine.state_of(container) {
            Some(ContainerState::Alive) => {}
            Some(ContainerState::Starting) => return self.later(device, id, 100_000),
            Some(ContainerState::Exited) | None => {
                return self.fail(device, id, "it ended by itself");
            }
        }
        self.stage(device, id, Stage::Up(container));
        let running = self.devices[device].runtime.replicas.get_mut(&id.0);
        let is_wanted = running.is_some_and(|running| {
            if running.again.take_if(|again| *again == id.1).is_some() {
                running.old = Some(id.1);
                return true;
            }
            let is_it = running.generation == id.1;
            if is_it {
                (running.healthy, running.old, running.unready) = (true, None, None);
                running.again = None;
            }
            is_it
        });
        if is_wanted {
            self.report_state(device, id, InstanceState::Running);
        }
        self.supersede(device, &id.0);
    }

    /// An instance ended by itself or could not be started.
    fn fail(&mut self, device: usize, id: Id, reason: &str) {
        self.stage(device, id, Stage::Failed);
        let it = &mut self.devices[device];
        it.adapter.found.remove(&id);
        let me = it.id;
        if it.engine.state == EngineState::Works {
            it.engine.clear(me, id);
        }
        let Some(running) = it.runtime.replicas.get_mut(&id.0) else { return };
        let was_unready = running.unready.take_if(|unready| *unready == id.1).is_some()
            || running.again.take_if(|again| *again == id.1).is_some();
        if running.generation == id.1 {
            running.healthy = false;
        } else if running.old == Some(id.1) {
            running.old = None;
        } else if !was_unready {
            return;
        }
        self.report_state(
            device,
            id,
            InstanceState::Failed { reason: reason.into(), retryable: true },
        );
        self.supersede(device, &id.0);
    }

    fn report_state(&mut self, device: usize, (replica, generation): Id, state: InstanceState) {
        self.input(device, Input::Report(Report { replica, generation, state }));
    }

    /// Stops the instances of a replica that are neither wanted nor serve.
    pub(super) fn supersede(&mut self, device: usize, replica: &ReplicaId) {
        let it = &self.devices[device];
        let Some(running) = it.runtime.replicas.get(replica) else { return };
        let is_kept = |id: &Id| {
            Some(id.1) == running.old
                || Some(id.1) == running.unready
                || Some(id.1) == running.again
                || id.1 == running.generation && running.image.is_some()
        };
        let others: Vec<Id> =
            it.adapter.of(replica).map(|(id, _)| id).filter(|id| !is_kept(id)).collect();
        others.into_iter().for_each(|id| self.stop_instance(device, id));
    }

    /// Carries out an order to stop a replica. Returns whether it has containers.
    pub(super) fn stop_containers(&mut self, device: usize, replica: &ReplicaId) -> bool {
        let ids: Vec<Id> = self.devices[device].adapter.of(replica).map(|(id, _)| id).collect();
        ids.iter().for_each(|id| self.stop_instance(device, *id));
        !ids.is_empty()
    }

    fn stop_instance(&mut self, device: usize, id: Id) {
        let Some(life) = self.devices[device].adapter.lives.get_mut(&id) else { return };
        life.is_due = false;
        if life.stage == Stage::Stopping {
            return;
        }
        self.starts += 1;
        (life.stage, life.number) = (Stage::Stopping, self.starts);
        // Some do not end when they are asked to, and are killed.
        let grace = match below(&mut self.rng, 4) {
            0 => KILLED_AFTER,
            _ => 20_000 + below(&mut self.rng, 2_000_000),
        };
        self.later(device, id, grace);
    }

    fn try_to_stop(&mut self, device: usize, id: Id) {
        let it = &mut self.devices[device];
        let me = it.id;
        if it.engine.state != EngineState::Works {
            return self.later(device, id, STOP_AGAIN_AFTER);
        }
        it.engine.clear(me, id);
        it.adapter.found.remove(&id);
        let (replica, generation) = id;
        let is_due = it.adapter.lives.remove(&id).is_some_and(|life| life.is_due);
        if !it.adapter.is_stopping(&replica) {
            let mut due: Vec<Id> =
                it.adapter.of(&replica).filter(|(_, life)| life.is_due).map(|(id, _)| id).collect();
            due.extend(is_due.then_some(id));
            due.into_iter().for_each(|id| self.begin(device, id));
        }
        let it = &self.devices[device];
        let is_gone = it.adapter.of(&replica).next().is_none();
        if is_gone && !it.runtime.replicas.contains_key(&replica) {
            self.report_state(device, (replica, generation), InstanceState::Stopped);
        }
    }

    /// The adapter sees that a container has ended.
    pub(super) fn notice(&mut self, device: usize, container: u64) -> Option<usize> {
        let it = &self.devices[device];
        let is_it = |life: &Life| life.stage == Stage::Up(container);
        let (id, _) = it.adapter.lives.iter().find(|(_, life)| is_it(life))?;
        let is_alive = it.engine.state_of(container) == Some(ContainerState::Alive);
        if is_alive || it.engine.state != EngineState::Works {
            return None;
        }
        let id = *id;
        self.fail(device, id, "it ended by itself");
        Some(device)
    }
}

/// The image of a spec of containers.
fn image(spec: &Spec) -> Digest {
    spec.program.artifacts().next().map_or_else(|| spec.revision(), |it| it.digest)
}
