//! Failures of a request, with messages for people.

use std::time::Duration;

use http::StatusCode;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::error::ServeError;
use crate::model::InstanceId;

/// A failure of one request, of the guest or its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestFault {
    pub status: StatusCode,
    /// A predicate: `exceeded its memory limit of 32 MiB`.
    pub reason: String,
    pub blame: Blame,
}

/// The party at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The guest: counted as a fault, and logged.
    Guest,
    /// The client, or the path to it: logged, and not counted.
    Client,
    /// None: the guest was stopped, or its client went away.
    Nobody,
    /// None, and the guest has seen nothing: the replica's other requests have all its memory.
    NoRoom,
}

impl RequestFault {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        RequestFault { status, reason: reason.into(), blame: Blame::Guest }
    }

    pub fn out_of_memory(limit: u64, others: u64) -> Self {
        let shared = match others {
            0 => String::new(),
            1 => ", which it shared with another request".to_owned(),
            others => format!(", which it shared with {others} other requests"),
        };
        RequestFault::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("exceeded its memory limit of {}{shared}", mib(limit)),
        )
    }

    /// `throttled` is the time for which the CPU limit held the guest back.
    pub fn too_slow(limit: Duration, throttled: Duration, millicores: u32) -> Self {
        let why = match throttled.as_millis() {
            0 => String::new(),
            _ => format!(" (held back for {} by its CPU limit of {millicores}m)", secs(throttled)),
        };
        RequestFault::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("ran longer than {} without an answer{why}", secs(limit)),
        )
    }

    pub fn stalled(limit: Duration) -> Self {
        RequestFault::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("made no progress with its answer for {}", secs(limit)),
        )
    }

    pub fn too_much_cpu(limit: Duration) -> Self {
        RequestFault::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("used more than {} of CPU time for one request", secs(limit)),
        )
    }

    pub fn no_answer() -> Self {
        RequestFault::new(StatusCode::BAD_GATEWAY, "ended without an answer")
    }

    pub fn answered_with_error(code: &impl std::fmt::Debug) -> Self {
        RequestFault::new(StatusCode::BAD_GATEWAY, format!("answered with the error {code:?}"))
    }

    pub fn stopped() -> Self {
        RequestFault {
            blame: Blame::Nobody,
            ..RequestFault::new(StatusCode::SERVICE_UNAVAILABLE, "was stopped before it answered")
        }
    }

    pub fn client_gone() -> Self {
        RequestFault {
            blame: Blame::Nobody,
            ..RequestFault::new(StatusCode::BAD_GATEWAY, "was cut off, since its client is gone")
        }
    }

    pub fn client_silent(limit: Duration) -> Self {
        RequestFault::of_client(format!("was sent nothing more of its request for {}", secs(limit)))
    }

    pub fn not_taken(limit: Duration) -> Self {
        RequestFault::of_client(format!(
            "was cut off, since nothing of its answer was taken for {}",
            secs(limit)
        ))
    }

    /// The guest ended, in any way, after its request's body broke off because of `why`.
    pub fn half_a_request(why: &str) -> Self {
        RequestFault::of_client(format!("was sent half a request: {why}"))
    }

    fn of_client(reason: String) -> Self {
        RequestFault {
            blame: Blame::Client,
            ..RequestFault::new(StatusCode::REQUEST_TIMEOUT, reason)
        }
    }

    pub fn no_room() -> Self {
        let reason = "has no memory left for another request at this moment";
        RequestFault {
            blame: Blame::NoRoom,
            ..RequestFault::new(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
    }

    pub fn host(reason: impl std::fmt::Display) -> Self {
        RequestFault::new(StatusCode::BAD_GATEWAY, format!("could not be run: {reason}"))
    }

    /// Explains an error of the engine.
    pub fn from_engine(error: &wasmtime::Error) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return RequestFault::new(
                StatusCode::BAD_GATEWAY,
                format!("exited with code {} instead of answering", exit.0),
            );
        }
        let reason = match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => {
                "trapped: unreachable executed (a panic or an abort; its log may tell)".into()
            }
            // Rust's stack lies below its data: endless recursion runs out of bounds.
            Some(Trap::MemoryOutOfBounds) => {
                "trapped: out of bounds memory access (a recursion without end, or a bad pointer?)"
                    .into()
            }
            Some(Trap::StackOverflow) => {
                "trapped: call stack exhausted (a recursion without end?)".into()
            }
            Some(trap) => {
                let trap = trap.to_string();
                format!("trapped: {}", trap.strip_prefix("wasm trap: ").unwrap_or(&trap))
            }
            None => format!("failed: {}", error.root_cause()),
        };
        RequestFault::new(StatusCode::BAD_GATEWAY, reason)
    }

    pub fn into_error(self, id: &InstanceId) -> ServeError {
        match self.blame {
            Blame::Client => ServeError::Client { id: id.clone(), reason: self.reason },
            Blame::Guest | Blame::Nobody | Blame::NoRoom => {
                ServeError::Guest { id: id.clone(), status: self.status, reason: self.reason }
            }
        }
    }
}

/// Bytes as people read them.
pub(super) fn mib(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

fn secs(time: Duration) -> String {
    match time.as_millis() {
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis if millis < 1000 => format!("{millis} ms"),
        millis => format!("{:.1} s", millis as f64 / 1000.0),
    }
}
