//! A simulation: a world, its user, and what the user was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shoal_protocol::model::{Change, Digest, NodeId, Place, ReplicaId, Spec};
use shoal_protocol::node::Node;

use super::device::{Device, FailureMode};
use super::disk::Disk;
use super::engine::{EngineState, Id, Stage};
use super::error::SimError;
use super::event::Event;
use super::invariants;
use super::network::{Gossip, Weather};
use super::operator::{Operator, Outcome};
use super::workloads::{Workloads, Write};
use super::world::World;

/// How long nodes may take to agree after the last fault.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
/// How long the last messages of a removed clone stay effective: the owner of the key may have
/// spent its rebuttals, and gets another one within a minute.
const CLONE_ECHO: Duration = Duration::from_secs(70);
/// How long the cluster must then stay well.
const STEADY: Duration = Duration::from_secs(20);

/// A world, its user, and what the user was promised.
pub struct Simulation {
    pub world: World,
    pub operator: Operator,
    pub workloads: Workloads,
    /// Whether all nodes could learn everything when the faults ended: no cut, and fair gossip.
    network_was_whole: bool,
    /// Devices that ran without a link when the faults ended though others ran, so that their peers
    /// could not know what they did; slow devices with unread messages, whose view was outdated;
    /// and devices that cannot store the incarnation that refutes a death.
    out_of_touch: BTreeSet<usize>,
    /// Replicas that ran healthy on exactly one device when the faults ended.
    ran_once: Option<HealthyOnce>,
    /// Number of actions by keyword.
    pub actions: BTreeMap<&'static str, u64>,
}

impl Simulation {
    /// Adds a cluster of `size` devices to `world`, and waits until all nodes are ready.
    pub fn with(seed: u64, world: World, size: usize) -> Result<Self, String> {
        let sim = Simulation {
            operator: Operator::new(&world, seed),
            world,
            workloads: Workloads::default(),
            network_was_whole: true,
            out_of_touch: BTreeSet::new(),
            ran_once: None,
            actions: BTreeMap::new(),
        };
        let together = sim.run(|Simulation { world, .. }| {
            for index in 0..size {
                world.add();
                world.start(index, index == 0, if index == 0 { &[] } else { &[0] });
            }
            world.run_till(Duration::from_secs(60), "the cluster comes together", |world| {
                let mut nodes = world.devices.iter().filter_map(|device| device.node.as_ref());
                nodes.all(|node| node.is_ready() && node.nodes_up() == size)
            })?;
            Ok(())
        });
        together.map_err(|error| error.to_string())
    }

