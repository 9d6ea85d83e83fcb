//! An owner's awards until their claims are made: sent again when they are not answered, cancelled
//! when that does not help.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Award, Digest, NodeId, Place, Queue, ReplicaId, Signed, Time, Token};

use super::cx::Cx;
use super::fact::{Fact, NotTaken, Reason};
use super::message::Message;
use super::summary::Summary;

/// Remembered awards that were given up, for a claim that is made all the same. A winner answers
/// within seconds.
const MAX_PAST: usize = 1_024;

/// Awards that wait for their claim. Bounded by [`super::Config::max_awards`] when an auction is
/// opened, and above that by the places which the open auctions seek.
#[derive(Clone, Debug, Default)]
pub(super) struct Awards {
    open: BTreeMap<ReplicaId, PendingAward>,
    past: VecDeque<(ReplicaId, Token, NodeId)>,
    /// Claims that winners have reported, and whose sheets have not come: at most [`MAX_PAST`].
    reported: VecDeque<(ReplicaId, NodeId)>,
}

#[derive(Clone, Debug)]
struct PendingAward {
    award: Signed<Award>,
    summary: Arc<Summary>,
    again_at: Time,
    again_after: Duration,
    cancel_at: Time,
    cancelled: bool,
}

/// Whether the owner waited for a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claimed {
    /// Its award was open.
    InTime,
    /// Its award had been given up.
    Late,
    /// No award of it is known here.
    Unknown,
}

impl Awards {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn past(&self) -> Queue {
        Queue::new("awards given up on", self.past.len(), MAX_PAST)
    }

    pub(super) fn is_open(&self, replica: &ReplicaId) -> bool {
        self.open.contains_key(replica)
    }

    /// The generation of an open award.
    pub(super) fn generation(&self, replica: &ReplicaId) -> Option<Digest> {
        self.open.get(replica).map(|pending| pending.award.generation)
    }

    /// How long a guardian should wait for the claim of an award to `to`.
    pub(super) fn open_for(cx: &Cx<'_>, to: &NodeId) -> Duration {
        let config = &cx.base.config;
        config.claim_within + config.cancel_within + cx.context.rtt(to) * 4
    }

    /// Sends awards of one auction to their winner.
    pub(super) fn send_awards(
        &mut self,
        cx: &mut Cx<'_>,
        to: NodeId,
        awards: Vec<Signed<Award>>,
        summary: &Arc<Summary>,
    ) {
        let config = &cx.base.config;
        let round_trip = cx.context.rtt(&to) * 2;
        let again_after = (config.award_again_after + round_trip).max(Duration::from_millis(1));
        let (again_at, cancel_at) =
            (cx.now + again_after, cx.now + config.claim_within + round_trip);
        let wire = awards.iter().map(|award| award.wire()).collect();
        for award in awards {
            cx.base.timers.set(Reason::AwardUnanswered(award.replica), again_at.min(cancel_at));
            let summary = Arc::clone(summary);
            let pending =
                PendingAward { summary, again_at, again_after, cancel_at, cancelled: false, award };
            self.open.insert(pending.award.replica, pending);
        }
        cx.send(to, Message::Award { awards: wire, summary: Box::new(summary.as_ref().clone()) });
    }

    /// The winner has its claim, by its message or by its sheet.
    pub(super) fn claimed(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        replica: ReplicaId,
        token: Token,
    ) -> Claimed {
        if self.matching(&node, &replica, &token).is_some() {
            self.drop_open(cx, &replica);
            self.seen(&replica);
            if self.reported.len() >= MAX_PAST {
                self.reported.pop_front();
            }
            self.reported.push_back((replica, node));
            cx.facts.push(Fact::Settled { replica, node, token });
            return Claimed::InTime;
        }
        let before = self.past.len();
        self.past.retain(|past| *past != (replica, token, node));
        if self.past.len() == before {
            return Claimed::Unknown;
        }
        cx.facts.push(Fact::Settled { replica, node, token });
        // Another node was awarded the place meanwhile: cancel that, perhaps in time.
        if let Some(pending) = self.drop_open(cx, &replica) {
            let (auction, token, to) =
                (pending.award.auction, pending.award.token, pending.award.to);
            self.keep_past(replica, token, to);
            cx.send(to, Message::Cancel { auction, replica, token });
        }
        Claimed::Late
    }

    /// The sheet of a claim has come.
    pub(super) fn seen(&mut self, replica: &ReplicaId) {
        self.reported.retain(|(reported, _)| reported != replica);
    }

