//! The secrets and configs of a manifest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::spec::ValueUse;

use super::ManifestError;

/// A secret or config: a text as `shoal run` has it, or its parts by name.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Given {
    Text(String),
    Parts(BTreeMap<String, String>),
}

/// The values that a list of a document names.
pub(super) fn uses(
    name: &str,
    list: Option<Spanned<Vec<Given>>>,
    read: fn(&str) -> Result<ValueUse, String>,
) -> Result<Vec<ValueUse>, ManifestError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let line = list.referenced.line();
    let wrong = |error| ManifestError::at(line, format!("{name}: {error}"));
    let one = |given: Given| match given {
        Given::Text(text) => read(&text),
        Given::Parts(parts) => {
            let parts: Vec<String> =
                parts.iter().map(|(key, value)| format!("{key}={value}")).collect();
            read(&parts.join(","))
        }
    };
    list.value.into_iter().map(|given| one(given).map_err(wrong)).collect()
}
