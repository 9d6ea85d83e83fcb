//! Applies actions to a world.

use std::collections::BTreeSet;
use std::time::Duration;

use shoal_protocol::model::{Digest, Ruling, RulingBody, Signed};
use shoal_protocol::node::Message;

use super::action::{ClockFault, EngineFault, SimAction, Target};
use super::engine::EngineState;
use super::error::SimError;
use super::event::Event;
use super::liar::Lie;
use super::network::{below, between};
use super::operator::{container_workload, workload, workload_of};
use super::rumour::Rumour;
use super::simulation::Simulation;
use super::world::World;

/// Bound of `kill .. after`: a daemon never asks for this many effects at once.
const LONG: u32 = 1_000;

impl Simulation {
    /// Applies an action. An action without a target in this world is logged and skipped.
    pub fn apply(&mut self, action: &SimAction) -> Result<(), SimError> {
        *self.actions.entry(action.keyword()).or_default() += 1;
        match self.perform(action) {
            Err(SimError::NoTarget(why)) => self.world.log(0, why),
            done => done?,
        }
        // The action itself changes the world, so the invariants are checked after it as well.
        Ok(self.world.after_step(0)?)
    }

    fn perform(&mut self, action: &SimAction) -> Result<(), SimError> {
        match action {
            SimAction::Publish { name, replicas, is_container, version, via } => {
                let device = self.find(via)?;
                let of = if *is_container { container_workload } else { workload };
                self.publish(device, &of(name, *version, *replicas))?;
            }
            SimAction::PublishKind { name, kind, version, via } => {
                let device = self.find(via)?;
                self.publish(device, &workload_of(name, *version, *kind))?;
            }
            SimAction::Remove { name, via } => {
                let device = self.find(via)?;
                self.remove(device, name)?;
            }
            SimAction::Rule { name, value, via } => {
                let device = self.find(via)?;
                self.world.rule(device, name, *value);
            }
            SimAction::Join(count) => {
                for _ in 0..*count {
                    let device = self.world.add();
                    let seeds = self.seeds(device);
                    self.world.start(device, false, &seeds);
                }
            }
            SimAction::Weather(None, weather) => {
                self.world.network.weather = *weather;
                self.world.network.access.clear();
                self.world.log(0, format!("the weather is {weather} now"));
            }
            SimAction::Weather(Some(target), weather) => {
                let device = self.find(target)?;
                self.world.network.access.insert(device, *weather);
                self.world.log(device, format!("its access is {weather} now"));
            }
            SimAction::Cut { one, other, both } => {
                let (one, other) = (self.find(one)?, self.find(other)?);
                self.world.cut_way((one, other));
                if *both {
                    self.world.cut_way((other, one));
                }
                let way = if *both { "the way" } else { "one direction" };
                self.world.log(one, format!("{way} to n{other} is cut"));
            }
            SimAction::Isolate(target) => {
                let device = self.find(target)?;
                let others: Vec<usize> =
                    self.others(&BTreeSet::from([device])).into_iter().collect();
                self.world.partition(&[device], &others, true);
                self.world.log(device, "is cut off from all");
            }
            SimAction::Partition(groups) => {
                for node in groups.iter().flatten() {
                    self.find(&Target::Node(*node))?;
                }
                let mut groups: Vec<BTreeSet<usize>> =
                    groups.iter().map(|group| group.iter().copied().collect()).collect();
                let rest = self.others(&groups.iter().flatten().copied().collect());
                groups.extend((!rest.is_empty()).then_some(rest));
                for (index, one) in groups.iter().enumerate() {
                    for other in &groups[index + 1..] {
                        between(one, other).into_iter().for_each(|way| self.world.cut_way(way));
                    }
                }
                self.world.log(0, format!("a partition: {groups:?}"));
            }
            SimAction::Flap { one, other, every, lasting } => {
                let (one, other) = (self.find(one)?, self.find(other)?);
                let (every, until) = (micros(*every).max(1), self.world.now + micros(*lasting));
                self.world.network.flaps.insert((one, other), until);
                self.world.schedule(self.world.now, Event::Flap { one, other, every });
                self.world.log(one, format!("the way to n{other} flaps"));
            }
            SimAction::Mend => {
                self.world.network.cuts().into_iter().for_each(|way| self.world.heal_way(way));
                self.world.log(0, "all ways lead again");
            }
            SimAction::Gossip(gossip) => self.world.network.gossip = *gossip,
            SimAction::Kill { target, .. }
            | SimAction::Unplug(target)
            | SimAction::Leave(target, _)
            | SimAction::Start(target)
            | SimAction::Restart(target)
            | SimAction::Lose(target)
            | SimAction::Pause(target, _)
            | SimAction::Suspend(target, _)
            | SimAction::Slow(target, _)
            | SimAction::Stall(target, _)
            | SimAction::Fill(target)
            | SimAction::Free(target)
            | SimAction::Clock(target, _)
            | SimAction::Clone(target)
            | SimAction::Runtime(target, _)
            | SimAction::Engine(target, _)
            | SimAction::Crash(target)
            | SimAction::NotLive(target)
            | SimAction::Unready(target, _)
            | SimAction::Move(target)
            | SimAction::Upgrade(target)
            | SimAction::Lie(target, _)
            | SimAction::Revoke(target)
            | SimAction::Cordon(target)
            | SimAction::Drain(target)
            | SimAction::Uncordon(target) => {
                let device = self.find(target)?;
                self.apply_to(device, action)?;
            }
        }
        Ok(())
    }

