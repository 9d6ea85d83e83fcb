//! Trust: which key may write what, certificates, and the judgement on a change.
//!
//! A cluster begins with two keys. The root certifies operators, who write workloads and remove
//! nodes. The join key, whose seed stands in the join line, admits nodes and can do nothing else.
//! So a stolen device can let more devices in, but neither change what runs nor bring back a node
//! that an operator removed.
//!
//! **[`accept`] is a pure function of the bytes and the certificate they carry.** It knows no
//! clock, no order of arrival and no relay, so every node judges alike and replicas cannot differ
//! over a verdict.

mod accept;
mod access;
mod join_line;
mod write;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{ClusterId, Digest, NodeId, PublicKey, WriterId};

pub use accept::{Fault, Rejection, Unjudged, accept, check_certificate};
pub use access::{accept_access, sign_access};
pub use join_line::{BadJoinLine, JoinLine, MAX_ADDRESSES};
pub use write::{admission, admit, certify, sign_change};

/// Bytes of a change's signed part. A valid spec takes at most 27 KiB and a full clock 3 KiB; the
/// rest is for later forms, within one gossip message of 64 KiB.
pub const MAX_CHANGE: usize = 48 * 1024;
/// Bytes of a certificate's signed part.
pub const MAX_CERTIFICATE: usize = 1024;
/// Bytes of an operator's name.
pub const MAX_OPERATOR_NAME: usize = 128;

/// The two keys that a cluster begins with. Public; their hash is the cluster's id, so neither key
/// can be swapped later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Genesis {
    /// Certifies operators, and may write all that they may.
    pub root: PublicKey,
    /// Admits nodes; may write nothing else.
    pub join: PublicKey,
}

impl Genesis {
    /// The cluster's id, a hash of both keys.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(
            Digest::of_parts(&[b"shoal/genesis/1", self.root.as_bytes(), self.join.as_bytes()]).0,
        )
    }
}

/// The writer id of one installation of an author's key. `installation` is drawn at random when the
/// installation is set up and never copied: two writers under one id would overwrite one another's
/// dots.
pub fn writer_id(author: &PublicKey, installation: &[u8; 16]) -> WriterId {
    WriterId(Digest::of_parts(&[b"shoal/writer/1", author.as_bytes(), installation]).0)
}

/// The writer id under which the join key admits `node`. It is fixed, so that such an admission is
/// recognised by its form and never takes an entry in another writer's clock.
pub fn admission_writer(join: &PublicKey, node: &NodeId) -> WriterId {
    WriterId(Digest::of_parts(&[b"shoal/admission/1", join.as_bytes(), node.as_bytes()]).0)
}

/// The serial of every admission by the join key. Older programs took one from the clock; all of
/// theirs are below it. So no admission goes above this one, and an operator always can: the
/// greatest serial is far away.
pub const ADMISSION_SERIAL: u64 = 7_258_118_400_000 << 16;

/// The salt of a node's point on the ring, where the join key admits it: whoever holds that key
/// cannot choose the point of any other node.
pub fn admission_salt(genesis: &Genesis, node: &NodeId) -> u64 {
    let cluster = genesis.cluster();
    let hash = Digest::of_parts(&[b"shoal/salt/1", cluster.as_bytes(), node.as_bytes()]);
    u64::from_be_bytes(hash.0[..8].try_into().expect("a hash has at least eight bytes"))
}

/// The secret that both ends of a link must prove in the handshake, derived from the join seed.
pub fn transport_secret(join_seed: &[u8; 32]) -> [u8; 32] {
    Digest::of_parts(&[b"shoal/transport/1", join_seed]).0
}
