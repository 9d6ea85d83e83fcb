//! Changes of layout 1, as operators signed them: they stay until their key is written again.

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::super::id::{Digest, NodeId, WriterId};
use super::super::name::WorkloadName;
use super::{ChangeBody, Clock, Key, Value};

#[derive(Serialize, Deserialize)]
pub(super) struct Body1 {
    pub key: Key1,
    pub writer: WriterId,
    pub serial: u64,
    pub clock: Clock,
    pub uid: Option<Digest>,
    pub value: Value1,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Key1 {
    Workload(WorkloadName),
    Member(NodeId),
}

#[derive(Serialize, Deserialize)]
pub(super) enum Value1 {
    Workload { version: u16, bytes: Vec<u8> },
    Member { salt: u64 },
    Tombstone,
}

pub(super) fn read_body(raw: &[u8]) -> Result<ChangeBody, Malformed> {
    let Body1 { key, writer, serial, clock, uid, value } = codec::decode(raw)?;
    let key = match key {
        Key1::Workload(name) => Key::Workload(name),
        Key1::Member(node) => Key::Member(node),
    };
    let value = match value {
        Value1::Workload { version, bytes } => Value::Workload { version, bytes },
        Value1::Member { salt } => Value::Member { salt },
        Value1::Tombstone => Value::Tombstone,
    };
    Ok(ChangeBody { key, writer, serial, clock, uid, value })
}
