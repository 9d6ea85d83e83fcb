//! Links on demand: beyond a full mesh a node has business with members that it has no standing link to.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message, Reason};

/// How long a link is kept after the last business. An auction has some three turns, and the next one often asks the same.
const LEASE: Duration = Duration::from_secs(30);
/// Links kept so at a time. With those that stand anyway they stay below `config.max_links`.
pub(super) const MOST: usize = 32;

impl Membership {
    /// This node wants to talk to that one, which is up and has no link: it is dialled at once, and the link is kept for a
    /// while. False if that cannot be: it is no member, is not up, or too many are kept already.
    pub fn reach(&mut self, now: Time, node: NodeId, out: &mut Out<Message>) -> (bool, Vec<Fact>) {
        if !self.is_up(&node) || (self.errands.len() >= MOST && !self.errands.contains_key(&node)) {
            return (false, Vec::new());
        }
        let mut cx = Cx::new(now, out);
        self.errands.insert(node, now + LEASE);
        self.timers.set_by(Reason::Errand, now + LEASE);
        // No courtesy: the other end knows of no business.
        if self.wanted.insert(node) || !self.dialling.contains(&node) {
            self.dial(&mut cx, node);
        }
        (true, self.finish(cx))
    }

    /// There was business over a link: if it is kept for that alone, it is kept for longer.
    pub fn dealt_with(&mut self, now: Time, node: &NodeId) {
        if let Some(until) = self.errands.get_mut(node) {
            *until = now + LEASE;
        }
    }

    pub(super) fn end_errands(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.errands.retain(|_, until| *until > now);
        if let Some(next) = self.errands.values().min() {
            self.timers.set(Reason::Errand, *next);
        }
        self.unsettled_topology = true;
    }
}
