//! The judgement on a change: accepted, refused for ever, or not understood yet.

use crate::model::change::{MAX_CLOCK, MAX_SERIAL, MAX_STAYS};
use crate::model::codec::Malformed;
use crate::model::sign::BadSigned;
use crate::model::{
    Chain, Change, ChangeBody, Clock, Key, Label, MAX_POLICY_ENTRIES, NodeId, PublicKey, RawChange,
    Role, Value, WallClock, WorkloadName,
};

use super::chain::{Authority, authority};
use super::{
    Genesis, MAX_CHANGE, MAX_CONFIG, MAX_GRANT, MAX_WHY, admission_salt, admission_writer,
    operator_entry,
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

/// The fault in a change or a grant; its author or its relay is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the change has {0} bytes, at most {MAX_CHANGE} are allowed")]
    Size(usize),
    #[error(
        "the policy of a node names at most {MAX_POLICY_ENTRIES} labels and as many taints, each 1 \
            to 63 letters, digits, `-`, `_`, `.` and `/`"
    )]
    Policy,
    #[error("the change's signature by {} does not match", .0.short())]
    Signature(PublicKey),
    #[error("key {} may not write this: no grant of this cluster's root leads to it", .0.short())]
    Stranger(PublicKey),
    #[error("the grant has {0} bytes, at most {MAX_GRANT} are allowed")]
    GrantSize(usize),
    #[error("{0} grants lead to the author, at most {max} may",
        max = crate::model::grant::MAX_CHAIN)]
    ChainLength(usize),
    #[error("a grant is signed by {}, and only {} could give it", .by.short(), .giver.short())]
    GrantGiver { by: PublicKey, giver: PublicKey },
    #[error("a grant's signature by {} does not match: it is of another cluster, or was altered",
        .0.short())]
    GrantSignature(PublicKey),
    #[error("the grant is for key {}, but {} signed", .subject.short(), .author.short())]
    GrantSubject { subject: PublicKey, author: PublicKey },
    #[error("a name in a grant has 1 to {max} bytes and no control characters",
        max = crate::model::grant::MAX_GRANT_NAME)]
    GrantName,
    #[error("a grant names 1 to {max} namespaces, or all; not {0}",
        max = crate::model::grant::MAX_NAMESPACES)]
    GrantNamespaces(usize),
    #[error("an invite has 1 to {uses} uses, at most {labels} labels, an end, and no namespace",
        uses = crate::model::grant::MAX_USES, labels = crate::model::grant::MAX_LABELS)]
    InviteForm,
    #[error("a key with the role {giver} cannot give the role {role}")]
    GrantRole { giver: &'static str, role: &'static str },
    #[error("a key with rights in {giver} cannot give rights in {given}")]
    GrantWider { giver: String, given: String },
    #[error("the grant of `{name}` ended at {expires}, and this was written at {at}")]
    Expired { name: String, expires: WallClock, at: WallClock },
    #[error("a grant is carried that the author does not need")]
    NeedlessGrant,
    #[error("the author's role is {role} in {namespaces}, and this takes {needed}")]
    Role { role: &'static str, namespaces: String, needed: String },
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
    #[error("only workloads, secrets and configs have a uid")]
    Uid,
    #[error("a member admits under a writer of its own, with nothing else in the clock")]
    Admission,
    #[error("the admission gives {} a salt that is not its own", .0.short())]
    AdmissionSalt(NodeId),
    #[error("a member can only admit the device that asked it, and not write {0}")]
    Admits(String),
    #[error("the root key cannot be revoked")]
    RevokesRoot,
    #[error("the reason of a revocation has at most {MAX_WHY} bytes and no control characters")]
    Why,
    #[error("a revocation names at most {MAX_STAYS} admissions that stay")]
    Stays,
    #[error("a config has at most {MAX_CONFIG} bytes, not {0}")]
    ConfigSize(usize),
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
    #[error(
        "the grant is in a form this program does not know ({0}); a newer program wrote it: \
            upgrade this node"
    )]
    Grant(Malformed),
}

