//! boot-before-network: the devices' networks come up long after their daemons. No node announces
//! an unreachable address, and all link without a restart when the network is there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::world::World;
use super::{Findings, Setup};
use crate::real::{eventually, readable};

/// How long they stay without a network: longer than a node waits for members that it has not
/// heard.
const DARK: Duration = Duration::from_secs(12);

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run_anywhere(setup, "boot-before-network", |world| {
        let nodes = world.others(&[]);
        for node in &nodes {
            world.cluster.nodes[*node].kill()?;
        }
        for node in &nodes {
            world.net()?.shut(*node)?;
            world.cluster.nodes[*node].start(&[])?;
        }
        for node in &nodes {
            world.cluster.nodes[*node].ready()?;
        }
        world.say("all started with nothing but loopback");
        for node in &nodes {
            gives_no_address(world, *node)?;
        }
        std::thread::sleep(DARK);
        for node in &nodes {
            world.net()?.open(*node)?;
        }
        let at = Instant::now();
        world.say("the network is there");
        world.cluster.settled()?;
        let took = at.elapsed();
        for node in &nodes {
            gives_its_address(world, *node)?;
        }
        let what = format!(
            "all {} together {} after their network came up; gap: the same",
            nodes.len(),
            readable(took)
        );
        Ok(Findings { what, worst_gap: Some(took) })
    })
}

/// Checks that a node without a network warns, announces no address, and makes no invite.
fn gives_no_address(world: &World, node: usize) -> Result<()> {
    let (name, api) = (world.name(node), world.cluster.nodes[node].api());
    let own = api.nodes()?.into_iter().find(|view| view.me);
    let told = own.map(|own| own.addresses).unwrap_or_default();
    ensure!(told.is_empty(), "{name} has no network and announces {told:?}");
    let warnings = api.status()?["warnings"].to_string();
    ensure!(
        warnings.contains("no network interface"),
        "{name} has no network and warns of {warnings}"
    );
    ensure!(
        world.cluster.shoal(node, &["invite"]).is_err(),
        "{name} prints an invite that leads nowhere"
    );
    Ok(())
}

fn gives_its_address(world: &World, node: usize) -> Result<()> {
    let (name, ip) = (world.name(node), world.net()?.ip(node)?.to_string());
    eventually(&format!("{name} tells where it is"), || {
        let line = world.cluster.shoal(node, &["invite"])?;
        ensure!(line.contains(&ip), "it prints {line}");
        let warnings = world.cluster.nodes[node].api().status()?["warnings"].to_string();
        ensure!(!warnings.contains("no network interface"), "it warns of {warnings}");
        Ok(())
    })
}
