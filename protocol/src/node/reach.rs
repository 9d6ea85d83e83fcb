//! The addresses of this node, and the seeds that it dials while it knows no members or misses
//! some.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::record::MAX_ADDRESSES;
use crate::model::{NodeId, Time};

use super::contract::{Action, DialFailure, DialTarget, OwnAddresses};
use super::joining::JOIN_RETRY;
use super::{Level, Node};

/// The first pause before a seed is dialled again, and the longest.
const SEED_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Seeds in all: those of the invite, and announced addresses of members.
const MAX_SEEDS: usize = 48;
/// Bytes of an announced address.
const MAX_SEED: usize = 300;

/// How this node reaches nodes whose records it does not know, and how they reach this one.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// By address: all that the configuration names, and announced ones up to [`MAX_SEEDS`] in all.
    seeds: BTreeMap<String, Seed>,
    /// The reason why no node can connect to this one, and the remedy.
    pub trouble: Option<String>,
    /// The time to ask a member (again) for admission.
    pub join_at: Option<Time>,
    /// Why a member did not let this node in.
    pub refused: Option<String>,
}

/// An address to dial whose node is not known.
#[derive(Clone, Debug)]
struct Seed {
    /// The time of the next dial, if seeds are needed then.
    at: Option<Time>,
    tries: u32,
    /// The error of the last dial.
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
        Reach { seeds, trouble: None, join_at: None, refused: None }
    }

    /// Adds announced addresses of a member, as far as there is room.
    pub(super) fn add_seeds(&mut self, now: Time, addresses: &[String]) {
        let decent =
            addresses.iter().filter(|address| !is_name(address) && address.len() <= MAX_SEED);
        for address in decent {
            if self.seeds.len() < MAX_SEEDS {
                self.seeds.entry(address.clone()).or_insert_with(|| Seed::new(now));
            }
        }
    }

    /// The number of seeds.
    #[cfg(test)]
    pub(super) fn seeds(&self) -> usize {
        self.seeds.len()
    }

    /// Seeds whose last dial failed, each with the error.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&String, &String)> {
        self.seeds.iter().filter_map(|(address, seed)| Some((address, seed.failed.as_ref()?)))
    }
}

/// Whether a seed is `HOST:PORT`, whose name has to be looked up, and not a multiaddr.
fn is_name(seed: &str) -> bool {
    !seed.starts_with('/')
}

impl Node {
    /// The device's addresses changed, or the reason why other nodes cannot connect.
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
        // A seed may have failed because there was no network. After a move all are tried: a name
        // may lead to a seed's new address.
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
        // A name may stand for several devices: each try starts with another address.
        let turn = tries % addresses.len();
        addresses.rotate_left(turn);
        self.outbox.push(Action::Dial { target: DialTarget::Address(seed), addresses });
    }

    /// Whether to dial seeds: while this node is not admitted or has no link; while members are
    /// missing, which may have moved, so that a seed may know their new addresses; and while this
    /// node is a newcomer, which may know only other newcomers.
    fn needs_seeds(&self) -> bool {
        if self.is_expelled() {
            return false;
        }
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
                // The next try, if no outcome of this one is reported.
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

    /// There is a link: seeds are dialled less often. If it is lost, members are dialled first. The
    /// pause is short while this node is not admitted or a newcomer, because all its links may lead
    /// to other newcomers.
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

fn moved_message(subject: &str, now: &[String], before: &[String]) -> String {
    match (now, before) {
        ([], before) => format!(
            "{subject} has no address now that others could dial; before: {}",
            before.join(", ")
        ),
        (now, []) => format!("{subject} can be dialled at {} now", now.join(", ")),
        (now, before) => format!(
            "{subject} can be dialled at {} now; before: {}",
            now.join(", "),
            before.join(", ")
        ),
    }
}
