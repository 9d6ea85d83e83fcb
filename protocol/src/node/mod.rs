//! One node's brain: the only room that knows all rooms. It wraps their messages into one
//! [`Message`], passes facts between them, and decides what none of them can decide alone.
//!
//! One file an input, as far as it goes; then `settle` does what became due: it closes gaps, holds
//! what is claimed, publishes routes.
//!
//! | file | what |
//! | --- | --- |
//! | `contract` | the boundary: inputs, effects, records |
//! | `boot` | from what was saved to a running node |
//! | `links`, `pending_sends`, `inbox` | the network: links, messages for nodes without one, gossip |
//! | `reach` | where this node can be dialled, and the seeds it dials |
//! | `carrying` | messages over one common member, to nodes that cannot be dialled |
//! | `commands`, `asking` | users, and what others are asked before a user is answered |
//! | `writing` | desired state: applying changes, admitting nodes |
//! | `saving`, `persisting` | the disk: what is not there yet, what it refused, what is written when it recovers |
//! | `holding` | what this node claims: running, replacing, restarting, releasing it |
//! | `planning` | what this node owns: finding gaps, opening auctions |
//! | `fetching`, `artifacts`, `stalls` | bytes, and the paths that lose them |
//! | `settling` | what follows from any of it: ring, readiness, duplicates, routes |
//! | `views`, `explaining` | what people are shown |
//! | `queues` | what grows, and its bounds |
//! | `telling` | when this node's claims are told to all |
//! | `pacing` | how often work is done that costs as much as a workload has replicas |
//! | `ways` | members without a way to one another |
//! | `wards` | which workloads may be this node's |
//! | `likeness` | a node that knows what another knows |
//! | `imprint` | what tests compare |

mod artifacts;
mod asking;
mod boot;
mod calls;
mod carrying;
mod commands;
mod contract;
mod explaining;
mod fetching;
mod holding;
mod imprint;
mod inbox;
mod likeness;
mod links;
mod message;
mod outbox;
mod outlook;
mod pacing;
mod pending_sends;
mod persisting;
mod planning;
mod queues;
mod reach;
mod replica_views;
mod saving;
mod settling;
mod spreading;
mod stalls;
mod telling;
#[cfg(test)]
mod tests;
mod views;
mod wards;
mod ways;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::auction::{self, Auction};
use crate::claims::{self, Claims};
use crate::desired::Desired;
use crate::holding::{self as holding_room, Holding};
use crate::membership::{self, Membership};
use crate::model::view::EventView;
use crate::model::{Bucket, ClusterId, Digest, Facts, KeyPair, NodeId, Time, WallClock};
use crate::plan::RescueThrottle;
use crate::ring::Ring;
use crate::rulings::Rulings;
use crate::sync::{self, Repair};
use crate::trust::Genesis;

use artifacts::Artifacts;
use outbox::Outbox;

pub use carrying::Sealed;
pub use contract::*;
pub use message::{MAX_CHANGES, Message};

/// Uploads remembered, as many as one file can describe workloads: a user who uploads more at once
/// publishes before the oldest is evicted.
const MAX_UPLOADS: usize = 256;

/// Rebuttals at once, two for each slot of a sheet, and the pause between further ones. Each costs
/// a disk write.
const REBUTTALS: (u32, Duration) = (128, Duration::from_secs(10));

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What people call the device; a host name. Shown everywhere, decides nothing.
    pub name: String,
    /// Where this node can be dialled, as multiaddrs.
    pub addresses: Vec<String>,
    /// Addresses that are dialled until the cluster is joined, as multiaddrs, or `HOST:PORT` where
    /// the host is a name.
    pub seeds: Vec<String>,
    /// The program's version, for people.
    pub version: String,
    /// Whether this node makes the cluster: it admits itself. Only with a fresh state.
    pub founder: bool,
    /// Tuning of who is alive.
    pub membership: membership::Config,
    /// Bounds of desired state; the same at all nodes of a cluster.
    pub desired: crate::desired::Config,
    /// Bounds of rulings.
    pub rulings: crate::rulings::Config,
    /// Tuning of repair.
    pub repair: sync::Config,
    /// Tuning of claims.
    pub claims: claims::Config,
    /// Tuning of auctions.
    pub auction: auction::Config,
    /// Tuning of own replicas.
    pub holding: holding_room::Config,
    /// Tuning of rescue.
    pub rescue_throttle: crate::plan::RescueThrottleConfig,
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its key.
    pub keys: KeyPair,
    /// The cluster.
    pub genesis: Genesis,
    /// The cluster's join key, with which members admit others.
    pub join: KeyPair,
}

