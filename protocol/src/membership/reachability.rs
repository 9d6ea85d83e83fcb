//! Members that are up and that this node cannot dial, nor they it: two devices behind routers that
//! let nobody in, both linked to a node that everybody reaches.
//!
//! A failed dial is what makes a way missing, never the want of a link: in a large cluster most
//! members have none. Whoever meets such a member reaches it over one common member, and says so in
//! its own record, so that no other node tries the same over it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::record::MAX_NO_WAY;
use crate::model::{Digest, NodeId, Time};

use super::suspicions::Answer;
use super::{Cx, DialFailure, Fact, Membership, Reason};

/// How long dials must have failed before others are told. A restart, a cable put into another
/// socket, two dials that crossed: all that is over sooner, and each word costs everybody a record.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
/// The pause between two words of it, so that a way that comes and goes costs everybody one record
/// in so long.
const ANNOUNCE_GAP: Duration = Duration::from_secs(5);
/// Without a dial for so long nothing is known any more: a link on demand is not tried again by
/// itself. Above the longest pause between two dials of a link that is wanted, with the time that a
/// dial may take.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Members that are named for one hop: a busy or mistaken first one is made up for.
pub const MAX_HOPS: usize = 4;

const HOP_DOMAIN: &[u8] = b"shoal/hop/1";

/// Dials of one node that failed since its last link.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedDials {
    /// When the first of them ended.
    since: Time,
    /// When the last of them ended.
    last: Time,
    how: DialFailure,
}

/// What was last said of it in this node's record.
#[derive(Clone, Debug, Default)]
pub(super) struct AnnouncedUnreachable {
    /// Members without a way, by id, at most [`MAX_NO_WAY`].
    pub nodes: BTreeSet<NodeId>,
    at: Option<Time>,
}

impl Membership {
    /// How dialling a member fails that is up and has no link; none while there is a link, or no
    /// dial has failed since the last one.
    pub fn unreachable(&self, node: &NodeId) -> Option<DialFailure> {
        let path = self.paths.get(node)?;
        let failed_dials = path.failed_dials.filter(|_| path.link.is_none())?;
        self.is_up(node).then_some(failed_dials.how)
    }

    /// Members over which a message or a stream can reach `node` in one hop, the best first: linked
    /// here, and neither says that it has no way to the other.
    pub fn hops(&self, node: &NodeId) -> Vec<NodeId> {
        let denied = |of: &NodeId, to: &NodeId| self.unreachable_from(of).binary_search(to).is_ok();
        let is_common = |hop: &NodeId| {
            hop != node
                && self.is_up(hop)
                && *hop != self.me
                && !denied(hop, node)
                && !denied(node, hop)
        };
        // It has just vouched for the node, so it has a link with it.
        let vouches = |hop: &NodeId| {
            let answers = self.suspicions.get(node).map(|suspicion| &suspicion.answers);
            matches!(answers.and_then(|answers| answers.get(hop)), Some(Answer::Alive(_)))
        };
        // By lot, but the same from both ends and each time: the messages of one pair keep their
        // order, those of many pairs do not all go over the same member.
        let (less, greater) = if self.me < *node { (self.me, *node) } else { (*node, self.me) };
        let lot = |hop: &NodeId| {
            Digest::of_parts(&[HOP_DOMAIN, less.as_bytes(), greater.as_bytes(), hop.as_bytes()])
        };
        let mut hops: Vec<_> =
            self.links().filter(is_common).map(|hop| (!vouches(&hop), lot(&hop), hop)).collect();
        hops.sort_unstable();
        hops.into_iter().take(MAX_HOPS).map(|(.., hop)| hop).collect()
    }

    /// Members that a member, or this node, says it has no way to, by id.
    pub fn unreachable_from(&self, node: &NodeId) -> &[NodeId] {
        self.record(node).map_or(&[], |record| &record.no_way_to)
    }

    /// Each pair of members that are up and have no way to one another, once, as their records say;
    /// the lesser id first.
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

    /// A dial of a member led to no link.
    pub(super) fn note_failed_dial(&mut self, cx: &mut Cx<'_>, node: NodeId, how: DialFailure) {
        if self.is_down(&node) {
            return; // the dead are dialled for ever; that is known
        }
        let path = self.paths.entry(node).or_default();
        let since = path.failed_dials.map_or(cx.now, |failed_dials| failed_dials.since);
        let is_news = path.failed_dials.replace(FailedDials { since, last: cx.now, how }).is_none();
        if is_news {
            cx.facts.push(Fact::ReachabilityChanged { node });
            self.timers.set_by(Reason::Unreachable, cx.now + UNREACHABLE_AFTER);
        }
    }

    /// There is a way, or nobody to have one to.
    pub(super) fn forget_failed_dials(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        if self.paths.get_mut(node).is_some_and(|path| path.failed_dials.take().is_some()) {
            cx.facts.push(Fact::ReachabilityChanged { node: *node });
            self.timers.set_by(Reason::Unreachable, cx.now);
        }
    }

    /// Others reach a member while the link to it has been silent for long: it hangs, as when a
    /// router has forgotten it, and TCP may try for many minutes. What is sent meanwhile is lost,
    /// and a dial shows whether there is a way.
    pub(super) fn close_hung_link(&mut self, cx: &mut Cx<'_>, node: &NodeId) {
        let longest = self.silence_limit(cx.now, node, self.config.suspicion.silent_after_alone);
        let Some(path) = self.paths.get(node) else { return };
        let Some(link) = path.link.as_ref().filter(|link| link.unanswered >= 2) else { return };
        let since = link.since.max(path.heard_at.unwrap_or_default()).max(self.local_health.since);
        if cx.now.since(since) >= longest {
            cx.out.hangup(*node);
        }
    }

    /// Tells others which members this node has no way to, when that has lasted or is over.
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
            // Of those that are lasting already it is looked whether they are forgotten.
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
