//! Where this node can be dialled, and the seeds it dials while it knows nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::record::MAX_ADDRESSES;
use crate::model::{NodeId, Time};

use super::contract::{Action, DialFailure, DialTarget, OwnAddresses};
use super::links::JOIN_RETRY;
use super::{Level, Node};

/// The first wait before a seed is dialled again, and the longest.
const SEED_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Seeds in all: those of a join line, and some that were seen on the network before this node was
/// admitted.
const MAX_SEEDS: usize = 48;
/// Bytes of a seed that was seen.
const MAX_SEED: usize = 300;

/// How this node reaches others that it knows no record of, and how they reach it.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// By address. As many as the configuration names, and of those that were seen as many as
    /// `MAX_SEEDS` leaves room for.
    seeds: BTreeMap<String, Seed>,
    /// Why nobody can connect to this node, and what to do.
    pub trouble: Option<String>,
    /// The time when a member is asked (again) for admission.
    pub join_at: Option<Time>,
}

/// An address whose node is not known.
#[derive(Clone, Debug)]
struct Seed {
    /// When it is dialled (again), if there is need of it.
    at: Option<Time>,
    tries: u32,
    /// What the last dial said.
    failed: Option<String>,
}

impl Seed {
    fn new(at: Time) -> Self {
        Seed { at: Some(at), tries: 0, failed: None }
    }
}

impl Reach {
    pub(super) fn new(now: Time, seeds: &[String]) -> Self {
        let seeds = seeds.iter().map(|address| (address.clone(), Seed::new(now))).collect();
        Reach { seeds, trouble: None, join_at: None }
    }

    /// Takes addresses where a member was seen for seeds.
    pub(super) fn add_seeds(&mut self, now: Time, addresses: &[String]) {
        let decent =
            addresses.iter().filter(|address| !is_name(address) && address.len() <= MAX_SEED);
        for address in decent {
            if self.seeds.len() < MAX_SEEDS {
                self.seeds.entry(address.clone()).or_insert_with(|| Seed::new(now));
            }
        }
    }

    /// How many seeds there are.
    #[cfg(test)]
    pub(super) fn seeds(&self) -> usize {
        self.seeds.len()
    }

    /// Seeds whose last dial failed, and why.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&String, &String)> {
        self.seeds.iter().filter_map(|(address, seed)| Some((address, seed.failed.as_ref()?)))
    }
}

/// A seed given by name has to be looked up; the others are multiaddrs.
fn is_name(seed: &str) -> bool {
    !seed.starts_with('/')
}

impl Node {
    /// The device's addresses are others, or this node can no longer, or again, be connected to.
    pub(super) fn on_addresses(&mut self, now: Time, own: OwnAddresses) {
        let OwnAddresses { mut addresses, trouble, moved } = own;
        addresses.truncate(MAX_ADDRESSES);
        self.shown.version += 1;
        if addresses != self.config.addresses {
            let before = std::mem::replace(&mut self.config.addresses, addresses);
            let message = moved_message("this node", &self.config.addresses, &before);
            self.emit_event(now, Level::Info, "addresses-changed", None, Some(self.me), message);
            self.publish_profile(now);
        }
        if trouble != self.reach.trouble {
            match &trouble {
                Some(why) => self.emit_event(
                    now,
                    Level::Warning,
                    "not-reachable",
                    None,
                    Some(self.me),
                    why.clone(),
                ),
                None => {
                    let message = "others can connect to this node again".into();
                    self.emit_event(now, Level::Info, "reachable", None, Some(self.me), message);
                }
            }
            self.reach.trouble = trouble;
        }
        self.with_membership(now, |room, now, out| room.handle_network_changed(now, moved, out));
        // A seed that failed may have failed for want of a network, and where all have moved a
        // seed's name may lead to them.
        for seed in self.reach.seeds.values_mut().filter(|seed| moved || seed.failed.is_some()) {
            seed.at = Some(now);
            seed.tries = 0;
        }
        self.retry_seeds(now);
    }

    pub(super) fn on_moved(&mut self, now: Time, node: NodeId, before: &[String]) {
        let addresses = self
            .membership
            .record(&node)
            .map(|record| record.addresses.clone())
            .unwrap_or_default();
        let message = moved_message("the node", &addresses, before);
        self.emit_event(now, Level::Info, "node-moved", None, Some(node), message);
    }

