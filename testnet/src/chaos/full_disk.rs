//! full-disk: a node's disk is full. The node says so, refuses changes that it could not keep, and
//! goes on serving its replicas.

use anyhow::{Context, Result, bail, ensure};

use super::disk::Disk;
use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::kill::HELLO;
use crate::real::traffic::ask_once;
use crate::real::{eventually, readable};

/// Index of the node with the full disk; the first node publishes.
const FULL: usize = 1;
/// A workload that is changed until the disk is full.
const NOTE: &str = "note";

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
        world.publish(0, "news", 1)?;
        // A full disk may still have room in a file's last block, so changes are made until the
        // node cannot write one.
        let mut written = 0;
        let status = eventually("a read-only node", || {
            let status = world.cluster.nodes[FULL].api().status()?;
            if status["read_only"].is_null() {
                written += 1;
                note(world, written)?;
                bail!("{name} says nothing of its full disk, {written} changes after");
            }
            Ok(status)
        })?;
        if written > 0 {
            world.cluster.shoal(0, &["rm", NOTE])?;
        }
        let said = readable(at.elapsed());
        world.say(&format!("{name} says, {said} after a change: {}", status["read_only"]));
        ensure!(
            !status["warnings"].as_array().is_none_or(Vec::is_empty),
            "{name} gives no warning"
        );

        refuses_a_publish(world)?;
        let desired = refuses_a_scale(world)?;
        ensure!(
            world.held_by(FULL)? == held,
            "{name} let go of {held:?}, and holds {:?}",
            world.held_by(FULL)?
        );
        let sample = ask_once(world.cluster.nodes[FULL].http()?, &format!("{EACH}.localhost"));
        let itself = sample.served_by.as_deref() == Some(&name);
        ensure!(
            sample.good() && itself,
            "{name} does not serve: {:?} by {:?}",
            sample.answer,
            sample.served_by
        );
        world.say(&format!("{name} refuses a publish and serves {}", held.join(" ")));

        let victim = world.others(&[0, FULL])[0];
        let killed = world.cluster.nodes[victim].kill()?;
        let gap = world.rescued(0, &[victim])? - killed;
        world.say(&format!(
            "{} killed, all healthy elsewhere after {}",
            world.name(victim),
            readable(gap)
        ));
        world.cluster.restart(victim)?;

        world.disks[0].free()?;
        let at = std::time::Instant::now();
        eventually("a node that takes writes again", || {
            let status = world.cluster.nodes[FULL].api().status()?;
            ensure!(status["read_only"].is_null(), "{name} still says: {}", status["read_only"]);
            Ok(())
        })?;
        world.say(&format!(
            "the disk is free again, {name} found out by itself after {}",
            readable(at.elapsed())
        ));
        takes_a_change(world, desired)?;
        let what = format!(
            "it said so {said} after a change, and went on serving; gap: another node killed \
                meanwhile"
        );
        Ok(Findings { what, worst_gap: Some(gap) })
    })
}

/// Makes a change of many bytes, of a workload without replicas.
fn note(world: &World, number: usize) -> Result<()> {
    let guest = world.cluster.guest(HELLO)?;
    let guest = guest.to_str().context("the component's path is not text")?;
    let bytes = format!("NOTE={number}-{}", "x".repeat(16 << 10));
    world
        .cluster
        .shoal(0, &["run", guest, "--name", NOTE, "--replicas", "0", "--env", &bytes])
        .map(drop)
}

/// Checks that a change of a workload is refused. Returns the number of its desired replicas.
fn refuses_a_scale(world: &World) -> Result<u64> {
    let before = desired(world)?;
    match world.cluster.shoal(FULL, &["scale", &format!("{EACH}={}", before - 1), "--no-wait"]) {
        Ok(_) => bail!("{} took a change that it cannot keep", world.name(FULL)),
        Err(error) => {
            ensure!(
                format!("{error:#}").contains("takes no writes"),
                "the refusal does not say why: {error:#}"
            )
        }
    }
    Ok(before)
}

/// The number of desired replicas of a workload, as the first node sees it.
fn desired(world: &World) -> Result<u64> {
    Ok(u64::from(world.cluster.nodes[0].api().workload(EACH)?.desired))
}

/// Checks that the refused change was not made anywhere, and that the same node accepts the next
/// ones.
fn takes_a_change(world: &World, before: u64) -> Result<()> {
    let now = desired(world)?;
    ensure!(now == before, "{now} of {EACH} are desired, {before} were before the refusal");
    for replicas in [before - 1, before] {
        world.cluster.shoal(FULL, &["scale", &format!("{EACH}={replicas}"), "--no-wait"])?;
        eventually("the change at another node", || {
            let now = desired(world)?;
            ensure!(now == replicas, "{now} of {EACH} are desired, and {replicas} should be");
            Ok(())
        })?;
    }
    Ok(())
}

fn refuses_a_publish(world: &World) -> Result<()> {
    let guest = world.cluster.guest(HELLO)?;
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
