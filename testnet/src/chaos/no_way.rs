//! no-way: two nodes that cannot reach one another, as behind two routers that refuse connections,
//! while all others reach both.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::outage::Clients;
use super::world::{ONE, World};
use super::{Findings, Setup};
use crate::real::traffic::{Sample, ask_once};
use crate::real::{eventually, readable};

/// A workload with two replicas for each node, so that auctions must cross the gap.
const CROSS: &str = "cross";

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "no-way", |world| {
        // The only replica of one workload is on one side, the client on the other.
        let far = world.holder(0, ONE, 0)?;
        let near = *world.others(&[far]).last().context("a cluster has two nodes")?;
        let clients = Clients::of(world, ONE, &[near])?;
        let at = Instant::now();
        world.net()?.block(near, far)?;
        world.say(&format!(
            "{} and {} cannot reach one another any more",
            world.name(near),
            world.name(far)
        ));
        over_a_hop(world, near, far)?;
        let answered = at.elapsed();
        world.say(&format!("requests go over a common member after {}", readable(answered)));
        let outage = clients.done()?;
        warned(world, near, far, true)?;
        let told = at.elapsed();
        world.say(&format!("every node warns of it after {}", readable(told)));
        // Such a router is usually there from the start, so the node behind it must manage without
        // ever having had the link.
        world.cluster.nodes[far].kill()?;
        world.cluster.restart(far)?;
        world.rest_without(near, far)?;
        let size = u32::try_from(world.cluster.nodes.len())?;
        world.publish(near, CROSS, size * 2)?;
        world.rest_without(near, far)?;
        world.say(&format!(
            "{} was restarted, and {} replicas were placed through {}",
            world.name(far),
            size * 2,
            world.name(near)
        ));
        for node in &world.cluster.nodes {
            let events = node.api().events()?;
            let down = events.iter().find(|event| {
                event.kind == "node-down" && event.node.as_deref() != Some(world.name(far))
            });
            ensure!(down.is_none(), "{} called a node down: {down:?}", node.name);
        }
        over_a_hop(world, near, world.holder(0, ONE, 0)?)?;
        world.net()?.unblock(near, far)?;
        let met = Instant::now();
        warned(world, near, far, false)?;
        let what = format!(
            "warned of after {}, over a common member after {}, {outage}; forgotten {} after \
                there was a way; gap: between answers at one of the two",
            readable(told),
            readable(answered),
            readable(met.elapsed())
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}

/// Waits until a request at `near` is served by `far`.
fn over_a_hop(world: &World, near: usize, far: usize) -> Result<Sample> {
    let (asked, serves) = (world.cluster.nodes[near].http()?, world.name(far).to_owned());
    eventually(&format!("a request at {} is served by {serves}", world.name(near)), || {
        let sample = ask_once(asked, &format!("{ONE}.localhost"));
        let is_served = sample.good() && sample.served_by.as_deref() == Some(serves.as_str());
        ensure!(is_served, "{:?} by {:?}: {}", sample.answer, sample.served_by, sample.text.trim());
        Ok(sample)
    })
}

/// Waits until every node warns of the pair, or with `yes` false, until none does.
fn warned(world: &World, near: usize, far: usize, yes: bool) -> Result<()> {
    let mut names = [world.name(near), world.name(far)];
    names.sort_unstable();
    let warning = format!("{} and {} have no way to one another", names[0], names[1]);
    for node in &world.cluster.nodes {
        eventually(&format!("{} warns of the pair: {yes}", node.name), || {
            let status = node.api().status()?;
            let warnings: Vec<&str> = status["warnings"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|one| one.as_str())
                .collect();
            let found = warnings.iter().filter(|one| one.starts_with(&warning)).count();
            ensure!(found == usize::from(yes), "its warnings are {warnings:?}");
            Ok(())
        })?;
    }
    Ok(())
}
