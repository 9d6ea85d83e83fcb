//! The invariants of every step. They look at a node from outside only: its disk, messages and
//! orders.

use shoal_protocol::auction;
use shoal_protocol::claims::{self, awarded_under};
use shoal_protocol::membership;

use shoal_protocol::model::codec;
use shoal_protocol::model::ruling::{Outcome, run_number};
use shoal_protocol::model::{
    Change, Claim, Digest, Need, NodeId, Place, Queue, RawChange, ReplicaId, RulingBody, Slot,
    Token, Unverified,
};
use shoal_protocol::node::{Action, Message, Node, Order, Record, Reply};
use shoal_protocol::sync;

use crate::sim::disk::Disk;
use crate::sim::world::World;

/// Effects that may wait for a disk; the real driver gives up a disk with more.
const MAX_HELD: usize = 65_536;

/// How often one node may yield the same replica in one history. More is an endless dispute that
/// costs a disk write each round.
const MAX_YIELDS: u32 = 20;

/// Whether a device knows by its disk that an index of a job was done, by this program.
fn is_done(disk: &Disk, replica: &ReplicaId, generation: &Digest) -> bool {
    let Place::Run { at, index } = replica.place else { return false };
    let mut rulings = disk.rulings.values().filter_map(|ruling| ruling.peek().ok());
    rulings.any(|ruling| {
        ruling.uid == replica.uid
            && ruling.tick == run_number(at, index)
            && (at > 0 || ruling.generation == *generation)
            && matches!(&ruling.body, RulingBody::JobResult(it) if it.outcome == Outcome::Done)
    })
}

/// The sealed message inside a relayed one, as if the node had sent it directly.
fn unsealed(me: NodeId, action: &Action) -> Option<Action> {
    let Action::Send { lane, message: Message::Carry(sealed), .. } = action else { return None };
    let sealed = sealed.peek().ok().filter(|_| sealed.by().0 == me.0)?;
    let message = codec::decode(&sealed.message).ok()?;
    Some(Action::Send { to: sealed.to, lane: *lane, message })
}

impl World {
    /// Checks an effect when the daemon asks for it, even if it has to wait for the disk.
    pub(in crate::sim) fn watch_ask(&mut self, device: usize, action: &Action) {
        let Action::Persist { records, .. } = action else { return };
        if self.watch.is_off {
            return;
        }
        let me = self.devices[device].id;
        for record in records {
            self.watch_written(device, record);
            match record {
                Record::Slot { node, slot } if *node == me => self.watch_own_slot(device, slot),
                Record::Desired { changes, .. } => {
                    if changes.iter().any(|raw| self.watch.refused.contains(&raw.change.hash())) {
                        self.broken(device, "it writes a change that was refused".into());
                    }
                    let known = changes.iter().filter_map(|raw| {
                        let body = raw.change.peek().ok()?;
                        let spec = body.value.spec()?;
                        Some((body.uid.unwrap_or_else(|| raw.change.hash()), spec.clone()))
                    });
                    for (uid, spec) in known {
                        self.watch.generations.insert((uid, spec.revision()), spec.need());
                        if spec.kind.is_stateful() {
                            self.watch.stateful.insert(uid);
                        }
                    }
                }
                Record::Slot { .. }
                | Record::Incarnation(_)
                | Record::Node { .. }
                | Record::Ruling { .. }
                | Record::NoRuling { .. }
                | Record::OldVersion { .. } => {}
            }
        }
    }

    fn watch_own_slot(&mut self, device: usize, slot: &Unverified<Slot>) {
        let Ok(slot) = slot.peek() else {
            return self.broken(device, "it persists a slot that cannot be read".into());
        };
        for claim in &slot.claims {
            if !self.watch.generations.contains_key(&(claim.replica.uid, claim.generation)) {
                self.broken(
                    device,
                    format!("it claims {} of a version that nobody wished for", claim.replica),
                );
            }
        }
        let claims = slot.claims.iter().map(held).collect();
        // Two owners with one cloned key may draw the same token.
        if let Some((token, twins)) = self.watch.hold(self.devices[device].id, slot.slot, claims)
            && self.ids.get(&token.by).is_none_or(|owners| owners.len() < 2)
        {
            self.broken(device, twins);
        }
    }

