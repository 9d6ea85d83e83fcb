//! One random history: a small cluster, a user who writes, and faults; then peace, quiet, and the question whether all is well.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::{Digest, Spec};

use super::invariants;
use super::network::{Gossip, Weather, below};
use super::operator::{Operator, Outcome, workload};
use super::world::World;

/// How long a cluster may take to be of one mind after the last fault.
const QUIET: Duration = Duration::from_secs(180);

/// A workload as the user has left it.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// It was accepted, and nothing later was.
    Is(Spec),
    /// It was removed.
    Gone,
    /// The node died over the question: either is right.
    Either(Vec<Option<Spec>>),
}

/// What the user knows.
pub type Wishes = BTreeMap<String, Wish>;

/// Runs the history of `seed`. The digest of everything that happened, or what went wrong.
pub fn history(seed: u64) -> Result<Digest, String> {
    run(seed, World::new(seed)).map(|world| world.history)
}

/// As [`history`], told in full: the trace of events comes first, and an error holds it.
pub fn told(seed: u64) -> Result<(String, Digest), String> {
    let mut world = World::new(seed);
    world.keep_all();
    run(seed, world).map(|world| (world.trace(), world.history))
}

fn run(seed: u64, world: World) -> Result<World, String> {
    let mut play = Play::new(seed, world)?;
    for _ in 0..6 + below(&mut play.world.rng, 10) {
        play.act()?;
        let pause = below(&mut play.world.rng, 4_000);
        play.world.run_for(Duration::from_millis(pause))?;
    }
    play.heal()?;
    play.settle()?;
    Ok(play.world)
}

/// A world, its user, and what the user was promised.
pub struct Play {
    pub world: World,
    pub operator: Operator,
    pub wishes: Wishes,
    published: u32,
}

impl Play {
    /// A cluster of 3 to 8 that has come together in `world`.
    fn new(seed: u64, mut world: World) -> Result<Self, String> {
        let size = 3 + below(&mut world.rng, 6) as usize;
        world.network.weather = match below(&mut world.rng, 3) {
            0 => Weather::default(),
            1 => Weather { delay: 5_000, jitter: 20_000, loss: 5, repeat: 200_000 },
            _ => Weather { delay: 40_000, jitter: 30_000, loss: 20, repeat: 300_000 },
        };
        Self::with(seed, world, size)
    }

    /// A cluster of `size` that has come together in `world`.
    pub fn with(seed: u64, mut world: World, size: usize) -> Result<Self, String> {
        for index in 0..size {
            world.add();
            world.start(index, index == 0, if index == 0 { &[] } else { &[0] });
        }
        let operator = Operator::new(&world, seed);
        world.run_till(Duration::from_secs(60), "the cluster comes together", |world| {
            world.devices.iter().filter_map(|device| device.node.as_ref()).all(|node| {
                let status = node.status();
                status.ready && status.nodes_up == size && status.nodes == size
            })
        })?;
        Ok(Play { world, operator, wishes: Wishes::new(), published: 0 })
    }

    /// Publishes through `device` and remembers what was promised.
    pub fn publish(&mut self, device: usize, spec: &Spec) -> Result<(), String> {
        let outcome = self.operator.publish(&mut self.world, device, spec)?;
        let (name, replicas) = (&spec.name, spec.replicas);
        self.world.say(
            device,
            format!("a user wished for {replicas} of {name} ({}): {outcome:?}", spec.artifact.digest.short()),
        );
        self.remember(&spec.name.to_string(), Some(spec.clone()), outcome);
        Ok(())
    }

    /// Removes through `device` and remembers what was promised.
    pub fn remove(&mut self, device: usize, name: &str) -> Result<(), String> {
        let name = name.parse().expect("a test's own name");
        let outcome = self.operator.remove(&mut self.world, device, &name)?;
        self.world.say(device, format!("a user removed {name}: {outcome:?}"));
        self.remember(&name.to_string(), None, outcome);
        Ok(())
    }

    fn remember(&mut self, name: &str, value: Option<Spec>, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => {
                self.wishes.insert(name.to_owned(), value.map_or(Wish::Gone, Wish::Is));
            }
            Outcome::Refused(_) => {}
            Outcome::Unknown => {
                let mut either = match self.wishes.get(name) {
                    None | Some(Wish::Gone) => vec![None],
                    Some(Wish::Is(spec)) => vec![Some(spec.clone())],
                    Some(Wish::Either(values)) => values.clone(),
                };
                either.push(value);
                self.wishes.insert(name.to_owned(), Wish::Either(either));
            }
        }
    }

    /// One random deed of the user or of fate.
    fn act(&mut self) -> Result<(), String> {
        let running = self.world.running();
        let stopped: Vec<usize> = (0..self.world.devices.len()).filter(|i| !running.contains(i)).collect();
        let device = running[below(&mut self.world.rng, running.len() as u64) as usize];
        match below(&mut self.world.rng, 11) {
            0..=2 => {
                self.published += 1;
                let name = format!("w{}", below(&mut self.world.rng, 4));
                let replicas = 1 + below(&mut self.world.rng, 4) as u32;
                let version = below(&mut self.world.rng, 3) as u32;
                self.publish(device, &workload(&name, version, replicas))?;
            }
            3 => {
                let name = format!("w{}", below(&mut self.world.rng, 4));
                self.remove(device, &name)?;
            }
            4 if running.len() > 1 => self.world.kill(device),
            5 if running.len() > 1 => self.world.unplug(device),
            6 if running.len() > 1 => {
                let others: Vec<usize> = (0..self.world.devices.len()).filter(|i| *i != device).collect();
                self.world.partition(&[device], &others, true);
            }
            7 => {
                let half = self.world.devices.len() / 2;
                let (left, right): (Vec<usize>, Vec<usize>) = (0..self.world.devices.len()).partition(|i| *i < half);
                let cut = below(&mut self.world.rng, 2) == 0;
                self.world.partition(&left, &right, cut);
            }
            8 => {
                // It stays so, also after the heal: nothing may depend on gossip.
                self.world.network.gossip = match below(&mut self.world.rng, 3) {
                    0 => Gossip::Fair,
                    1 => Gossip::Late(below(&mut self.world.rng, 2_000_000)),
                    _ => Gossip::Lost,
                };
            }
            _ => {
                if let Some(&device) = stopped.first() {
                    self.world.start(device, false, &[]);
                }
            }
        }
        Ok(())
    }

    /// Ends every fault.
    pub fn heal(&mut self) -> Result<(), String> {
        let all: Vec<usize> = (0..self.world.devices.len()).collect();
        for one in &all {
            self.world.partition(&[*one], &all[one + 1..], false);
        }
        self.world.network.heal();
        for device in all {
            if self.world.devices[device].node.is_none() {
                self.world.start(device, false, &[]);
            }
        }
        Ok(())
    }

    /// Waits until all is well, then sees that it stays so.
    pub fn settle(&mut self) -> Result<(), String> {
        let wishes = &self.wishes;
        let settled = |world: &World| invariants::at_rest(world, wishes).is_ok();
        if let Err(error) = self.world.run_till(QUIET, "all is well", settled) {
            let why = invariants::at_rest(&self.world, &self.wishes).err().unwrap_or_default();
            return Err(format!("{why}\n{error}"));
        }
        self.world.run_for(Duration::from_secs(20))?;
        invariants::at_rest(&self.world, &self.wishes)
            .map_err(|why| format!("{why} (it had been well)\n{}", self.world.report()))
    }
}