    /// Runs `steps`. A panic, in a node or in the simulator, becomes an error with the trace.
    pub fn run(
        mut self,
        steps: impl FnOnce(&mut Simulation) -> Result<(), SimError>,
    ) -> Result<Self, SimError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| steps(&mut self)));
        outcome.unwrap_or_else(|panic| {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or(panic.downcast_ref::<&str>().copied());
            let said = said.unwrap_or("of an odd kind");
            Err(SimError::Broken(format!("a panic: {said}\n{}", self.world.report())))
        })?;
        Ok(self)
    }

    /// Publishes through `device` and records what was promised.
    pub fn publish(&mut self, device: usize, spec: &Spec) -> Result<(), String> {
        let (outcome, change) = self.operator.publish(&mut self.world, device, spec)?;
        let (name, replicas, artifact) = (
            &spec.name,
            spec.replicas(),
            spec.program.artifacts().next().map_or(String::new(), |it| it.digest.short()),
        );
        self.world.log(
            device,
            format!("a user wished for {replicas} of {name} ({artifact}): {outcome:?}"),
        );
        self.check_unchanged(device, &spec.name.to_string(), Some(spec), &outcome)?;
        self.remember(device, spec.name.to_string(), Some(spec.clone()), change, &outcome);
        Ok(())
    }

    /// Checks an answer that nothing has to be written: users rely on it like on a promise.
    fn check_unchanged(
        &self,
        device: usize,
        name: &str,
        value: Option<&Spec>,
        outcome: &Outcome,
    ) -> Result<(), String> {
        // Two devices with one key confirm for each other.
        let is_rolled_back = || {
            let name = name.parse().expect("a test's own name");
            self.world.node(device).is_some_and(|node| node.is_rolled_back(&name))
        };
        if *outcome != Outcome::Unchanged
            || is_rolled_back()
            || self.world.has_clones()
            || !self.world.devices[device].remains()
        {
            return Ok(());
        }
        let other = self.workloads.promised(name).find(|promised| *promised != value);
        match other {
            None => Ok(()),
            Some(other) => Err(format!(
                "n{device} says that {name} is {value:?} everywhere, and {other:?} was \
                    promised\n{}",
                self.world.report()
            )),
        }
    }

    /// Removes through `device` and records what was promised.
    pub fn remove(&mut self, device: usize, name: &str) -> Result<(), String> {
        let name = name.parse().map_err(|_| format!("`{name}` is no name"))?;
        let (outcome, change) = self.operator.remove(&mut self.world, device, &name)?;
        self.world.log(device, format!("a user removed {name}: {outcome:?}"));
        self.check_unchanged(device, &name.to_string(), None, &outcome)?;
        self.remember(device, name.to_string(), None, change, &outcome);
        Ok(())
    }

    fn remember(
        &mut self,
        via: usize,
        name: String,
        value: Option<Spec>,
        change: Option<Change>,
        outcome: &Outcome,
    ) {
        // Nobody can rely on the word of a device that lies, or does not belong to the cluster.
        let it = &self.world.devices[via];
        let is_accepted = *outcome == Outcome::Accepted;
        let is_promised = is_accepted && it.liar.is_none() && !it.is_revoked;
        if let Some(change) = change.filter(|_| is_accepted || *outcome == Outcome::Unknown) {
            self.workloads.record(name, Write { value, change, is_promised });
        }
    }

    /// Loses a disk, and the promises that only this disk held.
    pub fn lose(&mut self, device: usize, seeds: &[usize]) {
        self.world.devices[device].is_gone = true;
        self.drop_lost_promises();
        self.world.lose_disk(device, seeds);
    }

    /// Drops promises that are on no remaining disk.
    pub(super) fn drop_lost_promises(&mut self) {
        let stays = |device: &&Device| device.remains();
        let disks: Vec<&Disk> =
            self.world.devices.iter().filter(stays).map(|device| &device.disk).collect();
        self.workloads.lose(&disks);
    }

    /// Ends every fault. Clocks stay wrong and gossip stays bad, because nothing may depend on
    /// them.
    pub fn heal(&mut self) -> Result<(), String> {
        // Clones are removed below.
        self.drop_lost_promises();
        let mut ran_once = invariants::healthy_once(&self.world);
        // A daemon that has told of the end of its engine cannot vouch for a container: another
        // holder that can is kept.
        ran_once.retain(|replica, (device, _)| {
            let it = &self.world.devices[*device];
            let running = it.runtime.replicas.get(replica);
            it.adapter.offers || running.is_none_or(|running| running.image.is_none())
        });
        self.ran_once = Some(ran_once);
        let world = &mut self.world;
        world.log(0, "every fault ends");
        world.network.weather = Weather::LAN;
        world.network.access.clear();
        world.network.flaps.clear();
        self.network_was_whole =
            world.network.cuts().is_empty() && world.network.gossip == Gossip::Fair;
        let running = world.running();
        let is_held_down = |id: NodeId| {
            let nodes = world.devices.iter().filter_map(|device| device.node.as_ref());
            let mut views = nodes.flat_map(Node::nodes);
            views.any(|view| view.id == id.to_string() && view.state == "down")
        };
        let is_out_of_touch = |device: &usize| {
            let it = &world.devices[*device];
            running.len() > 1 && it.links.is_empty()
                || it.inbox.slowness > 0 && !it.inbox.is_empty()
                || it.disk.failed && is_held_down(it.id)
        };
        self.out_of_touch = running.iter().copied().filter(is_out_of_touch).collect();
        world.network.cuts().into_iter().for_each(|way| world.heal_way(way));
        // If every node that was ever ready is gone for good, joining nodes serve only after a
        // restart.
        let are_forlorn = !world.devices.iter().any(|it| it.was_ready && it.remains());
        for device in 0..world.devices.len() {
            let now = world.now;
            let it = &mut world.devices[device];
            it.dies_after = None;
            it.inbox.slowness = 0;
            it.disk.full = false;
            if are_forlorn && it.node.is_some() {
                world.kill(device);
            }
            if world.devices[device].inbox.busy_until > now {
                world.pause(device, 0);
            }
            world.devices[device].runtime.failure_mode = FailureMode::Works;
            world.end_stall(device);
            world.end_hanging(device);
            world.end_unready(device);
            if world.devices[device].is_on {
                world.turn_engine(device, EngineState::Works, true);
            }
            if world.devices[device].is_clone {
                world.unplug(device);
            } else if world.node(device).is_none()
                && !world.devices[device].is_gone
                && !world.devices[device].is_revoked
            {
                world.start(device, false, &[]);
            }
        }
        Ok(())
    }

    /// Waits until all is well, then checks that it stays so and that no replica was moved without
    /// need.
    pub fn settle(&mut self) -> Result<(), String> {
        let workloads = std::mem::take(&mut self.workloads);
        let settled = self.settle_as(|world| invariants::at_rest(world, &workloads));
        self.workloads = workloads;
        settled
    }

    /// As [`Simulation::settle`], with another definition of well.
    pub fn settle_as(&mut self, well: impl Fn(&World) -> Result<(), String>) -> Result<(), String> {
        self.revoke_liars()?;
        self.keep_a_place()?;
        let mut before = invariants::healthy_once(&self.world);
        if let Some(earlier) = self.ran_once.take() {
            before.retain(|replica, place| earlier.get(replica) == Some(place));
        }
        // If the disks that held a device's admission are lost, the others do not know what it
        // runs.
        let world = &self.world;
        before.retain(|replica, (device, _)| {
            world.is_known_to_all(*device)
                && !self.out_of_touch.contains(device)
                && !world.watch.lost_to_liars.contains(replica)
                && !world.is_drained(*device)
        });
        if self.world.has_clones() {
            self.world.run_for(CLONE_ECHO)?;
        }
        if let Err(error) =
            self.world.run_till(SETTLE_WITHIN, "all is well", |world| well(world).is_ok())
        {
            // An invariant broke: the state at rest does not matter then.
            if !error.starts_with("not within") {
                return Err(error);
            }
            let why = well(&self.world).err().unwrap_or_default();
            return Err(format!("{why}\n{error}"));
        }
        let between = invariants::healthy_once(&self.world);
        let ended = self.world.ends.len();
        self.world.run_for(STEADY)?;
        // Runs of cron workloads come and go, and replicas move to nodes with more room.
        if self.world.ends.len() > ended || self.world.has_runs() || well(&self.world).is_err() {
            _ = self.world.run_till(SETTLE_RUNS, "a run is over", |world| well(world).is_ok());
        }
        well(&self.world)
            .map_err(|why| format!("{why} (it had been well)\n{}", self.world.report()))?;
        let after = invariants::healthy_once(&self.world);
        self.check_not_moved(&between, &after, "while all was well")?;
        // While nodes do not see each other, each side may take over replicas of the other.
        if self.network_was_whole {
            self.check_not_moved(
                &before,
                &after,
                "though nobody else ran it when the faults ended",
            )?;
        }
        Ok(())
    }

    /// Checks that replicas of one healthy holder stayed there, unless their generation changed.
    fn check_not_moved(
        &self,
        before: &HealthyOnce,
        after: &HealthyOnce,
        when: &str,
    ) -> Result<(), String> {
        for (replica, place) in before {
            let Some(now) = after.get(replica).filter(|now| *now != place && now.1 == place.1)
            else {
                continue;
            };
            let id = |device: usize| self.world.devices[device].id;
            let is_ruled = self.world.running().into_iter().any(|device| {
                let ruled = self.world.node(device).and_then(|node| node.ruled_move(replica));
                ruled == Some((id(place.0), id(now.0)))
            });
            // Nothing is promised to two devices with one identity.
            if !is_ruled && !self.world.is_cloned(place.0) && !self.world.is_cloned(now.0) {
                let what = format!(
                    "{replica} was moved from n{} to n{} for nothing, {when}",
                    place.0, now.0
                );
                return Err(format!("{what}\n{}", self.world.report()));
            }
        }
        Ok(())
    }
}

