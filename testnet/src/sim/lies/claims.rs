//! Lies about what runs where: awards to itself, claims, and awards that are won and not run.

use std::collections::BTreeMap;

use shoal_protocol::auction::{self, Announce};
use shoal_protocol::model::claim::MAX_SLOT_CLAIMS;
use shoal_protocol::model::codec;
use shoal_protocol::model::{
    AuctionId, Award, Claim, Digest, Phase, Place, Price, PublicKey, ReplicaId, Slot, Token,
    Unverified, WallClock, WorkloadName,
};
use shoal_protocol::node::Message;

use crate::sim::network::below;
use crate::sim::world::World;

/// The counter of the first forged slot: above all that the honest core counts to.
const FORGED: u64 = 1 << 50;
/// How far a forged token is ahead. All together stay below what a device takes that has seen none
/// of them: it takes no token that is a million ahead of all that it knows.
const AHEAD: u64 = 1 << 15;
/// The bound of the tokens in claims to everything.
const ANY: u64 = 1 << 19;
/// Places of a workload that are claimed, wanted or not.
const PLACES: u32 = 60;

impl World {
    /// An award of one or two replicas that others run to itself, under a lower or a higher token.
    /// Sometimes it takes a forged claim back, so that the story begins anew.
    pub(super) fn lie_about_awards(&mut self, device: usize) {
        let forged: Vec<ReplicaId> = self.liar_of(device).claims.keys().copied().collect();
        if below(&mut self.rng, 4) == 0
            && let Some(replica) = self.draw_one(&forged)
        {
            self.liar_of(device).claims.remove(&replica);
            self.issue_forged(device, replica.slot());
        }
        for _ in 0..1 + below(&mut self.rng, 2) {
            let others = self.claims_of_others(device);
            let Some(claim) = self.draw_one(&others) else { return };
            if below(&mut self.rng, 4) == 0 {
                self.steal(device, &claim);
                continue;
            }
            let counter = match below(&mut self.rng, 3) {
                0 => 0,
                1 => claim.token.counter.saturating_sub(1),
                _ => claim.token.counter.saturating_add(AHEAD),
            };
            self.claim_falsely(device, &claim.name, claim.replica, claim.generation, counter);
            self.issue_forged(device, claim.replica.slot());
        }
    }

    /// Claims of every place of every workload, of places that no workload has, and of no workload.
    pub(super) fn lie_about_claims(&mut self, device: usize) {
        let Some(node) = self.node(device) else { return };
        let views = node.workloads();
        let names =
            views.iter().filter_map(|it| format!("{}/{}", it.namespace, it.name).parse().ok());
        let mut known: Vec<(WorkloadName, Digest, Digest)> = names
            .filter_map(|name: WorkloadName| {
                let uid = node.wanted(&name).first()?.uid;
                Some((name, uid, node.generation(&uid)?))
            })
            .collect();
        let nowhere = Digest::of(&self.now.to_be_bytes());
        known.extend("nowhere".parse().ok().map(|name| (name, nowhere, nowhere)));
        let mut slots = std::collections::BTreeSet::new();
        for (name, uid, generation) in known {
            for index in 0..PLACES {
                let replica = ReplicaId { uid, place: Place::Ordinal(index) };
                let generation = if below(&mut self.rng, 4) == 0 { nowhere } else { generation };
                let counter = below(&mut self.rng, ANY);
                self.claim_falsely(device, &name, replica, generation, counter);
                let phase = match below(&mut self.rng, 4) {
                    0 => Phase::Starting,
                    1 => Phase::Failing { reason: "\u{1b}[2J gone".into(), restarts: 9 },
                    2 => Phase::Other(77),
                    _ => Phase::Healthy,
                };
                if let Some(claim) = self.liar_of(device).claims.get_mut(&replica) {
                    claim.phase = phase;
                }
                slots.insert(replica.slot());
            }
        }
        slots.into_iter().for_each(|slot| self.issue_forged(device, slot));
    }

    /// A claim under an award that it signed in the name of the true owner, under an older token.
    fn steal(&mut self, device: usize, claim: &Claim) {
        let Ok(award) = claim.award.peek() else { return };
        let me = self.devices[device].id;
        let token = Token { counter: 0, ..award.token };
        let forged = self.forge(device, Award { token, to: me, ..award });
        let Some(award) = in_the_name_of(claim.award.by(), &forged) else { return };
        let stolen = Claim { token, phase: Phase::Healthy, award, update: None, ..claim.clone() };
        let liar = self.liar_of(device);
        liar.slots += 1;
        liar.stolen.insert(stolen.replica, stolen.clone());
        let (number, counter) = (stolen.replica.slot(), FORGED + liar.slots);
        let slot = Slot { slot: number, counter, claims: vec![stolen], newer: Vec::new() };
        let slot = self.forge(device, slot);
        self.say_everywhere(device, Message::Slot(slot));
    }

