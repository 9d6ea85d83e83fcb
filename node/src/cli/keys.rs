//! The key to sign with: where it is, and the passphrase that it may be under.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::error::CliError;
use crate::publish::files::{FileError, read_secret};
use crate::publish::{KeyFile, OPERATOR_FILE, Operator, OperatorError};

/// How often a person may mistype a passphrase.
const TRIES: usize = 3;

/// Where the operator's key is. Copies share what was read, so that nobody is asked twice.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The folder of the key, and of what belongs to this installation.
    pub config: PathBuf,
    /// Another file with the key.
    pub file: Option<PathBuf>,
    /// A file with the passphrase of the key.
    pub passphrase: Option<PathBuf>,
    opened: Arc<OnceLock<Operator>>,
}

impl Keys {
    /// Keys in this folder, or in another file.
    pub fn new(config: PathBuf, file: Option<PathBuf>, passphrase: Option<PathBuf>) -> Keys {
        Keys { config, file, passphrase, opened: Arc::default() }
    }

    /// Reads the key, and its passphrase if it has one.
    ///
    /// # Errors
    /// There is no key, it is not to be used, or the passphrase is missing or wrong.
    pub fn operator(&self) -> Result<Operator, OperatorError> {
        if let Some(operator) = self.opened.get() {
            return Ok(operator.clone());
        }
        let path = self.file.clone().unwrap_or_else(|| self.config.join(OPERATOR_FILE));
        let file = match KeyFile::read(&path)? {
            Some(file) => file,
            None if self.file.is_none() => return Err(OperatorError::None(self.config.clone())),
            None => {
                let missing = io::ErrorKind::NotFound.into();
                return Err(FileError::new(&path, "read", missing).into());
            }
        };
        let operator = self.unlock(&path, &file, |it| file.open(it, &self.config))?;
        Ok(self.opened.get_or_init(|| operator).clone())
    }

    /// Does `work` with the passphrase of a file, if it has one: that of the option, or one that a
    /// person types.
    pub fn unlock<T>(
        &self,
        path: &Path,
        file: &KeyFile,
        work: impl Fn(Option<&str>) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        if !file.is_sealed() {
            return work(None);
        }
        if let Some(from) = &self.passphrase {
            return work(Some(&from_file(from)?));
        }
        if !io::stderr().is_terminal() {
            return work(None);
        }
        for left in (0..TRIES).rev() {
            let typed = ask(&format!("Passphrase of {}: ", path.display()));
            let Ok(typed) = typed else { return work(None) };
            match work(Some(&typed)) {
                Err(OperatorError::Passphrase(_)) if left > 0 => eprintln!("It is another one."),
                done => return done,
            }
        }
        work(None)
    }
}

/// The first line of a file with a passphrase, which only its owner may read.
fn from_file(path: &Path) -> Result<String, OperatorError> {
    let Some(text) = read_secret(path)? else {
        return Err(FileError::new(path, "read", io::ErrorKind::NotFound.into()).into());
    };
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks on the terminal, which shows nothing of the answer.
fn ask(question: &str) -> io::Result<String> {
    rpassword::prompt_password(question)
}

/// A new passphrase: the first line of a file, or what a person types twice.
pub fn new_passphrase(from: Option<&Path>, least: usize) -> Result<String, CliError> {
    let chosen = match from {
        Some(from) => from_file(from)?,
        None => {
            let typed = ask("New passphrase: ").and_then(|it| Ok((it, ask("Once more: ")?)));
            let (one, other) = typed.map_err(|_| {
                CliError::usage("there is no terminal to ask for the new passphrase on")
                    .hint("--new-passphrase-file names a file with it. Nothing was changed.")
            })?;
            if one != other {
                return Err(CliError::usage("the two differ; nothing was changed"));
            }
            one
        }
    };
    match chosen.chars().count() < least {
        false => Ok(chosen),
        true => Err(CliError::usage(format!(
            "a passphrase has at least {least} characters; nothing was changed"
        ))
        .hint("Four or five words that do not belong together are a good one.")),
    }
}
