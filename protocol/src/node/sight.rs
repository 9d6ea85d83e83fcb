//! Whether nodes can run what they claim, and see what they run.

use crate::claims::awarded_under;
use crate::desired::Desired;
use crate::membership::Membership;
use crate::model::ruling::Move;
use crate::model::{
    Claim, Facts, Need, NodeId, Place, ReplicaId, RulingBody, RulingKey, RulingKind, Spec,
};
use crate::plan::Leaves;
use crate::rulings::Rulings;
use crate::workload::NO_GENERATION;

use super::Node;

/// The facts of nodes that tell whether they see their replicas.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    me: NodeId,
    /// This node's own facts, newer than its record.
    facts: &'a Facts,
    membership: &'a Membership,
    desired: &'a Desired,
    rulings: &'a Rulings,
}

impl<'a> Sight<'a> {
    pub fn new(
        me: NodeId,
        facts: &'a Facts,
        membership: &'a Membership,
        desired: &'a Desired,
        rulings: &'a Rulings,
    ) -> Self {
        Sight { me, facts, membership, desired, rulings }
    }

    /// Whether a node has the runtime of a replica, and so sees how it does. Without its container
    /// engine a node claims on what it saw last: the containers may serve, or be gone.
    ///
    /// True for nodes and workloads that are not known well enough.
    pub fn knows(&self, node: &NodeId, replica: &ReplicaId) -> bool {
        let workload = self.desired.by_uid(&replica.uid);
        let (Some(facts), Some(workload)) = (self.facts_of(node), workload) else { return true };
        facts.runtimes.contains(&workload.spec.program.kind())
    }

    /// What a claimed replica reserves, by its workload as it is wanted now.
    pub fn needs(&self, claim: &Claim) -> Need {
        let workload = self.desired.by_uid(&claim.replica.uid);
        let current = workload.filter(|it| it.generation == claim.generation);
        current.map(|workload| workload.spec.need()).unwrap_or_default()
    }

    /// Whether a node offers so much. True for nodes that are not known well enough.
    pub fn offers(&self, node: &NodeId, claimed: &Need) -> bool {
        self.facts_of(node).is_none_or(|facts| facts.offer().holds(claimed))
    }

    /// Whether a node could run a workload, by its facts.
    pub fn suits(&self, node: &NodeId, spec: &Spec) -> bool {
        self.facts_of(node).is_some_and(|facts| facts.fits(spec).is_ok())
    }

    /// Whether operators want a node to be emptied.
    pub fn is_drained(&self, node: &NodeId) -> bool {
        self.desired.policies().get(node).is_some_and(|policy| policy.drained)
    }

    /// Why a claim is to have another node, if it is.
    pub fn leaves(&self, node: &NodeId, claim: &Claim) -> Option<Leaves> {
        if self.is_drained(node) {
            return Some(Leaves::Drained);
        }
        if self.is_outgrown(claim) {
            return Some(Leaves::Outgrown);
        }
        let Move { from, to, counter } = self.move_of(&claim.replica)?;
        let is_it = from == *node && awarded_under(claim).counter == counter;
        let may_go = *node != to && (self.me == to || self.membership.is_up(&to));
        (is_it && may_go && !self.is_drained(&to)).then_some(Leaves::Moves { to })
    }

    /// Whether a holder says that it has no place for the revision that belongs there.
    fn is_outgrown(&self, claim: &Claim) -> bool {
        let refused = claim.update.as_ref().filter(|update| update.no_place().is_some());
        refused.is_some_and(|update| {
            let workload = self.desired.by_uid(&claim.replica.uid);
            workload.is_some_and(|it| it.generation == update.revision)
        })
    }

    /// What an owner ruled last about the node of a place.
    pub fn move_of(&self, replica: &ReplicaId) -> Option<Move> {
        let Place::Ordinal(ordinal) = replica.place else { return None };
        let key = RulingKey {
            uid: replica.uid,
            kind: RulingKind::Move,
            generation: NO_GENERATION,
            tick: u64::from(ordinal),
        };
        match self.rulings.get(&key)?.body {
            RulingBody::Move(it) => Some(it),
            _ => None,
        }
    }

    fn facts_of(&self, node: &NodeId) -> Option<&'a Facts> {
        match *node == self.me {
            true => Some(self.facts),
            false => self.membership.record(node).map(|record| &record.facts),
        }
    }
}

impl Node {
    pub(super) fn sight(&self) -> Sight<'_> {
        Sight::new(self.me, &self.device.facts, &self.membership, &self.desired, &self.rulings)
    }
}
