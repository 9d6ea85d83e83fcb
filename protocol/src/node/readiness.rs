//! When this node knows enough to plan, and to report its replicas healthy. The room `readiness`
//! decides it; here it gets what membership and repair know.

use std::time::Duration;

use crate::model::{NodeId, Time};
use crate::readiness::{Ended, GRACE, Readiness, Surroundings};

use super::{Level, Node};

impl Node {
    /// Puts this node on the ring once it knows what the members that it can reach know.
    pub(super) fn advance_readiness(&mut self, now: Time) {
        if self.readiness.is_ready() || !self.admitted() {
            return;
        }
        let peers = self.surroundings();
        if !self.readiness.advance(now, &peers) {
            return;
        }
        self.rescue_throttle.reached(now);
        self.due.duplicates = true;
        self.publish_profile(now);
        let message = match peers.in_step {
            0 => "nobody else can be reached; this node acts on what it knows".to_owned(),
            in_step => format!("in step with {in_step} of {} linked nodes", peers.reachable),
        };
        self.emit_event(now, Level::Info, "ready", None, Some(self.me), message);
        self.due.ring.insert(self.me);
        self.due.holding = true;
        self.mark_all_dirty();
    }

    fn surroundings(&self) -> Surroundings {
        let linked: Vec<NodeId> =
            self.membership.links().filter(|peer| self.is_member(peer)).collect();
        let is_ready =
            |peer: &NodeId| self.membership.record(peer).is_some_and(|record| record.ready);
        // A member that boots at the same time knows no more than this node.
        let ready: Vec<NodeId> = linked.iter().copied().filter(is_ready).collect();
        let has_ready_witness = ready.iter().any(|peer| self.repair.in_step(peer));
        let is_linked = !linked.is_empty();
        let reachable = if ready.is_empty() { linked } else { ready };
        Surroundings {
            reachable: reachable.len(),
            in_step: reachable.iter().filter(|peer| self.repair.in_step(peer)).count(),
            has_ready_witness,
            others_up: self.membership.up_count().saturating_sub(1),
            is_settled: self.membership.settled(),
            // A joining node that knows only itself has not heard yet of the member that admitted
            // it.
            is_alone: !is_linked && (self.config.founder || !self.is_only_member()),
        }
    }

    /// Starts the wait for other members, which ends after [`GRACE`]. A founder that is the only
    /// member waits for none.
    pub(super) fn wait_for_others(&mut self, now: Time, is_newcomer: bool) {
        if !self.readiness.is_ready() && !self.readiness.is_leaving() {
            let has_none = self.config.founder && self.is_only_member();
            let until = (!has_none && self.admitted()).then(|| now + GRACE);
            self.readiness = Readiness::waiting(is_newcomer, until);
        }
        self.due.ready = true;
    }

    /// Ends the waits that are over.
    pub(super) fn end_grace(&mut self, now: Time) {
        match self.readiness.handle_timeout(now) {
            Some(Ended::Wait) => self.due.ready = true,
            Some(Ended::Grace) => self.due.duplicates = true,
            None => {}
        }
        self.due.duplicates |= self.rescue_throttle.end_healing(now);
    }

    /// Whether this node knows what every member that it can hear knows, or has waited long enough.
    pub(super) fn has_compared(&self) -> bool {
        self.readiness.has_compared(|| self.is_in_step())
    }

    /// Whether this node is in step with every member that it can hear. Two witnesses are enough to
    /// own workloads, but not for a health report: a third member, which both had lost as well, may
    /// have taken the replica over.
    pub(super) fn is_in_step(&self) -> bool {
        let in_step = |peer: &NodeId| self.membership.has_link(peer) && self.repair.in_step(peer);
        let full_mesh = self.config.membership.links.full_mesh;
        let heard: Vec<NodeId> = if self.desired.members().len() <= full_mesh {
            self.membership.up().filter(|peer| *peer != self.me).collect()
        } else {
            self.membership.links().filter(|peer| self.is_member(peer)).collect()
        };
        !heard.is_empty() && heard.iter().all(in_step)
    }

    /// A lost peer returned: others may follow.
    pub(super) fn on_peer_returned(&mut self, now: Time) {
        self.readiness.peer_returned(self.rescue_throttle.heals_until(now));
    }

    /// This process was stalled for `lag`. If that was long enough for others to declare it down,
    /// replicas that it has not reported healthy count as after a restart.
    pub(super) fn on_lag(&mut self, now: Time, lag: Duration) {
        self.membership.handle_lag(now, lag);
        if lag < self.config.membership.suspicion.silent_after {
            return;
        }
        self.holding.stalled();
        if self.is_only_member() {
            return;
        }
        self.readiness.stalled(now, lag);
        let mut out = crate::model::Out::new();
        self.repair.on_stall(now, &mut out);
        self.post(now, out, super::Message::Repair);
    }

    /// This node was just admitted: it compares with all linked peers, because the one that
    /// admitted it knows other members.
    pub(super) fn compare_with_all(&mut self, now: Time) {
        self.wait_for_others(now, !self.config.founder);
        let mut out = crate::model::Out::new();
        self.repair.compare_anew(now, &mut out);
        self.post(now, out, super::Message::Repair);
    }

    pub(super) fn is_only_member(&self) -> bool {
        self.desired.members().len() == 1
    }
}
