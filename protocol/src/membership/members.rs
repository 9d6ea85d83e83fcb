//! The roster's members and their states: up, away, down, unknown.

use std::time::Duration;

use imbl::OrdMap;

use crate::model::{Bucket, NodeId, NodeRecord, Signed, Time, Unverified, fill_order};

use super::evidence::{Cause, Evidence, SuspicionCause};
use super::message::{Goodbye, Message, Notice, are_within_bounds};
use super::observers::fingerprint;
use super::records::Source;
use super::{Cx, Fact, Membership, Reason, Worth};

/// How long a member that was admitted while this node watched does not vote, as long as there are
/// others that do. A stolen device with an invite for many can let in that many in a moment.
pub(super) const PROBATION: Duration = Duration::from_secs(600);

/// Changes of a member's addresses that are dialled at once, and the pause between further ones.
pub(super) const MOVES: (u32, Duration) = (8, Duration::from_secs(30));

/// Records of a member that are taken at once, and the pause between further ones. A node issues
/// its record anew when its addresses, facts or ways change: some times a second at most.
pub(super) const RECORDS: (u32, Duration) = (64, Duration::from_millis(200));

/// An admitted node.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub salt: u64,
    /// The highest known incarnation.
    pub incarnation: u64,
    pub record: Option<Signed<NodeRecord>>,
    /// Whether gossip has brought that record. If it came over a link first it is still relayed
    /// once, or the peers linked to a node would stop all its gossip.
    pub was_gossiped: bool,
    /// The addresses of its last sighting.
    pub sighted: Box<[String]>,
    pub liveness: Liveness,
    /// When it came up the last time; when it was admitted, before that.
    pub up_since: Time,
    /// When its vote begins to count: see [`PROBATION`].
    pub votes_from: Time,
    /// How often its new addresses are dialled at once: they may be those of others, whom all
    /// members would then dial in its name.
    pub moves: Bucket,
    /// How often its record is taken: each one is told on by every node.
    pub records: Bucket,
    /// Its last goodbye that took effect.
    pub goodbye: Option<Signed<Goodbye>>,
}

#[derive(Clone, Debug)]
pub(super) enum Liveness {
    Unknown { since: Time },
    Up,
    BackBy(Time),
    Down(Box<DownState>),
}

/// Why and how far a member is held to be down.
#[derive(Clone, Debug)]
pub(super) struct DownState {
    pub why: Evidence,
    /// The votes that were gossiped; then only a higher incarnation makes the member up again. None
    /// if only this node holds it to be down; then any sign of life does.
    pub notice: Option<Notice>,
    /// Whether gossip has brought the notice here.
    pub gossiped: bool,
}

impl Membership {
    pub(super) fn on_roster(&mut self, cx: &mut Cx<'_>, roster: &OrdMap<NodeId, u64>) {
        let gone: Vec<NodeId> =
            self.members.keys().filter(|node| !roster.contains_key(*node)).copied().collect();
        for node in gone {
            self.remove_member(cx, node);
        }
        self.place_me(roster.get(&self.me).copied());
        for (&node, &salt) in fill_order(roster.iter().collect()) {
            self.place(cx, node, salt);
        }
        // It found them on its disk: they are no newcomers.
        for node in roster.keys() {
            if let Some(member) = self.members.get_mut(node) {
                member.votes_from = member.votes_from.min(cx.now);
            }
        }
    }

    /// A node was admitted, removed, or has another salt.
    /// Whether a node, which may be this one, is on the roster.
    pub fn has_member(&self, node: &NodeId) -> bool {
        if *node == self.me { self.salt.is_some() } else { self.members.contains_key(node) }
    }

    pub(super) fn on_member(&mut self, cx: &mut Cx<'_>, node: NodeId, salt: Option<u64>) {
        match salt {
            salt if node == self.me => self.place_me(salt),
            Some(salt) => self.place(cx, node, salt),
            None => self.remove_member(cx, node),
        }
    }

    fn place_me(&mut self, salt: Option<u64>) {
        if self.salt != salt {
            self.unsettled_topology = true;
            if let Some(salt) = std::mem::replace(&mut self.salt, salt) {
                self.circle.remove(self.me, salt);
            }
            if let Some(salt) = self.salt {
                self.circle.insert(self.me, salt);
            }
        }
    }

