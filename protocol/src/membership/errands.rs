//! Links on demand: beyond a full mesh a node has business with members that it has no standing
//! link to.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message, Reason};

/// How long a link is kept after the last business. An auction has some three turns, and the next
/// one often asks the same.
const LEASE: Duration = Duration::from_secs(30);
/// Links kept so at a time; for one more, that with the oldest business is not kept any longer.
/// With those that stand anyway they leave room within `config.max_links` for the business of
/// others with this node.
pub(super) const MOST_KEPT: usize = 16;
/// Links for business that are still to come about, at most: more than an auction asks for at once.
/// Of as many nodes there may be something to be said that waits for them.
pub const MOST_COMING: usize = 64;

impl Membership {
    /// This node wants to talk to that one, which is up and has no link: it is dialled as soon as
    /// can be, and the link is kept for a while. False if that cannot be: it is not up, or too many
    /// are waited for already.
    pub fn reach(&mut self, now: Time, node: NodeId, out: &mut Out<Message>) -> (bool, Vec<Fact>) {
        let coming =
            self.errands.keys().filter(|other| **other != node && !self.has_link(other)).count();
        if !self.is_up(&node) || coming >= MOST_COMING {
            return (false, Vec::new());
        }
        let mut cx = Cx::new(now, out);
        self.errands.insert(node, now + LEASE);
        self.timers.set_by(Reason::Errand, now + LEASE);
        // No courtesy: the other end knows of no business.
        self.wanted.insert(node);
        self.dial(&mut cx, node);
        (true, self.finish(cx))
    }

    /// There was business over a link: if it is kept for that alone, it is kept for longer.
    pub fn dealt_with(&mut self, now: Time, node: &NodeId) {
        if let Some(until) = self.errands.get_mut(node) {
            *until = now + LEASE;
        }
    }

    /// A dial has ended: the next that waits for one need not wait longer.
    pub(super) fn dial_for_errands(&mut self, cx: &mut Cx<'_>) {
        let is_waiting = |node: &&NodeId| !self.has_link(node) && !self.dialling.contains(*node);
        let waiting: Vec<NodeId> = self.errands.keys().filter(is_waiting).copied().collect();
        for node in waiting {
            if self.dialling.len() >= self.config.max_dials {
                return;
            }
            self.dial(cx, node);
        }
    }

    /// A link came about. Of more than can be kept for business one is not any longer.
    pub(super) fn keep_for_errands(&mut self, newest: &NodeId) {
        if !self.errands.contains_key(newest) {
            return;
        }
        let kept: Vec<(Time, NodeId)> = self
            .errands
            .iter()
            .filter(|(node, _)| self.has_link(node))
            .map(|(node, until)| (*until, *node))
            .collect();
        let oldest = kept.iter().filter(|(_, node)| node != newest).min();
        if let Some((_, node)) = oldest.filter(|_| kept.len() > MOST_KEPT) {
            self.errands.remove(node);
            self.unsettled_topology = true;
        }
    }

    pub(super) fn end_errands(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.errands.retain(|_, until| *until > now);
        if let Some(next) = self.errands.values().min() {
            self.timers.set(Reason::Errand, *next);
        }
        self.refresh_topology(cx);
        self.prune(cx);
    }
}
