//! Desired state as it is written: signed changes, each of one key.

#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cluster::NodePolicy;
use super::codec::{self, Bytes, Malformed};
use super::grant::Chain;
use super::id::{Digest, NodeId, PublicKey, WriterId};
use super::name::{Label, WorkloadName};
use super::sign::{Signable, Signed, Unverified};
use super::spec::{self, SPEC_VERSION, Spec};

pub use values::{MAX_STAYS, Quota, Revoked, Secret, admission_name};

/// Most entries of a clock. Only operator installations write, so more is an attack or a mistake.
pub const MAX_CLOCK: usize = 64;
/// The greatest serial. A hybrid clock reaches it in the year 4199, and from the year 2200 it
/// leaves room for 2^61 further writes, so no honest counter comes near a point where adding one
/// would overflow.
pub const MAX_SERIAL: u64 = 1 << 62;

/// The subject of a change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A workload.
    Workload(WorkloadName),
    /// The admission of a node to the roster.
    Member(NodeId),
    /// The end of a key's rights: of an operator, an invite, or a node.
    Revocation(PublicKey),
    /// The grant of an operator.
    Operator(PublicKey),
    /// A secret: a value for workloads of its namespace that only some nodes can read.
    Secret(WorkloadName),
    /// A value for workloads of its namespace.
    Config(WorkloadName),
    /// The quota of a namespace.
    Quota(Label),
    /// The policy of operators for a node.
    Policy(NodeId),
    /// A key of a newer program's kind, by its number and as it came: kept and passed on.
    Other(u16, Bytes),
}

impl Key {
    /// The name of the key in sync and on disk.
    pub fn hash(&self) -> Digest {
        let (kind, bytes) = self.parts();
        let mut text = codec::encode(&kind);
        text.extend(bytes);
        Digest::of(&text)
    }

    fn parts(&self) -> (u16, Vec<u8>) {
        match self {
            Key::Workload(name) => (0, codec::encode(name)),
            Key::Member(node) => (1, codec::encode(node)),
            Key::Revocation(of) => (2, codec::encode(of)),
            Key::Operator(of) => (3, codec::encode(of)),
            Key::Secret(name) => (4, codec::encode(name)),
            Key::Config(name) => (5, codec::encode(name)),
            Key::Quota(namespace) => (6, codec::encode(namespace)),
            Key::Policy(node) => (7, codec::encode(node)),
            Key::Other(kind, bytes) => (*kind, bytes.0.clone()),
        }
    }

    /// The key as it is asked for: its kind and its bytes, encoded.
    pub fn encoded(&self) -> Vec<u8> {
        let (kind, bytes) = self.parts();
        codec::encode(&(kind, Bytes(bytes)))
    }

    /// The key of this kind and these bytes.
    ///
    /// # Errors
    /// The bytes are no key of a kind that this program knows.
    pub fn of(kind: u16, bytes: Bytes) -> Result<Key, Malformed> {
        Ok(match kind {
            0 => Key::Workload(codec::decode(&bytes.0)?),
            1 => Key::Member(codec::decode(&bytes.0)?),
            2 => Key::Revocation(codec::decode(&bytes.0)?),
            3 => Key::Operator(codec::decode(&bytes.0)?),
            4 => Key::Secret(codec::decode(&bytes.0)?),
            5 => Key::Config(codec::decode(&bytes.0)?),
            6 => Key::Quota(codec::decode(&bytes.0)?),
            7 => Key::Policy(codec::decode(&bytes.0)?),
            kind => Key::Other(kind, bytes),
        })
    }
}

/// The writes that a change has seen: the greatest serial of each writer. Nearly all clocks name
/// one writer, and each key has a clock, so it takes no more memory than its entries.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "BTreeMap<WriterId, u64>")]
pub struct Clock(Box<[(WriterId, u64)]>);

impl Clock {
    /// A clock that has seen no write.
    pub fn new() -> Clock {
        Clock::default()
    }

    /// The number of writers that it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has seen no write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The greatest serial of a writer.
    pub fn get(&self, writer: &WriterId) -> Option<&u64> {
        let at = self.0.binary_search_by_key(writer, |(known, _)| *known).ok()?;
        Some(&self.0[at].1)
    }

    /// The entries, in the order of the writers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&WriterId, &u64)> {
        self.0.iter().map(|(writer, serial)| (writer, serial))
    }

    /// The serials, in the order of the writers.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &u64> {
        self.0.iter().map(|(_, serial)| serial)
    }

    /// Sets the serial of a writer.
    pub fn insert(&mut self, writer: WriterId, serial: u64) {
        self.extend([(writer, serial)]);
    }
}

