//! addresses: nodes get other addresses while they run, as from a DHCP server. They announce them,
//! link again and move no replica; no restart and no new invite is needed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::rest::{nothing_moved, places};
use super::world::World;
use super::{Findings, Moved, Setup};
use crate::real::{eventually, readable};

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run_anywhere(setup, "addresses", |world| {
        let all = world.others(&[]);
        let mut told = Vec::new();
        let mut worst = Duration::ZERO;
        let stages =
            setup.moved.map_or(vec![Moved::One, Moved::Two, Moved::All], |moved| vec![moved]);
        for stage in stages {
            let took = match stage {
                Moved::One => moved(world, &all[..1])?,
                Moved::Two => two(world, &all[1..3])?,
                Moved::All => at_once(world, &all)?,
            };
            told.push(format!("{stage:?} together again after {}", readable(took)).to_lowercase());
            worst = worst.max(took);
        }
        let what = format!(
            "{}; gap: from the last change to all linked at the new addresses",
            told.join(", ")
        );
        Ok(Findings { what, worst_gap: Some(worst) })
    })
}

/// Readdresses these nodes one after the other, each as soon as the one before has noticed its own
/// change, and waits until all are linked. No node may be taken for dead, no replica may move.
fn moved(world: &mut World, nodes: &[usize]) -> Result<Duration> {
    let witness = world.others(nodes)[0];
    let before = (places(&world.cluster.nodes[witness])?, downs(world)?);
    let mut last = Instant::now();
    for node in nodes {
        last = readdress(world, *node)?;
        let (name, api) = (world.name(*node), world.cluster.nodes[*node].api());
        let ip = world.net()?.ip(*node)?;
        eventually(&format!("{name} knows its new address"), || {
            let own =
                api.nodes()?.into_iter().find(|view| view.me).context("it does not know itself")?;
            ensure!(is_at(&own.addresses, ip), "it says {:?}", own.addresses);
            Ok(())
        })?;
    }
    let took = wait_until_linked(world, last)?;
    nothing_moved(&before.0, &places(&world.cluster.nodes[witness])?)?;
    ensure!(downs(world)? == before.1, "a node was taken for dead that had only moved");
    reports_move(world, nodes, witness)?;
    Ok(took)
}

/// Readdresses two nodes, each of which learns the other's address from the rest only; then
/// restarts both.
fn two(world: &mut World, nodes: &[usize]) -> Result<Duration> {
    let took = moved(world, nodes)?;
    for node in nodes {
        world.cluster.nodes[*node].kill()?;
    }
    for node in nodes {
        world.cluster.restart(*node)?;
    }
    wait_until_linked(world, Instant::now())?;
    world.say("and again after a restart of both");
    Ok(took)
}

/// Readdresses all nodes at once: none knows the address of any other.
fn at_once(world: &mut World, nodes: &[usize]) -> Result<Duration> {
    let mut last = Instant::now();
    for node in nodes {
        last = readdress(world, *node)?;
    }
    wait_until_linked(world, last)
}

/// Gives a node another address; returns the time at which it had it.
fn readdress(world: &mut World, node: usize) -> Result<Instant> {
    let net = world.net.as_mut().context("there is no network of its own")?;
    let ip = net.readdress(node)?;
    let at = Instant::now();
    world.cluster.nodes[node].moved(ip);
    world.say(&format!("{} is at {ip} now", world.name(node)));
    Ok(at)
}

/// Waits until all nodes are linked, and each knows every other's present address.
fn wait_until_linked(world: &mut World, since: Instant) -> Result<Duration> {
    let ips = world
        .others(&[])
        .into_iter()
        .map(|node| world.net()?.ip(node))
        .collect::<Result<Vec<_>>>()?;
    eventually("every node knows every address", || {
        for node in &world.cluster.nodes {
            for view in node.api().nodes()? {
                let other = world.cluster.by_id(&view.id)?;
                let told = is_at(&view.addresses, ips[other]) && view.addresses.len() == 1;
                ensure!(told, "{} knows {} at {:?}", node.name, view.name, view.addresses);
            }
        }
        Ok(())
    })?;
    // Until then links over old addresses may have been counted.
    world.cluster.settled()?;
    world.say(&format!(
        "all are together again, {} after the last change",
        readable(since.elapsed())
    ));
    Ok(since.elapsed())
}

/// Checks the events of the node and of the others, and that an invite has the new address.
fn reports_move(world: &World, moved: &[usize], witness: usize) -> Result<()> {
    for node in moved {
        let (name, ip) = (world.name(*node), world.net()?.ip(*node)?.to_string());
        let own = world.cluster.nodes[*node].api().events()?;
        ensure!(
            own.iter().any(|event| event.kind == "addresses-changed"),
            "{name} has no event about its own move"
        );
        let theirs = world.cluster.nodes[witness].api().events()?;
        let is_told = theirs
            .iter()
            .any(|event| event.kind == "node-moved" && event.node.as_deref() == Some(name));
        ensure!(is_told, "{} has no event about the move of {name}", world.name(witness));
        let line = world.cluster.shoal(*node, &["invite"])?;
        if !line.contains(&ip) {
            bail!(
                "the invite of {name}, which is at {ip}, leads to {}",
                line.split('@').nth(1).unwrap_or("nowhere")
            );
        }
    }
    Ok(())
}

/// How often nodes were taken for dead, summed over all nodes.
fn downs(world: &World) -> Result<u64> {
    let mut downs = 0;
    for node in &world.cluster.nodes {
        downs += node.api().status()?["counters"]["nodes_down"].as_u64().unwrap_or_default();
    }
    Ok(downs)
}

fn is_at(addresses: &[String], ip: IpAddr) -> bool {
    addresses.iter().any(|address| address.split('/').nth(2) == Some(&ip.to_string()))
}
