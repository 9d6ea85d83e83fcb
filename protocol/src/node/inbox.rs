//! What others say, over links and by gossip, and what the rooms make of it.

use std::collections::BTreeSet;

use crate::claims::{Outcome, Standing};
use crate::membership::{self, Worth};
use crate::model::{Digest, NodeId, RawChange, Ruling, Signed, Slot, Time, Unverified, codec};
use crate::rulings::Applied;
use crate::sync::{self, Tree};
use crate::trust::{self, Rejection};
use crate::{auction, claims};

use super::contract::{Action, Record, Ticket, Verdict};
use super::message::{MAX_CHANGES, Message};
use super::{Level, Node};

/// Members that a joiner is told of with its admission; it hears of the others by comparing.
const MAX_INTRODUCED: usize = 16;

impl Node {
    pub(super) fn on_message(&mut self, now: Time, from: NodeId, message: Message) {
        let is_member = self.desired.members().contains_key(&from);
        match message {
            Message::Join { record } => self.on_join(now, from, record),
            Message::Admitted { changes } => self.on_admitted(now, changes),
            // Repair is how one who is not admitted yet, or does not know who is, learns of it.
            Message::Repair(message) => self.with_repair(now, |repair, now, source, out| {
                repair.handle_message(now, from, message, source, out)
            }),
            Message::Membership(message) => {
                self.with_membership(now, |room, now, out| {
                    room.handle_message(now, from, message, out)
                });
            }
            _ if !is_member => self.count("dropped_stranger"),
            Message::Claims(message) => {
                self.with_claims(now, |claims, out| claims.handle_message(from, message, out));
            }
            Message::Auction(message) => self.with_auction(now, |auction, now, context, out| {
                auction.handle_message(now, from, message, context, out)
            }),
            Message::AskHolder { digest } => self.on_ask_holder(now, from, digest),
            Message::AskKey { question, key, holds } => {
                self.on_ask_key(from, question, &key, &holds)
            }
            Message::SameKey { question, same } => self.on_same_key(now, from, question, same),
            Message::Carry(sealed) => self.on_carry(now, from, sealed),
            // Gossip may also come over a link; nobody waits for a verdict then.
            Message::Changed { .. }
            | Message::Slot(_)
            | Message::Ruled(_)
            | Message::Have { .. } => {
                let verdict = self.judge(now, from, message);
                if verdict == Verdict::Reject {
                    self.on_garbage(now, from, "a statement that is bad for everyone");
                }
            }
        }
    }

    pub(super) fn on_gossip(&mut self, now: Time, ticket: Ticket, from: NodeId, message: Message) {
        let verdict = self.judge(now, from, message);
        if verdict == Verdict::Reject {
            self.count("gossip_rejected");
        }
        self.outbox.push(Action::Verdict { ticket, verdict });
    }

    fn judge(&mut self, now: Time, from: NodeId, message: Message) -> Verdict {
        match message {
            Message::Changed { change, holder } => self.on_changed(now, change, holder),
            Message::Slot(slot) => self.on_slot(now, slot),
            Message::Ruled(ruling) => self.on_ruled(now, ruling),
            Message::Have { node, digest } => self.on_have(node, digest),
            Message::Membership(message) => {
                let mut worth = Worth::Ignore;
                self.with_membership(now, |room, now, out| {
                    let (judged, facts) = room.handle_gossip(now, from, message, out);
                    worth = judged;
                    facts
                });
                match worth {
                    Worth::Relay => Verdict::Accept,
                    Worth::Ignore => Verdict::Ignore,
                    Worth::Reject => Verdict::Reject,
                }
            }
            // These are between two nodes; whoever gossips them is broken.
            Message::Repair(_)
            | Message::Claims(_)
            | Message::Auction(_)
            | Message::Join { .. }
            | Message::Admitted { .. }
            | Message::AskHolder { .. }
            | Message::AskKey { .. }
            | Message::SameKey { .. }
            | Message::Carry(_) => Verdict::Reject,
        }
    }

