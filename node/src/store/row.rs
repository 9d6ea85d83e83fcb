//! Encodes a record as a row: key, format, bytes, checksum.

use shoal_protocol::model::codec::{self, Malformed};
use shoal_protocol::model::{Digest, NodeId};
use shoal_protocol::node::{Record, Saved};

/// The format version of a row's bytes.
const FORMAT: u8 = 1;
/// Bytes of the checksum at a row's end: the head of a SHA-256 over the key and the rest.
pub(super) const CHECK: usize = 8;

const INCARNATION: u8 = 1;
const DESIRED: u8 = 2;
const SLOT: u8 = 3;
const NODE: u8 = 4;
const RULING: u8 = 5;
const OLD_VERSION: u8 = 6;

impl RowKey {
    /// Whether programs of before this kind of row refuse a table that has it.
    pub fn is_later(&self) -> bool {
        self.0.first() == Some(&OLD_VERSION)
    }
}

/// The key of a record's row. A later record with the same key replaces the row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct RowKey(pub Vec<u8>);

/// Why a row was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(super) enum BadRow {
    #[error("the checksum of row {0} does not match")]
    Checksum(String),
    #[error("row {0} has the unknown form {1}")]
    Format(String, u8),
    #[error("row {0}: {1}")]
    Malformed(String, Malformed),
    #[error("row {0} is of an unknown kind")]
    Kind(String),
}

pub(super) fn key(record: &Record) -> RowKey {
    let (kind, parts): (u8, &[&[u8]]) = match record {
        Record::Incarnation(_) => (INCARNATION, &[]),
        Record::Desired { key, .. } => (DESIRED, &[key.as_bytes()]),
        Record::Slot { node, slot } => (SLOT, &[node.as_bytes(), &slot_number(slot)]),
        Record::Node { node, .. } => (NODE, &[node.as_bytes()]),
        Record::Ruling { key, .. } | Record::NoRuling { key } => (RULING, &[key.as_bytes()]),
        Record::OldVersion { uid, generation, .. } => {
            (OLD_VERSION, &[uid.as_bytes(), generation.as_bytes()])
        }
    };
    RowKey([&[kind], parts.concat().as_slice()].concat())
}

/// The slot's number. The core refuses slots that cannot be decoded; such a one would get a number
/// of its own.
fn slot_number(slot: &shoal_protocol::model::Unverified<shoal_protocol::model::Slot>) -> [u8; 1] {
    [slot.peek().map_or(u8::MAX, |slot| slot.slot)]
}

/// The row's value; none when the record removes the row.
pub(super) fn value(key: &RowKey, record: &Record) -> Option<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    match record {
        Record::Incarnation(incarnation) => bytes.extend(incarnation.to_be_bytes()),
        Record::NoRuling { .. } => return None,
        Record::Desired { changes, .. } if changes.is_empty() => return None,
        // Each change is encoded alone: together they may exceed the limit of one decode.
        Record::Desired { changes, .. } => {
            changes.iter().for_each(|change| put(&mut bytes, &codec::encode(change)))
        }
        Record::Slot { slot, .. } => bytes.extend(codec::encode(slot)),
        Record::Node { record, .. } => bytes.extend(codec::encode(record)),
        Record::Ruling { ruling, .. } => bytes.extend(codec::encode(ruling)),
        Record::OldVersion { version, .. } => bytes.extend(codec::encode(version.as_ref()?)),
    }
    let check = checksum(key, &bytes);
    bytes.extend(check);
    Some(bytes)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a change is far below 4 GiB");
    bytes.extend(length.to_be_bytes());
    bytes.extend(part);
}

pub(super) fn checksum(key: &RowKey, bytes: &[u8]) -> [u8; CHECK] {
    let length = u32::try_from(key.0.len()).expect("a key has some 70 bytes").to_be_bytes();
    let digest = Digest::of_parts(&[b"shoal/row", &length, &key.0, bytes]);
    digest.0[..CHECK].try_into().expect("a digest is longer than a checksum")
}

/// Reads a row into `saved`.
pub(super) fn load(key: RowKey, value: &[u8], saved: &mut Saved) -> Result<(), BadRow> {
    let name = || key.0.iter().take(9).map(|byte| format!("{byte:02x}")).collect::<String>();
    let split = value.len().checked_sub(CHECK).filter(|split| *split > 0);
    let (bytes, check) = value.split_at(split.ok_or_else(|| BadRow::Checksum(name()))?);
    if check != checksum(&key, bytes) {
        return Err(BadRow::Checksum(name()));
    }
    let (format, bytes) = (bytes[0], &bytes[1..]);
    if format != FORMAT {
        return Err(BadRow::Format(name(), format));
    }
    let malformed = |error| BadRow::Malformed(name(), error);
    let short = || BadRow::Malformed(name(), Malformed("its length is wrong".into()));
    match key.0.first() {
        Some(&INCARNATION) => {
            saved.incarnation = u64::from_be_bytes(bytes.try_into().map_err(|_| short())?)
        }
        Some(&DESIRED) => {
            let mut rest = bytes;
            while let Some((length, tail)) = rest.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
                let (change, tail) = tail.split_at_checked(length).ok_or_else(short)?;
                saved.changes.push(codec::decode(change).map_err(malformed)?);
                rest = tail;
            }
            if !rest.is_empty() {
                return Err(short());
            }
        }
        Some(&SLOT) => {
            let node = key.0.get(1..33).and_then(|node| node.try_into().ok()).ok_or_else(short)?;
            saved.slots.push((NodeId(node), codec::decode(bytes).map_err(malformed)?));
        }
        Some(&NODE) => saved.nodes.push(codec::decode(bytes).map_err(malformed)?),
        Some(&RULING) => saved.rulings.push(codec::decode(bytes).map_err(malformed)?),
        Some(&OLD_VERSION) => {
            let parts = key.0.get(1..).and_then(|parts| parts.split_at_checked(32));
            let digest = |part: &[u8]| Some(Digest(part.try_into().ok()?));
            let (uid, generation) =
                parts.and_then(|(uid, at)| Some((digest(uid)?, digest(at)?))).ok_or_else(short)?;
            let version = codec::decode(bytes).map_err(malformed)?;
            saved.old_versions.push((uid, generation, version));
        }
        Some(_) | None => return Err(BadRow::Kind(name())),
    }
    Ok(())
}

/// A row's part in the sum over all rows. Sums are XORs, so adding a row again removes it.
pub(super) fn weight(key: &[u8], value: &[u8]) -> [u8; 32] {
    let length = u32::try_from(key.len()).expect("a key has some 70 bytes").to_be_bytes();
    Digest::of_parts(&[b"shoal/sum", &length, key, value]).0
}
