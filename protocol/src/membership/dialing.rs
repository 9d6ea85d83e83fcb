//! Which members should be linked, and who dials when.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::rand_core::RngCore;

use crate::model::{NodeId, Time};

use super::evidence::{Cause, SuspicionCause};
use super::members::Liveness;
use super::message::{Message, ProbeIntent};
use super::observers::{MAX_WALK, shortcut_points};
use super::paths::Link;
use super::{Cx, DialFailure, Membership, Reason};

/// How long after the first link this node's record is gossiped again. Sooner on a device that has
/// moved: others may know it under addresses that lead nowhere.
const ANNOUNCE: Duration = Duration::from_secs(1);
const ANNOUNCE_MOVED: Duration = Duration::from_millis(300);
/// How long this node beats to a peer that probes it: the peer watches it.
const WATCHED: Duration = Duration::from_secs(10);

/// A link that is lost sooner was of no use: the network comes and goes, or two devices with one
/// key take the links from one another. After [`BRIEF_FORGIVEN`] of those in a row there is a pause
/// before each dial.
const BRIEF: Duration = Duration::from_secs(5);
const BRIEF_FORGIVEN: u32 = 3;
/// A link over which a message came within so long is in use.
const IN_USE: Duration = Duration::from_secs(1);

impl Membership {
    /// Updates which members watch this node, which it watches, and which should be linked. The
    /// cost does not grow with the roster.
    pub(super) fn refresh_topology(&mut self, cx: &mut Cx<'_>) {
        let (ahead, watchers) = self.walk(true);
        let (behind, _) = self.walk(false);
        // This node watches the members that have it among their first live successors: all those
        // that the walk back passed.
        let watched: BTreeSet<NodeId> =
            behind.iter().copied().filter(|node| !self.is_down(node)).collect();
        let mut wanted: BTreeSet<NodeId> = if self.salt.is_none() {
            BTreeSet::new()
        } else if self.members.len() < self.config.links.full_mesh {
            self.members.keys().copied().collect()
        } else {
            let fit = |node: &NodeId| *node != self.me && self.is_up(node);
            let shortcuts =
                self.shortcuts.iter().filter_map(|points| self.circle.nearest(points, fit));
            ahead.into_iter().chain(behind).chain(shortcuts).collect()
        };
        wanted.extend(self.random_contacts.iter().filter(|node| self.members.contains_key(*node)));
        wanted.extend(self.on_demand.keys().filter(|node| self.members.contains_key(*node)));
        if self.is_isolated() {
            self.timers.set_by(Reason::Explore, cx.now + self.config.dialing.redial_most);
        }
        self.watchers = watchers;
        self.set_watched(cx, watched);
        self.set_wanted(cx, wanted);
    }

    /// Members one way around the circle until as many live ones as a node has observers were
    /// passed; and those live ones.
    fn walk(&self, ahead: bool) -> (Vec<NodeId>, BTreeSet<NodeId>) {
        let Some(salt) = self.salt else { return Default::default() };
        let (mut passed, mut live) = (Vec::new(), BTreeSet::new());
        let mut unknown = 0;
        let mut step = |node: NodeId| {
            passed.push(node);
            match self.members.get(&node).map(|member| &member.liveness) {
                Some(Liveness::Up) => {
                    live.insert(node);
                }
                // At boot all are unknown. Some will answer and tell of the others.
                Some(Liveness::Unknown { .. }) => unknown += 1,
                Some(Liveness::BackBy(_) | Liveness::Down(_)) | None => {}
            }
            live.len() < self.config.probe.quorum_size()
                && unknown < 4 * self.config.probe.quorum_size()
        };
        if ahead {
            let _ = self.circle.after(self.me, salt).take(MAX_WALK).all(&mut step);
        } else {
            let _ = self.circle.before(self.me, salt).take(MAX_WALK).all(&mut step);
        }
        (passed, live)
    }

    fn set_watched(&mut self, cx: &mut Cx<'_>, watched: BTreeSet<NodeId>) {
        let before = std::mem::take(&mut self.watched);
        for node in watched {
            let since = before.get(&node).copied();
            self.watched.insert(node, since.unwrap_or(cx.now));
            if since.is_none() {
                self.expect_beat(cx, node);
            }
        }
    }

    /// Sets the deadline by which a watched node must have been heard; without a link it is later.
    pub(super) fn expect_beat(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if self.watched.contains_key(&node) {
            let wait = if self.has_link(&node) {
                self.config.probe.beat
            } else {
                self.config.suspicion.silent_after
            };
            self.timers.set(Reason::Quiet(node), cx.now + wait);
        }
    }

