//! The verdict on a suspected member, and the notices that carry it.
//!
//! The deciders are the first m live members after the subject **that can be asked**, whether or
//! not this node is among them. So the deaths of a node and of its observers are decided together,
//! by the nodes that are left; the last survivor decides alone.
//!
//! They decide when more than half of them voted, and
//! - one of them was refused: then `Closed` votes of the others count, so that a single re-dial
//!   reveals a killed process; or `Silent` and `Refused` votes alone are the majority;
//! - no other node showed the subject alive within `silent_after`: one live path is life;
//! - all of them answered, or the others had `votes_wait` to name such a path;
//! - if a refusal decides and not silence: the other members that may have a link with the subject
//!   were asked as well, and named no such path in that time. **A refused dial is death only if no
//!   other node hears the subject**: its old address may belong to another device by now, which
//!   refuses every dial. Only deciders ask these members.
//!
//! With nobody else to ask, a refusal decides, and silence only after `silent_after_alone`: no
//! other node corrects this one.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{NodeId, Signed, Time};

use super::evidence::{Evidence, SuspicionCause};
#[cfg(doc)]
use super::members::PROBATION;
use super::members::{DownState, Liveness};
use super::message::{MAX_VOTES, Message, Notice, ProbeIntent, Seen, Vote};
use super::observers::MAX_WALK;
use super::suspicions::Answer;
use super::{Cx, Membership, Reason, Worth};

/// A node that is held to be down and sends messages is told so at most once in this time.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Members beyond the deciders that are asked before a refusal counts as death: the rest of a full
/// mesh. With the observers they fit into the answers that a suspicion keeps.
const MAX_WITNESSES: usize = 24;
/// Observers gossip a death one after another, so that mostly only the first has to.
const GOSSIP_STEP: Duration = Duration::from_millis(150);

impl Membership {
    /// Judges all suspicions until one is decided. A verdict changes who decides on the others, so
    /// the caller calls again.
    pub(super) fn judge_all(&mut self, cx: &mut Cx<'_>) {
        let subjects: Vec<NodeId> = self.suspicions.keys().copied().collect();
        for subject in subjects {
            let seen = self.seen(cx.now, &subject);
            if seen.is_some() {
                self.announce_suspicion(cx, &subject);
            }
            if self.suspicions.get(&subject).is_some_and(|suspicion| seen > suspicion.seen_told)
                && self.is_asked(cx.now, &subject)
            {
                self.send_vote(cx, subject);
            }
            if let Some(votes) = self.judge(cx, subject) {
                self.declare_down(cx, subject, votes);
                return;
            }
        }
    }

    /// The votes of a verdict; none if there is no verdict yet.
    fn judge(&mut self, cx: &mut Cx<'_>, subject: NodeId) -> Option<Vec<Signed<Vote>>> {
        if cx.now < self.honoured_until(&subject) || self.hears(cx.now, &subject) {
            return None;
        }
        let cut = self.silence_limit(cx.now, &subject, self.config.suspicion.silent_after);
        let seen = self.seen(cx.now, &subject);
        let suspicion = self.suspicions.get(&subject)?;
        if suspicion.alive_at().is_some_and(|at| cx.now.since(at) < cut) {
            self.suspicions.get_mut(&subject)?.ready_at = None;
            return None;
        }
        let proven = seen >= Some(Seen::Silent)
            || (seen == Some(Seen::Closed) && suspicion.notice.as_ref().is_some_and(has_refusal));
        if let (Some(notice), true) = (&suspicion.notice, proven) {
            // The votes were verified when the notice came.
            let votes = notice
                .votes
                .iter()
                .filter_map(|vote| vote.clone().verify(&self.cluster).ok())
                .collect();
            return Some(votes);
        }
        let electorate = self.electorate(cx.now, &subject);
        if electorate.iter().all(|node| *node == self.me) {
            let alone =
                self.silence_limit(cx.now, &subject, self.config.suspicion.silent_after_alone);
            let decides = match seen? {
                Seen::Refused => true,
                Seen::Silent => self.silence(cx.now, &subject) >= alone,
                Seen::Closed => false,
            };
            return if decides {
                self.current_vote(cx.now, &subject).map(|vote| vec![vote])
            } else {
                None
            };
        }
        let mut votes = Vec::new();
        for node in &electorate {
            if *node == self.me {
                votes.push(self.current_vote(cx.now, &subject)?);
            } else if let Some(Answer::Vote(at, vote)) =
                self.suspicions.get(&subject)?.answers.get(node)
                && cx.now.since(*at) < self.config.suspicion.vote_ttl
            {
                votes.push(vote.clone());
            }
        }
        let refused = votes.iter().any(|vote| vote.seen == Seen::Refused);
        let silent = votes.iter().filter(|vote| vote.seen == Seen::Silent).count();
        let firm = votes.iter().filter(|vote| vote.seen != Seen::Closed).count();
        let enough = 2 * votes.len() > electorate.len() && (refused || 2 * firm > electorate.len());
        let suspicion = self.suspicions.get_mut(&subject)?;
        if !enough {
            suspicion.ready_at = None;
            return None;
        }
        let ready_at = *suspicion.ready_at.get_or_insert(cx.now);
        let by_silence = 2 * silent > electorate.len();
        if !by_silence && !electorate.contains(&self.me) {
            return None; // the deciders will send a notice
        }
        let for_votes = if votes.len() == electorate.len() {
            Duration::ZERO
        } else {
            self.config.suspicion.votes_wait
        };
        let for_witnesses = if by_silence {
            Duration::ZERO
        } else {
            self.wait_for_witnesses(cx, subject, &electorate)
        };
        let decided_at = ready_at + for_votes.max(for_witnesses);
        if cx.now >= decided_at {
            return Some(votes);
        }
        self.timers.set_by(Reason::Suspicion(subject), decided_at);
        None
    }