/// Why the node wants to be called at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Who is alive.
    Membership(membership::Reason),
    /// Repair.
    Repair(sync::Reason),
    /// Two holders of a replica.
    Claims(claims::Reason),
    /// An auction.
    Auction(auction::Reason),
    /// A failed fetch is tried again.
    Fetch,
    /// An upload that nobody published need not stay any longer.
    Upload,
    /// Guardians are asked whether they hold what was published here.
    Holders,
    /// A failed replica is tried again, or given up.
    Restart,
    /// Slots of this node's sheet that wait to be told.
    Tell,
    /// A gap is looked at again.
    Plan,
    /// A seed is dialled again.
    Seed,
    /// This node has waited long enough for those it has not heard of, and acts on what it knows.
    Patience,
    /// What others said is written down, so that a restart without network knows it.
    Cache,
    /// A member is asked again for admission.
    Join,
    /// A member owes an answer on what it holds.
    Question,
}

/// How an event looks to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Info,
    Warning,
}

/// One node's brain. A copy of it goes on by itself: a model checker tries every way in which a
/// state can go on.
#[derive(Clone)]
pub struct Node {
    config: Config,
    identity: Identity,
    me: NodeId,
    cluster: ClusterId,
    rng: ChaCha8Rng,
    /// What the device's clock said, and when it said so.
    clock: (WallClock, Time),
    facts: Facts,

    membership: Membership,
    ring: Ring,
    wards: wards::Wards,
    desired: Desired,
    rulings: Rulings,
    repair: Repair,
    claims: Claims,
    auction: Auction,
    holding: Holding,
    artifacts: Artifacts,
    rescue_throttle: RescueThrottle,

    outbox: Outbox,
    /// What rooms returned and the node has not acted on. Empty between inputs.
    returned: VecDeque<calls::Returned>,
    /// What waits for a link.
    pending_sends: pending_sends::PendingSends,
    /// What goes over one common member.
    carrying: carrying::Carrying,
    /// The books of what is not on disk.
    saving: saving::Saving,
    /// Questions to others, asked before a user is told that there is nothing to do.
    questions: asking::Questions,
    /// What is still to be told of this node's sheet.
    telling: telling::Telling,
    /// How often a slot of this node that it did not write may be outdone: all of a lost disk's at
    /// once, not a copied disk's for ever.
    rebuttals: Bucket,
    /// Another device speaks in this node's name.
    is_contested: bool,
    /// Why the disk takes no writes.
    read_only: Option<String>,
    /// Since when this node runs.
    started: Time,
    /// It knows enough to own workloads.
    ready: bool,
    /// Admitted in this life, it has not compared with anybody yet that was there before: it knows
    /// nothing.
    is_newcomer: bool,
    /// Until then, and not ready, it waits for members it has not heard of.
    waits_until: Option<Time>,
    /// Until then, though ready, it hears out those it has not compared with.
    hears_out_until: Option<Time>,
    /// It hears them out because it stood still: before, it plans nothing.
    stood_still: bool,
    leaving: bool,
    reach: reach::Reach,
    /// When a member is asked (again) for admission.
    join_at: Option<Time>,
    /// Artifacts that users put here lately, which nobody may want yet.
    uploads: BTreeMap<Digest, Time>,
    /// Artifacts of what was published here, as long as not all guardians have said that they hold
    /// them.
    spreading: spreading::Spreading,
    /// When a workload's gap is looked at again, for no other reason than time.
    replan: BTreeMap<Digest, Time>,
    /// How often large workloads are looked at.
    pacing: pacing::Pacing,
    /// Workloads that a comparison brought, from whom, and until when it is waited for what it
    /// brings of who runs them. At most as many as there are.
    hearsay: BTreeMap<Digest, (NodeId, Time)>,
    due: settling::Due,
    routes: (u64, Routes),
    views: u64,
    events: u64,
    counters: BTreeMap<&'static str, u64>,
}

