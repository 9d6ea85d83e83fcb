//! Links and dials.

use crate::membership;
use crate::model::{NodeId, Time};

use super::Node;
use super::contract::{Answerer, DialFailure, DialTarget};

impl Node {
    pub(super) fn on_link_down(&mut self, now: Time, peer: NodeId) {
        self.shown.version += 1;
        if self.forget_door(now, peer) {
            return;
        }
        self.repair.handle_link_down(now, &peer);
        self.with_membership(now, |membership, now, out| {
            membership.handle_link_down(now, peer, out)
        });
        self.on_answerer_lost(now, &peer);
        self.due.ready = true;
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
        if !self.admitted() && self.doors.peers().next().is_none() {
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
}
