//! The replicas that this node holds, one entry per replica, from the award until the runtime has
//! stopped it.
//!
//! ```text
//!              award              on disk           artifact ready      runtime: it answers
//!   (auction) ───────▶ Writing ──────────▶ Fetching ─────────────▶ Starting ──────────▶ Ready
//!                                             ▲                       │ runtime: it failed │
//!                                             └── next try ── BackingOff ◀─────────────────┘
//!                                                                 │ too often
//!   released ◀────────────────────────────────────── GivingUp ◀───┘
//! ```
//!
//! **A revision that serves goes on until its replacement is ready**: while a new revision is
//! fetched, started and tried again, [`Holding::serving`] names the old one. A replica with a
//! revision that serves is never given up because its replacement fails.
//!
//! Resources are committed here and nowhere else. The room decides stages; the node reads the
//! claims, gives the runtime its orders and writes to the disk.

mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::claim::{SLOTS, short_reason};
use crate::model::{
    Award, PersistId, Phase, Queue, ReplicaId, ResourceSum, Resources, Revision, Signed, Time,
    Token,
};

pub use stage::Stage;

/// Bounds and pauses of own replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Further tries on this node before a replica is given up to others. 3.
    pub max_restarts: u32,
    /// Fetches in a row that may fail before a replica is given up to others, while no revision of
    /// it serves. 4: some eight seconds. This device may be the reason, by a full disk for example,
    /// and nobody else is asked while it holds the place.
    pub max_fetches: u32,
    /// The pause before the first further try; it doubles. 1 s.
    pub restart_after: Duration,
    /// The longest pause between tries of a replacement, while the old revision serves. 5 min.
    pub restart_at_most: Duration,
    /// A replica that was ready for so long starts with a clean count of tries. 60 s.
    pub forgiven_after: Duration,
    /// The time for which a late claim is not reported healthy, because the owner may have picked
    /// another node, whose report would be on its way. 1 s.
    pub late_report_after: Duration,
    /// The time for which a claim shows why it failed before it is released. 2 s.
    pub give_up_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_restarts: 3,
            max_fetches: 4,
            restart_after: Duration::from_secs(1),
            restart_at_most: Duration::from_secs(300),
            forgiven_after: Duration::from_secs(60),
            late_report_after: Duration::from_secs(1),
            give_up_after: Duration::from_secs(2),
        }
    }
}

/// The replicas that this node holds.
#[derive(Clone, Debug)]
pub struct Holding {
    config: Config,
    /// By slot of the own sheet, then by replica. At most as many as a sheet has claims, and those
    /// that the runtime is still stopping.
    replicas: BTreeMap<(u8, ReplicaId), Replica>,
    /// Own slots on their way to disk, each with its last batch. At most as many as a sheet has.
    unwritten: BTreeMap<u8, PersistId>,
    committed: ResourceSum,
    stopping: ResourceSum,
}

/// A replica that this node holds.
#[derive(Clone, Debug)]
struct Replica {
    stage: Stage,
    /// The revision that the stage is about. None until the claim was compared with desired state,
    /// after a restart of the daemon.
    target: Option<Revision>,
    /// The resources of the target.
    resources: Resources,
    /// The committed resources: while another revision serves, enough for either of the two.
    committed: Resources,
    /// Further tries since it was last ready for long.
    restarts: u32,
    /// The revision that runs and answers, and since when.
    serving: Option<(Revision, Time)>,
    /// The target was reported healthy.
    is_told: bool,
    /// It was claimed in an earlier life, or before a stall, and was not reported healthy since.
    is_returning: bool,
    /// It is not reported healthy before then.
    quiet_until: Option<Time>,
}

/// A replica that this node holds, as the auction asks about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The token of the award, while the claim is on its way to disk.
    pub writing: Option<Token>,
}

/// The bytes of a replica's artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bytes {
    /// On this device, and ready to start.
    Ready,
    /// On this device, and can never start: the runtime's message.
    Unusable(String),
    /// Not on this device: so many fetches failed in a row, the last one with this reason.
    Missing {
        /// Failed fetches in a row.
        tries: u32,
        /// The reason of the last failure; empty when none failed.
        why: String,
    },
}

