//! The secrets and configs of a manifest.

use serde::{Deserialize, Deserializer};
use shoal_protocol::model::spec::ValueUse;

use super::ManifestError;
use super::text::{At, Count, Text, TextOr, text_or};

/// A secret or config: a text as `shoal run` has it, or its parts by name.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Given {
    Text(String),
    Parts(ValueParts),
}

/// The parts of a secret or config.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct ValueParts {
    /// Its name in the workload's namespace. Example: `source: db`
    #[serde(alias = "src", alias = "name")]
    source: String,
    /// The file in the container. Default: /run/secrets/NAME for a secret, /NAME for a config.
    /// Example: `target: /etc/db.pw`
    #[serde(alias = "dst", alias = "destination")]
    target: Option<String>,
    /// The variable, instead of a file. Example: `env: DB_PASSWORD`
    env: Option<String>,
    /// The permissions of the file, in octal digits. Default: 0400 for a secret, 0444 for a config.
    /// Example: `mode: "0440"`
    mode: Option<Text>,
    /// The owner of the file, a number. Default: the container's user. Example: `uid: 70`
    uid: Option<Count>,
    /// The group of the file, a number. Default: as `uid`. Example: `gid: 70`
    gid: Option<Count>,
}

impl TextOr for Given {
    const EXPECTED: &'static str = "a text as `db:env=VARIABLE`, or its parts,";

    fn of_text(text: String) -> Self {
        Given::Text(text)
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        ValueParts::deserialize(map).map(Given::Parts)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

/// The values that a list of a document names.
pub(super) fn uses(
    name: &str,
    list: Option<At<Vec<Given>>>,
    read: fn(&str) -> Result<ValueUse, String>,
) -> Result<Vec<ValueUse>, ManifestError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let line = list.line();
    let wrong = |error| ManifestError::at(line, format!("{name}: {error}"));
    let one = |given: Given| match given {
        Given::Text(text) => read(&text),
        Given::Parts(ValueParts { source, target, env, mode, uid, gid }) => {
            let parts = [
                ("source", Some(source)),
                ("target", target),
                ("env", env),
                ("mode", mode.map(|it| it.0)),
                ("uid", uid.map(|it| it.0)),
                ("gid", gid.map(|it| it.0)),
            ];
            let parts = parts.into_iter().filter_map(|(key, it)| Some(format!("{key}={}", it?)));
            read(&parts.collect::<Vec<_>>().join(","))
        }
    };
    list.take().into_iter().map(|given| one(given).map_err(wrong)).collect()
}
