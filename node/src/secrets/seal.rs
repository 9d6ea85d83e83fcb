//! Sealing: the value under a key of its own (ChaCha20-Poly1305), and that key to each reader with
//! HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305).
//!
//! The author of a secret signs the change with all of this, so HPKE need not authenticate it. A
//! key that a node passes on proves itself: it opens the value that the author signed.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use shoal_protocol::model::{ClusterId, SealingKey, WorkloadName};

use crate::identity::{self, IdentityError};

/// Bytes of an encapsulated key, which stand before the sealed one.
const ENCAPSULATED: usize = 32;
/// Bytes of a secret's own key.
const KEY: usize = 32;

/// The secret that a key or a value belongs to: neither opens for another one.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The secret's name.
    pub name: &'a WorkloadName,
}

/// Why something does not open. It says nothing else: more would help who tries keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it does not open: it was sealed to another key, for another secret, or was altered")]
pub struct DoesNotOpen;

/// The key of one version of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; KEY]);

/// A node's key pair for secrets. It is derived from the node's seed, so no disk has it.
pub struct Opener {
    private: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: SealingKey,
}

impl Of<'_> {
    fn bytes(&self, what: &str) -> Vec<u8> {
        let WorkloadName { namespace, name } = self.name;
        let head = format!("shoal/secret/1\n{what}\n{namespace}/{name}\n");
        [head.as_bytes(), self.cluster.as_bytes()].concat()
    }
}

