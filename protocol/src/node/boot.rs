//! From a saved state to a running node. A fresh node starts from an empty `Saved`: boot and
//! recovery are one path.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::artifacts::Artifacts;
use crate::auction::Auction;
use crate::claims::Claims;
use crate::desired::{Applied, Barred, Desired};
use crate::holding::Holding;
use crate::membership::Membership;
use crate::model::{Change, Facts, Key, NodeId, Time, WallClock, fill_order};
use crate::plan::RescueThrottle;
use crate::readiness::Readiness;
use crate::rulings::Rulings;
use crate::sync::{Repair, Tree};
use crate::trust;

use super::asking::Questions;
use super::budgets::Budgets;
use super::contract::Saved;
use super::doors::Doors;
use super::old_versions::OldVersions;
use super::outbox::Outbox;
use super::ownership::Ownership;
use super::pending_sends::PendingSends;
use super::persisting::Cache;
use super::planning::Planning;
use super::reach::Reach;
use super::reconcile::Due;
use super::relay::Relay;
use super::saving::Saving;
use super::scaling::Scaling;
use super::slot_gossip::SlotGossip;
use super::{Config, Device, Identity, Level, Node, Shown};

impl Node {
    /// A node that runs from `now` on. `seed` is the source of all its randomness: the same seed
    /// and inputs give the same effects.
    pub fn new(
        config: Config,
        identity: Identity,
        saved: Saved,
        facts: Facts,
        wall: WallClock,
        seed: [u8; 32],
        now: Time,
    ) -> Node {
        let mut node = Node::blank(config, identity, saved.incarnation, facts, wall, seed, now);
        node.recover(now, saved);
        node
    }

    /// A node without any state.
    pub(super) fn blank(
        config: Config,
        identity: Identity,
        incarnation: u64,
        facts: Facts,
        wall: WallClock,
        seed: [u8; 32],
        now: Time,
    ) -> Node {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut draw = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let (me, cluster) = (NodeId(identity.keys.public().0), identity.genesis.cluster());
        let keys = || identity.keys.clone();
        let membership = Membership::new(
            now,
            config.membership.clone(),
            me,
            keys(),
            cluster,
            incarnation,
            draw(),
        );
        let auction =
            Auction::new(config.auction.clone(), me, keys(), cluster, incarnation, draw());
        Node {
            membership,
            desired: Desired::new(config.desired.clone()),
            rulings: Rulings::new(config.rulings.clone()),
            repair: Repair::new(config.repair.clone(), me, draw()),
            claims: Claims::new(config.claims.clone(), me, keys(), cluster, incarnation),
            auction,
            holding: Holding::new(config.holding.clone()),
            artifacts: Artifacts::default(),
            old_versions: OldVersions::default(),
            readiness: Readiness::waiting(false, None),
            rescue_throttle: RescueThrottle::new(config.rescue_throttle.clone()),
            ownership: Ownership::default(),
            planning: Planning::default(),
            scaling: Scaling::default(),
            slot_gossip: SlotGossip::default(),
            saving: Saving::default(),
            questions: Questions::default(),
            reach: Reach::new(now, &config.seeds),
            relay: Relay::new(incarnation),
            pending_sends: PendingSends::default(),
            budgets: Budgets::default(),
            doors: Doors::default(),
            returned: VecDeque::new(),
            due: Due::default(),
            outbox: Outbox::default(),
            shown: Shown::default(),
            device: Device {
                own_labels: facts.labels.clone(),
                facts,
                clock: (wall, now),
                started: now,
                rng,
            },
            me,
            cluster,
            identity,
            config,
        }
    }

    fn recover(&mut self, now: Time, saved: Saved) {
        self.auction.set_capacity(self.device.facts.offer());
        let mut unreadable = 0;
        // They come in the order of their keys, in which the maps would take twice the memory.
        let mut changes: Vec<Change> = Vec::new();
        for raw in fill_order(saved.changes) {
            match trust::accept(&self.identity.genesis, raw) {
                Ok(change) => changes.push(change),
                Err(_) => unreadable += 1,
            }
        }
        // Those that a member made wait for its own admission.
        while !changes.is_empty() {
            let before = changes.len();
            changes.retain(|change| match self.desired.apply(change.clone()) {
                Ok(applied) => applied == Applied::Barred(Barred::Unrooted),
                Err(_) => {
                    unreadable += 1;
                    false
                }
            });
            if changes.len() == before {
                break;
            }
        }
        self.repair.restore_all(Tree::Desired, self.desired.digests());
        self.apply_policy();
        for ruling in saved.rulings {
            match ruling.verify(&self.cluster) {
                Ok(ruling)
                    if self.desired.is_living(&ruling.uid) && self.may_rule(&ruling.by()) =>
                {
                    _ = self.rulings.apply(ruling);
                }
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        }
        self.repair.restore_all(Tree::Rulings, self.rulings.digests());
        let all: Vec<_> = self.desired.workloads().map(|workload| workload.uid).collect();
        all.iter().for_each(|uid| _ = self.heed_verdict(uid));
        let living = self
            .desired
            .workloads()
            .map(|workload| (workload.uid, workload.name.clone()))
            .collect::<Vec<_>>();
        for (uid, name) in living {
            self.index_workload(uid);
            self.due.routes.insert(name);
        }
        self.publish_roster(now);
        for record in saved.nodes {
            match record.verify(&self.cluster) {
                Ok(record) => {
                    self.with_membership(now, |room, now, out| room.handle_record(now, record, out))
                }
                Err(_) => unreadable += 1,
            }
        }
        self.drain(now);
        self.records_are_on_disk();
        let slots = saved
            .slots
            .into_iter()
            // The disk keeps those of nodes that have left.
            .filter(|(node, _)| *node == self.me || self.is_member(node))
            .filter_map(|(_, slot)| slot.verify(&self.cluster).ok())
            .collect();
        unreadable += self.claims.restore(slots).len();
        self.repair.restore_all(Tree::Sheets, self.claims.hashes());
        let wall = self.wall(now);
        for slot in self.claims.restarting(wall) {
            self.issue_cached(now, slot);
        }
        self.publish_profile(now);
        unreadable += self.restore_versions(saved.old_versions);
        self.adopt_own_claims(now);
        if unreadable > 0 {
            let message = format!(
                "{unreadable} saved records were left out, they cannot be read; the others will \
                    send them again"
            );
            self.emit_event(now, Level::Warning, "saved-unreadable", None, Some(self.me), message);
        }
        self.wait_for_others(now, false);
        self.due.all();
        self.mark_all_dirty();
        self.reconcile(now);
    }

    /// The records that were just handled came from disk: they are old, and need not be written
    /// again.
    fn records_are_on_disk(&mut self) {
        let hashes = self
            .membership
            .records()
            .map(|(node, record)| (Membership::item_key(&node), record.hash()));
        self.repair.restore_all(Tree::Records, hashes);
        self.saving.cache = Cache::default();
    }

    /// Passes the roster to membership.
    pub(super) fn publish_roster(&mut self, now: Time) {
        let roster = self.desired.members().clone();
        self.with_membership(now, |membership, now, out| membership.set_roster(now, &roster, out));
        self.due.ring.extend(roster.keys().copied());
        self.due.holding = true;
        self.shown.version += 1;
    }

    /// The key of a node's admission in desired state.
    pub(super) fn member_key(node: NodeId) -> Key {
        Key::Member(node)
    }
}
