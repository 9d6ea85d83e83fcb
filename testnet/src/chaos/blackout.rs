//! blackout: all nodes lose power at once and come back, each alone at first, since the network
//! takes longer to boot.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::world::World;
use super::{Findings, Setup};
use crate::real::{eventually, readable};

/// How long each stays alone after it serves its claims: longer than the grace for members that
/// were not heard since the start, so that each takes all others for dead.
const DARK: Duration = Duration::from_secs(15);

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "blackout", |world| {
        let nodes = world.others(&[]);
        let held = nodes.iter().map(|node| world.held_by(*node)).collect::<Result<Vec<_>>>()?;
        let at = Instant::now();
        for node in &nodes {
            world.cluster.nodes[*node].kill()?;
        }
        for node in &nodes {
            if let Some(net) = &world.net {
                net.cut(*node)?;
            }
            world.cluster.nodes[*node].start(&[])?;
        }
        for node in &nodes {
            world.cluster.nodes[*node].ready()?;
        }
        world.say(&format!("all {} nodes were killed and started again", nodes.len()));
        if world.net.is_none() {
            world.rest()?;
            let what = "all killed at once and restarted, on loopback, so with their network; \
                gap: to rest"
                .to_owned();
            return Ok(Findings { what, worst_gap: Some(at.elapsed()) });
        }
        for node in &nodes {
            serves_alone(world, *node, &held[*node])?;
        }
        let gap = at.elapsed();
        world.say(&format!(
            "each serves what it claims, without any network, {} after the kill",
            readable(gap)
        ));
        std::thread::sleep(DARK);
        let alone =
            nodes.iter().map(|node| Ok(world.held_by(*node)?.len())).collect::<Result<Vec<_>>>()?;
        world.say(&format!(
            "after {} in the dark they run {alone:?} replicas",
            readable(at.elapsed())
        ));
        for node in &nodes {
            world.net()?.mend(*node)?;
        }
        let back = Instant::now();
        world.say("the network is back");
        world.rest()?;
        let what = format!(
            "all served alone what they claimed; {} after the network's return all agreed; gap: \
                to serving alone",
            readable(back.elapsed())
        );
        Ok(Findings { what, worst_gap: Some(gap) })
    })
}

/// Waits until a node without any network runs the replicas that it held, and serves them.
fn serves_alone(world: &World, node: usize, held: &[String]) -> Result<()> {
    let (name, id) = (world.name(node), world.cluster.nodes[node].id());
    eventually(&format!("{name} serving {}", held.join(" ")), || {
        let workloads = world.cluster.nodes[node].api().workloads()?;
        let mine = workloads
            .iter()
            .flat_map(|view| &view.replicas)
            .filter(|one| one.node.as_deref() == Some(id));
        let healthy: Vec<&str> =
            mine.filter(|one| one.phase == "healthy").map(|one| one.replica.as_str()).collect();
        let missing: Vec<&String> =
            held.iter().filter(|replica| !healthy.contains(&replica.as_str())).collect();
        ensure!(missing.is_empty(), "it does not run {missing:?}");
        for replica in held {
            let workload = replica.split('/').next().unwrap_or(replica);
            let asked = world.cluster.nodes[node].http()?;
            let sample = world.net()?.ask_within(node, asked, &format!("{workload}.localhost"))?;
            let itself = sample.served_by.as_deref() == Some(name);
            ensure!(
                sample.good() && itself,
                "{replica}: {:?} {}",
                sample.answer,
                sample.text.trim()
            );
        }
        Ok(())
    })
}
