//! Links and dials, and this node's request to be admitted.

use std::time::Duration;

use crate::membership;
use crate::model::{Lane, NodeId, Time};

use super::Node;
use super::contract::{Action, Answerer, DialFailure, DialTarget};
use super::message::Message;

/// The time that a member has to admit this node before another one is asked.
pub(super) const JOIN_RETRY: Duration = Duration::from_secs(2);

impl Node {
    pub(super) fn on_link_up(&mut self, now: Time, peer: NodeId) {
        self.back_off_seeds(now);
        // A comparison may bring the peer's state before membership reports it up.
        if self.membership.state(&peer) == membership::State::Down {
            self.rescue_throttle.reached(now);
            self.on_peer_returned(now);
        }
        self.with_membership(now, |membership, now, out| membership.handle_link_up(now, peer, out));
        self.send_pending(now, peer);
        let mut out = crate::model::Out::new();
        let facts = self.repair.handle_link_up(now, peer, &mut out);
        self.post(now, out, Message::Repair);
        facts.into_iter().for_each(|fact| self.on_repair(now, fact));
        if !self.admitted() {
            self.ask_to_join(now, peer);
        }
        self.due.duplicates = true;
        self.shown.version += 1;
    }

    pub(super) fn on_link_down(&mut self, now: Time, peer: NodeId) {
        self.repair.handle_link_down(now, &peer);
        self.with_membership(now, |membership, now, out| {
            membership.handle_link_down(now, peer, out)
        });
        self.on_answerer_lost(now, &peer);
        self.due.ready = true;
        self.shown.version += 1;
    }

    pub(super) fn on_dial_failed(&mut self, now: Time, target: DialTarget, how: DialFailure) {
        match target {
            DialTarget::Node(node) => {
                let failure = match how {
                    DialFailure::Refused => membership::DialFailure::Refused,
                    DialFailure::TimedOut | DialFailure::Stranger(_) => {
                        membership::DialFailure::TimedOut
                    }
                };
                self.with_membership(now, |membership, now, out| {
                    membership.handle_dial_failed(now, node, failure, out)
                });
                self.redirect_pending(now, node);
            }
            DialTarget::Address(address) => self.on_seed_failed(now, address, &how),
        }
    }

    pub(super) fn on_sighted(&mut self, now: Time, node: NodeId, addresses: Vec<String>) {
        // A newcomer knows no members: the announced addresses are as good as those of the join
        // line, or better.
        if !self.admitted() && self.membership.links().next().is_none() {
            self.reach.add_seeds(now, &addresses);
        }
        self.with_membership(now, |membership, now, out| {
            membership.handle_sighted(now, node, addresses, out)
        });
    }

    pub(super) fn on_answered(&mut self, now: Time, node: NodeId, address: String, by: Answerer) {
        self.with_membership(now, |membership, now, out| {
            membership.handle_answered(now, node, address, by, out)
        });
        self.shown.version += 1;
    }

    fn ask_to_join(&mut self, now: Time, peer: NodeId) {
        let Some(record) = self.membership.record(&self.me) else { return };
        let message = Message::Join { record: record.wire() };
        self.outbox.push(Action::Send { to: peer, lane: Lane::Urgent, message });
        self.reach.join_at = Some(now + JOIN_RETRY);
    }

    pub(super) fn retry_join(&mut self, now: Time) {
        if self.reach.join_at.is_none_or(|at| at > now) {
            return;
        }
        self.reach.join_at = None;
        if !self.admitted() {
            let links: Vec<NodeId> = self.membership.links().collect();
            if let Some(index) = super::planning::random_index(&mut self.device.rng, links.len()) {
                self.ask_to_join(now, links[index]);
            }
        }
    }
}
