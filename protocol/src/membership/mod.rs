//! Membership: a failure detector with few watchers a node, and the records of all nodes.
//!
//! ```text
//!   beats        S -> its m observers (the next live nodes on a circle of points), every 400 ms
//!   suspicion    an observer's link to S closes, or S is silent and does not answer a probe
//!   questions    the observer dials S again, and asks the other observers: can you reach S now?
//!   answers      Alive (S answered a probe sent after the question), or a signed Vote
//!                (Closed, Silent, Refused)
//!   verdict      a majority of the observers that can be asked, and no live path
//!                ->  Down, gossiped with the votes
//!   refutation   S hears that it is down and takes a higher incarnation, which beats all that was
//!                said of the lower one; if that happens often, S waits longer each time
//! ```
//!
//! **Down is decided by evidence gathered after the suspicion began, never from memory.** Rules
//! that look odd mend races; each is explained in its file: `suspicions.rs` (asking, answering),
//! `votes.rs` (verdict, notices), `paths.rs` (our own stalls), `dialing.rs` (crossing dials,
//! splits), `moving.rs` (new addresses), `records.rs` (incarnations), `repair.rs` (lost gossip).
//!
//! Not here: dialling addresses (the driver), disks (the node persists), and what being down means
//! for workloads.

mod answerers;
mod config;
mod dialing;
mod evidence;
mod fact;
mod handlers;
mod members;
mod message;
mod moving;
mod observers;
mod on_demand;
mod paths;
mod queues;
mod reachability;
mod records;
mod repair;
mod simulator_clone;
mod suspicions;
mod timers;
mod views;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imbl::OrdMap;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::model::{ClusterId, Digest, KeyPair, NodeId, NodeRecord, Out, Signed, Time};

pub use config::{Config, DialConfig, LinkConfig, ProbeConfig, RecordConfig, SuspicionConfig};
pub use evidence::{Cause, Evidence, SuspicionCause};
pub use fact::{Answerer, DialFailure, Fact, Profile, State, Worth};
pub use message::{Gone, Goodbye, Message, Notice, ProbeIntent, Seen, Vote};
pub use on_demand::MAX_PENDING_LINKS;
pub use reachability::MAX_HOPS;
pub use timers::Reason;

use answerers::Answerers;
use members::Member;
use observers::{Circle, ShortcutPoints, shortcut_points};
use paths::{LocalHealth, Path};
use records::Own;
use suspicions::{Inquiry, Suspicion};
use timers::Timers;

/// The members and their state, as this node sees them.
#[derive(Clone, Debug)]
pub struct Membership {
    config: Config,
    me: NodeId,
    keys: KeyPair,
    cluster: ClusterId,
    rng: ChaCha8Rng,
    own: Own,
    /// The roster without this node.
    members: OrdMap<NodeId, Member>,
    /// This node's own salt; none while it is not in the roster. Then it neither watches nor votes.
    salt: Option<u64>,
    circle: Circle,
    /// The points on the circle to which this node's shortcuts may lead.
    shortcuts: Vec<ShortcutPoints>,
    /// By node: links, dials and what is remembered of them. Members, and strangers while they have
    /// a link.
    paths: BTreeMap<NodeId, Path>,
    /// Dials under way, at most `config.dialing.max`.
    dialling: BTreeSet<NodeId>,
    /// Members that should have a link with this node.
    wanted: BTreeSet<NodeId>,
    /// Random members to dial while all neighbours are out of reach; at most `config.links.random`.
    random_contacts: BTreeSet<NodeId>,
    /// Members linked on demand, and until when the link is kept; at most `MAX_KEPT_LINKS` and
    /// `MAX_PENDING_LINKS`.
    on_demand: BTreeMap<NodeId, Time>,
    /// Members that this node watches, and since when.
    watched: BTreeMap<NodeId, Time>,
    /// Members that watch this node.
    watchers: BTreeSet<NodeId>,
    /// Members that this node suspects. Bounded by the roster.
    suspicions: BTreeMap<NodeId, Suspicion>,
    /// Open questions of other members, by subject and asker; bounded in `suspicions.rs`.
    inquiries: BTreeMap<NodeId, BTreeMap<NodeId, Inquiry>>,
    /// Nodes, strangers and refusals met at a member's address instead of the member.
    answerers: Answerers,
    local_health: LocalHealth,
    /// When this node was last apart from the others: it stalled, had no link, or those that judge
    /// called it down.
    apart_at: Time,
    timers: Timers,
    /// Numbers probes. Never repeats, so an answer tells which probe it answers.
    next_seq: u64,
    /// Numbers questions.
    next_round: u32,
    /// Fingerprint of the members that are down.
    view: u32,
    /// Number of members whose state is unknown.
    unknown: usize,
    /// Number of members that are up.
    up: usize,
    /// Members and this node, by the key of their record in sync.
    keys_in_sync: OrdMap<Digest, NodeId>,
    /// Something that a verdict depends on changed.
    unjudged: bool,
    /// Something that decides which members watch one another changed.
    unsettled_topology: bool,
}

