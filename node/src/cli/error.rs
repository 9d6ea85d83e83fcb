//! How a command fails: a sentence, a hint, and a code for scripts.

use std::process::ExitCode;

use crate::api::ApiError;
use crate::manifest::ManifestError;
use crate::publish::{NotAll, OperatorError, PublishError, Published};

/// Exit codes, which scripts can rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All was done.
    Done,
    /// Any failure without a code of its own.
    Failed,
    /// Wrong usage, or an invalid file or spec.
    Usage,
    /// The named workload, replica or path does not exist.
    NoSuchThing,
    /// Refused by the cluster; nothing changed.
    Refused,
    /// Accepted, but not done in time: not healthy, not gone, not stopped.
    Unhealthy,
    /// No daemon answers.
    NoDaemon,
    /// That of a command in a replica.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoSuchThing => 3,
            Exit::Refused => 4,
            Exit::Unhealthy => 5,
            Exit::NoDaemon => 6,
            Exit::Program(code) => code,
        })
    }
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CliError {
    /// The process's exit code.
    pub exit: Exit,
    /// The error's text. Nothing is printed when it is empty, as when the reader of a pipe has
    /// gone.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
}

impl CliError {
    /// An error with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        CliError { exit, message: message.into(), hint: None }
    }

    /// An error with [`Exit::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// An error with [`Exit::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error with [`Exit::NoSuchThing`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NoSuchThing, message)
    }

    /// Adds advice for the user.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        CliError { hint: Some(hint.into()), ..self }
    }

    /// Prints it on standard error.
    pub fn show(&self) {
        if !self.message.is_empty() {
            super::out::complain(&self.text());
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let exit = match (error.status.as_u16(), error.code.as_str()) {
            (_, NO_DAEMON) => Exit::NoDaemon,
            (404, _) => Exit::NoSuchThing,
            (403 | 409 | 413 | 422 | 503 | 507, _) => Exit::Refused,
            _ => Exit::Failed,
        };
        CliError { exit, message: error.message, hint: error.hint }
    }
}

/// The code of the [`ApiError`] of a daemon that does not answer.
pub const NO_DAEMON: &str = "no-daemon";

impl From<PublishError> for CliError {
    fn from(error: PublishError) -> Self {
        CliError { exit: exit_of(&error), message: error.to_string(), hint: error.hint() }
    }
}

fn exit_of(error: &PublishError) -> Exit {
    match error {
        PublishError::Api(error) => CliError::from(error.clone()).exit,
        PublishError::Unanswered(_) => Exit::Failed,
        PublishError::File { .. }
        | PublishError::Image(_)
        | PublishError::NotRunnable { .. }
        | PublishError::Circle(_)
        | PublishError::Spec(_) => Exit::Usage,
        PublishError::OtherCluster { .. }
        | PublishError::Contended(_)
        | PublishError::Overtaken(_)
        | PublishError::Signing(_) => Exit::Refused,
        PublishError::NoOperator(_) => Exit::Failed,
    }
}

impl From<NotAll> for CliError {
    fn from(error: NotAll) -> Self {
        let NotAll { published, mut failed, untried, of } = error;
        if let Some((_, only)) = failed.pop_if(|_| of == 1) {
            return only.into();
        }
        // Exit code 4 promises that nothing changed.
        let has_changed = published.iter().any(Published::was_written);
        let first = failed.first().map(|(_, error)| exit_of(error));
        let exit = first.filter(|_| !has_changed).unwrap_or(Exit::Failed);
        let mut text = match (has_changed, failed.len() + untried.len()) {
            (false, _) => "nothing was changed:".to_owned(),
            (true, 1) => "not all was changed, one failed:".to_owned(),
            (true, many) => format!("not all was changed, {many} were not:"),
        };
        let hint = failed.iter().find_map(|(_, error)| error.hint());
        for (name, error) in failed {
            text.push_str(&format!("\n  {name}: {error}"));
        }
        for name in untried {
            text.push_str(&format!("\n  {name}: was not tried after that"));
        }
        for done in published {
            text.push_str(&format!("\n  {}", super::publish::outcome_line(&done)));
        }
        CliError { exit, message: text, hint }
    }
}

impl From<OperatorError> for CliError {
    fn from(error: OperatorError) -> Self {
        CliError { exit: Exit::Failed, message: error.to_string(), hint: error.hint() }
    }
}

impl CliError {
    /// The error of a manifest.
    pub fn of_manifest(file: &str, error: ManifestError) -> Self {
        CliError { exit: Exit::Usage, message: format!("{file}: {error}"), hint: error.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use shoal_protocol::node::Refusal;

    /// The exit codes are documented: scripts branch on them.
    #[test]
    fn refusals_map_to_exit_codes() {
        let exit = |refusal: Refusal| CliError::from(ApiError::from(refusal)).exit;
        assert_eq!(exit(Refusal::NoSuchWorkload("a".parse().unwrap())), Exit::NoSuchThing);
        assert_eq!(exit(Refusal::Unplaceable(vec![])), Exit::Refused);
        assert_eq!(exit(Refusal::Stale), Exit::Refused);
        assert_eq!(exit(Refusal::ReadOnly(String::new())), Exit::Refused);
        assert_eq!(exit(Refusal::Full(String::new())), Exit::Refused);
        let internal = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "x");
        assert_eq!(CliError::from(internal).exit, Exit::Failed);
        let gone = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, "x");
        assert_eq!(CliError::from(gone).exit, Exit::NoDaemon);
    }

    #[test]
    fn hint_is_on_its_own_line() {
        let error = CliError::failed("it broke").hint("Mend it.");
        assert_eq!(error.text(), "error: it broke\nhint: Mend it.");
    }
}
