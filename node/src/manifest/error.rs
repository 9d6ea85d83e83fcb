//! What is wrong with a manifest, and where.

use std::fmt;

use serde_saphyr::Error as Yaml;

use crate::nearest::did_you_mean;

/// A manifest that cannot be read. Nothing was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    /// The line it is about, counted from 1.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl ManifestError {
    pub(super) fn plain(message: impl Into<String>) -> Self {
        ManifestError { line: None, message: message.into(), hint: None }
    }

    pub(super) fn at(line: u64, message: impl Into<String>) -> Self {
        ManifestError { line: (line > 0).then_some(line), message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        ManifestError { hint: Some(hint.into()), ..self }
    }

    pub(super) fn of_yaml(error: &Yaml) -> Self {
        let error = error.without_snippet();
        let line = error.location().map_or(0, |location| location.line());
        match error {
            Yaml::SerdeUnknownField { field, expected, .. } => ManifestError {
                hint: did_you_mean(field, expected.iter().copied())
                    .or_else(|| Some(format!("Known are {}.", expected.join(", ")))),
                ..Self::at(line, format!("unknown field `{field}`"))
            },
            Yaml::SerdeMissingField { field, .. } => {
                Self::at(line, format!("the field `{field}` is missing"))
            }
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                Self::at(line, format!("`{key}` stands here twice"))
            }
            Yaml::SerdeInvalidType { unexpected, expected, .. } => {
                Self::at(line, format!("{expected} is expected, found {unexpected}"))
            }
            Yaml::Message { msg, .. } => Self::at(line, msg.clone()),
            // The list of YAML's own complaints is open; each renders itself in one line.
            other => Self::at(line, without_place(&one_line(other))),
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

fn one_line(error: &Yaml) -> String {
    error.render().lines().next().unwrap_or("not YAML").to_owned()
}

/// The library names the place itself, in words of its own; ours stands in front already.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).trim_start_matches("error: ").to_owned()
}
