//! The latest state of each instance. Level-triggered: a watcher that misses ten changes of an
//! instance sees the tenth.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use shoal_protocol::model::InstanceState;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::error::ServeError;
use crate::model::InstanceId;

/// Stopped instances that are remembered: enough to explain why one is gone, few enough for a node
/// that runs for years.
const MAX_ENDED: usize = 256;
/// The least time between two reports that bring faults only: a guest that fails at each request
/// must not keep the whole node busy.
const FAULTS_EVERY: Duration = Duration::from_secs(1);

/// A failure of a guest at one request, which did not end the instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Wall-clock time of the failure.
    pub at: SystemTime,
    /// The failure as a predicate of the instance: `exceeded its memory limit of 32 MiB`.
    pub reason: String,
}

/// The latest report on one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The instance, as its launch names it.
    pub id: InstanceId,
    /// The present state.
    pub state: InstanceState,
    /// Its program was started and goes on, whether or not it takes requests yet: probes may ask
    /// it.
    pub is_up: bool,
    /// The place that takes its requests, while it runs; none when it takes no requests.
    pub endpoint: Option<Endpoint>,
    /// Wall-clock time at which the state began.
    pub since: SystemTime,
    /// Requests taken since it was started; 0 where the endpoint is not in this process.
    pub requests: u64,
    /// Faults since it was started, where the adapter can see them.
    pub faults: u64,
    /// The most recent fault.
    pub last_fault: Option<Fault>,
}

/// The states of all instances of one adapter.
#[derive(Clone)]
pub struct StatusTable {
    shared: Arc<Shared>,
}

struct Shared {
    entries: Mutex<Entries>,
    /// The newest revision; its changes wake the watchers.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Entries {
    revision: u64,
    by_id: BTreeMap<InstanceId, Entry>,
    /// Revision to instance, so that a watcher reads changed instances only.
    by_revision: BTreeMap<u64, InstanceId>,
}

struct Entry {
    life: u64,
    /// Revision of the last change.
    revision: u64,
    /// Revision of the last change of state.
    state_revision: u64,
    state: InstanceState,
    is_up: bool,
    endpoint: Option<Endpoint>,
    since: SystemTime,
    tally: Arc<Tally>,
    last_fault: Option<Fault>,
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    faults: AtomicU64,
}

/// Reports on one life of an instance. A new life under the same id makes older handles inert.
pub struct StatusHandle {
    table: StatusTable,
    id: InstanceId,
    life: u64,
    tally: Arc<Tally>,
}

/// Follows a [`StatusTable`].
pub struct Watch {
    table: StatusTable,
    newest: watch::Receiver<u64>,
    seen: u64,
    faults_reported_at: Option<Instant>,
}

impl Default for StatusTable {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusTable {
    /// An empty table.
    pub fn new() -> Self {
        StatusTable {
            shared: Arc::new(Shared { entries: Mutex::default(), newest: watch::Sender::new(0) }),
        }
    }

    /// Begins a new life under `id`, in state `Starting`.
    pub fn begin(&self, id: InstanceId) -> StatusHandle {
        let tally = Arc::new(Tally::default());
        let mut entries = self.lock();
        let life = entries.revision + 1;
        let entry = Entry {
            life,
            revision: 0,
            state_revision: 0,
            state: InstanceState::Starting,
            is_up: false,
            endpoint: None,
            since: SystemTime::now(),
            tally: tally.clone(),
            last_fault: None,
        };
        if let Some(old) = entries.by_id.insert(id.clone(), entry) {
            entries.by_revision.remove(&old.revision);
        }
        entries.touch(&id, true);
        self.announce(entries);
        StatusHandle { table: self.clone(), id, life, tally }
    }

    /// The latest report on one instance.
    pub fn status(&self, id: &InstanceId) -> Option<Status> {
        let entries = self.lock();
        entries.by_id.get(id).map(|entry| entry.status(id))
    }