/// The next step of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing, until something changes.
    Nothing,
    /// Get the artifact.
    Fetch,
    /// Tell the runtime to run the target.
    Run,
    /// It cannot be run: fail it, for this reason.
    Fail(String),
}

/// A due step of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// The next try.
    Retry,
    /// The release of a claim that failed for good, and why.
    Release(String),
}

/// The result of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// It was known, or the replica is not held.
    Known,
    /// The target failed; nothing serves.
    Down,
    /// The target failed; an older revision serves.
    Replacement,
}

impl Holding {
    /// Nothing held.
    pub fn new(config: Config) -> Holding {
        Holding {
            config,
            replicas: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            committed: ResourceSum::default(),
            stopping: ResourceSum::default(),
        }
    }

    /// Each collection that grows, with its bound. `claims` is the number of own claims.
    pub fn queues(&self, claims: usize) -> Vec<Queue> {
        let stopping = self.replicas.values().filter(|it| it.stage == Stage::Stopping).count();
        vec![
            Queue::new("replicas held", self.replicas.len() - stopping, claims),
            Queue::new("own slots on their way to disk", self.unwritten.len(), SLOTS.into()),
        ]
    }

    /// An award was taken: its claim is in `batch`. Without a batch the disk takes no writes, and
    /// the caller releases it.
    pub fn claim(
        &mut self,
        now: Time,
        award: Signed<Award>,
        resources: Resources,
        batch: Option<PersistId>,
    ) {
        let replica = award.replica;
        let target = Some(award.generation);
        let stage = match batch {
            Some(batch) => Stage::Writing { batch, award, since: now },
            None => Stage::Fetching,
        };
        self.insert(replica, Replica { target, ..Replica::new(stage, resources) });
    }

    /// A claim of an earlier life of this node, which nothing runs of yet.
    pub fn adopt(&mut self, replica: ReplicaId, resources: Resources) {
        self.insert(
            replica,
            Replica { is_returning: true, ..Replica::new(Stage::Fetching, resources) },
        );
    }

    /// A claim of a replica that runs, and was reported healthy: for simulated clusters that start
    /// in the middle of their life.
    pub fn adopt_ready(
        &mut self,
        now: Time,
        replica: ReplicaId,
        revision: Revision,
        resources: Resources,
    ) {
        let ready = Replica {
            target: Some(revision),
            serving: Some((revision, now)),
            is_told: true,
            ..Replica::new(Stage::Ready, resources)
        };
        self.insert(replica, ready);
    }

    fn insert(&mut self, replica: ReplicaId, entry: Replica) {
        self.remove(&replica);
        self.committed.add(entry.committed, 1);
        self.replicas.insert(key(&replica), entry);
    }

    fn remove(&mut self, replica: &ReplicaId) {
        if let Some(before) = self.replicas.remove(&key(replica)) {
            match before.stage {
                Stage::Stopping => self.stopping.remove(before.committed, 1),
                _ => self.committed.remove(before.committed, 1),
            }
        }
    }

    /// An own slot was asked to be put on disk.
    pub fn slot_issued(&mut self, slot: u8, batch: PersistId) {
        self.unwritten.insert(slot, batch);
    }

    /// Everything up to `upto` is on disk: own slots that are on disk now.
    pub fn slots_written(&mut self, upto: PersistId) -> Vec<u8> {
        self.unwritten.extract_if(.., |_, batch| *batch <= upto).map(|(slot, _)| slot).collect()
    }

