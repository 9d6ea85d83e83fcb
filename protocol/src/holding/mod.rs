//! The replicas that this node holds: one entry per replica, from the award until the runtime has
//! stopped it.
//!
//! ```text
//!         award             on disk            artifact ready            it answers
//!   (auction) ──▶ Writing ──────────▶ Fetching ──────────────▶ Starting ──────────▶ Ready
//!                                        ▲                        │ it failed         │
//!                                        └─ next try ─ BackingOff ◀───────────────────┘
//!                                                         │ too often
//!   released ◀───────────────────────────── GivingUp ◀────┘
//! ```
//!
//! `Waiting` is `Starting` with a reason for people: it does not get on, or answers no longer.
//!
//! **A revision serves until its replacement is ready**: while a new revision is fetched, started
//! and retried, [`Holding::serving`] names the old one. A replica with a revision that serves is
//! never given up because its replacement fails. One that answers no longer may come back, and is
//! started again when it failed (`former.rs`).
//!
//! Resources are committed in this room only. It decides the stages; the node reads the claims,
//! orders the runtime and writes to disk.

mod answers;
mod config;
mod former;
mod lookup;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::claim::{SLOTS, short_reason};
use crate::model::spec::HostPort;
use crate::model::{Award, Need, NeedSum, PersistId, Queue, ReplicaId, Revision, Signed, Time};

pub use answers::{Bytes, Due, Ended, Failed, Held, Next, Waits};
pub use config::Config;
use former::Former;
pub use stage::Stage;
/// The replicas that this node holds.
#[derive(Clone, Debug)]
pub struct Holding {
    config: Config,
    /// By slot of the own sheet, then by replica. One for each own claim, and those that the
    /// runtime is still stopping.
    replicas: BTreeMap<(u8, ReplicaId), Replica>,
    /// Own slots on their way to disk, each with its last batch. At most [`SLOTS`].
    unwritten: BTreeMap<u8, PersistId>,
    committed: NeedSum,
    stopping: NeedSum,
    /// A revision waits for the room of what is being stopped.
    awaits_room: bool,
}

/// A replica of this node.
#[derive(Clone, Debug)]
struct Replica {
    stage: Stage,
    /// The revision that the stage is about. `None` after a restart of the daemon, until the claim
    /// was compared with desired state.
    target: Option<Revision>,
    /// All that the target requires.
    need: Need,
    /// The committed resources: while another revision serves, enough for either of the two.
    committed: Need,
    /// The ports of the device that the target requires.
    target_ports: BTreeSet<HostPort>,
    /// The ports that it has: while another revision serves, those of both.
    ports: BTreeSet<HostPort>,
    /// Further tries since the replica was last ready for [`Config::forgiven_after`].
    restarts: u32,
    /// The most further tries of a program that ended by itself, and may; none before it did.
    retries: Option<u32>,
    /// The revision that the runtime was told last to run, while that may still run.
    ordered: Option<Revision>,
    /// The target has served, or served before the daemon ended, as far as its claim says.
    has_served: bool,
    /// It ran before the daemon started: until then no other revision takes its place, unless it
    /// fails for good.
    returns_until: Option<Time>,
    /// A revision that this node has no place for, and why, while another one serves.
    refused: Option<(Revision, String)>,
    /// The revision that runs and answers, and the time at which it became ready.
    serving: Option<(Revision, Time)>,
    /// An older revision that is to serve until the target is ready, once it has not.
    former: Option<Former>,
    /// The target was reported healthy to the other nodes.
    is_reported: bool,
    /// The claim is older than this run or the last stall, and was not reported healthy since:
    /// another node may have taken the replica over.
    is_returning: bool,
    /// The replica is not reported healthy before this time.
    report_held_until: Option<Time>,
}
impl Holding {
    /// A node without replicas.
    pub fn new(config: Config) -> Holding {
        Holding {
            config,
            replicas: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            committed: NeedSum::default(),
            stopping: NeedSum::default(),
            awaits_room: false,
        }
    }

    /// The growing collections, with their bounds. `claims` is the number of own claims.
    pub fn queues(&self, claims: usize) -> Vec<Queue> {
        let stopping =
            self.replicas.values().filter(|entry| entry.stage == Stage::Stopping).count();
        vec![
            Queue::new("replicas held", self.replicas.len() - stopping, claims),
            Queue::new("own slots on their way to disk", self.unwritten.len(), SLOTS.into()),
        ]
    }

