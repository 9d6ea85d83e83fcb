//! Calls into the rooms: each call lends a room what it reads of other rooms, sends the messages
//! that it produced, and queues the facts that it returned.
//!
//! **Facts go through one queue that one loop drains** ([`Node::drain`]), so that no room is called
//! while a call into it is on the stack.

use std::time::Duration;

use crate::artifacts::Artifacts;
use crate::auction::{self, Auction, BidContext, Evictable, Knowledge, OwnClaim};
use crate::claims::{self, Claims};
use crate::desired::Desired;
use crate::holding::Holding;
use crate::membership::{self, Membership};
use crate::model::spec::{HostPort, Reading};
use crate::model::{
    Artifact, Award, DISK, Decline, Digest, Facts, NeedSum, NodeId, Out, Outgoing, Place,
    ReplicaId, ReplicaName, Signed, Slot, SpecForm, Time, Token, WallClock, codec,
};
use crate::rulings::Rulings;
use crate::sync::{self, Repair, Source, Tree};

use super::Node;
use super::contract::{Action, DialTarget};
use super::message::Message;
use super::outlook::{Demand, Outlook};
use super::pending_sends::PendingSend;
use super::sight::Sight;

/// The round trip to a node that none was measured to.
const ASSUMED_RTT: Duration = Duration::from_millis(50);

/// A result of a room that the node has not handled yet.
#[derive(Clone, Debug)]
pub(super) enum Returned {
    Membership(membership::Fact),
    Repair(sync::Fact),
    Claims(claims::Fact),
    Auction(auction::Fact),
    /// Awards that one call won: their claims are one batch on disk, and each slot is issued once.
    Won(Vec<Signed<Award>>),
    /// A message of this node to itself.
    Own(Message),
}

/// The state of other rooms that the auction reads, as bidder and as owner.
struct Context<'a> {
    outlook: Outlook<'a>,
    holding: &'a Holding,
    artifacts: &'a Artifacts,
    facts: &'a Facts,
    read_only: bool,
    leaving: bool,
}

impl Context<'_> {
    /// The name of a replica, for people.
    fn replica_name(&self, replica: &ReplicaId) -> String {
        match self.outlook.demand.desired.by_uid(&replica.uid) {
            Some(workload) => {
                ReplicaName { workload: workload.name.clone(), place: replica.place }.to_string()
            }
            None => replica.to_string(),
        }
    }

    /// Whether what a program still lacks here, and the disk that a replica reserves, fit on the
    /// disk as it is now.
    fn disk_for(&self, spec: &SpecForm) -> Result<(), Decline> {
        let missing = spec.program.artifacts_on(Some(&self.facts.arch));
        let missing = missing.filter(|artifact| !self.artifacts.is_ready(&artifact.digest));
        let missing = missing.map(|artifact| artifact.size).fold(0, u64::saturating_add);
        let needed = missing.saturating_add(spec.later.uses.of(DISK));
        match self.facts.disk_short_of(needed) {
            Some(free) => Err(Decline::DiskFull { free, needed }),
            None => Ok(()),
        }
    }

    /// The workloads of which this node claims replicas.
    fn workloads_here(&self) -> Vec<&SpecForm> {
        let mut uids: Vec<Digest> =
            self.outlook.claims.mine().map(|claim| claim.replica.uid).collect();
        uids.dedup();
        let known = uids.iter().filter_map(|uid| self.outlook.demand.desired.by_uid(uid));
        known.map(|workload| &*workload.spec).collect()
    }
}

