//! Suspicions about a member: asking the other observers, and answering them.
//!
//! Two races shape this file.
//!
//! *The link of one observer closes a moment before another's.* Asked from memory, the other would
//! answer "heard it 50 ms ago", and a dead node would count as alive. So an observer sends `Alive`
//! only if the subject has answered a probe sent **after the question came**
//! ([`Membership::answer_inquiries`]); the asker then counts the subject as heard at the moment it
//! asked.
//!
//! *A vote outlives its cause.* Two observers that each lost the subject once, an hour apart, are
//! no majority. So votes come over a link from their signer, count for seconds, and are asked for
//! again while a suspicion lasts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{NodeId, Signed, Time, Unverified};

use super::evidence::SuspicionCause;
use super::members::Liveness;
use super::message::{Message, Notice, ProbeIntent, Seen, Vote};
use super::{Cx, Fact, Membership, Reason};

/// Questions of one suspicion whose time is remembered: two seconds of them.
const MAX_ROUNDS: usize = 16;
/// Nodes whose answers are kept for one suspicion: all observers and those that stand in for them.
const MAX_ANSWERS: usize = 32;
/// Nodes that may ask about one subject at once: a full mesh.
pub(super) const MAX_INQUIRERS: usize = 32;
/// Subjects about which others may ask at once.
pub(super) const MAX_INQUIRIES: usize = 256;
/// Subjects about which one node may ask at once: it must not take the places of all others.
const MAX_ASKED_BY_ONE: usize = MAX_INQUIRIES / 4;
/// A node that has not repeated its question for so long has its answer from elsewhere.
const INQUIRY_TTL: Duration = Duration::from_secs(5);
/// The least time between probes of one subject that are sent for others.
const PROBE_GAP: Duration = Duration::from_millis(20);

/// All that is known since a member came under suspicion.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub incarnation: u64,
    pub opened: Time,
    why: SuspicionCause,
    /// Whether `Fact::Suspected` was sent. Not before this node has something to vote on: a lost
    /// beat and a late probe happen every hour.
    announced: bool,
    /// Questions and when they were sent.
    rounds: VecDeque<(u32, Time)>,
    /// Nodes that were asked and have not answered yet, and since when.
    pub waiting: BTreeMap<NodeId, Time>,
    /// The latest answer of each node.
    pub answers: BTreeMap<NodeId, Answer>,
    /// Votes that this node signed: one for each thing that can be seen.
    signed: BTreeMap<Seen, Signed<Vote>>,
    /// The vote of this node that the others know.
    pub seen_told: Option<Seen>,
    /// When the present majority was reached.
    pub ready_at: Option<Time>,
    /// A notice without a majority of the observers that this node knows; its own evidence can make
    /// up for that.
    pub notice: Option<Notice>,
}

/// The answer of an observer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The subject was alive at this time, when the question was sent.
    Alive(Time),
    /// The observer could not reach it; the vote came at this time.
    Vote(Time, Signed<Vote>),
}

/// A question of another member about a subject.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    round: u32,
    /// The first probe whose answer counts as an answer to this question.
    from_seq: u64,
    at: Time,
}

impl Suspicion {
    /// The last time at which another observer showed it alive.
    pub fn alive_at(&self) -> Option<Time> {
        let times = self.answers.values().filter_map(|answer| match answer {
            Answer::Alive(at) => Some(*at),
            Answer::Vote(..) => None,
        });
        times.max()
    }

    /// This node stalled: answers that it waited for may be unread.
    pub fn restart_waits(&mut self, now: Time) {
        self.waiting.values_mut().for_each(|since| *since = now);
        self.ready_at = None;
    }

    /// Moves the suspicion to another incarnation. The node stays silent since the same time;
    /// statements and votes on the former incarnation are dropped: a verdict on one incarnation
    /// with votes on another convinces no node, and the subject cannot refute it.
    pub fn reset_to(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.waiting.clear();
        self.answers.clear();
        self.signed.clear();
        self.notice.take_if(|notice| notice.incarnation != incarnation);
        (self.seen_told, self.ready_at) = (None, None);
    }

    fn note(&mut self, from: NodeId, answer: Answer) {
        self.waiting.remove(&from);
        if self.answers.len() < MAX_ANSWERS || self.answers.contains_key(&from) {
            self.answers.insert(from, answer);
        }
    }
}

