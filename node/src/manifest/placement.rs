//! The rules of a manifest about the nodes of a workload.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::spec::Rule;

use super::ManifestError;

/// Labels and their values, or rules as `shoal run` has them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Require {
    Labels(BTreeMap<String, String>),
    Rules(Texts),
}

/// A text, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    List(Vec<String>),
}

/// The rules that a node must fulfil.
pub(super) fn required(require: Option<Spanned<Require>>) -> Result<Vec<Rule>, ManifestError> {
    let Some(Spanned { value, referenced, defined }) = require else { return Ok(Vec::new()) };
    match value {
        // Whatever the value is: a label that is none is refused with the spec.
        Require::Labels(labels) => {
            Ok(labels.into_iter().map(|(name, value)| Rule::is(name, value)).collect())
        }
        Require::Rules(value) => {
            list("require", Some(Spanned { value, referenced, defined }), str::parse)
        }
    }
}

/// A list of a document, or its only entry.
pub(super) fn list<T, E: Display>(
    name: &str,
    texts: Option<Spanned<Texts>>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, ManifestError> {
    let Some(Spanned { value, referenced, .. }) = texts else { return Ok(Vec::new()) };
    let one = |text: String| {
        let wrong = |error| ManifestError::at(referenced.line(), format!("{name}: {error}"));
        read(&text).map_err(wrong)
    };
    match value {
        Texts::One(text) => Ok(vec![one(text)?]),
        Texts::List(texts) => texts.into_iter().map(one).collect(),
    }
}
