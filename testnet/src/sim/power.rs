//! Starting, pausing and moving devices.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::rand_core::RngCore;
use shoal_protocol::model::Time;
use shoal_protocol::node::{Config, Input, Node};

use super::engine::{Engine, EngineState};
use super::event::Event;
use super::network::{below, between};
use super::world::World;

impl World {
    /// Starts a device's daemon. The first of a cluster is its founder; the others get seeds, which
    /// are kept. With a full disk the daemon does not start.
    pub fn start(&mut self, device: usize, founder: bool, seeds: &[usize]) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        if !seeds.is_empty() {
            self.devices[device].seeds = seeds.iter().map(|seed| self.address_of(*seed)).collect();
        }
        let config = self.config(device, founder);
        let now = self.now;
        assert!(self.devices[device].node.is_none(), "n{device} runs already");
        if !self.devices[device].is_on {
            self.boot_engine(device);
        }
        let admission = self.admission(self.devices[device].id);
        let it = &mut self.devices[device];
        it.is_on = true;
        if it.disk.full {
            return self.log(device, "does not start: its disk is full");
        }
        it.boot += 1;
        it.clock.restart(now);
        it.forget_process();
        it.links.clear();
        let wall = it.clock.wall(now);
        if founder && it.disk.desired.is_empty() {
            it.disk.desired.insert(admission.signed.key.hash(), vec![admission.raw()]);
        }
        let (identity, saved) = (it.identity.clone(), it.disk.load());
        let is_newer = it.is_newer;
        let facts = self.facts_of(device);
        let mut node = Node::new(config, identity, saved, facts, wall, seed, Time::ZERO);
        if is_newer {
            node.imitate_newer();
        }
        self.devices[device].node = Some(node);
        self.hash_event(device, "start");
        self.log(device, if founder { "starts, and founds the cluster" } else { "starts" });
        self.watch_disk(device);
        self.watch.healthy.retain(|(of, _), _| *of != device);
        self.note_apart(device);
        self.meet_engine(device);
        self.drain(device);
    }

    pub(super) fn config(&self, device: usize, founder: bool) -> Config {
        Config {
            name: format!("n{device}"),
            addresses: vec![self.address_of(device)],
            seeds: self.devices[device].seeds.clone(),
            version: "0".into(),
            founder,
            ..Config::default()
        }
    }

    /// Stops the daemon on purpose: it announces its leave and when it expects to be back.
    pub fn leave(&mut self, device: usize, back_in: Duration) {
        self.input(device, Input::Goodbye { back_in });
        self.stop(device, true);
    }

    /// Gives the device another address. Links of the old address are dead: the own kernel informs
    /// its daemon shortly after, the peers' kernels report nothing, because no one answers there.
    pub fn relocate(&mut self, device: usize) {
        let it = &mut self.devices[device];
        it.moves += 1;
        let links: Vec<u64> = it.links.values().copied().collect();
        self.dead_links.extend(links);
        self.hash_event(device, "move");
        self.log(device, "has another address");
        let (boot, after) = (self.devices[device].boot, 50_000 + below(&mut self.rng, 250_000));
        self.schedule(self.now + after, Event::Moved { device, boot });
    }

    /// Loses the device's disk: the device never returns, and a new one joins in its place.
    pub fn lose_disk(&mut self, device: usize, seeds: &[usize]) {
        self.kill(device);
        self.devices[device].engine = Engine::default();
        self.devices[device].engine.turn(EngineState::Gone);
        let anew = self.add();
        self.log(device, format!("has lost its disk, and joins anew as n{anew}"));
        self.start(anew, false, seeds);
    }

    /// Stops the device for a while; its kernel still receives.
    pub fn pause(&mut self, device: usize, micros: u64) {
        let (until, boot) = (self.now + micros, self.devices[device].boot);
        self.devices[device].inbox.busy_until = until;
        self.schedule(until, Event::Wake { device, boot });
    }

    /// Suspends the device, its network included.
    pub fn suspend(&mut self, device: usize, micros: u64) {
        let others = (0..self.devices.len()).collect();
        let cut: Vec<_> = between(&BTreeSet::from([device]), &others)
            .into_iter()
            .filter(|(from, to)| self.network.leads(*from, *to))
            .collect();
        cut.iter().for_each(|way| self.cut_way(*way));
        self.schedule(self.now + micros, Event::Back { device, cut });
        self.pause(device, micros);
    }
}
