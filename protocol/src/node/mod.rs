//! The core of one node: the only room that imports all rooms. It wraps their messages into one
//! [`Message`], passes facts between them, and decides what needs several of them.
//!
//! Each input has one handler; facts that rooms return go through one queue (`calls`); then
//! `reconcile` does what became due: it carries out the plan's steps for this node, auctions free
//! places, and publishes routes.
//!
//! | file | content |
//! | --- | --- |
//! | `contract` | the boundary: inputs, effects, records |
//! | `calls` | calls into rooms, and the queue of the facts that they return |
//! | `membership_facts`, `claim_facts` | reactions to the facts of membership; of claims and auctions |
//! | `boot` | from a saved state to a running node |
//! | `budgets` | how much a member may cause at other nodes |
//! | `links`, `pending_sends` | links, and messages that wait for one |
//! | `doors` | links whose other end has not shown yet who it is |
//! | `inbox`, `joining` | messages from peers; admitting a node |
//! | `reach` | this node's addresses, and the seeds that it dials |
//! | `relay`, `reachability` | messages over one common member; members that cannot be dialled |
//! | `commands`, `asking` | users' commands; questions to members before a user is answered |
//! | `writing` | desired state: applying changes, admitting nodes |
//! | `saving`, `persisting` | the disk: pending writes, refused writes, recovery |
//! | `outlook` | the rooms that decide what should run where, read together |
//! | `planning`, `planning_throttle` | owner: auctions for free places, and how often |
//! | `holding` | holder: running, replacing, restarting, releasing own replicas |
//! | `fetching`, `replication`, `stalls` | artifacts: fetches, their holders, stalling paths |
//! | `images` | the images that workloads name, for the daemon |
//! | `reconcile`, `readiness`, `routes` | consequences of any input |
//! | `ownership` | the ring, and the index of the workloads near this node |
//! | `facts` | what the device tells of itself, and what operators set over it |
//! | `slot_gossip` | the rate at which this node's claims are gossiped |
//! | `outbox`, `message` | effects not taken yet; the messages between nodes |
//! | `events`, `history` | what is shown as it happens; who changed what |
//! | `views`, `replica_views`, `explaining` | read-only views for people and programs |
//! | `balancing` | moves to nodes with more room |
//! | `scaling` | the number of replicas by their load |
//! | `rights` | who may do what, for people |
//! | `values` | secrets and configs: what there is, and which node may read it |
//! | `queues` | every collection that grows, with its bound |
//! | `simulator_clone` | a node with the state of another, for large simulations |
//! | `test_fingerprint` | the state that tests compare |

mod asking;
mod balancing;
mod boot;
mod budgets;
mod calls;
mod claim_facts;
mod commands;
mod contract;
mod doors;
mod events;
mod explaining;
mod facts;
mod fetching;
mod filling;
mod history;
mod holding;
mod images;
mod inbox;
mod joining;
mod links;
mod membership_facts;
mod message;
mod old_versions;
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
mod rights;
mod routes;
mod runs;
mod saving;
mod scaling;
mod sight;
mod simulator_clone;
mod slot_gossip;
mod stalls;
mod test_fingerprint;
#[cfg(test)]
mod tests;
mod updates;
mod values;
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
use crate::model::view::ChangeView;
use crate::model::{
    Chain, ClusterId, Digest, Facts, KeyPair, NodeId, PublicKey, Roster, Time, WallClock,
};
use crate::plan::RescueThrottle;
use crate::readiness::Readiness;
use crate::rulings::Rulings;
use crate::sync::{self, Repair};
use crate::trust::Genesis;

use events::Level;
use outbox::Outbox;

pub use contract::*;
pub use images::ImageUse;
pub use message::{MAX_CHANGES, MAX_LINEAGE, MAX_LOADS, Message};
pub use relay::Sealed;
pub use values::NotForIt;

