//! Actions: what users do to the world, and the faults that happen to it. Random histories draw
//! them, scenarios list them; both use the same text form.

mod draw;
mod parse;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::time::Duration;

use super::device::FailureMode;
use super::liar::Lie;
use super::network::{Gossip, Weather};

pub use draw::{draw, gap, wave};
pub use parse::known;
pub use words::{NotUnderstood, Words, in_words};

#[derive(Clone, PartialEq, Debug)]
pub enum SimAction {
    /// A user publishes a workload of components or of containers; `version` selects its artifact.
    Publish { name: String, replicas: u32, is_container: bool, version: u32, via: Target },
    /// A user publishes a workload of components whose replicas are not counted, or end.
    PublishKind { name: String, kind: KindWord, version: u32, via: Target },
    /// A user removes a workload.
    Remove { name: String, via: Target },
    /// A node rules how many replicas an autoscaled workload has. The ruling must outlive the node.
    Rule { name: String, value: u32, via: Target },
    /// kill -9: at once, or after the daemon has asked for `after` more effects.
    Kill { target: Target, after: u32 },
    /// A power cut: peers get no sign of it.
    Unplug(Target),
    /// The daemon stops on purpose, and announces when it expects to be back.
    Leave(Target, Duration),
    /// The daemon starts.
    Start(Target),
    /// kill -9, and a start at once, as by a service manager.
    Restart(Target),
    /// This many new devices join.
    Join(u32),
    /// The disk is lost; a new device joins in its place.
    Lose(Target),
    /// The process is stopped for this long; the kernel still receives.
    Pause(Target, Duration),
    /// The device sleeps for this long, its network included.
    Suspend(Target, Duration),
    /// The daemon takes this long for each event.
    Slow(Target, Duration),
    /// The disk hangs for this long.
    Stall(Target, Duration),
    /// The disk becomes full.
    Fill(Target),
    /// The disk has room again; a running daemon finds out by itself.
    Free(Target),
    /// The clock goes wrong.
    Clock(Target, ClockFault),
    /// A new device starts with a copy of this device's disk.
    Clone(Target),
    /// The runtime behaves like this from now on.
    Runtime(Target, FailureMode),
    /// The container engine behaves like this from now on.
    Engine(Target, EngineFault),
    /// A container on this device ends by itself.
    Crash(Target),
    /// Sets the weather of one device's access, or of the whole network.
    Weather(Option<Target>, Weather),
    /// Cuts the way between two devices, or only its first direction.
    Cut { one: Target, other: Target, both: bool },
    /// Cuts a device off from all others.
    Isolate(Target),
    /// Cuts the groups off from one another. The devices of no group form one more group.
    Partition(Vec<Vec<usize>>),
    /// The way between two devices opens and closes every `every`, for `lasting`.
    Flap { one: Target, other: Target, every: Duration, lasting: Duration },
    /// Heals every cut.
    Mend,
    /// Sets how gossip is delivered.
    Gossip(Gossip),
    /// A replica on this device is not ready for this long.
    Unready(Target, Duration),
    /// The liveness of a component's replica there fails: it is stopped, and started again.
    NotLive(Target),
    /// The device gets another address; its peers are not informed.
    Move(Target),
    /// The daemon is restarted as a newer version.
    Upgrade(Target),
    /// The device lies like this from now on, besides what it lied before.
    Lie(Target, Lie),
    /// An administrator revokes the device.
    Revoke(Target),
    /// An administrator cordons the device: it takes no further replicas.
    Cordon(Target),
    /// An administrator has the device emptied.
    Drain(Target),
    /// An administrator lets the device take replicas again.
    Uncordon(Target),
}

/// The kind of a published workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KindWord {
    /// One replica on each device.
    Daemon,
    /// Three replicas that end, two at one time.
    Job,
    /// A job each minute.
    Cron,
    /// Four replicas that are replaced one by one, and all go back when a new one fails.
    Rolling,
    /// Three replicas that start, end and are replaced one by one.
    Stateful,
}

impl KindWord {
    /// All kinds.
    pub const ALL: [KindWord; 5] =
        [KindWord::Daemon, KindWord::Job, KindWord::Cron, KindWord::Rolling, KindWord::Stateful];

