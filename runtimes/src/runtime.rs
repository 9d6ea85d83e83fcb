//! The trait that every adapter implements.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::Digest;

use crate::error::{DeviceError, LogsError, PrepareError, ServeError, StartError};
use crate::logs::{LogLine, Tail};
use crate::model::{Body, Instance, InstanceId, Launch, Usage};
use crate::status::{Status, Watch};

/// An adapter that runs workloads of one kind on this device.
///
/// All methods may be called at any time, from any task, concurrently. Each future may be dropped:
/// what it had begun either goes on to a state that [`Runtime::watch`] shows, or leaves nothing
/// behind.
pub trait Runtime: Send + Sync + 'static {
    /// The kind's name as specs spell it, `wasm`.
    fn kind(&self) -> &'static str;

    /// Makes everything ready that a later [`Runtime::start`] of this artifact needs: validates,
    /// compiles, caches. Idempotent. Dropping the future gives the work up.
    ///
    /// # Errors
    /// Who is guilty: the artifact (for ever), or this device (perhaps not the next time).
    fn prepare(&self, artifact: Digest) -> BoxFuture<'_, Result<(), PrepareError>>;

    /// Accepts an instance: when this returns `Ok`, its state is `Starting` or later, and
    /// [`Runtime::watch`] tells the rest, failures included. The same launch again changes nothing
    /// while it starts or runs, and tries again once it has failed or stopped.
    ///
    /// # Errors
    /// Only refusals, which change nothing: another launch lives under this id, the launch cannot
    /// be, this node is full.
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>>;

    /// Ends an instance: no new requests, those under way have `grace` to end, then they are cut.
    /// Returns when nothing of it is left; an instance that is unknown or has ended is fine. Goes
    /// on when the future is dropped.
    ///
    /// # Errors
    /// The device could not do it; the instance may still run, so try again.
    fn stop(&self, id: &InstanceId, grace: Duration) -> BoxFuture<'_, Result<(), DeviceError>>;

    /// The latest state of an instance. Those that ended are remembered for a while, bounded.
    fn status(&self, id: &InstanceId) -> Option<Status>;

    /// Follows the states of all instances from now on; the first answer holds every instance.
    fn watch(&self) -> Watch;

    /// What really runs, as the engine tells it. After a restart of the node this is what it finds,
    /// not what it remembers.
    ///
    /// # Errors
    /// The engine did not answer.
    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>>;

    /// What an instance uses; `None` when it does not run.
    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>>;

    /// Hands a request to an instance and gives its answer, whose body streams. Dropping either
    /// tells the guest that its client is gone.
    ///
    /// # Errors
    /// No answer came. [`ServeError::untouched`] tells whether the guest has seen anything of the
    /// request.
    fn serve(
        &self,
        id: &InstanceId,
        request: http::Request<Body>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, ServeError>>;

    /// The instance's last lines, also after it ended, and with `follow` those to come, until it is
    /// forgotten.
    ///
    /// # Errors
    /// Nothing was ever logged under this id, or the device could not read it.
    fn logs(
        &self,
        id: &InstanceId,
        tail: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>>;
}