/// How long a run or a move that came meanwhile may take until all agree on its end.
const SETTLE_RUNS: Duration = Duration::from_secs(20);

type HealthyOnce = BTreeMap<ReplicaId, (usize, Digest)>;

impl World {
    /// Whether a device runs a replica of a job.
    fn has_runs(&self) -> bool {
        let is_run = |replica: &ReplicaId| matches!(replica.place, Place::Run { .. });
        let runs = |device: usize| self.devices[device].runtime.replicas.keys().any(is_run);
        self.running().into_iter().any(runs)
    }

    /// Lets a hanging disk finish its writes.
    fn end_stall(&mut self, device: usize) {
        let (now, boot) = (self.now, self.devices[device].boot);
        let disk = &mut self.devices[device].disk;
        if std::mem::take(&mut disk.stalled_until) > now {
            for _ in 0..disk.pending.len() {
                self.schedule(now, Event::Synced { device, boot });
            }
        }
    }

    /// Fails the starts that hang, as a restart of the runtime does.
    fn end_hanging(&mut self, device: usize) {
        let (now, boot) = (self.now, self.devices[device].boot);
        let hanging: Vec<_> = self.devices[device]
            .runtime
            .replicas
            .iter()
            .filter(|(_, running)| !running.healthy && running.image.is_none())
            .map(|(replica, running)| (*replica, running.start))
            .collect();
        for (replica, start) in hanging {
            self.schedule(now + 1, Event::Died { device, boot, replica, start });
        }
        let lives = &self.devices[device].adapter.lives;
        let hanging = lives.iter().filter(|(_, life)| life.stage == Stage::Pulling);
        let hanging: Vec<(Id, u64)> = hanging.map(|(id, life)| (*id, life.number)).collect();
        for (id, number) in hanging {
            self.schedule(now + 1, Event::Life { device, boot, id, number });
        }
    }
}
