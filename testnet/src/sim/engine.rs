//! A fake container engine, and what one daemon knows of it. The containers are the device's: they
//! survive the daemon. The daemon's knowledge ends with it.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::{Digest, NodeId, ReplicaId};

/// An instance: a replica of one generation, as the label of its container names it.
pub type Id = (ReplicaId, Digest);

/// The engine of a device.
#[derive(Default)]
pub struct Engine {
    pub state: EngineState,
    /// All containers by number, also those that ended and those of other owners.
    pub containers: BTreeMap<u64, Container>,
    /// Containers of other owners, which no daemon may touch.
    pub others: usize,
    /// Images that need no download any more.
    pub images: BTreeSet<Digest>,
    /// Orders to make a container that it took while it hung, and has not carried out yet.
    pub taken: Vec<Container>,
    /// Counts the changes of `state`, so that a later one cancels a scheduled one.
    pub turns: u32,
    /// The last number that was given to a container.
    numbers: u64,
}

/// Whether an engine answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineState {
    #[default]
    Works,
    /// Calls get no answer.
    Hangs,
    /// Calls are refused: its process is not there.
    Gone,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// The label of the node that it belongs to; none for one that somebody else made.
    pub owner: Option<NodeId>,
    pub id: Id,
    pub state: ContainerState,
}

/// How far a container has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainerState {
    /// The engine is starting it, also when nobody waits for that any more.
    Starting,
    Alive,
    Exited,
}

/// What a running daemon knows and plans about containers: its executor and its adapter.
#[derive(Default)]
pub struct Adapter {
    /// The instances that it began and has not stopped.
    pub lives: BTreeMap<Id, Life>,
    /// Containers that ran at the last look and that it did not begin.
    pub strays: BTreeSet<Id>,
    /// Containers that ran at its start, and belong to a claim on its disk.
    pub found: BTreeMap<Id, u64>,
    /// Whether it last told the core that this node runs containers.
    pub offers: bool,
}

/// An instance from its start to its stop.
pub struct Life {
    /// Number of this start, so that an event of an earlier one is not applied to it.
    pub number: u64,
    pub stage: Stage,
    /// It was ordered to run again while it was stopped.
    pub is_due: bool,
}

/// How far an instance has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The engine is asked for a container that runs already.
    Asking,
    /// The same, and it hangs.
    Unanswered,
    /// The engine gets the image.
    Pulling,
    /// The container with this number runs, and has not shown yet that it goes on.
    Settling(u64),
    /// The container with this number takes requests.
    Up(u64),
    Failed,
    Stopping,
}

impl Stage {
    /// The container of an instance that takes requests.
    pub fn up(self) -> Option<u64> {
        match self {
            Stage::Up(container) => Some(container),
            Stage::Asking
            | Stage::Unanswered
            | Stage::Pulling
            | Stage::Settling(_)
            | Stage::Failed
            | Stage::Stopping => None,
        }
    }
}

impl Engine {
    /// Adds a container. Returns its number.
    pub fn add(&mut self, container: Container) -> u64 {
        self.numbers += 1;
        self.containers.insert(self.numbers, container);
        self.numbers
    }

    /// The containers with the label of this owner.
    pub fn of(&self, owner: NodeId) -> impl Iterator<Item = (u64, &Container)> {
        let is_own = move |it: &&Container| it.owner == Some(owner);
        self.containers.iter().map(|(number, it)| (*number, it)).filter(move |it| is_own(&it.1))
    }

    /// The containers of this owner that run.
    pub fn alive(&self, owner: NodeId) -> impl Iterator<Item = (u64, &Container)> {
        self.of(owner).filter(|(_, container)| container.state == ContainerState::Alive)
    }

    /// The container of an instance that runs.
    pub fn alive_of(&self, owner: NodeId, id: Id) -> Option<u64> {
        self.alive(owner).find(|(_, container)| container.id == id).map(|(number, _)| number)
    }

    /// Removes all containers of an instance, whatever their state.
    pub fn clear(&mut self, owner: NodeId, id: Id) {
        self.containers.retain(|_, it| it.owner != Some(owner) || it.id != id);
    }

    pub fn state_of(&self, number: u64) -> Option<ContainerState> {
        self.containers.get(&number).map(|it| it.state)
    }

    /// Ends all containers, those of other owners too. They stay in its list.
    pub fn end_all(&mut self) {
        self.containers.values_mut().for_each(|it| it.state = ContainerState::Exited);
        self.taken.clear();
    }

    /// Changes the state. Orders that a hanging engine took are lost when its process ends.
    pub fn turn(&mut self, state: EngineState) {
        self.turns += 1;
        self.state = state;
        if state == EngineState::Gone {
            self.taken.clear();
        }
    }

    /// Carries out the oldest order that it took while it hung. Names are unique: if there is such
    /// a container by now, the order fails.
    pub fn carry_out(&mut self) {
        if self.state != EngineState::Works || self.taken.is_empty() {
            return;
        }
        let late = self.taken.remove(0);
        if !self.containers.values().any(|it| (it.owner, it.id) == (late.owner, late.id)) {
            self.add(Container { state: ContainerState::Alive, ..late });
        }
    }
}

impl Adapter {
    /// Whether an instance of this replica is being stopped.
    pub fn is_stopping(&self, replica: &ReplicaId) -> bool {
        self.of(replica).any(|(_, life)| life.stage == Stage::Stopping)
    }

    /// The instances of a replica.
    pub fn of(&self, replica: &ReplicaId) -> impl Iterator<Item = (Id, &Life)> {
        let range = (*replica, Digest([0; 32]))..=(*replica, Digest([0xff; 32]));
        self.lives.range(range).map(|(id, life)| (*id, life))
    }
}