    /// The disk failed: own slots that were on their way to it.
    pub fn slots_dropped(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unwritten).into_keys().collect()
    }

    /// The batch in which an own slot is on its way to disk.
    pub fn slot_batch(&self, slot: u8) -> Option<PersistId> {
        self.unwritten.get(&slot).copied()
    }

    /// Everything up to `upto` is on disk: the awards whose claims are on disk now. A claim that
    /// took `late_after` or longer is not reported healthy for a moment: its owner may have awarded
    /// the place again.
    pub fn claims_written(
        &mut self,
        now: Time,
        upto: PersistId,
        late_after: Duration,
    ) -> Vec<Signed<Award>> {
        let mut awards = Vec::new();
        for entry in self.replicas.values_mut() {
            let Stage::Writing { batch, award, since } = &entry.stage else { continue };
            if *batch > upto {
                continue;
            }
            if now.since(*since) >= late_after {
                entry.quiet_until = Some(now + self.config.late_report_after);
            }
            awards.push((*batch, award.clone()));
            entry.stage = Stage::Fetching;
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

    /// The revision `to` belongs in the place now. Whether that is news; then a revision that
    /// serves goes on until `to` is ready. `has_compared` says whether this node knows what the
    /// others know: if not, another node may run `to` already.
    pub fn replace(
        &mut self,
        replica: &ReplicaId,
        to: Revision,
        resources: Resources,
        has_compared: bool,
    ) -> bool {
        let Some(entry) = self.entry_mut(replica) else { return false };
        if entry.target == Some(to) {
            return false;
        }
        entry.target = Some(to);
        entry.restarts = 0;
        entry.is_returning |= !has_compared;
        entry.quiet_until = None;
        entry.is_told = false;
        if !matches!(entry.stage, Stage::Writing { .. }) {
            entry.stage = Stage::Fetching;
        }
        entry.resources = resources;
        let committed = match entry.serving {
            Some(_) => entry.committed.or_more(resources),
            None => resources,
        };
        self.commit(replica, committed);
        true
    }

    fn commit(&mut self, replica: &ReplicaId, resources: Resources) {
        if let Some(entry) = self.entry_mut(replica) {
            let before = std::mem::replace(&mut entry.committed, resources);
            self.committed.remove(before, 1);
            self.committed.add(resources, 1);
        }
    }

    /// The step that brings a replica nearer to [`Stage::Ready`].
    pub fn next(&mut self, replica: &ReplicaId, bytes: &Bytes) -> Next {
        let max_fetches = self.config.max_fetches;
        let Some(entry) = self.entry_mut(replica) else { return Next::Nothing };
        match (&entry.stage, bytes) {
            // The fetch need not wait for the disk.
            (Stage::Writing { .. }, Bytes::Missing { .. }) => Next::Fetch,
            (Stage::Fetching, Bytes::Ready) => {
                entry.stage = Stage::Starting;
                Next::Run
            }
            (Stage::Fetching, Bytes::Unusable(why)) => Next::Fail(why.clone()),
            // A revision that serves is not given up for bytes that may be nowhere.
            (Stage::Fetching, Bytes::Missing { tries, why })
                if *tries > max_fetches && entry.serving.is_none() =>
            {
                Next::Fail(why.clone())
            }
            (Stage::Fetching, Bytes::Missing { .. }) => Next::Fetch,
            _ => Next::Nothing,
        }
    }

    /// The runtime reports that a revision runs and answers. Whether that is news.
    pub fn ready(&mut self, now: Time, replica: &ReplicaId, revision: Revision) -> bool {
        let Some(entry) = self.entry_mut(replica) else { return false };
        // A report of an earlier claim of the replica may come late.
        let was_ordered = match entry.stage {
            Stage::Starting | Stage::BackingOff { .. } | Stage::GivingUp { .. } => true,
            Stage::Writing { .. } | Stage::Fetching | Stage::Ready | Stage::Stopping => false,
        };
        if entry.target != Some(revision) || !was_ordered {
            return false;
        }
        entry.stage = Stage::Ready;
        if entry.serving.is_none_or(|(serving, _)| serving != revision) {
            entry.serving = Some((revision, now));
        }
        let resources = entry.resources;
        self.commit(replica, resources);
        true
    }

    /// A revision failed.
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
        if entry.serving.is_some_and(|(serving, _)| serving == revision) {
            let (_, since) = entry.serving.take().expect("it serves");
            if now.since(since) >= config.forgiven_after {
                entry.restarts = 0;
            }
            if entry.target != Some(revision) {
                // The old revision failed while its replacement is not ready: nothing serves.
                if let Stage::BackingOff { reason, .. } = &entry.stage
                    && entry.restarts >= config.max_restarts
                {
                    let (until, reason) = (now + config.give_up_after, reason.clone());
                    entry.stage = Stage::GivingUp { until, reason };
                }
                return Failed::Down;
            }
        } else if entry.target != Some(revision) {
            return Failed::Known;
        }
        match entry.stage {
            Stage::BackingOff { .. } | Stage::GivingUp { .. } | Stage::Writing { .. } => {
                return Failed::Known;
            }
            Stage::Fetching | Stage::Starting | Stage::Ready | Stage::Stopping => {}
        }
        entry.is_told = false;
        let reason = short_reason(reason.to_owned());
        let wait = config.restart_after.saturating_mul(1 << entry.restarts.min(16));
        if entry.serving.is_some() {
            let wait = if is_retryable { wait } else { config.restart_at_most };
            entry.restarts = entry.restarts.saturating_add(1);
            let until = now + wait.min(config.restart_at_most);
            entry.stage = Stage::BackingOff { until, reason };
            return Failed::Replacement;
        }
        entry.stage = if is_retryable && entry.restarts < config.max_restarts {
            entry.restarts += 1;
            Stage::BackingOff { until: now + wait, reason }
        } else {
            Stage::GivingUp { until: now + config.give_up_after, reason }
        };
        Failed::Down
    }

    /// Lets a replica go. It is no longer held; what it takes stays promised until the runtime
    /// has stopped it.
    pub fn release(&mut self, replica: &ReplicaId) {
        let Some(entry) = self.entry_mut(replica) else { return };
        let (is_stopped, resources) = match entry.stage {
            // Nothing of it ever ran.
            Stage::Writing { .. } | Stage::Fetching => (entry.serving.is_none(), entry.committed),
            Stage::Stopping => return,
            _ => (false, entry.committed),
        };
        if is_stopped {
            return self.remove(replica);
        }
        entry.stage = Stage::Stopping;
        entry.serving = None;
        self.committed.remove(resources, 1);
        self.stopping.add(resources, 1);
    }

    /// The runtime reports that nothing of a replica is left.
    pub fn stopped(&mut self, replica: &ReplicaId) {
        let is_stopping = |entry: &Replica| entry.stage == Stage::Stopping;
        if self.replicas.get(&key(replica)).is_some_and(is_stopping) {
            self.remove(replica);
        }
    }

    /// The next tries and releases that are due now.
    pub fn take_due(&mut self, now: Time) -> Vec<(ReplicaId, Due)> {
        let mut due = Vec::new();
        for ((_, replica), entry) in &mut self.replicas {
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

    /// Late claims that may be reported healthy now. Whether there are any.
    pub fn end_quiet(&mut self, now: Time) -> bool {
        let mut any = false;
        for entry in self.replicas.values_mut() {
            any |= entry.quiet_until.take_if(|until| *until <= now).is_some();
        }
        any
    }

    /// The time when [`Holding::take_due`] or [`Holding::end_quiet`] has something.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.replicas
            .values()
            .flat_map(|entry| entry.stage.due().into_iter().chain(entry.quiet_until))
            .min()
    }

    /// Whether a replica is held, and whether its claim is still on its way to disk.
    pub fn held(&self, replica: &ReplicaId) -> Option<Held> {
        let entry = self.entry(replica)?;
        let writing = match &entry.stage {
            Stage::Writing { award, .. } => Some(award.token),
            _ => None,
        };
        Some(Held { writing })
    }

    /// The stage of a replica that is held.
    pub fn stage(&self, replica: &ReplicaId) -> Option<&Stage> {
        self.entry(replica).map(|entry| &entry.stage)
    }

    /// The revision that the stage of a replica is about.
    pub fn target(&self, replica: &ReplicaId) -> Option<Revision> {
        self.entry(replica)?.target
    }

    /// The phase that other nodes are to see.
    pub fn phase(&self, replica: &ReplicaId) -> Option<Phase> {
        self.entry(replica).map(|entry| entry.stage.phase(entry.restarts))
    }

    /// The revision of a replica that runs and answers here, reported or not.
    pub fn serving(&self, replica: &ReplicaId) -> Option<Revision> {
        self.entry(replica)?.serving.map(|(revision, _)| revision)
    }

    /// All held replicas, by slot.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let held = self.replicas.iter().filter(|(_, entry)| entry.stage != Stage::Stopping);
        held.map(|((_, replica), _)| *replica)
    }

    /// Ready replicas that are not reported healthy yet, by slot.
    pub fn untold(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().filter(|(_, entry)| entry.is_untold()).map(|((_, it), _)| *it)
    }

    /// The same replicas of one slot, with their revisions.
    pub fn untold_in(&self, slot: u8) -> Vec<(ReplicaId, Revision)> {
        let first = (slot, LEAST);
        let of_slot = self.replicas.range(first..).take_while(|((of, _), _)| *of == slot);
        of_slot
            .filter(|(_, entry)| entry.is_untold())
            .filter_map(|((_, replica), entry)| Some((*replica, entry.target?)))
            .collect()
    }

    /// Whether a ready replica may be reported healthy, as far as this room knows. A claim of an
    /// earlier life is not reported before this node knows what the others know.
    pub fn may_report(&self, replica: &ReplicaId, has_compared: bool) -> bool {
        self.entry(replica).is_some_and(|entry| {
            entry.quiet_until.is_none() && (!entry.is_returning || has_compared)
        })
    }

    /// The replica was reported healthy.
    pub fn reported(&mut self, replica: &ReplicaId) {
        if let Some(entry) = self.entry_mut(replica) {
            (entry.is_told, entry.is_returning) = (true, false);
        }
    }

    /// This process was stalled for long: other nodes may have taken over replicas that were not
    /// reported healthy.
    pub fn stalled(&mut self) {
        for entry in self.replicas.values_mut() {
            entry.is_returning |= !entry.is_told;
        }
    }

    /// The sum that held replicas take.
    pub fn committed(&self) -> ResourceSum {
        self.committed
    }

    /// The sum that released replicas still take, until the runtime has stopped them.
    pub fn stopping(&self) -> ResourceSum {
        self.stopping
    }

    /// The sum that held replicas would take if this one were replaced by a revision that needs
    /// `resources`.
    pub fn committed_after(&self, replica: &ReplicaId, resources: Resources) -> ResourceSum {
        let mut sum = self.committed;
        let mut after = resources;
        if let Some(entry) = self.entry(replica) {
            sum.remove(entry.committed, 1);
            if entry.serving.is_some() {
                after = entry.committed.or_more(resources);
            }
        }
        sum.add(after, 1);
        sum
    }

    fn entry(&self, replica: &ReplicaId) -> Option<&Replica> {
        self.replicas.get(&key(replica)).filter(|entry| entry.stage != Stage::Stopping)
    }

    fn entry_mut(&mut self, replica: &ReplicaId) -> Option<&mut Replica> {
        self.replicas.get_mut(&key(replica)).filter(|entry| entry.stage != Stage::Stopping)
    }
}

impl Replica {
    fn new(stage: Stage, resources: Resources) -> Replica {
        Replica {
            stage,
            target: None,
            resources,
            committed: resources,
            restarts: 0,
            serving: None,
            is_told: false,
            is_returning: false,
            quiet_until: None,
        }
    }

    fn is_untold(&self) -> bool {
        self.stage == Stage::Ready && !self.is_told
    }
}

/// The least replica, where the range of a slot begins.
const LEAST: ReplicaId =
    ReplicaId { uid: crate::model::Digest([0; 32]), place: crate::model::Place::Ordinal(0) };

fn key(replica: &ReplicaId) -> (u8, ReplicaId) {
    (replica.slot(), *replica)
}