impl Membership {
    /// Opens a suspicion, unless there is one. Observers ask at once; others leave that to the
    /// observers for a moment.
    pub(super) fn suspect(&mut self, cx: &mut Cx<'_>, subject: NodeId, why: SuspicionCause) {
        let Some(member) = self.members.get(&subject) else { return };
        let is_honoured = matches!(member.liveness, Liveness::BackBy(until) if cx.now < until);
        if is_honoured
            || matches!(member.liveness, Liveness::Down(_))
            || self.suspicions.contains_key(&subject)
            || self.own.said_goodbye
        {
            return;
        }
        let suspicion = Suspicion {
            incarnation: member.incarnation,
            opened: cx.now,
            why,
            announced: false,
            rounds: VecDeque::new(),
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            signed: BTreeMap::new(),
            seen_told: None,
            ready_at: None,
            notice: None,
        };
        self.paths.entry(subject).or_default();
        self.suspicions.insert(subject, suspicion);
        self.unjudged = true;
        if self.watched.contains_key(&subject) {
            self.ask_round(cx, subject);
        } else {
            self.timers
                .set(Reason::Suspicion(subject), cx.now + self.config.suspicion.bystander_wait);
        }
    }

    /// Reports the suspicion, once this node sees something that is worth a vote.
    pub(super) fn announce_suspicion(&mut self, cx: &mut Cx<'_>, subject: &NodeId) {
        let Some(suspicion) =
            self.suspicions.get_mut(subject).filter(|suspicion| !suspicion.announced)
        else {
            return;
        };
        suspicion.announced = true;
        cx.facts.push(Fact::Suspected { node: *subject, why: suspicion.why });
    }

    /// Ends the suspicion without a verdict.
    pub(super) fn drop_suspicion(&mut self, cx: &mut Cx<'_>, subject: &NodeId) {
        let Some(suspicion) = self.suspicions.remove(subject) else { return };
        self.timers.clear(Reason::Suspicion(*subject));
        self.unjudged = true;
        if suspicion.announced {
            cx.facts.push(Fact::Cleared { node: *subject });
        }
    }

    /// Asks once more, and sets the time of the next round.
    pub(super) fn ask_round(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        let Some(suspicion) = self.suspicions.get(&subject) else { return };
        let is_asked_about = self.inquiries.contains_key(&subject);
        if !self.is_neighbour(&subject) && suspicion.notice.is_none() && !is_asked_about {
            self.drop_suspicion(cx, &subject);
            return;
        }
        let relayed =
            suspicion.alive_at().is_some_and(|at| cx.now.since(at) < self.config.probe.beat * 2);
        let age = cx.now.since(suspicion.opened);
        let pause = if relayed {
            self.config.probe.beat
        } else if age < self.config.suspicion.silent_after_alone {
            self.config.probe.every
        } else {
            // There is no verdict although all answers should be in: the subject is within its
            // grace, or others see what this node does not.
            self.config.probe.beat * 2
        };
        if relayed {
            self.close_hung_link(cx, &subject);
        }
        if !self.watched.contains_key(&subject) {
            // It may be linked without owing beats: only an unanswered probe counts as silence.
            self.probe(cx, subject, ProbeIntent::None);
        }
        self.ask(cx, subject);
        if let Some(inquiries) = self.inquiries.get_mut(&subject) {
            inquiries.retain(|_, inquiry| cx.now.since(inquiry.at) < INQUIRY_TTL);
            if inquiries.is_empty() {
                self.inquiries.remove(&subject);
            }
        }
        self.timers.set(Reason::Suspicion(subject), cx.now + pause);
        self.unjudged = true;
    }

    fn ask(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        let asked = self
            .electorate(cx.now, &subject)
            .into_iter()
            .filter(|node| self.has_link(node))
            .collect();
        self.ask_these(cx, subject, asked);
    }

