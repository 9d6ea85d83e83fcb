//! Desired state: applying changes from users and peers, and admitting nodes.

use std::collections::BTreeSet;

use crate::claims::Claims;
use crate::desired::{Applied, Moved};
use crate::membership::Membership;
use crate::model::claim::SLOTS;
use crate::model::{Change, Digest, Key, Label, NodeId, PublicKey, Revision, Signed, Time, Value};
use crate::sync::Tree;

use super::contract::{Action, Record};
use super::{Level, Node};

impl Node {
    /// Applies a change that another node holds: it takes effect at once, and is written.
    pub(super) fn apply_change(&mut self, now: Time, change: Change) -> Result<(), String> {
        self.take(now, change, false)
    }

    /// Applies a change that is on this node's disk.
    pub(super) fn take_change(&mut self, now: Time, change: Change) -> Result<(), String> {
        self.take(now, change, true)
    }

    fn take(&mut self, now: Time, change: Change, is_written: bool) -> Result<(), String> {
        let key = change.signed.key.clone();
        let before = self.desired.effective(&key).map(Change::uid);
        let served = self.claimed_version(&key);
        let noted = self.config.history.then(|| (self.before(&key), change.clone()));
        let applied = self.desired.apply(change).map_err(|full| full.to_string())?;
        let (effective, also) = match applied {
            Applied::New { effective, also } => (effective, also),
            Applied::Barred(why) => return Err(why.to_string()),
            Applied::Known | Applied::Superseded => return Ok(()),
        };
        if let Some((before, change)) = noted {
            self.note_change(now, &change, before, effective, is_written);
        }
        let is_other = |(uid, generation, ..): &(Digest, Revision, Change, bool)| {
            self.desired.by_uid(uid).is_some_and(|it| it.generation != *generation)
        };
        let served = served.filter(is_other).and_then(|served| self.keep_version(served));
        self.on_key_changed(now, &key, is_written, served);
        if effective {
            self.on_effective(now, &key, before);
        }
        if matches!(key, Key::Revocation(_)) {
            self.on_revoked(now, &key);
        }
        for Moved { key, before } in also {
            self.on_key_changed(now, &key, false, None);
            self.on_effective(now, &key, before);
        }
        Ok(())
    }

    /// The changes of a key are other ones; `also` goes to disk with them.
    fn on_key_changed(&mut self, now: Time, key: &Key, is_written: bool, also: Option<Record>) {
        match (is_written, also) {
            (false, also) => self.persist_key(key, also),
            (true, Some(also)) => _ = self.persist(vec![also]),
            (true, None) => {}
        }
        match self.desired.digest(key) {
            Some((key, hash)) => self.repair.note(now, Tree::Desired, key, hash),
            None => self.repair.forget(now, Tree::Desired, &key.hash()),
        }
        self.shown.version += 1;
    }

    fn on_effective(&mut self, now: Time, key: &Key, before: Option<Digest>) {
        match key {
            Key::Member(node) => self.on_member_changed(now, *node),
            Key::Workload(name) => {
                let uid = self.desired.workload(name).map(|workload| workload.uid);
                self.due.routes.insert(name.clone());
                let counts = self.desired.effective(key).map(Change::uid);
                [before, counts].into_iter().flatten().for_each(|uid| self.index_workload(uid));
                let is_gone = |before: &Digest| !self.desired.is_living(before);
                if let Some(gone) = before.filter(is_gone) {
                    self.reroute([gone]);
                    self.forget_workload(now, &gone);
                }
                if let Some(uid) = uid {
                    self.heed_verdict(&uid);
                    self.due.dirty.insert(uid);
                    self.with_auction(now, |auction, now, context, out| {
                        auction.learned(now, &uid, context, out)
                    });
                    self.want_artifact(now, &uid);
                }
                // The replaced version may leave its artifact behind.
                self.prune_artifacts();
                self.due.holding = true;
                self.due.duplicates = true;
                if self.desired.quota(&name.namespace).is_some() {
                    self.plan_namespace(&name.namespace);
                }
            }
            Key::Quota(namespace) => self.plan_namespace(namespace),
            Key::Policy(node) => self.on_policy(now, *node),
            // The workloads that use one of them have moved, too.
            Key::Revocation(_)
            | Key::Operator(_)
            | Key::Secret(_)
            | Key::Config(_)
            | Key::Other(..) => {}
        }
    }

    /// The policy of a node is another one.
    fn on_policy(&mut self, now: Time, node: NodeId) {
        if node == self.me && self.apply_policy() {
            self.publish_profile(now);
        }
        self.due.holding = true;
        self.due.duplicates = true;
        self.mark_all_dirty();
    }

    /// The quota of a namespace, or what its workloads take of it, is another one.
    fn plan_namespace(&mut self, namespace: &Label) {
        let inside = self.desired.workloads().filter(|it| it.name.namespace == *namespace);
        let uids: Vec<Digest> = inside.map(|workload| workload.uid).collect();
        self.due.dirty.extend(uids);
    }

