//! An instance as callers see it, while its task carries it through its life.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use shoal_protocol::model::spec::Health;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::Launch;
use crate::status::StatusHandle;

/// Time in which an order to the engine explains a container's end: the engines kill ten seconds
/// after a stop.
const ORDER_COUNTS: Duration = Duration::from_secs(15);

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
    /// The engine's id for its container, once there is one.
    container: Mutex<Option<String>>,
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
            container: Mutex::default(),
            own_probes: OnceLock::new(),
            ordered_at: Mutex::default(),
        }
    }

    /// Whether it starts or runs, and was not asked to stop.
    pub fn is_alive(&self) -> bool {
        !self.stopping.is_cancelled() && self.status.state().is_some_and(|state| !state.ended())
    }

    pub fn container(&self) -> Option<String> {
        self.lock().clone()
    }

    pub fn set_container(&self, id: &str) {
        *self.lock() = Some(id.to_owned());
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

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner)
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
