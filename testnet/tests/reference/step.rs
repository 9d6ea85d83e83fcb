//! The steps of a history. Their text form is that of scenarios where those have it.

use std::collections::BTreeSet;
use std::fmt;

/// Names of workloads.
pub const NAMES: [&str; 3] = ["web", "api", "db"];
/// Seconds of waiting after which all devices that stayed connected have the same state. The
/// longest pause between two dials of any of them is a minute.
pub const LONG: u64 = 90;

/// The desired state of a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    pub version: u32,
    pub replicas: u32,
    /// It needs more memory than any device has.
    pub is_huge: bool,
    /// Its replicas start and end in order.
    pub is_stateful: bool,
}

/// A user's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Publish { workload: Workload, force: bool },
    Scale { replicas: u32 },
    Remove,
}

/// A complication of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twist {
    None,
    /// The node dies after this many more effects, or else is killed after the request.
    Dies(u32),
    /// Another user prepared a write before and submits it after; that write must be refused as
    /// stale.
    Overtakes,
    /// The change is signed by an operator of another cluster.
    Forged,
}

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
    /// Stops on purpose, and announces its return in so many seconds.
    Leave(usize, u64),
    Start(usize),
    Pause(usize),
    Resume(usize),
    /// Cuts these devices off from all others.
    Cut(BTreeSet<usize>),
    Mend,
    Fill(usize),
    /// The disk has room again, and a stopped daemon is started.
    Free(usize),
    /// The disk is lost, and a new device joins in its place.
    Lose(usize),
    /// The disk hangs for so many seconds.
    Stall(usize, u64),
    Join,
    /// Gossip is lost from now on, or delivered again.
    Gossip {
        is_lost: bool,
    },
    /// So many seconds pass.
    Wait(u64),
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let huge = if self.is_huge { " that fits nowhere" } else { "" };
        let kind = if self.is_stateful { " stateful" } else { "" };
        write!(f, "{}{kind} of version {}{huge}", self.replicas, self.version)
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