    fn apply_to(&mut self, device: usize, action: &SimAction) -> Result<(), SimError> {
        let runs = self.world.node(device).is_some();
        let world = &mut self.world;
        let impossible = |why: &str| Err(SimError::Impossible(format!("n{device} {why}")));
        match action {
            SimAction::Kill { after: 0, .. } => world.kill(device),
            SimAction::Kill { after, .. } => {
                world.devices[device].dies_after = Some((*after).min(LONG));
                world.log(device, format!("dies after {after} more effects"));
            }
            SimAction::Unplug(_) => world.unplug(device),
            SimAction::Leave(_, back_in) => world.leave(device, *back_in),
            SimAction::Start(_) if runs => return impossible("runs already"),
            SimAction::Start(_) if world.devices[device].is_gone => {
                return impossible("has lost its disk for good");
            }
            SimAction::Start(_) => world.start(device, false, &[]),
            SimAction::Restart(_) if !runs => return impossible("does not run"),
            SimAction::Restart(_) => {
                world.kill(device);
                world.start(device, false, &[]);
            }
            SimAction::Lose(_) if world.is_last_member(device) => {
                return impossible(
                    "is the last member that has a disk: nobody else could admit anybody",
                );
            }
            SimAction::Lose(_) => {
                let seeds = self.seeds(device);
                self.lose(device, &seeds);
            }
            SimAction::Pause(_, time) => {
                world.log(device, format!("is stopped for {time:?}"));
                world.pause(device, micros(*time));
            }
            SimAction::Suspend(_, time) => {
                world.log(device, format!("sleeps for {time:?}"));
                world.suspend(device, micros(*time));
            }
            SimAction::Slow(_, time) => {
                world.log(device, format!("takes {time:?} over everything"));
                world.devices[device].inbox.slowness = micros(*time);
            }
            SimAction::Stall(_, time) => {
                world.log(device, format!("its disk hangs for {time:?}"));
                world.devices[device].disk.stalled_until = world.now + micros(*time);
            }
            SimAction::Fill(_) => {
                world.log(device, "its disk is full");
                world.devices[device].disk.full = true;
            }
            SimAction::Free(_) => {
                world.log(device, "its disk has room again");
                world.devices[device].disk.full = false;
            }
            SimAction::Clock(_, fault) => set_clock(world, device, *fault),
            SimAction::Clone(_) => {
                let twin = world.clone_of(device);
                world.start(twin, false, &[]);
            }
            SimAction::Runtime(_, failure_mode) => {
                world.log(device, format!("its runtime: {failure_mode:?}"));
                world.devices[device].runtime.failure_mode = *failure_mode;
            }
            // A device without power has no engine.
            SimAction::Engine(..) if !world.devices[device].is_on => {}
            SimAction::Engine(_, fault) => match fault {
                EngineFault::Works => world.turn_engine(device, EngineState::Works, true),
                EngineFault::Hangs => world.turn_engine(device, EngineState::Hangs, true),
                EngineFault::Dies => world.turn_engine(device, EngineState::Gone, false),
                EngineFault::DiesAlone => world.turn_engine(device, EngineState::Gone, true),
                EngineFault::Emptied => world.empty_engine(device),
                EngineFault::Late => world.make_late(device),
            },
            SimAction::Crash(_) => world.crash_container(device),
            SimAction::NotLive(_) => world.be_not_live(device),
            SimAction::Unready(_, time) => world.be_unready(device, micros(*time)),
            SimAction::Move(_) => world.relocate(device),
            SimAction::Upgrade(_) => {
                world.kill(device);
                world.devices[device].is_newer = true;
                world.log(device, "is of a newer version now");
                world.start(device, false, &[]);
            }
            SimAction::Lie(..) if !world.has_others(device) => {
                return impossible("is the last that could be relied on: nobody could revoke it");
            }
            SimAction::Lie(..) if world.liar().is_some_and(|liar| liar != device) => {
                return impossible("is the second that lies, and the rules are about one");
            }
            SimAction::Lie(_, lie) => {
                world.begin_to_lie(device, *lie);
                if *lie == Lie::Ghosts {
                    self.spend_invite(device)?;
                }
            }
            SimAction::Revoke(_) if !world.has_others(device) => {
                return impossible("is the last member that has a disk");
            }
            SimAction::Revoke(_) => _ = self.revoke(device)?,
            SimAction::Cordon(_) => _ = self.set_policy(device, true, false)?,
            SimAction::Drain(_) => _ = self.set_policy(device, true, true)?,
            SimAction::Uncordon(_) => _ = self.set_policy(device, false, false)?,
            other => unreachable!("{other} is not about one device"),
        }
        Ok(())
    }

