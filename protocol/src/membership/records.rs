//! What nodes say of themselves, and the incarnations by which the living outdo word of their
//! death.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Bucket, Digest, NodeId, NodeRecord, Signed, Time};

use super::evidence::Cause;
use super::members::Liveness;
use super::message::{MAX_ADDRESS, MAX_COUNTER, Message, Notice, is_within_bounds};
use super::reachability::AnnouncedUnreachable;
use super::{Cx, Fact, Membership, Profile, Reason, Worth};

/// This node's word on itself.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The one in use: on disk, and in every record and goodbye.
    incarnation: u64,
    /// The one asked to be put on disk; at least `incarnation`.
    asked: u64,
    /// The highest known counter of a record of ours.
    counter: u64,
    profile: Option<Profile>,
    record: Option<Signed<NodeRecord>>,
    /// Members without a way that the record names.
    pub announced: AnnouncedUnreachable,
    /// What others know that we must rise above: a counter, and the incarnation that is spent.
    challenge: Option<(u64, Option<u64>)>,
    /// It said goodbye: it dials nobody and doubts nobody any more.
    pub said_goodbye: bool,
    /// Not before then may the next challenge be answered.
    reissue_from: Time,
    /// How often word of its death was taken back.
    refutations: Refutations,
    /// How often a record of ours that we did not write may be outdone: a disk that was lost is
    /// found out at once, and against another device with a copy of our key there is no winning.
    rebuttals: Bucket,
    /// Whether that was told.
    is_contested: bool,
}

/// When this node took word of its death back. Where few can reach it, and its observers cannot, it
/// is lost again as often as it returns, and each time all that it runs is placed anew: so it
/// returns more and more rarely.
#[derive(Clone, Debug, Default)]
struct Refutations {
    /// The last time; none yet in this process.
    last: Option<Time>,
    /// How long after that the next may be.
    pause: Duration,
    /// Who calls it down now, until that is taken back.
    accusers: BTreeSet<NodeId>,
    /// Whether it was told that it waits.
    is_told: bool,
}

impl Refutations {
    /// The pause after the second return of a row. It doubles with each further one.
    const FIRST: Duration = Duration::from_secs(4);
    const MOST: Duration = Duration::from_secs(60);
    /// If the last return is longer ago than that and the pause, the next is of another row.
    const CALM: Duration = Duration::from_secs(30);

    /// Not before then is the next.
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

    /// The word of one that has long been up.
    pub fn with_record(record: Signed<NodeRecord>) -> Own {
        // Which members it has no way to it finds out anew.
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

/// Whence a record came: what it shows of its node's life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Over a link with the node itself, as the first thing.
    Hello,
    /// Over a link with the node itself, later.
    Itself,
    /// By gossip, so it was issued a moment ago; or from a peer that holds its node to be up.
    Gossip,
    /// From a disk, or from somebody's disk: it shows nothing.
    Stored,
}

impl Membership {
    pub(super) fn on_profile(&mut self, cx: &mut Cx<'_>, mut profile: Profile) {
        profile.addresses.retain(|address| address.len() <= MAX_ADDRESS);
        profile.addresses.truncate(crate::model::record::MAX_ADDRESSES);
        if self.own.profile.as_ref() != Some(&profile) {
            self.own.profile = Some(profile);
            self.issue(cx);
        }
    }

    /// Signs the next record, keeps it, and tells everybody.
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
        // Over the links as well: whoever holds us down must not wait for gossip.
        let linked: Vec<NodeId> = self.links().collect();
        for peer in linked {
            cx.out.send(peer, Message::Record(wire.clone()));
        }
        cx.out.broadcast(Message::Record(wire));
    }

    /// Says again who we are: those far away, who have no link with us, know from gossip alone that
    /// we started.
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