impl Opener {
    /// The key pair of the node with this seed.
    pub fn of(node_seed: &[u8; 32]) -> Opener {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"shoal/sealing/1");
        let mut material = [0; 32];
        salt.extract(node_seed)
            .expand(&[b"X25519"], hkdf::HKDF_SHA256)
            .and_then(|out| out.fill(&mut material))
            .expect("32 bytes are one block of HKDF");
        let (private, public) = X25519HkdfSha256::derive_keypair(&material);
        let public = public.to_bytes();
        Opener { private, public: SealingKey(public.into()) }
    }

    /// The half that others seal to.
    pub fn public(&self) -> SealingKey {
        self.public
    }

    /// Opens the key of a secret that was sealed to this node.
    ///
    /// # Errors
    /// It was not, or not for this secret.
    pub fn open(&self, of: Of<'_>, sealed: &[u8]) -> Result<DataKey, DoesNotOpen> {
        let (head, rest) = sealed.split_at_checked(ENCAPSULATED).ok_or(DoesNotOpen)?;
        let head =
            <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(head).map_err(|_| DoesNotOpen)?;
        let key = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &head,
            &of.bytes("key"),
            rest,
            b"",
        );
        let key = key.map_err(|_| DoesNotOpen)?;
        key.try_into().map(DataKey).map_err(|_| DoesNotOpen)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    /// Draws a key for one version of a secret.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn draw() -> Result<DataKey, IdentityError> {
        Ok(DataKey(identity::random()?))
    }

    /// Seals the key to a node; none if that is no key that anything can be sealed to.
    pub fn seal(&self, of: Of<'_>, to: &SealingKey) -> Option<Vec<u8>> {
        let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&to.0).ok()?;
        let (head, sealed) =
            hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &to,
                &of.bytes("key"),
                &self.0,
                b"",
            )
            .ok()?;
        Some([head.to_bytes().as_slice(), &sealed].concat())
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0);
        LessSafeKey::new(key.expect("the key has the cipher's length"))
    }

    /// Encrypts the value. **Once for each key**: the nonce is always zero.
    pub fn encrypt(&self, of: Of<'_>, value: &[u8]) -> Vec<u8> {
        let mut bytes = value.to_vec();
        self.cipher()
            .seal_in_place_append_tag(nonce(), Aad::from(of.bytes("value")), &mut bytes)
            .expect("a value is far shorter than the cipher's bound");
        bytes
    }

    /// Decrypts the value.
    ///
    /// # Errors
    /// The key is of another secret, or another version of it.
    pub fn decrypt(&self, of: Of<'_>, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        let mut bytes = sealed.to_vec();
        let aad = Aad::from(of.bytes("value"));
        let opened = self.cipher().open_in_place(nonce(), aad, &mut bytes);
        let len = opened.map_err(|_| DoesNotOpen)?.len();
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([9; 32]);

    fn name(text: &str) -> WorkloadName {
        text.parse().unwrap()
    }

    #[test]
    fn value_opens_for_the_reader_alone() {
        let (db, key) = (name("shop/db"), DataKey::draw().unwrap());
        let of = Of { cluster: &CLUSTER, name: &db };
        let (reader, other) = (Opener::of(&[1; 32]), Opener::of(&[2; 32]));
        let sealed = key.seal(of, &reader.public()).unwrap();
        let value = key.encrypt(of, b"hunter2");
        assert_eq!(reader.open(of, &sealed).unwrap().decrypt(of, &value).unwrap(), b"hunter2");
        assert_eq!(other.open(of, &sealed), Err(DoesNotOpen));
        assert_eq!(DataKey::draw().unwrap().decrypt(of, &value), Err(DoesNotOpen));
        assert_eq!(value.len(), b"hunter2".len() + 16);
        assert_eq!(sealed.len(), 80, "as many as fit a change are counted with it");
    }

    /// Somebody who may publish in another namespace, or has another cluster, copies what is
    /// sealed.
    #[test]
    fn neither_key_nor_value_opens_as_another_secret() {
        let (db, stolen, key) = (name("shop/db"), name("mine/db"), DataKey::draw().unwrap());
        let of = Of { cluster: &CLUSTER, name: &db };
        let reader = Opener::of(&[1; 32]);
        let sealed = key.seal(of, &reader.public()).unwrap();
        let value = key.encrypt(of, b"hunter2");
        let elsewhere = ClusterId([8; 32]);
        for of in [Of { name: &stolen, ..of }, Of { cluster: &elsewhere, ..of }] {
            assert_eq!(reader.open(of, &sealed), Err(DoesNotOpen));
            assert_eq!(key.decrypt(of, &value), Err(DoesNotOpen));
        }
    }

    #[test]
    fn cut_or_altered_bytes_do_not_open() {
        let (db, key) = (name("db"), DataKey::draw().unwrap());
        let of = Of { cluster: &CLUSTER, name: &db };
        let reader = Opener::of(&[1; 32]);
        let sealed = key.seal(of, &reader.public()).unwrap();
        for cut in 0..sealed.len() {
            assert_eq!(reader.open(of, &sealed[..cut]), Err(DoesNotOpen));
        }
        for at in [0, 31, 32, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(reader.open(of, &altered), Err(DoesNotOpen), "byte {at}");
        }
        assert_eq!(key.decrypt(of, b"short"), Err(DoesNotOpen));
    }

    /// Each daemon's start derives it anew, and secrets that were sealed before must open.
    #[test]
    fn sealing_key_follows_from_the_seed() {
        let key = Opener::of(&[1; 32]).public();
        assert_eq!(key, Opener::of(&[1; 32]).public());
        assert_ne!(key, Opener::of(&[2; 32]).public());
        let shown = shoal_protocol::model::Digest(key.0).to_string();
        let expected = "fd9e28430576dece9d99abfe08f0382fae6681a49939006a0b485dfab4f9d36f";
        assert_eq!(shown, expected, "another key loses all secrets");
    }

    /// A node of a strange program names a key that no point has an answer for.
    #[test]
    fn nothing_is_sealed_to_a_degenerate_key() {
        let db = name("db");
        let of = Of { cluster: &CLUSTER, name: &db };
        assert_eq!(DataKey::draw().unwrap().seal(of, &SealingKey([0; 32])), None);
    }

    #[test]
    fn debug_output_hides_keys() {
        let shown = format!("{:?} {:?}", DataKey([7; 32]), Opener::of(&[7; 32]));
        assert_eq!(shown, "DataKey Opener");
    }
}
