//! Keys and signatures. A signature covers a domain, the cluster and the raw bytes, which are kept as they came.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec;
use super::id::{ClusterId, Digest, PublicKey};

/// An Ed25519 key pair. Its seed never appears in `Debug`.
#[derive(Clone)]
pub struct KeyPair {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl KeyPair {
    /// The pair of this secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        KeyPair { pair: Arc::new(pair), public: PublicKey(public) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public)
    }
}

/// What can be signed: a body with a domain, so that no signature over one kind of body passes for another.
pub trait Signable: Serialize + DeserializeOwned {
    /// Distinct for each kind of body and each version of its form.
    const DOMAIN: &'static str;
}

/// Signed bytes from somewhere, not yet checked. Copies share them, and what was found out about them.
#[derive(Clone)]
pub struct Unverified<T> {
    parts: Arc<Parts<T>>,
}

/// A body whose signature was checked, or that was signed here. Its raw bytes travel on unchanged.
#[derive(Clone)]
pub struct Signed<T> {
    /// Their check went well.
    parts: Arc<Parts<T>>,
}

struct Parts<T> {
    raw: Box<[u8]>,
    by: PublicKey,
    signature: SignatureBytes,
    hash: OnceLock<Digest>,
    /// For which cluster they were checked first, and how that went.
    checked: OnceLock<(ClusterId, Result<T, BadSigned>)>,
}

/// Why signed bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadSigned {
    #[error("the signature by {} does not match", .0.short())]
    Signature(PublicKey),
    #[error(transparent)]
    Malformed(#[from] codec::Malformed),
}

impl<T: Signable> Unverified<T> {
    /// Checks the signature and decodes the body.
    pub fn verify(self, cluster: &ClusterId) -> Result<Signed<T>, BadSigned> {
        let (checked_for, checked) = self.parts.checked.get_or_init(|| (*cluster, self.parts.check(cluster)));
        if checked_for != cluster {
            // Once checked for one cluster nothing can be found out for another: it starts anew.
            let Parts { raw, by, signature, .. } = &*self.parts;
            return Unverified::from_parts(raw.clone(), *by, *signature).verify(cluster);
        }
        match checked {
            Ok(_) => Ok(Signed { parts: self.parts }),
            Err(bad) => Err(bad.clone()),
        }
    }

    /// The body as it claims to be, for a look that decides nothing.
    pub fn peek(&self) -> Result<T, codec::Malformed> {
        codec::decode(&self.parts.raw)
    }
}

impl<T: Signable> Parts<T> {
    fn check(&self, cluster: &ClusterId) -> Result<T, BadSigned> {
        let message = to_sign::<T>(cluster, &self.raw);
        UnparsedPublicKey::new(&ED25519, self.by.as_bytes())
            .verify(&message, &self.signature.0)
            .map_err(|_| BadSigned::Signature(self.by))?;
        Ok(codec::decode(&self.raw)?)
    }
}

impl<T> Parts<T> {
    fn hash(&self) -> Digest {
        *self.hash.get_or_init(|| Digest::of_parts(&[self.by.as_bytes(), &self.raw]))
    }

    fn is(&self, other: &Parts<T>) -> bool {
        std::ptr::eq(self, other) || (self.raw == other.raw && self.by == other.by && self.signature == other.signature)
    }
}

impl<T> Unverified<T> {
    fn from_parts(raw: Box<[u8]>, by: PublicKey, signature: SignatureBytes) -> Self {
        Unverified { parts: Arc::new(Parts { raw, by, signature, hash: OnceLock::new(), checked: OnceLock::new() }) }
    }

    /// Who is said to have signed.
    pub fn by(&self) -> PublicKey {
        self.parts.by
    }

    /// The signed bytes.
    pub fn raw(&self) -> &[u8] {
        &self.parts.raw
    }

    /// The hash of signer and bytes: the name of this statement.
    pub fn hash(&self) -> Digest {
        self.parts.hash()
    }
}

impl<T> PartialEq for Unverified<T> {
    fn eq(&self, other: &Self) -> bool {
        self.parts.is(&other.parts)
    }
}

impl<T> Eq for Unverified<T> {}

impl<T> fmt::Debug for Unverified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified({} by {})", self.hash().short(), self.parts.by.short())
    }
}

