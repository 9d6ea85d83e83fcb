//! Volumes that nodes keep for replicas.

use serde::{Deserialize, Serialize};

use super::name::{Label, WorkloadName};
use super::replica::Place;

/// Volumes of one node: its record tells them, and every node keeps it.
pub const MAX_VOLUMES: usize = 128;

/// A volume that a node keeps for a place of a workload. It outlives the replica and the workload:
/// a later workload of the same name finds it again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KeptVolume {
    /// The workload.
    pub workload: WorkloadName,
    /// The place, as people write it: a record with a place of a newer form must stay readable.
    pub place: String,
    /// The volume's name within the workload.
    pub name: Label,
    /// The counter of the token under which its node made it.
    pub counter: u64,
}

impl KeptVolume {
    /// Whether it is the volume `name` of a place of `workload`.
    pub fn is(&self, workload: &WorkloadName, place: &str, name: &str) -> bool {
        self.workload == *workload && self.place == place && self.name.as_str() == name
    }

    /// The place, as [`Place::of_volumes`] gives it, if this program knows its form.
    pub fn place(&self) -> Option<Place> {
        self.place.parse().ok().map(Place::Ordinal)
    }
}
