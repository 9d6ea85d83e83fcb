//! Places of a workload that no node can fill, told before it is published: they would stay without
//! a replica, and nothing would say so.

use std::collections::BTreeMap;

use super::Node;
use crate::model::spec::{Affinity, HostPort, Kind, Port, Unfit};
use crate::model::{NodeId, Spec};

/// Nodes that are told by name.
const MAX_NAMES: usize = 8;

impl Node {
    /// Warnings about the nodes that are up: fewer take the workload than it has replicas that must
    /// be on nodes of their own, or some get no replica of a daemon.
    pub(super) fn unfilled(&self, spec: &Spec) -> Vec<String> {
        let fits = |node: &NodeId| -> Result<(), Unfit> {
            let Some(record) = self.membership.record(node) else { return Ok(()) };
            self.desired.takes(node, spec).and_then(|()| record.facts.fits(spec))
        };
        let up: Vec<NodeId> = self.membership.up().collect();
        if matches!(spec.kind, Kind::Daemon) {
            let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for node in &up {
                if let Err(unfit) = fits(node) {
                    left.entry(unfit.to_string()).or_default().push(self.name_of(node));
                }
            }
            let told = left
                .into_iter()
                .map(|(why, names)| format!("it gets no replica on {}: {why}", listed(names)));
            return told.collect();
        }
        let most = spec.later.autoscale.as_ref().map(|it| it.max).or(spec.kind.replicas());
        let (Some(most), Some(why)) = (most, apart(spec)) else { return Vec::new() };
        let nodes = up.iter().filter(|node| fits(node).is_ok()).count();
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        if most <= nodes {
            return Vec::new();
        }
        let (replicas, of) = (most - nodes, if nodes == 1 { "node" } else { "nodes" });
        let stay = if replicas == 1 { "replica stays" } else { "replicas stay" };
        vec![format!("{why}, and {nodes} {of} can run it: {replicas} of {most} {stay} missing")]
    }
}

/// The reason why two of its replicas cannot be on one node.
fn apart(spec: &Spec) -> Option<String> {
    if let Some(Port { device, udp, .. }) = spec.exposure.ports.first() {
        let port = HostPort { port: *device, udp: *udp };
        return Some(format!("one replica of a node has its port {port}"));
    }
    let own = |it: &&Affinity| it.apart && it.weight.is_none() && it.workload == spec.name;
    let is_apart = spec.placement.affinity.iter().any(|it| own(&it));
    is_apart.then(|| "its replicas are on different nodes".to_owned())
}

fn listed(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    names.extend((more > 0).then(|| format!("{more} more nodes")));
    names.join(", ")
}
