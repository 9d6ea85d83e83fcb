//! Which nodes may run a workload, and which are better. All but `require` is not supported yet:
//! its form may change until it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Conditions on the nodes of a workload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Labels that a node must have, all of them.
    pub require: BTreeMap<String, String>,
    /// Labels that make a node cheaper, each with its weight.
    pub prefer: Vec<Preference>,
    /// The label whose values the replicas are spread over, as in `zone`.
    pub spread: Option<String>,
    /// Workloads to be near to, or apart from.
    pub affinity: Vec<Affinity>,
    /// Taints that do not keep it away.
    pub tolerate: Vec<String>,
}

/// A label that makes a node cheaper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preference {
    /// The label's name.
    pub label: String,
    /// The label's value.
    pub value: String,
    /// 1 to 100.
    pub weight: u8,
}

/// A relation to another workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Affinity {
    /// `namespace/name` of the other workload.
    pub workload: String,
    /// On other nodes than that, instead of the same.
    pub apart: bool,
}
