//! The values of desired state beside workloads and members.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::codec::{self, Bytes, Malformed};
use crate::model::id::{Digest, NodeId};

/// The end of a key's rights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoked {
    /// The last serial of the key that is honoured: statements of a greater one do not count.
    pub last: u64,
    /// Nothing that the key ever stated counts, and no grant that it gave.
    pub withdraw: bool,
    /// The reason, for people.
    pub why: String,
    /// Of a node: the admissions that it made and that stay, by the first bytes of their hashes.
    /// **Whoever has a node's key dates admissions as it likes**, so the moment alone would let in
    /// whom it admits afterwards. `None`: the moment decides. Stands behind what older programs
    /// read.
    #[serde(skip)]
    pub stays: Option<BTreeSet<[u8; 16]>>,
}

/// Admissions that a revocation can name: they have room in a change.
pub const MAX_STAYS: usize = 2_048;

impl Revoked {
    /// Whether it names an admission as one that stays.
    pub fn keeps(&self, hash: &Digest) -> bool {
        self.stays.as_ref().is_none_or(|stays| stays.contains(&admission_name(hash)))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = codec::encode(self);
        if let Some(stays) = &self.stays {
            bytes.extend(codec::encode(stays));
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Revoked, Malformed> {
        let (mut revoked, rest): (Revoked, _) = codec::decode_rest(bytes)?;
        if !rest.is_empty() {
            revoked.stays = Some(codec::decode_prefix(rest)?);
        }
        Ok(revoked)
    }
}

/// The name of an admission in a revocation.
pub fn admission_name(hash: &Digest) -> [u8; 16] {
    hash.0[..16].try_into().expect("a hash is longer")
}

/// A secret as it travels: the value under a key of its own, and that key sealed to nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Secret {
    /// The value, encrypted with the secret's key.
    pub sealed: Bytes,
    /// The secret's key, encrypted to the sealing key of each of these nodes.
    pub keys: BTreeMap<NodeId, Bytes>,
    /// Nodes with the key do not pass it on to others, even if they may run the workload.
    pub holders_only: bool,
}

/// How much the workloads of a namespace may reserve together. `None`: no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Thousandths of a core.
    pub cpu: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Replicas of all its workloads.
    pub replicas: Option<u64>,
}