    pub(super) fn on_garbage(&mut self, now: Time, from: NodeId, why: &str) {
        self.count("garbage");
        // One event at the first and then at every power of two: a broken peer shall not fill the
        // log.
        if self.shown.counters.get("garbage").is_some_and(|count| count.is_power_of_two()) {
            self.tell(
                now,
                Level::Warning,
                "garbage",
                None,
                Some(from),
                format!("a peer sent what cannot be: {why}; it was dropped"),
            );
        }
    }

    pub(super) fn on_changed(
        &mut self,
        now: Time,
        raw: RawChange,
        holder: Option<NodeId>,
    ) -> Verdict {
        let change = match trust::accept(&self.identity.genesis, raw) {
            Ok(change) => change,
            Err(Rejection::Never(_)) => return Verdict::Reject,
            Err(Rejection::NotYet(_)) => return Verdict::Ignore,
        };
        let artifacts = change.signed.value.artifacts();
        let is_news = |digest: &&Digest| !self.desired.names_artifact(digest);
        let news: Vec<Digest> = artifacts.iter().filter(is_news).copied().collect();
        match self.apply_change(now, change) {
            Ok(()) => {
                // Until now nobody would have taken it.
                news.into_iter().for_each(|digest| self.say_held(digest));
                if let Some(holder) = holder {
                    artifacts.into_iter().for_each(|digest| _ = self.on_have(holder, digest));
                }
                Verdict::Accept
            }
            Err(why) => {
                self.count("changes_refused_full");
                self.tell(
                    now,
                    Level::Warning,
                    "full",
                    None,
                    Some(self.me),
                    format!("a change was left out: {why}"),
                );
                Verdict::Ignore
            }
        }
    }

    pub(super) fn on_slot(&mut self, now: Time, slot: Unverified<Slot>) -> Verdict {
        let Ok(slot) = slot.verify(&self.cluster) else { return Verdict::Reject };
        let node = NodeId(slot.by().0);
        if !self.desired.members().contains_key(&node) {
            return Verdict::Ignore;
        }
        let number = slot.slot;
        let is_foreign = node == self.me
            && self.claims.slot(&node, number).is_none_or(|own| own.counter < slot.counter);
        if is_foreign && self.slot_gossip.rebuttals.take(now).is_err() {
            self.on_contested(now);
            return Verdict::Ignore;
        }
        let desired = &self.desired;
        let standing = |node: &NodeId| match desired.effective(&Self::member_key(*node)) {
            _ if desired.members().contains_key(node) => Standing::Member,
            Some(_) => Standing::Left,
            None => Standing::Stranger,
        };
        match self.claims.handle_slot(slot, &standing) {
            Ok(Outcome::Known) => Verdict::Ignore,
            Ok(Outcome::Changed { node, replicas }) => {
                self.saving.cache.slot(now, node, number);
                if let Some(slot) = self.claims.slot(&node, number).cloned() {
                    self.note_slot(now, &slot);
                }
                self.on_replicas_changed(now, node, &replicas);
                Verdict::Accept
            }
            Ok(Outcome::Reissue(slot)) => {
                self.issue(now, &[slot]);
                Verdict::Ignore
            }
            Err(claims::Rejection::Never(_)) => Verdict::Reject,
            Err(claims::Rejection::NotYet(_)) => Verdict::Ignore,
        }
    }

    /// Another device speaks in this node's name. There is no winning against it, so it is told,
    /// once.
    fn on_contested(&mut self, now: Time) {
        if !std::mem::replace(&mut self.slot_gossip.is_contested, true) {
            let message = "another device runs with this node's identity, as after copying a \
                disk: wipe the state folder of one of them";
            self.tell(now, Level::Warning, "identity-shared", None, Some(self.me), message.into());
            self.shown.version += 1;
        }
    }