    fn place(&mut self, cx: &mut Cx<'_>, node: NodeId, salt: u64) {
        if node == self.me {
            return;
        }
        match self.members.get(&node) {
            Some(member) if member.salt == salt => {}
            Some(member) => {
                self.circle.remove(node, member.salt);
                self.members.insert(node, Member { salt, ..member.clone() });
                self.circle.insert(node, salt);
                self.unsettled_topology = true;
            }
            None => self.add_member(cx, node, salt),
        }
    }

    fn add_member(&mut self, cx: &mut Cx<'_>, node: NodeId, salt: u64) {
        let liveness = Liveness::Unknown { since: cx.now };
        let member = Member {
            salt,
            incarnation: 0,
            record: None,
            was_gossiped: false,
            sighted: Box::default(),
            liveness,
            up_since: cx.now,
            votes_from: cx.now + PROBATION,
            moves: Bucket::new(MOVES.0, MOVES.1),
            records: Bucket::new(RECORDS.0, RECORDS.1),
            goodbye: None,
        };
        self.members.insert(node, member);
        self.circle.insert(node, salt);
        self.keys_in_sync.insert(Self::item_key(&node), node);
        self.unknown += 1;
        self.unsettled_topology = true;
        self.timers.set(Reason::Unknown(node), cx.now + self.config.records.unknown_grace);
        // It may be linked already, if it was removed and admitted again meanwhile.
        let link = self.paths.get_mut(&node).and_then(|path| path.link.as_mut());
        if let Some(hello) = link.map(|link| link.hello.take()) {
            self.mark_up(cx, node);
            if let Some(record) = hello {
                self.on_record(cx, record, Source::Hello);
            }
        }
    }

    fn remove_member(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(member) = self.members.remove(&node) else { return };
        self.circle.remove(node, member.salt);
        self.keys_in_sync.remove(&Self::item_key(&node));
        self.answerers.remove(&node);
        match member.liveness {
            Liveness::Unknown { .. } => self.unknown -= 1,
            Liveness::Down(_) => self.view ^= fingerprint(&node, member.incarnation),
            Liveness::Up => self.up -= 1,
            Liveness::BackBy(_) => {}
        }
        self.suspicions.remove(&node);
        self.inquiries.remove(&node);
        self.drop_unvoted_notices();
        for timer in [
            Reason::Quiet(node),
            Reason::Suspicion(node),
            Reason::Dial(node),
            Reason::Unknown(node),
            Reason::BackBy(node),
            Reason::GossipDown(node),
        ] {
            self.timers.clear(timer);
        }
        self.dialling.remove(&node);
        self.forget_failed_dials(cx, &node);
        if self.has_link(&node) {
            cx.out.hangup(node);
        } else {
            self.paths.remove(&node);
        }
        self.unsettled_topology = true;
        self.unjudged = true;
    }

    /// A voter left. A notice of which nobody is left that voted says nothing to any other node,
    /// not even to its subject, which would have to refute it: the member is down for this node
    /// alone from now on, and the first sign of life ends that.
    fn drop_unvoted_notices(&mut self) {
        let members = &self.members;
        let is_void = |notice: &Notice| {
            let voters = notice.votes.iter().map(|it| NodeId(it.by().0));
            !voters.into_iter().any(|by| by == self.me || members.contains_key(&by))
        };
        let noticed = |member: &Member| match &member.liveness {
            Liveness::Down(down) => down.notice.as_ref().is_some_and(is_void),
            _ => false,
        };
        let void = members.iter().filter(|(_, member)| noticed(member));
        let void: Vec<NodeId> = void.map(|(node, _)| *node).collect();
        for suspicion in self.suspicions.values_mut() {
            suspicion.notice.take_if(|notice| is_void(notice));
        }
        for node in void {
            if let Some(Liveness::Down(down)) =
                self.members.get_mut(&node).map(|member| &mut member.liveness)
            {
                down.notice = None;
            }
        }
    }

