//! The core of one node: the only room that knows all rooms. It wraps their messages into one
//! [`Message`], passes facts between them, and decides what none of them can decide alone.
//!
//! An input goes to one file; what rooms return goes through one queue (`calls`); then `reconcile`
//! does what became due: it carries out the plan's steps for this node, auctions free places, and
//! publishes routes.
//!
//! | file | what |
//! | --- | --- |
//! | `contract` | the boundary: inputs, effects, records |
//! | `calls` | calls into rooms, and the queue of the facts that they return |
//! | `boot` | from a saved state to a running node |
//! | `links`, `pending_sends`, `inbox` | the network: links, messages without one, gossip |
//! | `reach` | where this node can be dialled, and the seeds it dials |
//! | `relay`, `reachability` | messages over one common member; members that cannot be dialled |
//! | `commands`, `asking` | users, and questions to others before a user is answered |
//! | `writing` | desired state: applying changes, admitting nodes |
//! | `saving`, `persisting` | the disk: what is not there yet, what it refused, when it recovers |
//! | `outlook` | what should run where: the rooms that decide it, read together |
//! | `planning`, `planning_throttle` | owner: auctions for free places, and how often |
//! | `holding` | holder: running, replacing, restarting, releasing own replicas |
//! | `fetching`, `replication`, `stalls` | artifacts: getting them, who holds them, bad paths |
//! | `reconcile`, `readiness`, `routes` | what follows from any input |
//! | `ownership` | the ring, and which workloads may be this node's |
//! | `slot_gossip` | when this node's claims are told to all |
//! | `views`, `replica_views`, `explaining` | what people are shown |
//! | `queues` | what grows, and its bounds |
//! | `simulator_clone` | a node that knows what another knows |
//! | `test_fingerprint` | what tests compare |

mod asking;
mod boot;
mod calls;
mod commands;
mod contract;
mod explaining;
mod fetching;
mod holding;
mod inbox;
mod links;
mod message;
mod outbox;
mod outlook;
mod ownership;
mod pending_sends;
mod persisting;
mod planning;
mod planning_throttle;
mod queues;
mod reach;
mod reachability;
mod readiness;
mod reconcile;
mod relay;
mod replica_views;
mod replication;
mod routes;
mod saving;
mod simulator_clone;
mod slot_gossip;
mod stalls;
mod test_fingerprint;
#[cfg(test)]
mod tests;
mod views;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::artifacts::Artifacts;
use crate::auction::{self, Auction};
use crate::claims::{self, Claims};
use crate::desired::Desired;
use crate::holding::{self as holding_room, Holding};
use crate::membership::{self, Membership};
use crate::model::view::EventView;
use crate::model::{ClusterId, Digest, Facts, KeyPair, NodeId, Time, WallClock};
use crate::plan::RescueThrottle;
use crate::readiness::Readiness;
use crate::rulings::Rulings;
use crate::sync::{self, Repair};
use crate::trust::Genesis;

use outbox::Outbox;

pub use contract::*;
pub use message::{MAX_CHANGES, Message};
pub use relay::Sealed;

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
    /// This node has waited long enough for members that it has not heard of, and acts on what it
    /// knows.
    Grace,
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

/// The core of one node. A copy goes on by itself: a model checker tries every way in which a state
/// can go on.
#[derive(Clone)]
pub struct Node {
    config: Config,
    identity: Identity,
    me: NodeId,
    cluster: ClusterId,
    device: Device,

    // Rooms.
    membership: Membership,
    desired: Desired,
    rulings: Rulings,
    repair: Repair,
    claims: Claims,
    auction: Auction,
    holding: Holding,
    artifacts: Artifacts,
    readiness: Readiness,
    rescue_throttle: RescueThrottle,

    // What none of the rooms can do alone.
    ownership: ownership::Ownership,
    planning: planning::Planning,
    slot_gossip: slot_gossip::SlotGossip,
    saving: saving::Saving,
    questions: asking::Questions,
    reach: reach::Reach,
    relay: relay::Relay,
    pending_sends: pending_sends::PendingSends,

    /// What rooms returned and the node has not acted on. Empty between inputs.
    returned: VecDeque<calls::Returned>,
    due: reconcile::Due,
    outbox: Outbox,
    shown: Shown,
}

/// The device, as the daemon tells it.
#[derive(Clone)]
struct Device {
    /// What it offers.
    facts: Facts,
    /// The latest reading of its clock, and the time of that reading.
    clock: (WallClock, Time),
    /// The start of this node.
    started: Time,
    rng: ChaCha8Rng,
}

/// What people and programs are shown.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// The routing table and its version, which grows with each change.
    routes: (u64, Routes),
    /// Grows whenever anything that views show may have changed.
    version: u64,
    /// Events so far.
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
            Input::WallClock(wall) => self.device.clock = (wall, now),
            Input::Lag(lag) => self.on_lag(now, lag),
            Input::Goodbye { back_in } => self.on_goodbye(now, back_in),
        }
        self.reconcile(now);
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
        self.end_grace(now);
        self.artifacts.uploads.handle_timeout(now);
        self.retry_fetches(now);
        self.ask_holders(now);
        self.retry_replicas(now);
        self.retry_plans(now);
        self.resume_paced(now);
        self.retry_seeds(now);
        self.retry_join(now);
        self.flush_cache(now);
        self.close_questions(now);
        self.reconcile(now);
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
            after(self.artifacts.uploads.poll_timeout(), Reason::Upload),
            after(self.artifacts.replication.poll_timeout(), Reason::Holders),
            after(self.holding.poll_timeout(), Reason::Restart),
            after(self.slot_gossip.due(), Reason::Tell),
            after(self.planning.throttle.due(), Reason::Plan),
            after(self.planning.again.values().min().copied(), Reason::Plan),
            after(self.next_seed(), Reason::Seed),
            after(self.readiness.poll_timeout(), Reason::Grace),
            after(self.rescue_throttle.poll_timeout(), Reason::Grace),
            after(self.saving.cache.due(), Reason::Cache),
            after(self.reach.join_at, Reason::Join),
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
        let (wall, at) = self.device.clock;
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
        *self.shown.counters.entry(what).or_default() += 1;
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
        self.shown.events += 1;
        let event = EventView {
            seq: self.shown.events,
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
        self.readiness.leave();
        self.publish_profile(now);
        self.with_membership(now, |membership, now, out| {
            membership.handle_goodbye(now, back_in, out);
            Vec::new()
        });
    }

    fn on_facts(&mut self, now: Time, facts: Facts) {
        self.auction.set_capacity(facts.capacity);
        self.device.facts = facts;
        self.publish_profile(now);
        self.due.holding = true;
        self.mark_all();
    }

    /// Artifacts that must not be evicted: those of workloads that this node claims or guards, and
    /// fresh uploads.
    pub fn pinned(&self) -> BTreeSet<Digest> {
        let claimed =
            self.claims.mine().filter_map(|claim| self.desired.by_uid(&claim.replica.uid));
        let workloads = self.guarded().chain(claimed);
        let wanted = workloads.flat_map(|workload| workload.spec.program.artifacts());
        wanted
            .map(|artifact| artifact.digest)
            .chain(self.artifacts.uploads.iter().copied())
            .collect()
    }
}
