//! The length and the bound of a collection that peers, users or time can grow.

/// The state of a bounded collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// The kind of its entries, for people.
    pub name: &'static str,
    /// The number of entries.
    pub len: usize,
    /// The greatest number of entries that is no bug.
    pub most: usize,
}

impl Queue {
    /// A collection with `len` entries of at most `most`.
    pub fn new(name: &'static str, len: usize, most: usize) -> Self {
        Queue { name, len, most }
    }

    /// Whether the bound is exceeded, which is a bug.
    pub fn is_overfull(&self) -> bool {
        self.len > self.most
    }
}