    /// The member is up.
    pub(super) fn mark_up(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if self.is_up(&node) {
            return;
        }
        let Some(member) = self.members.get_mut(&node) else { return };
        member.up_since = cx.now;
        let was_down = match std::mem::replace(&mut member.liveness, Liveness::Up) {
            Liveness::Up => return,
            Liveness::Unknown { .. } => {
                self.unknown -= 1;
                false
            }
            Liveness::BackBy(_) => false,
            Liveness::Down(down) => {
                self.view ^= fingerprint(&node, member.incarnation);
                if down.notice.is_none() {
                    self.compare_soon();
                }
                true
            }
        };
        self.up += 1;
        for timer in [Reason::Unknown(node), Reason::BackBy(node), Reason::GossipDown(node)] {
            self.timers.clear(timer);
        }
        if let Some(path) = self.paths.get_mut(&node) {
            // Refusals were those of the former incarnation.
            path.refused = false;
            path.closed_at = None;
        }
        // So were the failed dials.
        self.forget_failed_dials(cx, &node);
        self.drop_suspicion(cx, &node);
        self.expect_beat(cx, node);
        self.unsettled_topology = true;
        self.unjudged = true;
        cx.facts.push(Fact::Up { node });
        if was_down {
            self.redial_down_members(cx);
        }
    }

    /// The member is down.
    pub(super) fn mark_down(&mut self, cx: &mut Cx<'_>, node: NodeId, down: DownState) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let why = down.why.clone();
        match std::mem::replace(&mut member.liveness, Liveness::Down(Box::new(down))) {
            Liveness::Unknown { .. } => self.unknown -= 1,
            Liveness::Up => self.up -= 1,
            Liveness::BackBy(_) => {}
            Liveness::Down(_) => return, // known; the newer notice was taken over
        }
        self.view ^= fingerprint(&node, member.incarnation);
        for timer in [
            Reason::Unknown(node),
            Reason::BackBy(node),
            Reason::Suspicion(node),
            Reason::Quiet(node),
        ] {
            self.timers.clear(timer);
        }
        self.suspicions.remove(&node);
        self.inquiries.remove(&node);
        self.forget_failed_dials(cx, &node);
        if self.has_link(&node) {
            // A silent link may stay in TCP's retransmission for minutes after the network healed;
            // a new one does not.
            cx.out.hangup(node);
        }
        self.unsettled_topology = true;
        self.unjudged = true;
        cx.facts.push(Fact::Down { node, why });
    }

