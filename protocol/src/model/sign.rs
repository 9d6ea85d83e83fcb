//! Keys and signatures. A signature covers a domain, the cluster and the raw bytes, which travel on
//! as they came.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec;
use super::id::{ClusterId, Digest, PublicKey, head};

/// An Ed25519 key pair. Its seed never appears in `Debug`.
#[derive(Clone)]
pub struct KeyPair {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl KeyPair {
    /// The pair of this secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
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

/// A body that can be signed, with a domain, so that no signature over one kind of body passes for
/// another.
pub trait Signable: Serialize + DeserializeOwned + 'static {
    /// Distinct for each kind of body and each layout of its bytes.
    const DOMAIN: &'static str;

    /// The bytes that are signed.
    fn write(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a body. A newer program may have appended fields, or use parts that this one does not
    /// know: it is read as far as this program understands it, and **its raw bytes travel on**.
    ///
    /// # Errors
    /// The bytes are no such body in any version.
    fn read(raw: &[u8]) -> Result<Self, codec::Malformed> {
        codec::decode_prefix(raw)
    }
}

/// Signed bytes from somewhere, not yet checked; or the form in which what was checked travels.
/// Copies share them, and what was found out about them.
pub struct Unverified<T>(Form<T>);

enum Form<T> {
    Told(Arc<Told<T>>),
    Checked(Signed<T>),
}

/// A body whose signature was checked, or that was signed here. Its raw bytes travel on unchanged.
pub struct Signed<T>(Arc<Checked<T>>);

/// As it came.
struct Told<T> {
    raw: Box<[u8]>,
    by: PublicKey,
    signature: SignatureBytes,
    found: OnceLock<Box<Found<T>>>,
}

/// The result of the first check.
struct Found<T> {
    /// For which cluster the signature was checked: the head of its id. A device knows one cluster,
    /// a test a few.
    cluster: u64,
    is_good: bool,
    body: OnceLock<Result<Signed<T>, codec::Malformed>>,
}

/// The form that is kept for long: a node has one for each statement that it knows.
struct Checked<T> {
    body: T,
    by: PublicKey,
    signature: SignatureBytes,
    hash: Digest,
    /// As [`Found::cluster`].
    cluster: u64,
    /// The signed bytes, where the body encodes to others; it hardly ever does.
    raw: Option<Box<[u8]>>,
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
        let told = match self.0 {
            Form::Checked(signed) if signed.0.cluster == head(&cluster.0) => return Ok(signed),
            Form::Checked(signed) => Arc::new(signed.told()),
            Form::Told(told) => told,
        };
        told.anew_unless_for(cluster).verify(cluster)
    }

    /// Checks the signature alone.
    pub fn check(&self, cluster: &ClusterId) -> Result<(), BadSigned> {
        match &self.0 {
            Form::Checked(signed) if signed.0.cluster == head(&cluster.0) => Ok(()),
            Form::Checked(signed) => signed.told().check(cluster).map(drop),
            Form::Told(told) => told.anew_unless_for(cluster).check(cluster).map(drop),
        }
    }

    /// The body as it claims to be, for a look that decides nothing. What was decoded before is not
    /// decoded again.
    pub fn peek(&self) -> Result<T, codec::Malformed>
    where
        T: Clone,
    {
        match &self.0 {
            Form::Checked(signed) => Ok(signed.body().clone()),
            Form::Told(told) => T::read(&told.raw),
        }
    }

    /// The signed bytes.
    pub fn raw(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Form::Told(told) => Cow::Borrowed(&told.raw),
            Form::Checked(signed) => signed.raw(),
        }
    }

    /// The hash of signer and bytes: the name of this statement.
    pub fn hash(&self) -> Digest {
        match &self.0 {
            Form::Told(told) => name_of(&told.by, &told.raw),
            Form::Checked(signed) => signed.hash(),
        }
    }
}

impl<T> Unverified<T> {
    /// The key that is said to have signed.
    pub fn by(&self) -> PublicKey {
        self.signer().0
    }

    fn signer(&self) -> (PublicKey, SignatureBytes) {
        match &self.0 {
            Form::Told(told) => (told.by, told.signature),
            Form::Checked(signed) => (signed.0.by, signed.0.signature),
        }
    }
}

impl<T: Signable> Told<T> {
    fn new(raw: Box<[u8]>, by: PublicKey, signature: SignatureBytes) -> Self {
        Told { raw, by, signature, found: OnceLock::new() }
    }

    /// Once checked for one cluster nothing can be found out for another: it starts anew.
    fn anew_unless_for(self: &Arc<Self>, cluster: &ClusterId) -> Arc<Self> {
        match self.found.get().is_none_or(|found| found.cluster == head(&cluster.0)) {
            true => Arc::clone(self),
            false => Arc::new(Told::new(self.raw.clone(), self.by, self.signature)),
        }
    }

