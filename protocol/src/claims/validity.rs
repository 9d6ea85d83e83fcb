//! The checks of a slot before it is accepted.

use crate::model::claim::{MAX_REASON, MAX_SLOT_CLAIMS, SLOTS};
use crate::model::{Award, Claim, ClusterId, NodeId, Phase, Place, ReplicaId, Signed, Slot, Token};

use super::Standing;
use super::index::find_in;

/// How far a token's counter may be above all that were seen for the replica: a stolen node must
/// not be able to use the counters up. An honest counter grows by one per award.
pub(super) const MAX_JUMP: u64 = 1 << 20;
/// The greatest counter of a token or a slot, so that adding to one never overflows.
pub(super) const MAX_COUNTER: u64 = 1 << 62;

/// The reason why a slot was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// Bad everywhere and for ever. The peer that relayed it did not check it.
    #[error("the slot is invalid: {0}")]
    Never(#[from] Invalid),
    /// Cannot be judged yet, or not by this node. No peer is to blame; repair brings the slot
    /// again.
    #[error("the slot cannot be judged yet: {0}")]
    NotYet(#[from] Premature),
}

/// A fault that makes a slot bad everywhere and for ever.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Invalid {
    #[error("there is no slot {0}")]
    Number(u8),
    #[error("counter {0} is out of bounds")]
    Counter(u64),
    #[error("{0} claims, at most {MAX_SLOT_CLAIMS} are allowed")]
    TooMany(usize),
    #[error("the claims are not in order")]
    Order,
    #[error("the claim of {0} is in the wrong slot")]
    WrongSlot(ReplicaId),
    #[error("a reason of {0} bytes, at most {MAX_REASON} are allowed")]
    Reason(usize),
    #[error("the claim of {0} is by another node than the one that the place belongs to")]
    PlaceOfAnother(ReplicaId),
    #[error("the claim of {0} shows no award that can be read")]
    AwardMalformed(ReplicaId),
    #[error("the claim of {0} shows an award of another replica")]
    AwardOfAnother(ReplicaId),
    #[error("the claim of {0} shows an award to another node")]
    AwardToAnother(ReplicaId),
    #[error("the claim of {0} shows an award whose token or auction is not its signer's")]
    AwardNotSigners(ReplicaId),
    #[error("the claim of {0} has a lower token than its award")]
    BelowAward(ReplicaId),
    #[error("the award of {0} bears a wrong signature")]
    AwardSignature(ReplicaId),
}

/// The reason why a slot cannot be judged yet, or not by this node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Premature {
    #[error("node {} is not known as a member", .0.short())]
    Stranger(NodeId),
    #[error("node {}, which awarded {replica}, was never known as a member", .by.short())]
    StrangersAward { by: NodeId, replica: ReplicaId },
    #[error("the token counter {counter} of {replica} is too far ahead of all that was seen")]
    CounterAhead { replica: ReplicaId, counter: u64 },
}

/// Judges a slot by its bytes alone.
pub(super) fn check_form(slot: &Signed<Slot>) -> Result<(), Invalid> {
    if slot.slot >= SLOTS {
        return Err(Invalid::Number(slot.slot));
    }
    if slot.counter > MAX_COUNTER {
        return Err(Invalid::Counter(slot.counter));
    }
    if slot.claims.len() > MAX_SLOT_CLAIMS {
        return Err(Invalid::TooMany(slot.claims.len()));
    }
    if !slot.claims.is_sorted_by(|a, b| a.replica < b.replica) {
        return Err(Invalid::Order);
    }
    let node = NodeId(slot.by().0);
    slot.claims.iter().try_for_each(|claim| check_claim(&node, slot.slot, claim))
}

fn check_claim(node: &NodeId, slot: u8, claim: &Claim) -> Result<(), Invalid> {
    let replica = claim.replica;
    if replica.slot() != slot {
        return Err(Invalid::WrongSlot(replica));
    }
    if matches!(replica.place, Place::OnNode(of) if of != *node) {
        return Err(Invalid::PlaceOfAnother(replica));
    }
    if claim.token.counter > MAX_COUNTER {
        return Err(Invalid::Counter(claim.token.counter));
    }
    let phases = [Some(&claim.phase), claim.update.as_ref().map(|update| &update.phase)];
    for phase in phases.into_iter().flatten() {
        if let Phase::Failing { reason, .. } | Phase::Waiting { reason } = phase
            && reason.len() > MAX_REASON
        {
            return Err(Invalid::Reason(reason.len()));
        }
    }
    let award: Award = claim.award.peek().map_err(|_| Invalid::AwardMalformed(replica))?;
    let signer = NodeId(claim.award.by().0);
    if award.replica != replica {
        return Err(Invalid::AwardOfAnother(replica));
    }
    if award.to != *node {
        return Err(Invalid::AwardToAnother(replica));
    }
    if award.token.by != signer || award.auction.owner != signer {
        return Err(Invalid::AwardNotSigners(replica));
    }
    if claim.token < award.token {
        return Err(Invalid::BelowAward(replica));
    }
    Ok(())
}

/// Judges a slot by the roster and by what was seen. `known` is the slot that it would replace: the
/// awards of that one were verified.
pub(super) fn check_rights(
    slot: &Signed<Slot>,
    known: Option<&Signed<Slot>>,
    cluster: &ClusterId,
    standing: &dyn Fn(&NodeId) -> Standing,
    highest: &dyn Fn(&ReplicaId) -> Option<Token>,
) -> Result<(), Rejection> {
    let node = NodeId(slot.by().0);
    if standing(&node) != Standing::Member {
        return Err(Premature::Stranger(node).into());
    }
    let known = known.map_or(&[][..], |known| &known.claims);
    for claim in &slot.claims {
        let seen = highest(&claim.replica).map_or(0, |token| token.counter);
        if claim.token.counter > seen.saturating_add(MAX_JUMP) {
            return Err(Premature::CounterAhead {
                replica: claim.replica,
                counter: claim.token.counter,
            }
            .into());
        }
        // The whole award is compared, because its hash does not cover the signature.
        if find_in(known, &claim.replica).is_some_and(|known| known.award == claim.award) {
            continue;
        }
        let signer = NodeId(claim.award.by().0);
        if standing(&signer) == Standing::Stranger {
            return Err(Premature::StrangersAward { by: signer, replica: claim.replica }.into());
        }
        claim.award.check(cluster).map_err(|_| Invalid::AwardSignature(claim.replica))?;
    }
    Ok(())
}
