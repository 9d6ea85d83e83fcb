//! Signing changes and certificates that [`super::accept`] accepts.

use crate::model::{
    Certificate, Change, ChangeBody, Clock, Key, KeyPair, NodeId, PublicKey, RawChange, Signed,
};
use crate::model::{Unverified, Value};

use super::accept::{Fault, Rejection, accept, check_operator_name};
use super::{ADMISSION_SERIAL, Genesis, admission_salt, admission_writer};

/// Signs `body`, whose clock already has the writer at the serial. `certificate` is the author's
/// own; none for the root and the join key. Refuses what every node would refuse, so that nothing
/// is signed in vain.
pub fn sign_change(
    genesis: &Genesis,
    keys: &KeyPair,
    certificate: Option<&Unverified<Certificate>>,
    body: ChangeBody,
) -> Result<Change, Rejection> {
    let signed = Signed::sign(body, keys, &genesis.cluster());
    accept(genesis, RawChange { change: signed.wire(), certificate: certificate.cloned() })
}

/// Admits `node` with the join key. All nodes write this admission alike, to the byte. Has no
/// effect on a node that an operator removed: only an operator can admit it again.
pub fn admission(genesis: &Genesis, join: &KeyPair, node: NodeId) -> Result<Change, Rejection> {
    admit(genesis, join, node, admission_salt(genesis, &node), ADMISSION_SERIAL)
}

/// An admission as older programs write it: with a random salt, and a serial from the clock.
pub fn admit(
    genesis: &Genesis,
    join: &KeyPair,
    node: NodeId,
    salt: u64,
    serial: u64,
) -> Result<Change, Rejection> {
    let writer = admission_writer(&genesis.join, &node);
    let body = ChangeBody {
        key: Key::Member(node),
        writer,
        serial,
        clock: Clock::from([(writer, serial)]),
        uid: None,
        value: Value::Member { salt },
    };
    sign_change(genesis, join, None, body)
}

/// The root's certificate that `subject`, called `name`, is an operator.
pub fn certify(
    genesis: &Genesis,
    root: &KeyPair,
    subject: PublicKey,
    name: &str,
) -> Result<Unverified<Certificate>, Fault> {
    if root.public() != genesis.root {
        return Err(Fault::CertificateIssuer(root.public()));
    }
    check_operator_name(name)?;
    let certificate = Certificate { subject, name: name.to_owned() };
    Ok(Signed::sign(certificate, root, &genesis.cluster()).wire())
}
