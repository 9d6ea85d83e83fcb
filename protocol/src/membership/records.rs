//! Records of nodes, and the incarnations by which a living node refutes its death.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Bucket, Digest, NodeId, NodeRecord, Signed, Time};

use super::evidence::Cause;
use super::members::Liveness;
use super::message::{MAX_ADDRESS, MAX_COUNTER, Message, Notice, is_printable, is_within_bounds};
use super::reachability::AnnouncedUnreachable;
use super::{Cx, Fact, Membership, Profile, Reason, Worth};

/// This node's own record, incarnation and refutations.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The incarnation in use: on disk, and in every record and goodbye.
    incarnation: u64,
    /// The incarnation last asked to be put on disk; at least `incarnation`.
    asked: u64,
    /// The highest known counter of a record of this node.
    counter: u64,
    profile: Option<Profile>,
    record: Option<Signed<NodeRecord>>,
    /// Unreachable members that the record names.
    pub announced: AnnouncedUnreachable,
    /// The state at other nodes that this node must outdo: a counter, and its incarnation that is
    /// down or used.
    challenge: Option<(u64, Option<u64>)>,
    /// It said goodbye, so it no longer dials or suspects others.
    pub said_goodbye: bool,
    /// The earliest time at which the next challenge may be answered.
    reissue_from: Time,
    /// The pace of refutations.
    refutations: Refutations,
    /// How often a record of this node that it did not write may be outdone. A lost disk is noticed
    /// at once; against another device with a copy of the key no number of records wins.
    rebuttals: Bucket,
    /// Whether `Fact::Contested` was sent.
    is_contested: bool,
}

/// The pace of this node's refutations. If few nodes can reach it and its observers cannot, it is
/// lost again as often as it refutes, and each time all that it runs is placed anew: so it refutes
/// more and more rarely.
#[derive(Clone, Debug, Default)]
struct Refutations {
    /// The time of the last refutation; none yet in this process.
    last: Option<Time>,
    /// How long after it the next one may be.
    pause: Duration,
    /// The nodes that call it down, until that is refuted.
    accusers: BTreeSet<NodeId>,
    /// Whether `Fact::RefutationDelayed` was sent for the next one.
    is_told: bool,
}

impl Refutations {
    /// The pause after the second refutation in a row. It doubles with each further one.
    const FIRST: Duration = Duration::from_secs(4);
    const MOST: Duration = Duration::from_secs(60);
    /// If the last refutation is longer ago than this and the pause, the next begins a new row.
    const CALM: Duration = Duration::from_secs(30);

    /// The earliest time of the next refutation.
    fn next(&self, now: Time) -> Time {
        self.last.map_or(now, |last| last + self.pause)
    }

    fn refuted(&mut self, now: Time) {
        let is_row = self.last.is_some_and(|last| now.since(last) < Self::CALM + self.pause);
        self.pause =
            if is_row { (self.pause * 2).clamp(Self::FIRST, Self::MOST) } else { Duration::ZERO };
        (self.last, self.is_told) = (Some(now), false);
        self.accusers.clear();
    }
}

/// Rebuttals at once, and the pause between further ones. Each costs a disk write.
const REBUTTALS: (u32, Duration) = (8, Duration::from_secs(60));

impl Own {
    pub fn new(incarnation: u64) -> Own {
        Own {
            incarnation,
            asked: incarnation,
            counter: 0,
            profile: None,
            record: None,
            announced: AnnouncedUnreachable::default(),
            challenge: None,
            said_goodbye: false,
            reissue_from: Time::ZERO,
            refutations: Refutations::default(),
            rebuttals: Bucket::new(REBUTTALS.0, REBUTTALS.1),
            is_contested: false,
        }
    }

    /// The state of a node that has long been up with this record.
    pub fn with_record(record: Signed<NodeRecord>) -> Own {
        // It finds out anew which members it cannot reach.
        let NodeRecord {
            counter,
            incarnation,
            name,
            addresses,
            facts,
            version,
            ready,
            leaving,
            no_way_to: _,
        } = record.body().clone();
        let profile = Profile { name, addresses, facts, version, ready, leaving };
        Own { counter, profile: Some(profile), record: Some(record), ..Own::new(incarnation) }
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn record(&self) -> Option<&Signed<NodeRecord>> {
        self.record.as_ref()
    }
}

/// The source of a record, which decides what it proves about its node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// From the node itself, first thing over a link.
    Hello,
    /// From the node itself, later over a link.
    Itself,
    /// By gossip, so it was issued a moment ago; or from a peer that holds the node to be up.
    Gossip,
    /// From this node's or another node's disk: it proves nothing.
    Stored,
}

