//! The judgement on a change: accepted, refused for ever, or not understood yet.

use crate::model::change::{MAX_CLOCK, MAX_SERIAL};
use crate::model::codec::Malformed;
use crate::model::sign::BadSigned;
use crate::model::{
    Certificate, Change, ChangeBody, Key, NodeId, PublicKey, RawChange, Unverified, Value,
};
use crate::model::{Clock, WorkloadName};

use super::{
    ADMISSION_SERIAL, Genesis, MAX_CERTIFICATE, MAX_CHANGE, MAX_OPERATOR_NAME, admission_salt,
    admission_writer,
};

/// Why a change was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Wrong on every node and for ever; the relay that passed it on is at fault too.
    #[error(transparent)]
    Never(#[from] Fault),
    /// Correctly signed, but in a form that this program does not know: nobody is at fault, a newer
    /// program may accept it.
    #[error(transparent)]
    NotYet(#[from] Unjudged),
}

/// The fault in a change or a certificate; its author or its relay is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the change has {0} bytes, at most {MAX_CHANGE} are allowed")]
    Size(usize),
    #[error("the change's signature by {} does not match", .0.short())]
    Signature(PublicKey),
    #[error("key {} may not write this: it needs a certificate of this cluster's root", .0.short())]
    Stranger(PublicKey),
    #[error("the certificate has {0} bytes, at most {MAX_CERTIFICATE} are allowed")]
    CertificateSize(usize),
    #[error("the certificate was signed by {}, which is not this cluster's root, or was \
        altered", .0.short())]
    CertificateIssuer(PublicKey),
    #[error("the certificate is for key {}, but {} signed", .subject.short(), .author.short())]
    CertificateSubject { subject: PublicKey, author: PublicKey },
    #[error("an operator's name has 1 to {MAX_OPERATOR_NAME} bytes and no control characters")]
    OperatorName,
    #[error("a certificate is carried that the author does not need")]
    NeedlessCertificate,
    #[error("the clock has {0} entries, 1 to {MAX_CLOCK} are allowed")]
    ClockSize(usize),
    #[error("the clock's entry of the writer is not the change's serial")]
    ClockWriter,
    #[error("the clock has an entry of zero")]
    ClockZero,
    #[error("the clock has another writer's entry that is not below the change's serial")]
    ClockAhead,
    #[error("serial {0} is outside 1 to {MAX_SERIAL}")]
    Serial(u64),
    #[error("the value is not of the key's kind")]
    Kind,
    #[error("spec: version {0} does not exist")]
    SpecVersion(u16),
    #[error("the spec is called `{spec}`, but stands under `{key}`")]
    Name { spec: WorkloadName, key: WorkloadName },
    #[error("a member has no uid")]
    MemberUid,
    #[error("the join key admits under a writer of its own, with nothing else in the clock")]
    Admission,
    #[error("the join key admits with a serial of at most {ADMISSION_SERIAL}, not {0}")]
    AdmissionSerial(u64),
    #[error("the admission gives {} a salt that is not its own", .0.short())]
    AdmissionSalt(NodeId),
    #[error("the join key only admits nodes; removing {} takes an operator", .0.short())]
    JoinKeyRemoves(NodeId),
}

/// A form that this program cannot decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Unjudged {
    #[error(
        "the change is in a form this program does not know ({0}); a newer program wrote it: \
            upgrade this node"
    )]
    Change(Malformed),
    #[error("the key is of a kind ({0}) that this program does not know: upgrade this node")]
    Kind(u16),
    #[error(
        "the certificate is in a form this program does not know ({0}); a newer program wrote it: \
            upgrade this node"
    )]
    Certificate(Malformed),
}

/// The right by which an author writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// The author is the root, or the root certified it.
    Operator,
    /// The author is the join key.
    Admission,
}

/// Judges a change by its bytes and the certificate it carries, for the cluster of `genesis`.
pub fn accept(genesis: &Genesis, raw: RawChange) -> Result<Change, Rejection> {
    let bytes = raw.change.raw().len();
    if bytes > MAX_CHANGE {
        return Err(Fault::Size(bytes).into());
    }
    let author = raw.change.by();
    let right = right(genesis, author, raw.certificate.as_ref())?;
    let signed = raw.change.verify(&genesis.cluster()).map_err(|bad| match bad {
        BadSigned::Signature(by) => Rejection::Never(Fault::Signature(by)),
        // The author has the right and signed this, so this program is too old.
        BadSigned::Malformed(malformed) => Rejection::NotYet(Unjudged::Change(malformed)),
    })?;
    check_clock(signed.body())?;
    match &signed.key {
        Key::Workload(name) => check_workload(name, signed.body(), right, author)?,
        Key::Member(node) => check_member(node, signed.body(), right, genesis)?,
        // Kept and passed on; newer programs judge it.
        Key::Other(..) if right == Right::Operator => {}
        Key::Other(kind, _) => return Err(Rejection::NotYet(Unjudged::Kind(*kind))),
    }
    Ok(Change { signed, certificate: raw.certificate })
}

