//! The invariants of a cluster after all faults have ended.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::{
    Claim, Digest, NodeId, Phase, Place, ReplicaId, Resources, Spec, WorkloadName,
};
use shoal_protocol::node::Node;

use super::containers;
use crate::sim::workloads::Workloads;
use crate::sim::world::{World, facts};

/// Names of the repair trees in error messages, in the order of `Node::roots`.
const TREES: [&str; 4] = ["what is wished for", "rulings", "claims", "records"];

/// Checks that the cluster shows what users were promised, and is [`well`].
pub fn at_rest(world: &World, workloads: &Workloads) -> Result<(), String> {
    let first = node(world, *world.running().first().ok_or("nothing runs")?);
    let mut names = Vec::new();
    for (name, allowed) in workloads.allowed() {
        let name = name.parse().expect("a test's own name");
        let found = first.written(&name);
        if !allowed.contains(&found.as_ref()) {
            return Err(format!("{name}: one of {allowed:?} was promised, {found:?} is there"));
        }
        names.push(name);
    }
    well(world, &names)
}

/// Checks that all running nodes agree, and that exactly the replicas of these workloads run, each
/// once and healthy.
pub fn well(world: &World, names: &[WorkloadName]) -> Result<(), String> {
    let running = world.running();
    let first = node(world, *running.first().ok_or("nothing runs")?);
    let mut wanted = BTreeSet::new();
    let mut lost = BTreeSet::new();
    for name in names {
        match first.spec(name) {
            Some(spec) if facts().fits(spec).is_err() => {}
            Some(spec) if is_lost(world, spec) => lost.extend(first.wanted(name)),
            Some(_) | None => wanted.extend(first.wanted(name)),
        }
    }
    // A daemon's replica waits for its device.
    let is_there = |node: &NodeId| running.iter().any(|it| world.devices[*it].id == *node);
    wanted.retain(|replica| match &replica.place {
        Place::OnNode(node) => is_there(node),
        Place::Ordinal(_) | Place::Run { .. } => true,
    });
    nodes_agree(world, &running, lost.is_empty())?;
    let held = held(world, &running, &wanted, &lost)?;
    if lost.is_empty() {
        nothing_is_reserved(world, &running)?;
    }
    if let Some(wrong) = world.not_emptied().or_else(|| world.too_many_rulings()) {
        return Err(wrong);
    }
    match wanted.iter().find(|replica| !held.contains_key(replica)) {
        Some(replica) => Err(format!("nobody runs {replica}")),
        None => Ok(()),
    }
}

/// Checks that all nodes see each other and have equal roots. Without `with_claims` only the
/// desired state is compared: replicas whose artifact is lost are retried, so their claims come and
/// go.
fn nodes_agree(world: &World, running: &[usize], with_claims: bool) -> Result<(), String> {
    let mut roots: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for &device in running {
        let node = node(world, device);
        let (sees, all) = (node.nodes_up(), running.len());
        if sees != all || !node.is_ready() {
            return Err(format!(
                "n{device} sees {sees} of {all} nodes up, ready: {}",
                node.is_ready()
            ));
        }
    }
    for &device in running {
        let trees = if with_claims { 4 } else { 1 };
        roots.entry(node(world, device).roots()[..trees].to_vec()).or_default().push(device);
    }
    if roots.len() == 1 {
        return Ok(());
    }
    let trees = roots.first_key_value().map_or(&[][..], |(trees, _)| trees);
    let apart = (0..trees.len()).filter(|at| roots.keys().any(|of| of[*at] != trees[*at]));
    let apart: Vec<&str> = apart.map(|at| TREES[at]).collect();
    Err(format!(
        "not of one mind about {}: {:?}",
        apart.join(", "),
        roots.values().collect::<Vec<_>>()
    ))
}

/// Whether no remaining device stores the workload's artifact, so that it can never run again.
pub fn is_lost(world: &World, spec: &Spec) -> bool {
    !world.devices.iter().any(|it| {
        let has = |digest| it.artifacts.contains(&digest);
        it.remains() && spec.program.artifacts().all(|it| has(it.digest))
    })
}

/// Checks each claim: wanted, healthy, run by its holder, and held by one device only.
fn held(
    world: &World,
    running: &[usize],
    wanted: &BTreeSet<ReplicaId>,
    lost: &BTreeSet<ReplicaId>,
) -> Result<BTreeMap<ReplicaId, usize>, String> {
    let mut held: BTreeMap<ReplicaId, usize> = BTreeMap::new();
    for &device in running {
        let (it, node) = (&world.devices[device], node(world, device));
        for claim in node.own_claims().filter(|claim| !lost.contains(&claim.replica)) {
            if !wanted.contains(&claim.replica) {
                return Err(format!("n{device} claims {}, which nobody wants", claim.replica));
            }
            if claim.phase != Phase::Healthy
                || node.generation(&claim.replica.uid) != Some(claim.generation)
            {
                return Err(format!("{} at n{device} is {:?}", claim.replica, claim.phase));
            }
            if let Some(other) = held.insert(claim.replica, device) {
                return Err(format!("{} is claimed by n{other} and n{device}", claim.replica));
            }
            let runs = it.runtime.replicas.get(&claim.replica);
            if !runs.is_some_and(|runs| runs.healthy && runs.generation == claim.generation) {
                return Err(format!("n{device} claims {} and does not run it", claim.replica));
            }
        }
        if let Some(replica) =
            it.runtime.replicas.keys().find(|replica| node.own_claim(replica).is_none())
        {
            return Err(format!("n{device} runs {replica} and does not claim it"));
        }
        containers::match_claims(world, device, node, lost)?;
    }
    Ok(held)
}

/// Checks that without auctions nodes reserve nothing beyond their claims.
fn nothing_is_reserved(world: &World, running: &[usize]) -> Result<(), String> {
    for &device in running {
        let node = node(world, device);
        let claimed =
            node.own_claims().filter_map(|claim| Some(node.spec(&claim.name)?.reservation()));
        let (claimed, committed) =
            (claimed.fold(Resources::default(), Resources::plus), node.committed());
        if claimed != committed {
            return Err(format!("n{device} keeps {committed:?} back, its claims take {claimed:?}"));
        }
    }
    Ok(())
}

/// Replicas that exactly one running device runs and reports healthy: the device and generation.
/// Nothing is said of a replica that a second device runs, too, and is about to report.
pub fn healthy_once(world: &World) -> BTreeMap<ReplicaId, (usize, Digest)> {
    let mut found: BTreeMap<ReplicaId, Vec<(usize, Option<Digest>)>> = BTreeMap::new();
    for device in world.running() {
        for (replica, running) in &world.devices[device].runtime.replicas {
            let claim = node(world, device)
                .own_claim(replica)
                .filter(|claim| claim.phase == Phase::Healthy);
            let is_there = |claim: &&Claim| {
                let it = &world.devices[device];
                let id = (*replica, claim.generation);
                running.serves(claim.generation)
                    && (running.image.is_none() || it.engine.alive_of(it.id, id).is_some())
            };
            match claim.filter(is_there) {
                Some(claim) => {
                    found.entry(*replica).or_default().push((device, Some(claim.generation)));
                }
                None if running.healthy => found.entry(*replica).or_default().push((device, None)),
                None => {}
            }
        }
    }
    found
        .into_iter()
        .filter_map(|(replica, at)| match at[..] {
            [(device, Some(generation))] => Some((replica, (device, generation))),
            _ => None,
        })
        .collect()
}

fn node(world: &World, device: usize) -> &Node {
    world.node(device).expect("it runs")
}
