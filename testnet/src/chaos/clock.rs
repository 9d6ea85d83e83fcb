//! clock: nodes whose boot clock, which the core uses, is a month ahead or has just begun, in time
//! namespaces; and a node whose clock begins again. The wall clock cannot be changed for a single
//! process, so it is left alone.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::net::missing_of;
use super::world::World;
use super::{Findings, Setup};
use crate::real::resources::quietly;
use crate::real::{Place, readable};

/// The node whose device has been up for a month.
const OLD: usize = 1;
/// The node whose device was just booted.
const YOUNG: usize = 2;
const MONTH: i64 = 30 * 24 * 60 * 60;

/// The reason why it cannot be run here.
pub(super) fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("time namespaces need root: run it as root".to_owned());
    }
    let missing = missing_of(&[("unshare", "util-linux")]);
    let refused = || quietly(Command::new("unshare").args(["--time", "true"])).err();
    missing
        .or_else(|| refused().map(|error| format!("this kernel has no time namespaces: {error:#}")))
}

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let shifted = |places: &mut Vec<Place>| {
        shift(&mut places[OLD], MONTH, MONTH);
        begin_now(&mut places[YOUNG]);
        Ok(Vec::new())
    };
    World::run_at(setup, "clock", shifted, |world| {
        let names = (world.name(OLD).to_owned(), world.name(YOUNG).to_owned());
        world.say(&format!("{} has been up for a month, {} was just booted", names.0, names.1));
        let mut worst = std::time::Duration::ZERO;
        for victim in [OLD, YOUNG, 0] {
            let held = world.held_by(victim)?;
            ensure!(!held.is_empty(), "{} holds nothing", world.name(victim));
            // Each node's death is seen by a node with another clock.
            let survivor = if victim == OLD { YOUNG } else { OLD };
            let at = world.cluster.nodes[victim].kill()?;
            let gap = world.rescued(survivor, &[victim])? - at;
            let (name, seen) = (world.name(victim), world.name(survivor));
            world.say(&format!(
                "{name} killed, {} healthy elsewhere after {}, as {seen} saw it",
                held.join(" "),
                readable(gap)
            ));
            worst = worst.max(gap);
            if victim == OLD {
                // Booted again: its clock is far behind the times in its saved state.
                let place = &mut world.cluster.nodes[OLD].place;
                unshift(place);
                begin_now(place);
            }
            let restarted = Instant::now();
            world.cluster.restart(victim)?;
            world.rest()?;
            world.say(&format!(
                "{} is back, all at rest after {}",
                world.name(victim),
                readable(restarted.elapsed())
            ));
        }
        let what = "boot clocks a month ahead, begun just now, and begun again; the wall clock \
                    cannot be moved for one process; gap: from a kill to all healthy elsewhere";
        Ok(Findings { what: what.to_owned(), worst_gap: Some(worst) })
    })
}

/// Arguments of `unshare` that [`shift`] adds, with the program.
const ARGUMENTS: usize = 7;

fn shift(place: &mut Place, boot: i64, monotonic: i64) {
    let (boot, monotonic) = (boot.to_string(), monotonic.to_string());
    let words = ["unshare", "--time", "--boottime", &boot, "--monotonic", &monotonic, "--"];
    place.through.extend(words.map(str::to_owned));
}

fn unshift(place: &mut Place) {
    place.through.truncate(place.through.len().saturating_sub(ARGUMENTS));
}

/// The clocks of a device that was booted a second ago.
fn begin_now(place: &mut Place) {
    let since = |clock| 1 - clock_gettime(clock).tv_sec;
    shift(place, since(ClockId::Boottime), since(ClockId::Monotonic));
}