impl Serialize for Clock {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Extend<(WriterId, u64)> for Clock {
    fn extend<I: IntoIterator<Item = (WriterId, u64)>>(&mut self, entries: I) {
        let known = std::mem::take(&mut self.0).into_iter();
        *self = known.chain(entries).collect();
    }
}

impl FromIterator<(WriterId, u64)> for Clock {
    fn from_iter<I: IntoIterator<Item = (WriterId, u64)>>(entries: I) -> Clock {
        entries.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl<const N: usize> From<[(WriterId, u64); N]> for Clock {
    fn from(entries: [(WriterId, u64); N]) -> Clock {
        entries.into_iter().collect()
    }
}

impl From<BTreeMap<WriterId, u64>> for Clock {
    fn from(entries: BTreeMap<WriterId, u64>) -> Clock {
        Clock(entries.into_iter().collect())
    }
}

/// The signed part of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "WireBody", into = "WireBody")]
pub struct ChangeBody {
    /// The subject of the change.
    pub key: Key,
    /// The installation of the author's key that wrote it.
    pub writer: WriterId,
    /// The serial of this write: `max(hybrid clock, highest known for the key + 1)`. Also
    /// `writer`'s entry in `clock`.
    pub serial: u64,
    /// All writes of this key that the author had seen, this one included. At most [`MAX_CLOCK`]
    /// entries.
    pub clock: Clock,
    /// The change that created what this one alters; none if this one creates it.
    pub uid: Option<Digest>,
    /// The desired value.
    pub value: Value,
}

impl Signable for ChangeBody {
    const DOMAIN: &'static str = "shoal/change/2";

    fn read(raw: &[u8]) -> Result<ChangeBody, Malformed> {
        match codec::decode_prefix::<u16>(raw)? {
            ..FORM => Err(Malformed("a change of layout 1".into())),
            FORM => codec::decode_prefix(raw),
            // Of a form that only newer programs read, the value counts for nothing here.
            _ => {
                let Header { form, key, writer, serial, clock, uid } = codec::decode_prefix(raw)?;
                let value = Value::Other(form, Bytes::default());
                Ok(ChangeBody { key: Key::of(key.0, key.1)?, writer, serial, clock, uid, value })
            }
        }
    }
}

/// The form of a change that this program writes, above the numbers of the kinds of keys, with
/// which layout 1 begins. A greater number is a form that this program cannot read beyond its
/// [`Header`].
const FORM: u16 = 2;

/// The beginning of a change in every form.
#[derive(Deserialize)]
struct Header {
    form: u16,
    key: (u16, Bytes),
    writer: WriterId,
    serial: u64,
    clock: Clock,
    uid: Option<Digest>,
}

/// [`ChangeBody`] on the wire. A newer program may append fields, and use keys and values of kinds
/// that this one does not know.
#[derive(Clone, Serialize, Deserialize)]
struct WireBody {
    form: u16,
    key: (u16, Bytes),
    writer: WriterId,
    serial: u64,
    clock: Clock,
    uid: Option<Digest>,
    value: (u16, Bytes),
}

impl From<ChangeBody> for WireBody {
    fn from(body: ChangeBody) -> WireBody {
        let (kind, key) = body.key.parts();
        WireBody {
            form: FORM,
            key: (kind, Bytes(key)),
            writer: body.writer,
            serial: body.serial,
            clock: body.clock,
            uid: body.uid,
            value: body.value.into_parts(),
        }
    }
}

impl TryFrom<WireBody> for ChangeBody {
    type Error = Malformed;

    fn try_from(wire: WireBody) -> Result<ChangeBody, Malformed> {
        let (kind, key) = wire.key;
        let (value_kind, value) = wire.value;
        Ok(ChangeBody {
            key: Key::of(kind, key)?,
            writer: wire.writer,
            serial: wire.serial,
            clock: wire.clock,
            uid: wire.uid,
            value: Value::of(value_kind, value)?,
        })
    }
}

/// The value that a change gives its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A workload, in the spec form of that version.
    Workload {
        /// The form of `bytes`; one above [`SPEC_VERSION`] is kept and relayed, not acted on.
        version: u16,
        /// The encoded spec.
        bytes: Vec<u8>,
    },
    /// An admitted node, with the salt of its point on the ring, which the admitting node draws.
    Member {
        /// The salt of the node's point.
        salt: u64,
    },
    /// No value: it was removed, and stays removed.
    Tombstone,
    /// The rights of a key have ended.
    Revoked(Revoked),
    /// The chain of an operator's key.
    Operator(Chain),
    /// A secret, sealed.
    Secret(Secret),
    /// A config: a file's bytes.
    Config(Bytes),
    /// A quota.
    Quota(Quota),
    /// A node's policy.
    Policy(NodePolicy),
    /// A value of a newer program's kind, by its number and as it came: kept and passed on.
    Other(u16, Bytes),
}

impl Value {
    fn into_parts(self) -> (u16, Bytes) {
        match self {
            Value::Workload { version, bytes } => {
                (0, Bytes(codec::encode(&(version, Bytes(bytes)))))
            }
            Value::Member { salt } => (1, Bytes(codec::encode(&salt))),
            Value::Tombstone => (2, Bytes::default()),
            Value::Revoked(revoked) => (3, Bytes(revoked.encode())),
            Value::Operator(chain) => (4, Bytes(codec::encode(&chain))),
            Value::Secret(secret) => (5, Bytes(codec::encode(&secret))),
            Value::Config(bytes) => (6, bytes),
            Value::Quota(quota) => (7, Bytes(codec::encode(&quota))),
            Value::Policy(policy) => (8, Bytes(codec::encode(&policy))),
            Value::Other(kind, bytes) => (kind, bytes),
        }
    }

