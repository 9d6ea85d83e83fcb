//! Errors of the API: a status, a code for programs, a sentence, and a hint.

use std::collections::BTreeSet;

use http::StatusCode;
use shoal_protocol::model::spec::Allowed;
use shoal_protocol::node::Refusal;

use super::form::{ErrorBody, ErrorParts};
use crate::driver::Stopped;

/// A request that was not fulfilled. Nothing changed unless the message says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The answer's HTTP status.
    pub status: StatusCode,
    /// A code for programs, as in `no-such-workload`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        ApiError { status, code: code.into(), message: message.into(), hint: None }
    }

    /// Adds advice for the user.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        ApiError { hint: Some(hint.into()), ..self }
    }

    /// An error of the request's content.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// Whether the client should prepare and sign again.
    pub fn is_stale(&self) -> bool {
        self.code == STALE
    }

    /// Whether the node refused, so that nothing changed. After any other error the node may have
    /// made the change without saying so.
    pub fn is_refusal(&self) -> bool {
        // A daemon that stops, or does not answer, refuses nothing.
        self.status.is_client_error() || REFUSALS.contains(&self.code.as_str())
    }

    /// The error as JSON.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorParts {
                code: self.code.clone(),
                message: self.message.clone(),
                hint: self.hint.clone(),
            },
        }
    }

    /// An error that another process sent as JSON.
    pub fn from_body(status: StatusCode, body: ErrorBody) -> Self {
        let ErrorParts { code, message, hint } = body.error;
        ApiError { status, code, message, hint }
    }
}

/// The advice about a workload that no node can run.
fn unplaceable(why: &[String]) -> String {
    let remedies = why.iter().filter_map(|reason| {
        let (_, refused) = reason.split_once("does not allow ")?;
        // Behind it: how many nodes say so.
        Allowed::remedy(refused.rsplit_once(": ").map_or(refused, |(refused, _)| refused))
    });
    match remedies.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",") {
        remedy if remedy.is_empty() => {
            "Ask for less, label a node, add a node, or publish it all the same with --force."
                .into()
        }
        remedy => format!(
            "On a node that shall run it: `shoal up --allow '{remedy}'`, with what it allows \
             already, which `shoal nodes -o wide` lists. Or publish it all the same with --force."
        ),
    }
}

const STALE: &str = "stale";
/// The codes of refusals that are not the client's fault.
const REFUSALS: [&str; 4] = ["read-only", "full", "busy", "not-joined"];

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let new = |status, code| ApiError::new(status, code, message.clone());
        match refusal {
            Refusal::NoSuchWorkload(_) => new(StatusCode::NOT_FOUND, "no-such-workload"),
            Refusal::MayBeElsewhere { .. } => new(StatusCode::CONFLICT, "may-be-elsewhere").hint(
                "Try again when they are back. `shoal rm --force` removes it now, wherever \
                    it is.",
            ),
            Refusal::Unplaceable(why) => {
                new(StatusCode::UNPROCESSABLE_ENTITY, "unplaceable").hint(unplaceable(&why))
            }
            Refusal::ReadOnly(_) => new(StatusCode::SERVICE_UNAVAILABLE, "read-only").hint(
                "Make room on this node's disk, or replace it; it then goes on by itself. \
                    Another node takes the write now.",
            ),
            Refusal::Invalid(_) => new(StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Refusal::Stale => new(StatusCode::CONFLICT, STALE).hint("Prepare and sign again."),
            Refusal::Full(_) => new(StatusCode::INSUFFICIENT_STORAGE, "full"),
            Refusal::Busy(_) => new(StatusCode::SERVICE_UNAVAILABLE, "busy").hint(
                "Try again in a \
                moment.",
            ),
            Refusal::Expelled => new(StatusCode::FORBIDDEN, "revoked").hint(
                "Ask another node (--via). This device comes back with an empty state folder and \
                    a new invite.",
            ),
            Refusal::NotJoined(_) => new(StatusCode::SERVICE_UNAVAILABLE, "not-joined").hint(
                "`shoal status` shows what it waits for; is the address in the invite right?",
            ),
        }
    }
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", stopped.to_string())
    }
}

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        (self.status, axum::Json(self.body())).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reasons as `Node::prepare` counts them.
    #[test]
    fn hint_names_the_option_that_would_allow_it() {
        let hint = |why: &[&str]| {
            let why = why.iter().map(|&it| it.to_owned()).collect();
            ApiError::from(Refusal::Unplaceable(why)).hint.unwrap_or_default()
        };
        let path =
            hint(&["does not allow path /data: 2 nodes left out", "no container runtime: 1"]);
        assert!(path.contains("`shoal up --allow 'path=/data'`"), "{path}");
        let two = hint(&["does not allow device /dev/x: 1 node", "does not allow path /data: 1"]);
        assert!(two.contains("'device=/dev/x,path=/data'"), "{two}");
        assert!(hint(&["2 TiB of memory required: 3 nodes left out"]).starts_with("Ask for less"));
    }
}