    fn set_wanted(&mut self, cx: &mut Cx<'_>, wanted: BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        for node in before.difference(&self.wanted) {
            if !self.dialling.contains(node) {
                self.timers.clear(Reason::Dial(*node));
            }
        }
        let new: Vec<NodeId> = self.wanted.difference(&before).copied().collect();
        for node in new {
            self.dial_soon(cx, node);
        }
    }

    /// Whether all neighbours are out of reach, in a cluster above a full mesh.
    fn is_isolated(&self) -> bool {
        self.members.len() >= self.config.links.full_mesh
            && self.links().count() < self.config.probe.quorum_size()
    }

    /// Dials random members until there are enough links to hear of the others.
    pub(super) fn explore(&mut self, cx: &mut Cx<'_>) {
        self.random_contacts.clear();
        if self.is_isolated() {
            for _ in 0..self.config.links.random {
                let point = self.rng.next_u64();
                self.random_contacts.extend(
                    self.circle.nearest(&shortcut_points(&self.me, point), |node| *node != self.me),
                );
            }
            self.timers.set(Reason::Explore, cx.now + self.config.dialing.redial_most);
        }
        self.unsettled_topology = true;
    }

    /// Dials now if this node is the one to dial first, else after the crossing delay. Both ends of
    /// a lost link notice at once, and two dials that cross make two connections.
    pub(super) fn dial_soon(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if self.has_link(&node) || self.dialling.contains(&node) {
            return;
        }
        if self.me < node || self.local_health.has_moved(cx.now) {
            self.dial(cx, node);
        } else {
            let delay = self.crossing_delay(&node);
            self.timers.set_by(Reason::Dial(node), cx.now + delay);
        }
    }

    fn crossing_delay(&self, node: &NodeId) -> Duration {
        match self.rtt(node) {
            // A handshake takes some five round trips.
            Some(rtt) => {
                self.config.dialing.crossing_delay.max(rtt * 6).min(Duration::from_secs(5))
            }
            None => self.config.dialing.crossing_delay_unknown,
        }
    }

    /// Dials, or gives up a dial whose outcome was not reported in time.
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if self.has_link(&node) {
            return;
        }
        if let Some(since) = self.paths.get(&node).and_then(|path| path.dialling) {
            let lost_at = since + self.config.dialing.lost_after;
            if cx.now >= lost_at {
                self.on_dial_failed(cx, node, DialFailure::TimedOut);
            } else {
                self.timers.set(Reason::Dial(node), lost_at);
            }
            return;
        }
        let is_dialled_for = self.wanted.contains(&node) || self.suspicions.contains_key(&node);
        if !is_dialled_for || self.own.said_goodbye || self.addresses(&node).is_empty() {
            return; // a record or a sighting leads back here
        }
        if self.dialling.len() >= self.config.dialing.max {
            let later = self.config.probe.every + self.jitter(self.config.probe.every);
            self.timers.set(Reason::Dial(node), cx.now + later);
            return;
        }
        self.dialling.insert(node);
        self.paths.entry(node).or_default().dialling = Some(cx.now);
        self.timers.set(Reason::Dial(node), cx.now + self.config.dialing.lost_after);
        cx.out.dial(node);
    }

    pub(super) fn on_dial_failed(&mut self, cx: &mut Cx<'_>, node: NodeId, how: DialFailure) {
        if !self.members.contains_key(&node) || self.has_link(&node) {
            return; // the node was removed, or the peer's own dial succeeded
        }
        // If other nodes answer at all its addresses, the refusal is theirs.
        let refused = how == DialFailure::Refused && !self.is_displaced(&node);
        let path = self.paths.entry(node).or_default();
        path.dialling = None;
        self.dialling.remove(&node);
        if std::mem::take(&mut path.dial_again) {
            // The dial went to old addresses, where another device may have refused.
            self.timers.clear(Reason::Dial(node));
            self.dial(cx, node);
            return;
        }
        path.failures = path.failures.saturating_add(1);
        path.refused = refused;
        let failures = path.failures;
        self.note_failed_dial(cx, node, how);
        // The other end may not have noticed the loss of the old link yet, and refuses a second one
        // until it has.
        let most = if self.local_health.has_moved(cx.now) { 1 } else { 16 };
        let doublings = failures.saturating_sub(1).min(most);
        let pause = (self.config.dialing.redial_first * (1 << doublings))
            .min(self.config.dialing.redial_most);
        let pause = pause * 3 / 4 + self.jitter(pause / 2);
        let is_first = self.me < node || self.local_health.has_moved(cx.now);
        let delay = if is_first { Duration::ZERO } else { self.crossing_delay(&node) };
        self.timers.set(Reason::Dial(node), cx.now + pause + delay);
        self.unjudged = true;
        if self.is_neighbour(&node) {
            self.suspect(cx, node, SuspicionCause::NoLink);
        }
        if self.on_demand.remove(&node).is_some() {
            self.unsettled_topology = true; // the pending messages were dropped
        }
        self.dial_pending(cx);
    }

    pub(super) fn on_link_up(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        if peer == self.me {
            return;
        }
        // While one member returns, others may be returning that this node or the peer does not see
        // yet.
        let is_returning = self
            .members
            .get(&peer)
            .is_some_and(|member| matches!(member.liveness, Liveness::Down(_)));
        let repair_gap = if is_returning {
            self.config.records.repair_soon()
        } else {
            self.config.records.repair_after
        };
        let path = self.paths.entry(peer).or_default();
        path.link = Some(Link::new(cx.now, repair_gap));
        path.dialling = None;
        path.dial_again = false;
        path.failures = 0;
        path.closed_at = None;
        path.heard(cx.now);
        self.on_reached(&peer);
        self.dialling.remove(&peer);
        self.forget_failed_dials(cx, &peer);
        self.timers.clear(Reason::Dial(peer));
        // Questions to this peer over its former link were lost: it is asked anew.
        self.suspicions.values_mut().for_each(|suspicion| _ = suspicion.waiting.remove(&peer));
        if self.links().nth(1).is_none() {
            // This is the first link, and gossip needs a moment before it reaches others.
            let pause = if self.local_health.has_moved(cx.now) { ANNOUNCE_MOVED } else { ANNOUNCE };
            let pause = pause + self.jitter(pause);
            self.timers.set(Reason::Announce, cx.now + pause);
        }
        let record = self.own.record().map(|record| record.wire());
        cx.out.send(peer, Message::Hello { record, settled: self.settled() });
        self.answer_challenge(cx);
        self.probe(cx, peer, ProbeIntent::None);
        let jitter = self.jitter(self.config.probe.rtt_every);
        self.timers.set(Reason::Rtt(peer), cx.now + self.config.probe.rtt_every / 2 + jitter);
        self.expect_beat(cx, peer);
        match self.members.get(&peer).map(|member| &member.liveness) {
            Some(Liveness::Unknown { .. }) => self.mark_up(cx, peer),
            // Down for this node alone, and here it is. If it has a new incarnation its hello will
            // tell.
            Some(Liveness::Down(down))
                if down.notice.is_none() && down.why.cause != Cause::Goodbye =>
            {
                self.mark_up(cx, peer)
            }
            // Its hello shows whether this is the incarnation that is down, which must then be
            // told, or a new one.
            Some(Liveness::Down(_) | Liveness::BackBy(_)) | None => {}
            Some(Liveness::Up) => self.drop_suspicion(cx, &peer),
        }
        self.limit_kept_links(&peer);
        self.dial_pending(cx);
        self.prune(cx);
    }

    pub(super) fn on_link_down(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        let Some(path) = self.paths.get_mut(&peer) else { return };
        let Some(link) = path.link.take() else { return };
        let is_brief = cx.now.since(link.since) < BRIEF && !self.local_health.has_moved(cx.now);
        path.brief = if is_brief { path.brief.saturating_add(1) } else { 0 };
        let brief = path.brief;
        let is_alone = self.links().next().is_none();
        let Some(path) = self.paths.get_mut(&peer) else { return };
        if is_alone {
            self.apart_at = cx.now;
        }
        path.closed_at = Some(cx.now);
        path.refused = false;
        for timer in [Reason::Quiet(peer), Reason::Rtt(peer), Reason::Repair(peer)] {
            self.timers.clear(timer);
        }
        self.unjudged = true;
        if self.on_demand.remove(&peer).is_some() {
            // The other end does not need the link any more; the next message makes a new one.
            self.refresh_topology(cx);
        }
        let Some(member) = self.members.get(&peer) else {
            self.paths.remove(&peer);
            return;
        };
        match member.liveness {
            Liveness::Up | Liveness::Unknown { .. } => {
                if self.is_neighbour(&peer) {
                    self.suspect(cx, peer, SuspicionCause::LinkClosed);
                    if brief <= BRIEF_FORGIVEN {
                        self.dial_soon(cx, peer);
                    } else {
                        let doublings = (brief - BRIEF_FORGIVEN).min(16);
                        let pause = (self.config.dialing.redial_first * (1 << doublings))
                            .min(self.config.dialing.redial_most);
                        let pause = pause * 3 / 4 + self.jitter(pause / 2);
                        self.timers.set_by(Reason::Dial(peer), cx.now + pause);
                    }
                }
            }
            Liveness::BackBy(_) | Liveness::Down(_) => {
                if self.wanted.contains(&peer) {
                    let pause = self.config.dialing.redial_first
                        + self.jitter(self.config.dialing.redial_first);
                    self.timers.set(Reason::Dial(peer), cx.now + pause);
                }
            }
        }
    }

    /// A member that returns may show that the network is back: the other members that are down are
    /// dialled soon, at random times.
    pub(super) fn redial_down_members(&mut self, cx: &mut Cx<'_>) {
        let dead: Vec<NodeId> = self
            .wanted
            .iter()
            .copied()
            .filter(|node| self.is_down(node) && !self.has_link(node))
            .collect();
        for node in dead {
            if self.dialling.contains(&node) {
                continue;
            }
            if let Some(path) = self.paths.get_mut(&node) {
                path.failures = 0;
            }
            let pause = self.jitter(self.config.dialing.redial_first * 2);
            self.timers.set_by(Reason::Dial(node), cx.now + pause);
        }
    }

    /// Whether this node does not need the link. A stranger may be about to become a member, and a
    /// node that is not in the roster itself cannot tell.
    pub(super) fn is_spare(&self, now: Time, peer: &NodeId) -> bool {
        let is_used = self.wanted.contains(peer)
            || self.suspicions.contains_key(peer)
            || self.watches_me(now, peer);
        !is_used && self.salt.is_some() && self.members.contains_key(peer)
    }

    /// Closes links that this node does not need when there are too many, those heard longest ago
    /// first. A link in use is kept for a moment: messages on their way over it would be lost.
    pub(super) fn prune(&mut self, cx: &mut Cx<'_>) {
        let links: Vec<NodeId> = self.links().collect();
        let surplus = links.len().saturating_sub(self.config.links.max);
        if surplus == 0 {
            return;
        }
        let heard_at = |peer: &NodeId| {
            self.paths.get(peer).and_then(|path| path.heard_at).unwrap_or(Time::ZERO)
        };
        let spare = links.iter().filter(|peer| self.is_spare(cx.now, peer));
        let mut spare: Vec<(Time, NodeId)> = spare.map(|peer| (heard_at(peer), *peer)).collect();
        spare.sort_unstable();
        let at_once = links.len().saturating_sub(2 * self.config.links.max);
        for (number, (heard, peer)) in spare.into_iter().take(surplus).enumerate() {
            let idle_at = heard + IN_USE;
            if number >= at_once && idle_at > cx.now {
                return self.timers.set_by(Reason::OnDemand, idle_at);
            }
            cx.out.hangup(peer);
        }
    }

    /// Whether the peer watches this node: by our reckoning, or because it asked for beats.
    pub(super) fn watches_me(&self, now: Time, peer: &NodeId) -> bool {
        let lease =
            self.paths.get(peer).and_then(|path| path.link.as_ref()).map(|link| link.watched_until);
        self.watchers.contains(peer) || lease.is_some_and(|until| until > now)
    }

    pub(super) fn extend_watch(&mut self, now: Time, peer: &NodeId) {
        if let Some(link) = self.paths.get_mut(peer).and_then(|path| path.link.as_mut()) {
            link.watched_until = now + WATCHED;
        }
    }

    /// Whether this node should have a link with that one, and so reports its loss.
    pub(super) fn is_neighbour(&self, node: &NodeId) -> bool {
        self.watched.contains_key(node) || self.wanted.contains(node)
    }

    pub(super) fn is_down(&self, node: &NodeId) -> bool {
        self.members.get(node).is_some_and(|member| matches!(member.liveness, Liveness::Down(_)))
    }

    /// The observers of a node: the first live members after it on the circle. For a node that is
    /// down, the members that dial it.
    pub fn observers_of(&self, node: &NodeId) -> Vec<NodeId> {
        let salt = if *node == self.me {
            self.salt
        } else {
            self.members.get(node).map(|member| member.salt)
        };
        let Some(salt) = salt else { return Vec::new() };
        let up = self.circle.after(*node, salt).take(MAX_WALK).filter(|other| self.is_up(other));
        up.take(self.config.probe.quorum_size()).collect()
    }

    /// Live members after a node, in order: its possible observers.
    pub(super) fn successors_of(&self, node: &NodeId) -> Vec<NodeId> {
        let Some(member) = self.members.get(node) else { return Vec::new() };
        self.circle
            .after(*node, member.salt)
            .take(MAX_WALK)
            .filter(|other| self.is_up(other))
            .collect()
    }
}
