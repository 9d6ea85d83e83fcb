//! Errors of calls to the engine, and their meaning in words for people.
//!
//! Podman answers 500 to nearly every refusal, so the meaning is found by the call, the status and
//! the text together.

use std::time::Duration;

use bollard::errors::Error;
use serde::Deserialize;

/// A call to the engine failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No connection, or it broke off before the answer was complete.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The deadline of the call passed.
    #[error("it gave no answer within {0:?}")]
    Silent(Duration),
    /// The engine answered with an error.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The answer is not of the expected form.
    #[error("it gave an answer that makes no sense: {0}")]
    Garbled(String),
    /// A volume has the name of one of this owner's, and is not.
    #[error("its volume {0} is not of this node: remove or rename it")]
    Foreign(String),
}

/// The body of an error: `message` on Docker, and on Podman beside a `cause`.
#[derive(Deserialize)]
struct Message {
    message: Option<String>,
}

impl CallError {
    pub fn unreachable(error: impl std::fmt::Display) -> Self {
        CallError::Unreachable(error.to_string())
    }

    pub fn broke_off(error: impl std::fmt::Display) -> Self {
        CallError::Unreachable(format!("it broke off: {error}"))
    }

    pub fn garbled(error: impl std::fmt::Display) -> Self {
        CallError::Garbled(error.to_string())
    }

    /// The error in an answer's body, which may be JSON, plain text or empty.
    pub fn refused(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let message = serde_json::from_slice::<Message>(body).ok().and_then(|body| body.message);
        let message = message.unwrap_or_else(|| text.trim().to_owned());
        let message = if message.is_empty() { format!("status {status}") } else { message };
        CallError::Refused { status, message }
    }

    /// Whether the engine says that the container does not exist. Podman's 404 for an unknown route
    /// does not say that.
    pub fn no_such_container(&self) -> bool {
        self.says(404, "no such container") || self.says(404, "no container with")
    }

    /// Whether the engine says that the image does not exist.
    pub fn no_such_image(&self) -> bool {
        ["no such image", "image not known", "failed to find image", "unable to find"]
            .iter()
            .any(|text| self.says(404, text))
    }

    /// Whether the container is in the state that the call asked for.
    pub fn already_so(&self) -> bool {
        matches!(self, CallError::Refused { status: 304, .. })
    }

    /// Whether the engine itself is at fault: gone, hanging, or talking nonsense.
    pub fn is_of_engine(&self) -> bool {
        !matches!(self, CallError::Refused { .. } | CallError::Foreign(_))
    }

    fn says(&self, wanted: u16, text: &str) -> bool {
        matches!(self, CallError::Refused { status, message }
            if *status == wanted && message.to_lowercase().contains(text))
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                CallError::refused(status_code, message.as_bytes())
            }
            Error::DockerStreamError { error } => CallError::refused(500, error.as_bytes()),
            Error::RequestTimeoutError => CallError::Silent(Duration::ZERO),
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => CallError::garbled(error),
            error => CallError::unreachable(with_causes(&error)),
        }
    }
}

/// An error with the errors that caused it: hyper's own text is `client error (Connect)`.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The reason of a start that failed, and whether another try may succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub reason: String,
    pub retryable: bool,
}

impl Failure {
    pub fn passing(reason: impl Into<String>) -> Self {
        Failure { reason: reason.into(), retryable: true }
    }

    pub fn lasting(reason: impl Into<String>) -> Self {
        Failure { reason: reason.into(), retryable: false }
    }
}

/// The step of a start that an engine refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The container was to be made.
    Create,
    /// Its program was to be run.
    Start,
}

