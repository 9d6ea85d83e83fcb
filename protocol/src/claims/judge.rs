//! Trust of a node in the others that hold a replica of its own.

use crate::model::{Claim, NodeId, ReplicaId, Revision, Token};

use super::keeper::{Credit, Keeper, KeptBecause, awarded_under, is_good, keeper};

/// The knowledge of other rooms that disputes need.
pub struct Judge<'a> {
    /// Whether a node is up: this node yields only to one that is.
    pub up: &'a dyn Fn(&NodeId) -> bool,
    /// The revision that belongs in a place.
    pub current: &'a dyn Fn(&ReplicaId) -> Option<Revision>,
    /// Whether claims can be relied on.
    pub credit: Credit<'a>,
    /// Whether a replica that leaves its node is to stop there now, before another one starts it.
    pub stops_first: &'a dyn Fn(&ReplicaId) -> bool,
    /// Whether a rival and its owner may not have known that this node runs the replica: `mine`
    /// has just become healthy, or one of them was apart from this node since then.
    pub unaware: &'a dyn Fn(&Claim, &NodeId, &Claim) -> bool,
    /// Whether the node that awarded a claim may have been the owner where it was: each node that
    /// would come before it has only just been met again.
    pub was_owner: &'a dyn Fn(&Claim) -> bool,
}

/// A rival that is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Believed {
    pub node: NodeId,
    /// The token of its award.
    pub award: Token,
    /// Whether this node has seen it awarded by a node that might.
    pub credible: bool,
}

impl Believed {
    /// Whether it is the same rival with the same award.
    pub fn is(&self, other: &Believed) -> bool {
        (self.node, self.award) == (other.node, other.award)
    }
}

impl Judge<'_> {
    /// Whether the replica is to leave this node, and not the rival's, which was awarded it by a
    /// node that may: then this node is to yield.
    fn moves(&self, me: NodeId, mine: &Claim, rival: &NodeId, claim: &Claim) -> bool {
        self.leads_to(me, mine, rival, claim) && self.is_credible(me, rival, claim)
    }

    pub(super) fn leads_to(&self, me: NodeId, mine: &Claim, rival: &NodeId, claim: &Claim) -> bool {
        let leaves = self.credit.leaves;
        leaves(&me, mine) && !leaves(rival, claim)
    }

    /// Whether a rival was awarded it by a node that may, by one that could when it did, or by this
    /// one.
    fn is_credible(&self, me: NodeId, rival: &NodeId, claim: &Claim) -> bool {
        let by_me = claim.award.by().0 == me.0;
        by_me || (self.credit.plausible)(rival, claim) || (self.was_owner)(claim)
    }

    /// A rival that is to be kept. What was credible stays so: owners change meanwhile.
    pub(super) fn believe(
        &self,
        me: NodeId,
        node: &NodeId,
        claim: &Claim,
        known: Option<Believed>,
    ) -> Believed {
        let credible = self.is_credible(me, node, claim);
        let now = Believed { node: *node, award: awarded_under(claim), credible };
        known.filter(|known| known.is(&now) && known.credible).unwrap_or(now)
    }

    /// The rivals that this node, which is healthy, would yield to and must not, each with the
    /// signer of its award. **Nobody who could know awards a replica that runs well**, so such a
    /// claim is a lie, or its author is broken.
    pub(super) fn doubted(
        &self,
        me: NodeId,
        holders: &[(NodeId, &Claim)],
        wanted: Option<&Revision>,
        believed: Option<&Believed>,
    ) -> Vec<(NodeId, NodeId)> {
        let Some(&(_, mine)) = holders.iter().find(|(node, _)| *node == me) else {
            return Vec::new();
        };
        if !is_good(mine, wanted) || !(self.credit.knows)(&me, &mine.replica) {
            return Vec::new();
        }
        let is_doubted = |(node, claim): &&(NodeId, &Claim)| {
            let both = [(me, mine), (*node, *claim)];
            *node != me
                && keeper(&both, wanted, self.credit).is_some_and(|kept| kept.node == *node)
                && !self.trusts(me, mine, (*node, claim), believed)
        };
        let doubted = holders.iter().filter(is_doubted);
        doubted.map(|(node, claim)| (*node, NodeId(claim.award.by().0))).collect()
    }

    /// Whether a rival of this node's healthy replica may have been awarded it in good faith.
    fn trusts(
        &self,
        me: NodeId,
        mine: &Claim,
        (node, claim): (NodeId, &Claim),
        believed: Option<&Believed>,
    ) -> bool {
        believed.is_some_and(|it| it.node == node && it.award == awarded_under(claim))
            || self.moves(me, mine, &node, claim)
            || (self.unaware)(mine, &node, claim)
    }

    /// The keeper, if it is not this node: also a rival that does not yield and whose claim is as
    /// good as this node's but for its age. **Of two that each take the other one's place for
    /// theirs, both would stay for ever.**
    pub(super) fn rival_of(
        &self,
        me: NodeId,
        holders: &[(NodeId, &Claim)],
        wanted: Option<&Revision>,
        insisting: Option<&NodeId>,
        believed: Option<&Believed>,
    ) -> Option<Keeper> {
        let kept = keeper(holders, wanted, self.credit)?;
        let mine = holders.iter().find(|(node, _)| *node == me)?;
        let stays = insisting.filter(|_| kept.node == me);
        let Some(rival) = stays.and_then(|it| holders.iter().find(|(node, _)| node == it)) else {
            return Some(kept);
        };
        let between = keeper(&[*mine, *rival], wanted, self.credit)?.because;
        let is_equal = matches!(between, KeptBecause::Older { .. } | KeptBecause::LowerId);
        let yields = is_equal && self.trusts(me, mine.1, *rival, believed);
        Some(if yields { Keeper { node: rival.0, because: KeptBecause::Stays } } else { kept })
    }
}
