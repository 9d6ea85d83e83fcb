//! Admitting a node: the request of a joining node, and the answer of a member.

use std::time::Duration;

use crate::model::{
    Chain, Change, Key, Lane, NodeId, NodeRecord, PublicKey, RawChange, Role, Signed, Time,
    Unverified,
};
use crate::trust::{self, serial_at, serial_time};

use super::Node;
use super::contract::Action;
use super::message::{MAX_CHANGES, MAX_LINEAGE, Message};
use super::saving::Then;

/// The time that a member has to admit this node before another one is asked.
pub(super) const JOIN_RETRY: Duration = Duration::from_secs(2);
/// Members whose admission goes with that of a joining node. The joining node learns of the others
/// by comparison.
const MAX_INTRODUCED: usize = 16;
/// How far a member's clock may be behind that of the node where an invite was made, milliseconds.
/// A device whose clock was never set knows of no invite whether it has ended.
const MAX_BEHIND: u64 = 10 * 60 * 1000;

impl Node {
    /// Asks `peer` to admit this node, with a ticket for that peer alone.
    pub(super) fn ask_to_join(&mut self, now: Time, peer: NodeId) {
        if self.is_expelled() {
            return;
        }
        let (Some(invite), Some(record)) =
            (&self.identity.invite, self.membership.record(&self.me))
        else {
            return;
        };
        let record = record.wire();
        let serial = serial_at(self.wall(now));
        let ticket =
            trust::ticket(&self.identity.genesis, &invite.keys, PublicKey(peer.0), self.me, serial);
        let chain = invite.chain.with(ticket);
        self.say(peer, Message::Join { record, chain });
        self.reach.join_at = Some(now + JOIN_RETRY);
    }

    pub(super) fn retry_join(&mut self, now: Time) {
        if self.reach.join_at.is_none_or(|at| at > now) {
            return;
        }
        self.reach.join_at = None;
        if !self.admitted() {
            let links: Vec<NodeId> = self.doors.peers().collect();
            if let Some(index) = super::planning::random_index(&mut self.device.rng, links.len()) {
                self.ask_to_join(now, links[index]);
            }
        }
    }

    /// A node asks to be admitted.
    pub(super) fn on_join(
        &mut self,
        now: Time,
        from: NodeId,
        record: Unverified<NodeRecord>,
        chain: Chain,
    ) {
        let Ok(record) = record.verify(&self.cluster) else {
            return self.on_garbage(now, from, "a join that is not signed");
        };
        if NodeId(record.by().0) != from || !self.admitted() || !self.doors.is_closed(&from) {
            return;
        }
        if self.is_member(&from) {
            return self.send_admission(now, from, record);
        }
        if !self.budgets.join(now) {
            return; // it asks again
        }
        match self.judge_join(now, from, &chain) {
            Ok(change) => self.admit(now, from, change, record),
            Err(why) => {
                self.emit_not_admitted(now, from, &why);
                self.refuse_peer(from, why, Vec::new());
            }
        }
    }

    /// The admission of a device that shows this invite, or why it is not let in.
    fn judge_join(&self, now: Time, from: NodeId, chain: &Chain) -> Result<Change, String> {
        if let Some(why) = &self.saving.read_only {
            return Err(format!("this node takes no changes: {why}. Join through another one"));
        }
        let (here, serial) = (self.wall(now), self.next_serial(now));
        let grants = chain.grants();
        let invite = grants.iter().rev().nth(1).and_then(|it| it.peek().ok());
        let Some(invite) = invite else { return Err("the invite has no grant".into()) };
        let Role::Inviter { uses, .. } = invite.role else {
            return Err("what the device shows is no invite".into());
        };
        let made = serial_time(invite.serial);
        if here.0.saturating_add(MAX_BEHIND) < made.0 {
            return Err(format!(
                "the clock of the node that answered says {here}, and the invite was made at \
                    {made}: set that clock, or join through another node"
            ));
        }
        let change = trust::admit(&self.identity.genesis, &self.identity.keys, chain, from, serial);
        let change = change.map_err(|why| match why {
            trust::Rejection::Never(trust::Fault::Expired { expires, at, .. }) => format!(
                "the invite ended at {expires}, and the clock of the node that answered says {at}: \
                    make a new one with `shoal invite` (or set the clock, if that is wrong)"
            ),
            why => format!("the invite does not hold: {why}"),
        })?;
        if self.desired.revoked().contains_key(&PublicKey(from.0)) {
            return Err("this node was revoked: join with an empty state folder, as another".into());
        }
        if let Some(why) = self.desired.barred(&change) {
            return Err(format!("the invite does not hold: {why}"));
        }
        let (used, first) = self.desired.invite_uses(&invite.subject);
        if used >= usize::try_from(uses).unwrap_or(usize::MAX) {
            let by = first.map(|it| format!(" by {}", self.name_of(&it))).unwrap_or_default();
            return Err(format!(
                "the invite was used already{by}: make a new one with `shoal invite` (--uses N for \
                    several devices)"
            ));
        }
        Ok(change)
    }

