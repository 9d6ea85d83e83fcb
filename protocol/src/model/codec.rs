//! The one module that knows bincode: canonical bytes, both ways, within a limit.
//!
//! One value has one encoding, so bytes can be signed and hashed. Decoding never trusts a length:
//! it stops at the limit, refuses what is left over, and the types that pass through here have
//! neither recursion nor zero-sized elements.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes one value may take, in memory while decoding as well as on the wire.
pub const MAX_BYTES: usize = 1024 * 1024;

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
    if bytes.len() > MAX_BYTES {
        return Err(Malformed(format!("{} bytes, at most {MAX_BYTES} are allowed", bytes.len())));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| Malformed(error.to_string()))?;
    if used != bytes.len() {
        return Err(Malformed(format!("{} bytes left over", bytes.len() - used)));
    }
    Ok(value)
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