/// The configuration of a node, fixed for one run.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The device's name for people, usually its host name. Decides nothing.
    pub name: String,
    /// Addresses under which others can dial this node, as multiaddrs, the best first, until the
    /// first [`Input::Addresses`]. At most 16.
    pub addresses: Vec<String>,
    /// Addresses to dial while this node is not admitted or misses members: multiaddrs, or
    /// `HOST:PORT` if the host is a name.
    pub seeds: Vec<String>,
    /// The program's version, for people.
    pub version: String,
    /// True if this node founded the cluster: it need not wait for others.
    pub founder: bool,
    /// Whether the driver takes notes of who changed what ([`Node::poll_history`]).
    pub history: bool,
    /// Failure detection and links.
    pub membership: membership::Config,
    /// Bounds of desired state; must be the same at all nodes of a cluster.
    pub desired: crate::desired::Config,
    /// Bounds of rulings.
    pub rulings: crate::rulings::Config,
    /// Comparison with other nodes.
    pub repair: sync::Config,
    /// Disputes between two holders of a replica.
    pub claims: claims::Config,
    /// Time-outs and prices of auctions.
    pub auction: auction::Config,
    /// Restarts of this node's replicas.
    pub holding: holding_room::Config,
    /// Limits how fast the replicas of lost nodes are replaced.
    pub rescue_throttle: crate::plan::RescueThrottleConfig,
    /// Moves to nodes with more room.
    pub balance: crate::plan::BalanceConfig,
}

/// The identity of a node.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's key pair; its public key is the node's id.
    pub keys: KeyPair,
    /// The keys that define the cluster.
    pub genesis: Genesis,
    /// The invite with which this node joins; none for a founder and a member.
    pub invite: Option<Admittance>,
}

/// The right to be admitted.
#[derive(Clone, Debug)]
pub struct Admittance {
    /// The invite's own key.
    pub keys: KeyPair,
    /// The grants that lead to it.
    pub chain: Chain,
}

/// The reason for the next deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A deadline of failure detection or links.
    Membership(membership::Reason),
    /// A deadline of a comparison.
    Repair(sync::Reason),
    /// A deadline of a dispute about a replica.
    Claims(claims::Reason),
    /// A deadline of an auction, bid or award.
    Auction(auction::Reason),
    /// Retry a failed fetch.
    Fetch,
    /// Unpin an upload that no workload names.
    Upload,
    /// Ask guardians whether they hold an artifact that was published here.
    Holders,
    /// Retry a failed replica, or release it.
    Restart,
    /// Gossip slots of this node's sheet that wait for the rate limit.
    SlotGossip,
    /// Plan a workload again.
    Plan,
    /// Look whether replicas are better off on other nodes.
    Balance,
    /// Dial a seed again.
    Seed,
    /// End a wait for other members: this node acts on what it knows.
    Grace,
    /// Write the cached facts of others to disk, so that a restart without network knows them.
    Cache,
    /// Ask another member for admission.
    Join,
    /// Stop waiting for a member's answer to a question.
    Question,
    /// Close a link whose other end does not show who it is.
    Greeting,
}

/// The core of one node. A copy is independent of the original: a model checker copies a node to
/// try each possible next input.
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
    old_versions: old_versions::OldVersions,
    readiness: Readiness,
    rescue_throttle: RescueThrottle,

    // State that needs several rooms.
    ownership: ownership::Ownership,
    planning: planning::Planning,
    scaling: scaling::Scaling,
    slot_gossip: slot_gossip::SlotGossip,
    saving: saving::Saving,
    questions: asking::Questions,
    reach: reach::Reach,
    relay: relay::Relay,
    pending_sends: pending_sends::PendingSends,
    budgets: budgets::Budgets,
    doors: doors::Doors,

    /// Facts that rooms returned and the node has not handled. Empty between inputs.
    returned: VecDeque<calls::Returned>,
    due: reconcile::Due,
    outbox: Outbox,
    shown: Shown,
}

/// The device, as the driver reports it.
#[derive(Clone)]
struct Device {
    facts: Facts,
    /// The labels of the device's configuration. Its facts have those that count.
    own_labels: BTreeMap<String, String>,
    /// The latest reading of the device's clock, and the time of that reading.
    clock: (WallClock, Time),
    started: Time,
    /// All randomness of this room; seeded at the start.
    rng: ChaCha8Rng,
}

/// State that is only read by people and programs.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// The routing table and its version, which grows with each change.
    routes: (u64, Routes),
    /// Grows whenever anything that views show may have changed.
    version: u64,
    /// The number of events since the start.
    events: u64,
    counters: BTreeMap<&'static str, u64>,
    /// Notes of changes that the driver has not taken yet.
    history: VecDeque<ChangeView>,
    /// The grants whose nearing end was reported; at most one an operator.
    endings: BTreeMap<PublicKey, rights::Ending>,
    /// When to look at them again.
    endings_at: Option<Time>,
}

