//! Draws actions from the seed.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::sim::device::FailureMode;
use crate::sim::engine::{EngineState, Stage};
use crate::sim::liar::Lie;
use crate::sim::network::{Gossip, Weather, below};
use crate::sim::world::World;

use super::{ClockFault, EngineFault, KindWord, SimAction, Target};

/// Workload names in a random history.
const NAMES: u64 = 4;
/// Devices in a random history at most, joined devices and clones included.
const MOST: usize = 12;

/// Several actions at once: devices join, leave, lose power, die or start together.
pub fn wave(world: &mut World) -> Vec<SimAction> {
    let mut running = world.running();
    let contained = contained(world, &running);
    let held = contained.and_then(|device| Some((device, container_of(world, device)?)));
    let other = running.iter().copied().find(|it| Some(*it) != contained).unwrap_or(running[0]);
    let room = MOST.saturating_sub(world.devices.len()) as u64;
    // At least one device keeps running.
    running.swap_remove(below(&mut world.rng, running.len() as u64) as usize);
    running.retain(|_| below(&mut world.rng, 3) > 0);
    match below(&mut world.rng, 10) {
        0 if room > 2 => vec![SimAction::Join(2 + below(&mut world.rng, room - 2) as u32)],
        1 => {
            let back_in = Duration::from_secs(below(&mut world.rng, 40));
            each(running, |target| SimAction::Leave(target, back_in))
        }
        2 => each(running, SimAction::Unplug),
        3 => each(running, |target| SimAction::Kill { target, after: 0 }),
        // A daemon finds containers that are to be replaced at once.
        4 if contained.is_some() => {
            let target = Target::Node(contained.unwrap_or_default());
            let rng = &mut world.rng;
            let publish = SimAction::Publish {
                name: format!("w{}", below(rng, NAMES)),
                replicas: 1 + below(rng, 4) as u32,
                is_container: true,
                version: below(rng, 3) as u32,
                via: target.clone(),
            };
            vec![SimAction::Restart(target), publish]
        }
        // A daemon ends while it stops containers whose claims it has released already.
        5..=6 if held.is_some() => {
            let (device, name) = held.unwrap_or_default();
            let (target, via) = (Target::Node(device), Target::Node(other));
            let kill = SimAction::Kill { target, after: 1 + below(&mut world.rng, 12) as u32 };
            vec![kill, SimAction::Remove { name, via }]
        }
        // The old version serves for as long as its replacement does not come.
        7..=8 if held.is_some() => {
            let (device, name) = held.unwrap_or_default();
            let target = Target::Node(device);
            let (replicas, version) =
                (2 + below(&mut world.rng, 3) as u32, below(&mut world.rng, 3) as u32);
            let via = Target::Node(other);
            let publish = SimAction::Publish { name, replicas, is_container: true, version, via };
            vec![SimAction::Runtime(target, FailureMode::Hangs), publish]
        }
        _ => each(stopped(world), SimAction::Start),
    }
}

fn each(devices: Vec<usize>, action: impl Fn(Target) -> SimAction) -> Vec<SimAction> {
    devices.into_iter().map(|device| action(Target::Node(device))).collect()
}

/// Pause before the next action: mostly some seconds, sometimes minutes, so that a node's view of
/// its peers becomes outdated.
pub fn gap(rng: &mut ChaCha8Rng) -> Duration {
    match below(rng, 30) {
        0 => Duration::from_secs(30 + below(rng, 210)),
        1..=3 => Duration::ZERO,
        _ => millis(rng, 4_000),
    }
}

fn stopped(world: &World) -> Vec<usize> {
    let may_start = |device: &usize| {
        let it = &world.devices[*device];
        it.node.is_none() && !it.is_clone && !it.is_gone && !it.is_revoked
    };
    (0..world.devices.len()).filter(may_start).collect()
}

