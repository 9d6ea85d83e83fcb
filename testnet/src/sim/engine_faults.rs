//! A container engine works, hangs, dies and returns; containers end by themselves; and a daemon
//! finds out: it looks at the engine's list, tells the core whether it runs containers, and stops
//! what nobody ordered.

use std::collections::BTreeSet;

use shoal_protocol::model::{Facts, ProgramKind, SealingKey};
use shoal_protocol::node::Input;

use super::engine::{Container, ContainerState, EngineState, Id, Stage};
use super::event::Event;
use super::network::below;
use super::world::{World, facts};

/// Pause between the first two looks for strays, and between others while there are some,
/// microseconds.
const FOUND_WAITS: u64 = 10_000_000;
/// Pause between two other looks.
const STRAYS_EVERY: u64 = 60_000_000;
/// Pause before an engine that is not there is asked again.
const ENGINE_AGAIN_AFTER: u64 = 5_000_000;
/// An engine that works again carries out at least by then what it took, microseconds.
const LATE_BY: u64 = 30_000_000;
/// Containers of others on each device.
const OTHERS: u8 = 2;

impl World {
    /// The facts of a device, as its daemon sees them now.
    pub(super) fn facts_of(&self, device: usize) -> Facts {
        let it = &self.devices[device];
        let (capacity, offers) = (self.capacity, self.offers.clone());
        // Each daemon has one; what a record says of offers stands behind it.
        let sealing = Some(SealingKey(it.id.0));
        let mut facts = Facts { capacity, offers, sealing, ..facts() };
        if it.is_newer {
            facts.runtimes.insert(ProgramKind::Other(7));
        }
        if it.engine.state != EngineState::Works {
            facts.runtimes.remove(&ProgramKind::Container);
        }
        facts
    }

    /// A daemon starts beside its engine, and looks at what runs there.
    pub(super) fn meet_engine(&mut self, device: usize) {
        if self.watch.is_off {
            return;
        }
        let me = self.devices[device].id;
        let claims = self.claims_on_disk(device).into_iter();
        let claims: Vec<Id> = claims.map(|claim| (claim.replica, claim.generation)).collect();
        let it = &mut self.devices[device];
        if it.boot == 1 {
            // Those of another node that shares the engine, and of nobody known.
            for number in 0..OTHERS {
                let owner = (number == 0).then_some(shoal_protocol::model::NodeId([0xee; 32]));
                let id = claims.first().copied().unwrap_or_else(|| nobodys(number));
                it.engine.add(Container { owner, id, state: ContainerState::Alive });
                it.engine.others += 1;
            }
        }
        it.adapter.offers = it.engine.state == EngineState::Works;
        let alive = it.engine.alive(me).map(|(number, container)| (container.id, number));
        it.adapter.found = alive.filter(|(id, _)| claims.contains(id)).collect();
        let boot = it.boot;
        self.schedule(self.now + 10_000, Event::Strays { device, boot, is_first: true });
    }

    /// The device has power again; its engine may be up before or after the daemon.
    pub(super) fn boot_engine(&mut self, device: usize) {
        let turns = self.devices[device].engine.turns;
        match below(&mut self.rng, 3) {
            0 => self.devices[device].engine.turn(EngineState::Works),
            _ => {
                let at = self.now + below(&mut self.rng, 20_000_000);
                self.schedule(at, Event::EngineUp { device, turns });
            }
        }
    }

    /// The engine behaves like this from now on. If its process ends, its containers end with it,
    /// unless they are `kept`.
    pub fn turn_engine(&mut self, device: usize, state: EngineState, kept: bool) {
        let it = &mut self.devices[device];
        if state == EngineState::Gone && !kept {
            it.engine.end_all();
            it.adapter.found.clear();
        }
        if it.engine.state == state {
            return;
        }
        it.engine.turn(state);
        let boot = it.boot;
        if state == EngineState::Works {
            self.carry_out(device);
        }
        let (sees, looks) = match state {
            EngineState::Works => (1_000_000 + below(&mut self.rng, 6_000_000), 500_000),
            EngineState::Hangs => (5_000_000 + below(&mut self.rng, 15_000_000), 1),
            EngineState::Gone => (100_000 + below(&mut self.rng, 3_000_000), 1),
        };
        self.log(device, format!("its container engine: {state:?}"));
        self.hash_event(device, "engine");
        self.schedule(self.now + sees, Event::Facts { device, boot });
        let after = 1 + below(&mut self.rng, looks);
        self.schedule(self.now + after, Event::Look { device, boot });
    }

    /// An engine that hung carries out what it took: mostly at once, and sometimes after the daemon
    /// has stopped the instance, or has ended itself.
    fn carry_out(&mut self, device: usize) {
        for _ in 0..self.devices[device].engine.taken.len() {
            let after = match below(&mut self.rng, 3) {
                0 => below(&mut self.rng, LATE_BY),
                _ => 0,
            };
            self.schedule(self.now + after, Event::CarriesOut { device });
        }
    }

