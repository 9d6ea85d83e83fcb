//! The simulated world for tests outside this crate: it sends commands, applies actions, and shows
//! what nodes show.

use std::time::Duration;

use shoal_protocol::model::{
    Artifact, Chain, Change, Key, ProgramKind, PublicKey, Spec, Time, Value, WorkloadName,
};
use shoal_protocol::node::{Command, Config, Draft, Identity, Node, Reply, Saved};
use shoal_protocol::trust::Genesis;

use super::action::SimAction;
use super::invariants;
use super::simulation::Simulation;
use super::world::World;

/// A cluster of simulated devices. It does not record what users were promised; the test does.
///
/// An error means that an invariant was broken, and holds the trace that led to it.
pub struct TestCluster {
    sim: Simulation,
}

/// A device as it was at one moment, to be driven by somebody else.
#[derive(Clone)]
pub struct TakenDevice {
    /// The core of its daemon.
    pub node: Node,
    /// The time of its last input.
    pub now: Time,
    /// Its keys.
    pub identity: Identity,
    /// Its settings.
    pub config: Config,
    /// The state on its disk, for a next start.
    pub saved: Saved,
}

impl TestCluster {
    /// A cluster of `size` devices, all ready.
    pub fn new(seed: u64, size: usize) -> Result<Self, String> {
        let mut world = World::new(seed);
        world.is_hashed = false;
        Ok(TestCluster { sim: Simulation::with(seed, world, size)? })
    }

    /// Applies an action, in a scenario's words.
    pub fn act(&mut self, words: &str) -> Result<(), String> {
        let action: SimAction = words.parse().map_err(|why| format!("`{words}`: {why}"))?;
        self.sim.world.log(0, format!("-- {action}"));
        self.sim.apply(&action).map_err(|error| error.to_string())
    }

    /// Applies an action that adds one device, which is cut off from `others` from the beginning.
    pub fn act_and_cut(&mut self, words: &str, others: &[usize]) -> Result<(), String> {
        let new = self.sim.world.devices.len();
        self.sim.world.partition(&[new], others, true);
        self.act(words)
    }

    /// Frees a device's disk. A running daemon finds out by itself; one that is stopped is started.
    pub fn free(&mut self, device: usize) -> Result<(), String> {
        self.act(&format!("free n{device}"))?;
        if self.node(device).is_none() {
            return self.act(&format!("start n{device}"));
        }
        let takes_writes =
            |world: &World| world.node(device).is_none_or(|node| node.status().read_only.is_none());
        self.sim.world.run_till(Duration::from_secs(40), "it takes writes again", takes_writes)
    }

    /// Lets simulated time pass.
    pub fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.sim.world.run_for(time)
    }

    /// Sends a command to a device's daemon and waits for the reply; none if there is none.
    pub fn ask(&mut self, device: usize, command: Command) -> Result<Option<Reply>, String> {
        self.sim.operator.ask(&mut self.sim.world, device, command)
    }

    /// Puts an artifact into a device's store, and informs its daemon.
    pub fn upload(&mut self, device: usize, artifact: Artifact) {
        self.sim.world.devices[device].artifacts.insert(artifact.digest);
        self.sim.world.command(device, Command::Uploaded { artifact, kind: ProgramKind::Wasm });
    }

    /// Adds a line to the report.
    pub fn log(&mut self, device: usize, what: &str) {
        self.sim.world.log(device, what);
    }

    /// Publishes a workload through the first device.
    pub fn publish(&mut self, spec: &Spec) -> Result<(), String> {
        self.sim.publish(0, spec)
    }

    /// The public keys of the cluster.
    pub fn genesis(&self) -> &Genesis {
        &self.sim.world.genesis
    }

    /// The chain of a key that may publish everywhere, from the cluster's root key.
    pub fn make_publisher(&self, operator: PublicKey) -> Chain {
        self.sim.world.make_publisher(operator)
    }

    /// A copy of a device whose daemon runs.
    pub fn take(&self, device: usize) -> Option<TakenDevice> {
        let (world, it) = (&self.sim.world, &self.sim.world.devices[device]);
        Some(TakenDevice {
            node: it.node.clone()?,
            now: it.clock.running(world.now),
            identity: it.identity.clone(),
            config: world.config(device, device == 0),
            saved: it.disk.clone().load(),
        })
    }

    /// A change as the user signs it on the computer of this number.
    pub fn sign(&self, computer: usize, key: Key, value: Value, draft: Draft) -> Change {
        self.sim.operator.sign(&self.sim.world, computer, key, value, draft)
    }

    /// A device's core, while its daemon runs.
    pub fn node(&self, device: usize) -> Option<&Node> {
        self.sim.world.node(device)
    }

    /// Devices whose daemon runs.
    pub fn running(&self) -> Vec<usize> {
        self.sim.world.running()
    }

    /// Whether no remaining device stores the artifact of this workload.
    pub fn is_lost(&self, spec: &Spec) -> bool {
        invariants::is_lost(&self.sim.world, spec)
    }

    /// Ends every fault, waits until these workloads are well as the nodes themselves see it, and
    /// checks that they stay so.
    pub fn settle(&mut self, names: &[WorkloadName]) -> Result<(), String> {
        self.sim.heal()?;
        self.sim.settle_as(|world| invariants::well(world, names))
    }

    /// The last trace lines and the state of the nodes, to look for a cause.
    pub fn report(&self) -> String {
        self.sim.world.report()
    }
}
