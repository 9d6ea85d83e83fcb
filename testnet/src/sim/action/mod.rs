//! A deed: one thing that a user or fate does to the world. Random histories draw them, scenarios
//! name them; both in the same words.

mod apply;
mod draw;
mod parse;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::time::Duration;

use super::device::FailureMode;
use super::network::{Gossip, Weather};

pub use draw::{draw, gap, wave};
pub use parse::known;
pub use words::{NotUnderstood, Words, in_words};

/// One thing that is done.
#[derive(Clone, PartialEq, Debug)]
pub enum SimAction {
    /// A user wishes for a workload, in the given version.
    Publish { name: String, replicas: u32, version: u32, via: Target },
    /// A user no longer wishes for a workload.
    Remove { name: String, via: Target },
    /// A node decides how many replicas an autoscaled workload is to have: a decision that must
    /// outlive it.
    Rule { name: String, value: u32, via: Target },
    /// kill -9, at once or in the middle of what it is about to do.
    Kill { target: Target, after: u32 },
    /// The power is cut.
    Unplug(Target),
    /// It stops on purpose, and says for how long.
    Leave(Target, Duration),
    /// Its daemon is started.
    Start(Target),
    /// New devices come.
    Join(u32),
    /// Its disk is lost; it joins anew.
    Lose(Target),
    /// Its process is stopped for a while.
    Pause(Target, Duration),
    /// It sleeps for a while, its network with it.
    Suspend(Target, Duration),
    /// It takes so long over everything.
    Slow(Target, Duration),
    /// Its disk hangs for a while.
    Stall(Target, Duration),
    /// Its disk is full.
    Fill(Target),
    /// Its disk has room again; its daemon finds out by itself.
    Free(Target),
    /// Its clock goes wrong.
    Clock(Target, ClockFault),
    /// Another device starts with a copy of its disk.
    Clone(Target),
    /// How its runtime behaves.
    Runtime(Target, FailureMode),
    /// What its access is like, or that of all.
    Weather(Option<Target>, Weather),
    /// Nothing gets through between two, or in one direction only.
    Cut { one: Target, other: Target, both: bool },
    /// Nobody reaches it.
    Isolate(Target),
    /// Each group is by itself; who is in none, too.
    Partition(Vec<Vec<usize>>),
    /// The way between two comes and goes.
    Flap { one: Target, other: Target, every: Duration, lasting: Duration },
    /// All ways lead again.
    Mend,
    /// What becomes of gossip.
    Gossip(Gossip),
    /// It gets another address, which nobody else is told.
    Move(Target),
    /// It is updated to a newer version.
    Upgrade(Target),
}

/// Why a deed was not done.
#[derive(PartialEq, Debug)]
pub enum SimError {
    /// It is about somebody whom this world does not have now. That depends on the seed.
    NoTarget(String),
    /// Whoever asks for it asks for what cannot be.
    Impossible(String),
    /// A rule was broken over it.
    Broken(String),
}

impl From<String> for SimError {
    fn from(why: String) -> Self {
        SimError::Broken(why)
    }
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (SimError::NoTarget(why) | SimError::Impossible(why) | SimError::Broken(why)) = self;
        f.write_str(why)
    }
}

/// A device.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// By its number.
    Node(usize),
    /// Any that runs, drawn from the seed.
    Any,
    /// Whoever runs a replica.
    Holder(String, u32),
    /// Whoever owns a workload.
    Owner(String),
}

/// What is wrong with a clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClockFault {
    /// It is set, by so many milliseconds.
    Jump(i64),
    /// It believes that it is 1970.
    Forgets,
    /// It runs at so many thousandths of the right pace.
    Pace(u64),
}

impl SimAction {
    /// The word a scenario has for it.
    pub fn keyword(&self) -> &'static str {
        match self {
            SimAction::Publish { .. } => "publish",
            SimAction::Remove { .. } => "remove",
            SimAction::Rule { .. } => "rule",
            SimAction::Kill { .. } => "kill",
            SimAction::Unplug(_) => "unplug",
            SimAction::Leave(..) => "leave",
            SimAction::Start(_) => "start",
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
            SimAction::Weather(..) => "weather",
            SimAction::Cut { .. } => "cut",
            SimAction::Isolate(_) => "isolate",
            SimAction::Partition(_) => "partition",
            SimAction::Flap { .. } => "flap",
            SimAction::Mend => "mend",
            SimAction::Gossip(_) => "gossip",
            SimAction::Move(_) => "move",
            SimAction::Upgrade(_) => "upgrade",
        }
    }
}

/// In a scenario's words.
impl fmt::Display for SimAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.keyword())?;
        match self {
            SimAction::Publish { name, replicas, version, via } => {
                write!(f, " {name} {replicas} version {version} via {via}")
            }
            SimAction::Remove { name, via } => write!(f, " {name} via {via}"),
            SimAction::Rule { name, value, via } => write!(f, " {name} {value} via {via}"),
            SimAction::Kill { target, after: 0 } => write!(f, " {target}"),
            SimAction::Kill { target, after } => write!(f, " {target} after {after}"),
            SimAction::Unplug(target)
            | SimAction::Start(target)
            | SimAction::Lose(target)
            | SimAction::Fill(target)
            | SimAction::Free(target)
            | SimAction::Clone(target)
            | SimAction::Isolate(target)
            | SimAction::Move(target)
            | SimAction::Upgrade(target) => write!(f, " {target}"),
            SimAction::Leave(target, time)
            | SimAction::Pause(target, time)
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

/// Its name, or its parts.
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
