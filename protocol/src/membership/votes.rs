//! The verdict on a member in doubt, and the notices that carry it.
//!
//! Who decides: the first m live members after the subject **that can be asked**, this node among
//! them or not. That way the deaths of a node and of its observers are decided in one go, by
//! whoever is left; the last survivor decides alone.
//!
//! When: more than half of them voted, and
//! - somebody among them was refused: `Closed` votes of the others then count, so that a killed
//!   process is found out by one re-dial; or `Silent` and `Refused` votes alone are the majority;
//! - nobody showed the subject alive within the time of a cut: one live path is life;
//! - all of them answered, or the rest had `patience` to name such a path;
//! - where a refusal decides and not silence: the members beyond them that may have a link with the
//!   subject were asked as well, and named no such path in that time. **A refused dial is death
//!   only if nobody else hears the node**: its old address may be another device's by now, which
//!   refuses all who try. Only those that decide ask them.
//!
//! Alone, a refusal decides, and silence only after `cut_alone`: nobody is there to correct us.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{NodeId, Signed, Time};

use super::evidence::{Evidence, SuspicionCause};
use super::members::{DownState, Liveness};
use super::message::{MAX_VOTES, Message, Notice, ProbeIntent, Seen, Vote};
use super::suspicions::Answer;
use super::{Cx, Membership, Reason, Worth};

/// A node that is down and talks to us is told so once in so long.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Members beyond those that decide who are asked before a refusal is taken for death: the rest of
/// a full mesh. With the observers they fit into the answers that a doubt keeps.
const MAX_WITNESSES: usize = 24;
/// Observers gossip a fall one after another, so that mostly only the first has to.
const GOSSIP_STEP: Duration = Duration::from_millis(150);

impl Membership {
    /// Judges all doubts. A verdict changes who decides on the others, so the caller comes again.
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

