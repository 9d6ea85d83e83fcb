//! Replicas that this node holds together with others, and how all but one of them stop.
//!
//! A loser stops only when the keeper itself answers that it is healthy now. Two holders that see
//! different claims may each take the other one for the keeper; so a holder that answers "healthy"
//! drops its own open question about the replica. If both were to stop, each would have asked after
//! it had answered, and answered after it was asked: a contradiction.
//!
//! **A stateful workload never has two of one**, so a replica of it that leaves its node stops
//! there when the keeper itself answers that it claims it, and starts at the keeper afterwards.
//!
//! A node whose container engine is gone learns nothing of its containers' ends. It goes on to
//! claim them healthy, because they may serve without the engine; but nobody stops for such a
//! claim.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Claim, NodeId, Out, Phase, ReplicaId, Revision, Time, Token};

use super::config::Config;
use super::index::Index;
use super::judge::{Believed, Judge};
use super::keeper::{Credit, Keeper, is_good};
use super::message::{Fact, Message, Reason};
use super::validity::MAX_JUMP;

/// How far a token may be ahead that a question mentions. Below [`MAX_JUMP`], so that the claim
/// which adopts it is accepted by nodes that have seen a little less.
const MAX_MENTIONED_JUMP: u64 = MAX_JUMP / 2;

/// The number of the question where [`Message::Keeping`] answers none. Older programs drop it.
const UNASKED: u64 = u64::MAX;

/// Open disputes. Bounded by this node's own claims.
#[derive(Clone, Debug)]
pub(super) struct Duplicates {
    config: Config,
    /// Replicas of this node that other nodes claim, too, whether these are up or not.
    contested: BTreeSet<ReplicaId>,
    disputes: BTreeMap<ReplicaId, Dispute>,
    /// Replicas of this node with a holder whose claim it doubts.
    doubts: BTreeMap<ReplicaId, Doubt>,
    /// Replicas of this node with a rival that has said that it does not yield.
    insisting: BTreeMap<ReplicaId, NodeId>,
    /// The rival to which this node was ready to yield a replica. **An award is judged once**: it
    /// does not become a lie because the rival could not answer in time, or because another node
    /// has become the owner. Kept for as long as this node claims the replica: the sheet of a rival
    /// whose disk was copied names it at one moment and not at the next.
    believed: BTreeMap<ReplicaId, Believed>,
    next_question: u64,
    /// A rival has said that it does not yield.
    is_changed: bool,
}

/// A holder whose claim this node doubts, and which it tells so.
#[derive(Clone, Debug)]
struct Doubt {
    holder: NodeId,
    tell_at: Time,
    wait: Duration,
    /// Whether it is doubted still.
    is_open: bool,
}

/// A replica with several holders that are up.
#[derive(Clone, Debug)]
struct Dispute {
    keeper: Keeper,
    /// The question whose answer counts.
    question: Option<u64>,
    /// The revision that the keeper must run before this node yields to it: set when this node's
    /// own replica is good.
    generation: Option<Revision>,
    /// The keeper waits for this node to stop: it need not be healthy.
    stops_first: bool,
    ask_at: Time,
    wait: Duration,
    /// The node knows that it has to yield.
    yielded: bool,
}

impl Duplicates {
    pub(super) fn new(config: Config) -> Self {
        Duplicates {
            config,
            contested: BTreeSet::new(),
            disputes: BTreeMap::new(),
            doubts: BTreeMap::new(),
            insisting: BTreeMap::new(),
            believed: BTreeMap::new(),
            next_question: 0,
            is_changed: false,
        }
    }

