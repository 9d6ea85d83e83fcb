//! Messages from peers, over links, by gossip and by comparison.

use crate::claims::{self, Outcome, Standing};
use crate::membership::Worth;
use crate::model::{
    Digest, NodeId, NodeRecord, RawChange, ReplicaId, Ruling, RulingBody, Signed, Slot, Time,
    Unverified, codec,
};
use crate::rulings::{self, Applied};
use crate::sync::{self, Tree};
use crate::trust::{self, Rejection};

use super::PersistId;
use super::contract::{Action, Record, Ticket, Verdict};
use super::message::Message;
use super::{Level, Node};

impl Node {
    pub(super) fn on_message(&mut self, now: Time, from: NodeId, message: Message) {
        let is_member = self.desired.members().contains_key(&from);
        // The peer has not shown yet who it is, or the link to a node that was removed is closing.
        if !message.is_greeting() && (self.doors.is_closed(&from) || !is_member) {
            return self.count("dropped_stranger");
        }
        match message {
            Message::Join { record, chain } => self.on_join(now, from, record, chain),
            Message::Admitted { changes } => self.on_admitted(now, from, changes),
            Message::Greet { lineage, revocations } => {
                self.on_greet(now, from, lineage, revocations)
            }
            Message::Revocations { changes, more, answer } => {
                self.on_revocations(now, from, changes, more, answer)
            }
            Message::NotAdmitted { why, changes } => self.on_not_admitted(now, from, &why, changes),
            Message::Repair(message) => self.with_repair(now, |repair, now, source, out| {
                repair.handle_message(now, from, message, source, out)
            }),
            Message::Membership(message) => {
                self.with_membership(now, |room, now, out| {
                    room.handle_message(now, from, message, out)
                });
            }
            Message::Claims(message) => {
                self.with_claims(now, |claims, sight, out| {
                    let knows = |node: &NodeId, replica: &ReplicaId| sight.knows(node, replica);
                    claims.handle_message(from, message, &knows, out)
                });
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
            Message::Loads { loads } => self.on_loads(now, from, loads),
            Message::Wake { uid } => self.on_wake(now, &uid),
            // Gossip that came over a link: no verdict is expected.
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
            Message::Changed { change, holder } => self.on_changed(now, from, change, holder),
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
            // Messages between two nodes: a peer that gossips them is broken.
            Message::Repair(_)
            | Message::Claims(_)
            | Message::Auction(_)
            | Message::Join { .. }
            | Message::Admitted { .. }
            | Message::AskHolder { .. }
            | Message::AskKey { .. }
            | Message::SameKey { .. }
            | Message::Greet { .. }
            | Message::Revocations { .. }
            | Message::NotAdmitted { .. }
            | Message::Loads { .. }
            | Message::Wake { .. }
            | Message::Carry(_) => Verdict::Reject,
        }
    }

    pub(super) fn on_garbage(&mut self, now: Time, from: NodeId, why: &str) {
        self.count("garbage");
        // An event at each power of two, so that a broken peer does not fill the log.
        if self.shown.counters.get("garbage").is_some_and(|count| count.is_power_of_two()) {
            self.emit_event(
                now,
                Level::Warning,
                "garbage",
                None,
                Some(from),
                format!("a peer sent what cannot be: {why}; it was dropped"),
            );
        }
    }

    /// A peer of another version says what this program cannot read.
    pub(super) fn on_other_version(&mut self, now: Time, from: NodeId, why: &str) {
        self.count("other_version");
        // As for garbage: one event at each power of two.
        if self.shown.counters.get("other_version").is_some_and(|count| count.is_power_of_two()) {
            let message = format!("a message of the node was not understood: {why}");
            self.emit_event(now, Level::Warning, "other-version", None, Some(from), message);
        }
    }

    pub(super) fn on_changed(
        &mut self,
        now: Time,
        from: NodeId,
        raw: RawChange,
        holder: Option<NodeId>,
    ) -> Verdict {
        let change = match trust::accept(&self.identity.genesis, raw) {
            Ok(change) => change,
            Err(Rejection::Never(_)) => return Verdict::Reject,
            Err(Rejection::NotYet(_)) => return Verdict::Ignore,
        };
        if self.is_flood(now, from, &change) {
            return Verdict::Ignore;
        }
        let artifacts = change.signed.value.artifacts();
        let is_new = |digest: &&Digest| !self.desired.names_artifact(digest);
        let new: Vec<Digest> = artifacts.iter().filter(is_new).copied().collect();
        match self.apply_change(now, change) {
            Ok(()) => {
                // Before the change, other nodes would have dropped the announcement.
                new.into_iter().for_each(|digest| self.announce_artifact(digest));
                if let Some(holder) = holder {
                    artifacts.into_iter().for_each(|digest| _ = self.on_have(holder, digest));
                }
                Verdict::Accept
            }
            Err(why) => {
                self.count("changes_refused_full");
                let refused = self.shown.counters.get("changes_refused_full");
                if refused.is_some_and(|count| count.is_power_of_two()) {
                    let message = format!("a change was left out: {why}");
                    self.emit_event(now, Level::Warning, "full", None, Some(self.me), message);
                }
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
        let known = self.claims.slot(&node, number);
        if node != self.me
            && known.is_none_or(|known| known.counter < slot.counter)
            && !self.budgets.slot(now, node)
        {
            self.count("slots_delayed");
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
                    self.note_slot_for_repair(now, &slot);
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

    /// Another device signs with this node's key, and this node cannot outbid it for ever: it warns
    /// once.
    pub(super) fn on_contested(&mut self, now: Time) {
        if !std::mem::replace(&mut self.slot_gossip.is_contested, true) {
            let message = "another device runs with this node's identity, as after copying a \
                disk: wipe the state folder of one of them";
            self.emit_event(
                now,
                Level::Warning,
                "identity-shared",
                None,
                Some(self.me),
                message.into(),
            );
            self.shown.version += 1;
        }
    }

    fn on_ruled(&mut self, now: Time, ruling: Unverified<Ruling>) -> Verdict {
        let Ok(ruling) = ruling.verify(&self.cluster) else { return Verdict::Reject };
        self.apply_ruling(now, ruling)
    }

    /// Applies a verified ruling, if its signer is or was a member and its workload exists. It
    /// outlives its signer, so a node may hear of it after that one left.
    fn apply_ruling(&mut self, now: Time, ruling: Signed<Ruling>) -> Verdict {
        let by = NodeId(ruling.by().0);
        let is_known = self.rulings.get(&ruling.key()).is_some_and(|known| *known == ruling);
        if is_known || !self.may_rule(&ruling.by()) || !self.desired.is_living(&ruling.uid) {
            return Verdict::Ignore;
        }
        // Those that left share one budget.
        let payer = if self.is_member(&by) { by } else { NodeId([0; 32]) };
        if !self.budgets.ruling(now, payer) {
            self.count("rulings_delayed");
            return Verdict::Ignore;
        }
        match self.enter_ruling(now, ruling) {
            Some(_) => Verdict::Accept,
            None => Verdict::Ignore,
        }
    }

    /// Applies a ruling that may be made. Returns the batch in which it is written, if it is, or
    /// `None` if it is no news.
    pub(super) fn enter_ruling(
        &mut self,
        now: Time,
        ruling: Signed<Ruling>,
    ) -> Option<Option<PersistId>> {
        let Applied::New { dropped } = self.rulings.apply(ruling.clone()) else { return None };
        let key = rulings::key_hash(&ruling.key());
        self.repair.note(now, Tree::Rulings, key, ruling.hash());
        let mut records = vec![Record::Ruling { key, ruling: ruling.wire() }];
        if let Some(dropped) = dropped {
            self.repair.forget(now, Tree::Rulings, &dropped);
            records.push(Record::NoRuling { key: dropped });
        }
        let batch = self.persist(records);
        if self.heed_verdict(&ruling.uid) {
            self.on_rolled_back(now, &ruling.uid);
        }
        let body = &ruling.body;
        self.due.duplicates |= matches!(body, RulingBody::Move(_));
        if matches!(
            body,
            RulingBody::CronTick(_) | RulingBody::Autoscale { .. } | RulingBody::Move(_)
        ) {
            // There may be places now that were announced already.
            self.with_auction(now, |auction, now, context, out| {
                auction.learned(now, &ruling.uid, context, out)
            });
        }
        self.due.dirty.insert(ruling.uid);
        self.due.holding |= self.claims.mine().any(|claim| claim.replica.uid == ruling.uid);
        self.shown.version += 1;
        Some(batch)
    }

    pub(super) fn on_repair(&mut self, now: Time, fact: sync::Fact) {
        match fact {
            sync::Fact::Received { from, tree, payload } => {
                self.on_received(now, from, tree, &payload)
            }
            sync::Fact::InStep { .. } | sync::Fact::OutOfStep { .. } => {
                if let sync::Fact::InStep { peer } = &fact {
                    self.resume_deferred(peer);
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

    fn on_record(&mut self, now: Time, record: Unverified<NodeRecord>) -> Verdict {
        let Ok(record) = record.verify(&self.cluster) else { return Verdict::Reject };
        if !self.desired.members().contains_key(&NodeId(record.by().0)) {
            return Verdict::Ignore;
        }
        self.with_membership(now, |room, now, out| room.handle_record(now, record, out));
        Verdict::Accept
    }
}
