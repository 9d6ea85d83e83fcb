//! A key's seed under a passphrase: whoever finds the file cannot use it.
//!
//! Argon2id makes the passphrase slow and costly to guess; ring's AES-256-GCM seals the seed, and
//! so tells a wrong passphrase from a right one. Each sealing draws a salt, so that each derived
//! key seals once, and the nonce may be constant.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::hex::{from_hex, to_hex};
use crate::identity::{self, IdentityError};

/// Costs of a new sealing, in KiB and passes: the second choice of RFC 9106, for computers with
/// less memory, on one thread.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Bounds of the costs that a file may ask for.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 64;
/// Shorter ones are guessed in no time.
pub const LEAST_LENGTH: usize = 8;

/// A sealed seed, as files have it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedSeed {
    kdf: Kdf,
    memory_kib: u32,
    passes: u32,
    /// 16 bytes as hexadecimal digits.
    salt: String,
    /// The seed and its tag, 48 bytes as hexadecimal digits.
    sealed: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kdf {
    Argon2id,
}

/// Why a seed was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    /// The passphrase is another one, or the bytes were altered: nobody can tell which.
    #[error("the passphrase is wrong")]
    Wrong,
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Random(#[from] IdentityError),
}

impl SealedSeed {
    /// Seals a seed.
    pub fn seal(seed: &[u8; 32], passphrase: &str) -> Result<SealedSeed, SealError> {
        let salt = &identity::random()?[..16];
        let mut sealed = seed.to_vec();
        derive(passphrase, salt, MEMORY_KIB, PASSES)?
            .seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
            .map_err(|_| SealError::Malformed("it cannot be sealed".into()))?;
        let (salt, sealed) = (to_hex(salt), to_hex(&sealed));
        let (memory_kib, passes) = (MEMORY_KIB, PASSES);
        Ok(SealedSeed { kdf: Kdf::Argon2id, memory_kib, passes, salt, sealed })
    }

    /// The seed.
    pub fn open(&self, passphrase: &str) -> Result<[u8; 32], SealError> {
        let Kdf::Argon2id = self.kdf;
        if self.memory_kib > MOST_MEMORY_KIB || self.passes > MOST_PASSES {
            return Err(SealError::Malformed("its passphrase asks for too much memory".into()));
        }
        let bytes = |text: &str| {
            from_hex(text).ok_or_else(|| SealError::Malformed("hexadecimal digits".into()))
        };
        let mut sealed = bytes(&self.sealed)?;
        let key = derive(passphrase, &bytes(&self.salt)?, self.memory_kib, self.passes)?;
        let seed =
            key.open_in_place(nonce(), Aad::empty(), &mut sealed).map_err(|_| SealError::Wrong)?;
        seed.try_into().map_err(|_| SealError::Malformed("it is no seed".into()))
    }
}

fn derive(
    passphrase: &str,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<LessSafeKey, SealError> {
    let malformed = |error: argon2::Error| SealError::Malformed(error.to_string());
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(malformed)?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut key)
        .map_err(malformed)?;
    let key = UnboundKey::new(&AES_256_GCM, &key)
        .map_err(|_| SealError::Malformed("it cannot be sealed".into()))?;
    Ok(LessSafeKey::new(key))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