    /// Replicas held with others, and disputes about them.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.contested.len(), self.disputes.len())
    }

    pub(super) fn contested(&self) -> impl Iterator<Item = &ReplicaId> {
        self.contested.iter()
    }

    /// The holders of a replica changed: `mine` if this node is one of them.
    pub(super) fn holders_changed(&mut self, replica: ReplicaId, mine: bool, holders: usize) {
        if mine && holders > 1 {
            self.contested.insert(replica);
        } else {
            self.contested.remove(&replica);
            self.doubts.remove(&replica);
            self.insisting.remove(&replica);
            self.disputes.remove(&replica);
        }
        if !mine {
            self.believed.remove(&replica);
        }
    }

    pub(super) fn reconsider(
        &mut self,
        now: Time,
        me: NodeId,
        index: &Index,
        judge: &Judge<'_>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        self.is_changed = false;
        let mut facts = Vec::new();
        let mut due = Vec::new();
        // A node that returns after a long cut may hold thousands of replicas with this one.
        let covered = RefCell::new(BTreeMap::<NodeId, bool>::new());
        let credit = judge.credit;
        let knows = |node: &NodeId, replica: &ReplicaId| {
            let mut covered = covered.borrow_mut();
            let covers = *covered.entry(*node).or_insert_with(|| credit.covers(node, index));
            covers && (credit.knows)(node, replica)
        };
        let judge = &Judge { credit: Credit { knows: &knows, ..credit }, ..*judge };
        for replica in &self.contested {
            let mut holders = index.of(replica);
            holders.retain(|(node, _)| *node == me || (judge.up)(node));
            let wanted = (judge.current)(replica);
            let believed = self.believed.get(replica);
            let doubted = judge.doubted(me, &holders, wanted.as_ref(), believed);
            match (doubted.first().copied(), self.doubts.get_mut(replica)) {
                (Some((holder, _)), Some(doubt)) if doubt.holder == holder => doubt.is_open = true,
                (Some((holder, by)), _) => {
                    self.doubts.insert(*replica, Doubt::new(holder, now, &self.config));
                    facts.push(Fact::Doubted { replica: *replica, holder, by });
                }
                (None, Some(doubt)) => doubt.is_open = false,
                (None, None) => {}
            }
            holders.retain(|(node, _)| doubted.iter().all(|(doubted, _)| doubted != node));
            let insisting = self.insisting.get(replica);
            let kept = judge.rival_of(me, &holders, wanted.as_ref(), insisting, believed);
            let mine = holders.iter().find(|(node, _)| *node == me);
            let (Some(kept), Some((_, mine)), true) = (kept, mine, holders.len() > 1) else {
                self.disputes.remove(replica);
                continue;
            };
            let rival = holders.iter().find(|(node, _)| *node == kept.node && *node != me);
            let known = self.believed.get(replica).copied();
            let believed = rival.map(|(node, claim)| judge.believe(me, node, claim, known));
            if let Some(believed) = believed {
                self.believed.insert(*replica, believed);
            }
            let is_new = !believed.is_some_and(|it| known.is_some_and(|known| known.is(&it)));
            match self.disputes.get(replica) {
                // This node has yielded and is stopping it, whichever holder is kept.
                Some(known) if known.yielded => continue,
                Some(known) if known.keeper.node == kept.node => {}
                Some(_) | None => {
                    self.disputes
                        .insert(*replica, Dispute::new(kept, now, self.config.ask_again_after));
                    // A rival that comes and goes is told of once.
                    if is_new {
                        facts.push(Fact::Duplicate {
                            replica: *replica,
                            keeper: kept.node,
                            because: kept.because,
                        });
                    }
                }
            }
            if kept.node == me {
                adopt(replica, mine, &holders, &mut facts);
            } else if let Some(dispute) = self.disputes.get_mut(replica) {
                dispute.keeper = kept;
                let sees = (judge.credit.knows)(&me, replica);
                dispute.generation = wanted.filter(|wanted| sees && is_good(mine, Some(wanted)));
                dispute.stops_first = (judge.stops_first)(replica)
                    && believed.is_some_and(|it| it.credible)
                    && rival.is_some_and(|(node, claim)| judge.leads_to(me, mine, node, claim));
                if dispute.ask_at <= now {
                    due.push((dispute.wait, *replica, mine.token));
                }
            }
        }
        self.ask(now, due, out);
        self.insist(now, me, index, out);
        facts
    }

    /// Tells doubted holders that this node keeps its replica: an honest one, that comes back after
    /// another device had its identity, yields.
    fn insist(&mut self, now: Time, me: NodeId, index: &Index, out: &mut Out<Message>) {
        let due = self.doubts.iter_mut().filter(|(_, doubt)| doubt.is_open && doubt.tell_at <= now);
        for (i, (replica, doubt)) in due.enumerate() {
            doubt.tell_at = now + doubt.wait;
            let Some(mine) = index.claim(&me, replica) else { continue };
            if i < self.config.max_asks_at_once {
                doubt.wait = (doubt.wait * 2).min(self.config.ask_at_most_every);
                let unasked = Message::Keeping {
                    replica: *replica,
                    question: UNASKED,
                    generation: mine.generation,
                    healthy: true,
                };
                out.send(doubt.holder, unasked);
            }
        }
    }

    /// Disputes with the shortest pauses come first, so that none starves when there are many.
    fn ask(
        &mut self,
        now: Time,
        mut due: Vec<(Duration, ReplicaId, Token)>,
        out: &mut Out<Message>,
    ) {
        due.sort();
        for (i, (_, replica, token)) in due.into_iter().enumerate() {
            let Some(dispute) = self.disputes.get_mut(&replica) else { continue };
            dispute.ask_at = now + dispute.wait;
            if i < self.config.max_asks_at_once {
                dispute.wait = (dispute.wait * 2).min(self.config.ask_at_most_every);
                dispute.question = Some(self.next_question);
                let question = self.next_question;
                self.next_question += 1;
                out.send(dispute.keeper.node, Message::AskKeeper { replica, token, question });
            }
        }
    }

    pub(super) fn handle_message(
        &mut self,
        me: NodeId,
        index: &Index,
        from: NodeId,
        message: Message,
        knows: &dyn Fn(&NodeId, &ReplicaId) -> bool,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        match message {
            Message::AskKeeper { replica, token, question } => {
                // Not held here: the asker will see that in this node's sheet.
                let Some(mine) = index.claim(&me, &replica) else { return Vec::new() };
                let knows = knows(&me, &replica);
                // It would yield.
                if self.insisting.get(&replica) == Some(&from) {
                    self.insisting.remove(&replica);
                }
                self.on_ask(mine, knows, from, token, question, out)
            }
            Message::Keeping { replica, question: UNASKED, .. } => {
                if self.contested.contains(&replica) && index.claim(&from, &replica).is_some() {
                    self.is_changed |= self.insisting.insert(replica, from) != Some(from);
                }
                Vec::new()
            }
            Message::Keeping { replica, question, generation, healthy } => {
                self.on_answer(from, replica, question, generation, healthy)
            }
        }
    }

    fn on_ask(
        &mut self,
        mine: &Claim,
        knows: bool,
        from: NodeId,
        token: Token,
        question: u64,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        if token.counter > mine.token.counter.saturating_add(MAX_MENTIONED_JUMP) {
            return vec![Fact::Misbehaved { peer: from, why: "a token that is too far ahead" }];
        }
        let replica = mine.replica;
        let dispute = self.disputes.get_mut(&replica);
        let stays = dispute.as_ref().is_none_or(|dispute| !dispute.yielded);
        let healthy = knows && mine.phase == Phase::Healthy && stays;
        if let (true, Some(dispute)) = (healthy, dispute) {
            dispute.question = None;
        }
        out.send(
            from,
            Message::Keeping { replica, question, generation: mine.generation, healthy },
        );
        let adopts = healthy && token > mine.token;
        if adopts { vec![Fact::Adopt { replica, token }] } else { Vec::new() }
    }

    fn on_answer(
        &mut self,
        from: NodeId,
        replica: ReplicaId,
        question: u64,
        generation: Revision,
        healthy: bool,
    ) -> Vec<Fact> {
        let Some(dispute) = self.disputes.get_mut(&replica) else { return Vec::new() };
        if dispute.keeper.node != from || dispute.question != Some(question) {
            return Vec::new();
        }
        dispute.question = None;
        let is_ready = healthy && dispute.generation.is_none_or(|wanted| wanted == generation);
        if !is_ready && !dispute.stops_first {
            return Vec::new();
        }
        dispute.yielded = true;
        vec![Fact::Yield { replica, to: from, because: dispute.keeper.because }]
    }

    pub(super) fn poll_timeout(&self, me: &NodeId) -> Option<(Time, Reason)> {
        let asking =
            self.disputes.values().filter(|dispute| dispute.keeper.node != *me && !dispute.yielded);
        let telling = self.doubts.values().filter(|doubt| doubt.is_open);
        let asking = asking.map(|dispute| (dispute.ask_at, Reason::AskKeeperAgain));
        let telling = telling.map(|doubt| (doubt.tell_at, Reason::TellDoubted));
        let changed = self.is_changed.then_some((Time::ZERO, Reason::RivalStays));
        asking.chain(telling).chain(changed).min()
    }
}

impl Doubt {
    fn new(holder: NodeId, now: Time, config: &Config) -> Self {
        Doubt { holder, tell_at: now, wait: config.ask_again_after, is_open: true }
    }
}

impl Dispute {
    fn new(keeper: Keeper, now: Time, wait: Duration) -> Self {
        Dispute {
            keeper,
            question: None,
            generation: None,
            stops_first: false,
            ask_at: now,
            wait,
            yielded: false,
        }
    }
}

fn adopt(replica: &ReplicaId, mine: &Claim, holders: &[(NodeId, &Claim)], facts: &mut Vec<Fact>) {
    let highest = holders.iter().map(|(_, claim)| claim.token).max();
    if let Some(token) = highest.filter(|token| *token > mine.token) {
        facts.push(Fact::Adopt { replica: *replica, token });
    }
}