/// Texts in refusals whose cause does not go away, with their meaning. The first that fits counts.
const LASTING: &[(Step, &str, &str)] = &[
    (Step::Create, "no command", "the image names no command, and neither does the workload"),
    (Step::Start, "unable to find user", "the image has no such user"),
    (Step::Start, "unable to find group", "the image has no such group"),
    (Step::Start, "exec format error", "its program is not for this machine"),
    (Step::Start, "executable file not found", "the image has no such program"),
    (Step::Start, "no such file or directory", "the image lacks a file that it needs"),
    (Step::Start, "permission denied", "its program may not be run"),
    (Step::Start, "is a directory", "its program is a folder"),
    (Step::Create, "minimum memory limit", "its memory limit is too small"),
    (Step::Create, "catatonit", "the engine has no init process: install catatonit"),
    (Step::Start, "docker-init", "the engine has no init process: install docker-init"),
];

/// Texts in refusals whose cause may go away.
const PASSING: &[(&str, &str)] = &[
    ("port is already allocated", "a port that it needs is taken"),
    ("address already in use", "a port that it needs is taken"),
    ("no space left", "the device's disk is full"),
    ("cannot allocate memory", "the device has no memory left"),
];

/// The meaning of a refused create or start.
pub(super) fn failure(engine: &str, step: Step, error: &CallError) -> Failure {
    let doing = match step {
        Step::Create => "make the container",
        Step::Start => "start the container",
    };
    let CallError::Refused { status, message } = error else {
        return Failure::passing(format!("{engine} did not {doing}: {error}"));
    };
    let text = message.to_lowercase();
    if error.no_such_image() {
        return Failure::passing(format!("the image is not on this device: {message}"));
    }
    // The folder of `given_files`, which the daemon has just written.
    let is_given = text.contains("/shoal-")
        && ["bind source path does not exist", "statfs /"].iter().any(|it| text.contains(it));
    if is_given {
        return Failure::lasting(format!(
            "{engine} does not see the files of secrets and configs that this program made, as \
             when one of both is in a container or has a /run or /dev/shm of its own: give them as \
             variables (env=NAME), or both the same folder: {message}"
        ));
    }
    for (phrase, meaning) in PASSING {
        if text.contains(phrase) {
            return Failure::passing(format!("{meaning}: {message}"));
        }
    }
    for (of, phrase, meaning) in LASTING {
        if *of == step && text.contains(phrase) {
            return Failure::lasting(format!("{meaning}: {message}"));
        }
    }
    let reason = format!("{engine} does not {doing}: {message}");
    // Docker says 400 when an option is wrong; Podman's 500 says nothing.
    if *status == 400 { Failure::lasting(reason) } else { Failure::passing(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Docker, Podman with JSON, Podman's plain text for a route that it lacks, and an empty body.
    #[test]
    fn error_bodies_of_both_engines_are_read() {
        let of = |status, body: &str| CallError::refused(status, body.as_bytes());
        assert!(of(404, r#"{"message":"No such container: abc"}"#).no_such_container());
        let podman = r#"{"cause":"no such container","message":"no container with name or ID
            \"abc\" found: no such container","response":404}"#;
        assert!(of(404, &podman.replace('\n', "")).no_such_container());
        assert!(!of(404, "Not Found\n").no_such_container());
        assert_eq!(of(500, "").to_string(), "status 500");
    }

    /// The same mistake of an operator has the same meaning, whatever the engine's status.
    #[test]
    fn same_mistake_has_the_same_meaning_on_both_engines() {
        for (status, text) in [
            (400, "No command specified"),
            (500, "no command or entrypoint provided, and no CMD or ENTRYPOINT from image"),
        ] {
            let error = CallError::refused(status, text.as_bytes());
            let failure = failure("Docker", Step::Create, &error);
            assert!(!failure.retryable);
            assert!(failure.reason.starts_with("the image names no command"), "{failure:?}");
        }
        let error = CallError::refused(500, b"driver failed: port is already allocated");
        assert!(failure("Docker", Step::Start, &error).retryable);
        assert!(failure("Docker", Step::Start, &CallError::Silent(Duration::ZERO)).retryable);
    }
}
