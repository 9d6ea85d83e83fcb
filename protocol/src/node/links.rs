//! Links: who can be talked to, the seeds of a node that knows nobody, and being admitted.

use std::time::Duration;

use crate::membership;
use crate::model::{Lane, NodeId, Time};

use super::contract::{Action, DialFailure, DialTarget};
use super::message::Message;
use super::{Level, Node};

/// The first wait before a seed is dialled again, and the longest.
const SEED_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long the answer to a request for admission may take before another member is asked.
const JOIN_RETRY: Duration = Duration::from_secs(2);

/// An address whose node is not known.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    /// When it is dialled (again), if there is need of it.
    pub at: Option<Time>,
    tries: u32,
    /// What the last dial said.
    pub failed: Option<String>,
}

impl Seed {
    pub fn new(now: Time) -> Self {
        Seed { at: Some(now), tries: 0, failed: None }
    }
}

impl Node {
    pub(super) fn on_link_up(&mut self, now: Time, peer: NodeId) {
        self.rest_seeds(now);
        // What the peer tells comes before the news that it is up.
        if self.membership.state(&peer) == membership::State::Down {
            self.pace.reached(now);
            self.hear_out_returned(now);
        }
        self.with_membership(now, |membership, now, out| membership.handle_link_up(now, peer, out));
        self.send_letters(now, peer);
        let mut out = crate::model::Out::new();
        let facts = self.repair.handle_link_up(now, peer, &mut out);
        self.post(now, out, Message::Repair);
        facts.into_iter().for_each(|fact| self.on_repair(now, fact));
        if !self.admitted() {
            self.ask_to_join(now, peer);
        }
        self.due.duplicates = true;
        self.views += 1;
    }

    pub(super) fn on_link_down(&mut self, now: Time, peer: NodeId) {
        self.repair.handle_link_down(now, &peer);
        self.with_membership(now, |membership, now, out| membership.handle_link_down(now, peer, out));
        self.due.ready = true;
        self.views += 1;
    }

    pub(super) fn on_dial_failed(&mut self, now: Time, target: DialTarget, how: DialFailure) {
        match target {
            DialTarget::Node(node) => {
                self.drop_letters(&node);
                let failure = match how {
                    DialFailure::Refused => membership::DialFailure::Refused,
                    DialFailure::TimedOut | DialFailure::Stranger(_) => membership::DialFailure::TimedOut,
                };
                self.with_membership(now, |membership, now, out| {
                    membership.handle_dial_failed(now, node, failure, out)
                });
            }
            DialTarget::Address(address) => self.on_seed_failed(now, address, &how),
        }
    }

    fn on_seed_failed(&mut self, now: Time, address: String, how: &DialFailure) {
        let why = match how {
            DialFailure::Refused => "nothing listens there".to_owned(),
            DialFailure::TimedOut => "no answer".to_owned(),
            DialFailure::Stranger(why) => why.clone(),
        };
        let Some(seed) = self.seeds.get_mut(&address) else { return };
        let wait = SEED_RETRY.0.saturating_mul(1 << seed.tries.min(10)).min(SEED_RETRY.1);
        seed.tries = seed.tries.saturating_add(1);
        seed.at = Some(now + wait);
        if seed.failed.as_ref() != Some(&why) {
            seed.failed = Some(why.clone());
            let message = format!("the seed {address} could not be reached: {why}; it is tried again");
            self.tell(now, Level::Warning, "seed-unreachable", None, None, message);
        }
        self.views += 1;
    }

    pub(super) fn on_sighted(&mut self, now: Time, node: NodeId, addresses: Vec<String>) {
        self.with_membership(now, |membership, now, out| membership.handle_sighted(now, node, addresses, out));
    }

    /// Seeds matter while this node is not admitted or has no link, and while members are missing: those may have moved, and the
    /// seeds may know them under a new address. A newcomer that is not ready may know of nobody but other newcomers.
    fn needs_seeds(&self) -> bool {
        !self.admitted() || self.is_newcomer || !self.membership.is_whole() || self.membership.links().next().is_none()
    }

    pub(super) fn retry_seeds(&mut self, now: Time) {
        if !self.needs_seeds() {
            return;
        }
        let due = self.seeds.iter().filter(|(_, seed)| seed.at.is_some_and(|at| at <= now));
        for address in due.map(|(address, _)| address.clone()).collect::<Vec<_>>() {
            let mut linked = self.membership.links();
            let is_linked = linked.any(|peer| self.membership.addresses(&peer).contains(&address));
            drop(linked);
            if let Some(seed) = self.seeds.get_mut(&address) {
                // The next try, should nobody tell how this one ends.
                seed.at = Some(now + SEED_RETRY.1);
            }
            if !is_linked {
                let target = DialTarget::Address(address.clone());
                self.outbox.push(Action::Dial { target, addresses: vec![address] });
            }
        }
    }

    pub(super) fn next_seed(&self) -> Option<Time> {
        if !self.needs_seeds() {
            return None;
        }
        self.seeds.values().filter_map(|seed| seed.at).min()
    }

    fn ask_to_join(&mut self, now: Time, peer: NodeId) {
        let Some(record) = self.membership.record(&self.me) else { return };
        let message = Message::Join { record: record.wire() };
        self.outbox.push(Action::Send { to: peer, lane: Lane::Urgent, message });
        self.join_at = Some(now + JOIN_RETRY);
    }

    pub(super) fn retry_join(&mut self, now: Time) {
        if self.join_at.is_none_or(|at| at > now) {
            return;
        }
        self.join_at = None;
        if !self.admitted() {
            let links: Vec<NodeId> = self.membership.links().collect();
            if let Some(index) = super::planning::pick(&mut self.rng, links.len()) {
                self.ask_to_join(now, links[index]);
            }
        }
    }

    /// With a link there is less need of seeds; when it is lost, members are dialled first. Whoever is not admitted, or a
    /// newcomer, may be linked to nobody but others that are the same.
    fn rest_seeds(&mut self, now: Time) {
        let pause = if self.admitted() && !self.is_newcomer { SEED_RETRY.1 } else { JOIN_RETRY };
        for seed in self.seeds.values_mut() {
            *seed = Seed { at: Some(now + pause), tries: 0, failed: None };
        }
    }
}
