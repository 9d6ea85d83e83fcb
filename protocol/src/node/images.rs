//! The images that workloads name, for the daemon: it keeps what they need, and may drop the rest.

use std::collections::BTreeSet;

use crate::model::spec::{Image, Program};
use crate::model::{Digest, WorkloadName};

use super::Node;

/// An image that a workload names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageUse {
    /// The workload.
    pub workload: WorkloadName,
    /// Its image.
    pub image: Image,
    /// This node claims a replica of the workload, or guards it: it should be able to start the
    /// image at once.
    pub needed_here: bool,
}

impl Node {
    /// The images of all workloads.
    pub fn images(&self) -> Vec<ImageUse> {
        let claimed = self.claims.mine().map(|claim| claim.replica.uid);
        let needed: BTreeSet<Digest> =
            claimed.chain(self.guarded().map(|workload| workload.uid)).collect();
        let of = |workload: &crate::desired::Workload| match &workload.spec.program {
            Program::Containers(containers) => {
                let images = containers.iter().map(|container| ImageUse {
                    workload: workload.name.clone(),
                    image: container.image.clone(),
                    needed_here: needed.contains(&workload.uid),
                });
                images.collect::<Vec<_>>()
            }
            Program::Wasm(_) => Vec::new(),
        };
        self.desired.workloads().flat_map(of).collect()
    }

    /// All artifacts that some workload names.
    pub fn named_artifacts(&self) -> BTreeSet<Digest> {
        let all = self.desired.workloads().flat_map(|workload| workload.spec.program.artifacts());
        all.map(|artifact| artifact.digest).collect()
    }
}