    /// Others hold something of us that we must rise above: a record we do not know (a disk was
    /// lost or cloned), or our death in incarnation `spent`. Paced: a peer that repeats it must not
    /// wear out our disk.
    pub(super) fn challenged(&mut self, cx: &mut Cx<'_>, counter: u64, spent: Option<u64>) {
        let (known, before) = self.own.challenge.unwrap_or_default();
        self.own.challenge = Some((known.max(counter), before.max(spent)));
        self.answer_challenge(cx);
    }

    /// These called this node down.
    pub(super) fn on_called_down(
        &mut self,
        cx: &mut Cx<'_>,
        incarnation: u64,
        by: BTreeSet<NodeId>,
    ) {
        self.own.refutations.accusers = by;
        self.challenged(cx, 0, Some(incarnation));
    }

    /// When a challenge may be answered that names this incarnation.
    fn may_answer(&self, now: Time, spent: Option<u64>) -> Time {
        let is_news = spent.is_some_and(|spent| spent >= self.own.asked);
        let accusers = &self.own.refutations.accusers;
        let met = accusers.iter().filter(|node| self.has_link(node)).count();
        // Those that it can talk with lose it for another reason. With no accuser it is a record
        // that is to be outdone.
        let refutations =
            if is_news && 2 * met < accusers.len() { self.own.refutations.next(now) } else { now };
        self.own.reissue_from.max(refutations)
    }

    /// Answers what others hold of this node, as soon as it may.
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
            // The record follows when the disk has it: a node that forgot an incarnation it used
            // could not be outdone.
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
            // A member whose admission has not come yet, perhaps. The link keeps its word; sync
            // brings the others' again.
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
            // It lost its disk: told so, it re-issues above what is known of it.
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
            // It says afresh where it is.
            self.answerers.remove(&node);
        }
        if moved && !self.has_link(&node) {
            self.dial_anew(cx, node);
        } else if is_new
            && self.wanted.contains(&node)
            && !self.has_link(&node)
            && !self.timers.is_set(Reason::Dial(node))
        {
            self.dial_soon(cx, node); // until now there may have been no address
        }
        if is_new || self.relay_once(&node, &hash, source) { Worth::Relay } else { Worth::Ignore }
    }

    /// Whether a record that was known is to be passed on: once, by gossip, if it came over a link
    /// before.
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
        if self.own.rebuttals.take(cx.now).is_err() {
            if !std::mem::replace(&mut self.own.is_contested, true) {
                cx.facts.push(Fact::Contested);
            }
            return Worth::Ignore;
        }
        let spent = (record.incarnation >= self.own.incarnation).then_some(record.incarnation);
        self.challenged(cx, record.counter, spent);
        Worth::Ignore
    }

    /// A higher incarnation beats all that was said of lower ones.
    fn on_new_incarnation(&mut self, cx: &mut Cx<'_>, node: NodeId, source: Source) {
        let Some(member) = self.members.get(&node) else { return };
        match member.liveness {
            // At boot the disk is full of records of lives not heard of yet: they show nothing.
            Liveness::Unknown { .. } if source == Source::Stored => {}
            Liveness::Unknown { .. } | Liveness::BackBy(_) | Liveness::Down(_) => {
                self.mark_up(cx, node)
            }
            Liveness::Up => {
                // Restarted before anybody called it down. What was seen was its former life's end.
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

    /// The record of a life that ended, from a peer that holds its node to be down.
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

    /// A word of the life that is known.
    fn on_same_incarnation(&mut self, cx: &mut Cx<'_>, node: NodeId, source: Source) {
        let Some(member) = self.members.get(&node) else { return };
        match (&member.liveness, source) {
            (_, Source::Stored) | (Liveness::Up, _) => {}
            // It said goodbye, and what it had said before comes later. Only a new link shows that
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

    /// Whether an incarnation is far from where adding one overflows.
    pub(super) fn is_valid_incarnation(incarnation: u64) -> bool {
        incarnation < MAX_COUNTER
    }

    /// The key under which a node's record lies in sync.
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