    fn of(kind: u16, bytes: Bytes) -> Result<Value, Malformed> {
        Ok(match kind {
            0 => {
                let (version, Bytes(bytes)) = codec::decode_prefix(&bytes.0)?;
                Value::Workload { version, bytes }
            }
            1 => Value::Member { salt: codec::decode_prefix(&bytes.0)? },
            2 => Value::Tombstone,
            3 => Value::Revoked(Revoked::decode(&bytes.0)?),
            4 => Value::Operator(codec::decode_prefix(&bytes.0)?),
            5 => Value::Secret(codec::decode_prefix(&bytes.0)?),
            6 => Value::Config(bytes),
            7 => Value::Quota(codec::decode_prefix(&bytes.0)?),
            8 => Value::Policy(codec::decode_prefix(&bytes.0)?),
            kind => Value::Other(kind, bytes),
        })
    }

    /// The value of this spec, in the oldest form that has all of it: nodes of an older program
    /// run what they can.
    pub fn workload(spec: &Spec) -> Value {
        let (version, bytes) = spec::encode(spec);
        Value::Workload { version, bytes }
    }

    /// The artifacts of the workload, in a form that this program knows; none for all else.
    pub fn artifacts(&self) -> Vec<Digest> {
        let spec = self.spec();
        let artifacts = spec.iter().flat_map(|spec| spec.program.artifacts());
        artifacts.map(|artifact| artifact.digest).collect()
    }

    /// Whether an author may be answered that it was accepted.
    ///
    /// # Errors
    /// It is a workload of a form that this program knows, and its spec cannot be read.
    pub fn check(&self) -> Result<(), Malformed> {
        match self {
            // Newer programs judge it.
            Value::Workload { version, .. } if *version > SPEC_VERSION => Ok(()),
            Value::Workload { version, bytes } => spec::decode(*version, bytes).map(drop),
            Value::Member { .. }
            | Value::Tombstone
            | Value::Revoked(_)
            | Value::Operator(_)
            | Value::Secret(_)
            | Value::Config(_)
            | Value::Quota(_)
            | Value::Policy(_)
            | Value::Other(..) => Ok(()),
        }
    }

    /// The spec, if this is a workload in a form this program knows. `None` for all else.
    pub fn spec(&self) -> Option<Spec> {
        match self {
            Value::Workload { version, bytes } => spec::decode(*version, bytes).ok(),
            Value::Member { .. }
            | Value::Tombstone
            | Value::Revoked(_)
            | Value::Operator(_)
            | Value::Secret(_)
            | Value::Config(_)
            | Value::Quota(_)
            | Value::Policy(_)
            | Value::Other(..) => None,
        }
    }
}

/// A change as it is sent and stored, with the chain that shows its author's right to write it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RawChange {
    /// The signed change.
    pub change: Unverified<ChangeBody>,
    /// The grants that lead from the root to the author.
    pub chain: Chain,
}

/// A change that `trust` has accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The signed change.
    pub signed: Signed<ChangeBody>,
    /// The grants that lead from the root to the author, as they came.
    pub chain: Chain,
}

impl Change {
    /// The form that is sent and stored.
    pub fn raw(&self) -> RawChange {
        RawChange { change: self.signed.wire(), chain: self.chain.clone() }
    }

    /// The hash of author and bytes, which names the change.
    pub fn hash(&self) -> Digest {
        self.signed.hash()
    }

    /// The identity of what this change creates or alters.
    pub fn uid(&self) -> Digest {
        self.signed.uid.unwrap_or_else(|| self.hash())
    }

    /// The order of concurrent changes: the greatest one is effective.
    pub fn precedence(&self) -> (u64, PublicKey, Digest) {
        (self.signed.serial, self.signed.by(), self.hash())
    }
}