impl BidContext for Context<'_> {
    fn knowledge(&self, uid: &Digest, generation: &Digest) -> Knowledge {
        let known = self.outlook.demand.desired.by_uid(uid);
        let Some(workload) = known.filter(|workload| workload.generation == *generation) else {
            return Knowledge::Unknown;
        };
        let bytes = |artifact: Artifact| match self.artifacts.failure(&artifact.digest) {
            _ if self.artifacts.is_ready(&artifact.digest) => 0,
            // A fetch failed lately: the highest price, so that a node that can get it wins.
            Some(_) => u64::MAX,
            None => artifact.size,
        };
        let artifacts = workload.spec.program.artifacts_on(Some(&self.facts.arch));
        let fetch_bytes = artifacts.map(bytes).fold(0, u64::saturating_add);
        let here = self.outlook.claims.mine().filter(|claim| claim.replica.uid == *uid).count();
        let spec = &workload.spec;
        let used = self.committed().plus(&self.stopping()).narrow();
        let free = self.facts.capacity.minus(used.size);
        let beside = self.workloads_here();
        let unmet = self.facts.unmet(spec, free).saturating_add(spec.unmet_beside(&beside));
        Knowledge::Known {
            need: spec.need(),
            priority: spec.later.priority,
            fit: (self.outlook.demand.desired)
                .takes(&self.outlook.me, spec)
                .and_then(|()| self.facts.fits(spec))
                .and_then(|()| self.facts.fits_now(spec, free))
                .and_then(|()| spec.fits_beside(&beside)),
            ports: spec.host_ports(),
            fetch_bytes,
            disk: self.disk_for(spec),
            here: u32::try_from(here).unwrap_or(u32::MAX),
            one_at_a_time: spec.is_apart_from_itself()
                || spec.later.require.iter().any(|it| it.is_measured()),
            weights: (spec.weights(), unmet),
        }
    }

    fn is_open(&self, replica: &ReplicaId) -> bool {
        self.outlook.is_open(replica)
    }

    fn own_claim(&self, replica: &ReplicaId) -> Option<OwnClaim> {
        match self.holding.held(replica)?.writing {
            Some(token) => Some(OwnClaim { token, is_written: false }),
            None => {
                let claim = self.outlook.claims.my_claim(replica)?;
                let token = claims::awarded_under(claim);
                Some(OwnClaim { token, is_written: true })
            }
        }
    }

    fn holders(&self, uid: &Digest) -> Vec<(Place, NodeId)> {
        let claims = self.outlook.claims.of_workload(uid).into_iter();
        let up = claims.filter(|(node, _)| self.outlook.is_up(node));
        up.map(|(node, claim)| (claim.replica.place, node)).collect()
    }

    fn label(&self, node: &NodeId, name: &str) -> Option<String> {
        let facts = match *node == self.outlook.me {
            true => self.facts,
            false => &self.outlook.membership.record(node)?.facts,
        };
        match facts.reading(name)? {
            Reading::Text(text) => Some(text.into_owned()),
            Reading::Texts(texts) => Some(texts.join(",")),
            Reading::Number(thousandths) => Some(thousandths.to_string()),
        }
    }

    fn committed(&self) -> NeedSum {
        self.holding.committed().clone()
    }

    fn port_holder(&self, port: &HostPort) -> Option<String> {
        let Some(replica) = self.holding.port_holder(port, None) else {
            let is_foreign = self.facts.busy_ports.contains(port);
            return is_foreign.then(|| "another program".into());
        };
        Some(self.replica_name(&replica))
    }

    fn stopping(&self) -> NeedSum {
        self.holding.stopping().clone()
    }

    fn evictable(&self, below: i32) -> Vec<Evictable> {
        let one = |replica: ReplicaId| {
            let spec = &self.outlook.demand.desired.by_uid(&replica.uid)?.spec;
            let priority = spec.later.priority;
            (priority < below && spec.kept().next().is_none()).then(|| {
                Some(Evictable { replica, priority, need: self.holding.need_of(&replica)? })
            })?
        };
        self.holding.replicas().filter_map(one).collect()
    }

    fn user_of(&self, name: &str) -> Option<String> {
        self.holding.user_of(name).map(|replica| self.replica_name(&replica))
    }

    fn seen(&self, replica: &ReplicaId) -> Option<Token> {
        self.outlook.claims.highest_token(replica)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn leaving(&self) -> bool {
        self.leaving
    }

    fn rtt(&self, node: &NodeId) -> Duration {
        let membership = self.outlook.membership;
        let rtt = membership.rtt(node).unwrap_or(ASSUMED_RTT);
        // Without a link the first message waits for one, and a handshake takes some five round
        // trips.
        if membership.has_link(node) { rtt } else { rtt * 6 }
    }

    fn wall(&self) -> WallClock {
        self.outlook.wall
    }
}

/// The entries that repair sends to a peer that lacks them.
struct RepairSource<'a> {
    desired: &'a Desired,
    rulings: &'a Rulings,
    claims: &'a Claims,
    membership: &'a Membership,
    holding: &'a Holding,
    me: NodeId,
}