impl Membership {
    pub(super) fn on_profile(&mut self, cx: &mut Cx<'_>, mut profile: Profile) {
        for text in [&mut profile.name, &mut profile.version, &mut profile.facts.arch] {
            // Others would refuse the whole record.
            *text = text.replace(char::is_control, "?");
        }
        profile.addresses.retain(|address| address.len() <= MAX_ADDRESS && is_printable(address));
        profile.addresses.truncate(crate::model::record::MAX_ADDRESSES);
        if self.own.profile.as_ref() != Some(&profile) {
            self.own.profile = Some(profile);
            self.issue(cx);
        }
    }

    /// Signs the next record, keeps it, and sends it to all.
    pub(super) fn issue(&mut self, cx: &mut Cx<'_>) {
        let Some(profile) = self.own.profile.clone() else { return };
        self.own.counter += 1;
        let record = NodeRecord {
            counter: self.own.counter,
            incarnation: self.own.incarnation,
            name: profile.name,
            addresses: profile.addresses,
            facts: profile.facts,
            version: profile.version,
            ready: profile.ready,
            leaving: profile.leaving,
            no_way_to: self.own.announced.nodes.iter().copied().collect(),
        };
        let record = Signed::sign(record, &self.keys, &self.cluster);
        let wire = record.wire();
        self.own.record = Some(record);
        cx.facts.push(Fact::Record { node: self.me });
        // Over the links as well: a peer that holds this node to be down must not wait for gossip.
        let linked: Vec<NodeId> = self.links().collect();
        for peer in linked {
            cx.out.send(peer, Message::Record(wire.clone()));
        }
        cx.out.broadcast(Message::Record(wire));
    }

