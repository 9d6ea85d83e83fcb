//! Trust: which key may do what, and the judgement on a change.
//!
//! A cluster begins with one key, its root. **Every right is a [`Grant`](crate::model::Grant)**, and
//! a chain of grants leads from the root to the author of a statement: the root makes the founder
//! an administrator, who makes operators and invites. An invite's key can have devices admitted
//! until it ends; a member admits, so that its clock decides whether the invite still holds.
//!
//! **[`accept`] is a pure function of the bytes and the chain they carry.** It knows no clock, no
//! order of arrival and no relay, so every node judges alike and replicas cannot differ over a
//! verdict. An expiry is compared with the serial of the statement. Whether a key was revoked
//! meanwhile is desired state, and judged there.

mod accept;
mod access;
mod chain;
mod invite;
mod write;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{ClusterId, Digest, NodeId, PublicKey, WallClock, WriterId};

pub use accept::{Fault, Rejection, Unjudged, accept};
pub use access::{accept_access, sign_access};
pub use chain::{Authority, authority};
pub use invite::{BadInvite, Invite, MAX_ADDRESSES};
pub use write::{Terms, admit, admit_as_operator, grant, sign_change, ticket};

/// Bytes of a change's signed part. A valid spec takes at most 27 KiB and a full clock 3 KiB; the
/// rest is for later forms, within one gossip message of 64 KiB.
pub const MAX_CHANGE: usize = 48 * 1024;
/// Bytes of a grant's signed part: 16 namespaces of 63 bytes, or 16 labels of 256.
pub const MAX_GRANT: usize = 6 * 1024;
/// Bytes of a config.
pub const MAX_CONFIG: usize = 32 * 1024;
/// Bytes of the reason of a revocation.
pub const MAX_WHY: usize = 256;

/// The key that a cluster begins with. Public; its hash is the cluster's id, so it can never be
/// swapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Genesis {
    /// Gives all rights, and has them.
    pub root: PublicKey,
}

impl Genesis {
    /// The cluster's id, a hash of the root key.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(Digest::of_parts(&[b"shoal/genesis/2", self.root.as_bytes()]).0)
    }
}

/// The writer id of one installation of an author's key. `installation` is drawn at random when the
/// installation is set up and never copied: two writers under one id would overwrite one another's
/// dots.
pub fn writer_id(author: &PublicKey, installation: &[u8; 16]) -> WriterId {
    WriterId(Digest::of_parts(&[b"shoal/writer/1", author.as_bytes(), installation]).0)
}

/// The writer id under which the member with the key `by` admits `node`. It is fixed, so that such
/// an admission never takes an entry in another writer's clock.
pub fn admission_writer(by: &PublicKey, node: &NodeId) -> WriterId {
    WriterId(Digest::of_parts(&[b"shoal/admission/2", by.as_bytes(), node.as_bytes()]).0)
}

/// The key under which an author with this right enters an operator: an administrator of the whole
/// cluster under the operator's own key, another one under a key that only it writes, so that it
/// cannot write over an entry whose rights are none of its business.
pub fn operator_entry(right: &Authority, author: &PublicKey, subject: &PublicKey) -> PublicKey {
    match right.rules_cluster() {
        true => *subject,
        false => PublicKey(
            Digest::of_parts(&[b"shoal/operator/1", author.as_bytes(), subject.as_bytes()]).0,
        ),
    }
}

/// The salt of a node's point on the ring: nobody can choose the point of another node.
pub fn admission_salt(genesis: &Genesis, node: &NodeId) -> u64 {
    let cluster = genesis.cluster();
    let hash = Digest::of_parts(&[b"shoal/salt/1", cluster.as_bytes(), node.as_bytes()]);
    u64::from_be_bytes(hash.0[..8].try_into().expect("a hash has at least eight bytes"))
}

/// The moment that a serial stands for: a hybrid clock has milliseconds above its lowest bits.
pub fn serial_time(serial: u64) -> WallClock {
    WallClock(serial >> SERIAL_SHIFT)
}

/// The lowest serial of this moment.
pub fn serial_at(time: WallClock) -> u64 {
    time.0.min(u64::MAX >> SERIAL_SHIFT) << SERIAL_SHIFT
}

/// Bits of a serial below the milliseconds: 65,536 writes to a key within one millisecond.
const SERIAL_SHIFT: u32 = 16;
