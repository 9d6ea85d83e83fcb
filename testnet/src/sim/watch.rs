//! Observations of earlier steps that the invariants of later steps need.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::{Digest, Key, Need, NodeId, ReplicaId, Token};

/// Observations of earlier steps that later steps are compared with.
#[derive(Default)]
pub struct Watch {
    /// Large worlds switch the checks off to save time.
    pub is_off: bool,
    /// Every generation of every workload that was published, and the resources of one replica.
    pub generations: BTreeMap<(Digest, Digest), Need>,
    /// Workloads of which there are never two of one replica by choice.
    pub stateful: BTreeSet<Digest>,
    /// The slot hash that a device broadcast under each (slot, counter).
    pub told: BTreeMap<(usize, u8, u64), Digest>,
    /// Stops that a node may order because another holder said that it keeps the replica healthy.
    pub kept: BTreeMap<(NodeId, ReplicaId), usize>,
    /// For each device its boot, the highest incarnation announced before it, and the highest
    /// since.
    pub lives: BTreeMap<usize, (u32, u64, u64)>,
    /// The nodes that hold a claim under an award, on disk or in a pending write.
    pub holders: BTreeMap<(ReplicaId, Token), BTreeSet<NodeId>>,
    /// The claims of `holders` by slot.
    pub slots: BTreeMap<(NodeId, u8), Vec<(ReplicaId, Token)>>,
    /// Changes that a node refused to a user.
    pub refused: BTreeSet<Digest>,
    /// How often a device yielded a replica to another holder.
    pub yields: BTreeMap<(usize, Option<String>), u32>,
    /// Devices that lie, or did.
    pub liars: BTreeSet<NodeId>,
    /// Devices that a liar says are members, though nobody let them in.
    pub ghosts: BTreeSet<NodeId>,
    /// The admission that used up the invite of a liar: its key and hash.
    pub spent: Option<(Key, Digest)>,
    /// For a device and its peer the link over which it last heard of it, and its own time when it
    /// first and last did, microseconds.
    pub heard: BTreeMap<(usize, usize), (u64, u64, u64)>,
    /// The generation of a replica that runs on a device, and the world time since when.
    pub healthy: BTreeMap<(usize, ReplicaId), (Digest, u64)>,
    /// World time at which a device last could not know what others did.
    pub apart: BTreeMap<usize, u64>,
    /// World time at which a device last found that another one is up.
    pub met: BTreeMap<(usize, usize), u64>,
    /// World time at which the clock or the engine of a device last changed: it may be unsure since
    /// when a replica is healthy.
    pub unsure: BTreeMap<usize, u64>,
    /// The rulings of a liar that each daemon took, by device and start.
    pub rulings: BTreeMap<(usize, u32), BTreeSet<Digest>>,
    /// Replicas that a liar took, as `docs/trust.md` says it can.
    pub lost_to_liars: BTreeSet<ReplicaId>,
    /// The first violation: device and text.
    pub broken: Option<(usize, String)>,
}

impl Watch {
    pub fn hold(
        &mut self,
        node: NodeId,
        slot: u8,
        claims: Vec<(ReplicaId, Token)>,
    ) -> Option<(Token, String)> {
        self.let_go(node, slot);
        let mut twin = None;
        for claim in &claims {
            let holders = self.holders.entry(*claim).or_default();
            holders.insert(node);
            if holders.len() > 1 {
                let holders: Vec<String> = holders.iter().map(NodeId::short).collect();
                let what =
                    format!("{} is claimed under one award by {}", claim.0, holders.join(" and "));
                twin = Some((claim.1, what));
            }
        }
        self.slots.insert((node, slot), claims);
        twin
    }

    pub fn let_go(&mut self, node: NodeId, slot: u8) {
        for claim in self.slots.remove(&(node, slot)).unwrap_or_default() {
            if let Some(holders) = self.holders.get_mut(&claim) {
                holders.remove(&node);
                if holders.is_empty() {
                    self.holders.remove(&claim);
                }
            }
        }
    }
}
