//! Members that are up but that this node cannot dial, nor they it: for example two devices behind
//! routers without open ports, both linked to a node that everybody reaches.
//!
//! Only a failed dial makes a member unreachable, not a missing link: in a large cluster most
//! members have none. A node reaches such a member over one common member, and names it in its own
//! record, so that no other node tries that hop.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::record::MAX_NO_WAY;
use crate::model::{Digest, NodeId, Time};

use super::suspicions::Answer;
use super::{Cx, DialFailure, Fact, Membership, Reason};

/// How long dials must have failed before others are told. A restart, a cable put into another
/// socket, two dials that crossed are over sooner, and each announcement costs every node a record.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
/// The pause between two announcements, so that a path that comes and goes costs every node one
/// record in this time.
const ANNOUNCE_GAP: Duration = Duration::from_secs(5);
/// After so long without a dial the failure is forgotten: a link on demand is not tried again by
/// itself. Above the longest pause between dials of a wanted link, plus the time that a dial may
/// take.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Members named for one hop, so that a busy or mistaken first one does not matter.
pub const MAX_HOPS: usize = 4;

const HOP_DOMAIN: &[u8] = b"shoal/hop/1";

/// Dials of one node that failed since its last link.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedDials {
    /// When the first failed dial ended.
    since: Time,
    /// When the last failed dial ended.
    last: Time,
    how: DialFailure,
}

/// The unreachable members that this node's record names.
#[derive(Clone, Debug, Default)]
pub(super) struct AnnouncedUnreachable {
    /// By id, at most [`MAX_NO_WAY`].
    pub nodes: BTreeSet<NodeId>,
    at: Option<Time>,
}

impl Membership {
    /// Why dials of a member fail that is up; none while there is a link, or if no dial has failed
    /// since the last one.
    pub fn unreachable(&self, node: &NodeId) -> Option<DialFailure> {
        let path = self.paths.get(node)?;
        let failed_dials = path.failed_dials.filter(|_| path.link.is_none())?;
        self.is_up(node).then_some(failed_dials.how)
    }

    /// Members over which a message or a stream can reach `node` in one hop, the best first: linked
    /// here, and neither states that it cannot reach the other.
    pub fn hops(&self, node: &NodeId) -> Vec<NodeId> {
        let unreachable =
            |of: &NodeId, to: &NodeId| self.unreachable_from(of).binary_search(to).is_ok();
        let is_common = |hop: &NodeId| {
            hop != node
                && self.is_up(hop)
                && *hop != self.me
                && !unreachable(hop, node)
                && !unreachable(node, hop)
        };
        // It has just said that the node is alive, so it has a link with it.
        let says_alive = |hop: &NodeId| {
            let answers = self.suspicions.get(node).map(|suspicion| &suspicion.answers);
            matches!(answers.and_then(|answers| answers.get(hop)), Some(Answer::Alive(_)))
        };
        // Ordered by a hash that is the same at both ends and each time: the messages of a pair
        // keep their order, and many pairs do not all use the same member.
        let (less, greater) = if self.me < *node { (self.me, *node) } else { (*node, self.me) };
        let rank = |hop: &NodeId| {
            Digest::of_parts(&[HOP_DOMAIN, less.as_bytes(), greater.as_bytes(), hop.as_bytes()])
        };
        let mut hops: Vec<_> = self
            .links()
            .filter(is_common)
            .map(|hop| (!says_alive(&hop), rank(&hop), hop))
            .collect();
        hops.sort_unstable();
        hops.into_iter().take(MAX_HOPS).map(|(.., hop)| hop).collect()
    }

    /// Members that `node`, which may be this one, states it cannot reach, by id.
    pub fn unreachable_from(&self, node: &NodeId) -> &[NodeId] {
        self.record(node).map_or(&[], |record| &record.no_way_to)
    }

