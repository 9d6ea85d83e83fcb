//! Links on demand: beyond a full mesh a node has business with members that it has no standing
//! link to.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message, Reason};

/// How long a link is kept after the last business. An auction has some three turns, and the next
/// one often asks the same.
const KEEP_FOR: Duration = Duration::from_secs(30);
/// Links kept so at a time; for one more, that with the oldest business is not kept any longer.
/// With those that stand anyway they leave room within `config.links.max` for the business of
/// others with this node.
pub(super) const MAX_KEPT_LINKS: usize = 16;
/// Links for business that are still to come about, at most: more than an auction asks for at once.
/// Of as many nodes there may be something to be said that waits for them.
pub const MAX_PENDING_LINKS: usize = 64;

impl Membership {
    /// This node wants to talk to that one, which is up and has no link: it is dialled as soon as
    /// can be, and the link is kept for a while. False if that cannot be: it is not up, or too many
    /// are waited for already.
    pub fn link_on_demand(
        &mut self,
        now: Time,
        node: NodeId,
        out: &mut Out<Message>,
    ) -> (bool, Vec<Fact>) {
        let coming =
            self.on_demand.keys().filter(|other| **other != node && !self.has_link(other)).count();
        if !self.is_up(&node) || coming >= MAX_PENDING_LINKS {
            return (false, Vec::new());
        }
        let mut cx = Cx::new(now, out);
        self.on_demand.insert(node, now + KEEP_FOR);
        self.timers.set_by(Reason::OnDemand, now + KEEP_FOR);
        // No courtesy: the other end knows of no business.
        self.wanted.insert(node);
        self.dial(&mut cx, node);
        (true, self.finish(cx))
    }

    /// There was business over a link: if it is kept for that alone, it is kept for longer.
    pub fn note_link_used(&mut self, now: Time, node: &NodeId) {
        if let Some(until) = self.on_demand.get_mut(node) {
            *until = now + KEEP_FOR;
        }
    }

    /// A dial has ended: the next that waits for one need not wait longer.
    pub(super) fn dial_pending(&mut self, cx: &mut Cx<'_>) {
        let is_waiting = |node: &&NodeId| !self.has_link(node) && !self.dialling.contains(*node);
        let waiting: Vec<NodeId> = self.on_demand.keys().filter(is_waiting).copied().collect();
        for node in waiting {
            if self.dialling.len() >= self.config.dialing.max {
                return;
            }
            self.dial(cx, node);
        }
    }

    /// A link came about. Of more than can be kept for business one is not any longer.
    pub(super) fn limit_kept_links(&mut self, newest: &NodeId) {
        if !self.on_demand.contains_key(newest) {
            return;
        }
        let kept: Vec<(Time, NodeId)> = self
            .on_demand
            .iter()
            .filter(|(node, _)| self.has_link(node))
            .map(|(node, until)| (*until, *node))
            .collect();
        let oldest = kept.iter().filter(|(_, node)| node != newest).min();
        if let Some((_, node)) = oldest.filter(|_| kept.len() > MAX_KEPT_LINKS) {
            self.on_demand.remove(node);
            self.unsettled_topology = true;
        }
    }

    pub(super) fn expire_on_demand(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.on_demand.retain(|_, until| *until > now);
        if let Some(next) = self.on_demand.values().min() {
            self.timers.set(Reason::OnDemand, *next);
        }
        self.refresh_topology(cx);
        self.prune(cx);
    }
}
