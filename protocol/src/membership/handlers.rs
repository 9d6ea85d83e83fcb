//! Message handlers for links, and the node's own beats and probes.

use std::time::Duration;

use crate::model::{NodeId, NodeRecord, Signed, Time};

use super::evidence::{Cause, SuspicionCause};
use super::members::Liveness;
use super::message::{Message, ProbeIntent};
use super::records::Source;
use super::{Cx, Membership, Reason, Worth};

impl Membership {
    pub(super) fn on_message(&mut self, cx: &mut Cx<'_>, from: NodeId, message: Message) {
        if !self.has_link(&from) {
            return; // sent before the link was lost: no sign of life any more
        }
        self.heard(cx, from, &message);
        match message {
            Message::Hello { record, settled } => {
                if let Some(record) = record.and_then(|record| record.verify(&self.cluster).ok()) {
                    self.on_record_from(cx, from, record, Source::Hello);
                }
                if !settled && self.settled() {
                    self.send_view(cx, from);
                }
            }
            Message::Beat { lag_ms, view } => {
                self.note_lag(from, lag_ms);
                self.compare_view(cx, from, view);
            }
            Message::Probe { seq, intent } => {
                match intent {
                    ProbeIntent::None => {}
                    ProbeIntent::Beats => self.extend_watch(cx.now, &from),
                    // The link is closed only if neither end needs it: else the end that does would
                    // dial again at once.
                    ProbeIntent::ReleaseLink if self.is_spare(cx.now, &from) => {
                        return cx.out.hangup(from);
                    }
                    ProbeIntent::ReleaseLink => {}
                }
                cx.out
                    .send(from, Message::Answer { seq, lag_ms: self.local_health.lag_ms(cx.now) });
            }
            Message::Answer { seq, lag_ms } => {
                self.note_lag(from, lag_ms);
                let path = self.paths.get_mut(&from).expect("a link has a path");
                if path.answered(cx.now, seq) {
                    self.answer_inquiries(cx, from, seq);
                }
            }
            Message::Ask { subject, incarnation, round, vote } => {
                self.on_ask(cx, from, subject, incarnation, round, vote)
            }
            Message::Alive { subject, incarnation, round } => {
                self.on_alive(cx, from, subject, incarnation, round)
            }
            Message::Vote(vote) => self.on_vote(cx, from, vote),
            Message::Down(notice, record) => {
                if let Some(record) = record.and_then(|record| record.verify(&self.cluster).ok()) {
                    self.on_last_record(cx, record, &notice);
                }
                self.on_notice(cx, notice, Some(from));
            }
            Message::Goodbye(goodbye) => {
                self.on_goodbye(cx, goodbye);
            }
            Message::Record(record) => {
                if let Ok(record) = record.verify(&self.cluster) {
                    self.on_record_from(cx, from, record, Source::Itself);
                }
            }
            Message::View { after, upto, gone } => self.on_view(cx, from, after, upto, gone),
            Message::Want(nodes) => self.on_want(cx, from, nodes),
        }
    }

    fn on_record_from(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        record: Signed<NodeRecord>,
        own: Source,
    ) {
        let node = NodeId(record.by().0);
        if node == from {
            self.on_record(cx, record, own);
            return;
        }
        // The peer reports a return that this node had missed. Others may have missed it as well,
        // and gossip carries nothing twice, so the record is gossiped again.
        let (was_up, said) = (self.is_up(&node), record.wire());
        if self.on_record(cx, record, Source::Gossip) == Worth::Relay
            && !was_up
            && self.is_up(&node)
        {
            cx.out.broadcast(Message::Record(said));
        }
    }

    /// Any message over a link shows that its sender lives.
    fn heard(&mut self, cx: &mut Cx<'_>, from: NodeId, message: &Message) {
        let path = self.paths.get_mut(&from).expect("a link has a path");
        path.heard(cx.now);
        let Some(member) = self.members.get(&from) else { return };
        match &member.liveness {
            Liveness::Up => self.drop_suspicion(cx, &from),
            Liveness::Unknown { .. } => self.mark_up(cx, from),
            // It stops on purpose; this message may be from before it exits.
            Liveness::BackBy(_) => {}
            Liveness::Down(down) if down.why.cause == Cause::Goodbye => {}
            Liveness::Down(down) if down.notice.is_none() => self.mark_up(cx, from),
            Liveness::Down(_) => {
                // A record tells itself which incarnation this is.
                if !matches!(message, Message::Hello { .. } | Message::Record(_)) {
                    self.notify_down(cx, from);
                }
            }
        }
    }

    fn note_lag(&mut self, from: NodeId, lag_ms: u16) {
        let lag = Duration::from_millis(lag_ms.into()).min(self.config.probe.lag_most);
        if let Some(path) = self.paths.get_mut(&from) {
            path.lag = lag;
        }
    }

