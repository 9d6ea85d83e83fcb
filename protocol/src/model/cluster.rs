//! The cluster as far as it decides which places a workload has.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::id::{Digest, NodeId};
use super::ruling::Ruling;
use super::spec::{Kind, SpecForm, Unfit, is_label_text, tolerates};

/// State that all nodes agree on once they are in step: the members, what they say of themselves,
/// and what operators and owners decided. It holds nothing of the moment, such as who is up: two
/// nodes with the same view compute the same places.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The roster: every admitted node with the salt of its point on the ring.
    pub members: &'a OrdMap<NodeId, u64>,
    /// Whether a member can run the workload, by its record. **A node judges itself
    /// by what it knows, not by its record**: so its holder and the owner differ for no longer than
    /// a record travels.
    pub suits: &'a dyn Fn(&NodeId) -> bool,
    /// The rulings about the workload, by key.
    pub rulings: &'a [&'a Ruling],
    /// The versions of the secrets and configs that the workload uses; `None` if it uses none.
    pub versions: Option<Digest>,
}

/// Labels and taints that one policy names.
pub const MAX_POLICY_ENTRIES: usize = 64;

/// The policy of an operator for a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodePolicy {
    /// The node takes no further replicas; what it runs stays.
    pub cordoned: bool,
    /// What the node runs is to run elsewhere: each replica stays until another node runs it.
    pub drained: bool,
    /// Labels that count instead of those of the node's configuration; `None`: the node has no such
    /// label.
    pub labels: BTreeMap<String, Option<String>>,
    /// Taints, by name, each with its value, which may be empty: only workloads that tolerate them
    /// are placed here.
    pub taints: BTreeMap<String, String>,
}

impl NodePolicy {
    /// Whether the node takes replicas that it does not run yet.
    pub fn takes_work(&self) -> bool {
        !self.cordoned && !self.drained
    }

    /// Whether the node takes a workload that it does not run yet.
    ///
    /// # Errors
    /// It is cordoned or drained, which daemons run through, or has a taint that is not tolerated.
    pub fn takes(&self, spec: &SpecForm) -> Result<(), Unfit> {
        if !self.takes_work() && spec.kind != Kind::Daemon {
            return Err(Unfit::Cordoned);
        }
        let keeps_away =
            |(name, value): &(&String, &String)| !tolerates(&spec.placement.tolerate, name, value);
        match self.taints.iter().find(keeps_away) {
            Some((name, value)) if value.is_empty() => Err(Unfit::Taint(name.clone())),
            Some((name, value)) => Err(Unfit::Taint(format!("{name}={value}"))),
            None => Ok(()),
        }
    }

    /// The labels of a node with this configuration under this policy.
    pub fn labels_over(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = own.clone();
        for (name, value) in &self.labels {
            match value {
                Some(value) => _ = labels.insert(name.clone(), value.clone()),
                None => _ = labels.remove(name),
            }
        }
        labels
    }

    /// Whether its texts are labels, and as many as may be.
    pub fn is_valid(&self) -> bool {
        let is_label = |(name, value): (&String, &Option<String>)| {
            is_label_text(name) && value.as_deref().is_none_or(is_label_text)
        };
        let is_taint = |(name, value): (&String, &String)| {
            is_label_text(name) && (value.is_empty() || is_label_text(value))
        };
        self.labels.iter().all(is_label)
            && self.taints.iter().all(is_taint)
            && self.labels.len() <= MAX_POLICY_ENTRIES
            && self.taints.len() <= MAX_POLICY_ENTRIES
    }
}