    /// The latest report on each instance.
    pub(crate) fn all(&self) -> Vec<Status> {
        let entries = self.lock();
        entries.by_id.iter().map(|(id, entry)| entry.status(id)).collect()
    }

    /// The endpoint of a running instance.
    ///
    /// # Errors
    /// [`ServeError::Unknown`], [`ServeError::NotRunning`] or [`ServeError::NoRequests`].
    pub fn endpoint(&self, id: &InstanceId) -> Result<Endpoint, ServeError> {
        let entries = self.lock();
        let entry = entries.by_id.get(id).ok_or_else(|| ServeError::Unknown(id.clone()))?;
        entry.endpoint.clone().ok_or_else(|| match &entry.state {
            InstanceState::Running => ServeError::NoRequests(id.clone()),
            state => ServeError::NotRunning { id: id.clone(), state: state.word() },
        })
    }

    /// Follows all instances; the first answer holds each of them.
    pub fn watch(&self) -> Watch {
        Watch {
            table: self.clone(),
            newest: self.shared.newest.subscribe(),
            seen: 0,
            faults_reported_at: None,
        }
    }

    fn announce(&self, entries: MutexGuard<'_, Entries>) {
        let revision = entries.revision;
        drop(entries);
        // Two callers may arrive here in the wrong order: the greater revision counts.
        self.shared.newest.send_if_modified(|newest| {
            let grew = revision > *newest;
            *newest = revision.max(*newest);
            grew
        });
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Each change is complete before the lock is released, also by a panic.
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn touch(&mut self, id: &InstanceId, state: bool) {
        self.revision += 1;
        let revision = self.revision;
        if let Some(entry) = self.by_id.get_mut(id) {
            self.by_revision.remove(&entry.revision);
            entry.revision = revision;
            if state {
                entry.state_revision = revision;
            }
            self.by_revision.insert(revision, id.clone());
        }
    }

    fn forget_oldest_ended(&mut self) {
        let ended =
            self.by_id.values().filter(|entry| entry.state == InstanceState::Stopped).count();
        for _ in MAX_ENDED..ended {
            let oldest = self.by_revision.iter().find_map(|(revision, id)| {
                let stopped =
                    self.by_id.get(id).is_some_and(|entry| entry.state == InstanceState::Stopped);
                stopped.then(|| (*revision, id.clone()))
            });
            if let Some((revision, id)) = oldest {
                self.by_revision.remove(&revision);
                self.by_id.remove(&id);
            }
        }
    }
}

impl Entry {
    fn status(&self, id: &InstanceId) -> Status {
        Status {
            id: id.clone(),
            state: self.state.clone(),
            is_up: self.is_up,
            endpoint: self.endpoint.clone(),
            since: self.since,
            requests: self.tally.requests.load(Ordering::Relaxed),
            faults: self.tally.faults.load(Ordering::Relaxed),
            last_fault: self.last_fault.clone(),
        }
    }
}

impl StatusHandle {
    /// Reports that the instance runs, and takes requests at `endpoint`; with `None` it takes none.
    /// Does nothing when a newer life has begun.
    pub fn running(&self, endpoint: impl Into<Option<Endpoint>>) {
        self.report(InstanceState::Running, endpoint.into());
    }

    /// Reports that the instance's program was started, before it is known to take requests. Does
    /// nothing when a newer life has begun.
    pub fn up(&self) {
        let mut entries = self.table.lock();
        let Some(entry) = entries.by_id.get_mut(&self.id).filter(|entry| entry.life == self.life)
        else {
            return;
        };
        if !std::mem::replace(&mut entry.is_up, true) {
            entries.touch(&self.id, true);
            self.table.announce(entries);
        }
    }

    /// Reports why the instance takes no requests, although it has not failed. Does nothing when a
    /// newer life has begun.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.report(InstanceState::Waiting { reason: reason.into() }, None);
    }

    /// The same for an instance whose program does not go on for now.
    pub fn paused(&self, reason: impl Into<String>) {
        self.change(InstanceState::Waiting { reason: reason.into() }, None, Some(false));
    }

