//! The trait that every adapter implements.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::Health;

use crate::endpoint::Endpoint;
use crate::error::{DeviceError, LogsError, PrepareError, ServeError, StartError};
use crate::logs::{LogLine, Tail};
use crate::model::{Instance, InstanceId, Launch, Usage, VolumeKey};
use crate::session::Sessions;
use crate::status::{Status, StatusTable, Watch};

/// An adapter that runs workloads of one kind on this device.
///
/// It carries no requests: the status of a running instance names the [`Endpoint`] that takes them.
///
/// All methods may be called at any time, from any task, concurrently. Each future may be dropped:
/// its work either goes on to a state that [`Runtime::watch`] shows, or leaves nothing behind.
pub trait Runtime: Sessions + Send + Sync + 'static {
    /// The kind's name as specs spell it, `wasm`.
    fn kind(&self) -> &'static str;

    /// Whether its instances go on when this process ends, so that the next one adopts them.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Whether it can start instances now: an engine may be missing, or not answer.
    fn is_available(&self) -> bool {
        true
    }

    /// Why it cannot start instances now, for people; none where all is well, or where nobody
    /// expects it to run any.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Validates, compiles and caches an artifact, so that a later [`Runtime::start`] of it is
    /// quick. Idempotent. Dropping the future cancels the work.
    ///
    /// # Errors
    /// The artifact is at fault, which is final, or this device, which may succeed later.
    fn prepare(&self, artifact: Digest) -> BoxFuture<'_, Result<(), PrepareError>>;

    /// Accepts an instance: after `Ok` its state is `Starting` or later, and [`Runtime::watch`]
    /// reports the rest, failures included. The same launch again changes nothing while it starts
    /// or runs, and is another try once it has failed or stopped.
    ///
    /// # Errors
    /// Only refusals, which change nothing: another launch lives under this id, the launch is
    /// invalid, this node is full.
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>>;

    /// Ends an instance: it takes no new requests; those under way have `grace` to end and are then
    /// cut. Returns when nothing of it is left, at once for an instance that is unknown or has
    /// ended. Goes on when the future is dropped.
    ///
    /// # Errors
    /// The device failed; the instance may still run, so try again.
    fn stop(&self, id: &InstanceId, grace: Duration) -> BoxFuture<'_, Result<(), DeviceError>>;

    /// The table in which it keeps the states of its instances.
    fn statuses(&self) -> &StatusTable;

    /// The latest report on an instance. A bounded number of ended ones is remembered.
    fn status(&self, id: &InstanceId) -> Option<Status> {
        self.statuses().status(id)
    }

    /// The place at which a running instance takes requests, as its status has it, without a copy
    /// of the whole status: this is called for each request.
    ///
    /// # Errors
    /// [`ServeError::Unknown`], [`ServeError::NotRunning`] or [`ServeError::NoRequests`]; all leave
    /// the request untouched.
    fn endpoint(&self, id: &InstanceId) -> Result<Endpoint, ServeError> {
        self.statuses().endpoint(id)
    }

    /// The probes that an instance brings with it, as the image of a container may. They are known
    /// from the time on when its program is up.
    fn own_probes(&self, _: &InstanceId) -> Option<Health> {
        None
    }

    /// Follows the states of all instances; the first answer holds every instance.
    fn watch(&self) -> Watch {
        self.statuses().watch()
    }

    /// The instances that run, as the engine lists them: after a restart of the node, what it finds
    /// and not what it remembers. Those whose program ended while the node was away are among them:
    /// a start of the same launch reports how they ended.
    ///
    /// # Errors
    /// The engine did not answer.
    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>>;

    /// Resources that an instance uses; `None` when it does not run.
    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>>;

    /// The volumes that it keeps for replicas; `None` while the engine has not told.
    fn volumes(&self) -> Option<Vec<VolumeKey>> {
        Some(Vec::new())
    }

    /// Returns when there are other volumes than the caller knows, or perhaps.
    fn volumes_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Removes a volume, with all that is in it. Nothing to do for one that is not there.
    ///
    /// # Errors
    /// An instance uses it, or the engine did not do it. Nothing was changed.
    fn remove_volume(&self, _: &VolumeKey) -> BoxFuture<'_, Result<(), DeviceError>> {
        Box::pin(async { Ok(()) })
    }

    /// The instance's last lines, and with `follow` new ones too. Available after the instance
    /// ended, until its logs are deleted.
    ///
    /// # Errors
    /// Nothing was ever logged under this id, or the device could not read it.
    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>>;
}
