//! Errors of manifests, with their place.

use std::fmt;

use serde_saphyr::Error as Yaml;
use shoal_protocol::model::spec::InvalidSpec;

use super::foreign::field_here;
use super::tree::words;
use crate::nearest::did_you_mean;

/// A manifest that cannot be read. Nothing was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    /// The document of the error, counted from 1, where the text has several.
    pub document: Option<usize>,
    /// The line of the error, counted from 1.
    pub line: Option<u64>,
    /// The column of the error in its line, counted from 1.
    pub column: Option<u64>,
    /// The error's text.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
}

impl ManifestError {
    pub(super) fn plain(message: impl Into<String>) -> Self {
        ManifestError {
            document: None,
            line: None,
            column: None,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn at(line: u64, message: impl Into<String>) -> Self {
        ManifestError { line: (line > 0).then_some(line), ..Self::plain(message) }
    }

    pub(super) fn column(self, column: u64) -> Self {
        let is_known = column > 0 && self.line.is_some();
        ManifestError { column: is_known.then_some(column), ..self }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        ManifestError { hint: Some(hint.into()), ..self }
    }

    pub(super) fn of_yaml(error: &Yaml) -> Self {
        let column = error.location().map_or(0, |location| location.column());
        Self::of_yaml_line(error).column(column)
    }

    fn of_yaml_line(error: &Yaml) -> Self {
        let error = error.without_snippet();
        let line = error.location().map_or(0, |location| location.line());
        match error {
            Yaml::SerdeUnknownField { field, expected, .. } => match InvalidSpec::not_yet(field) {
                Some(not_yet) => Self::at(line, not_yet.to_string())
                    .hint(field_here(field).unwrap_or("Leave it away; nothing was published.")),
                None => ManifestError {
                    hint: field_here(field)
                        .map(str::to_owned)
                        .or_else(|| did_you_mean(field, expected.iter().copied()))
                        .or_else(|| Some(format!("Known are {}.", expected.join(", ")))),
                    ..Self::at(line, format!("unknown field `{field}`"))
                },
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
            // The parser's own errors are an open list; each has a one-line text.
            other => {
                let text = without_place(&one_line(other));
                match words::plain(&text) {
                    Some((fault, mend)) => Self::at(line, fault).hint(mend),
                    None => Self::at(line, text),
                }
            }
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(document) = self.document {
            write!(f, "document {document}, ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

fn one_line(error: &Yaml) -> String {
    error.render().lines().next().unwrap_or("not YAML").to_owned()
}

/// The library adds the place in its own words; ours is in front already.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).trim_start_matches("error: ").to_owned()
}
