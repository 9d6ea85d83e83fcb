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

use super::device::Mood;
use super::network::{Gossip, Weather};

pub use draw::{draw, gap, wave};
pub use parse::known;
pub use words::{NotUnderstood, Words, in_words};

/// One thing that is done.
#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    /// A user wishes for a workload, in the given version.
    Publish { name: String, replicas: u32, version: u32, via: Whom },
    /// A user no longer wishes for a workload.
    Remove { name: String, via: Whom },
    /// A node decides how many replicas an autoscaled workload is to have: a decision that must
    /// outlive it.
    Rule { name: String, value: u32, via: Whom },
    /// kill -9, at once or in the middle of what it is about to do.
    Kill { whom: Whom, after: u32 },
    /// The power is cut.
    Unplug(Whom),
    /// It stops on purpose, and says for how long.
    Leave(Whom, Duration),
    /// Its daemon is started.
    Start(Whom),
    /// New devices come.
    Join(u32),
    /// Its disk is lost; it joins anew.
    Lose(Whom),
    /// Its process is stopped for a while.
    Pause(Whom, Duration),
    /// It sleeps for a while, its network with it.
    Suspend(Whom, Duration),
    /// It takes so long over everything.
    Slow(Whom, Duration),
    /// Its disk hangs for a while.
    Stall(Whom, Duration),
    /// Its disk is full.
    Fill(Whom),
    /// Its disk has room again; its daemon finds out by itself.
    Free(Whom),
    /// Its clock goes wrong.
    Clock(Whom, ClockFault),
    /// Another device starts with a copy of its disk.
    Clone(Whom),
    /// How its runtime behaves.
    Runtime(Whom, Mood),
    /// What its access is like, or that of all.
    Weather(Option<Whom>, Weather),
    /// Nothing gets through between two, or in one direction only.
    Cut { one: Whom, other: Whom, both: bool },
    /// Nobody reaches it.
    Isolate(Whom),
    /// Each group is by itself; who is in none, too.
    Partition(Vec<Vec<usize>>),
    /// The way between two comes and goes.
    Flap { one: Whom, other: Whom, every: Duration, lasting: Duration },
    /// All ways lead again.
    Mend,
    /// What becomes of gossip.
    Gossip(Gossip),
    /// It gets another address, which nobody else is told.
    Move(Whom),
    /// It is updated to a newer version.
    Upgrade(Whom),
}

/// Why a deed was not done.
#[derive(PartialEq, Debug)]
pub enum Trouble {
    /// It is about somebody whom this world does not have now. That depends on the seed.
    Nobody(String),
    /// Whoever asks for it asks for what cannot be.
    Impossible(String),
    /// A rule was broken over it.
    Broken(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Trouble::Broken(why)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Nobody(why) | Trouble::Impossible(why) | Trouble::Broken(why)) = self;
        f.write_str(why)
    }
}

/// A device.
#[derive(Clone, PartialEq, Debug)]
pub enum Whom {
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

impl Deed {
    /// The word a scenario has for it.
    pub fn word(&self) -> &'static str {
        match self {
            Deed::Publish { .. } => "publish",
            Deed::Remove { .. } => "remove",
            Deed::Rule { .. } => "rule",
            Deed::Kill { .. } => "kill",
            Deed::Unplug(_) => "unplug",
            Deed::Leave(..) => "leave",
            Deed::Start(_) => "start",
            Deed::Join(_) => "join",
            Deed::Lose(_) => "lose",
            Deed::Pause(..) => "pause",
            Deed::Suspend(..) => "suspend",
            Deed::Slow(..) => "slow",
            Deed::Stall(..) => "stall",
            Deed::Fill(_) => "fill",
            Deed::Free(_) => "free",
            Deed::Clock(..) => "clock",
            Deed::Clone(_) => "clone",
            Deed::Runtime(..) => "runtime",
            Deed::Weather(..) => "weather",
            Deed::Cut { .. } => "cut",
            Deed::Isolate(_) => "isolate",
            Deed::Partition(_) => "partition",
            Deed::Flap { .. } => "flap",
            Deed::Mend => "mend",
            Deed::Gossip(_) => "gossip",
            Deed::Move(_) => "move",
            Deed::Upgrade(_) => "upgrade",
        }
    }
}

/// In a scenario's words.
impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.word())?;
        match self {
            Deed::Publish { name, replicas, version, via } => {
                write!(f, " {name} {replicas} version {version} via {via}")
            }
            Deed::Remove { name, via } => write!(f, " {name} via {via}"),
            Deed::Rule { name, value, via } => write!(f, " {name} {value} via {via}"),
            Deed::Kill { whom, after: 0 } => write!(f, " {whom}"),
            Deed::Kill { whom, after } => write!(f, " {whom} after {after}"),
            Deed::Unplug(whom)
            | Deed::Start(whom)
            | Deed::Lose(whom)
            | Deed::Fill(whom)
            | Deed::Free(whom)
            | Deed::Clone(whom)
            | Deed::Isolate(whom)
            | Deed::Move(whom)
            | Deed::Upgrade(whom) => write!(f, " {whom}"),
            Deed::Leave(whom, time)
            | Deed::Pause(whom, time)
            | Deed::Suspend(whom, time)
            | Deed::Slow(whom, time)
            | Deed::Stall(whom, time) => write!(f, " {whom} {}", in_words(*time)),
            Deed::Join(count) => write!(f, " {count}"),
            Deed::Clock(whom, ClockFault::Forgets) => write!(f, " {whom} forgets"),
            Deed::Clock(whom, ClockFault::Pace(pace)) => write!(f, " {whom} pace {pace}"),
            Deed::Clock(whom, ClockFault::Jump(by)) => {
                let sign = if *by < 0 { '-' } else { '+' };
                write!(
                    f,
                    " {whom} jump {sign}{}",
                    in_words(Duration::from_millis(by.unsigned_abs()))
                )
            }
            Deed::Runtime(whom, mood) => {
                write!(f, " {whom} {}", format!("{mood:?}").to_lowercase())
            }
            Deed::Weather(Some(whom), weather) => write!(f, " {weather} {whom}"),
            Deed::Weather(None, weather) => write!(f, " {weather}"),
            Deed::Cut { one, other, both: true } => write!(f, " {one} {other}"),
            Deed::Cut { one, other, both: false } => write!(f, " {one} > {other}"),
            Deed::Partition(groups) => {
                let group = |group: &Vec<usize>| {
                    group.iter().map(|node| format!(" n{node}")).collect::<String>()
                };
                write!(f, "{}", groups.iter().map(group).collect::<Vec<_>>().join(" |"))
            }
            Deed::Flap { one, other, every, lasting } => {
                write!(f, " {one} {other} every {} for {}", in_words(*every), in_words(*lasting))
            }
            Deed::Mend => Ok(()),
            Deed::Gossip(Gossip::Fair) => write!(f, " fair"),
            Deed::Gossip(Gossip::Late(by)) => {
                write!(f, " late {}", in_words(Duration::from_micros(*by)))
            }
            Deed::Gossip(Gossip::Lost) => write!(f, " lost"),
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

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Node(node) => write!(f, "n{node}"),
            Whom::Any => write!(f, "any"),
            Whom::Holder(name, index) => write!(f, "holder:{name}/{index}"),
            Whom::Owner(name) => write!(f, "owner:{name}"),
        }
    }
}