    /// Resolves a target to a device index.
    fn find(&mut self, target: &Target) -> Result<usize, SimError> {
        let (running, last) = (self.world.running(), self.world.devices.len() - 1);
        match target {
            Target::Node(node) if *node <= last => Ok(*node),
            Target::Node(node) => {
                Err(SimError::Impossible(format!("there is no n{node}, the last is n{last}")))
            }
            Target::Any if running.is_empty() => Err(SimError::NoTarget("no device runs".into())),
            Target::Any => Ok(running[below(&mut self.world.rng, running.len() as u64) as usize]),
            Target::Holder(name, index) => {
                self.holder(&running, name, *index).map_err(SimError::NoTarget)
            }
            Target::Owner(name) => self.owner(&running, name).map_err(SimError::NoTarget),
        }
    }

    fn holder(&self, running: &[usize], name: &str, index: u32) -> Result<usize, String> {
        let workload = name.parse().map_err(|_| format!("`{name}` is no name"))?;
        let node = self.world.node(*running.first().ok_or("no device runs")?).expect("it runs");
        let replica = node.wanted(&workload).into_iter().nth(index as usize);
        let replica = replica.ok_or_else(|| format!("nobody wishes for {name}/{index}"))?;
        let holds = |device: &usize| {
            self.world.node(*device).is_some_and(|it| it.own_claim(&replica).is_some())
        };
        running.iter().copied().find(holds).ok_or_else(|| format!("nobody holds {name}/{index}"))
    }

    fn owner(&self, running: &[usize], name: &str) -> Result<usize, String> {
        let workload = name.parse().map_err(|_| format!("`{name}` is no name"))?;
        let node = self.world.node(*running.first().ok_or("no device runs")?).expect("it runs");
        let owner = node.workload(&workload).and_then(|view| view.owner);
        let owner = owner.ok_or_else(|| format!("{name} has no owner"))?;
        let is_it = |device: &usize| self.world.devices[*device].name == owner;
        running
            .iter()
            .copied()
            .find(is_it)
            .ok_or_else(|| format!("{owner}, which owns {name}, does not run"))
    }

    /// The seeds of a new device: up to three remaining devices, running ones first.
    fn seeds(&self, device: usize) -> Vec<usize> {
        let devices = &self.world.devices;
        let stays = |other: &usize| *other != device && devices[*other].remains();
        let mut seeds: Vec<usize> = (0..devices.len()).filter(stays).collect();
        seeds.sort_by_key(|other| devices[*other].node.is_none());
        seeds.truncate(3);
        seeds
    }

    fn others(&self, than: &BTreeSet<usize>) -> BTreeSet<usize> {
        (0..self.world.devices.len()).filter(|device| !than.contains(device)).collect()
    }
}

impl World {
    /// Makes a device that runs and knows the workload sign a ruling about it. The device receives
    /// the ruling as gossip, like every other node.
    fn rule(&mut self, device: usize, name: &str, value: u32) {
        let name = name.parse().expect("parsing knows names");
        let uid = self.node(device).and_then(|node| Some(node.wanted(&name).first()?.uid));
        let Some(uid) = uid else {
            return self.log(device, format!("knows no {name} to decide about"));
        };
        let ruling = Ruling {
            uid,
            generation: Digest([0; 32]),
            tick: 0,
            // A later ruling needs a greater number; simulated time only grows.
            sequence: self.now,
            body: RulingBody::Autoscale { replicas: value },
        };
        let identity = &self.devices[device].identity;
        let ruling = Signed::sign(ruling, &identity.keys, &identity.genesis.cluster()).wire();
        let rumour = Rumour::new(self.now, Message::Ruled(ruling));
        self.log(device, format!("decides that {name} is to have {value}"));
        self.schedule(self.now, Event::Gossip { from: device, to: device, hops: 0, rumour });
    }
}

fn set_clock(world: &mut World, device: usize, fault: ClockFault) {
    let (now, boot) = (world.now, world.devices[device].boot);
    world.watch.unsure.insert(device, now);
    let clock = &mut world.devices[device].clock;
    match fault {
        ClockFault::Jump(by) => clock.jump(now, by),
        ClockFault::Forgets => clock.forget(now),
        ClockFault::Pace(pace) => clock.set_pace(now, pace),
    }
    world.log(device, format!("its clock: {fault:?}"));
    // The daemon reads its clock once a second, so it notices within that time.
    let after = below(&mut world.rng, 1_000_000);
    world.schedule(now + after, Event::ClockSet { device, boot });
    world.devices[device].timer = None;
    world.set_timer(device);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1)
}