    /// How long to wait for the members that do not decide but may have a link with the subject:
    /// not at all once each has voted that it cannot reach it. Members that were not asked yet are
    /// asked now.
    ///
    /// Above a full mesh most members have no link with the subject, and would have to dial it
    /// before they can answer: a killed node would be known later by as much, so the observers
    /// decide without them.
    fn wait_for_witnesses(
        &mut self,
        cx: &mut Cx<'_>,
        subject: NodeId,
        electorate: &[NodeId],
    ) -> Duration {
        if self.members.len() >= self.config.links.full_mesh {
            return Duration::ZERO;
        }
        let others = self.successors_of(&subject).into_iter();
        let witnesses: Vec<NodeId> = others
            .filter(|node| !electorate.contains(node) && self.has_link(node))
            .take(MAX_WITNESSES)
            .collect();
        let Some(suspicion) = self.suspicions.get(&subject) else { return Duration::ZERO };
        let vote_ttl = self.config.suspicion.vote_ttl;
        let has_voted = |node: &NodeId| {
            let answer = suspicion.answers.get(node);
            matches!(answer, Some(Answer::Vote(at, _)) if cx.now.since(*at) < vote_ttl)
        };
        let missing: Vec<NodeId> = witnesses.into_iter().filter(|node| !has_voted(node)).collect();
        let unasked: Vec<NodeId> =
            missing.iter().filter(|node| !suspicion.waiting.contains_key(node)).copied().collect();
        if !unasked.is_empty() {
            self.ask_these(cx, subject, unasked);
        }
        let way =
            |node: &NodeId| self.paths.get(node).map(|path| path.round_trip()).unwrap_or_default();
        // To the witness and back, and from it to the subject and back.
        missing
            .iter()
            .map(way)
            .max()
            .map_or(Duration::ZERO, |way| self.config.suspicion.votes_wait + way * 2)
    }

    /// The deciders on this subject: the first live members after it that can be asked, in order.
    pub(super) fn electorate(&self, now: Time, subject: &NodeId) -> Vec<NodeId> {
        let candidates = self.successors_of(subject).into_iter();
        let candidates =
            candidates.filter(|node| *node == self.me || self.can_be_asked(now, subject, node));
        let mut voters = self.without_newcomers(now, candidates.collect());
        voters.truncate(self.config.probe.quorum_size());
        voters
    }

    /// These voters without the members that were admitted a short time ago, unless there are no
    /// others beside this node: see [`PROBATION`].
    fn without_newcomers(&self, now: Time, voters: Vec<NodeId>) -> Vec<NodeId> {
        let is_old =
            |node: &NodeId| self.members.get(node).is_some_and(|member| member.votes_from <= now);
        match voters.iter().any(is_old) {
            true => voters.into_iter().filter(|node| *node == self.me || is_old(node)).collect(),
            false => voters,
        }
    }

    /// The members whose votes decide on this node.
    fn judges_of_me(&self, now: Time) -> Vec<NodeId> {
        let Some(salt) = self.salt else { return Vec::new() };
        let others = self.circle.after(self.me, salt).take(MAX_WALK);
        let up = others.filter(|node| self.is_up(node)).collect();
        let mut judges = self.without_newcomers(now, up);
        judges.truncate(self.config.probe.quorum_size());
        judges
    }

