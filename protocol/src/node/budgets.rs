//! How much a member may cause at other nodes. A stolen device has a node key of its own,
//! so whatever it may say at all it can say without end.
//!
//! A statement beyond a budget is dropped, not refused: comparison brings it again when the budget
//! has recovered. So an honest node that has much to say is late, and never unheard.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Bucket, Change, Key, NodeId, Queue, Role, Time};

use super::{Level, Node};

/// Rulings of one signer at once, and the pause between further ones. Each costs every node a disk
/// write. An owner makes one per workload and event.
const RULINGS: (u32, Duration) = (256, Duration::from_secs(1));
/// Slots of one signer at once, and the pause between further ones. Each is verified, told on and
/// planned for by every node. An honest node sends 32 at once and 200 a second; a comparison may
/// bring all of its sheet.
const SLOTS: (u32, Duration) = (512, Duration::from_millis(4));
/// Admissions that one peer passes on at once, and the pause between further ones. A cluster that
/// is set up by a script grows by some ten nodes a second.
const ADMISSIONS: (u32, Duration) = (1_024, Duration::from_millis(100));
/// Devices that this node admits at once, and the pause between further ones. They ask again.
const JOINS: (u32, Duration) = (1_024, Duration::from_millis(100));

/// The budgets of all members.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    /// By signer; at most as many as there are members. All that left share one.
    rulings: BTreeMap<NodeId, Bucket>,
    slots: BTreeMap<NodeId, Bucket>,
    /// By the peer that passed them on. All peers that are no members share one.
    admissions: BTreeMap<NodeId, Bucket>,
    joins: Bucket,
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            rulings: BTreeMap::new(),
            slots: BTreeMap::new(),
            admissions: BTreeMap::new(),
            joins: Bucket::new(JOINS.0, JOINS.1),
        }
    }
}

impl Budgets {
    /// Whether this member may make one more ruling.
    pub fn ruling(&mut self, now: Time, by: NodeId) -> bool {
        take(&mut self.rulings, by, RULINGS, now)
    }

    /// Whether this member may send one more slot.
    pub fn slot(&mut self, now: Time, by: NodeId) -> bool {
        take(&mut self.slots, by, SLOTS, now)
    }

    /// Whether this node may admit one more device.
    pub fn join(&mut self, now: Time) -> bool {
        self.joins.take(now).is_ok()
    }

    /// A node left the roster.
    pub fn forget(&mut self, node: &NodeId) {
        self.rulings.remove(node);
        self.slots.remove(node);
        self.admissions.remove(node);
    }

    /// The growing collections, with their bounds.
    pub fn queues(&self, members: usize) -> Vec<Queue> {
        vec![
            Queue::new("members with a budget of rulings", self.rulings.len(), members + 1),
            Queue::new("members with a budget of slots", self.slots.len(), members),
            Queue::new("peers with a budget of admissions", self.admissions.len(), members + 1),
        ]
    }
}

fn take(
    budgets: &mut BTreeMap<NodeId, Bucket>,
    node: NodeId,
    (burst, every): (u32, Duration),
    now: Time,
) -> bool {
    budgets.entry(node).or_insert_with(|| Bucket::new(burst, every)).take(now).is_ok()
}

impl Node {
    /// Whether to drop an admission by a member that `from` passed on: it passes on too many.
    /// A node that is catching up takes them all.
    pub(super) fn is_flood(&mut self, now: Time, from: NodeId, change: &Change) -> bool {
        let Key::Member(node) = &change.signed.key else { return false };
        let is_new = self.desired.effective(&change.signed.key).is_none();
        let by_member = change.chain.peek().is_some_and(|it| matches!(it.role, Role::Admits(_)));
        if !is_new || !by_member || *node == self.me || !self.readiness.is_ready() {
            return false;
        }
        let peer = if self.is_member(&from) { from } else { NodeId([0; 32]) };
        if take(&mut self.budgets.admissions, peer, ADMISSIONS, now) {
            return false;
        }
        self.count("admissions_delayed");
        if self.shown.counters.get("admissions_delayed").is_some_and(|it| it.is_power_of_two()) {
            let message = "it passes on more admissions than a cluster grows by, and the surplus \
                waits: somebody who has an invite of many uses may be adding nodes";
            self.emit_event(
                now,
                Level::Warning,
                "admission-flood",
                None,
                Some(from),
                message.into(),
            );
        }
        true
    }
}
