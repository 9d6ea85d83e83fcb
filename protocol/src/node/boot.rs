//! From what was saved to a running node. A fresh node is an empty `Saved`; boot and recovery are
//! one path.

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::auction::Auction;
use crate::claims::Claims;
use crate::desired::Desired;
use crate::holding::Holding;
use crate::membership::Membership;
use crate::model::{Bucket, Facts, Key, NodeId, Time, WallClock, fill_order};
use crate::plan::RescueThrottle;
use crate::ring::Ring;
use crate::rulings::Rulings;
use crate::sync::{Repair, Tree};
use crate::trust;

use super::artifacts::Artifacts;
use super::asking::Questions;
use super::carrying::Carrying;
use super::contract::Saved;
use super::outbox::Outbox;
use super::pending_sends::PendingSends;
use super::persisting::Cache;
use super::reach::Reach;
use super::saving::Saving;
use super::settling::Due;
use super::spreading::Spreading;
use super::{Config, Identity, Level, Node, REBUTTALS};

impl Node {
    /// A node that runs from `now` on. `seed` makes its randomness; the same seed and inputs give
    /// the same effects.
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

    /// One that knows nothing.
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
            ring: Ring::default(),
            wards: super::wards::Wards::default(),
            desired: Desired::new(config.desired.clone()),
            rulings: Rulings::new(config.rulings.clone()),
            repair: Repair::new(config.repair.clone(), me, draw()),
            claims: Claims::new(config.claims.clone(), me, keys(), cluster, incarnation),
            auction,
            holding: Holding::new(config.holding.clone()),
            artifacts: Artifacts::default(),
            rescue_throttle: RescueThrottle::new(config.rescue_throttle.clone()),
            outbox: Outbox::default(),
            returned: VecDeque::new(),
            pending_sends: PendingSends::default(),
            carrying: Carrying::new(incarnation),
            saving: Saving::default(),
            questions: Questions::default(),
            telling: Default::default(),
            rebuttals: Bucket::new(REBUTTALS.0, REBUTTALS.1),
            is_contested: false,
            read_only: None,
            started: now,
            ready: false,
            is_newcomer: false,
            waits_until: None,
            hears_out_until: None,
            stood_still: false,
            leaving: false,
            reach: Reach::new(now, &config.seeds),
            join_at: None,
            uploads: BTreeMap::new(),
            spreading: Spreading::default(),
            replan: BTreeMap::new(),
            pacing: Default::default(),
            hearsay: BTreeMap::new(),
            due: Due::default(),
            routes: Default::default(),
            views: 0,
            events: 0,
            counters: BTreeMap::new(),
            clock: (wall, now),
            rng,
            me,
            cluster,
            facts,
            identity,
            config,
        }
    }

    fn recover(&mut self, now: Time, saved: Saved) {
        self.auction.set_capacity(self.facts.capacity);
        let mut unreadable = 0;
        // By key, as they lie on disk.
        for raw in fill_order(saved.changes) {
            match trust::accept(&self.identity.genesis, raw) {
                Ok(change) => unreadable += usize::from(self.desired.apply(change).is_err()),
                Err(_) => unreadable += 1,
            }
        }
        self.repair.restore_all(Tree::Desired, self.desired.digests());
        for ruling in saved.rulings {
            match ruling.verify(&self.cluster) {
                Ok(ruling) if self.desired.by_uid(&ruling.key.uid).is_some() => {
                    _ = self.rulings.apply(ruling)
                }
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        }
        self.repair.restore_all(Tree::Rulings, self.rulings.digests());
        let living =
            self.desired.workloads().map(|wish| (wish.uid, wish.name.clone())).collect::<Vec<_>>();
        for (uid, name) in living {
            self.ward(uid);
            self.due.routes.insert(name);
        }
        self.found(now);
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
            .filter_map(|(_, slot)| slot.verify(&self.cluster).ok())
            .collect();
        unreadable += self.claims.restore(slots).len();
        self.repair.restore_all(Tree::Sheets, self.claims.hashes());
        let wall = self.wall(now);
        for slot in self.claims.restarting(wall) {
            self.issue_lightly(now, slot);
        }
        self.publish_profile(now);
        self.adopt_own_claims();
        if unreadable > 0 {
            let message = format!(
                "{unreadable} saved records were left out, they cannot be read; the others will \
                    send them again"
            );
            self.tell(now, Level::Warning, "saved-unreadable", None, Some(self.me), message);
        }
        self.wait_for_others(now);
        self.due.all();
        self.mark_all();
        self.settle(now);
    }

    /// The records that were just taken in came from disk: they are old, and need not be written
    /// again.
    fn records_are_on_disk(&mut self) {
        let hashes = self
            .membership
            .records()
            .map(|(node, record)| (Membership::item_key(&node), record.hash()));
        self.repair.restore_all(Tree::Records, hashes);
        self.saving.cache = Cache::default();
    }

    /// The node that makes the cluster admits itself.
    pub(super) fn found(&mut self, now: Time) {
        if self.config.founder && self.desired.members().is_empty() {
            self.admit(now, self.me, None);
        }
    }

    /// Tells membership who is on the roster.
    pub(super) fn publish_roster(&mut self, now: Time) {
        let roster = self.desired.members().clone();
        self.with_membership(now, |membership, now, out| membership.set_roster(now, &roster, out));
        self.due.ring.extend(roster.keys().copied());
        self.due.holding = true;
        self.views += 1;
    }

    /// The key under which a node's admission stands.
    pub(super) fn member_key(node: NodeId) -> Key {
        Key::Member(node)
    }
}