    /// Whether this node hears the subject over a link. **That beats whatever others say of it.**
    fn hears(&self, now: Time, subject: &NodeId) -> bool {
        let within = self.config.suspicion.hears_within;
        let limit = self.silence_limit(now, subject, within);
        !within.is_zero() && self.has_link(subject) && self.silence(now, subject) < limit
    }

    /// Whether other nodes need to know what this node sees.
    fn is_asked(&self, now: Time, subject: &NodeId) -> bool {
        self.watched.contains_key(subject)
            || self.inquiries.contains_key(subject)
            || self.electorate(now, subject).contains(&self.me)
    }

    /// Whether to wait for an answer of this observer. One whose link closed a moment ago may come
    /// back over another link, or know a path: it counts until a refusal or silence shows that it
    /// is gone too.
    fn can_be_asked(&self, now: Time, subject: &NodeId, node: &NodeId) -> bool {
        let Some(path) = self.paths.get(node) else { return false };
        if path.link.is_none() && (path.refused || path.closed_at.is_none()) {
            return false;
        }
        if self.silence(now, node)
            >= self.silence_limit(now, node, self.config.suspicion.silent_after)
        {
            return false;
        }
        let waiting =
            self.suspicions.get(subject).and_then(|suspicion| suspicion.waiting.get(node));
        waiting.is_none_or(|since| {
            now.since(*since) < self.silence_limit(now, node, self.config.suspicion.answer_after)
        })
    }

    /// Holds the subject to be down, and gossips the votes in turn with the other voters.
    fn declare_down(&mut self, cx: &mut Cx<'_>, subject: NodeId, votes: Vec<Signed<Vote>>) {
        let Some(member) = self.members.get(&subject) else { return };
        let incarnation = member.incarnation;
        let place = votes.iter().position(|vote| vote.by().0 == self.me.0);
        let why = Evidence::of_votes(votes.iter().map(|vote| (NodeId(vote.by().0), vote.seen)));
        let votes = votes.iter().take(MAX_VOTES).map(|vote| vote.wire()).collect();
        // Without a link no node hears of the verdict, so it stays this node's own, and the first
        // sign of life ends it.
        let is_told = self.links().any(|peer| peer != subject);
        let notice = is_told.then_some(Notice { subject, incarnation, votes });
        self.mark_down(cx, subject, DownState { why, notice, gossiped: false });
        match place {
            Some(0) if is_told => self.gossip_down(cx, subject),
            Some(place) if is_told => {
                let wait = GOSSIP_STEP * u32::try_from(place).expect("few observers");
                self.timers.set(Reason::GossipDown(subject), cx.now + wait);
            }
            Some(_) | None => {}
        }
    }

    /// Gossips that a member is down, unless another node has.
    pub(super) fn gossip_down(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        if let Some(Liveness::Down(down)) =
            self.members.get_mut(&subject).map(|member| &mut member.liveness)
            && let DownState { notice: Some(notice), gossiped: false, .. } = &**down
        {
            cx.out.broadcast(Message::Down(notice.clone(), None));
            down.gossiped = true;
        }
    }

    /// A member that others hold to be down is alive: it is told, because only its higher
    /// incarnation makes that known to all.
    pub(super) fn notify_down(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(Liveness::Down(down)) = self.members.get(&node).map(|member| &member.liveness)
        else {
            return;
        };
        let Some(notice) = &down.notice else { return };
        let Some(link) = self.paths.get_mut(&node).and_then(|path| path.link.as_mut()) else {
            return;
        };
        if link.told_at.is_none_or(|at| cx.now >= at + TELL_EVERY) {
            link.told_at = Some(cx.now);
            cx.out.send(node, Message::Down(notice.clone(), None));
        }
    }

