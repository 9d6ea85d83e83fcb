//! The rules of a manifest about the nodes of a workload.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::{Affinity, Preference, Rule};

use super::ManifestError;

/// Labels and their values, or rules as `shoal run` has them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "labels with their values, or a list of rules, are expected")]
pub(super) enum Require {
    Labels(BTreeMap<String, String>),
    Rules(Texts),
}

/// A text, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts, is expected")]
pub(super) enum Texts {
    One(String),
    List(Vec<String>),
}

/// Rules with their weights, in one of three forms.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "rules as `disk=ssd:80`, or `{ rule: disk=ssd, weight: 80 }`, are expected"
)]
pub(super) enum Prefer {
    One(Weighted),
    List(Vec<Weighted>),
}

/// A rule as `shoal run` has it, or its parts by name.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Weighted {
    Text(String),
    Parts(Parts),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    rule: String,
    weight: Option<Weight>,
}

/// Written with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Weight {
    Number(i64),
    Text(String),
}

/// Other workloads, each with or without a weight.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relations {
    near: Option<Spanned<Texts>>,
    apart: Option<Spanned<Texts>>,
}

/// The rules that make a node better.
pub(super) fn preferred(prefer: Option<Spanned<Prefer>>) -> Result<Vec<Preference>, ManifestError> {
    let Some(Spanned { value, referenced, .. }) = prefer else { return Ok(Vec::new()) };
    let all = match value {
        Prefer::One(one) => vec![one],
        Prefer::List(all) => all,
    };
    let one = |weighted: Weighted| {
        let text = match weighted {
            Weighted::Text(text) | Weighted::Parts(Parts { rule: text, weight: None }) => text,
            Weighted::Parts(Parts { rule, weight: Some(Weight::Number(weight)) }) => {
                format!("{rule}:{weight}")
            }
            Weighted::Parts(Parts { rule, weight: Some(Weight::Text(weight)) }) => {
                format!("{rule}:{weight}")
            }
        };
        let wrong = |error| ManifestError::at(referenced.line(), format!("prefer: {error}"));
        text.parse().map_err(wrong)
    };
    all.into_iter().map(one).collect()
}

/// The relations of the workload `of` to others.
pub(super) fn relations(
    all: Option<Relations>,
    of: &WorkloadName,
) -> Result<Vec<Affinity>, ManifestError> {
    let Some(Relations { near, apart }) = all else { return Ok(Vec::new()) };
    let mut all = list("near", near, |text| Affinity::parse(text, false, of))?;
    all.extend(list("apart", apart, |text| Affinity::parse(text, true, of))?);
    Ok(all)
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
