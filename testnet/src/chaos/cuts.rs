//! cut-cable and partition: the network fails, the nodes do not.

use anyhow::{Result, ensure};

use super::outage::Clients;
use super::world::{EACH, ONE, PAIR, World};
use super::{Findings, Setup};
use crate::real::readable;

/// The holder of a workload's only replica is cut off, others take over, it comes back.
pub(super) fn cable(setup: &Setup) -> Result<Findings> {
    World::run(setup, "cut-cable", |world| {
        let victim = world.holder(0, ONE, 0)?;
        let survivors = world.others(&[victim]);
        let clients = Clients::of(world, ONE, &survivors)?;
        let lost = world.held_by(victim)?;
        let at = std::time::Instant::now();
        world.net()?.cut(victim)?;
        world.say(&format!(
            "the cable of {} is cut; it holds {}",
            world.name(victim),
            lost.join(" ")
        ));
        let healed = world.rescued(survivors[0], &[victim])?;
        world.say(&format!("all of it is healthy elsewhere after {}", readable(healed - at)));
        let outage = clients.done()?;
        world.net()?.mend(victim)?;
        world.say("the cable is in again");
        let what = format!(
            "{} replicas elsewhere after {}; {outage}; gap: between answers at survivors",
            lost.len(),
            readable(healed - at)
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}

/// Two halves go on alone, each taking over the other's replicas and accepting changes; then they
/// are joined again.
pub(super) fn partition(setup: &Setup) -> Result<Findings> {
    World::run(setup, "partition", |world| {
        let size = world.cluster.nodes.len();
        let (left, right): (Vec<usize>, Vec<usize>) = (0..size).partition(|node| *node < size / 2);
        let clients = Clients::of(world, EACH, &left)?;
        let at = std::time::Instant::now();
        world.net()?.split(&right)?;
        world.say(&format!("split: {} and {} nodes", left.len(), right.len()));
        for (side, other, name) in [(&left, &right, "left"), (&right, &left, "right")] {
            let healed = world.rescued(side[0], other)?;
            world.say(&format!("the {name} half runs everything after {}", readable(healed - at)));
        }
        // Changes that the other half does not get: new workloads on both sides, more replicas of
        // one, the removal of another.
        let (here, there) = (left[0], right[0]);
        world.publish(here, "left", 2)?;
        world.publish(there, "right", 3)?;
        world.cluster.shoal(there, &["scale", &format!("{EACH}={}", size + 1)])?;
        world.desired.insert(EACH.to_owned(), u32::try_from(size)? + 1);
        world.cluster.shoal(here, &["rm", PAIR])?;
        world.desired.remove(PAIR);
        world.say("both halves have taken changes");
        ensure!(
            world.cluster.nodes[there].api().workload("left").is_err(),
            "the halves are not apart"
        );
        let outage = clients.done()?;
        world.net()?.join()?;
        let healed = std::time::Instant::now();
        world.say("the halves are joined");
        world.rest()?;
        let what = format!(
            "halves of {} and {}, {} after the heal all agreed; gap: between answers at the left \
                half",
            left.len(),
            right.len(),
            readable(healed.elapsed())
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}