impl Node {
    /// Handles an input. Never fails: a bad message becomes an event, a bad command a refusal.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::Gossip { ticket, from, message } => self.on_gossip(now, ticket, from, message),
            Input::Garbage { from, why } => self.on_garbage(now, from, &why),
            Input::OtherVersion { from, why } => self.on_other_version(now, from, &why),
            Input::LinkUp { peer, dialled } => self.on_link_up(now, peer, dialled),
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
            Input::Measured(loads) => self.on_measured(now, loads),
            Input::Wished(name) => self.on_wished(now, &name),
            Input::Facts(facts) => self.on_facts(now, facts),
            Input::FactsNoted { is_warning, message } => {
                self.on_facts_noted(now, is_warning, message)
            }
            Input::Received { artifact, from, took } => {
                self.on_artifact_received(now, artifact, from, took)
            }
            Input::Fetched { digest, outcome } => self.on_fetched(now, digest, outcome),
            Input::Stored { upto } => self.on_stored(now, upto),
            Input::StoreFailed { why } => self.on_store_failed(now, why),
            Input::StoreRecovered => self.on_store_recovered(now),
            Input::WallClock(wall) => {
                self.device.clock = (wall, now);
                self.report_endings(now);
            }
            Input::Lag(lag) => self.on_lag(now, lag),
            Input::Goodbye { back_in } => self.on_goodbye(now, back_in),
        }
        self.reconcile(now);
    }

    /// Does what is due at `now`. A spurious call is harmless.
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
        self.look_at_balance(now);
        self.resume_throttled(now);
        self.retry_seeds(now);
        self.retry_join(now);
        self.close_doors(now);
        self.flush_cache(now);
        self.close_questions(now);
        self.reconcile(now);
    }

    /// The time of the next call of `handle_timeout`, and its reason.
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
            after(self.slot_gossip.due(), Reason::SlotGossip),
            after(self.planning.throttle.due(), Reason::Plan),
            after(self.planning.again.values().min().copied(), Reason::Plan),
            after(self.planning.balance_at, Reason::Balance),
            after(self.seed_due(), Reason::Seed),
            after(self.readiness.poll_timeout(), Reason::Grace),
            after(self.rescue_throttle.poll_timeout(), Reason::Grace),
            after(self.saving.cache.due(), Reason::Cache),
            after(self.reach.join_at, Reason::Join),
            after(self.doors.poll_timeout(), Reason::Greeting),
            after(self.questions.poll_timeout(), Reason::Question),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// The next effect. The driver takes all of them after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.outbox.pop()
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// The device's clock at `now`, extrapolated from its last reading.
    fn wall(&self, now: Time) -> WallClock {
        let (wall, at) = self.device.clock;
        WallClock(
            wall.0.saturating_add(u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// The name of a node for people; a short id if its record is unknown.
    fn name_of(&self, node: &NodeId) -> String {
        match self.membership.record(node) {
            Some(record) => record.name.clone(),
            None if *node == self.me => self.config.name.clone(),
            None => node.short(),
        }
    }

    /// The members, for the network: it lets nobody else say anything but greetings.
    pub fn roster(&self) -> Roster {
        self.desired.members().clone().into()
    }

    /// Whether this node is a member.
    fn admitted(&self) -> bool {
        self.desired.members().contains_key(&self.me)
    }

    fn count(&mut self, counter: &'static str) {
        *self.shown.counters.entry(counter).or_default() += 1;
    }

    fn on_goodbye(&mut self, now: Time, back_in: Duration) {
        self.readiness.leave();
        self.publish_profile(now);
        self.with_membership(now, |membership, now, out| {
            membership.handle_goodbye(now, back_in, out);
            Vec::new()
        });
        self.write_cache();
    }

    /// Artifacts that must not be evicted: those of workloads that this node claims or guards, also
    /// of old versions that it serves, and fresh uploads.
    pub fn pinned(&self) -> BTreeSet<Digest> {
        let claimed =
            self.claims.mine().filter_map(|claim| self.desired.by_uid(&claim.replica.uid));
        let workloads = self.guarded().chain(claimed);
        let wanted = workloads.flat_map(|workload| workload.spec.program.artifacts());
        wanted
            .map(|artifact| artifact.digest)
            .chain(self.old_versions.artifacts())
            .chain(self.artifacts.uploads.iter().copied())
            .collect()
    }
}
