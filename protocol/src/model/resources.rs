//! Memory and CPU, and sums of them.

use serde::{Deserialize, Serialize};

/// The memory and CPU of a replica or of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: u64,
    /// Thousandths of a core.
    pub cpu: u32,
}

impl Resources {
    /// Both at once, saturating.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            memory: self.memory.saturating_add(other.memory),
            cpu: self.cpu.saturating_add(other.cpu),
        }
    }

    /// The rest, saturating at zero.
    pub fn minus(self, other: Resources) -> Resources {
        Resources {
            memory: self.memory.saturating_sub(other.memory),
            cpu: self.cpu.saturating_sub(other.cpu),
        }
    }

    /// The greater of both, for each kind.
    pub fn or_more(self, other: Resources) -> Resources {
        Resources { memory: self.memory.max(other.memory), cpu: self.cpu.max(other.cpu) }
    }

    /// Whether `other` fits into this.
    pub fn holds(self, other: Resources) -> bool {
        other.memory <= self.memory && other.cpu <= self.cpu
    }
}

/// A sum of resources. Wider than [`Resources`], so that no sum of what one node can promise
/// saturates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResourceSum {
    memory: u128,
    cpu: u64,
}

impl ResourceSum {
    /// Adds `count` times `resources`.
    pub fn add(&mut self, resources: Resources, count: usize) {
        self.memory += u128::from(resources.memory) * count as u128;
        self.cpu += u64::from(resources.cpu) * count as u64;
    }

    /// Takes away `count` times `resources`, which were added before.
    pub fn remove(&mut self, resources: Resources, count: usize) {
        self.memory -= u128::from(resources.memory) * count as u128;
        self.cpu -= u64::from(resources.cpu) * count as u64;
    }

    /// The sum of both.
    pub fn plus(self, other: ResourceSum) -> ResourceSum {
        ResourceSum { memory: self.memory + other.memory, cpu: self.cpu + other.cpu }
    }

    /// The same as [`Resources`], saturating.
    pub fn narrow(self) -> Resources {
        Resources {
            memory: u64::try_from(self.memory).unwrap_or(u64::MAX),
            cpu: u32::try_from(self.cpu).unwrap_or(u32::MAX),
        }
    }

    /// The greater of the shares of memory and CPU that the sum takes of `capacity`, in millionths.
    pub fn dominant_share(self, capacity: Resources) -> u32 {
        let memory = share(self.memory, u128::from(capacity.memory));
        let cpu = share(u128::from(self.cpu), u128::from(capacity.cpu));
        memory.max(cpu)
    }
}

/// Millionths, rounded up; a part of nothing is all of it.
fn share(used: u128, of: u128) -> u32 {
    let millionths =
        (used * 1_000_000).checked_add(of.saturating_sub(1)).and_then(|sum| sum.checked_div(of));
    millionths.map_or(if used == 0 { 0 } else { u32::MAX }, |share| {
        u32::try_from(share).unwrap_or(u32::MAX)
    })
}
