//! Questions to the members before a user gets the answer that there is nothing to do.
//!
//! A user asks for a spec that this node holds already. This node may have missed a change that
//! another member acknowledged and that will supersede it. So before "nothing to do" every member
//! must be up and confirm that it holds the same. In a cluster above the size of a full mesh only
//! members with a link are asked, and the others need only be up: a change spreads among members
//! that are up within seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::membership::State;
use crate::model::{Change, Digest, Key, Lane, NodeId, Spec, Time, Value, WorkloadName};

use super::Node;
use super::contract::{Action, Command, Draft, MAX_UNHEARD, Refusal, Reply, RequestId, Version};
use super::message::Message;

/// A member that takes longer to answer counts as one that cannot be asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Questions at a time. Beyond that no member is asked: all count as unheard, so the author writes
/// the change although it may be needless.
pub(super) const MAX_QUESTIONS: usize = 64;

/// A joining node may know of no member but itself, until it has compared with the one that
/// admitted it: that one is named so among the unheard.
const ADMITTER: &str = "the member that admitted this node";

/// Open questions to the other members, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<u64, Question>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Question {
    unchanged: Unchanged,
    /// Members that were asked and have not answered.
    unanswered: BTreeSet<NodeId>,
    /// Members that hold another version, or cannot be asked.
    unheard: BTreeSet<NodeId>,
    until: Time,
}

/// A request for what this node holds already.
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

    /// Each waiting request with the unanswered and the unheard members, for tests that compare
    /// states.
    pub fn waiting(&self) -> Vec<(RequestId, &BTreeSet<NodeId>, &BTreeSet<NodeId>)> {
        self.open
            .values()
            .map(|asked| (asked.unchanged.request, &asked.unanswered, &asked.unheard))
            .collect()
    }
}

impl Node {
    /// Asks the other members whether they hold what this node holds. The user is answered when all
    /// have answered or one cannot.
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

    /// The hash that members compare: of this key and of the roster. The roster is in it because a
    /// member that this node does not know may have accepted a change; the member that admitted it
    /// then answers with another hash.
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

    /// A member cannot answer any more: it is down, or its link is.
    pub(super) fn on_answerer_lost(&mut self, now: Time, node: &NodeId) {
        for asked in self.questions.open.values_mut() {
            if asked.unanswered.remove(node) {
                asked.unheard.insert(*node);
            }
        }
        self.close_questions(now);
    }

    /// Answers the users whose questions are answered, or will not be in time.
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
            // Another user's change came first: start again once it is on disk.
            return self.defer_command(request, Command::Prepare { name, spec, force });
        }
        let mut names = self.names_of(unheard);
        if !self.config.founder && self.is_only_member() {
            names.push(ADMITTER.into());
        }
        let warnings = spec.as_ref().map(|spec| self.warnings_about(spec)).unwrap_or_default();
        let reply = match self.desired.workload(&name) {
            // A tombstone that this node knows can be written again. For a name that it never heard
            // of, a tombstone is written only if the user insists.
            None if spec.is_none() && names.is_empty() => Err(Refusal::NoSuchWorkload(name)),
            None if spec.is_none() && !force && self.desired.effective(&key).is_none() => {
                Err(Refusal::MayBeElsewhere { name, unheard: names })
            }
            _ => self.draft_reply(now, &name, names, warnings),
        };
        self.outbox.push(Action::Reply { request, reply: reply.unwrap_or_else(Reply::Refused) });
    }

    /// The draft for the author of the next change of a workload.
    pub(super) fn draft_reply(
        &self,
        now: Time,
        name: &WorkloadName,
        unheard: Vec<String>,
        warnings: Vec<String>,
    ) -> Result<Reply, Refusal> {
        let known = self.desired.workload(name);
        let is_good = known.is_some_and(|workload| self.is_proven(workload));
        let current = known.map(|workload| workload.spec.clone());
        let key = Key::Workload(name.clone());
        let draft = self.draft_of(now, &key)?;
        let version = |change: &Change| Version {
            by: self.author(change),
            key: change.signed.by(),
            spec: change.signed.value.spec(),
        };
        let versions = self.desired.siblings(&key).map(version).collect();
        Ok(Reply::Prepared { draft, current, unheard, is_good, warnings, versions })
    }

    /// The draft for the author of the next change of any key.
    pub(super) fn draft(&self, now: Time, key: &Key) -> Result<Reply, Refusal> {
        let draft = self.draft_of(now, key)?;
        let current = self.desired.effective(key).map(|change| change.signed.value.clone());
        Ok(Reply::Drafted { draft, current: current.filter(|it| *it != Value::Tombstone) })
    }

    fn draft_of(&self, now: Time, key: &Key) -> Result<Draft, Refusal> {
        let context = self.desired.context(key, self.wall(now));
        let context = context.map_err(|error| Refusal::Full(error.to_string()))?;
        Ok(Draft { clock: context.clock, serial: context.serial, uid: context.uid })
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