    /// Its word in a scenario.
    pub fn as_str(self) -> &'static str {
        match self {
            KindWord::Daemon => "daemon",
            KindWord::Job => "job",
            KindWord::Cron => "cron",
            KindWord::Rolling => "rolling",
            KindWord::Stateful => "stateful",
        }
    }
}

/// The device that an action is about.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// By index: `n0` is 0.
    Node(usize),
    /// A running device, drawn from the seed.
    Any,
    /// The device that holds a replica, by workload name and replica index.
    Holder(String, u32),
    /// The device that owns a workload, by workload name.
    Owner(String),
}

/// What happens to a container engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineFault {
    /// It works again.
    Works,
    /// It answers nothing; its containers run on.
    Hangs,
    /// Its process ends, and its containers with it.
    Dies,
    /// Its process ends; its containers run on.
    DiesAlone,
    /// Somebody removes all of this node's containers.
    Emptied,
    /// It makes a container that an earlier daemon ordered, and nobody wants any more.
    Late,
}

impl EngineFault {
    /// All faults with their words in a scenario.
    pub const WORDS: [(&str, EngineFault); 6] = [
        ("works", EngineFault::Works),
        ("hangs", EngineFault::Hangs),
        ("dies", EngineFault::Dies),
        ("dies-alone", EngineFault::DiesAlone),
        ("emptied", EngineFault::Emptied),
        ("late", EngineFault::Late),
    ];
}

impl fmt::Display for EngineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = EngineFault::WORDS.iter().find(|(_, fault)| fault == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClockFault {
    /// The wall clock is set by this many milliseconds.
    Jump(i64),
    /// The wall clock falls back to 1970.
    Forgets,
    /// The clock runs at this rate, in thousandths of real time.
    Pace(u64),
}

impl SimAction {
    /// The keyword of this action in a scenario.
    pub fn keyword(&self) -> &'static str {
        match self {
            SimAction::Publish { .. } => "publish",
            SimAction::PublishKind { .. } => "publish-kind",
            SimAction::Remove { .. } => "remove",
            SimAction::Rule { .. } => "rule",
            SimAction::Kill { .. } => "kill",
            SimAction::Unplug(_) => "unplug",
            SimAction::Leave(..) => "leave",
            SimAction::Start(_) => "start",
            SimAction::Restart(_) => "restart",
            SimAction::Join(_) => "join",
            SimAction::Lose(_) => "lose",
            SimAction::Pause(..) => "pause",
            SimAction::Suspend(..) => "suspend",
            SimAction::Slow(..) => "slow",
            SimAction::Stall(..) => "stall",
            SimAction::Fill(_) => "fill",
            SimAction::Free(_) => "free",
            SimAction::Clock(..) => "clock",
            SimAction::Clone(_) => "clone",
            SimAction::Runtime(..) => "runtime",
            SimAction::Engine(..) => "engine",
            SimAction::Crash(_) => "crash",
            SimAction::Weather(..) => "weather",
            SimAction::Cut { .. } => "cut",
            SimAction::Isolate(_) => "isolate",
            SimAction::Partition(_) => "partition",
            SimAction::Flap { .. } => "flap",
            SimAction::Mend => "mend",
            SimAction::Gossip(_) => "gossip",
            SimAction::Unready(..) => "unready",
            SimAction::NotLive(_) => "not-live",
            SimAction::Move(_) => "move",
            SimAction::Upgrade(_) => "upgrade",
            SimAction::Lie(..) => "lie",
            SimAction::Revoke(_) => "revoke",
            SimAction::Cordon(_) => "cordon",
            SimAction::Drain(_) => "drain",
            SimAction::Uncordon(_) => "uncordon",
        }
    }
}