impl Node {
    /// Takes in what happened. Never fails: a bad peer becomes an event, a bad command a reply.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::Gossip { ticket, from, message } => self.on_gossip(now, ticket, from, message),
            Input::Garbage { from, why } => self.on_garbage(now, from, &why),
            Input::LinkUp { peer } => self.on_link_up(now, peer),
            Input::LinkDown { peer } => self.on_link_down(now, peer),
            Input::PathChanged { peer, is_stalling } => {
                self.on_path_changed(now, peer, is_stalling)
            }
            Input::DialFailed { target, how } => self.on_dial_failed(now, target, how),
            Input::Sighted { node, addresses } => self.on_sighted(now, node, addresses),
            Input::Addresses(own) => self.on_addresses(now, own),
            Input::Resolved { seed, found } => self.on_resolved(now, seed, found),
            Input::Answered { node, address, by } => self.on_answered(now, node, address, by),
            Input::Command { request, command } => self.on_command(now, request, command),
            Input::Report(report) => self.on_report(now, report),
            Input::Facts(facts) => self.on_facts(now, facts),
            Input::Fetched { digest, outcome } => self.on_fetched(now, digest, outcome),
            Input::Stored { upto } => self.on_stored(now, upto),
            Input::StoreFailed { why } => self.on_store_failed(now, why),
            Input::StoreRecovered => self.on_store_recovered(now),
            Input::WallClock(wall) => self.clock = (wall, now),
            Input::Lag(lag) => self.on_lag(now, lag),
            Input::Goodbye { back_in } => self.on_goodbye(now, back_in),
        }
        self.settle(now);
    }

    /// Looks at what is due. A spurious call is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        self.with_membership(now, |membership, now, out| membership.handle_timeout(now, out));
        self.with_repair(now, |repair, now, source, out| repair.handle_timeout(now, source, out));
        self.with_auction(now, |auction, now, context, out| {
            auction.handle_timeout(now, context, out)
        });
        if self.claims.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.due.duplicates = true;
        }
        self.lose_patience(now);
        self.end_uploads(now);
        self.retry_fetches(now);
        self.ask_holders(now);
        self.retry_replicas(now);
        self.retry_plans(now);
        self.resume_paced(now);
        self.retry_seeds(now);
        self.retry_join(now);
        self.flush_cache(now);
        self.close_questions(now);
        self.settle(now);
    }

    /// When to call `handle_timeout`, and why.
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        let after = |at: Option<Time>, reason| at.map(|at| (at, reason));
        [
            self.membership.poll_timeout().map(|(at, why)| (at, Reason::Membership(why))),
            self.repair.poll_timeout().map(|(at, why)| (at, Reason::Repair(why))),
            self.claims.poll_timeout().map(|(at, why)| (at, Reason::Claims(why))),
            self.auction.poll_timeout().map(|(at, why)| (at, Reason::Auction(why))),
            after(self.artifacts.next_retry(), Reason::Fetch),
            after(self.next_upload_end(), Reason::Upload),
            after(self.spreading.next(), Reason::Holders),
            after(self.holding.poll_timeout(), Reason::Restart),
            after(self.telling.due(), Reason::Tell),
            after(self.pacing.due(), Reason::Plan),
            after(self.replan.values().min().copied(), Reason::Plan),
            after(self.next_seed(), Reason::Seed),
            after(self.waits_until, Reason::Patience),
            after(self.hears_out_until, Reason::Patience),
            after(self.rescue_throttle.poll_timeout(), Reason::Patience),
            after(self.saving.cache.due(), Reason::Cache),
            after(self.join_at, Reason::Join),
            after(self.questions.next(), Reason::Question),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// The next thing to do. Take all of them after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.outbox.pop()
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// What the device's clock would say.
    fn wall(&self, now: Time) -> WallClock {
        let (wall, at) = self.clock;
        WallClock(
            wall.0.saturating_add(u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// What people call a node: its name where that is known, else a short id.
    fn name_of(&self, node: &NodeId) -> String {
        match self.membership.record(node) {
            Some(record) => record.name.clone(),
            None if *node == self.me => self.config.name.clone(),
            None => node.short(),
        }
    }

    /// Whether this node is on the roster.
    fn admitted(&self) -> bool {
        self.desired.members().contains_key(&self.me)
    }

    fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    /// Tells people.
    fn tell(
        &mut self,
        now: Time,
        level: Level,
        kind: &str,
        subject: Option<String>,
        node: Option<NodeId>,
        message: String,
    ) {
        self.events += 1;
        let event = EventView {
            seq: self.events,
            at: self.wall(now).to_string(),
            level: match level {
                Level::Info => "info".into(),
                Level::Warning => "warning".into(),
            },
            kind: kind.into(),
            subject,
            node: node.map(|node| self.name_of(&node)),
            message,
        };
        self.outbox.push(Action::Notify(event));
    }

    fn on_goodbye(&mut self, now: Time, back_in: Duration) {
        self.leaving = true;
        self.publish_profile(now);
        self.with_membership(now, |membership, now, out| {
            membership.handle_goodbye(now, back_in, out);
            Vec::new()
        });
    }

    fn on_facts(&mut self, now: Time, facts: Facts) {
        self.auction.set_capacity(facts.capacity);
        self.facts = facts;
        self.publish_profile(now);
        self.due.holding = true;
        self.mark_all();
    }

    /// Artifacts that must not be evicted: those of workloads that this node claims or guards, and
    /// fresh uploads.
    pub fn pinned(&self) -> BTreeSet<Digest> {
        let claimed =
            self.claims.mine().filter_map(|claim| self.desired.by_uid(&claim.replica.uid));
        let wanted = self.guarded().chain(claimed).map(|wish| wish.spec.artifact.digest);
        wanted.chain(self.uploads.keys().copied()).collect()
    }
}
