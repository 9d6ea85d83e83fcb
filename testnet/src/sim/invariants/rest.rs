//! What must hold when all faults are over.

use std::collections::BTreeMap;

use shoal_protocol::model::{Digest, Phase, ReplicaId};

use crate::sim::play::{Wish, Wishes};
use crate::sim::world::World;

/// Whether all running nodes are of one mind, and everything runs that shall, once, and nothing else.
pub fn at_rest(world: &World, wishes: &Wishes) -> Result<(), String> {
    let running = world.running();
    let mut roots = BTreeMap::new();
    for &device in &running {
        let node = world.devices[device].node.as_ref().expect("it runs");
        roots.entry(node.roots()).or_insert_with(Vec::new).push(device);
        let status = node.status();
        if status.nodes_up != running.len() || !status.ready {
            return Err(format!(
                "n{device} sees {} of {} nodes up, ready: {}",
                status.nodes_up,
                running.len(),
                status.ready
            ));
        }
    }
    if roots.len() != 1 {
        return Err(format!("not of one mind: {:?}", roots.values().collect::<Vec<_>>()));
    }
    let first = world.devices[*running.first().ok_or("nothing runs")?].node.as_ref().expect("it runs");
    let mut wanted: BTreeMap<ReplicaId, String> = BTreeMap::new();
    for (name, wish) in wishes {
        let found = first.spec(&name.parse().expect("a test's own name")).cloned();
        let right = match wish {
            Wish::Is(spec) => found.as_ref() == Some(spec),
            Wish::Gone => found.is_none(),
            Wish::Either(values) => values.contains(&found),
        };
        if !right {
            return Err(format!("{name}: {wish:?} was promised, {found:?} is there"));
        }
        for replica in first.wanted(&name.parse().expect("a test's own name")) {
            wanted.insert(replica, name.clone());
        }
    }
    let mut seen: BTreeMap<ReplicaId, usize> = BTreeMap::new();
    for &device in &running {
        let it = &world.devices[device];
        let node = it.node.as_ref().expect("it runs");
        for claim in node.own_claims() {
            if !wanted.contains_key(&claim.replica) {
                return Err(format!("n{device} claims {}, which nobody wants", claim.replica));
            }
            if claim.phase != Phase::Healthy || node.generation(&claim.replica.uid) != Some(claim.generation) {
                return Err(format!("{} at n{device} is {:?}", claim.replica, claim.phase));
            }
            if let Some(other) = seen.insert(claim.replica, device) {
                return Err(format!("{} is claimed by n{other} and n{device}", claim.replica));
            }
            let runs = it.runtime.replicas.get(&claim.replica);
            if !runs.is_some_and(|runs| runs.healthy && runs.generation == claim.generation) {
                return Err(format!("n{device} claims {} and does not run it", claim.replica));
            }
        }
        for replica in it.runtime.replicas.keys() {
            if node.own_claim(replica).is_none() {
                return Err(format!("n{device} runs {replica} and does not claim it"));
            }
        }
    }
    match wanted.keys().find(|replica| !seen.contains_key(replica)) {
        Some(replica) => Err(format!("nobody runs {replica} of {}", wanted[replica])),
        None => Ok(()),
    }
}

/// Replicas that exactly one running device runs, healthy: which, and in which version.
pub fn healthy_alone(world: &World) -> BTreeMap<ReplicaId, (usize, Digest)> {
    let mut found: BTreeMap<ReplicaId, Vec<(usize, Digest)>> = BTreeMap::new();
    for device in world.running() {
        let it = &world.devices[device];
        let healthy = it.runtime.replicas.iter().filter(|(_, running)| running.healthy);
        for (replica, running) in healthy {
            let node = it.node.as_ref().expect("it runs");
            let claim = node.own_claim(replica).filter(|claim| claim.phase == Phase::Healthy);
            if claim.is_some_and(|claim| claim.generation == running.generation) {
                found.entry(*replica).or_default().push((device, running.generation));
            }
        }
    }
    found.into_iter().filter_map(|(replica, at)| (at.len() == 1).then(|| (replica, at[0]))).collect()
}
