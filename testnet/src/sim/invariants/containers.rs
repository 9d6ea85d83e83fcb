//! The invariants of containers: those of every step, and those of a cluster without faults. They
//! look at the engines' lists, at the claims on disk and at the orders.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::{Claim, ProgramKind, ReplicaId};
use shoal_protocol::node::Node;

use crate::sim::device::Running;
use crate::sim::engine::{ContainerState, EngineState, Id, Stage};
use crate::sim::world::World;

/// Containers of one replica at most: one that serves, and its replacement.
const MOST: usize = 2;

impl World {
    /// The claims of a device on its disk.
    pub(in crate::sim) fn claims_on_disk(&self, device: usize) -> Vec<Claim> {
        let it = &self.devices[device];
        let slots = it.disk.slots.range((it.id, 0)..=(it.id, u8::MAX));
        slots.filter_map(|(_, slot)| slot.peek().ok()).flat_map(|slot| slot.claims).collect()
    }

    /// A daemon has made a container: none of this instance may have run since before its start.
    pub(in crate::sim) fn watch_made(&mut self, device: usize, id: Id) {
        if !self.watch.is_off && self.devices[device].adapter.found.contains_key(&id) {
            self.broken(device, format!("it restarts {}, which ran when the daemon started", id.0));
        }
    }

    /// A daemon stops a container as a stray: its claims must not name it.
    pub(in crate::sim) fn watch_stray(&mut self, device: usize, id: Id) {
        let claim = self.node(device).and_then(|node| node.own_claim(&id.0));
        if claim.is_some_and(|claim| claim.generation == id.1) {
            self.broken(device, format!("it stops {} as a stray, and claims it", id.0));
        }
    }

    /// Whether a replica ran when the daemon started and is not adopted yet, though it is wished
    /// for and claimed on disk.
    pub(in crate::sim) fn is_adoptable(&self, device: usize, replica: &ReplicaId) -> bool {
        let it = &self.devices[device];
        let Some(node) = &it.node else { return false };
        let found = it.adapter.found.keys().find(|(of, _)| of == replica);
        let Some(id) = found.filter(|_| it.engine.state == EngineState::Works) else {
            return false;
        };
        let mut claims = self.claims_on_disk(device).into_iter();
        let claim = claims.find(|claim| (claim.replica, claim.generation) == *id);
        let has_failed = it.adapter.lives.get(id).is_some_and(|life| life.stage == Stage::Failed);
        claim.is_some_and(|claim| node.wanted(&claim.name).contains(replica))
            && !has_failed
            && !it.disk.is_ill()
            && !node.is_revoked(&it.id.into())
            && node.generation(&replica.uid) == Some(id.1)
    }

    /// An instance that is not being stopped, though another generation was ordered and this one
    /// does not serve until that one does.
    fn superseded(&self, device: usize) -> Option<Id> {
        let it = &self.devices[device];
        let goes_on = it.adapter.lives.iter().filter(|(_, life)| match life.stage {
            Stage::Stopping | Stage::Failed => false,
            Stage::Asking
            | Stage::Unanswered
            | Stage::Pulling
            | Stage::Settling(_)
            | Stage::Up(_) => true,
        });
        let is_kept = |(replica, generation): &Id| {
            let running = it.runtime.replicas.get(replica);
            let others = |it: &Running| [it.old, it.unready, it.again].contains(&Some(*generation));
            running.is_some_and(|it| it.generation == *generation || others(it))
        };
        goes_on.map(|(id, _)| *id).find(|id| !is_kept(id))
    }

    /// What is wrong with the containers of a device at any time.
    pub(super) fn wrong_containers(&self, device: usize) -> Option<String> {
        let it = &self.devices[device];
        let mut of_replica: BTreeMap<ReplicaId, usize> = BTreeMap::new();
        let mut alive = BTreeSet::new();
        for (_, container) in it.engine.alive(it.id) {
            if !alive.insert(container.id) {
                return Some(format!("two of the same container run for {}", container.id.0));
            }
            let count = of_replica.entry(container.id.0).or_default();
            *count += 1;
            if *count > MOST {
                return Some(format!("{count} containers run for {}", container.id.0));
            }
        }
        if let Some((replica, _)) = self.superseded(device) {
            return Some(format!(
                "an instance of {replica} goes on that is neither new nor serves"
            ));
        }
        let others = it.engine.containers.values().filter(|other| other.owner != Some(it.id));
        let (found, wanted) = (others.count(), it.engine.others);
        (found != wanted).then(|| format!("{found} of {wanted} containers of others are left"))
    }
}

/// Checks that exactly the containers of a device's claims are there, each once and running;
/// replicas in `lost` are left out.
pub(super) fn match_claims(
    world: &World,
    device: usize,
    node: &Node,
    lost: &BTreeSet<ReplicaId>,
) -> Result<(), String> {
    let it = &world.devices[device];
    if !it.engine.taken.is_empty() {
        return Err(format!("the engine of n{device} has not carried out all that it took"));
    }
    let is_contained =
        |name| node.spec(name).is_some_and(|spec| spec.program.kind() == ProgramKind::Container);
    let claims = node.own_claims().filter(|claim| is_contained(&claim.name));
    let held: BTreeSet<Id> = claims.map(|claim| (claim.replica, claim.generation)).collect();
    let own = || it.engine.of(it.id).filter(|(_, container)| !lost.contains(&container.id.0));
    if let Some((_, left)) = own().find(|(_, it)| it.state != ContainerState::Alive) {
        return Err(format!("n{device} has a container of {} that does not run", left.id.0));
    }
    let alive: BTreeSet<Id> = own().map(|(_, container)| container.id).collect();
    if let Some((orphan, _)) = alive.difference(&held).next() {
        return Err(format!("n{device} has a container of {orphan}, which it does not hold"));
    }
    let mut held = held.into_iter().filter(|(replica, _)| !lost.contains(replica));
    match held.find(|id| !alive.contains(id)) {
        Some((replica, _)) => {
            Err(format!("n{device} holds {replica}, and its container does not run"))
        }
        None => Ok(()),
    }
}
