//! What must hold after every step, and what must hold when all faults are over.

use std::collections::BTreeMap;

use shoal_protocol::claims::awarded_under;
use shoal_protocol::model::{Phase, ReplicaId};

use super::scenario::{Wish, Wishes};
use super::world::{World, facts};

/// Cheap checks of the device that just did something.
pub fn after_step(world: &World, device: usize) -> Result<(), String> {
    let it = &world.devices[device];
    let Some(node) = &it.node else { return Ok(()) };
    let capacity = facts().capacity;
    let used = node.committed();
    if !capacity.holds(used) {
        return Err(fail(world, device, &format!("{used:?} committed or reserved, more than {capacity:?}")));
    }
    for claim in node.own_claims() {
        for (other, peer) in world.devices.iter().enumerate().filter(|(other, _)| *other != device) {
            let twin = peer.node.as_ref().and_then(|peer| peer.own_claim(&claim.replica));
            // The claim's own token may have been adopted from a twin that is about to yield.
            if twin.is_some_and(|twin| awarded_under(twin) == awarded_under(claim)) {
                let what = format!("{} was awarded under one token to n{device} and n{other}", claim.replica);
                return Err(fail(world, device, &what));
            }
        }
    }
    Ok(())
}

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

fn fail(world: &World, device: usize, what: &str) -> String {
    format!("after a step of n{device}: {what}\n{}", world.report())
}