    fn on_replicas_changed(
        &mut self,
        now: Time,
        node: NodeId,
        replicas: &[crate::model::ReplicaId],
    ) {
        let is_up = self.is_up(&node);
        for replica in replicas {
            self.due.dirty.insert(replica.uid);
            let award =
                self.claims.of(replica).into_iter().find(|(holder, _)| is_up && *holder == node);
            if let Some(token) =
                award.and_then(|(_, claim)| claim.award.peek().ok()).map(|award| award.token)
            {
                self.with_auction(now, |room, now, context, out| {
                    room.saw_claim(now, replica, &node, token, context, out)
                });
            }
        }
        self.due.duplicates = true;
        self.reroute(replicas.iter().map(|replica| replica.uid));
        self.shown.version += 1;
    }

    fn on_ruled(&mut self, now: Time, ruling: Unverified<Ruling>) -> Verdict {
        let Ok(ruling) = ruling.verify(&self.cluster) else { return Verdict::Reject };
        self.apply_ruling(now, ruling)
    }

    /// Takes a ruling whose signature is good: by a member, about a workload that lives.
    fn apply_ruling(&mut self, now: Time, ruling: Signed<Ruling>) -> Verdict {
        let by_member = self.desired.members().contains_key(&NodeId(ruling.by().0));
        if !by_member || !self.desired.is_living(&ruling.uid) {
            return Verdict::Ignore;
        }
        let Applied::New { dropped } = self.rulings.apply(ruling.clone()) else {
            return Verdict::Ignore;
        };
        let key = crate::model::Digest::of(&codec::encode(&ruling.key()));
        self.repair.note(now, Tree::Rulings, key, ruling.hash());
        let mut records = vec![Record::Ruling { key, ruling: ruling.wire() }];
        if let Some(dropped) = dropped {
            self.repair.forget(now, Tree::Rulings, &dropped);
            records.push(Record::NoRuling { key: dropped });
        }
        self.persist(records);
        self.due.dirty.insert(ruling.uid);
        Verdict::Accept
    }

    /// A stranger that holds the join key, or we could not talk, asks to be a member.
    fn on_join(&mut self, now: Time, from: NodeId, record: Unverified<crate::model::NodeRecord>) {
        let Ok(record) = record.verify(&self.cluster) else {
            return self.on_garbage(now, from, "a join that is not signed");
        };
        if NodeId(record.by().0) != from || !self.admitted() {
            return;
        }
        if self.desired.members().contains_key(&from) {
            self.welcome(now, from, record);
        } else if self.saving.read_only.is_none() {
            self.admit(now, from, Some(record));
        }
    }

    /// Tells a joining node that it is a member; its admission is on disk.
    pub(super) fn welcome(
        &mut self,
        now: Time,
        from: NodeId,
        record: Signed<crate::model::NodeRecord>,
    ) {
        let key = Self::member_key(from);
        // With some of those that were there before: should this node be gone the next moment the
        // joiner still knows of them, and looks for them.
        let others = [self.me]
            .into_iter()
            .chain(self.membership.up().filter(|node| *node != self.me && *node != from));
        let others = others
            .take(MAX_INTRODUCED)
            .flat_map(|node| self.desired.item(&Self::member_key(node).hash()));
        let changes =
            self.desired.item(&key.hash()).into_iter().chain(others).take(MAX_CHANGES).collect();
        let message = Message::Admitted { changes };
        self.outbox.push(Action::Send { to: from, lane: crate::model::Lane::Urgent, message });
        self.with_membership(now, |room, now, out| room.handle_record(now, record, out));
    }

    fn on_admitted(&mut self, now: Time, changes: Vec<RawChange>) {
        for raw in changes.into_iter().take(MAX_CHANGES) {
            if let Ok(change) = trust::accept(&self.identity.genesis, raw) {
                _ = self.apply_change(now, change);
            }
        }
    }

