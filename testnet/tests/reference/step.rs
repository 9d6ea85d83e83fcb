//! What users and fate can do, in words: those of scenarios where these have them.

use std::collections::BTreeSet;
use std::fmt;

/// What workloads are called.
pub const NAMES: [&str; 3] = ["web", "api", "db"];
/// A pause after which whoever was linked all along knows the same, in seconds. The longest that
/// any of them lets pass between two tries to reach another is a minute.
pub const LONG: u64 = 90;

/// What a user can wish for under a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    pub version: u32,
    pub replicas: u32,
    /// Needs more memory than any device has.
    pub is_huge: bool,
}

/// What a user asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Publish { workload: Workload, force: bool },
    Scale { replicas: u32 },
    Remove,
}

/// What may make a request special.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twist {
    None,
    /// The node dies after so many more effects; whether or not it does, it is killed afterwards.
    Dies(u32),
    /// Another user had begun to write before, and ends after: that one must be told.
    Overtakes,
    /// It is signed by an operator of another cluster.
    Forged,
}

/// One thing that is done.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    Ask {
        name: &'static str,
        request: Request,
        via: usize,
        twist: Twist,
    },
    Kill(usize),
    Unplug(usize),
    /// Stops on purpose and says that it hopes to be back in so many seconds.
    Leave(usize, u64),
    Start(usize),
    Pause(usize),
    Resume(usize),
    /// These are cut off from all others.
    Cut(BTreeSet<usize>),
    Mend,
    Fill(usize),
    /// Its disk has room again, and its daemon is started anew.
    Free(usize),
    /// Its disk is lost; it joins anew as another device.
    Lose(usize),
    /// Its disk hangs for so many seconds.
    Stall(usize, u64),
    Join,
    /// Gossip is lost from now on, or is not.
    Gossip {
        is_lost: bool,
    },
    /// So many seconds pass.
    Wait(u64),
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let huge = if self.is_huge { " that fits nowhere" } else { "" };
        write!(f, "{} of version {}{huge}", self.replicas, self.version)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask { name, request, via, twist } => {
                match request {
                    Request::Publish { workload, force } => {
                        let force = if *force { ", by force" } else { "" };
                        write!(f, "publish {name}, {workload:?}{force}")?;
                    }
                    Request::Scale { replicas } => write!(f, "scale {name} to {replicas}")?,
                    Request::Remove => write!(f, "remove {name}")?,
                }
                write!(f, " via n{via}")?;
                match twist {
                    Twist::None => Ok(()),
                    Twist::Dies(after) => write!(f, ", which dies after {after} more effects"),
                    Twist::Overtakes => write!(f, ", while another user is about to"),
                    Twist::Forged => write!(f, ", as another cluster's operator"),
                }
            }
            Step::Kill(device) => write!(f, "kill n{device}"),
            Step::Unplug(device) => write!(f, "unplug n{device}"),
            Step::Leave(device, seconds) => write!(f, "leave n{device} {seconds}s"),
            Step::Start(device) => write!(f, "start n{device}"),
            Step::Pause(device) => write!(f, "pause n{device} 24h"),
            Step::Resume(device) => write!(f, "pause n{device} 0s"),
            Step::Cut(devices) => {
                let names: Vec<String> =
                    devices.iter().map(|device| format!("n{device}")).collect();
                write!(f, "cut off {}", names.join(" "))
            }
            Step::Mend => write!(f, "mend"),
            Step::Fill(device) => write!(f, "fill n{device}"),
            Step::Free(device) => {
                write!(f, "free the disk of n{device}, and start it if it is stopped")
            }
            Step::Lose(device) => write!(f, "lose n{device}"),
            Step::Stall(device, seconds) => write!(f, "stall n{device} {seconds}s"),
            Step::Join => write!(f, "join 1"),
            Step::Gossip { is_lost: true } => write!(f, "gossip lost"),
            Step::Gossip { is_lost: false } => write!(f, "gossip fair"),
            Step::Wait(seconds) => write!(f, "wait {seconds}s"),
        }
    }
}