/// The context of a call: the time, outgoing messages and dials, facts for the node.
struct Cx<'a> {
    now: Time,
    out: &'a mut Out<Message>,
    facts: Vec<Fact>,
}

impl<'a> Cx<'a> {
    fn new(now: Time, out: &'a mut Out<Message>) -> Self {
        Cx { now, out, facts: Vec::new() }
    }
}

impl Membership {
    /// A node without members. `incarnation` is on disk already and was never used before.
    pub fn new(
        now: Time,
        config: Config,
        me: NodeId,
        keys: KeyPair,
        cluster: ClusterId,
        incarnation: u64,
        seed: [u8; 32],
    ) -> Self {
        let mut membership = Membership {
            own: Own::new(incarnation),
            shortcuts: (0..config.links.random as u64).map(|n| shortcut_points(&me, n)).collect(),
            config,
            me,
            keys,
            cluster,
            rng: ChaCha8Rng::from_seed(seed),
            members: OrdMap::new(),
            salt: None,
            circle: Circle::default(),
            paths: BTreeMap::new(),
            dialling: BTreeSet::new(),
            wanted: BTreeSet::new(),
            random_contacts: BTreeSet::new(),
            on_demand: BTreeMap::new(),
            watched: BTreeMap::new(),
            watchers: BTreeSet::new(),
            suspicions: BTreeMap::new(),
            inquiries: BTreeMap::new(),
            answerers: Answerers::new(),
            local_health: LocalHealth::default(),
            apart_at: Time::ZERO,
            timers: Timers::default(),
            next_seq: 1,
            next_round: 1,
            view: 0,
            unknown: 0,
            up: 0,
            keys_in_sync: OrdMap::unit(Membership::item_key(&me), me),
            unjudged: false,
            unsettled_topology: false,
        };
        membership.local_health.since = now;
        let first = membership.jitter(membership.config.probe.beat);
        membership.timers.set(Reason::Beat, now + first);
        membership
    }

    /// Sets all admitted nodes, this node included, with the salts of their points. Members that
    /// are not among them are forgotten.
    pub fn set_roster(
        &mut self,
        now: Time,
        roster: &OrdMap<NodeId, u64>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_roster(&mut cx, roster);
        self.finish(cx)
    }

    /// A node was admitted with this salt, or, with none, is no longer a member.
    pub fn set_member(
        &mut self,
        now: Time,
        node: NodeId,
        salt: Option<u64>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_member(&mut cx, node, salt);
        self.finish(cx)
    }

