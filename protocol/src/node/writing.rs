//! Desired state: applying changes from users and peers, and admitting nodes.

use crate::desired::Applied;
use crate::model::{Change, Digest, Key, NodeId, NodeRecord, Signed, Time};
use crate::sync::Tree;
use crate::trust;

use super::contract::{Record, Refusal};
use super::saving::Then;
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
        let applied = self.desired.apply(change).map_err(|full| full.to_string())?;
        let Applied::New { effective } = applied else { return Ok(()) };
        if !is_written {
            self.persist_key(&key);
        }
        if let Some((key, hash)) = self.desired.digest(&key) {
            self.repair.note(now, Tree::Desired, key, hash);
        }
        self.shown.version += 1;
        if !effective {
            return Ok(());
        }
        match &key {
            Key::Member(node) => self.on_member_changed(now, *node),
            Key::Other(..) => {}
            Key::Workload(name) => {
                let uid = self.desired.workload(name).map(|workload| workload.uid);
                self.due.routes.insert(name.clone());
                let counts = self.desired.effective(&key).map(Change::uid);
                [before, counts].into_iter().flatten().for_each(|uid| self.index_workload(uid));
                let is_gone = |before: &Digest| !self.desired.is_living(before);
                if let Some(gone) = before.filter(is_gone) {
                    self.reroute([gone]);
                    self.forget_workload(now, &gone);
                }
                if let Some(uid) = uid {
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
            }
        }
        Ok(())
    }

    fn forget_workload(&mut self, now: Time, uid: &Digest) {
        self.close_auctions(now, uid);
        self.planning.again.remove(uid);
        self.planning.deferred.remove(uid);
        self.claims.forget_workload(uid);
        let rulings = self.rulings.forget(uid);
        rulings.iter().for_each(|key| self.repair.forget(now, Tree::Rulings, key));
        self.persist(rulings.into_iter().map(|key| Record::NoRuling { key }).collect());
        self.forget_unwanted();
    }

    fn on_member_changed(&mut self, now: Time, node: NodeId) {
        let salt = self.desired.members().get(&node).copied();
        let genesis = self.identity.genesis;
        // Whoever has the join key may have moved this node on the ring: its own salt has the last
        // word.
        if node == self.me
            && self.membership.is_placed()
            && salt.is_some_and(|salt| salt != trust::admission_salt(&genesis, &node))
        {
            self.admit(now, node, None);
        }
        let joined = salt.is_some();
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
            let claimed = self.claims.forget_node(&node);
            self.reroute(claimed.into_iter().map(|replica| replica.uid));
            self.artifacts.forget_holder(&node);
            self.saving.forget(&node);
            self.forget_author(&node);
            self.emit_event(
                now,
                Level::Info,
                "node-left",
                None,
                Some(node),
                "a node was removed from the cluster".into(),
            );
            self.mark_all_dirty();
        }
    }

    /// Signs a node's admission with the join key. It takes effect, and the node gets it, once it
    /// is on disk.
    pub(super) fn admit(&mut self, now: Time, node: NodeId, record: Option<Signed<NodeRecord>>) {
        let key = Self::member_key(node);
        if self.saving.is_staged(&key.hash()) {
            return; // the node asks again because this disk is slow
        }
        let admission = trust::admission(&self.identity.genesis, &self.identity.join, node);
        let Ok(change) = admission else { return };
        if let Err(refusal) = self.stage(now, change, Then::Admit(node, record.map(Box::new))) {
            self.emit_not_admitted(now, node, &refusal);
        }
    }

    pub(super) fn emit_not_admitted(&mut self, now: Time, node: NodeId, refusal: &Refusal) {
        let message = format!("not admitted: {refusal}");
        self.emit_event(now, Level::Warning, "node-refused", None, Some(node), message);
    }
}
