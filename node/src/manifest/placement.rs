//! The rules of a manifest about the nodes of a workload.

use std::fmt::Display;

use serde::{Deserialize, Deserializer};
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::{Affinity, Preference, Rule};

use super::ManifestError;
use super::text::{At, Pairs, Text, TextOr, text_or};

/// Labels and their values, or rules as `shoal run` has them.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Require {
    Labels(Pairs),
    Rules(Texts),
}

/// A text, or a list of them.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Texts {
    One(String),
    List(Vec<String>),
}

/// Rules with their weights, in one of three forms.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Prefer {
    One(Weighted),
    List(Vec<Weighted>),
}

/// A rule as `shoal run` has it, or its parts by name.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Weighted {
    Text(String),
    Parts(WeightedParts),
}

/// A rule and its weight.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct WeightedParts {
    /// The rule. Example: `rule: disk=ssd`
    rule: String,
    /// Its weight, 1 to 100. Default: 50. Example: `weight: 80`
    weight: Option<Text>,
}

/// Other workloads, each with or without a weight.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Relations {
    /// On the same nodes as these. Example: `near: [db]`
    near: Option<At<Texts>>,
    /// On other nodes than these; a weight from 1 to 100 makes it a wish.
    /// Example: `apart: ["batch:30"]`
    apart: Option<At<Texts>>,
}

impl TextOr for Require {
    const EXPECTED: &'static str = "labels with their values, or a list of rules, are expected";

    fn of_text(text: String) -> Self {
        Require::Rules(Texts::One(text))
    }

    fn of_list<'de, D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        Vec::deserialize(list).map(|all| Require::Rules(Texts::List(all)))
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        Pairs::deserialize(map).map(Require::Labels)
    }
}

impl TextOr for Texts {
    const EXPECTED: &'static str = "a text, or a list of texts,";

    fn of_text(text: String) -> Self {
        Texts::One(text)
    }

    fn of_list<'de, D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        Vec::deserialize(list).map(Texts::List)
    }
}

impl TextOr for Prefer {
    const EXPECTED: &'static str =
        "rules as `disk=ssd:80`, or `{ rule: disk=ssd, weight: 80 }`, are expected";

    fn of_text(text: String) -> Self {
        Prefer::One(Weighted::Text(text))
    }

    fn of_list<'de, D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        Vec::deserialize(list).map(Prefer::List)
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        WeightedParts::deserialize(map).map(|parts| Prefer::One(Weighted::Parts(parts)))
    }
}

impl TextOr for Weighted {
    const EXPECTED: &'static str = Prefer::EXPECTED;

    fn of_text(text: String) -> Self {
        Weighted::Text(text)
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        WeightedParts::deserialize(map).map(Weighted::Parts)
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

impl<'de> Deserialize<'de> for Prefer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

impl<'de> Deserialize<'de> for Weighted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

/// The rules that make a node better.
pub(super) fn preferred(prefer: Option<At<Prefer>>) -> Result<Vec<Preference>, ManifestError> {
    let Some(prefer) = prefer else { return Ok(Vec::new()) };
    let line = prefer.line();
    let all = match prefer.take() {
        Prefer::One(one) => vec![one],
        Prefer::List(all) => all,
    };
    let one = |weighted: Weighted| {
        let text = match weighted {
            Weighted::Text(text) | Weighted::Parts(WeightedParts { rule: text, weight: None }) => {
                text
            }
            Weighted::Parts(WeightedParts { rule, weight: Some(Text(weight)) }) => {
                format!("{rule}:{weight}")
            }
        };
        let wrong = |error| ManifestError::at(line, format!("prefer: {error}"));
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
pub(super) fn required(require: Option<At<Require>>) -> Result<Vec<Rule>, ManifestError> {
    let Some(require) = require else { return Ok(Vec::new()) };
    let line = require.line();
    match require.take() {
        // Whatever the value is: a label that is none is refused with the spec.
        Require::Labels(labels) => {
            Ok(labels.into_iter().map(|(name, value)| Rule::is(name, value.0)).collect())
        }
        Require::Rules(rules) => listed("require", line, rules, str::parse),
    }
}

/// A list of a document, or its only entry.
pub(super) fn list<T, E: Display>(
    name: &str,
    texts: Option<At<Texts>>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, ManifestError> {
    let Some(texts) = texts else { return Ok(Vec::new()) };
    let line = texts.line();
    listed(name, line, texts.take(), read)
}

fn listed<T, E: Display>(
    name: &str,
    line: u64,
    texts: Texts,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, ManifestError> {
    let one = |text: String| {
        let wrong = |error| ManifestError::at(line, format!("{name}: {error}"));
        read(&text).map_err(wrong)
    };
    match texts {
        Texts::One(text) => Ok(vec![one(text)?]),
        Texts::List(texts) => texts.into_iter().map(one).collect(),
    }
}