    /// Each pair of members that are up and of which one states that it cannot reach the other,
    /// once, the lesser id first.
    pub fn unreachable_pairs(&self) -> BTreeSet<(NodeId, NodeId)> {
        let said = self
            .records()
            .filter(|(node, record)| !record.no_way_to.is_empty() && self.is_up(node));
        let pairs = said
            .flat_map(|(node, record)| record.no_way_to.iter().map(move |other| (node, *other)));
        let ordered =
            pairs.map(|(node, other)| if node < other { (node, other) } else { (other, node) });
        ordered
            .filter(|(one, other)| one != other && self.is_up(one) && self.is_up(other))
            .collect()
    }

    /// Notes that a dial of a member failed.
    pub(super) fn note_failed_dial(&mut self, cx: &mut Cx<'_>, node: NodeId, how: DialFailure) {
        if self.is_down(&node) {
            return; // members that are down are dialled for ever
        }
        let path = self.paths.entry(node).or_default();
        let since = path.failed_dials.map_or(cx.now, |failed_dials| failed_dials.since);
        let is_news = path.failed_dials.replace(FailedDials { since, last: cx.now, how }).is_none();
        if is_news {
            cx.facts.push(Fact::ReachabilityChanged { node });
            self.timers.set_by(Reason::Unreachable, cx.now + UNREACHABLE_AFTER);
        }
    }

    /// Forgets failed dials: there is a link, or the member is not up any more.
    pub(super) fn forget_failed_dials(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        if self.paths.get_mut(node).is_some_and(|path| path.failed_dials.take().is_some()) {
            cx.facts.push(Fact::ReachabilityChanged { node: *node });
            self.timers.set_by(Reason::Unreachable, cx.now);
        }
    }

    /// Closes a link that has been silent for long while others reach the member: it hangs, as
    /// after a router has forgotten it, and TCP may retry for many minutes. Messages sent meanwhile
    /// are lost, and a new dial shows whether the member can be reached.
    pub(super) fn close_hung_link(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let longest = self.silence_limit(cx.now, node, self.config.suspicion.silent_after_alone);
        let Some(path) = self.paths.get(node) else { return };
        let Some(link) = path.link.as_ref().filter(|link| link.unanswered >= 2) else { return };
        let since = link.since.max(path.heard_at.unwrap_or_default()).max(self.local_health.since);
        if cx.now.since(since) >= longest {
            cx.out.hangup(*node);
        }
    }

    /// Announces which members this node cannot reach, once that has lasted for a while or is over.
    pub(super) fn announce_unreachable(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let forgotten = self.paths.iter().filter(|(_, path)| {
            path.failed_dials
                .is_some_and(|failed_dials| now.since(failed_dials.last) >= FORGET_AFTER)
                && path.dialling.is_none()
        });
        for node in forgotten.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.forget_failed_dials(cx, &node);
        }
        self.timers.clear(Reason::Unreachable);
        let mut next: Option<Time> = None;
        let mut lasting = BTreeSet::new();
        for (node, path) in &self.paths {
            let Some(failed_dials) = path.failed_dials.filter(|_| path.link.is_none()) else {
                continue;
            };
            let is_lasting = now.since(failed_dials.since) >= UNREACHABLE_AFTER;
            if is_lasting && self.is_up(node) && lasting.len() < MAX_NO_WAY {
                lasting.insert(*node);
            }
            // For those announced already, the next check is when they may be forgotten.
            let at = if is_lasting {
                (failed_dials.last + FORGET_AFTER).max(now + ANNOUNCE_GAP)
            } else {
                failed_dials.since + UNREACHABLE_AFTER
            };
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        if lasting != self.own.announced.nodes {
            match self.own.announced.at.map(|at| at + ANNOUNCE_GAP).filter(|at| *at > now) {
                Some(later) => next = Some(next.map_or(later, |next| next.min(later))),
                None => {
                    for node in lasting.difference(&self.own.announced.nodes) {
                        if let Some(how) = self.unreachable(node) {
                            cx.facts.push(Fact::Unreachable { node: *node, how });
                        }
                    }
                    self.own.announced = AnnouncedUnreachable { nodes: lasting, at: Some(now) };
                    self.issue(cx);
                }
            }
        }
        if let Some(at) = next {
            self.timers.set_by(Reason::Unreachable, at);
        }
    }
}
