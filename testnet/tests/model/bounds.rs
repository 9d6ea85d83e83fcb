//! Bounds on the faults of one history.

use std::str::FromStr;

/// The number of faults of each kind in one history, at most. All histories within are tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Bounds {
    /// Power cuts, one node at a time, with or without a restart afterwards.
    pub crashes: u8,
    /// Live nodes that the others declare down, until they refute it.
    pub suspicions: u8,
    /// Auction, dispute and slot messages that are lost.
    pub losses: u8,
    /// Such messages that arrive twice.
    pub repeats: u8,
    /// Deadlines that pass while messages, disks or runtimes are slow.
    pub lates: u8,
    /// Replicas that fail for good on their node.
    pub failures: u8,
}

/// The state in which histories begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A workload of one replica has been published; the change is under way to each node.
    Published,
    /// All nodes have the change, and the owner has just announced the auction.
    Asked,
    /// A node runs the replica, and nothing is left to do.
    Running,
    /// Two nodes run a replica each of a workload that is updated one by one, and all nodes have
    /// just got a new version of it.
    Updating,
}

/// The histories to try: `running,crashes=1,losses=2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    pub start: Start,
    pub bounds: Bounds,
    /// Histories are followed for this many steps; none: to their end.
    pub steps: Option<usize>,
}

impl FromStr for Scenario {
    type Err = String;

    /// The start, then the number of faults; a fault that is not named does not happen.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let start = match parts.next() {
            Some("wished") => Start::Published,
            Some("asked") => Start::Asked,
            Some("running") => Start::Running,
            Some("updating") => Start::Updating,
            _ => {
                return Err(format!(
                    "`{text}` begins with none of `wished`, `asked`, `running` and `updating`"
                ));
            }
        };
        let (mut bounds, mut steps) = (Bounds::default(), None);
        for part in parts {
            let (name, count) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not NAME=COUNT"))?;
            if name == "steps" {
                steps =
                    Some(count.parse().map_err(|_| format!("`{count}` is not a number of steps"))?);
                continue;
            }
            let count = count.parse().map_err(|_| format!("`{count}` is not a count"))?;
            *match name {
                "crashes" => &mut bounds.crashes,
                "suspicions" => &mut bounds.suspicions,
                "losses" => &mut bounds.losses,
                "repeats" => &mut bounds.repeats,
                "lates" => &mut bounds.lates,
                "failures" => &mut bounds.failures,
                _ => return Err(format!("there is no fault `{name}`")),
            } = count;
        }
        Ok(Scenario { start, bounds, steps })
    }
}