    pub(super) fn on_repair(&mut self, now: Time, fact: sync::Fact) {
        match fact {
            sync::Fact::Received { from, tree, payload } => {
                self.on_received(now, from, tree, &payload)
            }
            sync::Fact::InStep { .. } | sync::Fact::OutOfStep { .. } => {
                if let sync::Fact::InStep { peer } = &fact {
                    self.believe(peer);
                }
                self.due.ready = true;
                self.due.duplicates |= self.readiness.is_in_grace();
            }
        }
    }

    fn on_received(&mut self, now: Time, from: NodeId, tree: Tree, payload: &[u8]) {
        let verdict = match tree {
            Tree::Desired => {
                codec::decode(payload).map(|change| self.on_compared(now, from, change))
            }
            Tree::Rulings => codec::decode(payload).map(|ruling| self.on_ruled(now, ruling)),
            Tree::Sheets => codec::decode(payload).map(|slot| self.on_slot(now, slot)),
            Tree::Records => codec::decode(payload).map(|record| self.on_record(now, record)),
        };
        match verdict {
            Ok(Verdict::Accept | Verdict::Ignore) => {}
            Ok(Verdict::Reject) => self.on_garbage(now, from, "an entry that is bad for everyone"),
            Err(malformed) => self.on_garbage(now, from, &malformed.to_string()),
        }
    }

    fn on_record(&mut self, now: Time, record: Unverified<crate::model::NodeRecord>) -> Verdict {
        let Ok(record) = record.verify(&self.cluster) else { return Verdict::Reject };
        if !self.desired.members().contains_key(&NodeId(record.by().0)) {
            return Verdict::Ignore;
        }
        self.with_membership(now, |room, now, out| room.handle_record(now, record, out));
        Verdict::Accept
    }

    pub(super) fn on_membership(&mut self, now: Time, fact: membership::Fact) {
        self.shown.version += 1;
        match fact {
            membership::Fact::Up { node } => {
                self.rescue_throttle.returned(now, &node);
                self.on_peer_returned(now);
                self.tell(now, Level::Info, "node-up", None, Some(node), "the node is up".into());
                self.on_liveness(now, node);
            }
            membership::Fact::Down { node, why } => {
                let up = self.membership.up_count();
                self.rescue_throttle.lost(now, node, up, why.is_news);
                self.count("nodes_down");
                let why = why.describe(|node| self.name_of(node));
                self.tell(
                    now,
                    Level::Warning,
                    "node-down",
                    None,
                    Some(node),
                    format!("the node is down: {why}"),
                );
                self.with_auction(now, |room, now, context, out| {
                    room.node_down(now, &node, context, out)
                });
                self.on_liveness(now, node);
                // Who asked for takers a moment before this was known here is answered now.
                for uid in self
                    .claims
                    .of_node(&node)
                    .map(|claim| claim.replica.uid)
                    .collect::<BTreeSet<_>>()
                {
                    self.with_auction(now, |room, now, context, out| {
                        room.learned(now, &uid, context, out)
                    });
                }
            }
            membership::Fact::BackBy { node, until } => {
                let message = format!(
                    "the node stops on purpose and hopes to be back by {}",
                    self.wall_at(now, until)
                );
                self.tell(now, Level::Info, "node-back-by", None, Some(node), message);
                self.on_liveness(now, node);
            }
            membership::Fact::Record { node } => {
                let key = membership::Membership::item_key(&node);
                self.saving.cache.record(now, node, !self.repair.knows(Tree::Records, &key));
                if let Some(hash) = self.membership.record(&node).map(Signed::hash) {
                    self.repair.note(now, Tree::Records, key, hash);
                }
                self.due.ring.insert(node);
                self.due.facts = true;
                self.due.ready = true;
            }
            membership::Fact::Moved { node, before } => self.on_moved(now, node, &before),
            membership::Fact::Incarnation(incarnation) => {
                self.persist_incarnation(incarnation);
            }
            membership::Fact::Contested => self.on_contested(now),
            membership::Fact::RefutationDelayed { until } => {
                let wait = until.since(now).as_secs_f64().ceil();
                let message = format!(
                    "others have lost this node again and again, as when too few of them can \
                        reach it; it returns in {wait:.0} s, or when it meets them"
                );
                self.tell(now, Level::Warning, "return-delayed", None, Some(self.me), message);
            }
            membership::Fact::ReachabilityChanged { node } => {
                let uids: BTreeSet<_> =
                    self.claims.of_node(&node).map(|claim| claim.replica.uid).collect();
                self.reroute(uids);
            }
            membership::Fact::Unreachable { node, how } => self.on_no_way(now, node, how),
            membership::Fact::Suspected { .. } => self.count("accusations"),
            membership::Fact::Cleared { .. } => self.count("accusations_cleared"),
        }
    }

