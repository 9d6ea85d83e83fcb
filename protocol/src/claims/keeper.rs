//! The choice of the holder that is kept. Pure, so that all holders decide alike once they see the
//! same claims.

use std::cmp::Reverse;
use std::fmt;

use crate::model::{Claim, Digest, Need, NodeId, Phase, ReplicaId, Token};

use super::index::Index;

/// The evidence, besides its own words, that a claim can be relied on.
#[derive(Clone, Copy)]
pub struct Credit<'a> {
    /// Whether the node that awarded a claim to its holder may own the workload, as far as this
    /// node knows the ring.
    pub plausible: &'a dyn Fn(&NodeId, &Claim) -> bool,
    /// Whether a node sees what it runs in a place: while its container engine does not answer, it
    /// cannot, and its "healthy" is an old one.
    pub knows: &'a dyn Fn(&NodeId, &ReplicaId) -> bool,
    /// What a claimed replica reserves; nothing where that is not known.
    pub needs: &'a dyn Fn(&Claim) -> Need,
    /// Whether a node offers so much, by its own record. **A node that claims more than it offers
    /// cannot run it all**, and in a dispute its word is worth no more than a failing replica.
    pub offers: &'a dyn Fn(&NodeId, &Need) -> bool,
    /// Whether a claim is to have another node: that is kept, and starts while this one serves.
    pub leaves: &'a dyn Fn(&NodeId, &Claim) -> bool,
}

impl Credit<'_> {
    /// Whether a node may claim all that it claims.
    pub(super) fn covers(&self, node: &NodeId, index: &Index) -> bool {
        let claimed =
            index.of_node(node).map(self.needs).fold(Need::default(), |sum, it| sum.plus(&it));
        (self.offers)(node, &claimed)
    }
}

/// The holder that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keeper {
    /// The node.
    pub node: NodeId,
    /// The reason why it is kept, and not the next best.
    pub because: KeptBecause,
}

/// The reason why a holder is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptBecause {
    /// There is no other holder.
    Alone,
    /// Each other one is to leave its node.
    Leaves,
    /// Only this one is healthy and of the desired generation.
    Healthy,
    /// Only this one was awarded by a node that may own the workload.
    Awarded,
    /// Its claim is the older one.
    Older {
        /// The counter of its award.
        counter: u64,
        /// The counter of the next best.
        than: u64,
    },
    /// It ran all the time, as far as it knows, and does not yield; all else but age is equal.
    Stays,
    /// All else is equal: the lower id of the awarding owner, then of the holder.
    LowerId,
}

impl fmt::Display for KeptBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptBecause::Alone => f.write_str("there is no other"),
            KeptBecause::Leaves => f.write_str("the other is to leave its node"),
            KeptBecause::Healthy => f.write_str("only it is healthy and of the desired generation"),
            KeptBecause::Awarded => {
                f.write_str("only it was awarded by a node that may own the workload")
            }
            KeptBecause::Older { counter, than } => {
                write!(
                    f,
                    "its claim is older: awarded under token {counter}, the other under {than}"
                )
            }
            KeptBecause::Stays => f.write_str("it ran all the time and does not yield"),
            KeptBecause::LowerId => f.write_str("all else being equal, it has the lower id"),
        }
    }
}

/// The keeper among `holders`; none only if there are none. `current` is the desired generation, if
/// it is known.
///
/// A holder that stays beats one that is to leave its node, whatever it runs: the other one stops
/// only after it has said that it is healthy. Then a healthy claim of the desired generation beats
/// one that is not, or whose holder cannot see whether it is; then one whose award is plausible
/// beats one whose is not, as any member can sign an award; then the older claim is kept. Older is
/// the claim that was awarded under the lower token: a claim's own token grows when its holder
/// adopts one, and a rule that looked at it would change its mind during a dispute.
pub fn keeper(
    holders: &[(NodeId, &Claim)],
    current: Option<&Digest>,
    credit: Credit<'_>,
) -> Option<Keeper> {
    let rank = |(node, claim): &(NodeId, &Claim)| Rank {
        leaves: (credit.leaves)(node, claim),
        good: Reverse(is_good(claim, current) && (credit.knows)(node, &claim.replica)),
        plausible: Reverse((credit.plausible)(node, claim)),
        award: awarded_under(claim),
        node: *node,
    };
    let mut ranks: Vec<Rank> = holders.iter().map(rank).collect();
    ranks.sort();
    let best = ranks.first()?;
    let because = match ranks.get(1) {
        None => KeptBecause::Alone,
        Some(next) if next.leaves != best.leaves => KeptBecause::Leaves,
        Some(next) if next.good != best.good => KeptBecause::Healthy,
        Some(next) if next.plausible != best.plausible => KeptBecause::Awarded,
        Some(next) if next.award.counter != best.award.counter => {
            KeptBecause::Older { counter: best.award.counter, than: next.award.counter }
        }
        Some(_) => KeptBecause::LowerId,
    };
    Some(Keeper { node: best.node, because })
}

/// The token of the award that a claim came from. The claim's own token may be greater: it was
/// adopted.
pub fn awarded_under(claim: &Claim) -> Token {
    // Every accepted claim has an award that can be decoded.
    claim.award.peek().map_or(claim.token, |award| award.token)
}

/// Whether a claim is healthy and of the desired generation.
pub(super) fn is_good(claim: &Claim, current: Option<&Digest>) -> bool {
    claim.phase == Phase::Healthy && current.is_none_or(|current| claim.generation == *current)
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    leaves: bool,
    good: Reverse<bool>,
    plausible: Reverse<bool>,
    award: Token,
    node: NodeId,
}
