//! Ids of nodes, clusters, keys and bytes: plain 32-byte values with a text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a {1}: 64 hexadecimal digits are expected")]
pub struct NotAnId(pub String, pub &'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        // By the bytes. The first eight nearly always decide, and maps compare ids very often.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                head(&self.0).cmp(&head(&other.0)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The 32 bytes of the id.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people. Not unique.
            pub fn short(&self) -> String {
                self.0[..4].iter().map(|b| format!("{b:02x}")).collect()
            }
        }

        // In formats for people the hexadecimal text, else the bytes.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match serializer.is_human_readable() {
                    true => serializer.collect_str(self),
                    false => self.0.serialize(serializer),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match deserializer.is_human_readable() {
                    true => hex::deserialize(deserializer),
                    false => <[u8; 32]>::deserialize(deserializer).map($name),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_hex(text).map($name).ok_or_else(|| NotAnId(text.to_owned(), $what))
            }
        }
    };
}

id! {
    /// A node: the Ed25519 public key of its daemon. The network derives libp2p's PeerId from it.
    NodeId, "node id"
}
id! {
    /// The SHA-256 of some bytes. Identifies artifacts, changes and generations.
    Digest, "digest"
}
id! {
    /// An Ed25519 public key of any signer: an operator, a node, an invite, or the cluster's root.
    PublicKey, "public key"
}
id! {
    /// A cluster: the hash of its genesis (see `trust`).
    ClusterId, "cluster id"
}
id! {
    /// An installation of an operator's key: the actor of every clock in desired state.
    WriterId, "writer id"
}

pub(super) fn head(bytes: &[u8; 32]) -> u64 {
    let (head, _) = bytes.split_first_chunk().expect("32 bytes are more than eight");
    u64::from_be_bytes(*head)
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// The SHA-256 of the concatenated parts. The caller ensures that the borders between them are
    /// unambiguous.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Digest(out)
    }
}

impl From<NodeId> for PublicKey {
    fn from(node: NodeId) -> Self {
        PublicKey(node.0)
    }
}

/// Ids as text, for `#[serde(with)]` in formats for people such as JSON.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    /// Serializes a value as its text form.
    pub fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Deserializes a value from its text form.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (i, pair) in bytes.chunks_exact(2).enumerate() {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        out[i] = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_parses_from_its_text() {
        let digest = Digest::of(b"shoal");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!(digest.to_string().len(), 64);
    }

    #[test]
    fn bad_id_is_named_in_the_error() {
        let error = "xyz".parse::<NodeId>().unwrap_err();
        assert_eq!(error.to_string(), "`xyz` is not a node id: 64 hexadecimal digits are expected");
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }
}

/// The number of a batch of records that goes to disk in one transaction. A run numbers its batches
/// from 1, without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PersistId(pub u64);