    /// Gossips the record again: nodes without a link to this one know only from gossip that it
    /// started.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        if let Some(record) = &self.own.record {
            cx.out.broadcast(Message::Record(record.wire()));
        }
    }

    pub(super) fn on_incarnation_stored(&mut self, cx: &mut Cx<'_>, incarnation: u64) {
        if incarnation > self.own.incarnation {
            self.own.incarnation = incarnation;
            self.own.asked = self.own.asked.max(incarnation);
            self.issue(cx);
        }
    }

    /// Others hold something that this node must outdo: a record that it does not know (a disk was
    /// lost or cloned), or its death in incarnation `spent`. Answers are limited: a peer that
    /// repeats it must not wear out the disk.
    pub(super) fn challenged(&mut self, cx: &mut Cx<'_>, counter: u64, spent: Option<u64>) {
        let (known, before) = self.own.challenge.unwrap_or_default();
        self.own.challenge = Some((known.max(counter), before.max(spent)));
        self.answer_challenge(cx);
    }

    /// The nodes `by` called this node down in `incarnation`.
    pub(super) fn on_called_down(
        &mut self,
        cx: &mut Cx<'_>,
        incarnation: u64,
        by: BTreeSet<NodeId>,
    ) {
        self.own.refutations.accusers = by;
        self.challenged(cx, 0, Some(incarnation));
    }

    /// The earliest time at which a challenge that names this incarnation may be answered.
    fn may_answer(&self, now: Time, spent: Option<u64>) -> Time {
        let is_news = spent.is_some_and(|spent| spent >= self.own.asked);
        let accusers = &self.own.refutations.accusers;
        let met = accusers.iter().filter(|node| self.has_link(node)).count();
        // If it has links to at least half of the accusers, they lost it for another reason than a
        // missing path: no pause. With no accuser the challenge is a record to be outdone.
        let refutations =
            if is_news && 2 * met < accusers.len() { self.own.refutations.next(now) } else { now };
        self.own.reissue_from.max(refutations)
    }

    /// Answers a challenge as soon as that is allowed.
    pub(super) fn answer_challenge(&mut self, cx: &mut Cx<'_>) {
        let Some((counter, spent)) = self.own.challenge.filter(|_| !self.own.said_goodbye) else {
            return;
        };
        let at = self.may_answer(cx.now, spent);
        if at > cx.now {
            if at > self.own.reissue_from
                && !std::mem::replace(&mut self.own.refutations.is_told, true)
            {
                cx.facts.push(Fact::RefutationDelayed { until: at });
            }
            self.timers.set(Reason::Reissue, at);
            return;
        }
        self.own.challenge = None;
        self.own.reissue_from = cx.now + self.config.records.reissue_every;
        self.own.counter = self.own.counter.max(counter);
        match spent {
            // The record follows once the incarnation is on disk: a node that forgot an incarnation
            // that it used could not be outdone.
            Some(spent) if spent >= self.own.asked => {
                self.own.asked = spent + 1;
                if !self.own.refutations.accusers.is_empty() {
                    self.own.refutations.refuted(cx.now);
                }
                cx.facts.push(Fact::Incarnation(self.own.asked));
            }
            Some(spent) if spent >= self.own.incarnation => {} // on its way to the disk
            Some(_) | None => self.issue(cx),
        }
    }

    pub(super) fn on_record(
        &mut self,
        cx: &mut Cx<'_>,
        record: Signed<NodeRecord>,
        source: Source,
    ) -> Worth {
        if !is_within_bounds(&record) {
            return Worth::Reject;
        }
        let node = NodeId(record.by().0);
        if node == self.me {
            return self.on_own_record(cx, &record);
        }
        let Some(member) = self.members.get(&node) else {
            // This may be a member whose admission has not come yet. Its link keeps its record;
            // sync brings those of others again.
            let link = self.paths.get_mut(&node).and_then(|path| path.link.as_mut());
            if let (Some(link), Source::Hello | Source::Itself) = (link, source) {
                link.hello = Some(record);
            }
            return Worth::Ignore;
        };
        let (incarnation, hash) = (record.incarnation, record.hash());
        let is_new = match &member.record {
            None => true,
            Some(known) => (record.counter, record.hash()) > (known.counter, known.hash()),
        };
        if is_new && source != Source::Stored && self.is_beyond_budget(cx.now, &node) {
            return Worth::Ignore; // comparison brings its last one
        }
        let Some(member) = self.members.get(&node) else { return Worth::Ignore };
        let before =
            member.record.as_ref().map(|known| known.addresses.clone()).unwrap_or_default();
        let moved = is_new && member.record.is_some() && before != record.addresses;
        let (highest, may_be_raised) = (
            member.incarnation,
            matches!(member.liveness, Liveness::Up | Liveness::Unknown { .. }),
        );
        if is_new {
            if let Some(member) = self.members.get_mut(&node) {
                member.record = Some(record);
                member.was_gossiped = source == Source::Gossip;
            }
            cx.facts.push(Fact::Record { node });
            if moved {
                cx.facts.push(Fact::Moved { node, before });
            }
        } else if let (Some(known), Source::Hello) = (&member.record, source)
            && known.hash() != record.hash()
        {
            // It lost its disk: once it has its known record it issues one above it.
            cx.out.send(node, Message::Record(known.wire()));
        }
        let may_raise = source != Source::Stored || may_be_raised;
        if incarnation > highest && may_raise {
            self.raise_incarnation(node, incarnation);
            self.on_new_incarnation(cx, node, source);
        } else if incarnation == highest && (is_new || source == Source::Hello) {
            self.on_same_incarnation(cx, node, source);
        }
        if moved {
            // Its new addresses count afresh.
            self.answerers.remove(&node);
        }
        if moved && !self.has_link(&node) && self.may_move(cx.now, &node) {
            self.dial_anew(cx, node);
        } else if is_new
            && self.wanted.contains(&node)
            && !self.has_link(&node)
            && !self.timers.is_set(Reason::Dial(node))
        {
            self.dial_soon(cx, node); // there may have been no address before
        }
        if is_new || self.relay_once(&node, &hash, source) { Worth::Relay } else { Worth::Ignore }
    }

    /// Whether this member has issued its record too often.
    fn is_beyond_budget(&mut self, now: Time, node: &NodeId) -> bool {
        self.members.get_mut(node).is_some_and(|member| member.records.take(now).is_err())
    }

    /// Whether this member's new addresses are dialled at once. If not, they are at its next dial.
    fn may_move(&mut self, now: Time, node: &NodeId) -> bool {
        self.members.get_mut(node).is_some_and(|member| member.moves.take(now).is_ok())
    }

    /// Whether a known record is to be relayed: once, if it came over a link before gossip brought
    /// it.
    fn relay_once(&mut self, node: &NodeId, hash: &Digest, source: Source) -> bool {
        let is_first = self.members.get(node).is_some_and(|member| {
            !member.was_gossiped
                && member.record.as_ref().is_some_and(|known| known.hash() == *hash)
        });
        let relay_once = is_first && source == Source::Gossip;
        if relay_once && let Some(member) = self.members.get_mut(node) {
            member.was_gossiped = true;
        }
        relay_once
    }

    fn on_own_record(&mut self, cx: &mut Cx<'_>, record: &Signed<NodeRecord>) -> Worth {
        let ours = (self.own.counter, self.own.record.as_ref().map(Signed::hash));
        if (record.counter, Some(record.hash())) <= ours {
            return Worth::Ignore;
        }
        // No incarnation is used twice, so a lower one is of an earlier life of this very node.
        // Each peer sends it after a quick restart: it is outdone, and no sign of another device.
        if record.incarnation < self.own.incarnation {
            self.challenged(cx, record.counter, None);
            return Worth::Ignore;
        }
        // Several peers may send the same while the answer waits.
        let is_known = self.own.challenge.is_some_and(|(counter, spent)| {
            counter >= record.counter && spent >= Some(record.incarnation)
        });
        if is_known {
            return Worth::Ignore;
        }
        if self.own.rebuttals.take(cx.now).is_err() {
            if !std::mem::replace(&mut self.own.is_contested, true) {
                cx.facts.push(Fact::Contested);
            }
            return Worth::Ignore;
        }
        self.challenged(cx, record.counter, Some(record.incarnation));
        Worth::Ignore
    }

    /// A higher incarnation beats all that was said of lower ones.
    fn on_new_incarnation(&mut self, cx: &mut Cx<'_>, node: NodeId, source: Source) {
        let Some(member) = self.members.get(&node) else { return };
        match member.liveness {
            // Records from the disk prove nothing about members that were not heard of yet.
            Liveness::Unknown { .. } if source == Source::Stored => {}
            Liveness::Unknown { .. } | Liveness::BackBy(_) | Liveness::Down(_) => {
                self.mark_up(cx, node)
            }
            Liveness::Up => {
                // It restarted before it was called down. Whatever was seen was the end of its
                // former process.
                self.drop_suspicion(cx, &node);
                self.forget_failed_dials(cx, &node);
                if let Some(path) = self.paths.get_mut(&node) {
                    path.refused = false;
                    path.closed_at = None;
                    path.failures = 0;
                }
                self.expect_beat(cx, node);
            }
        }
        if self.wanted.contains(&node) {
            self.dial_soon(cx, node);
        }
    }

    /// The record of a node that is down, from a peer that sends it with the notice.
    pub(super) fn on_last_record(
        &mut self,
        cx: &mut Cx<'_>,
        record: Signed<NodeRecord>,
        notice: &Notice,
    ) {
        let node = NodeId(record.by().0);
        let is_of_it =
            node == notice.subject && record.incarnation == notice.incarnation && node != self.me;
        if is_of_it && is_within_bounds(&record) && self.members.contains_key(&node) {
            self.on_record(cx, record, Source::Stored);
        }
    }

    /// A record of the known incarnation.
    fn on_same_incarnation(&mut self, cx: &mut Cx<'_>, node: NodeId, source: Source) {
        let Some(member) = self.members.get(&node) else { return };
        match (&member.liveness, source) {
            (_, Source::Stored) | (Liveness::Up, _) => {}
            // It said goodbye, and records from before may come later. Only a new link shows that
            // it stayed.
            (Liveness::BackBy(_), Source::Itself | Source::Gossip) => {}
            (Liveness::Down(down), Source::Itself | Source::Gossip)
                if down.why.cause == Cause::Goodbye => {}
            (Liveness::Unknown { .. }, _) | (Liveness::BackBy(_), Source::Hello) => {
                self.mark_up(cx, node)
            }
            (Liveness::Down(down), _) if down.notice.is_none() => self.mark_up(cx, node),
            (Liveness::Down(_), Source::Hello | Source::Itself) => self.notify_down(cx, node),
            (Liveness::Down(_), Source::Gossip) => {}
        }
    }

    /// Whether an incarnation is so low that adding one cannot overflow.
    pub(super) fn is_valid_incarnation(incarnation: u64) -> bool {
        incarnation < MAX_COUNTER
    }

    /// The key of a node's record in sync.
    pub fn item_key(node: &NodeId) -> Digest {
        Digest::of(node.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refutation_pauses_grow_to_a_minute_and_reset_when_calm() {
        let (mut refutations, mut now) =
            (Refutations::default(), Time::ZERO + Duration::from_secs(100));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            refutations.refuted(now);
            pauses.push(refutations.next(now).since(now).as_secs());
            now = refutations.next(now) + Duration::from_secs(7);
        }
        assert_eq!(pauses, [0, 4, 8, 16, 32, 60, 60, 60]);
        now = now + Duration::from_secs(60);
        assert!(refutations.next(now) <= now, "the pause is over");
        refutations.refuted(now);
        assert_eq!(refutations.next(now), now, "the second of a new row waits for nothing");
    }
}