    /// Asks these linked members whether they can reach the subject now.
    pub(super) fn ask_these(&mut self, cx: &mut Cx<'_>, subject: NodeId, asked: Vec<NodeId>) {
        let vote = self.current_vote(cx.now, &subject);
        let Some(suspicion) = self.suspicions.get_mut(&subject) else { return };
        let round = self.next_round;
        self.next_round = self.next_round.wrapping_add(1);
        if suspicion.rounds.len() == MAX_ROUNDS {
            suspicion.rounds.pop_front();
        }
        suspicion.rounds.push_back((round, cx.now));
        suspicion.seen_told = vote.as_ref().map(|vote| vote.seen);
        let incarnation = suspicion.incarnation;
        for peer in asked {
            suspicion.waiting.entry(peer).or_insert(cx.now);
            let vote = vote.as_ref().map(|vote| vote.wire());
            cx.out.send(peer, Message::Ask { subject, incarnation, round, vote });
        }
    }

    /// This node sees more than it has told: sends its vote at once, also to members that asked.
    pub(super) fn send_vote(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        let Some(vote) = self.current_vote(cx.now, &subject) else { return };
        let asked = self.electorate(cx.now, &subject);
        let inquirers = self.inquiries.get(&subject).into_iter().flatten().map(|(node, _)| *node);
        let others: Vec<NodeId> =
            inquirers.filter(|node| !asked.contains(node) && self.has_link(node)).collect();
        for peer in others {
            cx.out.send(peer, Message::Vote(vote.wire()));
        }
        self.ask(cx, subject);
    }

    /// This node's signed vote on what it sees now; none if it sees nothing amiss.
    pub(super) fn current_vote(&mut self, now: Time, subject: &NodeId) -> Option<Signed<Vote>> {
        let seen = self.seen(now, subject)?;
        let suspicion = self.suspicions.get_mut(subject)?;
        let vote = suspicion.signed.entry(seen).or_insert_with(|| {
            let vote = Vote { subject: *subject, incarnation: suspicion.incarnation, seen };
            Signed::sign(vote, &self.keys, &self.cluster)
        });
        Some(vote.clone())
    }

    /// How the subject looks from here.
    pub(super) fn seen(&self, now: Time, subject: &NodeId) -> Option<Seen> {
        if now < self.honoured_until(subject) {
            return None;
        }
        let path = self.paths.get(subject)?;
        let is_silent = self.silence(now, subject)
            >= self.silence_limit(now, subject, self.config.suspicion.silent_after);
        match &path.link {
            // Three probes: a single lost one is no silence.
            Some(link) => (is_silent && link.unanswered >= 3).then_some(Seen::Silent),
            None if path.refused => Some(Seen::Refused),
            None if is_silent => Some(Seen::Silent),
            None => path.closed_at.map(|_| Seen::Closed),
        }
    }

    pub(super) fn on_ask(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        subject: NodeId,
        incarnation: u64,
        round: u32,
        vote: Option<Unverified<Vote>>,
    ) {
        let Some(member) = self.members.get(&subject) else { return };
        if !self.members.contains_key(&from) || subject == from {
            return;
        }
        match &member.liveness {
            Liveness::Down(down) if down.notice.is_some() => {
                self.send_down_notice(cx, from, &subject);
                return;
            }
            Liveness::Up if member.incarnation > incarnation => {
                self.send_newer_record(cx, from, &subject);
                return;
            }
            Liveness::BackBy(until) if cx.now < *until => {
                if let Some(goodbye) = &member.goodbye {
                    cx.out.send(from, Message::Goodbye(goodbye.wire()));
                }
                return;
            }
            Liveness::Unknown { .. } | Liveness::Up | Liveness::BackBy(_) | Liveness::Down(_) => {}
        }
        if !self.note_inquiry(cx.now, from, subject, round) {
            return;
        }
        if self.has_link(&subject) {
            self.probe_for_others(cx, subject);
        } else {
            // This node does not count itself as an observer, or has no link yet: it dials now.
            self.suspect(cx, subject, SuspicionCause::AskedByOthers);
            self.dial_for_others(cx, subject);
        }
        if let Some(vote) = vote {
            self.on_vote(cx, from, vote);
        }
        if let Some(vote) = self.current_vote(cx.now, &subject) {
            cx.out.send(from, Message::Vote(vote.wire()));
        }
    }