    /// The nodes that this owner knows, before their sheets, to have places of a workload.
    pub(super) fn placed<'a>(&'a self, uid: &'a Digest) -> impl Iterator<Item = (Place, NodeId)> {
        let reported = self.reported.iter().copied();
        let open = self.open.values().map(|pending| (pending.award.replica, pending.award.to));
        let of = reported.chain(open).filter(|(replica, _)| replica.uid == *uid);
        of.map(|(replica, node)| (replica.place, node))
    }

    /// The winner does not take the award, or cannot. Returns whether the award was open.
    pub(super) fn lost(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        replica: ReplicaId,
        token: Token,
        why: NotTaken,
    ) -> bool {
        if self.matching(&node, &replica, &token).is_none() {
            return false;
        }
        self.drop_open(cx, &replica);
        cx.facts.push(Fact::Reopen { replica, node, why });
        true
    }

    /// An award is unanswered. Returns it if it is given up.
    pub(super) fn on_due(&mut self, cx: &mut Cx<'_>, replica: ReplicaId) -> Option<Signed<Award>> {
        let pending = self.open.get_mut(&replica)?;
        let (to, auction, token) = (pending.award.to, pending.award.auction, pending.award.token);
        if pending.cancelled {
            let award = self.drop_open(cx, &replica)?.award;
            self.keep_past(replica, token, to);
            cx.facts.push(Fact::Reopen { replica, node: to, why: NotTaken::Silent });
            return Some(award);
        }
        if cx.now >= pending.cancel_at {
            pending.cancelled = true;
            let until = cx.now + cx.base.config.cancel_within + cx.context.rtt(&to) * 2;
            cx.base.timers.set(Reason::AwardUnanswered(replica), until);
            cx.send(to, Message::Cancel { auction, replica, token });
        } else if cx.now >= pending.again_at {
            self.resend(cx, replica);
        } else {
            cx.base
                .timers
                .set(Reason::AwardUnanswered(replica), pending.again_at.min(pending.cancel_at));
        }
        None
    }

    /// Sends all open awards of one auction to one winner in one message, because the winner frees
    /// what is not in it.
    fn resend(&mut self, cx: &mut Cx<'_>, replica: ReplicaId) {
        let Some(pending) = self.open.get(&replica) else { return };
        let (to, auction, summary) =
            (pending.award.to, pending.award.auction, Arc::clone(&pending.summary));
        let mut awards = Vec::new();
        for pending in self.open.values_mut() {
            if pending.award.auction == auction && pending.award.to == to && !pending.cancelled {
                pending.again_after *= 2;
                pending.again_at = cx.now + pending.again_after;
                awards.push(pending.award.wire());
                let reason = Reason::AwardUnanswered(pending.award.replica);
                cx.base.timers.set(reason, pending.again_at.min(pending.cancel_at));
            }
        }
        cx.send(to, Message::Award { awards, summary: Box::new(summary.as_ref().clone()) });
    }

    /// The node is down: the owner does not wait for its claims.
    pub(super) fn node_down(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let lost: Vec<(ReplicaId, Token)> = self
            .open
            .values()
            .filter(|pending| pending.award.to == *node)
            .map(|pending| (pending.award.replica, pending.award.token))
            .collect();
        for (replica, token) in lost {
            self.lost(cx, *node, replica, token, NotTaken::Down);
            self.keep_past(replica, token, *node);
        }
    }

    pub(super) fn any_open_of(&self, uid: &Digest) -> bool {
        self.open.keys().any(|replica| replica.uid == *uid)
    }

    /// Stops waiting for awards of a workload; they stay valid.
    pub(super) fn forget_workload(&mut self, cx: &mut Cx<'_>, uid: &Digest) {
        let gone: Vec<ReplicaId> =
            self.open.keys().filter(|replica| replica.uid == *uid).copied().collect();
        for replica in gone {
            if let Some(pending) = self.drop_open(cx, &replica) {
                self.keep_past(replica, pending.award.token, pending.award.to);
            }
        }
    }

    fn matching(&self, node: &NodeId, replica: &ReplicaId, token: &Token) -> Option<&PendingAward> {
        self.open
            .get(replica)
            .filter(|pending| pending.award.to == *node && pending.award.token == *token)
    }

    fn drop_open(&mut self, cx: &mut Cx<'_>, replica: &ReplicaId) -> Option<PendingAward> {
        cx.base.timers.cancel(Reason::AwardUnanswered(*replica));
        self.open.remove(replica)
    }

    fn keep_past(&mut self, replica: ReplicaId, token: Token, node: NodeId) {
        if self.past.len() >= MAX_PAST {
            self.past.pop_front();
        }
        self.past.push_back((replica, token, node));
    }
}