impl Source for RepairSource<'_> {
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
                // No peer gets an own slot that is not on disk.
                let is_written = |slot: &&Signed<Slot>| {
                    slot.by().0 != self.me.0 || self.holding.slot_batch(slot.slot).is_none()
                };
                self.claims
                    .item(key)
                    .filter(is_written)
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
    /// Handles all facts that rooms returned, and those that follow from them.
    pub(super) fn drain(&mut self, now: Time) {
        while let Some(returned) = self.returned.pop_front() {
            match returned {
                Returned::Membership(fact) => self.on_membership(now, fact),
                Returned::Repair(fact) => self.on_repair(now, fact),
                Returned::Claims(fact) => self.on_claims(now, fact),
                Returned::Auction(fact) => self.on_auction(now, fact),
                Returned::Won(awards) => self.on_won(now, awards),
                Returned::Own(message) => self.on_message(now, self.me, message),
            }
        }
    }

    pub(super) fn with_membership<F>(&mut self, now: Time, work: F)
    where
        F: FnOnce(&mut Membership, Time, &mut Out<membership::Message>) -> Vec<membership::Fact>,
    {
        let mut out = Out::new();
        let facts = work(&mut self.membership, now, &mut out);
        self.post(now, out, Message::Membership);
        self.returned.extend(facts.into_iter().map(Returned::Membership));
    }

    pub(super) fn with_repair<F>(&mut self, now: Time, work: F)
    where
        F: FnOnce(&mut Repair, Time, &dyn Source, &mut Out<sync::Message>) -> Vec<sync::Fact>,
    {
        let mut out = Out::new();
        let source = RepairSource {
            desired: &self.desired,
            rulings: &self.rulings,
            claims: &self.claims,
            membership: &self.membership,
            holding: &self.holding,
            me: self.me,
        };
        let facts = work(&mut self.repair, now, &source, &mut out);
        self.post(now, out, Message::Repair);
        self.returned.extend(facts.into_iter().map(Returned::Repair));
    }

    pub(super) fn with_auction(
        &mut self,
        now: Time,
        work: impl FnOnce(
            &mut Auction,
            Time,
            &dyn BidContext,
            &mut Out<auction::Message>,
        ) -> Vec<auction::Fact>,
    ) {
        let mut out = Out::new();
        let sight =
            Sight::new(self.me, &self.device.facts, &self.membership, &self.desired, &self.rulings);
        let context = Context {
            outlook: Outlook {
                demand: Demand { desired: &self.desired, rulings: &self.rulings, sight },
                me: self.me,
                now,
                wall: self.wall(now),
                claims: &self.claims,
                membership: &self.membership,
                ownership: &self.ownership,
                sight,
                is_ready: self.readiness.is_ready(),
            },
            holding: &self.holding,
            artifacts: &self.artifacts,
            facts: &self.device.facts,
            read_only: self.saving.read_only.is_some(),
            leaving: self.readiness.is_leaving(),
        };
        let facts = work(&mut self.auction, now, &context, &mut out);
        let mut won = Vec::new();
        for fact in facts {
            match fact {
                auction::Fact::Won { award, .. } => won.push(award),
                fact => self.returned.push_back(Returned::Auction(fact)),
            }
        }
        if !won.is_empty() {
            self.returned.push_back(Returned::Won(won));
        }
        self.post(now, out, Message::Auction);
    }

    pub(super) fn with_claims(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut Claims, Sight<'_>, &mut Out<claims::Message>) -> Vec<claims::Fact>,
    ) {
        let mut out = Out::new();
        let sight =
            Sight::new(self.me, &self.device.facts, &self.membership, &self.desired, &self.rulings);
        let facts = work(&mut self.claims, sight, &mut out);
        self.post(now, out, Message::Claims);
        self.returned.extend(facts.into_iter().map(Returned::Claims));
    }

    /// Sends the messages of a room's outbox.
    pub(super) fn post<M>(&mut self, now: Time, mut out: Out<M>, wrap: impl Fn(M) -> Message) {
        while let Some(outgoing) = out.pop() {
            let action = match outgoing {
                Outgoing::Send { to, message, .. } if to == self.me => {
                    self.returned.push_back(Returned::Own(wrap(message)));
                    continue;
                }
                Outgoing::Send { to, lane, message } => {
                    let message = wrap(message);
                    self.deliver(now, to, PendingSend { at: now, lane, message });
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
}