/// Checks that the root of `genesis` signed this certificate. Also used for an operator's own
/// certificate, read from disk.
pub fn check_certificate(
    genesis: &Genesis,
    certificate: &Unverified<Certificate>,
) -> Result<Certificate, Rejection> {
    let bytes = certificate.raw().len();
    if bytes > MAX_CERTIFICATE {
        return Err(Fault::CertificateSize(bytes).into());
    }
    let issuer = certificate.by();
    if issuer != genesis.root {
        return Err(Fault::CertificateIssuer(issuer).into());
    }
    let signed = certificate.clone().verify(&genesis.cluster()).map_err(|bad| match bad {
        BadSigned::Signature(by) => Rejection::Never(Fault::CertificateIssuer(by)),
        BadSigned::Malformed(malformed) => Rejection::NotYet(Unjudged::Certificate(malformed)),
    })?;
    check_operator_name(&signed.name)?;
    Ok(signed.body().clone())
}

pub(super) fn check_operator_name(name: &str) -> Result<(), Fault> {
    let good = (1..=MAX_OPERATOR_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    if good { Ok(()) } else { Err(Fault::OperatorName) }
}

pub(super) fn right(
    genesis: &Genesis,
    author: PublicKey,
    certificate: Option<&Unverified<Certificate>>,
) -> Result<Right, Rejection> {
    let own = if author == genesis.root {
        Some(Right::Operator)
    } else if author == genesis.join {
        Some(Right::Admission)
    } else {
        None
    };
    match (own, certificate) {
        (Some(right), None) => Ok(right),
        // A change has one form: a relay must not be able to attach a certificate to it.
        (Some(_), Some(_)) => Err(Fault::NeedlessCertificate.into()),
        (None, None) => Err(Fault::Stranger(author).into()),
        (None, Some(certificate)) => {
            let subject = check_certificate(genesis, certificate)?.subject;
            if subject != author {
                return Err(Fault::CertificateSubject { subject, author }.into());
            }
            Ok(Right::Operator)
        }
    }
}

/// The rules that make clocks safe to merge.
///
/// No zeros: `crdts` finds `{a: 1}` and `{a: 1, b: 0}` each greater than the other. The writer's
/// own entry is the serial and all others are below: then an author that has seen a change writes
/// with a greater serial, so that the order of siblings and the order of clocks never contradict
/// one another, and equal clocks mean the same dot.
fn check_clock(body: &ChangeBody) -> Result<(), Fault> {
    let clock: &Clock = &body.clock;
    if !(1..=MAX_SERIAL).contains(&body.serial) {
        return Err(Fault::Serial(body.serial));
    }
    if !(1..=MAX_CLOCK).contains(&clock.len()) {
        return Err(Fault::ClockSize(clock.len()));
    }
    if clock.get(&body.writer) != Some(&body.serial) {
        return Err(Fault::ClockWriter);
    }
    if clock.values().any(|serial| *serial == 0) {
        return Err(Fault::ClockZero);
    }
    if clock.iter().any(|(writer, serial)| *writer != body.writer && *serial >= body.serial) {
        return Err(Fault::ClockAhead);
    }
    Ok(())
}

fn check_workload(
    name: &WorkloadName,
    body: &ChangeBody,
    right: Right,
    author: PublicKey,
) -> Result<(), Fault> {
    if right != Right::Operator {
        return Err(Fault::Stranger(author));
    }
    match &body.value {
        // A removal may lack the uid: its author's node may not know the workload that other nodes
        // have.
        Value::Tombstone => Ok(()),
        Value::Workload { version: 0, .. } => Err(Fault::SpecVersion(0)),
        Value::Workload { .. } => match body.value.spec() {
            Some(spec) if spec.name != *name => {
                Err(Fault::Name { spec: spec.name.clone(), key: name.clone() })
            }
            // A spec that this program cannot read is kept and relayed unread: an operator signed
            // it, and only a newer program can tell whether it is good.
            Some(_) | None => Ok(()),
        },
        Value::Other(..) => Ok(()),
        Value::Member { .. } => Err(Fault::Kind),
    }
}

/// Operators admit and remove members as they write anything else. The join key, which every node
/// holds, only admits: under a writer fixed by the node's id, with nothing else in the clock. So
/// its writes can never supersede an operator's removal.
fn check_member(
    node: &NodeId,
    body: &ChangeBody,
    right: Right,
    genesis: &Genesis,
) -> Result<(), Fault> {
    if matches!(body.value, Value::Workload { .. }) {
        return Err(Fault::Kind);
    }
    if body.uid.is_some() {
        return Err(Fault::MemberUid);
    }
    if right == Right::Admission {
        if body.value == Value::Tombstone {
            return Err(Fault::JoinKeyRemoves(*node));
        }
        if body.writer != admission_writer(&genesis.join, node) || body.clock.len() != 1 {
            return Err(Fault::Admission);
        }
        // Admissions of older programs have a lower serial and a salt drawn at random. The last
        // word has the one admission that every node would write alike.
        if body.serial > ADMISSION_SERIAL {
            return Err(Fault::AdmissionSerial(body.serial));
        }
        let own = Value::Member { salt: admission_salt(genesis, node) };
        if body.serial == ADMISSION_SERIAL && body.value != own {
            return Err(Fault::AdmissionSalt(*node));
        }
    }
    Ok(())
}