    /// Takes over a higher incarnation. The caller decides whether the member is up.
    pub(super) fn raise_incarnation(&mut self, node: NodeId, incarnation: u64) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if matches!(member.liveness, Liveness::Down(_)) {
            self.view ^= fingerprint(&node, member.incarnation) ^ fingerprint(&node, incarnation);
        }
        member.incarnation = incarnation;
        if let Some(suspicion) = self.suspicions.get_mut(&node) {
            suspicion.reset_to(incarnation);
        }
    }

    /// Called after one and after two graces of a member that is unknown or overdue.
    pub(super) fn on_unknown_expired(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(member) = self.members.get(&node) else { return };
        let grace = self.config.records.unknown_grace;
        let (since, cause) = match member.liveness {
            Liveness::Unknown { since } => (since, Cause::NeverSeen),
            Liveness::BackBy(until) => (until, Cause::Overdue),
            Liveness::Up | Liveness::Down(_) => return,
        };
        if cx.now < since + grace * 2 {
            // Neighbours are suspected first and judged by the answers to dials and questions.
            self.timers.set(Reason::Unknown(node), since + grace * 2);
            if self.is_neighbour(&node) {
                self.suspect(cx, node, SuspicionCause::NoLink);
                self.unjudged = true;
            }
        } else if !self.is_neighbour(&node) {
            // Others watch it and have not called it down. When a whole cluster boots no node has
            // heard of far members; to hold them all to be down would move every workload.
            self.mark_up(cx, node);
        } else {
            let why = Evidence { cause, by: vec![self.me], is_news: true };
            self.mark_down(cx, node, DownState { why, notice: None, gossiped: false });
        }
    }

    pub(super) fn say_goodbye(&mut self, cx: &mut Cx<'_>, back_in: Duration) {
        self.own.said_goodbye = true;
        let back_in = back_in.min(self.config.records.absence_most);
        let back_in_ms = u32::try_from(back_in.as_millis()).expect("an absence is bounded");
        let goodbye = Goodbye { incarnation: self.own.incarnation(), back_in_ms };
        let goodbye = Signed::sign(goodbye, &self.keys, &self.cluster).wire();
        let linked: Vec<NodeId> = self.links().collect();
        for peer in linked {
            cx.out.send(peer, Message::Goodbye(goodbye.clone()));
        }
        cx.out.broadcast(Message::Goodbye(goodbye));
    }

    pub(super) fn on_goodbye(&mut self, cx: &mut Cx<'_>, goodbye: Unverified<Goodbye>) -> Worth {
        let node = NodeId(goodbye.by().0);
        let Some(member) = self.members.get(&node) else { return Worth::Ignore };
        let Ok(goodbye) = goodbye.verify(&self.cluster) else { return Worth::Reject };
        if member.goodbye.as_ref() == Some(&goodbye) {
            return Worth::Relay; // known from its link, but new to gossip
        }
        let known =
            member.goodbye.as_ref().is_some_and(|known| known.incarnation >= goodbye.incarnation);
        // A goodbye of a higher incarnation cannot be judged before its record has come.
        if known
            || goodbye.incarnation != member.incarnation
            || matches!(member.liveness, Liveness::Down(_))
        {
            return Worth::Ignore;
        }
        let back_in =
            Duration::from_millis(goodbye.back_in_ms.into()).min(self.config.records.absence_most);
        self.members.get_mut(&node).expect("just seen").goodbye = Some(goodbye);
        if back_in.is_zero() {
            let why = Evidence { cause: Cause::Goodbye, by: Vec::new(), is_news: true };
            self.mark_down(cx, node, DownState { why, notice: None, gossiped: true });
        } else {
            self.mark_away(cx, node, cx.now + back_in);
        }
        Worth::Relay
    }

    fn mark_away(&mut self, cx: &mut Cx<'_>, node: NodeId, until: Time) {
        let member = self.members.get_mut(&node).expect("the caller has seen it");
        match std::mem::replace(&mut member.liveness, Liveness::BackBy(until)) {
            Liveness::Unknown { .. } => {
                self.unknown -= 1;
                self.timers.clear(Reason::Unknown(node));
            }
            Liveness::Up => self.up -= 1,
            Liveness::BackBy(_) | Liveness::Down(_) => {}
        }
        self.suspicions.remove(&node);
        self.timers.clear(Reason::Suspicion(node));
        self.timers.set(Reason::BackBy(node), until);
        self.unsettled_topology = true;
        self.unjudged = true;
        cx.facts.push(Fact::BackBy { node, until });
    }

    /// A planned absence has ended.
    pub(super) fn on_absence_over(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(Liveness::BackBy(until)) = self.members.get(&node).map(|member| &member.liveness)
        else {
            return;
        };
        let until = *until;
        if self.has_link(&node) {
            self.mark_up(cx, node); // it never stopped
            return;
        }
        self.timers.set(Reason::Unknown(node), until + self.config.records.unknown_grace);
        if self.is_neighbour(&node) {
            self.suspect(cx, node, SuspicionCause::NoLink);
            self.dial_soon(cx, node);
        }
    }

    pub(super) fn on_sighted(&mut self, cx: &mut Cx<'_>, node: NodeId, addresses: Vec<String>) {
        let was_held_by_another =
            addresses.iter().any(|address| self.is_held_by_another(&node, address));
        let is_news = self
            .members
            .get(&node)
            .is_some_and(|member| was_held_by_another || *member.sighted != *addresses);
        if !is_news || !are_within_bounds(&addresses) {
            return; // a repeated sighting must not shorten the pause between dials
        }
        self.on_seen_at(&node, &addresses);
        let Some(member) = self.members.get_mut(&node) else { return };
        member.sighted = addresses.into();
        if !self.has_link(&node) {
            self.dial_anew(cx, node);
        }
    }

    /// Until this moment a member is not judged, whatever is seen of it.
    pub(super) fn honoured_until(&self, node: &NodeId) -> Time {
        match self.members.get(node).map(|member| &member.liveness) {
            Some(Liveness::Unknown { since }) => *since + self.config.records.unknown_grace,
            Some(Liveness::BackBy(until)) => *until,
            Some(Liveness::Up | Liveness::Down(_)) | None => Time::ZERO,
        }
    }

    /// Whether a node is up; this node is.
    pub fn is_up(&self, node: &NodeId) -> bool {
        *node == self.me
            || self.members.get(node).is_some_and(|member| matches!(member.liveness, Liveness::Up))
    }
}
