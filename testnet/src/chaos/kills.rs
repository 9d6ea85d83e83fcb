//! kill-loop: kill -9 of a node that serves, again and again.

use std::time::Duration;

use anyhow::Result;

use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::real::readable;

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "kill-loop", |world| {
        let mut worst = Duration::ZERO;
        let mut moved = 0;
        for turn in 0..setup.kills {
            let (gap, replicas) = kill(world, turn, setup.kills)?;
            worst = worst.max(gap);
            moved += replicas;
        }
        let what = format!(
            "{} kills, {moved} replicas came up elsewhere; gap: from the kill to all of them",
            setup.kills
        );
        Ok(Findings { what, worst_gap: Some(worst) })
    })
}

/// A kill and the restart after it. Returns the time until all the node's replicas were healthy
/// elsewhere, and their number.
fn kill(world: &mut World, turn: u32, of: u32) -> Result<(Duration, usize)> {
    let turn_index = turn as usize;
    let size = world.cluster.nodes.len();
    // Places and observing nodes take turns; the holder of the place is killed.
    let victim = world.holder(turn_index % size, EACH, turn_index % size)?;
    let survivor = (victim + 1 + turn_index % (size - 1)) % size;
    let lost = world.held_by(victim)?;
    let at = world.cluster.nodes[victim].kill()?;
    let gap = world.rescued(survivor, &[victim])?.saturating_duration_since(at);
    world.say(&format!(
        "{:>3}/{of}  {} killed, {} healthy elsewhere after {}, as {} saw it",
        turn + 1,
        world.name(victim),
        lost.join(" "),
        readable(gap),
        world.name(survivor)
    ));
    world.cluster.restart(victim)?;
    world.cluster.settled()?;
    for name in world.desired.keys() {
        world.cluster.healthy(survivor, name)?;
    }
    Ok((gap, lost.len()))
}
