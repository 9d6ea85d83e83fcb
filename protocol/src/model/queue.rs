//! The length of a collection that peers or time can grow, and its bound.

/// A collection that has a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// The name of its content, for people.
    pub name: &'static str,
    /// The number of entries.
    pub len: usize,
    /// The greatest number of entries.
    pub most: usize,
}

impl Queue {
    /// A collection of `len` entries with the bound `most`.
    pub fn new(name: &'static str, len: usize, most: usize) -> Self {
        Queue { name, len, most }
    }

    /// Whether the bound is broken, which is a bug.
    pub fn is_overfull(&self) -> bool {
        self.len > self.most
    }
}