/// Judges a change by its bytes and the grants it carries, for the cluster of `genesis`.
pub fn accept(genesis: &Genesis, raw: RawChange) -> Result<Change, Rejection> {
    let bytes = raw.change.raw().len();
    if bytes > MAX_CHANGE {
        return Err(Fault::Size(bytes).into());
    }
    let author = raw.change.by();
    let signed = match raw.change.verify(&genesis.cluster()) {
        Ok(signed) => signed,
        Err(BadSigned::Signature(by)) => return Err(Fault::Signature(by).into()),
        Err(BadSigned::Malformed(malformed)) => {
            // Whoever may write at all may write in a newer form.
            authority(genesis, &raw.chain, author, None)?;
            return Err(Unjudged::Change(malformed).into());
        }
    };
    let right = authority(genesis, &raw.chain, author, Some(signed.serial))?;
    check_clock(signed.body())?;
    check_key(genesis, signed.body(), &right, author)?;
    Ok(Change { signed, chain: raw.chain })
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

/// Whether this author may write this key, and the value fits it.
fn check_key(
    genesis: &Genesis,
    body: &ChangeBody,
    right: &Authority,
    author: PublicKey,
) -> Result<(), Rejection> {
    if let Role::Admits(node) = &right.role {
        return Ok(check_admission(genesis, body, node, author)?);
    }
    let has_uid = matches!(body.key, Key::Workload(_) | Key::Secret(_) | Key::Config(_));
    if body.uid.is_some() && !has_uid && !matches!(body.key, Key::Other(..)) {
        return Err(Fault::Uid.into());
    }
    let is_removal = body.value == Value::Tombstone;
    match (&body.key, &body.value) {
        (Key::Workload(name), value) => {
            publishes(right, &name.namespace)?;
            Ok(check_workload(name, value)?)
        }
        (Key::Secret(name), Value::Secret(_) | Value::Tombstone | Value::Other(..)) => {
            publishes(right, &name.namespace)
        }
        (Key::Config(name), Value::Config(bytes)) if bytes.0.len() > MAX_CONFIG => {
            publishes(right, &name.namespace)?;
            Err(Fault::ConfigSize(bytes.0.len()).into())
        }
        (Key::Config(name), Value::Config(_) | Value::Tombstone | Value::Other(..)) => {
            publishes(right, &name.namespace)
        }
        (Key::Quota(namespace), Value::Quota(_) | Value::Tombstone | Value::Other(..)) => {
            match right.role == Role::Admin && right.namespaces.has(namespace) {
                true => Ok(()),
                false => Err(lacks(right, &format!("an admin of namespace {namespace}"))),
            }
        }
        (Key::Policy(_), Value::Policy(policy)) if !policy.is_valid() => {
            rules_cluster(right, "of nodes")?;
            Err(Fault::Policy.into())
        }
        (Key::Policy(_), Value::Policy(_) | Value::Tombstone | Value::Other(..)) => {
            rules_cluster(right, "of nodes")
        }
        (Key::Member(node), value) => {
            rules_cluster(right, "of nodes")?;
            match value {
                Value::Member { salt } if *salt != admission_salt(genesis, node) => {
                    Err(Fault::AdmissionSalt(*node).into())
                }
                Value::Member { .. } | Value::Tombstone | Value::Other(..) => Ok(()),
                _ => Err(Fault::Kind.into()),
            }
        }
        (Key::Revocation(of), Value::Revoked(revoked)) => {
            rules_cluster(right, "that revokes")?;
            if *of == genesis.root {
                return Err(Fault::RevokesRoot.into());
            }
            let is_text =
                revoked.why.len() <= MAX_WHY && !revoked.why.chars().any(char::is_control);
            let is_short = revoked.stays.as_ref().is_none_or(|it| it.len() <= MAX_STAYS);
            match (is_text, is_short) {
                (true, true) => Ok(()),
                (false, _) => Err(Fault::Why.into()),
                (_, false) => Err(Fault::Stays.into()),
            }
        }
        // A revocation stays: a key that was lost once is never trusted again.
        (Key::Revocation(_), Value::Other(..)) => rules_cluster(right, "that revokes"),
        (Key::Operator(of), Value::Operator(chain)) => {
            check_operator(genesis, right, (author, *of), chain)
        }
        (Key::Operator(_), Value::Other(..)) => rules_cluster(right, "of operators"),
        (Key::Operator(_), _) if is_removal => rules_cluster(right, "of operators"),
        // Kept and passed on; newer programs judge it.
        (Key::Other(..), _) if matches!(right.role, Role::Publisher | Role::Admin) => Ok(()),
        (Key::Other(..), _) => Err(lacks(right, "a publisher")),
        _ => Err(Fault::Kind.into()),
    }
}

fn publishes(right: &Authority, namespace: &Label) -> Result<(), Rejection> {
    match right.publishes(namespace) {
        true => Ok(()),
        false => Err(lacks(right, &format!("a publisher of namespace {namespace}"))),
    }
}

fn rules_cluster(right: &Authority, what: &str) -> Result<(), Rejection> {
    match right.rules_cluster() {
        true => Ok(()),
        false => Err(lacks(right, &format!("an admin {what}, with all namespaces"))),
    }
}

fn lacks(right: &Authority, needed: &str) -> Rejection {
    Fault::Role {
        role: right.role.name(),
        namespaces: right.namespaces.to_string(),
        needed: needed.to_owned(),
    }
    .into()
}

fn check_workload(name: &WorkloadName, value: &Value) -> Result<(), Fault> {
    match value {
        // A removal may lack the uid: its author's node may not know the workload that other nodes
        // have.
        Value::Tombstone => Ok(()),
        Value::Workload { version: 0, .. } => Err(Fault::SpecVersion(0)),
        Value::Workload { .. } => match value.spec() {
            Some(spec) if spec.name != *name => {
                Err(Fault::Name { spec: spec.name.clone(), key: name.clone() })
            }
            // A spec that this program cannot read is kept and relayed unread: an operator signed
            // it, and only a newer program can tell whether it is good.
            Some(_) | None => Ok(()),
        },
        Value::Other(..) => Ok(()),
        _ => Err(Fault::Kind),
    }
}

/// An operator's entry shows the chain of its key. Nobody enters wider rights than its own, and an
/// administrator of some namespaces enters them beside what others entered about the same key.
fn check_operator(
    genesis: &Genesis,
    right: &Authority,
    (author, of): (PublicKey, PublicKey),
    chain: &Chain,
) -> Result<(), Rejection> {
    let subject = chain.peek().map(|grant| grant.subject).ok_or(Fault::Kind)?;
    let granted = authority(genesis, chain, subject, None)?;
    if matches!(granted.role, Role::Inviter { .. } | Role::Admits(_)) {
        return Err(Fault::Kind.into());
    }
    if right.role != Role::Admin || !right.namespaces.cover(&granted.namespaces) {
        return Err(lacks(right, &format!("an admin of {}", granted.namespaces)));
    }
    match of == operator_entry(right, &author, &subject) {
        true => Ok(()),
        false => Err(Fault::Kind.into()),
    }
}

/// A member admits the device that has an invite: this device only, under a writer fixed by both,
/// with nothing else in the clock. So it can never supersede an operator's removal.
fn check_admission(
    genesis: &Genesis,
    body: &ChangeBody,
    node: &NodeId,
    by: PublicKey,
) -> Result<(), Fault> {
    if body.key != Key::Member(*node) {
        return Err(Fault::Admits(format!("{:?}", body.key)));
    }
    let Value::Member { salt } = body.value else { return Err(Fault::Kind) };
    if body.uid.is_some() {
        return Err(Fault::Uid);
    }
    if body.writer != admission_writer(&by, node) || body.clock.len() != 1 {
        return Err(Fault::Admission);
    }
    match salt == admission_salt(genesis, node) {
        true => Ok(()),
        false => Err(Fault::AdmissionSalt(*node)),
    }
}
