//! pause: a node hangs (SIGSTOP) for a minute. Its links stay open and no dial is refused: there is
//! only silence.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::outage::Clients;
use super::world::{ONE, World};
use super::{Findings, Setup};
use crate::real::readable;

/// Far beyond every time-out of the protocol, so that the node wakes after others took over.
const HANGS_FOR: Duration = Duration::from_secs(60);

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "pause", |world| {
        let victim = world.holder(0, ONE, 0)?;
        let survivors = world.others(&[victim]);
        let clients = Clients::of(world, ONE, &survivors)?;
        let lost = world.held_by(victim)?;
        let at = world.cluster.nodes[victim].pause()?;
        world.say(&format!("{} hangs; it holds {}", world.name(victim), lost.join(" ")));
        let healed = world.rescued(survivors[0], &[victim])?;
        world.say(&format!("all of it is healthy elsewhere after {}", readable(healed - at)));
        let outage = clients.done()?;
        std::thread::sleep((at + HANGS_FOR).saturating_duration_since(Instant::now()));
        world.cluster.nodes[victim].resume()?;
        world.say(&format!("{} goes on, after {}", world.name(victim), readable(at.elapsed())));
        let what = format!(
            "{} replicas elsewhere after {}; {outage}; gap: between answers at survivors",
            lost.len(),
            readable(healed - at)
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}
