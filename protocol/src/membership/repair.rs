//! Repair of lost gossip: neighbours compare which members they hold to be down, and newcomers
//! learn the state of all.

use std::collections::BTreeMap;

use crate::model::NodeId;

use super::evidence::{Cause, Evidence};
use super::members::{DownState, Liveness};
use super::message::{Gone, MAX_VIEW, MAX_WANTED, Message};
use super::{Cx, Membership, Reason};

impl Membership {
    /// A beat brought the fingerprint of the peer's view of who is down.
    pub(super) fn compare_view(&mut self, cx: &mut Cx<'_>, peer: NodeId, view: u32) {
        let differs = view != self.view;
        let Some(link) = self.paths.get_mut(&peer).and_then(|path| path.link.as_mut()) else {
            return;
        };
        link.differs = differs;
        if !differs {
            link.repair_gap = self.config.records.repair_after;
            self.timers.clear(Reason::Repair(peer));
        } else if !self.timers.is_set(Reason::Repair(peer)) {
            let gap = link.repair_gap;
            let jitter = self.jitter(gap / 4);
            self.timers.set(Reason::Repair(peer), cx.now + gap + jitter);
        }
    }

    /// A member returned that was down for this node alone. It has nothing to refute, so other
    /// nodes that each held it to be down do not hear of its return by gossip: views are compared
    /// sooner.
    pub(super) fn compare_soon(&mut self) {
        let soon = self.config.records.repair_soon();
        for link in self.paths.values_mut().filter_map(|path| path.link.as_mut()) {
            link.repair_gap = link.repair_gap.min(soon);
        }
    }

    /// Sends the view to a peer whose view has differed for so long that gossip is not the reason.
    pub(super) fn repair(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        let Some(link) = self.paths.get_mut(&peer).and_then(|path| path.link.as_mut()) else {
            return;
        };
        if link.differs {
            link.repair_gap = (link.repair_gap * 2).min(self.config.records.repair_most);
            self.send_view(cx, peer);
        }
    }

    /// Sends a peer all members that are not up here. Sends nothing while some are unknown: members
    /// that are not named count as up.
    pub(super) fn send_view(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        if !self.settled() {
            return;
        }
        let gone = self.members.iter().filter_map(|(node, member)| {
            let down = match member.liveness {
                Liveness::Up | Liveness::BackBy(_) => return None,
                Liveness::Unknown { .. } => false,
                Liveness::Down(_) => true,
            };
            Some(Gone { node: *node, incarnation: member.incarnation, down })
        });
        let gone: Vec<Gone> = gone.collect();
        let mut after = None;
        let mut parts = gone.chunks(MAX_VIEW).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let upto = parts.peek().and_then(|_| part.last()).map(|last| last.node);
            cx.out.send_bulk(peer, Message::View { after, upto, gone: part.to_vec() });
            if upto.is_none() {
                return;
            }
            after = upto;
        }
    }

    pub(super) fn on_view(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        after: Option<NodeId>,
        upto: Option<NodeId>,
        gone: Vec<Gone>,
    ) {
        if !self.is_up(&from) || gone.len() > MAX_VIEW {
            return;
        }
        let gone: BTreeMap<NodeId, Gone> = gone.into_iter().map(|gone| (gone.node, gone)).collect();
        let in_range = |node: &NodeId| {
            after.is_none_or(|after| *node > after) && upto.is_none_or(|upto| *node <= upto)
        };
        let nodes: Vec<NodeId> =
            self.members.keys().copied().filter(|node| *node != from && in_range(node)).collect();
        let mut shown = 0;
        let mut lacking = Vec::new();
        for node in nodes {
            let Some(member) = self.members.get(&node) else { continue };
            let theirs = gone.get(&node);
            match (&member.liveness, theirs) {
                // The peer means a former incarnation.
                (Liveness::Up | Liveness::Down(_), Some(gone))
                    if gone.incarnation < member.incarnation =>
                {
                    if shown < MAX_WANTED {
                        shown += 1;
                        self.send_newer_record(cx, from, &node);
                        self.send_down_notice(cx, from, &node);
                    }
                }
                (Liveness::Unknown { .. }, Some(gone)) if gone.down => {
                    // The state is unknown here, so the peer's view is taken until a sign of life.
                    // Its incarnation is not taken over: a lie could set one that the node itself
                    // never reaches.
                    let why = Evidence { cause: Cause::PeerReport, by: vec![from], is_news: false };
                    self.mark_down(cx, node, DownState { why, notice: None, gossiped: true });
                }
                (Liveness::Up | Liveness::BackBy(_), Some(gone)) if gone.down => {
                    if lacking.len() < MAX_WANTED {
                        lacking.push(node);
                    }
                }
                (Liveness::Unknown { .. }, None) => self.mark_up(cx, node),
                // Down for this node alone, and up for the peer.
                (Liveness::Down(down), None)
                    if down.notice.is_none() && down.why.cause != Cause::Goodbye =>
                {
                    self.mark_up(cx, node)
                }
                (Liveness::Down(_), None) => {
                    if shown < MAX_WANTED {
                        shown += 1;
                        self.send_down_notice(cx, from, &node);
                    }
                }
                (Liveness::Up | Liveness::BackBy(_), None) | (_, Some(_)) => {}
            }
        }
        if !lacking.is_empty() {
            cx.out.send_bulk(from, Message::Want(lacking));
        }
    }

    pub(super) fn on_want(&mut self, cx: &mut Cx<'_>, from: NodeId, nodes: Vec<NodeId>) {
        for node in nodes.into_iter().take(MAX_WANTED) {
            self.send_down_notice(cx, from, &node);
        }
    }

    /// Sends a peer that holds a member to be down the record of its higher incarnation.
    pub(super) fn send_newer_record(&self, cx: &mut Cx<'_>, to: NodeId, node: &NodeId) {
        if let Some(member) = self.members.get(node)
            && let (Liveness::Up, Some(record)) = (&member.liveness, &member.record)
            && record.incarnation == member.incarnation
        {
            cx.out.send_bulk(to, Message::Record(record.wire()));
        }
    }

    /// Sends a peer the notice or goodbye of a member that is down.
    pub(super) fn send_down_notice(&self, cx: &mut Cx<'_>, to: NodeId, node: &NodeId) {
        let Some(member) = self.members.get(node) else { return };
        let Liveness::Down(down) = &member.liveness else { return };
        if let Some(notice) = &down.notice {
            let record = member.record.as_ref().map(|record| record.wire());
            cx.out.send(to, Message::Down(notice.clone(), record));
        } else if let (Cause::Goodbye, Some(goodbye)) = (down.why.cause, &member.goodbye) {
            cx.out.send_bulk(to, Message::Goodbye(goodbye.wire()));
        }
    }
}