    fn check(&self, cluster: &ClusterId) -> Result<&Found<T>, BadSigned> {
        let found = self.found.get_or_init(|| {
            let key = UnparsedPublicKey::new(&ED25519, self.by.as_bytes());
            let message = to_sign(T::DOMAIN, cluster, &self.raw);
            let is_good = key.verify(&message, &self.signature.0).is_ok();
            Box::new(Found { cluster: head(&cluster.0), is_good, body: OnceLock::new() })
        });
        match found.is_good {
            true => Ok(found),
            false => Err(BadSigned::Signature(self.by)),
        }
    }

    fn verify(&self, cluster: &ClusterId) -> Result<Signed<T>, BadSigned> {
        let found = self.check(cluster)?;
        let body = found.body.get_or_init(|| {
            let body = T::read(&self.raw)?;
            let raw = (body.write() != *self.raw).then(|| self.raw.clone());
            let (by, signature, hash) = (self.by, self.signature, name_of(&self.by, &self.raw));
            Ok(Signed(Arc::new(Checked { body, by, signature, hash, cluster: found.cluster, raw })))
        });
        body.clone().map_err(BadSigned::Malformed)
    }
}

impl<T> Clone for Unverified<T> {
    fn clone(&self) -> Self {
        Unverified(match &self.0 {
            Form::Told(told) => Form::Told(Arc::clone(told)),
            Form::Checked(signed) => Form::Checked(signed.clone()),
        })
    }
}

/// Of the very same bytes.
impl<T: Signable> PartialEq for Unverified<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Told(one), Form::Told(other)) if Arc::ptr_eq(one, other) => true,
            (Form::Checked(one), Form::Checked(other)) => one == other,
            _ => self.signer() == other.signer() && self.raw() == other.raw(),
        }
    }
}

impl<T: Signable> Eq for Unverified<T> {}

impl<T: Signable> fmt::Debug for Unverified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified({} by {})", self.hash().short(), self.by().short())
    }
}

/// The parts that travel and are stored, in this order.
#[derive(Serialize, Deserialize)]
struct Travelling<Raw> {
    raw: Raw,
    by: PublicKey,
    signature: SignatureBytes,
}

impl<T: Signable> Serialize for Unverified<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ((by, signature), raw) = (self.signer(), self.raw());
        Travelling { raw: &*raw, by, signature }.serialize(serializer)
    }
}

impl<'de, T: Signable> Deserialize<'de> for Unverified<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Travelling { raw, by, signature } = Travelling::<Box<[u8]>>::deserialize(deserializer)?;
        Ok(Unverified(Form::Told(Arc::new(Told::new(raw, by, signature)))))
    }
}

impl<T: Signable> Signed<T> {
    /// Signs `body` for `cluster`.
    pub fn sign(body: T, keys: &KeyPair, cluster: &ClusterId) -> Self {
        let raw = body.write();
        let signature = keys.pair.sign(&to_sign(T::DOMAIN, cluster, &raw));
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        let (by, signature, hash) =
            (keys.public, SignatureBytes(bytes), name_of(&keys.public, &raw));
        Signed(Arc::new(Checked {
            body,
            by,
            signature,
            hash,
            cluster: head(&cluster.0),
            raw: None,
        }))
    }

    fn raw(&self) -> Cow<'_, [u8]> {
        match &self.0.raw {
            Some(raw) => Cow::Borrowed(raw),
            None => Cow::Owned(self.0.body.write()),
        }
    }

    fn told(&self) -> Told<T> {
        Told::new(self.raw().into(), self.0.by, self.0.signature)
    }
}

impl<T> Signed<T> {
    /// The signed body.
    pub fn body(&self) -> &T {
        &self.0.body
    }

    /// The key that signed.
    pub fn by(&self) -> PublicKey {
        self.0.by
    }

    /// The form that travels and is stored.
    pub fn wire(&self) -> Unverified<T> {
        Unverified(Form::Checked(self.clone()))
    }

    /// The hash of signer and bytes.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Signed(Arc::clone(&self.0))
    }
}

/// Of the very same bytes, which their hash stands for.
impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.hash() == other.hash() && self.0.signature == other.0.signature)
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
        write!(f, "Signed({:?} by {})", self.body(), self.by().short())
    }
}

/// The name of a statement.
fn name_of(by: &PublicKey, raw: &[u8]) -> Digest {
    Digest::of_parts(&[by.as_bytes(), raw])
}

fn to_sign(domain: &str, cluster: &ClusterId, raw: &[u8]) -> Vec<u8> {
    let domain = domain.as_bytes();
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
        (
            <[u8; 32]>::try_from(left).expect("half of 64"),
            <[u8; 32]>::try_from(right).expect("half of 64"),
        )
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
mod tests;
