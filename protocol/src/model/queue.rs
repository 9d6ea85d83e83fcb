//! How long something is that outsiders and time make longer, and how long it may be.

/// A collection that has a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// What is in it, for people.
    pub name: &'static str,
    /// Entries.
    pub len: usize,
    /// Entries at most.
    pub most: usize,
}

impl Queue {
    /// So many entries, of so many.
    pub fn new(name: &'static str, len: usize, most: usize) -> Self {
        Queue { name, len, most }
    }

    /// Whether the bound is broken, which is a bug.
    pub fn is_overfull(&self) -> bool {
        self.len > self.most
    }
}