    /// A notice that a node is down. `from` sent it over a link; none for gossip.
    pub(super) fn on_notice(
        &mut self,
        cx: &mut Cx<'_>,
        notice: Notice,
        from: Option<NodeId>,
    ) -> Worth {
        let by_gossip = from.is_none();
        let subject = notice.subject;
        if !(1..=MAX_VOTES).contains(&notice.votes.len())
            || !Self::is_valid_incarnation(notice.incarnation)
        {
            return Worth::Reject;
        }
        let known = match self.members.get(&subject) {
            Some(member) => {
                if let Liveness::Down(down) = &member.liveness
                    && notice.incarnation == member.incarnation
                    && down.notice.is_some()
                {
                    if by_gossip && !down.gossiped {
                        self.mark_gossiped(&subject);
                    }
                    // verified before, and others may lack it still
                    return Worth::Relay;
                }
                member.incarnation
            }
            None if subject == self.me => self.own.incarnation(),
            None => return Worth::Ignore,
        };
        if notice.incarnation < known {
            if let Some(from) = from {
                self.send_newer_record(cx, from, &subject);
            }
            return Worth::Ignore; // about a former incarnation
        }
        let mut voters = BTreeSet::new();
        let mut seen = Vec::new();
        for vote in &notice.votes {
            let by = NodeId(vote.by().0);
            if !self.members.contains_key(&by) && by != self.me {
                continue; // perhaps admitted a moment ago
            }
            let Ok(vote) = vote.clone().verify(&self.cluster) else { return Worth::Reject };
            let is_about_this = vote.subject == subject && vote.incarnation == notice.incarnation;
            if by == subject || !is_about_this || !voters.insert(by) {
                return Worth::Reject;
            }
            seen.push((by, vote.seen));
        }
        if voters.is_empty() {
            return Worth::Ignore;
        }
        if subject == self.me {
            let judges = self.judges_of_me(cx.now);
            if 2 * judges.iter().filter(|node| voters.contains(node)).count() > judges.len() {
                self.apart_at = cx.now;
            }
            self.on_called_down(cx, notice.incarnation, voters);
            return Worth::Relay;
        }
        if notice.incarnation > known && !self.is_down_again(&notice) {
            // an unknown incarnation: repair brings the notice again with its record
            return Worth::Ignore;
        }
        // A member that this node suspects went down just now, however the notice came.
        let is_news = by_gossip || self.suspicions.contains_key(&subject);
        let why = Evidence { is_news, ..Evidence::of_votes(seen.into_iter()) };
        self.apply_notice(cx, notice, voters, why, by_gossip)
    }

    /// Whether a member that is down here went down again: this node missed its return, but has the
    /// record of that incarnation.
    fn is_down_again(&self, notice: &Notice) -> bool {
        self.members.get(&notice.subject).is_some_and(|member| {
            let last = member.record.as_ref().map(|record| record.incarnation);
            matches!(member.liveness, Liveness::Down(_)) && last == Some(notice.incarnation)
        })
    }

    /// Notes that gossip has carried the notice about this member.
    fn mark_gossiped(&mut self, subject: &NodeId) {
        if let Some(Liveness::Down(down)) =
            self.members.get_mut(subject).map(|member| &mut member.liveness)
        {
            down.gossiped = true;
        }
    }

    /// Applies a notice whose votes are valid. It takes effect with the votes of a majority of the
    /// observers that this node knows, or with this node's own evidence.
    fn apply_notice(
        &mut self,
        cx: &mut Cx<'_>,
        notice: Notice,
        voters: BTreeSet<NodeId>,
        why: Evidence,
        by_gossip: bool,
    ) -> Worth {
        let subject = notice.subject;
        let down = DownState { why, notice: Some(notice.clone()), gossiped: by_gossip };
        if self.is_down(&subject) {
            // Until now it was down for this node alone, or in a former incarnation.
            self.raise_incarnation(subject, notice.incarnation);
            if let Some(member) = self.members.get_mut(&subject) {
                member.liveness = Liveness::Down(Box::new(down));
            }
            return Worth::Relay;
        }
        let mut observers = self.without_newcomers(cx.now, self.successors_of(&subject));
        if !observers.iter().any(|node| voters.contains(node)) {
            return Worth::Ignore; // newcomers alone say so
        }
        observers.truncate(self.config.probe.quorum_size());
        let agree = observers.iter().filter(|node| voters.contains(node)).count();
        if 2 * agree > observers.len() && !self.hears(cx.now, &subject) {
            let first = notice.votes.first().map(|vote| vote.by().0);
            self.mark_down(cx, subject, down);
            // The deciders leave the gossip to the first voter, which may have been about to decide
            // as well.
            if first == Some(self.me.0) {
                self.gossip_down(cx, subject);
            }
            return Worth::Relay;
        }
        // The voters are too few, or others than this node would ask, or it hears the subject. A
        // linked subject is told, so that it can refute, and probed, since its link may hang;
        // another one is dialled. Until then the notice waits in the suspicion.
        if self.has_link(&subject) && !self.suspicions.contains_key(&subject) {
            cx.out.send(subject, Message::Down(notice.clone(), None));
            self.probe(cx, subject, ProbeIntent::None);
        }
        self.suspect(cx, subject, SuspicionCause::AskedByOthers);
        if let Some(suspicion) = self.suspicions.get_mut(&subject) {
            suspicion.notice = Some(notice);
            self.unjudged = true;
            self.dial_soon(cx, subject);
        }
        Worth::Ignore
    }
}

fn has_refusal(notice: &Notice) -> bool {
    notice.votes.iter().any(|vote| vote.peek().is_ok_and(|vote| vote.seen == Seen::Refused))
}
