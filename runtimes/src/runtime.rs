//! The trait that every adapter implements, and the plain types it speaks.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use shoal_protocol::model::Digest;

use crate::board::{Status, Watch};
use crate::error::{DeviceError, LogsError, PrepareError, ServeError, StartError};
use crate::logs::{LogLine, Tail};

/// Why a body ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request or of an answer, streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is known already.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The greatest length of an [`InstanceId`] in bytes: a name, a namespace and an index fit.
const MAX_ID: usize = 200;

/// What the caller calls one instance. Unique on this node and stable over restarts, since logs are
/// found by it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

/// A text that cannot name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an instance: 1 to {MAX_ID} visible ASCII characters are expected")]
pub struct InvalidInstanceId(pub String);

impl InstanceId {
    /// An id of 1 to 200 visible ASCII characters.
    ///
    /// # Errors
    /// The text, when it is not that.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidInstanceId> {
        let text = text.into();
        let fits = (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(InstanceId(text)) } else { Err(InvalidInstanceId(text)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

impl Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One instance to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// What to call it.
    pub id: InstanceId,
    /// The workload as users know it, for messages alone.
    pub workload: String,
    /// What to run; the bytes are in the artifact store.
    pub artifact: Digest,
    /// Its whole environment: nothing of the host's is added.
    pub env: BTreeMap<String, String>,
    /// Bytes of memory, a hard limit for all that the instance does at one time.
    pub memory: u64,
    /// Thousandths of a core, a limit over time; see the adapter for how bursts are treated.
    pub cpu: u32,
}

/// Something that really runs, for those who reconcile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// What it was called.
    pub id: InstanceId,
    /// What it runs.
    pub artifact: Digest,
}

/// What an instance uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes of memory at this moment.
    pub memory: u64,
    /// CPU time since it was started.
    pub cpu: Duration,
    /// Time it was held back by its CPU limit since it was started.
    pub throttled: Duration,
    /// Requests that are being answered at this moment.
    pub active: u32,
}

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