    fn note_inquiry(&mut self, now: Time, from: NodeId, subject: NodeId, round: u32) -> bool {
        if self.inquiries.len() >= MAX_INQUIRIES && !self.inquiries.contains_key(&subject) {
            self.inquiries
                .retain(|_, of| of.values().any(|inquiry| now.since(inquiry.at) < INQUIRY_TTL));
            if self.inquiries.len() >= MAX_INQUIRIES {
                return false;
            }
        }
        let asks = |of: &&BTreeMap<NodeId, Inquiry>| of.contains_key(&from);
        let is_new = !self.inquiries.get(&subject).as_ref().is_some_and(asks);
        if is_new
            && self.inquiries.len() >= MAX_ASKED_BY_ONE
            && self.inquiries.values().filter(asks).count() >= MAX_ASKED_BY_ONE
        {
            return false;
        }
        let of_subject = self.inquiries.entry(subject).or_default();
        if of_subject.len() >= MAX_INQUIRERS && !of_subject.contains_key(&from) {
            return false;
        }
        of_subject.insert(from, Inquiry { round, from_seq: self.next_seq, at: now });
        true
    }

    /// Sends a probe whose answer will answer all open questions; many questions at once take one
    /// probe.
    fn probe_for_others(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        let link = self.paths.get(&subject).and_then(|path| path.link.as_ref());
        match link.and_then(|link| link.last_probe()) {
            Some((_, at)) if cx.now < at + PROBE_GAP && self.watched.contains_key(&subject) => {
                self.timers.set_by(Reason::Quiet(subject), at + PROBE_GAP);
            }
            Some(_) | None => self.probe(cx, subject, ProbeIntent::None),
        }
    }

    /// Whether a member asked about this linked node after its last probe was sent.
    pub(super) fn has_new_inquiry(&self, node: &NodeId) -> bool {
        let link = self.paths.get(node).and_then(|path| path.link.as_ref());
        let probed = link.and_then(|link| link.last_probe()).map_or(0, |(seq, _)| seq);
        self.inquiries
            .get(node)
            .is_some_and(|of_node| of_node.values().any(|inquiry| inquiry.from_seq > probed))
    }

    fn dial_for_others(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        // After a failed dial its pause decides; the first dial is immediate.
        if !self.timers.is_set(Reason::Dial(subject)) {
            self.dial_soon(cx, subject);
        }
    }

    /// The subject answered a probe: members that asked before that probe was sent are told.
    pub(super) fn answer_inquiries(&mut self, cx: &mut Cx<'_>, subject: NodeId, seq: u64) {
        let Some(member) = self.members.get(&subject) else { return };
        let Some(of_subject) = self.inquiries.get_mut(&subject) else { return };
        let incarnation = member.incarnation;
        of_subject.retain(|asker, inquiry| {
            let waits = inquiry.from_seq > seq;
            if !waits {
                cx.out.send(*asker, Message::Alive { subject, incarnation, round: inquiry.round });
            }
            waits
        });
        if of_subject.is_empty() {
            self.inquiries.remove(&subject);
        }
    }

    pub(super) fn on_alive(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        subject: NodeId,
        incarnation: u64,
        round: u32,
    ) {
        let Some(suspicion) = self.suspicions.get_mut(&subject) else { return };
        let Some(&(_, asked_at)) = suspicion.rounds.iter().find(|(number, _)| *number == round)
        else {
            return;
        };
        if incarnation < suspicion.incarnation || !self.members.contains_key(&from) {
            return;
        }
        suspicion.note(from, Answer::Alive(asked_at));
        self.unjudged = true;
        if let Some(Liveness::Unknown { .. }) =
            self.members.get(&subject).map(|member| &member.liveness)
        {
            self.mark_up(cx, subject);
        }
    }

    pub(super) fn on_vote(&mut self, cx: &mut Cx<'_>, from: NodeId, vote: Unverified<Vote>) {
        // Only from its signer over a link, so that its age is known.
        if vote.by().0 != from.0 || !self.members.contains_key(&from) {
            return;
        }
        let Ok(body) = vote.peek() else { return };
        let Some(suspicion) = self.suspicions.get(&body.subject) else { return };
        if body.incarnation != suspicion.incarnation {
            return;
        }
        let known = match suspicion.answers.get(&from) {
            Some(Answer::Vote(_, known)) if known.wire() == vote => Some(known.clone()),
            Some(Answer::Vote(..) | Answer::Alive(_)) | None => None,
        };
        let Some(vote) = known.or_else(|| vote.verify(&self.cluster).ok()) else { return };
        let suspicion = self.suspicions.get_mut(&body.subject).expect("just seen");
        suspicion.note(from, Answer::Vote(cx.now, vote));
        self.unjudged = true;
    }
}