/// Draws an action that makes sense in this world now. The weights follow how often an action of
/// each kind finds a fault; users act most often.
pub fn draw(world: &mut World) -> SimAction {
    let running = world.running();
    let stopped = stopped(world);
    let (many, count) = (running.len() > 1, world.devices.len());
    let index = running[below(&mut world.rng, running.len() as u64) as usize];
    let (one, is_last_member) = (Target::Node(index), world.is_last_member(index));
    let full = running.iter().copied().find(|device| world.devices[*device].disk.full);
    let is_ill = |device: &&usize| world.devices[**device].engine.state != EngineState::Works;
    let ill_engine = running.iter().find(is_ill).copied();
    // Where there are none, there is not much to see.
    let contained = Target::Node(contained(world, &running).unwrap_or(index));
    // A daemon that ends now leaves containers without a claim.
    let leaving = Target::Node(stopping(world, &running).unwrap_or(index));
    let (may_lie, may_clone) = (may_lie(world, index), world.devices[index].remains());
    let liar = world.liar().filter(|liar| world.has_others(*liar));
    let rng = &mut world.rng;
    let name = format!("w{}", below(rng, NAMES));
    match below(rng, 60) {
        0..=6 => SimAction::Publish {
            name,
            replicas: 1 + below(rng, 4) as u32,
            is_container: below(rng, 2) == 0,
            version: below(rng, 3) as u32,
            via: one,
        },
        7..=8 => SimAction::Remove { name, via: one },
        9..=10 if many => SimAction::Kill { target: one, after: 0 },
        11..=12 if many => SimAction::Kill { target: one, after: 1 + below(rng, 30) as u32 },
        13 if many => SimAction::Unplug(one),
        14 if many => SimAction::Leave(one, Duration::from_secs(below(rng, 40))),
        15 if many && count < MOST && !is_last_member => SimAction::Lose(one),
        16 => SimAction::Pause(one, millis(rng, 90_000)),
        17 => SimAction::Suspend(one, millis(rng, 180_000)),
        18 => SimAction::Slow(one, Duration::from_micros(below(rng, 20_000))),
        19..=20 => SimAction::Stall(one, millis(rng, 10_000)),
        21 if many => SimAction::Fill(one),
        22 => SimAction::Clock(one, clock(rng)),
        23 if count < MOST && may_clone => SimAction::Clone(one),
        24 => SimAction::Runtime(
            one,
            [FailureMode::Works, FailureMode::Fails, FailureMode::Dies, FailureMode::Hangs]
                [below(rng, 4) as usize],
        ),
        25 => SimAction::Weather(None, weather(rng)),
        26 => SimAction::Weather(Some(one), weather(rng)),
        27 if many => SimAction::Cut { one, other: another(world), both: true },
        28 if many => SimAction::Cut { one, other: another(world), both: false },
        29 if many => SimAction::Isolate(one),
        30 if many => partition(world),
        31 if many => {
            let (every, lasting) = (millis(rng, 5_000), millis(rng, 40_000));
            SimAction::Flap { one, other: another(world), every, lasting }
        }
        32..=33 => SimAction::Mend,
        34 => SimAction::Gossip(match below(rng, 3) {
            0 => Gossip::Fair,
            1 => Gossip::Late(below(rng, 2_000_000)),
            _ => Gossip::Lost,
        }),
        35 => SimAction::Upgrade(one),
        36 if count + 2 < MOST => SimAction::Join(1 + below(rng, 2) as u32),
        37 => SimAction::Rule { name, value: below(rng, 5) as u32, via: one },
        38 if full.is_some() => SimAction::Free(Target::Node(full.unwrap_or_default())),
        39 if below(rng, 2) == 0 => SimAction::NotLive(one),
        39 => SimAction::Unready(one, millis(rng, 60_000)),
        40..=42 => SimAction::Engine(contained, EngineFault::WORDS[below(rng, 6) as usize].1),
        43..=44 => match ill_engine {
            Some(device) => SimAction::Engine(Target::Node(device), EngineFault::Works),
            None => SimAction::Crash(contained),
        },
        45 => SimAction::Crash(contained),
        46 => SimAction::Restart(one),
        47..=48 => SimAction::Restart(contained),
        49 if many => SimAction::Kill { target: contained, after: below(rng, 3) as u32 },
        50 if many => SimAction::Kill { target: leaving, after: 0 },
        // One that lies lies soon again, in another way.
        51..=52 if liar.is_some() => lie(rng, liar.unwrap_or_default()),
        51 if may_lie => lie(rng, index),
        53 if liar.is_some() => SimAction::Revoke(Target::Node(liar.unwrap_or_default())),
        54 if many => SimAction::Drain(one),
        55 if many => SimAction::Cordon(one),
        56 => SimAction::Uncordon(one),
        57..=58 => {
            let kind = KindWord::ALL[below(rng, 5) as usize];
            let name = format!("{}0", kind.as_str());
            SimAction::PublishKind { name, kind, version: below(rng, 3) as u32, via: one }
        }
        59 => {
            let kind = KindWord::ALL[below(rng, 5) as usize];
            SimAction::Remove { name: format!("{}0", kind.as_str()), via: one }
        }
        _ => match stopped.first() {
            Some(device) => SimAction::Start(Target::Node(*device)),
            None => SimAction::Mend,
        },
    }
}

