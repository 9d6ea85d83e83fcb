mod disputes;
mod slots;

use std::sync::LazyLock;

use crate::model::Place;
use crate::model::{
    AuctionId, Award, Claim, ClusterId, Digest, KeyPair, NodeId, Phase, ReplicaId, Signed, Token,
    WallClock,
};

use super::*;

const CLUSTER: ClusterId = ClusterId([9; 32]);
const CURRENT: Digest = Digest([1; 32]);
const OLD: Digest = Digest([2; 32]);

/// Derived once: the worlds of a property test look nodes up far more often than they sign.
static KEYS: LazyLock<Vec<KeyPair>> =
    LazyLock::new(|| (0..=u8::MAX).map(|n| KeyPair::from_seed(&[n; 32])).collect());

fn keys(n: u8) -> KeyPair {
    KEYS[usize::from(n)].clone()
}

fn id(n: u8) -> NodeId {
    NodeId(KEYS[usize::from(n)].public().0)
}

fn room(n: u8) -> Claims {
    Claims::new(Config::default(), id(n), keys(n), CLUSTER, 0)
}

fn replica(index: u32) -> ReplicaId {
    ReplicaId { uid: Digest([5; 32]), place: Place::Ordinal(index) }
}

/// An award by node 200 under `counter`.
fn award(replica: ReplicaId, to: u8, counter: u64) -> Award {
    let owner = id(200);
    let auction = AuctionId { owner, number: counter };
    Award {
        auction,
        replica,
        generation: CURRENT,
        token: Token { counter, by: owner, incarnation: 1 },
        to: id(to),
    }
}

fn claim_by(award: &Signed<Award>) -> Claim {
    Claim {
        update: None,
        replica: award.replica,
        name: "web".parse().unwrap(),
        generation: award.generation,
        token: award.token,
        phase: Phase::Healthy,
        since: WallClock(0),
        award: award.wire(),
    }
}

fn claim(replica: ReplicaId, node: u8, counter: u64) -> Claim {
    claim_by(&Signed::sign(award(replica, node, counter), &keys(200), &CLUSTER))
}

fn everyone(_: &NodeId) -> Standing {
    Standing::Member
}