    /// Beats to the observers and sets the next beat.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>) {
        let beat = Message::Beat { lag_ms: self.local_health.lag_ms(cx.now), view: self.view };
        let watchers: Vec<NodeId> =
            self.links().filter(|peer| self.watches_me(cx.now, peer)).collect();
        for peer in watchers {
            cx.out.send(peer, beat.clone());
        }
        // A random time early, so that beats of many nodes do not coincide.
        let early = self.jitter(self.config.probe.beat / 10);
        self.timers.set(Reason::Beat, cx.now + self.config.probe.beat.saturating_sub(early));
    }

    /// Sends a probe and notes its number.
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>, peer: NodeId, intent: ProbeIntent) {
        let Some(link) = self.paths.get_mut(&peer).and_then(|path| path.link.as_mut()) else {
            return;
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        link.probed(cx.now, seq);
        cx.out.send(peer, Message::Probe { seq, intent });
    }

    /// Measures an idle link's round trip, offers to close a link that this node does not need, and
    /// closes one whose other end does not answer.
    pub(super) fn measure_rtt(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        let Some(link) = self.paths.get(&peer).and_then(|path| path.link.as_ref()) else { return };
        if link.awaiting.is_some_and(|since| {
            cx.now.since(since.max(self.local_health.since)) >= self.config.probe.rtt_every / 2
        }) {
            // The other end died silently and nobody here watches it, so the link is dead.
            cx.out.hangup(peer);
        } else {
            let intent = if self.is_spare(cx.now, &peer) {
                ProbeIntent::ReleaseLink
            } else {
                ProbeIntent::None
            };
            self.probe(cx, peer, intent);
        }
        let early = self.jitter(self.config.probe.rtt_every / 4);
        self.timers
            .set(Reason::Rtt(peer), cx.now + self.config.probe.rtt_every.saturating_sub(early));
    }

    /// The deadline of a watched node's beat: if it is late it is probed, and suspected if it does
    /// not answer in time.
    pub(super) fn check_quiet(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if !self.watched.contains_key(&node) {
            return;
        }
        let Some((path, link)) =
            self.paths.get(&node).and_then(|path| Some((path, path.link.as_ref()?)))
        else {
            // It should have been linked by now. A failed dial raises its own suspicion; this one
            // is for a node without addresses.
            self.suspect(cx, node, SuspicionCause::NoLink);
            return;
        };
        let late = self.config.probe.late_floor.max(path.round_trip() * 3 / 2)
            + path.lag
            + self.local_health.lag(cx.now);
        let beat_by = self.config.probe.beat * 5 / 4 + path.round_trip() / 2 + path.lag;
        let silence = self.silence(cx.now, &node);
        if silence < beat_by {
            // The node is not quiet. But if a question came too soon after the last probe for
            // another one, the probe that answers it goes out now.
            if self.has_new_inquiry(&node) {
                self.probe(cx, node, ProbeIntent::None);
            }
            // Time has whole microseconds: rounded down, the deadline would be now, again and
            // again.
            self.timers.set(
                Reason::Quiet(node),
                cx.now + beat_by.saturating_sub(silence) + Duration::from_micros(1),
            );
            return;
        }
        let unanswered = link
            .awaiting
            .is_some_and(|since| cx.now.since(since.max(self.local_health.since)) >= late);
        self.probe(cx, node, ProbeIntent::Beats);
        let wait = if unanswered { self.config.probe.every.max(late / 2) } else { late };
        self.timers.set(Reason::Quiet(node), cx.now + wait);
        if unanswered {
            self.suspect(cx, node, SuspicionCause::Silent);
            self.unjudged = true;
        }
    }

    /// How long a node has been silent over all paths while this node listened and had reason to
    /// expect a message.
    pub(super) fn silence(&self, now: Time, node: &NodeId) -> Duration {
        let suspicion = self.suspicions.get(node);
        let Some(path) = self.paths.get(node) else { return Duration::ZERO };
        let expecting = match &path.link {
            // A watched node owes beats, another linked one owes an answer to a probe; else silence
            // means nothing.
            Some(link) => self.watched.get(node).copied().or(link.awaiting),
            None => path.closed_at.or(suspicion.map(|suspicion| suspicion.opened)),
        };
        let Some(expecting) = expecting else { return Duration::ZERO };
        let relayed = suspicion.and_then(|suspicion| suspicion.alive_at()).unwrap_or_default();
        now.since(
            self.local_health
                .since
                .max(path.heard_at.unwrap_or_default())
                .max(expecting)
                .max(relayed),
        )
    }

    /// How long a node must have been silent for a vote: `base`, and more if the path is slow, or
    /// the node or this one stalled lately.
    pub(super) fn silence_limit(&self, now: Time, node: &NodeId, base: Duration) -> Duration {
        let (round_trip, lag) =
            self.paths.get(node).map(|path| (path.round_trip(), path.lag)).unwrap_or_default();
        base + round_trip * 2 + lag * 2 + self.local_health.lag(now)
    }
}