fn lie(rng: &mut ChaCha8Rng, device: usize) -> SimAction {
    let (_, lie) = Lie::WORDS[below(rng, Lie::WORDS.len() as u64) as usize];
    SimAction::Lie(Target::Node(device), lie)
}

/// Whether a device may be the one that lies: there are enough others, and it has its key alone.
fn may_lie(world: &World, device: usize) -> bool {
    world.devices.len() >= 4
        && world.liar().is_none()
        && world.has_others(device)
        && world.devices[device].is_member
        && !world.is_cloned(device)
}

/// The name of a workload whose container a device runs.
fn container_of(world: &World, device: usize) -> Option<String> {
    let it = &world.devices[device];
    let claims = world.node(device)?.own_claims();
    let mut alive = claims
        .filter(|claim| it.engine.alive_of(it.id, (claim.replica, claim.generation)).is_some());
    alive.next().map(|claim| claim.name.to_string())
}

/// A device that stops a container now.
fn stopping(world: &World, running: &[usize]) -> Option<usize> {
    let is_stopping = |device: &&usize| {
        let mut lives = world.devices[**device].adapter.lives.values();
        lives.any(|life| life.stage == Stage::Stopping)
    };
    running.iter().find(is_stopping).copied()
}

/// A device with containers that run.
fn contained(world: &World, running: &[usize]) -> Option<usize> {
    let has = |device: &&usize| {
        let it = &world.devices[**device];
        it.engine.alive(it.id).next().is_some()
    };
    running.iter().find(has).copied()
}

fn another(world: &mut World) -> Target {
    Target::Node(below(&mut world.rng, world.devices.len() as u64) as usize)
}

/// A named weather, or a random one.
fn weather(rng: &mut ChaCha8Rng) -> Weather {
    if let Some((_, named)) = Weather::NAMED.get(below(rng, 6) as usize) {
        return *named;
    }
    Weather {
        delay: below(rng, 300_000),
        jitter: below(rng, 100_000),
        loss: below(rng, 50) as u32,
        repeat: 200_000 + below(rng, 800_000),
        duplicates: below(rng, 300) as u32,
        stray: below(rng, 100) as u32,
    }
}

fn millis(rng: &mut ChaCha8Rng, most: u64) -> Duration {
    Duration::from_millis(1 + below(rng, most))
}

fn clock(rng: &mut ChaCha8Rng) -> ClockFault {
    /// Ten years, in milliseconds.
    const DECADE: i64 = 315_360_000_000;
    match below(rng, 4) {
        0 => ClockFault::Forgets,
        1 => ClockFault::Pace(950 + below(rng, 100)),
        2 => ClockFault::Jump(below(rng, 2 * DECADE as u64) as i64 - DECADE),
        _ => ClockFault::Jump(below(rng, 120_000) as i64 - 60_000),
    }
}

fn partition(world: &mut World) -> SimAction {
    let mut groups = vec![Vec::new(); 2 + below(&mut world.rng, 2) as usize];
    for device in 0..world.devices.len() {
        let index = below(&mut world.rng, groups.len() as u64) as usize;
        groups[index].push(device);
    }
    groups.retain(|group| !group.is_empty());
    if groups.len() < 2 { SimAction::Mend } else { SimAction::Partition(groups) }
}