    fn on_liveness(&mut self, now: Time, node: NodeId) {
        if !self.is_up(&node) {
            self.lost_answerer(now, &node);
        }
        self.due.ring.insert(node);
        self.due.ready = true;
        self.due.duplicates = true;
        let uids =
            self.claims.of_node(&node).map(|claim| claim.replica.uid).collect::<BTreeSet<_>>();
        self.reroute(uids.iter().copied());
        self.due.dirty.extend(uids);
        self.due.facts = true;
    }

    pub(super) fn on_claims(&mut self, now: Time, fact: claims::Fact) {
        match fact {
            claims::Fact::Yield { replica, to, because } => {
                let keeper = self.name_of(&to);
                self.release(
                    now,
                    &replica,
                    "duplicate-yielded",
                    format!("{keeper} keeps it: {because}"),
                );
            }
            // It would not outlive a restart.
            claims::Fact::Adopt { .. } if self.saving.read_only.is_some() => {}
            claims::Fact::Adopt { replica, token } => {
                if let Some(slot) = self.claims.adopt(&replica, token) {
                    self.issue(now, &[slot]);
                }
            }
            claims::Fact::Duplicate { replica, keeper, because } => {
                self.count("duplicates");
                let name = self.replica_name(&replica);
                let message = format!(
                    "several nodes hold it; {} is to keep it: {because}",
                    self.name_of(&keeper)
                );
                self.tell(now, Level::Warning, "duplicate", Some(name), Some(keeper), message);
            }
            claims::Fact::Misbehaved { peer, why } => self.on_garbage(now, peer, why),
        }
    }

    pub(super) fn on_auction(&mut self, now: Time, fact: auction::Fact) {
        match fact {
            auction::Fact::Won { award, .. } => self.on_won(now, vec![award]),
            auction::Fact::Awarded { replica, node, summary, .. } => {
                let name = self.replica_name(&replica);
                let message = format!(
                    "awarded to {} in {:.1} ms, {} bid and {} declined",
                    self.name_of(&node),
                    summary.took_us as f64 / 1e3,
                    summary.bids.len(),
                    summary.declines.len()
                );
                self.count("awards");
                self.tell(now, Level::Info, "awarded", Some(name), Some(node), message);
            }
            auction::Fact::Settled { replica, .. } => {
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Reopen { replica, node, why } => {
                let name = self.replica_name(&replica);
                self.tell(
                    now,
                    Level::Warning,
                    "award-failed",
                    Some(name),
                    Some(node),
                    format!("{why}; auctioned again"),
                );
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Held { replica, .. } => {
                self.plan_again(now + super::planning::HELD_RETRY, replica.uid)
            }
            auction::Fact::Unplaceable { uid, places, why, retry_after } => {
                self.on_unplaceable(now, uid, places.len(), &why, retry_after);
            }
            auction::Fact::Full { uid, .. } => {
                self.plan_again(now + super::planning::FULL_RETRY, uid)
            }
            auction::Fact::AwardLapsed { replica } => {
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Misbehaved { peer, why } => self.on_garbage(now, peer, why),
        }
    }
}
