//! Awards whose claims have not been seen yet. Guardians know those of other owners, so that a new
//! owner does not auction a place that is just being claimed. An owner knows its own ones whose
//! winner has answered and whose sheet is still on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Award, Digest, NodeId, Place, ReplicaId, Token, Unverified};

use super::OpenAward;
use super::cx::Cx;
use super::fact::{Fact, Reason};

/// The longest time for which an award stays open, whatever its owner asks for.
const OPEN_AT_MOST: Duration = Duration::from_secs(10);

/// Open awards by replica and owner. Bounded by [`super::Config::max_notices`]; an award that is
/// not kept costs at most a duplicate, which claims settle.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices {
    open: BTreeMap<(ReplicaId, NodeId), OpenAward>,
}

impl Notices {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The number of claims that winners of this node's awards have reported, and whose sheets have
    /// not come. A mesh that is late with sheets gets fewer new auctions.
    pub(super) fn awaited(&self, me: &NodeId) -> usize {
        self.open.keys().filter(|(_, owner)| owner == me).count()
    }

    pub(super) fn on_notice(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        awards: Vec<Unverified<Award>>,
        open_ms: u32,
    ) {
        for award in awards {
            self.note(cx, from, award, open_ms);
        }
    }

    fn note(&mut self, cx: &mut Cx<'_>, from: NodeId, award: Unverified<Award>, open_ms: u32) {
        let Ok(award) = award.verify(&cx.base.cluster) else {
            return cx.misbehaved(from, "a notice of an award with a wrong signature");
        };
        if NodeId(award.by().0) != from || award.auction.owner != from || award.token.by != from {
            return cx.misbehaved(from, "a notice of another owner's award");
        }
        let key = (award.replica, from);
        let known = self.open.get(&key);
        let full = known.is_none() && self.open.len() >= cx.base.config.max_notices;
        if full || known.is_some_and(|known| known.token >= award.token) {
            return;
        }
        let until = cx.now + Duration::from_millis(u64::from(open_ms)).min(OPEN_AT_MOST);
        self.open.insert(
            key,
            OpenAward { replica: award.replica, to: award.to, token: award.token, until },
        );
        cx.base.timers.set(Reason::NoticeLapses(award.replica, from), until);
    }

    /// The winner of an award of this node reports its claim; its sheet, which comes by gossip,
    /// will show the claim.
    pub(super) fn await_sheet(
        &mut self,
        cx: &mut Cx<'_>,
        to: NodeId,
        replica: ReplicaId,
        token: Token,
    ) {
        let me = cx.base.me;
        if to == me || self.open.len() >= cx.base.config.max_notices {
            return;
        }
        // The winner is up, otherwise its awards were dropped. So its sheet comes by gossip, or by
        // a comparison when a busy mesh drops the gossip. To award the place again before that
        // makes a duplicate.
        let until = cx.now + OPEN_AT_MOST;
        self.open.insert((replica, me), OpenAward { replica, to, token, until });
        cx.base.timers.set(Reason::NoticeLapses(replica, me), until);
    }

    pub(super) fn on_lapse(&mut self, cx: &mut Cx<'_>, replica: ReplicaId, owner: NodeId) {
        if self.open.remove(&(replica, owner)).is_some() {
            cx.facts.push(Fact::AwardLapsed { replica });
        }
    }

    /// A winner that is down claims nothing.
    pub(super) fn node_down(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let lost: Vec<(ReplicaId, NodeId)> =
            self.open.iter().filter(|(_, award)| award.to == *node).map(|(key, _)| *key).collect();
        for (replica, owner) in lost {
            cx.base.timers.cancel(Reason::NoticeLapses(replica, owner));
            self.on_lapse(cx, replica, owner);
        }
    }

    pub(super) fn saw_claim(
        &mut self,
        cx: &mut Cx<'_>,
        replica: &ReplicaId,
        node: &NodeId,
        token: Token,
    ) {
        let key = (*replica, token.by);
        if self.open.get(&key).is_some_and(|award| award.to == *node && award.token == token) {
            self.open.remove(&key);
            cx.base.timers.cancel(Reason::NoticeLapses(*replica, token.by));
        }
    }

    pub(super) fn of_workload(&self, uid: &Digest) -> Vec<OpenAward> {
        let first = (ReplicaId { uid: *uid, place: Place::Ordinal(0) }, NodeId([0; 32]));
        let of_uid = self.open.range(first..).take_while(|((replica, _), _)| replica.uid == *uid);
        of_uid.map(|(_, award)| award.clone()).collect()
    }
}
