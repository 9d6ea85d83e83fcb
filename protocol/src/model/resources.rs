//! Memory and CPU, what is counted beside them, and sums of both.

use std::collections::BTreeMap;

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

/// The name under which bytes of disk are counted.
pub const DISK: &str = "disk";

/// Amounts of what is counted beside memory and CPU, by name: devices as `camera` or `gpu`, and
/// bytes of [`DISK`]. An amount of 0 is left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>")]
pub struct Amounts(BTreeMap<String, u64>);

impl From<BTreeMap<String, u64>> for Amounts {
    fn from(all: BTreeMap<String, u64>) -> Amounts {
        all.into_iter().collect()
    }
}

impl FromIterator<(String, u64)> for Amounts {
    fn from_iter<T: IntoIterator<Item = (String, u64)>>(all: T) -> Amounts {
        Amounts(all.into_iter().filter(|(_, amount)| *amount > 0).collect())
    }
}

impl Amounts {
    /// The amount of one name; 0 if there is none.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// All that are no bytes of disk.
    pub fn devices(&self) -> impl Iterator<Item = (&str, u64)> {
        self.iter().filter(|(name, _)| *name != DISK)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets the amount of one name.
    pub fn set(&mut self, name: &str, amount: u64) {
        match amount {
            0 => _ = self.0.remove(name),
            _ => _ = self.0.insert(name.to_owned(), amount),
        }
    }

    fn joined(&self, other: &Amounts, join: fn(u64, u64) -> u64) -> Amounts {
        let names = self.0.keys().chain(other.0.keys());
        names.map(|name| (name.clone(), join(self.of(name), other.of(name)))).collect()
    }
}

/// All that a replica takes of its node, or that a node offers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// Memory and CPU.
    pub size: Resources,
    /// What is counted beside them.
    pub counted: Amounts,
}

impl From<Resources> for Need {
    fn from(size: Resources) -> Need {
        Need { size, counted: Amounts::default() }
    }
}

impl Need {
    /// Both at once, saturating.
    pub fn plus(&self, other: &Need) -> Need {
        let counted = self.counted.joined(&other.counted, u64::saturating_add);
        Need { size: self.size.plus(other.size), counted }
    }

    /// The rest, saturating at zero.
    pub fn minus(&self, other: &Need) -> Need {
        let counted = self.counted.joined(&other.counted, u64::saturating_sub);
        Need { size: self.size.minus(other.size), counted }
    }

    /// The greater of both, for each kind.
    pub fn or_more(&self, other: &Need) -> Need {
        let counted = self.counted.joined(&other.counted, u64::max);
        Need { size: self.size.or_more(other.size), counted }
    }

    /// Whether `other` fits into this.
    pub fn holds(&self, other: &Need) -> bool {
        self.size.holds(other.size) && self.lacks(&other.counted).is_none()
    }

    /// The first of these amounts that is more than this has.
    pub fn lacks<'a>(&self, counted: &'a Amounts) -> Option<(&'a str, u64)> {
        counted.iter().find(|(name, amount)| *amount > self.counted.of(name))
    }
}

/// A sum of needs, as wide as [`ResourceSum`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NeedSum {
    size: ResourceSum,
    /// None of them is 0.
    counted: BTreeMap<String, u128>,
}

impl NeedSum {
    /// Adds `count` times `need`.
    pub fn add(&mut self, need: &Need, count: usize) {
        self.size.add(need.size, count);
        for (name, amount) in need.counted.iter().filter(|_| count > 0) {
            *self.counted.entry(name.to_owned()).or_default() += u128::from(amount) * count as u128;
        }
    }

    /// Takes away `count` times `need`, which was added before.
    pub fn remove(&mut self, need: &Need, count: usize) {
        self.size.remove(need.size, count);
        for (name, amount) in need.counted.iter().filter(|_| count > 0) {
            let sum = self.counted.get_mut(name).expect("it was added before");
            *sum -= u128::from(amount) * count as u128;
        }
        self.counted.retain(|_, sum| *sum > 0);
    }

    /// The sum of both.
    pub fn plus(mut self, other: &NeedSum) -> NeedSum {
        self.size = self.size.plus(other.size);
        for (name, sum) in &other.counted {
            *self.counted.entry(name.clone()).or_default() += sum;
        }
        self
    }

    /// The same as [`Need`], saturating.
    pub fn narrow(&self) -> Need {
        let narrow = |sum: &u128| u64::try_from(*sum).unwrap_or(u64::MAX);
        let counted = self.counted.iter().map(|(name, sum)| (name.clone(), narrow(sum))).collect();
        Need { size: self.size.narrow(), counted }
    }

    /// The greatest of the shares that the sum takes of `capacity`, in millionths: of memory, CPU,
    /// and what is `counted` of a replica.
    pub fn dominant_share(&self, capacity: &Need, counted: &Amounts) -> u32 {
        let of = |name: &str| share(self.sum_of(name), capacity.counted.of(name).into());
        let counted = counted.iter().map(|(name, _)| of(name)).max().unwrap_or_default();
        counted.max(self.size.dominant_share(capacity.size))
    }

    fn sum_of(&self, name: &str) -> u128 {
        self.counted.get(name).copied().unwrap_or_default()
    }
}