/// The text form, which a scenario line uses.
impl fmt::Display for SimAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.keyword())?;
        match self {
            SimAction::Publish { name, replicas, is_container, version, via } => {
                let kind = if *is_container { " container" } else { "" };
                write!(f, " {name} {replicas}{kind} version {version} via {via}")
            }
            SimAction::PublishKind { name, kind, version, via } => {
                write!(f, " {name} {} version {version} via {via}", kind.as_str())
            }
            SimAction::Engine(target, fault) => write!(f, " {target} {fault}"),
            SimAction::Remove { name, via } => write!(f, " {name} via {via}"),
            SimAction::Rule { name, value, via } => write!(f, " {name} {value} via {via}"),
            SimAction::Kill { target, after: 0 } => write!(f, " {target}"),
            SimAction::Kill { target, after } => write!(f, " {target} after {after}"),
            SimAction::Unplug(target)
            | SimAction::Start(target)
            | SimAction::Restart(target)
            | SimAction::Lose(target)
            | SimAction::Fill(target)
            | SimAction::Free(target)
            | SimAction::Clone(target)
            | SimAction::Crash(target)
            | SimAction::NotLive(target)
            | SimAction::Isolate(target)
            | SimAction::Move(target)
            | SimAction::Upgrade(target)
            | SimAction::Revoke(target)
            | SimAction::Cordon(target)
            | SimAction::Drain(target)
            | SimAction::Uncordon(target) => write!(f, " {target}"),
            SimAction::Lie(target, lie) => write!(f, " {target} {lie}"),
            SimAction::Leave(target, time)
            | SimAction::Pause(target, time)
            | SimAction::Unready(target, time)
            | SimAction::Suspend(target, time)
            | SimAction::Slow(target, time)
            | SimAction::Stall(target, time) => write!(f, " {target} {}", in_words(*time)),
            SimAction::Join(count) => write!(f, " {count}"),
            SimAction::Clock(target, ClockFault::Forgets) => write!(f, " {target} forgets"),
            SimAction::Clock(target, ClockFault::Pace(pace)) => write!(f, " {target} pace {pace}"),
            SimAction::Clock(target, ClockFault::Jump(by)) => {
                let sign = if *by < 0 { '-' } else { '+' };
                write!(
                    f,
                    " {target} jump {sign}{}",
                    in_words(Duration::from_millis(by.unsigned_abs()))
                )
            }
            SimAction::Runtime(target, failure_mode) => {
                write!(f, " {target} {}", format!("{failure_mode:?}").to_lowercase())
            }
            SimAction::Weather(Some(target), weather) => write!(f, " {weather} {target}"),
            SimAction::Weather(None, weather) => write!(f, " {weather}"),
            SimAction::Cut { one, other, both: true } => write!(f, " {one} {other}"),
            SimAction::Cut { one, other, both: false } => write!(f, " {one} > {other}"),
            SimAction::Partition(groups) => {
                let group = |group: &Vec<usize>| {
                    group.iter().map(|node| format!(" n{node}")).collect::<String>()
                };
                write!(f, "{}", groups.iter().map(group).collect::<Vec<_>>().join(" |"))
            }
            SimAction::Flap { one, other, every, lasting } => {
                write!(f, " {one} {other} every {} for {}", in_words(*every), in_words(*lasting))
            }
            SimAction::Mend => Ok(()),
            SimAction::Gossip(Gossip::Fair) => write!(f, " fair"),
            SimAction::Gossip(Gossip::Late(by)) => {
                write!(f, " late {}", in_words(Duration::from_micros(*by)))
            }
            SimAction::Gossip(Gossip::Lost) => write!(f, " lost"),
        }
    }
}

/// The name of a named weather, else all its parts.
impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = Weather::NAMED.iter().find(|(_, named)| named == self) {
            return f.write_str(name);
        }
        let Weather { delay, jitter, loss, repeat, duplicates, stray } = *self;
        let [delay, jitter, repeat] =
            [delay, jitter, repeat].map(|it| in_words(Duration::from_micros(it)));
        write!(
            f,
            "delay {delay} jitter {jitter} loss {loss} repeat {repeat} duplicates {duplicates} \
                stray {stray}"
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(node) => write!(f, "n{node}"),
            Target::Any => write!(f, "any"),
            Target::Holder(name, index) => write!(f, "holder:{name}/{index}"),
            Target::Owner(name) => write!(f, "owner:{name}"),
        }
    }
}
