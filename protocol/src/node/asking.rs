//! A user asks for what is there already. Whether that is so everywhere is asked of the others
//! before the user is told: this node may have missed a change that another acknowledged, and that
//! one would count later.
//!
//! Every member must be up and say that it holds the same. In a cluster of more than a full mesh
//! those with a link are asked, and the others have to be up: what these know spreads among them in
//! seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::membership::State;
use crate::model::{Digest, Key, Lane, NodeId, Spec, Time, WorkloadName};

use super::Node;
use super::contract::{Action, Command, Draft, MAX_UNHEARD, Refusal, Reply, RequestId};
use super::message::Message;

/// A member that takes longer to answer counts as one that cannot be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Questions at a time. Beyond that nobody is asked, and what need not be written is written.
pub(super) const MAX_QUESTIONS: usize = 64;

/// Questions to the other members.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<u64, Question>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Question {
    unchanged: Unchanged,
    unanswered: BTreeSet<NodeId>,
    /// Members that hold something else, or are lost.
    unheard: BTreeSet<NodeId>,
    until: Time,
}

/// A wish that is fulfilled already, as far as is known here.
#[derive(Clone, Debug)]
pub(super) struct Unchanged {
    pub request: RequestId,
    pub name: WorkloadName,
    /// None for a removal.
    pub spec: Option<Spec>,
    pub force: bool,
}

impl Questions {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn poll_timeout(&self) -> Option<Time> {
        self.open.values().map(|question| question.until).min()
    }

    /// Who waits for whom: for tests that compare states.
    pub fn waiting(&self) -> Vec<(RequestId, &BTreeSet<NodeId>, &BTreeSet<NodeId>)> {
        self.open
            .values()
            .map(|asked| (asked.unchanged.request, &asked.unanswered, &asked.unheard))
            .collect()
    }
}

impl Node {
    /// Asks all others whether they hold what this node does; the user is answered when that is
    /// known.
    pub(super) fn ask_members(&mut self, now: Time, unchanged: Unchanged) {
        let is_full_mesh = self.desired.members().len() <= self.config.membership.links.full_mesh;
        let others = self.desired.members().keys().copied().filter(|node| *node != self.me);
        let (linked, rest): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            others.partition(|node| self.membership.has_link(node));
        let is_away = |node: &NodeId| is_full_mesh || self.membership.state(node) != State::Up;
        let mut unheard: BTreeSet<NodeId> = rest.into_iter().filter(is_away).collect();
        unheard
            .extend(linked.iter().copied().filter(|node| self.membership.state(node) != State::Up));
        if self.questions.open.len() >= MAX_QUESTIONS {
            unheard.extend(linked.iter().copied());
        }
        if !unheard.is_empty() || linked.is_empty() {
            return self.answer_unchanged(now, unchanged, unheard);
        }
        self.questions.last += 1;
        let (question, key) = (self.questions.last, Key::Workload(unchanged.name.clone()).hash());
        let holds = self.holds(&key);
        for to in linked.iter().copied() {
            let message = Message::AskKey { question, key, holds };
            self.outbox.push(Action::Send { to, lane: Lane::Urgent, message });
        }
        let asked = Question { unchanged, unanswered: linked, unheard, until: now + ANSWER_WITHIN };
        self.questions.open.insert(question, asked);
    }

    /// The hash that is compared. With the roster: a member that is not known here may have taken a
    /// change, and whoever admitted it knows it.
    fn holds(&self, key: &Digest) -> Digest {
        let entry = self.desired.held(key);
        let entry = entry.as_ref().map_or(&[][..], |hash| hash.as_bytes());
        Digest::of_parts(&[entry, self.desired.roster_digest().as_bytes()])
    }

    pub(super) fn on_ask_key(&mut self, from: NodeId, question: u64, key: &Digest, holds: &Digest) {
        let same = self.holds(key) == *holds && !self.saving.is_staged(key);
        self.outbox.push(Action::Send {
            to: from,
            lane: Lane::Urgent,
            message: Message::SameKey { question, same },
        });
    }

    pub(super) fn on_same_key(&mut self, now: Time, from: NodeId, question: u64, same: bool) {
        let Some(asked) = self.questions.open.get_mut(&question) else { return };
        if asked.unanswered.remove(&from) && !same {
            asked.unheard.insert(from);
        }
        self.close_questions(now);
    }

    /// This node will not answer any more.
    pub(super) fn on_answerer_lost(&mut self, now: Time, node: &NodeId) {
        for asked in self.questions.open.values_mut() {
            if asked.unanswered.remove(node) {
                asked.unheard.insert(*node);
            }
        }
        self.close_questions(now);
    }

    /// Answers the users whose questions are answered, or will not be.
    pub(super) fn close_questions(&mut self, now: Time) {
        let is_done = |asked: &Question| {
            asked.unanswered.is_empty() || !asked.unheard.is_empty() || asked.until <= now
        };
        let done: Vec<Question> = self
            .questions
            .open
            .extract_if(.., |_, asked| is_done(asked))
            .map(|(_, asked)| asked)
            .collect();
        for Question { unchanged, unanswered, mut unheard, until } in done {
            if until <= now {
                unheard.extend(unanswered);
            }
            self.answer_unchanged(now, unchanged, unheard);
        }
    }

    fn answer_unchanged(&mut self, now: Time, unchanged: Unchanged, unheard: BTreeSet<NodeId>) {
        let Unchanged { request, name, spec, force } = unchanged;
        let key = Key::Workload(name.clone());
        if self.saving.is_staged(&key.hash()) {
            // Another user was faster: what is there now is asked anew.
            return self.defer_command(request, Command::Prepare { name, spec, force });
        }
        let names = self.names_of(unheard);
        let reply = match self.desired.workload(&name) {
            // Its removal is known here and can be repeated; of a name that was never heard of that
            // is done on demand only.
            None if spec.is_none() && names.is_empty() => Err(Refusal::NoSuchWorkload(name)),
            None if spec.is_none() && !force && self.desired.effective(&key).is_none() => {
                Err(Refusal::MayBeElsewhere { name, unheard: names })
            }
            _ => self.draft_reply(now, &name, names),
        };
        self.outbox.push(Action::Reply { request, reply: reply.unwrap_or_else(Reply::Refused) });
    }

    /// The draft for the author of the next change of a workload.
    pub(super) fn draft_reply(
        &self,
        now: Time,
        name: &WorkloadName,
        unheard: Vec<String>,
    ) -> Result<Reply, Refusal> {
        let current = self.desired.workload(name).map(|workload| workload.spec.clone());
        let context = self.desired.context(&Key::Workload(name.clone()), self.wall(now));
        let context = context.map_err(|error| Refusal::Full(error.to_string()))?;
        let draft = Draft { clock: context.clock, serial: context.serial, uid: context.uid };
        Ok(Reply::Prepared { draft, current, unheard })
    }

    fn names_of(&self, nodes: BTreeSet<NodeId>) -> Vec<String> {
        let more = nodes.len().saturating_sub(MAX_UNHEARD);
        let mut names: Vec<String> =
            nodes.iter().take(MAX_UNHEARD).map(|node| self.name_of(node)).collect();
        names.sort();
        names.extend((more > 0).then(|| format!("and {more} more")));
        names
    }
}