    /// All containers are gone from the engine, as if somebody had removed them.
    pub fn empty_engine(&mut self, device: usize) {
        let me = self.devices[device].id;
        let it = &mut self.devices[device];
        it.engine.containers.retain(|_, container| container.owner != Some(me));
        it.adapter.found.clear();
        let (boot, after) = (it.boot, 1 + below(&mut self.rng, 50_000));
        self.log(device, "its containers were removed from outside");
        self.schedule(self.now + after, Event::Look { device, boot });
    }

    /// The engine makes a container that an earlier daemon ordered. The replica is over by now.
    pub fn make_late(&mut self, device: usize) {
        let it = &mut self.devices[device];
        let (id, state) = (nobodys(OTHERS), ContainerState::Alive);
        it.engine.taken.push(Container { owner: Some(it.id), id, state });
        self.log(device, "its engine got an order long ago, and carries it out when it works");
        if self.devices[device].engine.state == EngineState::Works {
            self.devices[device].engine.carry_out();
        }
    }

    /// A container of this node, drawn from those that run, ends by itself.
    pub fn crash_container(&mut self, device: usize) {
        let it = &self.devices[device];
        let alive: Vec<u64> = it.engine.alive(it.id).map(|(number, _)| number).collect();
        if alive.is_empty() {
            return self.log(device, "has no container that could end");
        }
        let container = alive[below(&mut self.rng, alive.len() as u64) as usize];
        self.exits(device, container);
    }

    /// A container ends by itself, whether or not a daemon is there to see it.
    pub(super) fn exits(&mut self, device: usize, number: u64) {
        let it = &mut self.devices[device];
        let Some(container) = it.engine.containers.get_mut(&number) else { return };
        if container.state == ContainerState::Exited {
            return;
        }
        container.state = ContainerState::Exited;
        let replica = container.id.0;
        it.adapter.found.remove(&container.id);
        let boot = it.boot;
        self.log(device, format!("a container of {replica} ends by itself"));
        // The engine's event may be lost; then the next look shows it.
        let after = match below(&mut self.rng, 20) {
            0 => 10_000_000,
            _ => 1_000 + below(&mut self.rng, 50_000),
        };
        self.schedule(self.now + after, Event::Look { device, boot });
    }

    /// The engine has started a container, also if the daemon that asked for it is gone.
    pub(super) fn starts(&mut self, device: usize, number: u64) {
        if let Some(container) = self.devices[device].engine.containers.get_mut(&number)
            && container.state == ContainerState::Starting
        {
            container.state = ContainerState::Alive;
        }
    }

    /// Compares the engine's list with the instances, and removes what ended and nobody has.
    pub(super) fn look(&mut self, device: usize) -> Option<usize> {
        let it = &mut self.devices[device];
        if it.engine.state != EngineState::Works {
            return None;
        }
        let (me, lives) = (it.id, &it.adapter.lives);
        let is_had = |id: &Id| lives.get(id).is_some_and(|life| life.stage != Stage::Failed);
        it.engine.containers.retain(|_, container| {
            container.owner != Some(me)
                || container.state != ContainerState::Exited
                || is_had(&container.id)
        });
        let up: Vec<u64> = it.adapter.lives.values().filter_map(|life| life.stage.up()).collect();
        for container in up {
            self.notice(device, container);
        }
        Some(device)
    }

    /// Tells the core which programs this node can run, if that has changed.
    pub(super) fn tell_facts(&mut self, device: usize) -> Option<usize> {
        let it = &mut self.devices[device];
        let offers = it.engine.state == EngineState::Works;
        if std::mem::replace(&mut it.adapter.offers, offers) == offers {
            return None;
        }
        let facts = self.facts_of(device);
        self.input(device, Input::Facts(facts));
        Some(device)
    }

    /// Looks for containers of earlier daemons that nobody ordered. Those that were there at the
    /// last look already are stopped.
    pub(super) fn stop_strays(&mut self, device: usize, is_first: bool) -> Option<usize> {
        let it = &mut self.devices[device];
        let boot = it.boot;
        if it.engine.state != EngineState::Works {
            let again = Event::Strays { device, boot, is_first };
            self.schedule(self.now + ENGINE_AGAIN_AFTER, again);
            return None;
        }
        let me = it.id;
        let alive = it.engine.alive(me).map(|(_, container)| container.id);
        let unknown: BTreeSet<Id> = alive.filter(|id| !it.adapter.lives.contains_key(id)).collect();
        let before = std::mem::take(&mut it.adapter.strays);
        let (over, new): (Vec<Id>, Vec<Id>) =
            unknown.into_iter().partition(|id| before.contains(id));
        it.adapter.strays = new.into_iter().collect();
        let pause = match is_first || !it.adapter.strays.is_empty() {
            true => FOUND_WAITS,
            false => STRAYS_EVERY,
        };
        for id in over {
            self.log(device, format!("{} ran here, and no order wants it", id.0));
            self.watch_stray(device, id);
            self.devices[device].adapter.found.remove(&id);
            self.devices[device].engine.clear(me, id);
        }
        self.look(device);
        self.schedule(self.now + pause, Event::Strays { device, boot, is_first: false });
        Some(device)
    }
}

fn nobodys(number: u8) -> Id {
    use shoal_protocol::model::{Digest, Place, ReplicaId};
    let uid = Digest([0xee; 32]);
    (ReplicaId { uid, place: Place::Ordinal(u32::from(number)) }, Digest([number; 32]))
}
