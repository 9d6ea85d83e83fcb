//! Errors, and whether the artifact, the guest, the client or this device is at fault.

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
    /// The operation: `starting the compiler`.
    pub doing: String,
    /// The error of the system or library.
    pub source: Source,
}

impl DeviceError {
    /// The device failed while `doing` something.
    pub fn new(doing: impl Into<String>, source: impl Into<Source>) -> Self {
        DeviceError { doing: doing.into(), source: source.into() }
    }
}

/// An artifact cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The store does not have the bytes.
    #[error("artifact {} is not on this node yet", .0.short())]
    Missing(Digest),
    /// The store could not give the bytes.
    #[error(transparent)]
    Store(artifacts::Error),
    /// The artifact is at fault: it will be refused everywhere, every time.
    #[error("artifact {}: {reason}", .digest.short())]
    Refused {
        /// The artifact that is refused.
        digest: Digest,
        /// The finding, and what is expected instead.
        reason: String,
    },
    /// This device is at fault.
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

/// A launch was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another launch runs under this id.
    #[error("another launch is alive as `{0}`: stop it first")]
    Differs(InstanceId),
    /// The launch is invalid.
    #[error("`{id}` cannot be started: {reason}")]
    Invalid {
        /// The id of the launch.
        id: InstanceId,
        /// The value that is refused, and the bound.
        reason: String,
    },
    /// Too many instances on one node.
    #[error("this node holds {0} instances already, the most it can keep track of")]
    Full(usize),
    /// This device is at fault.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A request got no answer from an instance.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// This node has no such instance.
    #[error("no instance `{0}` on this node")]
    Unknown(InstanceId),
    /// The instance is starting, stopping, or has ended.
    #[error("instance `{id}` is {state}")]
    NotRunning {
        /// The instance that was asked.
        id: InstanceId,
        /// The state in lower case: `stopping`.
        state: &'static str,
    },
    /// The instance runs, but its workload names no port that answers requests.
    #[error("instance `{0}` takes no requests: its workload names no HTTP port")]
    NoRequests(InstanceId),
    /// The instance has as many requests as it takes.
    #[error(
        "instance `{id}` is busy: {limit} requests are under way or waiting, the most it takes"
    )]
    Busy {
        /// The instance that was asked.
        id: InstanceId,
        /// Requests that it takes at once, waiting ones included.
        limit: usize,
    },
    /// The instance's endpoint took no connection, or no part of the request.
    #[error("instance `{id}` cannot be reached: {reason}")]
    Unreachable {
        /// The instance that was asked.
        id: InstanceId,
        /// The system's error: `Connection refused`.
        reason: String,
    },
    /// The request is invalid.
    #[error("the request cannot be handed to `{id}`: {reason}")]
    Request {
        /// The instance that was asked.
        id: InstanceId,
        /// The part that is wrong.
        reason: String,
    },
    /// The guest failed at this request. Counted, and shown as the instance's last fault.
    #[error("`{id}` {reason}")]
    Guest {
        /// The instance that was asked.
        id: InstanceId,
        /// 502, 504 or 507: trapped, too slow, out of memory.
        status: StatusCode,
        /// The failure as a predicate: `exceeded its memory limit of 32 MiB`.
        reason: String,
    },
    /// The client failed: it did not send the body it announced. Not counted as a fault.
    #[error("`{id}` {reason}")]
    Client {
        /// The instance that was asked.
        id: InstanceId,
        /// The failure as a predicate: `was sent nothing more of its request for 60 s`.
        reason: String,
    },
    /// This device is at fault.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ServeError {
    /// Whether the guest has seen nothing of the request, so that asking another replica cannot do
    /// it twice.
    pub fn untouched(&self) -> bool {
        match self {
            ServeError::Unknown(_)
            | ServeError::NotRunning { .. }
            | ServeError::NoRequests(_)
            | ServeError::Busy { .. }
            | ServeError::Unreachable { .. } => true,
            ServeError::Request { .. }
            | ServeError::Guest { .. }
            | ServeError::Client { .. }
            | ServeError::Device(_) => false,
        }
    }

    /// The HTTP status for a client.
    pub fn status(&self) -> StatusCode {
        match self {
            ServeError::Unknown(_)
            | ServeError::NotRunning { .. }
            | ServeError::Busy { .. }
            | ServeError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ServeError::NoRequests(_) => StatusCode::NOT_FOUND,
            ServeError::Request { .. } => StatusCode::BAD_REQUEST,
            ServeError::Guest { status, .. } => *status,
            ServeError::Client { .. } => StatusCode::REQUEST_TIMEOUT,
            ServeError::Device(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The whole answer for a client: the status and a plain sentence.
    pub fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut response = Response::new(body(Bytes::from(format!("{self}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Logs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The instance is unknown, or its logs were deleted.
    #[error("no logs of `{0}` on this node")]
    Unknown(InstanceId),
    /// This device is at fault.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
