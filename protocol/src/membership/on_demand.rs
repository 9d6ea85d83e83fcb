//! Links on demand: above a full mesh a node sends messages to members to which it has no standing
//! link.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message, Reason};

/// How long a link is kept after its last use. An auction has some three rounds, and the next one
/// often asks the same nodes.
const KEEP_FOR: Duration = Duration::from_secs(30);
/// Links kept so at a time; when one more comes up, the one used longest ago is not kept any
/// longer. Beside the standing links they leave room within `config.links.max` for links that other
/// nodes make on demand.
pub(super) const MAX_KEPT_LINKS: usize = 16;
/// Links on demand that are still being made: more than an auction asks for at once. Messages may
/// wait for as many nodes.
pub const MAX_PENDING_LINKS: usize = 64;

impl Membership {
    /// Makes a link to a member that is up and has none: it is dialled as soon as possible, and the
    /// link is kept for a while. False if that is not possible: the member is not up, or too many
    /// links are being made already.
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
        // No crossing delay: the other end has no reason to dial.
        self.wanted.insert(node);
        self.dial(&mut cx, node);
        (true, self.finish(cx))
    }

    /// The link was used: if it is kept on demand, it is kept for longer.
    pub fn note_link_used(&mut self, now: Time, node: &NodeId) {
        if let Some(until) = self.on_demand.get_mut(node) {
            *until = now + KEEP_FOR;
        }
    }

    /// Dials the members that wait for a free dial, after one has ended.
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

    /// A link came up: if more than [`MAX_KEPT_LINKS`] are kept on demand, the one used longest ago
    /// is not kept any longer.
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