    /// Holds a replica after an award, whose claim is in `batch`.
    pub fn claim(
        &mut self,
        now: Time,
        award: Signed<Award>,
        need: impl Into<Need>,
        batch: PersistId,
    ) {
        let replica = award.replica;
        let target = Some(award.generation);
        let stage = Stage::Writing { batch, award, since: now, ordered: None };
        self.insert(replica, Replica { target, ..Replica::new(stage, need.into()) });
    }

    /// Holds a replica that this node claimed in an earlier run. It does not run yet.
    pub fn adopt(&mut self, now: Time, replica: ReplicaId, need: impl Into<Need>) {
        let adopted = Replica {
            is_returning: true,
            has_served: true,
            returns_until: Some(now + self.config.returns_within),
            ..Replica::new(Stage::Fetching, need.into())
        };
        self.insert(replica, adopted);
    }

    /// Holds a replica that runs and was reported healthy. For simulated clusters that do not start
    /// empty.
    pub fn adopt_ready(
        &mut self,
        now: Time,
        replica: ReplicaId,
        revision: Revision,
        need: impl Into<Need>,
    ) {
        let ready = Replica {
            target: Some(revision),
            serving: Some((revision, now)),
            has_served: true,
            is_reported: true,
            ..Replica::new(Stage::Ready, need.into())
        };
        self.insert(replica, ready);
    }

    fn insert(&mut self, replica: ReplicaId, entry: Replica) {
        self.remove(&replica);
        self.committed.add(&entry.committed, 1);
        self.replicas.insert(key(&replica), entry);
    }

    fn remove(&mut self, replica: &ReplicaId) {
        if let Some(before) = self.replicas.remove(&key(replica)) {
            match before.stage {
                Stage::Stopping => self.stopping.remove(&before.committed, 1),
                _ => self.committed.remove(&before.committed, 1),
            }
        }
    }

    /// An own slot is on its way to disk, in `batch`.
    pub fn slot_issued(&mut self, slot: u8, batch: PersistId) {
        self.unwritten.insert(slot, batch);
    }

    /// All batches up to `upto` are on disk. Returns the own slots that are on disk now.
    pub fn slots_written(&mut self, upto: PersistId) -> Vec<u8> {
        self.unwritten.extract_if(.., |_, batch| *batch <= upto).map(|(slot, _)| slot).collect()
    }

