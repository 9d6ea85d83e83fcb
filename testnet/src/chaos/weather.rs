//! weather: packets are late and lost, all cores are busy, disks stall. No node has failed, so none
//! may be taken for dead.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::disk::Disk;
use super::net::Weather;
use super::outage::Clients;
use super::world::{EACH, World};
use super::{Findings, Setup, rest};
use crate::real::{Place, cleanup, readable};

/// A poor radio link: 20 ms of round trip, and one packet in a hundred lost each way.
const WEATHER: Weather = Weather { delay: Duration::from_millis(10), lost_per_mille: 10 };
/// Indices of nodes whose disks stall, in turn.
const SLOW_DISKS: [usize; 2] = [1, 2];
/// How long a disk stalls, as cheap flash does when it collects garbage.
const STALL: Duration = Duration::from_millis(700);
/// Time from one stall to the next.
const STALL_EVERY: Duration = Duration::from_secs(10);

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let disks = |places: &mut Vec<Place>| {
        let slow = |node: usize| {
            let disk = Disk::stalling()?;
            places[node].state = Some(disk.state());
            Ok(disk)
        };
        SLOW_DISKS.into_iter().map(slow).collect()
    };
    World::run_at(setup, "weather", disks, |world| {
        let before = Snapshot::of(world)?;
        let by = world.net.as_mut().context("there is no network of its own")?.weather(WEATHER)?;
        let busy = Busy::start()?;
        world.say(&format!(
            "{} ms late and {:.1} % lost on every packet out of a node, by {by}; {} busy processes",
            WEATHER.delay.as_millis(),
            f64::from(WEATHER.lost_per_mille) / 10.0,
            busy.0.len()
        ));
        let clients = Clients::of(world, EACH, &world.others(&[]))?;
        let stalls = watch_weather(world, setup.lasting, &before)?;
        let outage = clients.done()?;
        drop(busy);
        let after = Snapshot::of(world)?;
        rest::nothing_moved(&before.places, &after.places)?;
        let doubted = after.accusations - before.accusations;
        let what = format!(
            "{} of weather, {stalls} disk stalls of {}: no node taken for dead, nothing moved, \
             {doubted} doubts cleared; {outage}; gap: between answers",
            readable(setup.lasting),
            readable(STALL)
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}

/// Stalls disks and checks the nodes while the weather lasts. Returns the number of stalls.
fn watch_weather(world: &World, lasting: Duration, before: &Snapshot) -> Result<usize> {
    let end = Instant::now() + lasting;
    let mut stalls = 0;
    while Instant::now() < end {
        let next = Instant::now() + STALL_EVERY;
        if let Some(disk) = world.disks.get(stalls % SLOW_DISKS.len()) {
            disk.stall()?;
            std::thread::sleep(STALL);
            disk.resume()?;
            stalls += 1;
        }
        let now = Snapshot::of(world)?;
        now.no_new_downs(world, before)?;
        let left = end.saturating_duration_since(Instant::now());
        if stalls % 6 == 0 {
            world.say(&format!(
                "{} left, {} doubts so far",
                readable(left),
                now.accusations - before.accusations
            ));
        }
        std::thread::sleep(next.min(end).saturating_duration_since(Instant::now()));
    }
    Ok(stalls)
}

/// The nodes' counters, and the place of every replica.
pub(super) struct Snapshot {
    /// By node's name: how often it took another node for dead since its start.
    downs: BTreeMap<String, u64>,
    accusations: u64,
    places: rest::Places,
}

impl Snapshot {
    pub(super) fn of(world: &World) -> Result<Self> {
        let mut seen = Snapshot {
            downs: BTreeMap::new(),
            accusations: 0,
            places: rest::places(&world.cluster.nodes[0])?,
        };
        for node in &world.cluster.nodes {
            let counters = node.api().status()?["counters"].clone();
            let count = |name: &str| counters[name].as_u64().unwrap_or_default();
            seen.downs.insert(node.name.clone(), count("nodes_down"));
            seen.accusations += count("accusations");
        }
        Ok(seen)
    }

    pub(super) fn no_new_downs(&self, world: &World, before: &Snapshot) -> Result<()> {
        for node in &world.cluster.nodes {
            if self.downs[&node.name] > before.downs[&node.name] {
                let events = node.api().events()?;
                let down = events.iter().rfind(|event| event.kind == "node-down");
                let told = down.map(|event| {
                    format!(
                        "{}: {} ({})",
                        event.at,
                        event.message,
                        event.node.as_deref().unwrap_or("somebody")
                    )
                });
                bail!(
                    "a false failover: {} took a node for dead: {}",
                    node.name,
                    told.unwrap_or_default()
                );
            }
        }
        Ok(())
    }
}

/// As many processes as there are cores, each in an endless loop.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Result<Self> {
        let mut busy = Busy(Vec::new());
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            busy.0.push(cleanup::start(&mut command).context("cannot start a busy process")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(cleanup::end);
    }
}