    /// Shows a revocation, and drops what its key decided.
    fn on_revoked(&mut self, now: Time, key: &Key) {
        self.drop_rulings(now);
        let Some(change) = self.desired.effective(key) else { return };
        let (Key::Revocation(of), Value::Revoked(it)) = (key, &change.signed.value) else { return };
        let node = NodeId(of.0);
        let is_node = self.desired.effective(&Self::member_key(node)).is_some();
        let by = change.chain.peek().map_or_else(|| "the root key".to_owned(), |it| it.name);
        let why = if it.why.is_empty() { String::new() } else { format!(": {}", it.why) };
        let message = format!("the rights of key {} were revoked by {by}{why}", of.short());
        let node = is_node.then_some(node);
        self.emit_event(now, Level::Warning, "revoked", None, node, message);
    }

    fn forget_workload(&mut self, now: Time, uid: &Digest) {
        self.close_auctions(now, uid);
        self.planning.again.remove(uid);
        self.planning.deferred.remove(uid);
        self.planning.updates.remove(uid);
        self.scaling.forget(uid);
        self.desired.go_back_from(uid, None);
        self.claims.forget_workload(uid);
        let rulings = self.rulings.forget(uid);
        rulings.iter().for_each(|key| self.repair.forget(now, Tree::Rulings, key));
        self.persist(rulings.into_iter().map(|key| Record::NoRuling { key }).collect());
        self.forget_unwanted();
    }

    fn on_member_changed(&mut self, now: Time, node: NodeId) {
        let salt = self.desired.members().get(&node).copied();
        let was_member = self.membership.has_member(&node);
        let joined = salt.is_some();
        if joined && was_member {
            return;
        }
        let name = self.name_of(&node);
        self.with_membership(now, |membership, now, out| {
            membership.set_member(now, node, salt, out)
        });
        self.due.ring.insert(node);
        self.due.holding = true;
        self.shown.version += 1;
        if joined {
            let message =
                if node == self.me { "this node is a member now" } else { "a node was admitted" };
            self.emit_event(now, Level::Info, "node-admitted", None, Some(node), message.into());
            if node == self.me {
                self.reach.join_at = None;
                self.compare_with_all(now);
            }
        } else {
            if node == self.me {
                self.release_all(now, "this node is no member any more");
            }
            let claimed = self.claims.forget_node(&node);
            if node != self.me {
                self.stop_comparing(now, &node);
            }
            self.reroute(claimed.into_iter().map(|replica| replica.uid));
            self.artifacts.forget_holder(&node);
            self.saving.forget(&node);
            self.forget_author(&node);
            if was_member {
                let message = format!("{name} was removed from the cluster");
                self.emit_event(now, Level::Info, "node-left", None, Some(node), message);
            }
            self.part_from(now, node);
            self.mark_all_dirty();
        }
    }

    /// The slots and the record of a node that left are compared no more: nodes that last held
    /// different versions of them would never agree again.
    fn stop_comparing(&mut self, now: Time, node: &NodeId) {
        for slot in 0..SLOTS {
            self.repair.forget(now, Tree::Sheets, &Claims::key(node, slot));
        }
        self.repair.forget(now, Tree::Records, &Membership::item_key(node));
    }

    /// Whether the decisions of a key count: of a member, and of one that left. Nobody can tell
    /// when a ruling was made, so that those of a revoked key go with it.
    pub(super) fn may_rule(&self, by: &PublicKey) -> bool {
        let was_member = self.desired.effective(&Self::member_key(NodeId(by.0))).is_some();
        was_member && !self.is_revoked(by)
    }

    /// Drops the rulings of keys whose decisions do not count any more.
    fn drop_rulings(&mut self, now: Time) {
        let signers: BTreeSet<PublicKey> = self.rulings.iter().map(Signed::by).collect();
        let gone: BTreeSet<PublicKey> =
            signers.into_iter().filter(|by| !self.may_rule(by)).collect();
        if gone.is_empty() {
            return;
        }
        let dropped = self.rulings.forget_signers(&gone);
        let mut records = Vec::new();
        for (uid, key) in dropped {
            self.repair.forget(now, Tree::Rulings, &key);
            if self.heed_verdict(&uid) {
                self.on_rolled_back(now, &uid);
            }
            self.due.dirty.insert(uid);
            records.push(Record::NoRuling { key });
        }
        self.persist(records);
    }

    /// Ends the link to a node that is no member any more.
    fn part_from(&mut self, now: Time, node: NodeId) {
        if node == self.me {
            // Nobody else of the cluster is this node's business now.
            let peers: Vec<NodeId> = self.membership.links().collect();
            peers.into_iter().for_each(|peer| self.outbox.push(Action::Disconnect(peer)));
        } else if self.membership.has_link(&node) || self.doors.is_closed(&node) {
            self.turn_away(now, node);
        }
    }

    pub(super) fn emit_not_admitted(&mut self, now: Time, node: NodeId, why: &str) {
        let message = format!("a device asked to be admitted, and was not: {why}");
        self.emit_event(now, Level::Warning, "node-refused", None, Some(node), message);
    }
}
