//! full-disk: one node's disk takes no more. It says so, refuses what it could not keep, and goes on with what it has.

use anyhow::{Context, Result, bail, ensure};

use super::disk::Disk;
use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::real::traffic::ask_once;
use crate::real::{eventually, lasts};

/// Not the first: that one publishes.
const FULL: usize = 1;

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let small = |places: &mut Vec<crate::real::Place>| {
        let disk = Disk::small()?;
        places[FULL].state = Some(disk.state());
        Ok(vec![disk])
    };
    World::run_at(setup, "full-disk", small, |world| {
        let name = world.name(FULL).to_owned();
        let held = world.held_by(FULL)?;
        world.disks[0].fill()?;
        let at = std::time::Instant::now();
        // Something that it would have to write down.
        world.publish(0, "news", 1)?;
        let status = eventually("a read-only node", || {
            let status = world.cluster.nodes[FULL].api().status()?;
            ensure!(!status["read_only"].is_null(), "{name} says nothing of its full disk");
            Ok(status)
        })?;
        let said = lasts(at.elapsed());
        world.say(&format!("{name} says, {said} after a change: {}", status["read_only"]));
        ensure!(!status["warnings"].as_array().is_none_or(Vec::is_empty), "{name} warns nobody");

        refuses_a_publish(world)?;
        ensure!(world.held_by(FULL)? == held, "{name} let go of {held:?}, and holds {:?}", world.held_by(FULL)?);
        let sample = ask_once(world.cluster.nodes[FULL].http()?, &format!("{EACH}.localhost"));
        let itself = sample.served_by.as_deref() == Some(&name);
        ensure!(sample.good() && itself, "{name} does not serve: {:?} by {:?}", sample.answer, sample.served_by);
        world.say(&format!("{name} refuses a publish and serves {}", held.join(" ")));

        let victim = world.others(&[0, FULL])[0];
        let killed = world.cluster.nodes[victim].kill()?;
        let gap = world.rescued(0, &[victim])? - killed;
        world.say(&format!("{} killed, all healthy elsewhere after {}", world.name(victim), lasts(gap)));
        world.cluster.restart(victim)?;

        world.disks[0].free()?;
        world.cluster.nodes[FULL].stop()?;
        world.cluster.restart(FULL)?;
        world.say(&format!("the disk is free again, {name} was restarted"));
        let what = format!("it said so {said} after a change, and went on serving; gap: another node killed meanwhile");
        Ok(Findings { what, worst_gap: Some(gap) })
    })
}

fn refuses_a_publish(world: &World) -> Result<()> {
    let guest = world.cluster.guest(crate::kill::HELLO)?;
    let guest = guest.to_str().context("the component's path is not text")?;
    match world.cluster.shoal(FULL, &["run", guest, "--name", "refused"]) {
        Ok(_) => bail!("{} took a publish that it cannot keep", world.name(FULL)),
        Err(error) => {
            let told = format!("{error:#}");
            ensure!(told.contains("takes no writes"), "the refusal does not say why: {told}");
            Ok(())
        }
    }
}