    /// The disk failed. Returns the own slots that were on their way to it.
    pub fn slots_dropped(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unwritten).into_keys().collect()
    }

    /// The batch in which an own slot is on its way to disk; `None` if it is there.
    pub fn slot_batch(&self, slot: u8) -> Option<PersistId> {
        self.unwritten.get(&slot).copied()
    }

    /// All batches up to `upto` are on disk. Returns the awards whose claims are on disk now. A
    /// claim that took `late_after` or longer delays its health report, because the owner may have
    /// awarded the place again.
    pub fn claims_written(
        &mut self,
        now: Time,
        upto: PersistId,
        late_after: Duration,
    ) -> Vec<Signed<Award>> {
        let mut awards = Vec::new();
        for entry in self.replicas.values_mut() {
            let Stage::Writing { batch, award, since, ordered } = &entry.stage else { continue };
            if *batch > upto {
                continue;
            }
            if now.since(*since) >= late_after {
                entry.report_held_until = Some(now + self.config.late_report_after);
            }
            awards.push((*batch, award.clone()));
            let is_ordered = ordered.is_some() && *ordered == entry.target;
            entry.ordered = ordered.filter(|_| is_ordered);
            entry.stage = if is_ordered { Stage::Starting } else { Stage::Fetching };
        }
        awards.sort_by_key(|(batch, _)| *batch);
        awards.into_iter().map(|(_, award)| award).collect()
    }

    /// The awards whose claims are on their way to disk.
    pub fn writing(&self) -> Vec<Signed<Award>> {
        let award = |entry: &Replica| match &entry.stage {
            Stage::Writing { award, .. } => Some(award.clone()),
            _ => None,
        };
        self.replicas.values().filter_map(award).collect()
    }

    /// Makes `to` the target of a replica. Returns whether it was another one; a revision that
    /// serves goes on until `to` is ready. If `has_compared` is false, this node may not know yet
    /// that another node runs `to`.
    pub fn replace(
        &mut self,
        replica: &ReplicaId,
        to: Revision,
        need: impl Into<Need>,
        has_compared: bool,
    ) -> bool {
        let need = need.into();
        let Some(entry) = self.entry_mut(replica) else { return false };
        if entry.target == Some(to) {
            return false;
        }
        // The first target after a start of the daemon is the one of before, or takes its place.
        entry.has_served &= entry.target.is_none();
        entry.target = Some(to);
        entry.refused = None;
        entry.restarts = 0;
        entry.is_returning |= !has_compared;
        entry.report_held_until = None;
        entry.is_reported = false;
        if !matches!(entry.stage, Stage::Writing { .. }) {
            entry.stage = Stage::Fetching;
        }
        entry.former.take_if(|former| former.revision == to);
        entry.need = need.clone();
        let committed = match entry.runs_other() {
            true => entry.committed.or_more(&need),
            false => need,
        };
        self.commit(replica, committed);
        true
    }

    /// A revision has a place here once what is being stopped is gone.
    pub fn await_room(&mut self) {
        self.awaits_room = true;
    }

    /// Whether something stopped may have made the room that a revision waits for, or that one was
    /// refused for. Ask after [`Holding::stopped`].
    pub fn has_more_room(&mut self) -> bool {
        std::mem::take(&mut self.awaits_room)
            || self.replicas.values().any(|entry| entry.refused.is_some())
    }

    /// This node has no place for a revision, while another one serves. Returns whether that is
    /// new.
    pub fn refuse(&mut self, replica: &ReplicaId, revision: Revision, why: &str) -> bool {
        let Some(entry) = self.entry_mut(replica) else { return false };
        let refused = Some((revision, why.to_owned()));
        std::mem::replace(&mut entry.refused, refused.clone()) != refused
    }

    /// The target of a replica belongs there. Returns whether another revision was refused.
    pub fn keeps_target(&mut self, replica: &ReplicaId) -> bool {
        self.entry_mut(replica).is_some_and(|entry| entry.refused.take().is_some())
    }

    /// The target of a replica requires these ports of the device. Call it with each new target.
    pub fn require_ports(&mut self, replica: &ReplicaId, ports: BTreeSet<HostPort>) {
        let Some(entry) = self.entry_mut(replica) else { return };
        match entry.runs_other() {
            true => entry.ports.extend(&ports),
            false => entry.ports = ports.clone(),
        }
        entry.target_ports = ports;
    }

    /// The replica that has a port of the device, also while it stops; `except` is not looked at.
    pub fn port_holder(&self, port: &HostPort, except: Option<&ReplicaId>) -> Option<ReplicaId> {
        let mut all = self.replicas.iter().map(|((_, replica), entry)| (replica, entry));
        let found = all.find(|(replica, entry)| {
            entry.ports.contains(port) && except.is_none_or(|other| other != *replica)
        });
        found.map(|(replica, _)| *replica)
    }

    /// All ports of the device that replicas have.
    pub fn ports(&self) -> BTreeSet<HostPort> {
        self.replicas.values().flat_map(|entry| &entry.ports).copied().collect()
    }

    fn commit(&mut self, replica: &ReplicaId, need: Need) {
        if let Some(entry) = self.entry_mut(replica) {
            let before = std::mem::replace(&mut entry.committed, need.clone());
            self.committed.remove(&before, 1);
            self.committed.add(&need, 1);
        }
    }

    /// The step that brings a replica nearer to [`Stage::Ready`].
    pub fn next(&mut self, replica: &ReplicaId, bytes: &Bytes) -> Next {
        let max_fetches = self.config.max_fetches;
        let Some(entry) = self.entry_mut(replica) else { return Next::Nothing };
        let has_other = entry.has_other();
        match (&mut entry.stage, bytes) {
            // The fetch need not wait until the claim is on disk.
            (Stage::Writing { .. }, Bytes::Missing { .. }) => Next::Fetch,
            (Stage::Writing { batch, ordered, .. }, Bytes::Ready) if *ordered != entry.target => {
                *ordered = entry.target;
                Next::Run { after: Some(*batch) }
            }
            (Stage::Fetching, Bytes::Ready) => {
                entry.stage = Stage::Starting;
                entry.ordered = entry.target;
                Next::Run { after: None }
            }
            (Stage::Fetching, Bytes::Unusable(why)) => Next::Fail(why.clone()),
            // A revision that serves is not given up for bytes that no node may have.
            (Stage::Fetching, Bytes::Missing { tries, why })
                if *tries > max_fetches && !has_other =>
            {
                Next::Fail(why.clone())
            }
            (Stage::Fetching, Bytes::Missing { .. }) => Next::Fetch,
            (
                Stage::Writing { .. }
                | Stage::Starting
                | Stage::Waiting { .. }
                | Stage::Ready
                | Stage::BackingOff { .. }
                | Stage::GivingUp { .. }
                | Stage::Stopping,
                _,
            ) => Next::Nothing,
        }
    }

    /// The runtime reports that a revision runs and answers: the target, or an older one that did
    /// not for a while. Returns whether that is new.
    pub fn ready(&mut self, now: Time, replica: &ReplicaId, revision: Revision) -> bool {
        let Some(entry) = self.entry_mut(replica) else { return false };
        if entry.target != Some(revision) {
            return entry.former_is_ready(now, revision);
        }
        entry.returns_until = None;
        // A report of an earlier claim of the replica may come late.
        let was_ordered = match entry.stage {
            Stage::Starting
            | Stage::Waiting { .. }
            | Stage::BackingOff { .. }
            | Stage::GivingUp { .. } => true,
            Stage::Writing { .. } | Stage::Fetching | Stage::Ready | Stage::Stopping => false,
        };
        if !was_ordered {
            return false;
        }
        entry.stage = Stage::Ready;
        entry.has_served = true;
        entry.former = None;
        if entry.serving.is_none_or(|(serving, _)| serving != revision) {
            entry.serving = Some((revision, now));
        }
        entry.ports = entry.target_ports.clone();
        let need = entry.need.clone();
        self.commit(replica, need);
        true
    }

    /// The runtime reports why a revision takes no requests: not yet, or no longer. Returns the
    /// consequence: none if it was known, [`Waits::Down`] if the revision served until now.
    pub fn wait(&mut self, replica: &ReplicaId, revision: Revision, reason: &str) -> Waits {
        let Some(entry) = self.entry_mut(replica) else { return Waits::Known };
        let reason = short_reason(reason.to_owned());
        if entry.target != Some(revision) {
            return entry.former_waits(revision, reason);
        }
        let is_known = match &entry.stage {
            Stage::Starting | Stage::Ready => false,
            Stage::Waiting { reason: known } => *known == reason,
            // It has failed since, or its order is not out.
            Stage::Writing { .. }
            | Stage::Fetching
            | Stage::BackingOff { .. }
            | Stage::GivingUp { .. }
            | Stage::Stopping => true,
        };
        if is_known {
            return Waits::Known;
        }
        entry.stage = Stage::Waiting { reason };
        entry.is_reported = false;
        match entry.serving.take_if(|(serving, _)| *serving == revision) {
            Some(_) => Waits::Down,
            None => Waits::NotYet,
        }
    }

    /// The program of a replica that may end came to its end. Says what follows: what is done is
    /// released once its result is known, and what is to run again [fails](Self::fail), as often
    /// as `retries` says, whatever the time that it ran.
    pub fn ended(
        &mut self,
        replica: &ReplicaId,
        revision: Revision,
        exit_code: i32,
        retries: u32,
    ) -> Ended {
        let Some(entry) = self.entry_mut(replica) else { return Ended::Known };
        if entry.target != Some(revision) {
            return Ended::Known;
        }
        entry.retries = Some(retries);
        match exit_code {
            0 => Ended::Done,
            _ if entry.restarts < retries => Ended::Again,
            _ => Ended::Failed,
        }
    }

    /// A revision failed: retries it after a pause that doubles, or gives the replica up. An older
    /// one that is not to be retried (`is_retryable` is false) had to end for the target.
    pub fn fail(
        &mut self,
        now: Time,
        replica: &ReplicaId,
        revision: Revision,
        reason: &str,
        is_retryable: bool,
    ) -> Failed {
        let config = self.config.clone();
        let Some(entry) = self.entry_mut(replica) else { return Failed::Known };
        if entry.target != Some(revision) {
            return entry.former_fails(now, revision, reason, is_retryable, &config);
        }
        entry.ordered = None;
        let served = entry.serving.take_if(|(serving, _)| *serving == revision);
        if let Some((_, since)) = served
            && entry.retries.is_none()
            && now.since(since) >= config.forgiven_after
        {
            entry.restarts = 0;
        }
        match entry.stage {
            Stage::BackingOff { .. } | Stage::GivingUp { .. } | Stage::Writing { .. } => {
                return Failed::Known;
            }
            Stage::Fetching
            | Stage::Starting
            | Stage::Waiting { .. }
            | Stage::Ready
            | Stage::Stopping => {}
        }
        entry.is_reported = false;
        let reason = short_reason(reason.to_owned());
        let wait = config.restart_after.saturating_mul(1 << entry.restarts.min(16));
        if entry.has_other() {
            let wait = if is_retryable { wait } else { config.restart_at_most };
            entry.restarts = entry.restarts.saturating_add(1);
            let until = now + wait.min(config.restart_at_most);
            entry.stage = Stage::BackingOff { until, reason };
            return Failed::Replacement;
        }
        let most = entry.retries.unwrap_or(config.max_restarts);
        let wait = wait.min(config.restart_at_most);
        entry.stage = if is_retryable && entry.restarts < most {
            entry.restarts += 1;
            Stage::BackingOff { until: now + wait, reason }
        } else {
            Stage::GivingUp { until: now + config.give_up_after, reason }
        };
        Failed::Down
    }

    /// Releases a replica. It is no longer held, but its resources stay taken until the runtime has
    /// stopped it. Returns the batch that an order to run it still waits for.
    pub fn release(&mut self, replica: &ReplicaId) -> Option<PersistId> {
        let entry = self.entry_mut(replica)?;
        let (need, serves) = (entry.committed.clone(), entry.runs_other());
        let waiting = match &entry.stage {
            Stage::Writing { batch, ordered, .. } => ordered.map(|_| *batch),
            _ => None,
        };
        // The target was not started.
        let is_stopped = matches!(entry.stage, Stage::Writing { .. } | Stage::Fetching) && !serves;
        if is_stopped {
            self.remove(replica);
            return waiting;
        }
        entry.stage = Stage::Stopping;
        (entry.serving, entry.former) = (None, None);
        self.committed.remove(&need, 1);
        self.stopping.add(&need, 1);
        waiting
    }

    /// The runtime reports that nothing of a replica runs. Returns whether it was to stop it.
    pub fn stopped(&mut self, replica: &ReplicaId) -> bool {
        let is_stopping = |entry: &Replica| entry.stage == Stage::Stopping;
        let was_stopping = self.replicas.get(&key(replica)).is_some_and(is_stopping);
        if was_stopping {
            self.remove(replica);
        }
        was_stopping
    }

    /// Takes the retries and releases that are due.
    pub fn take_due(&mut self, now: Time) -> Vec<(ReplicaId, Due)> {
        let mut due = Vec::new();
        for ((_, replica), entry) in &mut self.replicas {
            if entry.returns_until.take_if(|until| *until <= now).is_some() {
                due.push((*replica, Due::Retry));
            }
            if let Some(former) = &mut entry.former
                && former.stage.due().is_some_and(|until| until <= now)
            {
                former.stage = Stage::Starting;
                due.push((*replica, Due::Again(former.revision)));
            }
            match &entry.stage {
                Stage::BackingOff { until, .. } if *until <= now => {
                    entry.stage = Stage::Fetching;
                    due.push((*replica, Due::Retry));
                }
                Stage::GivingUp { until, reason } if *until <= now => {
                    due.push((*replica, Due::Release(reason.clone())));
                }
                _ => {}
            }
        }
        due
    }

    /// Ends delays of health reports that are over. Returns whether there were any.
    pub fn end_report_delays(&mut self, now: Time) -> bool {
        let mut any = false;
        for entry in self.replicas.values_mut() {
            any |= entry.report_held_until.take_if(|until| *until <= now).is_some();
        }
        any
    }

    /// The next time at which [`Holding::take_due`] or [`Holding::end_report_delays`] has work.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.replicas
            .values()
            .flat_map(|entry| {
                let former = entry.former.as_ref().and_then(|former| former.stage.due());
                let own = entry.stage.due().into_iter().chain(entry.report_held_until);
                let own = own.chain(entry.returns_until);
                own.chain(former)
            })
            .min()
    }

    fn entry(&self, replica: &ReplicaId) -> Option<&Replica> {
        self.replicas.get(&key(replica)).filter(|entry| entry.stage != Stage::Stopping)
    }

    fn entry_mut(&mut self, replica: &ReplicaId) -> Option<&mut Replica> {
        self.replicas.get_mut(&key(replica)).filter(|entry| entry.stage != Stage::Stopping)
    }
}

impl Replica {
    fn new(stage: Stage, need: Need) -> Replica {
        Replica {
            stage,
            target: None,
            committed: need.clone(),
            need,
            target_ports: BTreeSet::new(),
            ports: BTreeSet::new(),
            restarts: 0,
            retries: None,
            ordered: None,
            has_served: false,
            returns_until: None,
            refused: None,
            serving: None,
            former: None,
            is_reported: false,
            is_returning: false,
            report_held_until: None,
        }
    }

    fn is_unreported(&self) -> bool {
        self.stage == Stage::Ready && !self.is_reported
    }
}

fn key(replica: &ReplicaId) -> (u8, ReplicaId) {
    (replica.slot(), *replica)
}
