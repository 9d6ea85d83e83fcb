//! Deeds done to a world.

use std::collections::BTreeSet;
use std::time::Duration;

use shoal_protocol::model::{Digest, Ruling, RulingKey, RulingKind, Signed};
use shoal_protocol::node::Message;

use crate::sim::happening::Happening;
use crate::sim::meter::Rumour;
use crate::sim::network::{below, between};
use crate::sim::operator::workload;
use crate::sim::play::Play;
use crate::sim::world::World;

use super::{ClockFault, Deed, Trouble, Whom};

/// Effects until a death: whatever a daemon does at once is less than this.
const LONG: u32 = 1_000;

impl Play {
    /// Does it, if there is whom it is about.
    pub fn apply(&mut self, deed: &Deed) -> Result<(), Trouble> {
        *self.deeds.entry(deed.word()).or_default() += 1;
        match self.done(deed) {
            Err(Trouble::Nobody(why)) => self.world.say(0, why),
            done => done?,
        }
        // What was done is a step as well.
        Ok(self.world.after_step(0)?)
    }

    fn done(&mut self, deed: &Deed) -> Result<(), Trouble> {
        match deed {
            Deed::Publish { name, replicas, version, via } => {
                let device = self.find(via)?;
                self.publish(device, &workload(name, *version, *replicas))?;
            }
            Deed::Remove { name, via } => {
                let device = self.find(via)?;
                self.remove(device, name)?;
            }
            Deed::Rule { name, value, via } => {
                let device = self.find(via)?;
                self.world.rule(device, name, *value);
            }
            Deed::Join(count) => {
                for _ in 0..*count {
                    let device = self.world.add();
                    let seeds = self.seeds(device);
                    self.world.start(device, false, &seeds);
                }
            }
            Deed::Weather(None, weather) => {
                self.world.network.weather = *weather;
                self.world.network.access.clear();
                self.world.say(0, format!("the weather is {weather} now"));
            }
            Deed::Weather(Some(whom), weather) => {
                let device = self.find(whom)?;
                self.world.network.access.insert(device, *weather);
                self.world.say(device, format!("its access is {weather} now"));
            }
            Deed::Cut { one, other, both } => {
                let (one, other) = (self.find(one)?, self.find(other)?);
                self.world.cut_way((one, other));
                if *both {
                    self.world.cut_way((other, one));
                }
                let way = if *both { "the way" } else { "one direction" };
                self.world.say(one, format!("{way} to n{other} is cut"));
            }
            Deed::Isolate(whom) => {
                let device = self.find(whom)?;
                let others: Vec<usize> =
                    self.others(&BTreeSet::from([device])).into_iter().collect();
                self.world.partition(&[device], &others, true);
                self.world.say(device, "is cut off from all");
            }
            Deed::Partition(groups) => {
                for node in groups.iter().flatten() {
                    self.find(&Whom::Node(*node))?;
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
                self.world.say(0, format!("a partition: {groups:?}"));
            }
            Deed::Flap { one, other, every, lasting } => {
                let (one, other) = (self.find(one)?, self.find(other)?);
                let (every, until) = (micros(*every).max(1), self.world.now + micros(*lasting));
                self.world.network.flaps.insert((one, other), until);
                self.world.at(self.world.now, Happening::Flap { one, other, every });
                self.world.say(one, format!("the way to n{other} flaps"));
            }
            Deed::Mend => {
                self.world.network.cuts().into_iter().for_each(|way| self.world.heal_way(way));
                self.world.say(0, "all ways lead again");
            }
            Deed::Gossip(gossip) => self.world.network.gossip = *gossip,
            Deed::Kill { whom, .. }
            | Deed::Unplug(whom)
            | Deed::Leave(whom, _)
            | Deed::Start(whom)
            | Deed::Lose(whom)
            | Deed::Pause(whom, _)
            | Deed::Suspend(whom, _)
            | Deed::Slow(whom, _)
            | Deed::Stall(whom, _)
            | Deed::Fill(whom)
            | Deed::Free(whom)
            | Deed::Clock(whom, _)
            | Deed::Clone(whom)
            | Deed::Runtime(whom, _)
            | Deed::Move(whom)
            | Deed::Upgrade(whom) => {
                let device = self.find(whom)?;
                self.befall(device, deed)?;
            }
        }
        Ok(())
    }

    fn befall(&mut self, device: usize, deed: &Deed) -> Result<(), Trouble> {
        let runs = self.world.node(device).is_some();
        let world = &mut self.world;
        let impossible = |why: &str| Err(Trouble::Impossible(format!("n{device} {why}")));
        match deed {
            Deed::Kill { after: 0, .. } => world.kill(device),
            Deed::Kill { after, .. } => {
                world.devices[device].doom = Some((*after).min(LONG));
                world.say(device, format!("dies after {after} more effects"));
            }
            Deed::Unplug(_) => world.unplug(device),
            Deed::Leave(_, back_in) => world.leave(device, *back_in),
            Deed::Start(_) if runs => return impossible("runs already"),
            Deed::Start(_) if world.devices[device].is_gone => {
                return impossible("has lost its disk for good");
            }
            Deed::Start(_) => world.start(device, false, &[]),
            Deed::Lose(_) if world.is_last_member(device) => {
                return impossible(
                    "is the last member that has a disk: nobody else could admit anybody",
                );
            }
            Deed::Lose(_) => {
                let seeds = self.seeds(device);
                self.lose(device, &seeds);
            }
            Deed::Pause(_, time) => {
                world.say(device, format!("is stopped for {time:?}"));
                world.pause(device, micros(*time));
            }
            Deed::Suspend(_, time) => {
                world.say(device, format!("sleeps for {time:?}"));
                world.suspend(device, micros(*time));
            }
            Deed::Slow(_, time) => {
                world.say(device, format!("takes {time:?} over everything"));
                world.devices[device].pulse.slowness = micros(*time);
            }
            Deed::Stall(_, time) => {
                world.say(device, format!("its disk hangs for {time:?}"));
                world.devices[device].disk.stalled_until = world.now + micros(*time);
            }
            Deed::Fill(_) => {
                world.say(device, "its disk is full");
                world.devices[device].disk.full = true;
            }
            Deed::Free(_) => {
                world.say(device, "its disk has room again");
                world.devices[device].disk.full = false;
            }
            Deed::Clock(_, fault) => set_clock(world, device, *fault),
            Deed::Clone(_) => {
                let twin = world.clone_of(device);
                world.start(twin, false, &[]);
            }
            Deed::Runtime(_, mood) => {
                world.say(device, format!("its runtime: {mood:?}"));
                world.devices[device].runtime.mood = *mood;
            }
            Deed::Move(_) => world.relocate(device),
            Deed::Upgrade(_) => {
                world.kill(device);
                world.devices[device].is_newer = true;
                world.say(device, "is of a newer version now");
                world.start(device, false, &[]);
            }
            other => unreachable!("{other} is not about one device"),
        }
        Ok(())
    }

    /// The device that is meant.
    fn find(&mut self, whom: &Whom) -> Result<usize, Trouble> {
        let (running, last) = (self.world.running(), self.world.devices.len() - 1);
        match whom {
            Whom::Node(node) if *node <= last => Ok(*node),
            Whom::Node(node) => {
                Err(Trouble::Impossible(format!("there is no n{node}, the last is n{last}")))
            }
            Whom::Any if running.is_empty() => Err(Trouble::Nobody("no device runs".into())),
            Whom::Any => Ok(running[below(&mut self.world.rng, running.len() as u64) as usize]),
            Whom::Holder(name, index) => {
                self.holder(&running, name, *index).map_err(Trouble::Nobody)
            }
            Whom::Owner(name) => self.owner(&running, name).map_err(Trouble::Nobody),
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

    /// Whom a new device is told of: some that will stay, those that run first.
    fn seeds(&self, device: usize) -> Vec<usize> {
        let devices = &self.world.devices;
        let stays = |other: &usize| {
            *other != device && !devices[*other].is_clone && !devices[*other].is_gone
        };
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
    /// A device that runs and knows the workload signs a decision about it. It hears it as gossip,
    /// like everybody else.
    fn rule(&mut self, device: usize, name: &str, value: u32) {
        let name = name.parse().expect("parsing knows names");
        let uid = self.node(device).and_then(|node| Some(node.wanted(&name).first()?.uid));
        let Some(uid) = uid else {
            return self.say(device, format!("knows no {name} to decide about"));
        };
        let key =
            RulingKey { uid, kind: RulingKind::Autoscale, generation: Digest([0; 32]), tick: 0 };
        // Later decisions have greater numbers: whoever decides knows the last one.
        let ruling = Ruling { key, sequence: self.now, value: value.into() };
        let identity = &self.devices[device].identity;
        let ruling = Signed::sign(ruling, &identity.keys, &identity.genesis.cluster()).wire();
        let rumour = Rumour::new(self.now, Message::Ruled(ruling));
        self.say(device, format!("decides that {name} is to have {value}"));
        self.at(self.now, Happening::Gossip { from: device, to: device, hops: 0, rumour });
    }
}

fn set_clock(world: &mut World, device: usize, fault: ClockFault) {
    let (now, boot) = (world.now, world.devices[device].boot);
    let clock = &mut world.devices[device].clock;
    match fault {
        ClockFault::Jump(by) => clock.jump(now, by),
        ClockFault::Forgets => clock.forget(now),
        ClockFault::Pace(pace) => clock.set_pace(now, pace),
    }
    world.say(device, format!("its clock: {fault:?}"));
    // A daemon reads the clock every second.
    let after = below(&mut world.rng, 1_000_000);
    world.at(now + after, Happening::ClockSet { device, boot });
    world.devices[device].timer = None;
    world.set_timer(device);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1)
}
