//! Counts of healthy nodes that were taken for dead, and of replicas moved by that.

use std::collections::BTreeMap;

/// Counts of one or more histories. Durations are in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Running time of all daemons together.
    pub ran: u64,
    /// The part of `ran` in which the device was healthy, so that a fall would have been false.
    pub well: u64,
    /// Healthy nodes that healthy nodes declared down.
    pub falls: u64,
    /// Healthy nodes that were declared down because of a vote of an unhealthy node.
    pub misled: u64,
    /// Replicas awarded to another node after a false fall, though they ran well.
    pub failovers: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        let Tally { ran, well, falls, misled, failovers } = other;
        (self.ran, self.well) = (self.ran + ran, self.well + well);
        (self.falls, self.misled) = (self.falls + falls, self.misled + misled);
        self.failovers += failovers;
    }
}

/// The counts of this world, and the samples that they are derived from.
#[derive(Default)]
pub struct Failovers {
    pub tally: Tally,
    pub sampled_at: u64,
    /// World time at which each device was last seen in trouble.
    pub troubled_at: BTreeMap<usize, u64>,
    /// The last start seen of each device.
    pub boots: BTreeMap<usize, u32>,
    /// World time at which the way between two devices was last seen cut, in either direction. The
    /// lesser index comes first.
    pub cut_at: BTreeMap<(usize, usize), u64>,
    /// Nodes that a node has declared down: (observer, subject) to whether that was false.
    pub called_down: BTreeMap<(usize, usize), bool>,
}
