//! An instance as callers see it, while its task carries it through its life.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use shoal_protocol::model::spec::Health;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::{Launch, Payload};
use crate::status::StatusHandle;

/// Time in which an order to the engine explains a container's end: the engines kill ten seconds
/// after a stop.
const ORDER_COUNTS: Duration = Duration::from_secs(15);

/// The containers of an instance.
#[derive(Default)]
struct Held {
    /// The engine's ids by the names; init containers are not among them.
    by_name: BTreeMap<String, String>,
    /// The id of the one whose network the others join, or of the only one.
    network: Option<String>,
}

/// One life of an instance.
pub(super) struct Instance {
    pub launch: Launch,
    /// The hash of the launch, which its container carries.
    pub hash: String,
    pub status: StatusHandle,
    /// Something may have happened to the container.
    pub wake: Notify,
    /// It was asked to stop.
    pub stopping: CancellationToken,
    /// A stop was asked for, or asked for again.
    pub asked: Notify,
    /// The least grace that was asked for.
    pub grace: watch::Sender<Option<Duration>>,
    /// The reason why the last try to stop it failed; each failure is a change.
    pub refusals: watch::Sender<String>,
    /// Its task has ended: the container was removed, or the engine could not be asked to.
    pub ended: CancellationToken,
    /// Its containers, as soon as they are made.
    containers: Mutex<Held>,
    /// The probes that its image names, once its container is up.
    own_probes: OnceLock<Option<Health>>,
    /// The last time at which the engine was ordered to signal or stop its container.
    ordered_at: Mutex<Option<Instant>>,
}

impl Instance {
    pub fn new(launch: Launch, hash: String, status: StatusHandle) -> Self {
        Instance {
            launch,
            hash,
            status,
            wake: Notify::new(),
            stopping: CancellationToken::new(),
            asked: Notify::new(),
            grace: watch::Sender::new(None),
            refusals: watch::Sender::new(String::new()),
            ended: CancellationToken::new(),
            containers: Mutex::default(),
            own_probes: OnceLock::new(),
            ordered_at: Mutex::default(),
        }
    }

    /// Whether it starts or runs, and was not asked to stop.
    pub fn is_alive(&self) -> bool {
        !self.stopping.is_cancelled() && self.status.state().is_some_and(|state| !state.ended())
    }

    /// The engine's id for its container, once there is one: of a group for the main one.
    pub fn container(&self) -> Option<String> {
        match &self.launch.payload {
            Payload::Container(payload) => self.container_of(&payload.container.name),
            Payload::Component(_) | Payload::Command(_) => None,
        }
    }

    /// The engine's id for the container of this name.
    pub fn container_of(&self, name: &str) -> Option<String> {
        self.lock().by_name.get(name).cloned()
    }

    /// The engine's id for the container whose network is that of the replica.
    pub fn network(&self) -> Option<String> {
        self.lock().network.clone()
    }

    /// The engine's ids for all its containers.
    pub fn containers(&self) -> Vec<String> {
        self.lock().by_name.values().cloned().collect()
    }

    /// Notes a container that was made or found. The first one has the network.
    pub fn set_container(&self, name: &str, id: &str) {
        let mut held = self.lock();
        held.network.get_or_insert_with(|| id.to_owned());
        held.by_name.insert(name.to_owned(), id.to_owned());
    }

    pub fn own_probes(&self) -> Option<Health> {
        self.own_probes.get().cloned().flatten()
    }

    /// Whether it is known which probes its image names.
    pub fn knows_probes(&self) -> bool {
        self.own_probes.get().is_some()
    }

    pub fn set_probes(&self, probes: Option<Health>) {
        // An image does not change: the first answer stays.
        let _ = self.own_probes.set(probes);
    }

    /// The engine says that it was ordered to signal or stop the container.
    pub fn note_order(&self) {
        *self.ordered_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether such an order came so lately that it explains the container's end.
    pub fn was_ordered(&self) -> bool {
        let ordered = *self.ordered_at.lock().unwrap_or_else(PoisonError::into_inner);
        ordered.is_some_and(|at| at.elapsed() < ORDER_COUNTS)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks its task to end it. From now on it is not alive.
    pub fn ask_to_stop(&self, grace: Duration) -> Stopping {
        let refusals = self.refusals.subscribe();
        self.grace.send_modify(|least| {
            *least = Some(least.map_or(grace, |least| least.min(grace)));
        });
        self.stopping.cancel();
        self.asked.notify_one();
        Stopping { ended: self.ended.clone(), refusals }
    }
}

/// A stop that was asked for.
pub(super) struct Stopping {
    ended: CancellationToken,
    refusals: watch::Receiver<String>,
}

impl Stopping {
    /// Waits until the instance has ended, or the reason why it could not be ended is known.
    pub async fn done(mut self) -> Result<(), String> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Ok(()),
            Ok(()) = self.refusals.changed() => Err(self.refusals.borrow().clone()),
            // Not reached: the instance, which holds the sender, ends first.
            else => Ok(()),
        }
    }
}
