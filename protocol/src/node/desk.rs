//! Lending the rooms what they ask of their node while they work, and wrapping what they want to
//! say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::auction::{Auction, Desk, Look};
use crate::claims::Claims;
use crate::desired::Desired;
use crate::membership::{self, Membership, State};
use crate::model::{
    Digest, Facts, NodeId, Out, Outgoing, Phase, Place, ReplicaId, Signed, Slot, Time, Token,
    WallClock, codec,
};
use crate::rulings::Rulings;
use crate::sync::{self, Repair, Source, Tree};
use crate::{auction, claims};

use super::Node;
use super::artifacts::Artifacts;
use super::contract::{Action, DialTarget, PersistId};
use super::letters::Letter;
use super::message::Message;

/// The round trip that is assumed where none was measured.
const GUESSED_RTT: Duration = Duration::from_millis(50);

/// What a bidder or an owner may ask of its node.
pub(super) struct Bench<'a> {
    pub claims: &'a Claims,
    pub desired: &'a Desired,
    pub artifacts: &'a Artifacts,
    pub membership: &'a Membership,
    pub facts: &'a Facts,
    pub read_only: bool,
    pub leaving: bool,
    pub wall: WallClock,
}

impl Desk for Bench<'_> {
    fn look(&self, uid: &Digest, generation: &Digest) -> Look {
        let Some(wish) = self.desired.by_uid(uid).filter(|wish| wish.generation == *generation)
        else {
            return Look::Unknown;
        };
        let artifact = wish.spec.artifact;
        let fetch_bytes = match self.artifacts.failure(&artifact.digest) {
            _ if self.artifacts.is_ready(&artifact.digest) => 0,
            // It could not be fetched lately: as dear as anything, so that a node that can get it
            // wins.
            Some(_) => u64::MAX,
            None => artifact.size,
        };
        let here = self.claims.mine().filter(|claim| claim.replica.uid == *uid).count();
        Look::Known {
            resources: wish.spec.resources,
            fit: self.facts.fits(&wish.spec),
            fetch_bytes,
            here: u32::try_from(here).unwrap_or(u32::MAX),
        }
    }

    fn wants(&self, replica: &ReplicaId) -> bool {
        let Place::Index(index) = replica.place;
        let wish = self.desired.by_uid(&replica.uid).filter(|wish| index < wish.spec.replicas);
        wish.is_some_and(|wish| !self.runs_elsewhere(replica, &wish.generation))
    }

    fn claimed_under(&self, replica: &ReplicaId) -> Option<Token> {
        let award = self.claims.my_claim(replica)?.award.peek();
        award.ok().map(|award| award.token)
    }

    fn seen(&self, replica: &ReplicaId) -> Option<Token> {
        self.claims.highest_token(replica)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn leaving(&self) -> bool {
        self.leaving
    }

    fn rtt(&self, node: &NodeId) -> Duration {
        let rtt = self.membership.rtt(node).unwrap_or(GUESSED_RTT);
        // The first word needs a link first, and a handshake takes some five round trips.
        if self.membership.has_link(node) { rtt } else { rtt * 6 }
    }

    fn wall(&self) -> WallClock {
        self.wall
    }
}

impl Bench<'_> {
    /// Whether somebody who is up, as far as is known here, runs it well. An owner that knows less
    /// would award it again and again.
    fn runs_elsewhere(&self, replica: &ReplicaId, generation: &Digest) -> bool {
        self.claims.of(replica).iter().any(|(node, claim)| {
            self.membership.state(node) == State::Up
                && claim.phase == Phase::Healthy
                && claim.generation == *generation
        })
    }
}

/// Where repair finds what a peer lacks.
pub(super) struct Shelves<'a> {
    pub desired: &'a Desired,
    pub rulings: &'a Rulings,
    pub claims: &'a Claims,
    pub membership: &'a Membership,
    pub me: NodeId,
    /// Own slots that are not on disk yet.
    pub unwritten: &'a BTreeMap<u8, PersistId>,
}