    /// Checks an effect when it is carried out: everything that it depends on must be on disk.
    pub(in crate::sim) fn watch_act(&mut self, device: usize, action: &Action) {
        if self.watch.is_off {
            return;
        }
        if let Some(inside) = unsealed(self.devices[device].id, action) {
            return self.watch_act(device, &inside);
        }
        self.watch_numbers(device, action);
        match action {
            Action::Notify(event) => self.watch_event(device, event),
            Action::Order(Order::Run { replica, generation, .. }) => {
                self.watch_run(device, replica, generation);
            }
            _ => {}
        }
        let (disk, me) = (&self.devices[device].disk, self.devices[device].id);
        let wrong = match action {
            Action::Broadcast(Message::Slot(slot)) => unwritten(disk, me, slot),
            // Rulings and records in a repair message promise nothing, so they need not be on disk.
            Action::Send {
                message: Message::Repair(sync::Message::Items { items, .. }), ..
            } => {
                let slots =
                    items.iter().filter_map(|item| codec::decode::<Unverified<Slot>>(item).ok());
                let slot = slots.filter_map(|slot| unwritten(disk, me, &slot)).next();
                let changes = items.iter().filter_map(|item| codec::decode::<RawChange>(item).ok());
                slot.or_else(|| changes.filter_map(|change| self.unfounded(device, &change)).next())
            }
            Action::Broadcast(Message::Changed { change, .. }) => self.unfounded(device, change),
            Action::Send { message: Message::Admitted { changes }, .. } => {
                changes.iter().filter_map(|change| self.unfounded(device, change)).next()
            }
            Action::Send {
                message: Message::Auction(auction::Message::Claimed { claims, .. }),
                ..
            } => {
                let is_written = |(replica, token): &&(ReplicaId, Token)| {
                    claims_on(disk, me, replica).any(|written| awarded_under(&written) == *token)
                };
                let early = claims.iter().find(|claim| !is_written(claim));
                early.map(|(replica, _)| {
                    format!("it tells the owner of its claim to {replica} before it is on disk")
                })
            }
            Action::Notify(event)
                if matches!(event.kind.as_str(), "duplicate-yielded" | "moved")
                    && !self.has_clones()
                    && !self.is_left_to_liar(&event.message) =>
            {
                let yields = self.watch.yields.entry((device, event.subject.clone())).or_default();
                *yields += 1;
                (*yields > MAX_YIELDS)
                    .then(|| "it takes a replica and lets it go, again and again".to_owned())
            }
            Action::Order(Order::Run { replica, generation, .. })
                if is_done(disk, replica, generation) =>
            {
                Some(format!("it runs {replica} again, and knows that it is done"))
            }
            Action::Order(Order::Run { replica, .. }) => {
                // A replacement runs before the claim names it, and a claim may be released while
                // its order waits for the disk: any claim of the replica will do.
                let is_written = claims_on(disk, me, replica).next().is_some();
                (!is_written).then(|| format!("it starts {replica} before the claim is on disk"))
            }
            Action::Reply { reply: Reply::Accepted { change, .. }, .. } => {
                let is_written =
                    disk.desired.values().flatten().any(|raw| raw.change.hash() == *change);
                (!is_written).then(|| "it acknowledges a change before it is on disk".to_owned())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.broken(device, wrong);
        }
    }

    /// Why a change must not be sent: a user was told that it was refused, or it is on no disk and
    /// would be lost with the daemons that know it.
    fn unfounded(&self, device: usize, raw: &RawChange) -> Option<String> {
        if self.watch.refused.contains(&raw.change.hash()) {
            return Some("it tells of a change that was refused".into());
        }
        // A liar admits devices that are on nobody's disk, and no user was promised anything.
        if self.watch.liars.contains(&NodeId(raw.change.by().0)) {
            return None;
        }
        let named = raw.change.peek().ok()?.key;
        let key = named.hash();
        let has = |it: &crate::sim::device::Device| {
            it.disk.desired.get(&key).is_some_and(|kept| is_kept(raw, kept))
        };
        let is_written = has(&self.devices[device]) || self.devices.iter().any(has);
        (!is_written).then(|| format!("it tells of a change of {named:?} that is on no disk"))
    }

    /// Notes that a change was refused to a user. No node may have it, now or later.
    pub(in crate::sim) fn note_refused(&mut self, device: usize, change: &Change) {
        let hash = change.hash();
        self.watch.refused.insert(hash);
        let on_disk = |it: &crate::sim::device::Device| {
            let kept = it.disk.desired.get(&change.signed.key.hash()).into_iter().flatten();
            kept.map(|raw| raw.change.hash()).any(|it| it == hash)
        };
        let seen = self.devices.iter().position(|it| {
            on_disk(it)
                || it.node.as_ref().is_some_and(|node| node.holds_change(&change.signed.key, &hash))
        });
        if let Some(seen) = seen {
            self.broken(seen, format!("it has a change that n{device} refused"));
        }
    }

    /// Checks that a daemon never reuses a counter or an incarnation, and stops healthy replicas
    /// only after a keeper said that it is healthy.
    fn watch_numbers(&mut self, device: usize, action: &Action) {
        let me = self.devices[device].id;
        // Two devices with one key raise their counters against each other.
        let is_alone = !self.is_cloned(device);
        match action {
            Action::Broadcast(Message::Slot(slot)) if slot.by().0 == me.0 && is_alone => {
                let Ok(body) = slot.peek() else { return };
                let known = *self
                    .watch
                    .told
                    .entry((device, body.slot, body.counter))
                    .or_insert(slot.hash());
                if known != slot.hash() {
                    let what = format!(
                        "it says two things of slot {} under counter {}",
                        body.slot, body.counter
                    );
                    self.broken(device, what);
                }
            }
            Action::Broadcast(Message::Membership(membership::Message::Record(record)))
                if record.by().0 == me.0 && is_alone =>
            {
                let Ok(body) = record.peek() else { return };
                let boot = self.devices[device].boot;
                let (life, over, highest) = self.watch.lives.entry(device).or_insert((boot, 0, 0));
                if *life != boot {
                    (*life, *over) = (boot, *highest);
                }
                *highest = body.incarnation.max(*highest);
                if body.incarnation <= *over {
                    self.broken(
                        device,
                        format!("incarnation {} is of a life that is over", body.incarnation),
                    );
                }
            }
            Action::Send {
                to,
                message: Message::Claims(claims::Message::Keeping { replica, healthy, .. }),
                ..
            } if *healthy || self.watch.stateful.contains(&replica.uid) => {
                let waiting = self.stops_waiting(to, replica);
                self.watch.kept.insert((*to, *replica), 1 + waiting);
            }
            Action::Order(Order::Stop { replica }) => {
                // With one key on two devices either may have received the keeper's message.
                let kept = self.watch.kept.entry((me, *replica)).or_default();
                let was_told = *kept > 0 || !is_alone;
                *kept = kept.saturating_sub(1);
                let is_good =
                    || self.is_good(device, replica) || self.is_adoptable(device, replica);
                if !was_told
                    && is_good()
                    && !self.is_outranked(device, replica)
                    && let Some(why) = self.must_keep(device, replica)
                {
                    self.broken(device, format!("it stops {replica}, which is wished for: {why}"));
                }
            }
            _ => {}
        }
    }

    /// Stops of this replica that the node has ordered but that still wait for its disk.
    fn stops_waiting(&self, node: &NodeId, replica: &ReplicaId) -> usize {
        let devices = self.ids.get(node).into_iter().flatten();
        let held = devices.flat_map(|device| self.devices[*device].held.values().flatten());
        held.filter(
            |action| matches!(action, Action::Order(Order::Stop { replica: it }) if it == replica),
        )
        .count()
    }

    /// Whether a device runs a wanted replica, healthy, and its disk gives no reason to stop it. Of
    /// a version that is wanted no more it counts as well: it serves until the next one does.
    fn is_good(&self, device: usize, replica: &ReplicaId) -> bool {
        let it = &self.devices[device];
        let (Some(node), Some(runs)) = (&it.node, it.runtime.replicas.get(replica)) else {
            return false;
        };
        let Some(claim) = claims_on(&it.disk, it.id, replica).next() else { return false };
        (runs.healthy || runs.old.is_some())
            && !it.disk.is_ill()
            && !node.is_revoked(&it.id.into())
            && node.wanted(&claim.name).contains(replica)
    }

    /// Whether a daemon knows a workload that may take the place of a replica.
    fn is_outranked(&self, device: usize, replica: &ReplicaId) -> bool {
        let Some(node) = &self.devices[device].node else { return false };
        let Some(priority) = node.priority(&replica.uid) else { return false };
        node.priorities().any(|other| other > priority.max(0))
    }

    /// All that each device offers.
    fn offer(&self) -> Need {
        Need { size: self.capacity, counted: self.offers.clone() }
    }

    /// All that a daemon's own claims take, by the published specs.
    fn claimed(&self, node: &Node) -> Need {
        let needs = node
            .own_claims()
            .filter_map(|it| self.watch.generations.get(&(it.replica.uid, it.generation)));
        needs.fold(Need::default(), |sum, need| sum.plus(need))
    }

    /// Checks a batch before it becomes durable: it must not replace a change by an older one.
    pub(in crate::sim) fn watch_commit(&mut self, device: usize) {
        if self.watch.is_off {
            return;
        }
        let disk = &self.devices[device].disk;
        let Some((_, records)) = disk.pending.front() else { return };
        let lost = records.iter().any(|record| {
            let Record::Desired { key, changes } = record else { return false };
            disk.desired
                .get(key)
                .is_some_and(|before| before.iter().any(|old| !is_kept(old, changes)))
        });
        if lost {
            self.broken(device, "its disk loses a change that nothing newer replaces".into());
        }
    }

    /// Resets the known claims of a device to those on its disk, after its daemon has started or
    /// ended.
    pub(in crate::sim) fn watch_disk(&mut self, device: usize) {
        let me = self.devices[device].id;
        let known: Vec<u8> =
            self.watch.slots.range((me, 0)..=(me, u8::MAX)).map(|((_, slot), _)| *slot).collect();
        known.into_iter().for_each(|slot| self.watch.let_go(me, slot));
        let written: Vec<Slot> = self.devices[device]
            .disk
            .slots
            .range((me, 0)..=(me, u8::MAX))
            .filter_map(|(_, slot)| slot.peek().ok())
            .collect();
        for slot in written {
            _ = self.watch.hold(me, slot.slot, slot.claims.iter().map(held).collect());
        }
    }

    /// Checks the device that just changed, and returns the first violation of the step.
    pub(in crate::sim) fn after_step(&mut self, device: usize) -> Result<(), String> {
        if self.watch.is_off {
            return Ok(());
        }
        let it = &self.devices[device];
        if let Some(node) = &it.node {
            // The claims are added up here independently of the node's own sum.
            let (capacity, claimed, promised) = (self.offer(), self.claimed(node), node.promised());
            if !capacity.holds(&claimed) || !capacity.holds(&promised) {
                self.broken(
                    device,
                    format!(
                        "it claims {claimed:?} and promised {promised:?}, more than {capacity:?}"
                    ),
                );
            } else if it.held.values().map(Vec::len).sum::<usize>() > MAX_HELD {
                self.broken(device, format!("more than {MAX_HELD} effects wait for its disk"));
            } else if let Some(Queue { name, len, most }) =
                node.queues().into_iter().find(Queue::is_overfull)
            {
                self.broken(device, format!("{name}: {len}, and {most} at most"));
            } else if let Some(wrong) = self.wrong_containers(device) {
                self.broken(device, wrong);
            } else if let Some(wrong) = self.ghost_inside(device) {
                self.broken(device, wrong);
            }
        }
        match self.watch.broken.take() {
            None => Ok(()),
            Some((device, what)) => Err(format!("n{device}: {what}\n{}", self.report_on(device))),
        }
    }

    pub(super) fn broken(&mut self, device: usize, what: String) {
        self.watch.broken.get_or_insert((device, what));
    }
}

fn held(claim: &Claim) -> (ReplicaId, Token) {
    (claim.replica, awarded_under(claim))
}

/// Why a device must not announce this slot: one of its own claims is not on disk.
fn unwritten(disk: &Disk, me: NodeId, slot: &Unverified<Slot>) -> Option<String> {
    let slot = slot.peek().ok().filter(|_| slot.by().0 == me.0)?;
    let is_written = |claim: &&Claim| {
        claims_on(disk, me, &claim.replica).any(|written| held(&written) == held(claim))
    };
    let claim = slot.claims.iter().find(|claim| !is_written(claim))?;
    Some(format!("it tells of its claim to {} before it is on disk", claim.replica))
}

fn claims_on(
    disk: &Disk,
    node: NodeId,
    replica: &ReplicaId,
) -> impl Iterator<Item = Claim> + use<> {
    let slot = disk.slots.get(&(node, replica.slot())).and_then(|slot| slot.peek().ok());
    let replica = *replica;
    slot.into_iter().flat_map(|slot| slot.claims).filter(move |claim| claim.replica == replica)
}

/// Whether a change, or one whose clock covers it, is in `changes`.
fn is_kept(old: &RawChange, changes: &[RawChange]) -> bool {
    let Ok(old_body) = old.change.peek() else { return false };
    changes.iter().any(|new| {
        let seen =
            |body: &shoal_protocol::model::ChangeBody| body.clock.get(&old_body.writer).copied();
        new == old
            || new
                .change
                .peek()
                .is_ok_and(|body| seen(&body).is_some_and(|seen| seen >= old_body.serial))
    })
}
