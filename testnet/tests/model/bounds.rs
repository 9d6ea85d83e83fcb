//! How much may go wrong in one history.

use std::str::FromStr;

/// Faults in one history, at most. All histories within are tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Bounds {
    /// Power cuts, one at a time; each may be followed by a start or not.
    pub crashes: u8,
    /// Nodes that live and are held to be down, until they hear of it and outdo it.
    pub suspicions: u8,
    /// Messages of auctions, of disputes and of sheets that never come.
    pub losses: u8,
    /// Such messages that come twice.
    pub repeats: u8,
    /// Deadlines that come while messages, disks or runtimes are slow.
    pub lates: u8,
    /// Replicas that fail for good where they are.
    pub failures: u8,
}

/// Where histories begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A wish for one replica is on its way to each of the three.
    Published,
    /// All know it, and their owner has just asked who takes it.
    Asked,
    /// One of them runs it, and nothing is left to do.
    Running,
}

/// What is tried: `running,crashes=1,losses=2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    pub start: Start,
    pub bounds: Bounds,
    /// Longer histories are not followed to their end; none: all are.
    pub steps: Option<usize>,
}

impl FromStr for Scenario {
    type Err = String;

    /// The scene, then faults; what is not named does not happen.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let start = match parts.next() {
            Some("wished") => Start::Published,
            Some("asked") => Start::Asked,
            Some("running") => Start::Running,
            _ => {
                return Err(format!("`{text}` does not begin with `wished`, `asked` or `running`"));
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
