//! Admitting a node: the request of a joining node, and the answer of a member.

use crate::model::{NodeId, NodeRecord, RawChange, Signed, Time, Unverified};
use crate::trust;

use super::Node;
use super::contract::Action;
use super::message::{MAX_CHANGES, Message};

/// Members whose admission goes with that of a joining node. The joining node learns of the others
/// by comparison.
const MAX_INTRODUCED: usize = 16;

impl Node {
    /// A node asks to be admitted. It knows the join key, or there would be no link to it.
    pub(super) fn on_join(&mut self, now: Time, from: NodeId, record: Unverified<NodeRecord>) {
        let Ok(record) = record.verify(&self.cluster) else {
            return self.on_garbage(now, from, "a join that is not signed");
        };
        if NodeId(record.by().0) != from || !self.admitted() {
            return;
        }
        if self.desired.members().contains_key(&from) {
            self.send_admission(now, from, record);
        } else if self.saving.read_only.is_none() && self.budgets.join(now) {
            self.admit(now, from, Some(record));
        }
    }

    /// Tells a joining node that it is a member. Its admission is on disk.
    pub(super) fn send_admission(&mut self, now: Time, from: NodeId, record: Signed<NodeRecord>) {
        let key = Self::member_key(from);
        // With the admissions of some earlier members, so that the joining node can look for them
        // if this node dies in the next moment.
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

    pub(super) fn on_admitted(&mut self, now: Time, changes: Vec<RawChange>) {
        for raw in changes.into_iter().take(MAX_CHANGES) {
            if let Ok(change) = trust::accept(&self.identity.genesis, raw) {
                _ = self.apply_change(now, change);
            }
        }
    }
}