    pub(super) fn on_seed_failed(&mut self, now: Time, address: String, how: &DialFailure) {
        let why = match how {
            DialFailure::Refused => "nothing listens there".to_owned(),
            DialFailure::TimedOut => "no answer".to_owned(),
            DialFailure::Stranger(why) => why.clone(),
        };
        let Some(seed) = self.reach.seeds.get_mut(&address) else { return };
        let wait = SEED_RETRY.0.saturating_mul(1 << seed.tries.min(10)).min(SEED_RETRY.1);
        seed.tries = seed.tries.saturating_add(1);
        seed.at = Some(now + wait);
        if seed.failed.as_ref() != Some(&why) {
            seed.failed = Some(why.clone());
            let message =
                format!("the seed {address} could not be reached: {why}; it is tried again");
            self.emit_event(now, Level::Warning, "seed-unreachable", None, None, message);
        }
        self.shown.version += 1;
    }

    /// A seed's name was looked up.
    pub(super) fn on_resolved(
        &mut self,
        now: Time,
        seed: String,
        found: Result<Vec<String>, String>,
    ) {
        let mut addresses = match found {
            Ok(addresses) if addresses.is_empty() => {
                return self.on_seed_failed(
                    now,
                    seed,
                    &DialFailure::Stranger("its name has no address".into()),
                );
            }
            Ok(addresses) => addresses,
            Err(why) => return self.on_seed_failed(now, seed, &DialFailure::Stranger(why)),
        };
        addresses.truncate(MAX_ADDRESSES);
        addresses.retain(|address| !self.is_linked_at(address));
        let Some(tries) = self.reach.seeds.get(&seed).map(|seed| seed.tries as usize) else {
            return;
        };
        if addresses.is_empty() || !self.needs_seeds() {
            return;
        }
        // One name may stand for several devices: each try begins with another of them.
        let turn = tries % addresses.len();
        addresses.rotate_left(turn);
        self.outbox.push(Action::Dial { target: DialTarget::Address(seed), addresses });
    }

    /// Seeds matter while this node is not admitted or has no link, and while members are missing:
    /// those may have moved, and the seeds may know them under a new address. A newcomer that is
    /// not ready may know of nobody but other newcomers.
    fn needs_seeds(&self) -> bool {
        !self.admitted()
            || self.readiness.is_newcomer()
            || !self.membership.is_whole()
            || self.membership.links().next().is_none()
    }

    fn is_linked_at(&self, address: &String) -> bool {
        self.membership.links().any(|peer| self.membership.addresses(&peer).contains(address))
    }

    pub(super) fn retry_seeds(&mut self, now: Time) {
        if !self.needs_seeds() {
            return;
        }
        let due = self.reach.seeds.iter().filter(|(_, seed)| seed.at.is_some_and(|at| at <= now));
        for address in due.map(|(address, _)| address.clone()).collect::<Vec<_>>() {
            let is_linked = self.is_linked_at(&address);
            if let Some(seed) = self.reach.seeds.get_mut(&address) {
                // The next try, should nobody tell how this one ends.
                seed.at = Some(now + SEED_RETRY.1);
            }
            if is_name(&address) {
                self.outbox.push(Action::Resolve { seed: address });
            } else if !is_linked {
                let target = DialTarget::Address(address.clone());
                self.outbox.push(Action::Dial { target, addresses: vec![address] });
            }
        }
    }

    pub(super) fn seed_due(&self) -> Option<Time> {
        if !self.needs_seeds() {
            return None;
        }
        self.reach.seeds.values().filter_map(|seed| seed.at).min()
    }

    /// With a link there is less need of seeds; when it is lost, members are dialled first. Whoever
    /// is not admitted, or a newcomer, may be linked to nobody but others that are the same.
    pub(super) fn back_off_seeds(&mut self, now: Time) {
        let pause = if self.admitted() && !self.readiness.is_newcomer() {
            SEED_RETRY.1
        } else {
            JOIN_RETRY
        };
        for seed in self.reach.seeds.values_mut() {
            *seed = Seed::new(now + pause);
        }
    }
}

fn moved_message(whom: &str, now: &[String], before: &[String]) -> String {
    match (now, before) {
        ([], before) => format!(
            "{whom} has no address now that others could dial; before: {}",
            before.join(", ")
        ),
        (now, []) => format!("{whom} can be dialled at {} now", now.join(", ")),
        (now, before) => format!(
            "{whom} can be dialled at {} now; before: {}",
            now.join(", "),
            before.join(", ")
        ),
    }
}
