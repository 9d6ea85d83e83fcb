//! Signing changes and grants that every node accepts.

use crate::model::{
    Chain, Change, ChangeBody, Clock, Grant, Key, KeyPair, Namespaces, NodeId, PublicKey,
    RawChange, Role, Signed, Unverified, Value, WallClock, WriterId,
};

use super::accept::{Rejection, accept};
use super::chain::{authority, check_form};
use super::{Genesis, admission_salt, admission_writer, writer_id};

/// Signs `body`, whose clock already has the writer at the serial. `chain` leads from the root to
/// the author. Refuses what every node would refuse, so that nothing is signed in vain.
pub fn sign_change(
    genesis: &Genesis,
    keys: &KeyPair,
    chain: &Chain,
    body: ChangeBody,
) -> Result<Change, Rejection> {
    let signed = Signed::sign(body, keys, &genesis.cluster());
    accept(genesis, RawChange { change: signed.wire(), chain: chain.clone() })
}

/// The terms of a grant that is to be given.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The name of the key's holder, for people.
    pub name: String,
    /// The right.
    pub role: Role,
    /// Where it holds.
    pub namespaces: Namespaces,
    /// When it is given, as a serial.
    pub serial: u64,
    /// When it ends.
    pub expires: Option<WallClock>,
}

/// Gives `subject` a right, in the name of `giver`, whose chain is `chain`; returns the chain of
/// `subject`.
///
/// # Errors
/// The right is wider than the giver's, or every node would refuse it for its form.
pub fn grant(
    genesis: &Genesis,
    giver: &KeyPair,
    chain: &Chain,
    subject: PublicKey,
    terms: Terms,
) -> Result<Chain, Rejection> {
    let Terms { name, role, namespaces, serial, expires } = terms;
    let grant = Grant { subject, name, role, namespaces, serial, expires };
    check_form(&grant)?;
    let longer = chain.with(Signed::sign(grant, giver, &genesis.cluster()).wire());
    authority(genesis, &longer, subject, Some(serial))?;
    Ok(longer)
}

/// The invite's word that the member with the key `by` may admit `node`.
pub fn ticket(
    genesis: &Genesis,
    invite: &KeyPair,
    by: PublicKey,
    node: NodeId,
    serial: u64,
) -> Unverified<Grant> {
    let grant = Grant {
        subject: by,
        name: "ticket".into(),
        role: Role::Admits(node),
        namespaces: Namespaces::All,
        serial,
        expires: None,
    };
    Signed::sign(grant, invite, &genesis.cluster()).wire()
}

/// Admits `node` in the name of the member with the keys `by`. `chain` is that of the invite, with
/// the ticket.
pub fn admit(
    genesis: &Genesis,
    by: &KeyPair,
    chain: &Chain,
    node: NodeId,
    serial: u64,
) -> Result<Change, Rejection> {
    let writer = admission_writer(&by.public(), &node);
    sign_change(genesis, by, chain, admission(genesis, node, writer, serial))
}

/// Admits `node` in the name of an administrator, as the founder of a cluster does with itself.
pub fn admit_as_operator(
    genesis: &Genesis,
    keys: &KeyPair,
    chain: &Chain,
    node: NodeId,
    serial: u64,
) -> Result<Change, Rejection> {
    let writer = writer_id(&keys.public(), &[0; 16]);
    sign_change(genesis, keys, chain, admission(genesis, node, writer, serial))
}

fn admission(genesis: &Genesis, node: NodeId, writer: WriterId, serial: u64) -> ChangeBody {
    ChangeBody {
        key: Key::Member(node),
        writer,
        serial,
        clock: Clock::from([(writer, serial)]),
        uid: None,
        value: Value::Member { salt: admission_salt(genesis, &node) },
    }
}
