//! Awards whose claims have not been seen yet. Guardians know those of other owners, so that a new
//! owner does not auction a place that is just being claimed. An owner knows its own ones whose
//! winner has answered and whose sheet is still on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Award, Digest, NodeId, Place, ReplicaId, Time, Token, Unverified};

use super::OpenAward;
use super::cx::Cx;
use super::fact::{Fact, Reason};

/// The longest time for which the awards of one owner keep a place waiting, however often it awards
/// the place anew.
const OPEN_AT_MOST: Duration = Duration::from_secs(10);
/// The time in which an owner's notices about a place are worth nothing, after no claim came of the
/// ones before: else a member could keep a place waiting for ever.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

/// Awards by replica and owner. Bounded by [`super::Config::max_notices`], of which one owner gets
/// an eighth; an award that is not kept costs at most a duplicate, which claims settle.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices {
    noted: BTreeMap<(ReplicaId, NodeId), Noted>,
}

#[derive(Clone, Debug)]
struct Noted {
    /// The first award of the place by this owner of which no claim has come.
    since: Time,
    /// None after it lapsed.
    open: Option<OpenAward>,
}

impl Notices {
    pub(super) fn len(&self) -> usize {
        self.noted.len()
    }

    /// The number of claims that winners of this node's awards have reported, and whose sheets have
    /// not come. A mesh that is late with sheets gets fewer new auctions.
    pub(super) fn awaited(&self, me: &NodeId) -> usize {
        self.noted.iter().filter(|((_, owner), it)| owner == me && it.open.is_some()).count()
    }

    /// Whether there is room for one more award of this owner.
    fn has_room(&self, cx: &Cx<'_>, owner: &NodeId) -> bool {
        let (most, of_one) = (cx.base.config.max_notices, cx.base.config.max_notices / 8);
        let is_theirs = |(_, of): &&(ReplicaId, NodeId)| of == owner;
        self.noted.len() < of_one
            || (self.noted.len() < most && self.noted.keys().filter(is_theirs).count() < of_one)
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
        let since = match self.noted.get(&key) {
            Some(Noted { open: Some(known), since }) if known.token < award.token => *since,
            Some(_) => return,
            None if self.has_room(cx, &from) => cx.now,
            None => return,
        };
        let asked = cx.now + Duration::from_millis(u64::from(open_ms));
        let until = asked.min(since + OPEN_AT_MOST);
        let open = OpenAward { replica: award.replica, to: award.to, token: award.token, until };
        self.noted.insert(key, Noted { since, open: Some(open) });
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
        if to == me || self.noted.len() >= cx.base.config.max_notices {
            return;
        }
        // The winner is up, otherwise its awards were dropped. So its sheet comes by gossip, or by
        // a comparison when a busy mesh drops the gossip. To award the place again before that
        // makes a duplicate.
        let until = cx.now + OPEN_AT_MOST;
        let open = Some(OpenAward { replica, to, token, until });
        self.noted.insert((replica, me), Noted { since: cx.now, open });
        cx.base.timers.set(Reason::NoticeLapses(replica, me), until);
    }

    /// The time of an award is up, and no claim came of it; or it is forgotten.
    pub(super) fn on_lapse(&mut self, cx: &mut Cx<'_>, replica: ReplicaId, owner: NodeId) {
        let key = (replica, owner);
        let Some(noted) = self.noted.get_mut(&key) else { return };
        let was_open = noted.open.take().is_some();
        if was_open && owner != cx.base.me {
            cx.base.timers.set(Reason::NoticeLapses(replica, owner), cx.now + DOUBTED_FOR);
        } else {
            self.noted.remove(&key);
        }
        if was_open {
            cx.facts.push(Fact::AwardLapsed { replica });
        }
    }

    /// A winner that is down claims nothing.
    pub(super) fn node_down(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let is_won = |it: &Noted| it.open.as_ref().is_some_and(|award| award.to == *node);
        let lost: Vec<(ReplicaId, NodeId)> =
            self.noted.iter().filter(|(_, it)| is_won(it)).map(|(key, _)| *key).collect();
        for (replica, owner) in lost {
            self.noted.remove(&(replica, owner));
            cx.base.timers.cancel(Reason::NoticeLapses(replica, owner));
            cx.facts.push(Fact::AwardLapsed { replica });
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
        let award = self.noted.get(&key).and_then(|it| it.open.as_ref());
        if award.is_some_and(|award| award.to == *node && award.token == token) {
            self.noted.remove(&key);
            cx.base.timers.cancel(Reason::NoticeLapses(*replica, token.by));
        }
    }

    pub(super) fn of_workload(&self, uid: &Digest) -> Vec<OpenAward> {
        let first = (ReplicaId { uid: *uid, place: Place::Ordinal(0) }, NodeId([0; 32]));
        let of_uid = self.noted.range(first..).take_while(|((replica, _), _)| replica.uid == *uid);
        of_uid.filter_map(|(_, it)| it.open.clone()).collect()
    }
}
