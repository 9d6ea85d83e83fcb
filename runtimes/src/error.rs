//! What can go wrong, and who is guilty.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use shoal_protocol::model::Digest;

use crate::artifacts;
use crate::model::{Body, InstanceId, body};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// This device failed: its disk, its kernel, its engine. Another device may succeed, or this one
/// later.
#[derive(Debug, thiserror::Error)]
#[error("this device failed while {doing}: {source}")]
pub struct DeviceError {
    /// What was being done.
    pub doing: String,
    /// What it said.
    pub source: Source,
}

impl DeviceError {
    /// The device failed while `doing` something.
    pub fn new(doing: impl Into<String>, source: impl Into<Source>) -> Self {
        DeviceError { doing: doing.into(), source: source.into() }
    }
}

/// Why an artifact cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The bytes are not here.
    #[error("artifact {} is not on this node yet", .0.short())]
    Missing(Digest),
    /// The store could not give the bytes.
    #[error(transparent)]
    Store(artifacts::Error),
    /// The artifact is guilty; it will be refused everywhere, every time.
    #[error("artifact {}: {reason}", .digest.short())]
    Refused {
        /// Which one.
        digest: Digest,
        /// What was found and what is expected.
        reason: String,
    },
    /// This device is guilty.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl PrepareError {
    /// Whether the same call may succeed later on this node.
    pub fn retryable(&self) -> bool {
        match self {
            PrepareError::Missing(_) | PrepareError::Device(_) | PrepareError::Store(_) => true,
            PrepareError::Refused { .. } => false,
        }
    }
}

impl From<artifacts::Error> for PrepareError {
    fn from(error: artifacts::Error) -> Self {
        match error {
            artifacts::Error::Missing { digest } => PrepareError::Missing(digest),
            error => PrepareError::Store(error),
        }
    }
}

/// Why an instance was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The id is taken.
    #[error("another launch is alive as `{0}`: stop it first")]
    Differs(InstanceId),
    /// The launch itself cannot be.
    #[error("`{id}` cannot be started: {reason}")]
    Invalid {
        /// Which one.
        id: InstanceId,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many instances on one node.
    #[error("this node holds {0} instances already, the most it can keep track of")]
    Full(usize),
    /// This device is guilty.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Why a request got no answer from an instance.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not here.
    #[error("no instance `{0}` on this node")]
    Unknown(InstanceId),
    /// Here, but not in a state to answer.
    #[error("instance `{id}` is {state}")]
    NotRunning {
        /// Which one.
        id: InstanceId,
        /// What it is doing instead, as a word.
        state: &'static str,
    },
    /// As many requests as it can take are under way.
    #[error(
        "instance `{id}` is busy: {limit} requests are under way or waiting, the most it takes"
    )]
    Busy {
        /// Which one.
        id: InstanceId,
        /// How many it takes at once, waiting ones included.
        limit: usize,
    },
    /// The request cannot be handed on.
    #[error("the request cannot be handed to `{id}`: {reason}")]
    Request {
        /// Which one.
        id: InstanceId,
        /// What is wrong with it.
        reason: String,
    },
    /// The guest failed at this request. Counted, and shown as the instance's last fault.
    #[error("`{id}` {reason}")]
    Guest {
        /// Which one.
        id: InstanceId,
        /// 502, 504 or 507: trapped, too slow, out of memory.
        status: StatusCode,
        /// What happened, as a predicate: `exceeded its memory limit of 32 MiB`.
        reason: String,
    },
    /// The client failed: it did not send what it announced. Counted against nobody.
    #[error("`{id}` {reason}")]
    Client {
        /// Which one was asked.
        id: InstanceId,
        /// What happened, as a predicate: `was sent nothing more of its request for 60 s`.
        reason: String,
    },
    /// This device is guilty.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ServeError {
    /// Whether the guest has seen nothing of the request, so that another replica may be asked
    /// without doing it twice.
    pub fn untouched(&self) -> bool {
        match self {
            ServeError::Unknown(_) | ServeError::NotRunning { .. } | ServeError::Busy { .. } => {
                true
            }
            ServeError::Request { .. }
            | ServeError::Guest { .. }
            | ServeError::Client { .. }
            | ServeError::Device(_) => false,
        }
    }

    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            ServeError::Unknown(_) | ServeError::NotRunning { .. } | ServeError::Busy { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ServeError::Request { .. } => StatusCode::BAD_REQUEST,
            ServeError::Guest { status, .. } => *status,
            ServeError::Client { .. } => StatusCode::REQUEST_TIMEOUT,
            ServeError::Device(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The whole answer for a client: the status and a plain sentence.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(body(Bytes::from(format!("{self}\n"))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.untouched() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Why there are no logs to show.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Never heard of, or forgotten.
    #[error("no logs of `{0}` on this node")]
    Unknown(InstanceId),
    /// This device is guilty.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
