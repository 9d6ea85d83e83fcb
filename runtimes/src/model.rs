//! The plain types that every module here shares: instances, launches, bodies.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use shoal_protocol::model::Digest;

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