impl Source for Shelves<'_> {
    fn load(&self, tree: Tree, key: &Digest) -> Vec<Vec<u8>> {
        match tree {
            Tree::Desired => self.desired.item(key).iter().map(codec::encode).collect(),
            Tree::Rulings => self
                .rulings
                .item(key)
                .map(|ruling| codec::encode(&ruling.wire()))
                .into_iter()
                .collect(),
            Tree::Sheets => {
                let is_told = |slot: &&Signed<Slot>| {
                    slot.by().0 != self.me.0 || !self.unwritten.contains_key(&slot.slot)
                };
                self.claims
                    .item(key)
                    .filter(is_told)
                    .map(|slot| codec::encode(&slot.wire()))
                    .into_iter()
                    .collect()
            }
            Tree::Records => self
                .membership
                .item(key)
                .map(|record| codec::encode(&record.wire()))
                .into_iter()
                .collect(),
        }
    }
}

impl Node {
    /// Lets membership work, sends what it says, and acts on its facts.
    pub(super) fn with_membership(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut Membership, Time, &mut Out<membership::Message>) -> Vec<membership::Fact>,
    ) {
        let mut out = Out::new();
        let facts = work(&mut self.membership, now, &mut out);
        self.post(now, out, Message::Membership);
        for fact in facts {
            self.on_membership(now, fact);
        }
    }

    pub(super) fn with_repair(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut Repair, Time, &dyn Source, &mut Out<sync::Message>) -> Vec<sync::Fact>,
    ) {
        let mut out = Out::new();
        let shelves = Shelves {
            desired: &self.desired,
            rulings: &self.rulings,
            claims: &self.claims,
            membership: &self.membership,
            me: self.me,
            unwritten: &self.saving.unwritten,
        };
        let facts = work(&mut self.repair, now, &shelves, &mut out);
        self.post(now, out, Message::Repair);
        for fact in facts {
            self.on_repair(now, fact);
        }
    }

    pub(super) fn with_auction(
        &mut self,
        now: Time,
        work: impl FnOnce(
            &mut Auction,
            Time,
            &dyn Desk,
            &mut Out<auction::Message>,
        ) -> Vec<auction::Fact>,
    ) {
        let mut out = Out::new();
        let desk = Bench {
            claims: &self.claims,
            desired: &self.desired,
            artifacts: &self.artifacts,
            membership: &self.membership,
            facts: &self.facts,
            read_only: self.read_only.is_some(),
            leaving: self.leaving,
            wall: self.wall(now),
        };
        let facts = work(&mut self.auction, now, &desk, &mut out);
        self.post(now, out, Message::Auction);
        let mut won = Vec::new();
        for fact in facts {
            match fact {
                // All at once: one batch on disk, one issue a slot.
                auction::Fact::Won { award, .. } => won.push(award),
                fact => self.on_auction(now, fact),
            }
        }
        if !won.is_empty() {
            self.on_won(now, won);
        }
    }

    /// Sends what a room has put into its outbox.
    pub(super) fn post<M>(&mut self, now: Time, mut out: Out<M>, wrap: impl Fn(M) -> Message) {
        while let Some(outgoing) = out.pop() {
            let action = match outgoing {
                Outgoing::Send { to, lane, message } => {
                    self.deliver(now, to, Letter { at: now, lane, message: wrap(message) });
                    continue;
                }
                Outgoing::Broadcast(message) => Action::Broadcast(wrap(message)),
                Outgoing::Dial(node) => {
                    let addresses = self.membership.addresses(&node);
                    Action::Dial { target: DialTarget::Node(node), addresses }
                }
                Outgoing::Hangup(node) => Action::Disconnect(node),
            };
            self.outbox.push(action);
        }
    }

    pub(super) fn with_claims(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut Claims, &mut Out<claims::Message>) -> Vec<claims::Fact>,
    ) {
        let mut out = Out::new();
        let facts = work(&mut self.claims, &mut out);
        self.post(now, out, Message::Claims);
        for fact in facts {
            self.on_claims(now, fact);
        }
    }
}