    /// The serial of an admission: by this node's clock, and above that of its own.
    fn next_serial(&self, now: Time) -> u64 {
        let own = self.desired.effective(&Self::member_key(self.me));
        let own = own.map_or(0, |change| change.signed.serial);
        serial_at(self.wall(now)).max(own + 1)
    }

    /// Takes an admission. It takes effect, and the node gets it, once it is on disk.
    fn admit(&mut self, now: Time, node: NodeId, change: Change, record: Signed<NodeRecord>) {
        if self.saving.is_staged(&Self::member_key(node).hash()) {
            return; // the node asks again because this disk is slow
        }
        if let Err(refusal) = self.stage(now, change, Then::Admit(node, Box::new(record))) {
            self.emit_not_admitted(now, node, &refusal.to_string());
            self.refuse_peer(node, refusal.to_string(), Vec::new());
        }
    }

    /// Tells a joining node that it is a member. Its admission is on disk.
    pub(super) fn send_admission(&mut self, now: Time, from: NodeId, record: Signed<NodeRecord>) {
        if !self.is_member(&from) {
            // Another device used the same invite before it.
            let why = "the invite was used by another device before".to_owned();
            return self.refuse_peer(from, why, Vec::new());
        }
        if self.desired.revocations().next().is_some() {
            self.send_revocations(from, false);
        }
        let own = self.desired.item(&Self::member_key(from).hash());
        // With the members that lead from this one to an operator, and some others, so that the
        // joining node can look for them if this node dies in the next moment.
        let mut lineage = self.desired.lineage(self.me, MAX_LINEAGE);
        lineage.reverse();
        let others = self.membership.up().filter(|node| *node != self.me && *node != from);
        let others = others
            .take(MAX_INTRODUCED)
            .flat_map(|node| self.desired.item(&Self::member_key(node).hash()));
        let changes = lineage.into_iter().chain(own).chain(others).take(MAX_CHANGES).collect();
        self.outbox.push(Action::Send {
            to: from,
            lane: Lane::Urgent,
            message: Message::Admitted { changes },
        });
        self.open_door(now, from);
        self.with_membership(now, |room, now, out| room.handle_record(now, record, out));
    }

    pub(super) fn on_admitted(&mut self, now: Time, from: NodeId, changes: Vec<RawChange>) {
        if self.admitted() {
            return;
        }
        let genesis = self.identity.genesis;
        let mut changes: Vec<Change> = changes
            .into_iter()
            .take(MAX_CHANGES)
            .filter_map(|raw| trust::accept(&genesis, raw).ok())
            .filter(|change| matches!(change.signed.key, Key::Member(_)))
            .collect();
        // A member's own admission comes before those that it made.
        changes.sort_by_key(|change| change.signed.serial);
        for change in changes {
            _ = self.apply_change(now, change);
        }
        if self.admitted() && self.is_member(&from) {
            self.reach.refused = None;
            self.open_door(now, from);
        }
        // The others learn now who this node is.
        if self.admitted() {
            for peer in self.doors.peers().collect::<Vec<_>>() {
                self.greet(peer);
            }
        }
    }
}
