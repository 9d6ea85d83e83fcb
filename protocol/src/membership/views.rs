//! Read access for other modules.

use std::time::Duration;

use crate::model::{Digest, NodeId, NodeRecord, Signed, Time};

use super::members::Liveness;
use super::{Membership, State};

impl Membership {
    /// The state of a member. This node is up.
    pub fn state(&self, node: &NodeId) -> State {
        if *node == self.me {
            return State::Up;
        }
        match self.members.get(node).map(|member| &member.liveness) {
            None | Some(Liveness::Unknown { .. }) => State::Unknown,
            Some(Liveness::Up) => State::Up,
            Some(Liveness::BackBy(until)) => State::BackBy(*until),
            Some(Liveness::Down(_)) => State::Down,
        }
    }

    /// Members that are up and this node, by id. Those away on purpose are not among them.
    pub fn up(&self) -> impl Iterator<Item = NodeId> + '_ {
        let me = std::iter::once(self.me);
        let (less, greater) = (self.members.range(..self.me), self.members.range(self.me..));
        let up = |(node, member): (&NodeId, &super::Member)| {
            matches!(member.liveness, Liveness::Up).then_some(*node)
        };
        less.filter_map(up).chain(me).chain(greater.filter_map(up))
    }

    /// Length of [`Self::up`].
    pub fn up_count(&self) -> usize {
        self.up + 1
    }

    /// Whether no member is unknown: each was heard of, or given up.
    pub fn settled(&self) -> bool {
        self.unknown == 0
    }

    /// Whether no member is down or unknown.
    pub fn is_whole(&self) -> bool {
        self.view == 0 && self.unknown == 0
    }

    /// Since when this node and a member, which is up, have been in touch without a break; `None`
    /// if the member is not up.
    pub fn in_touch_since(&self, node: &NodeId) -> Option<Time> {
        let up_since = match self.members.get(node) {
            _ if *node == self.me => Time::ZERO,
            Some(member) if matches!(member.liveness, Liveness::Up) => member.up_since,
            Some(_) | None => return None,
        };
        Some(up_since.max(self.apart_at))
    }

    /// This node's incarnation in use.
    pub fn incarnation(&self) -> u64 {
        self.own.incarnation()
    }

    /// The highest incarnation known of a member or of this node.
    pub fn incarnation_of(&self, node: &NodeId) -> Option<u64> {
        if *node == self.me {
            return Some(self.own.incarnation());
        }
        self.members.get(node).map(|member| member.incarnation)
    }

    /// The record of a member or of this node.
    pub fn record(&self, node: &NodeId) -> Option<&Signed<NodeRecord>> {
        if *node == self.me {
            return self.own.record();
        }
        self.members.get(node).and_then(|member| member.record.as_ref())
    }

    /// All records, this node's own last. In sync a record has the key [`Self::item_key`] and the
    /// hash [`Signed::hash`].
    pub fn records(&self) -> impl Iterator<Item = (NodeId, &Signed<NodeRecord>)> {
        let others =
            self.members.iter().filter_map(|(node, member)| Some((*node, member.record.as_ref()?)));
        others.chain(self.own.record().map(|record| (self.me, record)))
    }

    /// The record with this key in sync.
    pub fn item(&self, key: &Digest) -> Option<&Signed<NodeRecord>> {
        self.keys_in_sync.get(key).and_then(|node| self.record(node))
    }

    /// Peers with a link, strangers included, by id.
    pub fn links(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.paths.iter().filter(|(_, path)| path.link.is_some()).map(|(node, _)| *node)
    }

    /// Whether there is a link to this peer.
    pub fn has_link(&self, node: &NodeId) -> bool {
        self.paths.get(node).is_some_and(|path| path.link.is_some())
    }

    /// The smoothed round trip to a node, if it was measured since the start.
    pub fn rtt(&self, node: &NodeId) -> Option<Duration> {
        self.paths.get(node).and_then(|path| path.rtt())
    }

    /// The name in a node's record; the short id if that is not known.
    pub fn name(&self, node: &NodeId) -> String {
        self.record(node).map_or_else(|| node.short(), |record| record.name.clone())
    }

    /// Why a member is down, for users; none unless it is.
    pub fn why_down(&self, node: &NodeId) -> Option<String> {
        match self.members.get(node).map(|member| &member.liveness) {
            Some(Liveness::Down(down)) => Some(down.why.describe(|node| self.name(node))),
            Some(Liveness::Unknown { .. } | Liveness::Up | Liveness::BackBy(_)) | None => None,
        }
    }
}
