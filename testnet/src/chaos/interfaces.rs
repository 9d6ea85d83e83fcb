//! many-interfaces: devices full of container bridges, whose addresses no other device can reach.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::net::{Clutter, Net, SAME_BRIDGES};
use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::real::{eventually, readable};

/// Number of kills, of one node after another.
const KILLS: usize = 3;

/// Nodes must join over the one network that they share, and notice a kill by a refused dial. If a
/// node waited for a dial to an unreachable address, silence would decide, a second later.
pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let net = Net::cluttered(setup.nodes, Clutter::Bridges)?;
    World::run_in(
        setup,
        "many-interfaces",
        Some(net),
        |_| Ok(Vec::new()),
        |world| {
            world.say(&format!("they found one another past {} bridges each", SAME_BRIDGES + 1));
            let mut worst = Duration::ZERO;
            for turn in 0..KILLS {
                worst = worst.max(kill(world, turn)?);
            }
            let what = format!(
                "{KILLS} kills, each seen as a refused dial; gap: from the kill to all healthy \
                    elsewhere"
            );
            Ok(Findings { what, worst_gap: Some(worst) })
        },
    )
}

fn kill(world: &mut World, turn: usize) -> Result<Duration> {
    let victim = world.holder(turn, EACH, turn)?;
    let survivors = world.others(&[victim]);
    let id = world.cluster.nodes[victim].id().to_owned();
    let at = world.cluster.nodes[victim].kill()?;
    let gap = world.rescued(survivors[0], &[victim])?.saturating_duration_since(at);
    for survivor in survivors {
        let node = &world.cluster.nodes[survivor];
        let reason =
            eventually(&format!("{} says why {} is down", node.name, world.name(victim)), || {
                let view = node
                    .api()
                    .nodes()?
                    .into_iter()
                    .find(|view| view.id == id)
                    .context("it is a member")?;
                ensure!(view.state == "down", "it is {}", view.state);
                view.reason.context("a node that is down has a reason")
            })?;
        ensure!(
            reason.contains("nobody listens"),
            "{} did not see the kill as a refused dial: {reason}",
            world.name(survivor)
        );
    }
    world.say(&format!(
        "{} killed, all of it healthy elsewhere after {}",
        world.name(victim),
        readable(gap)
    ));
    world.cluster.restart(victim)?;
    world.rest()?;
    Ok(gap)
}
