//! The simulated world for a test outside this crate: it asks what users ask, does what fate does,
//! and sees what nodes show.

use std::time::Duration;

use shoal_protocol::model::{Artifact, Certificate, PublicKey, Spec, Unverified, WorkloadName};
use shoal_protocol::node::{Command, Node, Reply};
use shoal_protocol::trust::{self, Genesis};

use super::action::SimAction;
use super::invariants;
use super::simulation::Simulation;
use super::world::World;

/// A cluster of simulated devices. Nothing is remembered of what users were promised: that is for
/// the test.
///
/// Whatever returns an error has met something that may never be, and the error says what led
/// there.
pub struct TestCluster {
    sim: Simulation,
}

impl TestCluster {
    /// A cluster of `size` devices that has come together.
    pub fn new(seed: u64, size: usize) -> Result<Self, String> {
        let mut world = World::new(seed);
        world.is_hashed = false;
        Ok(TestCluster { sim: Simulation::with(seed, world, size)? })
    }

    /// Does a deed, in a scenario's words.
    pub fn act(&mut self, words: &str) -> Result<(), String> {
        let action: SimAction = words.parse().map_err(|why| format!("`{words}`: {why}"))?;
        self.sim.world.log(0, format!("-- {action}"));
        self.sim.apply(&action).map_err(|error| error.to_string())
    }

    /// Does a deed by which one more device comes; these others it cannot reach, from the first
    /// moment on.
    pub fn act_and_cut(&mut self, words: &str, others: &[usize]) -> Result<(), String> {
        let new = self.sim.world.devices.len();
        self.sim.world.partition(&[new], others, true);
        self.act(words)
    }

    /// A device's disk has room again. A daemon that runs finds out by itself, one that could not
    /// start is started.
    pub fn free(&mut self, device: usize) -> Result<(), String> {
        self.act(&format!("free n{device}"))?;
        if self.node(device).is_none() {
            return self.act(&format!("start n{device}"));
        }
        let takes_writes =
            |world: &World| world.node(device).is_none_or(|node| node.status().read_only.is_none());
        self.sim.world.run_till(Duration::from_secs(40), "it takes writes again", takes_writes)
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.sim.world.run_for(time)
    }

    /// Asks a device's daemon, and waits for the answer; none if it gave none.
    pub fn ask(&mut self, device: usize, command: Command) -> Result<Option<Reply>, String> {
        self.sim.operator.ask(&mut self.sim.world, device, command)
    }

    /// Puts an artifact into a device's store, and tells its daemon.
    pub fn upload(&mut self, device: usize, artifact: Artifact) {
        self.sim.world.devices[device].artifacts.insert(artifact.digest);
        self.sim.world.command(device, Command::Uploaded { artifact });
    }

    /// Notes something in the report.
    pub fn log(&mut self, device: usize, what: &str) {
        self.sim.world.log(device, what);
    }

    /// The cluster's two keys.
    pub fn genesis(&self) -> &Genesis {
        &self.sim.world.genesis
    }

    /// The cluster root's word for an operator.
    pub fn certify(&self, operator: PublicKey) -> Unverified<Certificate> {
        let world = &self.sim.world;
        trust::certify(&world.genesis, &world.root, operator, "tester").expect("a good name")
    }

    /// A device's node, while its daemon runs.
    pub fn node(&self, device: usize) -> Option<&Node> {
        self.sim.world.node(device)
    }

    /// Devices whose daemon runs.
    pub fn running(&self) -> Vec<usize> {
        self.sim.world.running()
    }

    /// Whether no device that is to stay has the bytes of this.
    pub fn is_lost(&self, spec: &Spec) -> bool {
        invariants::is_lost(&self.sim.world, spec)
    }

    /// Ends every fault, waits until all is well under these names, as nodes themselves understand
    /// it, and sees that it stays so.
    pub fn settle(&mut self, names: &[WorkloadName]) -> Result<(), String> {
        self.sim.heal()?;
        self.sim.settle_as(|world| invariants::well(world, names))
    }

    /// What happened last, and how nodes are, for a person who looks for a cause.
    pub fn report(&self) -> String {
        self.sim.world.report()
    }
}