    /// Reports that the instance failed. Does nothing when a newer life has begun.
    pub fn failed(&self, reason: impl Into<String>, retryable: bool) {
        self.report(InstanceState::Failed { reason: reason.into(), retryable }, None);
    }

    /// Reports that the program ended by itself. Does nothing when a newer life has begun.
    pub fn done(&self, exit_code: i32, lines: Vec<String>) {
        self.report(InstanceState::Done { exit_code, lines }, None);
    }

    /// Reports that the instance ended as ordered. Does nothing when a newer life has begun.
    pub fn stopped(&self) {
        self.report(InstanceState::Stopped, None);
    }

    fn report(&self, state: InstanceState, endpoint: Option<Endpoint>) {
        let is_up = match &state {
            InstanceState::Starting | InstanceState::Waiting { .. } => None,
            InstanceState::Running => Some(true),
            InstanceState::Failed { .. } | InstanceState::Done { .. } | InstanceState::Stopped => {
                Some(false)
            }
        };
        self.change(state, endpoint, is_up);
    }

    /// Without `is_up` that stays as it is.
    fn change(&self, state: InstanceState, endpoint: Option<Endpoint>, is_up: Option<bool>) {
        let mut entries = self.table.lock();
        let Some(entry) = entries.by_id.get_mut(&self.id).filter(|entry| entry.life == self.life)
        else {
            return;
        };
        let is_up = is_up.unwrap_or(entry.is_up);
        if (&entry.state, &entry.endpoint, entry.is_up) == (&state, &endpoint, is_up) {
            return;
        }
        (entry.state, entry.endpoint, entry.is_up) = (state, endpoint, is_up);
        entry.since = SystemTime::now();
        entries.touch(&self.id, true);
        entries.forget_oldest_ended();
        self.table.announce(entries);
    }

    /// The state reported last; `None` when a newer life has begun.
    pub fn state(&self) -> Option<InstanceState> {
        let entries = self.table.lock();
        entries
            .by_id
            .get(&self.id)
            .filter(|entry| entry.life == self.life)
            .map(|entry| entry.state.clone())
    }

    /// Counts a request that was taken.
    pub fn count_request(&self) {
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a fault and keeps it as the last one.
    pub fn fault(&self, reason: impl Into<String>) {
        self.tally.faults.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.table.lock();
        let Some(entry) = entries.by_id.get_mut(&self.id).filter(|entry| entry.life == self.life)
        else {
            return;
        };
        entry.last_fault = Some(Fault { at: SystemTime::now(), reason: reason.into() });
        entries.touch(&self.id, false);
        self.table.announce(entries);
    }
}

impl Watch {
    /// Waits for a change since the last call and gives the latest report on each changed instance.
    /// A change of state is given at once, faults only at most once a second.
    pub async fn next(&mut self) -> Vec<Status> {
        loop {
            self.newest.borrow_and_update();
            let (revision, states_changed, changes) = self.changes();
            let due = self.faults_reported_at.map(|reported_at| reported_at + FAULTS_EVERY);
            if changes.is_empty() {
                self.changed().await;
            } else if states_changed || due.is_none_or(|due| due <= Instant::now()) {
                self.seen = revision;
                self.faults_reported_at = Some(Instant::now());
                return changes;
            } else if let Some(due) = due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.changed() => {}
                }
            }
        }
    }

    async fn changed(&mut self) {
        let _holds = self.table.clone();
        self.newest.changed().await.expect("the table that is held here holds the sender");
    }

    fn changes(&self) -> (u64, bool, Vec<Status>) {
        let entries = self.table.lock();
        let mut states_changed = false;
        let changed = entries.by_revision.range(self.seen + 1..);
        let changes = changed
            .filter_map(|(_, id)| {
                let entry = entries.by_id.get(id)?;
                states_changed |= entry.state_revision > self.seen;
                Some(entry.status(id))
            })
            .collect();
        (entries.revision, states_changed, changes)
    }
}

#[cfg(test)]
mod tests;