    /// Sets what this node tells of itself. If that changed its record is issued anew:
    /// [`Fact::Record`] names this node.
    pub fn set_record(&mut self, now: Time, profile: Profile, out: &mut Out<Message>) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_profile(&mut cx, profile);
        self.finish(cx)
    }

    /// A record from the disk or from sync, this node's own included. It is no sign of life and
    /// changes no member's state.
    pub fn handle_record(
        &mut self,
        now: Time,
        record: Signed<NodeRecord>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_record(&mut cx, record, records::Source::Stored);
        self.finish(cx)
    }

    /// The incarnation of [`Fact::Incarnation`] is on disk.
    pub fn incarnation_stored(
        &mut self,
        now: Time,
        incarnation: u64,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_incarnation_stored(&mut cx, incarnation);
        self.finish(cx)
    }

    /// A link to this peer came up. A second one without a loss between replaces the first.
    pub fn handle_link_up(&mut self, now: Time, peer: NodeId, out: &mut Out<Message>) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_link_up(&mut cx, peer);
        self.finish(cx)
    }

    /// The link to this peer was lost.
    pub fn handle_link_down(
        &mut self,
        now: Time,
        peer: NodeId,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_link_down(&mut cx, peer);
        self.finish(cx)
    }

    /// A dial that this module asked for led to no link.
    pub fn handle_dial_failed(
        &mut self,
        now: Time,
        node: NodeId,
        how: DialFailure,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_dial_failed(&mut cx, node, how);
        self.finish(cx)
    }

    /// A peer sent a message over its link.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_message(&mut cx, from, message);
        self.finish(cx)
    }

    /// A message came by gossip; `from` relayed it and need not have written it.
    pub fn handle_gossip(
        &mut self,
        now: Time,
        _from: NodeId,
        message: Message,
        out: &mut Out<Message>,
    ) -> (Worth, Vec<Fact>) {
        let mut cx = Cx::new(now, out);
        let worth = match message {
            Message::Record(record) => match record.verify(&self.cluster) {
                Ok(record) => self.on_record(&mut cx, record, records::Source::Gossip),
                Err(_) => Worth::Reject,
            },
            Message::Down(notice, _) => self.on_notice(&mut cx, notice, None),
            Message::Goodbye(goodbye) => self.on_goodbye(&mut cx, goodbye),
            // These belong on links; a node that gossips them is broken.
            Message::Hello { .. }
            | Message::Beat { .. }
            | Message::Probe { .. }
            | Message::Answer { .. }
            | Message::Ask { .. }
            | Message::Alive { .. }
            | Message::Vote(_)
            | Message::View { .. }
            | Message::Want(_) => Worth::Reject,
        };
        (worth, self.finish(cx))
    }

    /// A hint that a node can be reached at these addresses: it is dialled there, but the hint
    /// proves nothing.
    pub fn handle_sighted(
        &mut self,
        now: Time,
        node: NodeId,
        addresses: Vec<String>,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_sighted(&mut cx, node, addresses);
        self.finish(cx)
    }

    /// A dial of this member was answered by another node, a stranger or a refusal at one of its
    /// addresses.
    pub fn handle_answered(
        &mut self,
        now: Time,
        node: NodeId,
        address: String,
        by: Answerer,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        self.on_answered(&mut cx, node, address, by);
        self.finish(cx)
    }

    /// This process did not run for `lag` although it wanted to. (A late `handle_timeout` is
    /// noticed without this.)
    pub fn handle_lag(&mut self, now: Time, lag: Duration) {
        if lag >= self.config.probe.lag_floor {
            self.stalled(now, lag);
        }
    }

    /// This node is about to stop on purpose. Zero: it will not be back soon and its work shall be
    /// placed elsewhere at once. More than `config.records.absence_most` is cut to that. From now
    /// on this node answers, but neither dials nor suspects others.
    pub fn handle_goodbye(&mut self, now: Time, back_in: Duration, out: &mut Out<Message>) {
        let mut cx = Cx::new(now, out);
        self.say_goodbye(&mut cx, back_in);
        self.finish(cx);
    }

    /// To be called at [`Self::poll_timeout`], or at any other time.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out<Message>) -> Vec<Fact> {
        // A timer that fires late shows a stall. It must be noted before any silence is measured:
        // messages that came meanwhile may still be unread.
        if let Some((due, _)) = self.timers.next() {
            self.handle_lag(now, now.since(due));
        }
        let mut cx = Cx::new(now, out);
        // All due deadlines are taken first, so that one that is set again for this very moment
        // waits for the next call.
        let mut due = Vec::new();
        while let Some(reason) = self.timers.pop_due(now) {
            due.push(reason);
        }
        for reason in due {
            self.on_due(&mut cx, reason);
        }
        self.finish(cx)
    }

    /// The next deadline and its reason.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.timers.next()
    }

    fn on_due(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        match reason {
            Reason::Beat => self.beat(cx),
            Reason::Quiet(node) => self.check_quiet(cx, node),
            Reason::Suspicion(node) => self.ask_round(cx, node),
            Reason::Dial(node) => self.dial(cx, node),
            Reason::Rtt(node) => self.measure_rtt(cx, node),
            Reason::Unknown(node) => self.on_unknown_expired(cx, node),
            Reason::BackBy(node) => self.on_absence_over(cx, node),
            Reason::GossipDown(node) => self.gossip_down(cx, node),
            Reason::Repair(node) => self.repair(cx, node),
            Reason::Reissue => self.answer_challenge(cx),
            Reason::Announce => self.announce(cx),
            Reason::Explore => self.explore(cx),
            Reason::OnDemand => self.expire_on_demand(cx),
            Reason::Unreachable => self.announce_unreachable(cx),
        }
    }

    /// Ends every call: updates topology and verdicts, which follow from one another, until nothing
    /// more changes.
    fn finish(&mut self, mut cx: Cx<'_>) -> Vec<Fact> {
        loop {
            if std::mem::take(&mut self.unsettled_topology) {
                self.refresh_topology(&mut cx);
            } else if std::mem::take(&mut self.unjudged) {
                self.judge_all(&mut cx);
            } else {
                return cx.facts;
            }
        }
    }

    fn stalled(&mut self, now: Time, lag: Duration) {
        self.local_health.stalled(now, lag, &self.config);
        if lag >= self.config.suspicion.silent_after {
            self.apart_at = now;
        }
        for suspicion in self.suspicions.values_mut() {
            suspicion.restart_waits(now);
        }
    }

    /// A random duration below `most`.
    fn jitter(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX >> 32).min(u64::MAX >> 32);
        Duration::from_micros((micros * u64::from(self.rng.next_u32())) >> 32)
    }
}

#[cfg(test)]
mod tests;
