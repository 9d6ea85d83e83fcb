//! Doubt about a member: asking the other observers, and answering them.
//!
//! Two races shape this file.
//!
//! *The link of one observer closes a moment before another's.* Asked from memory, the other would
//! say "heard it 50 ms ago", and a dead node would live on. So `Alive` is said only when the
//! subject has answered a probe that was sent **after the question came** ([`Membership::answer_inquiries`]);
//! the asker then counts it as heard at the moment it asked.
//!
//! *A vote outlives what it was cast for.* Two observers that each lost the subject once, an hour
//! apart, are no majority. So votes come from their signer over a link, count for seconds, and are
//! asked for again while a doubt lasts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{NodeId, Signed, Time, Unverified};

use super::evidence::SuspicionCause;
use super::members::Liveness;
use super::message::{Message, Notice, ProbeIntent, Seen, Vote};
use super::{Cx, Fact, Membership, Reason};

/// Questions of one doubt whose moment is remembered: two seconds of them.
const MAX_ROUNDS: usize = 16;
/// Nodes whose answers are kept for one doubt: all observers and those who stand in for them.
const MAX_ANSWERS: usize = 32;
/// Nodes that wait for word of one subject: a full mesh.
pub(super) const MAX_INQUIRERS: usize = 32;
/// Subjects that others may ask about at once.
pub(super) const MAX_INQUIRIES: usize = 256;
/// Whoever asked and was not heard of for so long has its answer from elsewhere.
const INQUIRY_TTL: Duration = Duration::from_secs(5);
/// Probes for others go out at most every so often.
const PROBE_GAP: Duration = Duration::from_millis(20);

/// What is known since a member's life came into question.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub incarnation: u64,
    pub opened: Time,
    why: SuspicionCause,
    /// People were told. Not before there is something to vote on: a beat lost and a probe late
    /// happen every hour.
    announced: bool,
    /// Questions and when they went out.
    rounds: VecDeque<(u32, Time)>,
    /// Asked since then, and not answered yet.
    pub waiting: BTreeMap<NodeId, Time>,
    /// The latest word of each.
    pub answers: BTreeMap<NodeId, Answer>,
    /// What I signed: one vote for each thing that can be seen.
    signed: BTreeMap<Seen, Signed<Vote>>,
    /// What the others know that I see.
    pub seen_told: Option<Seen>,
    /// Since when a majority has stood.
    pub ready_at: Option<Time>,
    /// A notice that lacks a majority as I know the observers; my own evidence makes up for it.
    pub notice: Option<Notice>,
}

/// What an observer answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The subject was alive at this moment: when the question went out.
    Alive(Time),
    /// It cannot reach it, as of this moment.
    Vote(Time, Signed<Vote>),
}

/// Somebody wants to know of a subject.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    round: u32,
    /// The answer to this probe, or a later one, is news to it.
    from_seq: u64,
    at: Time,
}

impl Suspicion {
    /// The last moment at which another observer showed it alive.
    pub fn alive_at(&self) -> Option<Time> {
        let times = self.answers.values().filter_map(|answer| match answer {
            Answer::Alive(at) => Some(*at),
            Answer::Vote(..) => None,
        });
        times.max()
    }

    /// We stalled: what we waited for may lie unread.
    pub fn restart_waits(&mut self, now: Time) {
        self.waiting.values_mut().for_each(|since| *since = now);
        self.ready_at = None;
    }

    /// It is about another life from now on. How long the node has been silent stays true; what was
    /// said and signed of the life before does not: a verdict on one life with votes on another
    /// convinces nobody, and its subject cannot refute it.
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
    /// Opens a doubt, unless there is one. Observers ask at once; others leave that to them for a
    /// moment.
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

    /// What is seen is worth a vote: people may know.
    pub(super) fn announce_suspicion(&mut self, cx: &mut Cx<'_>, subject: &NodeId) {
        let Some(suspicion) =
            self.suspicions.get_mut(subject).filter(|suspicion| !suspicion.announced)
        else {
            return;
        };
        suspicion.announced = true;
        cx.facts.push(Fact::Suspected { node: *subject, why: suspicion.why });
    }

    /// The doubt ended well, or its subject's life did not matter any more.
    pub(super) fn drop_suspicion(&mut self, cx: &mut Cx<'_>, subject: &NodeId) {
        let Some(suspicion) = self.suspicions.remove(subject) else { return };
        self.timers.clear(Reason::Suspicion(*subject));
        self.unjudged = true;
        if suspicion.announced {
            cx.facts.push(Fact::Cleared { node: *subject });
        }
    }

    /// One more round of questions, and the time of the next.
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
        let pace = if relayed {
            self.config.probe.beat
        } else if age < self.config.suspicion.silent_after_alone {
            self.config.probe.every
        } else {
            // It is not decided though everything should be known: grace of the unknown, or others
            // who see what I do not.
            self.config.probe.beat * 2
        };
        if relayed {
            self.close_hung_link(cx, &subject);
        }
        if !self.watched.contains_key(&subject) {
            // It may be linked and owe us no beat: only what it does not answer is silence.
            self.probe(cx, subject, ProbeIntent::None);
        }
        self.ask(cx, subject);
        if let Some(inquiries) = self.inquiries.get_mut(&subject) {
            inquiries.retain(|_, inquiry| cx.now.since(inquiry.at) < INQUIRY_TTL);
            if inquiries.is_empty() {
                self.inquiries.remove(&subject);
            }
        }
        self.timers.set(Reason::Suspicion(subject), cx.now + pace);
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

    /// Asks these, who are linked, whether they can reach the subject now.
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

    /// What I see became more: the others hear it at once, those who asked me as well.
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

    /// My signed word on what I see now; nothing if I see nothing amiss.
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
            // Not one of its observers by our reckoning, or not linked yet: then now.
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
        let of_subject = self.inquiries.entry(subject).or_default();
        if of_subject.len() >= MAX_INQUIRERS && !of_subject.contains_key(&from) {
            return false;
        }
        of_subject.insert(from, Inquiry { round, from_seq: self.next_seq, at: now });
        true
    }

    /// A probe that answers all questions that have come; many questions at once take one probe.
    fn probe_for_others(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        let link = self.paths.get(&subject).and_then(|path| path.link.as_ref());
        match link.and_then(|link| link.last_probe()) {
            Some((_, at)) if cx.now < at + PROBE_GAP && self.watched.contains_key(&subject) => {
                self.timers.set_by(Reason::Quiet(subject), at + PROBE_GAP);
            }
            Some(_) | None => self.probe(cx, subject, ProbeIntent::None),
        }
    }

    /// Whether somebody asked about this node, who is linked, after the last probe of it went out.
    pub(super) fn has_new_inquiry(&self, node: &NodeId) -> bool {
        let link = self.paths.get(node).and_then(|path| path.link.as_ref());
        let probed = link.and_then(|link| link.last_probe()).map_or(0, |(seq, _)| seq);
        self.inquiries
            .get(node)
            .is_some_and(|of_node| of_node.values().any(|inquiry| inquiry.from_seq > probed))
    }

    fn dial_for_others(&mut self, cx: &mut Cx<'_>, subject: NodeId) {
        // Failed dials pace themselves; a first one waits for nothing.
        if !self.timers.is_set(Reason::Dial(subject)) {
            self.dial_soon(cx, subject);
        }
    }

    /// The subject answered a probe: whoever asked before that probe went out shall know.
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
        // From its signer alone: only so its age is known.
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