    /// What the honest devices claim.
    fn claims_of_others(&self, device: usize) -> Vec<Claim> {
        let others = self.honest().into_iter().filter(|other| *other != device);
        others.filter_map(|it| self.node(it)).flat_map(|node| node.own_claims().cloned()).collect()
    }

    fn claim_falsely(
        &mut self,
        device: usize,
        name: &WorkloadName,
        replica: ReplicaId,
        generation: Digest,
        counter: u64,
    ) {
        let me = self.devices[device].id;
        let token = Token { counter, by: me, incarnation: 0 };
        let auction = AuctionId { owner: me, number: self.now };
        let award = Award { auction, replica, generation, token, to: me };
        let claim = Claim {
            replica,
            name: name.clone(),
            generation,
            token,
            phase: Phase::Healthy,
            since: WallClock(0),
            award: self.forge(device, award),
            update: None,
        };
        self.liar_of(device).claims.insert(replica, claim);
    }

    /// Issues a slot with the forged claims in it, and those of the honest core.
    pub(super) fn issue_forged(&mut self, device: usize, slot: u8) {
        let own = self.node(device).map(|node| node.own_claims().cloned().collect::<Vec<_>>());
        let liar = self.liar_of(device);
        liar.slots += 1;
        let all = own.into_iter().flatten().chain(liar.claims.values().cloned());
        let claims: BTreeMap<ReplicaId, Claim> = all
            .filter(|claim| claim.replica.slot() == slot)
            .map(|claim| (claim.replica, claim))
            .collect();
        let claims = claims.into_values().take(MAX_SLOT_CLAIMS).collect();
        let slot = Slot { slot, counter: FORGED + liar.slots, claims, newer: Vec::new() };
        let slot = self.forge(device, slot);
        self.say_everywhere(device, Message::Slot(slot));
    }

    /// A bid on all places, at price zero.
    pub(super) fn bid_nothing(&mut self, device: usize, owner: usize, announce: &Announce) {
        let bid = auction::Message::Bid {
            auction: announce.auction,
            prices: vec![Price::default(); announce.places.len()],
            without: Vec::new(),
        };
        self.say_to(device, owner, Message::Auction(bid));
    }

    /// It claims what it won, and runs nothing.
    pub(super) fn take_awards(
        &mut self,
        device: usize,
        owner: usize,
        awards: Vec<Unverified<Award>>,
    ) {
        let names = self.names(device);
        for award in awards {
            let Ok(body) = award.peek() else { continue };
            let Some(name) = names.get(&body.replica.uid.to_string()) else { continue };
            let claim = Claim {
                replica: body.replica,
                name: name.clone(),
                generation: body.generation,
                token: body.token,
                phase: Phase::Healthy,
                since: self.devices[device].clock.wall(self.now),
                award,
                update: None,
            };
            self.liar_of(device).claims.insert(body.replica, claim);
            self.issue_forged(device, body.replica.slot());
            let claims = vec![(body.replica, body.token)];
            let claimed = auction::Message::Claimed { auction: body.auction, claims };
            self.say_to(device, owner, Message::Auction(claimed));
        }
    }

    /// The names of the workloads that a device knows, by uid.
    fn names(&self, device: usize) -> BTreeMap<String, WorkloadName> {
        let views = self.node(device).map(|node| node.workloads()).unwrap_or_default();
        let name = |namespace: &str, name: &str| format!("{namespace}/{name}").parse().ok();
        views.into_iter().filter_map(|it| Some((it.uid, name(&it.namespace, &it.name)?))).collect()
    }
}

/// The same statement with another signer, whose signature it does not have.
fn in_the_name_of(signer: PublicKey, forged: &Unverified<Award>) -> Option<Unverified<Award>> {
    /// Bytes of a signature, which come last, behind the signer's key.
    const SIGNATURE: usize = 64;
    let mut bytes = codec::encode(forged);
    let end = bytes.len().checked_sub(SIGNATURE)?;
    let at = end.checked_sub(signer.0.len())?;
    bytes[at..end].copy_from_slice(&signer.0);
    codec::decode(&bytes).ok()
}