    /// The votes that decide, if they do.
    fn judge(&mut self, cx: &mut Cx<'_>, subject: NodeId) -> Option<Vec<Signed<Vote>>> {
        if cx.now < self.honoured_until(&subject) {
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
            // Verified when it was taken.
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
            return None; // those that decide will tell
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
    /// not at all once each has said that it cannot reach it. Those that were not asked yet are
    /// asked now.
    ///
    /// Above a full mesh most members have no link with the subject, and would have to dial it
    /// before they can say so: a killed node would be known later by as much, so the observers
    /// decide as they are.
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
        let has_voted = |node: &NodeId| {
            let answer = suspicion.answers.get(node);
            matches!(answer, Some(Answer::Vote(at, _)) if cx.now.since(*at) < self.config.suspicion.vote_ttl)
        };
        let missing: Vec<NodeId> = witnesses.into_iter().filter(|node| !has_voted(node)).collect();
        let unasked: Vec<NodeId> =
            missing.iter().filter(|node| !suspicion.waiting.contains_key(node)).copied().collect();
        if !unasked.is_empty() {
            self.ask_these(cx, subject, unasked);
        }
        let way =
            |node: &NodeId| self.paths.get(node).map(|path| path.round_trip()).unwrap_or_default();
        // To the witness and back, and from there to the subject and back.
        missing
            .iter()
            .map(way)
            .max()
            .map_or(Duration::ZERO, |way| self.config.suspicion.votes_wait + way * 2)
    }

    /// Who decides on this subject: the first live members after it that can be asked, in order.
    pub(super) fn electorate(&self, now: Time, subject: &NodeId) -> Vec<NodeId> {
        let candidates = self.successors_of(subject).into_iter();
        candidates
            .filter(|node| *node == self.me || self.can_be_asked(now, subject, node))
            .take(self.config.probe.quorum_size())
            .collect()
    }

    /// Whether others want to know what this node sees.
    fn is_asked(&self, now: Time, subject: &NodeId) -> bool {
        self.watched.contains_key(subject)
            || self.inquiries.contains_key(subject)
            || self.electorate(now, subject).contains(&self.me)
    }

    /// Whether an answer of this observer is worth waiting for. One whose link closed a moment ago
    /// may be back in another, or know a path: it is waited for until a refusal or the time of a
    /// cut shows that it is gone too.
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

    /// The verdict is down.
    fn declare_down(&mut self, cx: &mut Cx<'_>, subject: NodeId, votes: Vec<Signed<Vote>>) {
        let Some(member) = self.members.get(&subject) else { return };
        let incarnation = member.incarnation;
        let place = votes.iter().position(|vote| vote.by().0 == self.me.0);
        let why = Evidence::of_votes(votes.iter().map(|vote| (NodeId(vote.by().0), vote.seen)));
        let votes = votes.iter().take(MAX_VOTES).map(|vote| vote.wire()).collect();
        // With no link at all nobody hears of it: a belief of our own, which the first sign of life
        // ends.
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

    /// Gossips a fall, unless somebody has.
    pub(super) fn gossip_down(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        if let Some(Liveness::Down(down)) =
            self.members.get_mut(&subject).map(|member| &mut member.liveness)
            && let DownState { notice: Some(notice), gossiped: false, .. } = &**down
        {
            cx.out.broadcast(Message::Down(notice.clone(), None));
            down.gossiped = true;
        }
    }

    /// The life that ended according to others goes on: only a higher incarnation makes that known
    /// to all of them.
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

    /// Others hold a node to be down. `from` said so over its link; none is gossip.
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
                    // it was verified when it was taken, and others may lack it still
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
            return Worth::Ignore; // of a former life
        }
        let mut voters = BTreeSet::new();
        let mut seen = Vec::new();
        for vote in &notice.votes {
            let by = NodeId(vote.by().0);
            if !self.members.contains_key(&by) && by != self.me {
                continue; // admitted a moment ago, perhaps
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
            self.on_called_down(cx, notice.incarnation, voters);
            return Worth::Relay;
        }
        if notice.incarnation > known && !self.is_down_again(&notice) {
            // a life we have not heard of: repair brings it again with its record
            return Worth::Ignore;
        }
        // Whom this node doubts itself fell just now, however it hears of it.
        let is_news = by_gossip || self.suspicions.contains_key(&subject);
        let why = Evidence { is_news, ..Evidence::of_votes(seen.into_iter()) };
        self.apply_notice(cx, notice, voters, why, by_gossip)
    }

    /// Down before, down again: the return between passed this node by, but its record is here.
    fn is_down_again(&self, notice: &Notice) -> bool {
        self.members.get(&notice.subject).is_some_and(|member| {
            let last = member.record.as_ref().map(|record| record.incarnation);
            matches!(member.liveness, Liveness::Down(_)) && last == Some(notice.incarnation)
        })
    }

    /// Gossip has carried what is known of this fall.
    fn mark_gossiped(&mut self, subject: &NodeId) {
        if let Some(Liveness::Down(down)) =
            self.members.get_mut(subject).map(|member| &mut member.liveness)
        {
            down.gossiped = true;
        }
    }

    /// A notice whose votes are good. It needs the majority of the observers as we know them, or
    /// evidence of our own.
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
            // Until now a belief, or of a life before.
            self.raise_incarnation(subject, notice.incarnation);
            if let Some(member) = self.members.get_mut(&subject) {
                member.liveness = Liveness::Down(Box::new(down));
            }
            return Worth::Relay;
        }
        let observers = self.observers_of(&subject);
        let agree = observers.iter().filter(|node| voters.contains(node)).count();
        if 2 * agree > observers.len() {
            let first = notice.votes.first().map(|vote| vote.by().0);
            self.mark_down(cx, subject, down);
            // Those that decided leave the gossip to the first of them, which was about to decide
            // as well.
            if first == Some(self.me.0) {
                self.gossip_down(cx, subject);
            }
            return Worth::Relay;
        }
        // Seen by too few, or by others than we would ask. If it is linked, it shall answer for
        // itself; its link may hang, so it is probed. If not, a dial will show. Until then the
        // notice waits in the doubt.
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
