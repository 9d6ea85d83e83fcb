//! The one module that knows bincode: canonical bytes, both ways, within a limit.
//!
//! A value has one encoding, so bytes can be signed and hashed. Decoding never trusts a length:
//! it stops at the limit, refuses what is left over, and the types that pass through here have
//! neither recursion nor zero-sized elements.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes one value may take, in memory while decoding as well as on the wire.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Bytes within a value: encoded as their number and themselves, and copied as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Bytes that are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub struct Malformed(pub String);

/// The canonical bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config()).expect("plain types of ours always encode")
}

/// The value that `bytes`, all of them, encode.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let (value, used) = decode_some(bytes)?;
    if used != bytes.len() {
        return Err(Malformed(format!("{} bytes left over", bytes.len() - used)));
    }
    Ok(value)
}

/// The value at the start of `bytes`; what follows it is ignored. For bodies to which a newer
/// program may have appended fields.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    decode_some(bytes).map(|(value, _)| value)
}

/// The value at the start of `bytes`, and what follows it.
pub fn decode_rest<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Malformed> {
    decode_some(bytes).map(|(value, used)| (value, &bytes[used..]))
}

/// The value, and how many bytes it took.
fn decode_some<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed(format!("{} bytes, at most {MAX_BYTES} are allowed", bytes.len())));
    }
    bincode::serde::decode_from_slice(bytes, config()).map_err(|error| Malformed(error.to_string()))
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_lies_is_refused() {
        // A string that claims 2^63 bytes.
        let bytes = [253, 0, 0, 0, 0, 0, 0, 0, 128];
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        assert_eq!(decode::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert!(decode::<u32>(&bytes).is_err());
    }
}
