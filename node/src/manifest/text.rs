//! The scalars of a manifest: texts with their place, kept until somebody knows what they shall
//! be. Each form has a type, from which its part of the schema is made.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

/// A value and its place in the file.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct At<T>(Spanned<T>);

impl<T> At<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0.value
    }

    /// The value itself.
    pub fn take(self) -> T {
        self.0.value
    }

    /// Its line, from 1; 0 for a place that is not known.
    pub fn line(&self) -> u64 {
        self.0.referenced.line()
    }

    /// Its column, from 1; 0 for a place that is not known.
    pub fn column(&self) -> u64 {
        self.0.referenced.column()
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Deserialize)]
        #[serde(transparent)]
        pub(super) struct $name(pub String);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        #[cfg(test)]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )*};
}

texts! {
    /// A text; a number or a truth value is one, too.
    Text = { "type": ["string", "number", "boolean"] };
    /// A DNS label.
    LabelText = {
        "type": "string", "minLength": 1, "maxLength": 63,
        "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
    };
    /// A number, digits alone.
    Count = { "type": ["integer", "string"], "minimum": 0, "pattern": "^(0|[1-9][0-9]*)$" };
    /// A number that may be negative.
    Signed = { "type": ["integer", "string"], "pattern": "^(0|-?[1-9][0-9]*)$" };
    /// The part of a container in its group.
    RoleText = { "type": "string", "enum": ["app", "init", "sidecar"] };
    /// The word for nothing.
    Word = { "type": "string", "enum": ["none"] };
    /// What is reserved.
    Reserve = { "type": "string", "enum": ["none"] };
    /// A number of bytes with a unit, or bytes.
    Size = {
        "type": ["string", "integer"], "minimum": 0,
        "pattern": "^ *[0-9]*[.]?[0-9]* *([KkMmGgTt]?[Ii]?[Bb]?) *$"
    };
    /// Cores, or thousandths of a core.
    Cores = { "type": ["number", "string"], "minimum": 0, "pattern": "^ *[0-9]*[.]?[0-9]* *m?$" };
    /// A duration with a unit.
    Time = { "type": "string", "pattern": "^ *[0-9]*[.]?[0-9]* *(ms|s|m|min|h|d)$" };
    /// A TCP port.
    PortText = {
        "type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": "^[0-9]+$"
    };
    /// The world of a component.
    WorldText = { "type": "string", "enum": ["http", "command"] };
    /// The mode of a network.
    Network = { "type": "string", "enum": ["bridge", "none", "host"] };
    /// When the engine asks a registry.
    Pull = { "type": "string", "enum": ["missing", "always", "never"] };
    /// The way on when a volume's node is down.
    Loss = { "type": "string", "enum": ["wait", "empty"] };
    /// The order of a stop and a start.
    OrderText = { "type": "string", "enum": ["start-first", "stop-first"] };
    /// What follows when an update fails.
    Failure = { "type": "string", "enum": ["pause", "roll-back", "rollback"] };
    /// Bytes under their hash, as `sha256:HASH/BYTES`.
    ArtifactText = { "type": "string", "pattern": "^sha256:[0-9a-f]{64}/[0-9]+$" };
    /// A hash, as `sha256:HASH`.
    DigestText = { "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" };
    /// A published port.
    Published = {
        "type": "string", "pattern": "^(.+:)?[0-9]+:[0-9]+(/(tcp|udp))?$"
    };
}

#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// Names with their values.
pub(super) type Pairs = BTreeMap<String, Text>;

/// The pairs as texts.
pub(super) fn pairs(all: Pairs) -> BTreeMap<String, String> {
    all.into_iter().map(|(name, value)| (name, value.0)).collect()
}

/// A value that is written as one text, or as something else. The other form is read with its
/// places, so that an error within it names its line: serde's own `untagged` forgets them.
pub(super) trait TextOr: Sized {
    /// The forms, for the error of another one.
    const EXPECTED: &'static str;

    /// The value that is written as a text.
    fn of_text(text: String) -> Self;

    /// The value that is written as a list.
    fn of_list<'de, D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(format!("{} is expected", Self::EXPECTED)))
    }

    /// The value that is written as a mapping.
    fn of_map<'de, D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(format!("{} is expected", Self::EXPECTED)))
    }
}

/// Reads a value of several forms.
pub(super) fn text_or<'de, T: TextOr, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(Forms(PhantomData))
}

struct Forms<T>(PhantomData<T>);

impl<'de, T: TextOr> Visitor<'de> for Forms<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of_text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok(T::of_text(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Ok(T::of_text(number.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::of_list(SeqAccessDeserializer::new(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::of_map(MapAccessDeserializer::new(map))
    }
}