/// What travels and is stored, in this order.
#[derive(Serialize)]
struct Form<'a> {
    raw: &'a [u8],
    by: PublicKey,
    signature: SignatureBytes,
}

#[derive(Deserialize)]
struct OwnedForm {
    raw: Box<[u8]>,
    by: PublicKey,
    signature: SignatureBytes,
}

impl<T> Serialize for Unverified<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Parts { raw, by, signature, .. } = &*self.parts;
        Form { raw, by: *by, signature: *signature }.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Unverified<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OwnedForm { raw, by, signature } = OwnedForm::deserialize(deserializer)?;
        Ok(Unverified::from_parts(raw, by, signature))
    }
}

impl<T: Signable> Signed<T> {
    /// Signs `body` for `cluster`.
    pub fn sign(body: T, keys: &KeyPair, cluster: &ClusterId) -> Self {
        let raw = codec::encode(&body);
        let signature = keys.pair.sign(&to_sign::<T>(cluster, &raw));
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        let checked = OnceLock::from((*cluster, Ok(body)));
        let parts = Parts {
            raw: raw.into(),
            by: keys.public,
            signature: SignatureBytes(bytes),
            hash: OnceLock::new(),
            checked,
        };
        Signed { parts: Arc::new(parts) }
    }
}

impl<T> Signed<T> {
    /// What was signed.
    pub fn body(&self) -> &T {
        match self.parts.checked.get() {
            Some((_, Ok(body))) => body,
            Some((_, Err(_))) | None => unreachable!("only what was checked well becomes this"),
        }
    }

    /// Who signed.
    pub fn by(&self) -> PublicKey {
        self.parts.by
    }

    /// The form that travels and is stored.
    pub fn wire(&self) -> Unverified<T> {
        Unverified { parts: Arc::clone(&self.parts) }
    }

    /// The hash of signer and bytes.
    pub fn hash(&self) -> Digest {
        self.parts.hash()
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.parts.is(&other.parts)
    }
}

impl<T> Eq for Signed<T> {}

impl<T> std::ops::Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.body()
    }
}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({:?} by {})", self.body(), self.parts.by.short())
    }
}

fn to_sign<T: Signable>(cluster: &ClusterId, raw: &[u8]) -> Vec<u8> {
    let domain = T::DOMAIN.as_bytes();
    let mut message = Vec::with_capacity(1 + domain.len() + 32 + raw.len());
    message.push(u8::try_from(domain.len()).expect("domains are short"));
    message.extend_from_slice(domain);
    message.extend_from_slice(cluster.as_bytes());
    message.extend_from_slice(raw);
    message
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct SignatureBytes([u8; 64]);

impl Serialize for SignatureBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (left, right) = self.0.split_at(32);
        (<[u8; 32]>::try_from(left).expect("half of 64"), <[u8; 32]>::try_from(right).expect("half of 64"))
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignatureBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (left, right) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&left);
        bytes[32..].copy_from_slice(&right);
        Ok(SignatureBytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Note(String);
    impl Signable for Note {
        const DOMAIN: &'static str = "note/1";
    }
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Order(String);
    impl Signable for Order {
        const DOMAIN: &'static str = "order/1";
    }

    fn note() -> (Signed<Note>, ClusterId) {
        let cluster = ClusterId([7; 32]);
        (Signed::sign(Note("hi".into()), &KeyPair::from_seed(&[1; 32]), &cluster), cluster)
    }

    #[test]
    fn what_was_signed_verifies_after_a_journey() {
        let (signed, cluster) = note();
        let bytes = codec::encode(&signed.wire());
        let arrived: Unverified<Note> = codec::decode(&bytes).unwrap();
        assert_eq!(arrived.verify(&cluster).unwrap(), signed);
    }

    #[test]
    fn another_cluster_another_kind_or_another_byte_is_refused() {
        let (signed, cluster) = note();
        assert!(signed.wire().verify(&ClusterId([8; 32])).is_err());
        let bytes = codec::encode(&signed.wire());
        assert!(codec::decode::<Unverified<Order>>(&bytes).unwrap().verify(&cluster).is_err());
        for i in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[i] ^= 1;
            let refused =
                codec::decode::<Unverified<Note>>(&altered).map_or(true, |note| note.verify(&cluster).is_err());
            assert!(refused, "byte {i}");
        }
    }
}
