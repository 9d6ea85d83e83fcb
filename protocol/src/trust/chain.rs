//! The judgement on a chain of grants: what its author may do, by the root key alone.

use crate::model::grant::{MAX_CHAIN, MAX_GRANT_NAME, MAX_LABELS, MAX_NAMESPACES, MAX_USES};
use crate::model::sign::BadSigned;
use crate::model::{Chain, Grant, Namespaces, PublicKey, Role, Unverified, WallClock};

use super::accept::{Fault, Rejection, Unjudged};
use super::{Genesis, MAX_GRANT, serial_time};

/// The rights of an author.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Its role.
    pub role: Role,
    /// Where it has it.
    pub namespaces: Namespaces,
    /// The moment at which it ends: the earliest in its chain.
    pub expires: Option<WallClock>,
}

impl Authority {
    /// The root's: all, and for ever.
    pub fn root() -> Authority {
        Authority { role: Role::Admin, namespaces: Namespaces::All, expires: None }
    }

    /// Whether it may publish in this namespace.
    pub fn publishes(&self, namespace: &crate::model::Label) -> bool {
        matches!(self.role, Role::Publisher | Role::Admin) && self.namespaces.has(namespace)
    }

    /// Whether it may do what concerns the whole cluster.
    pub fn rules_cluster(&self) -> bool {
        self.role == Role::Admin && self.namespaces == Namespaces::All
    }
}

/// The authority of `author` for a statement of this serial; without a serial no expiry is judged.
///
/// # Errors
/// The chain does not lead from the root to the author, a grant in it is wider than its giver's, or
/// one had expired by the serial.
pub fn authority(
    genesis: &Genesis,
    chain: &Chain,
    author: PublicKey,
    serial: Option<u64>,
) -> Result<Authority, Rejection> {
    let grants = chain.grants();
    if author == genesis.root {
        return match grants {
            [] => Ok(Authority::root()),
            // A statement has one form: a relay must not be able to attach grants to it.
            _ => Err(Fault::NeedlessGrant.into()),
        };
    }
    if grants.is_empty() {
        return Err(Fault::Stranger(author).into());
    }
    if grants.len() > MAX_CHAIN {
        return Err(Fault::ChainLength(grants.len()).into());
    }
    let (mut giver, mut held) = (genesis.root, Authority::root());
    for raw in grants {
        let grant = check_grant(genesis, raw, giver)?;
        check_not_wider(&held, &grant)?;
        check_not_expired(&grant, serial)?;
        giver = grant.subject;
        held = Authority {
            role: grant.role,
            namespaces: grant.namespaces,
            expires: [held.expires, grant.expires].into_iter().flatten().min(),
        };
    }
    match giver == author {
        true => Ok(held),
        false => Err(Fault::GrantSubject { subject: giver, author }.into()),
    }
}

/// Checks one grant by itself, and that `giver` signed it.
fn check_grant(
    genesis: &Genesis,
    raw: &Unverified<Grant>,
    giver: PublicKey,
) -> Result<Grant, Rejection> {
    let bytes = raw.raw().len();
    if bytes > MAX_GRANT {
        return Err(Fault::GrantSize(bytes).into());
    }
    if raw.by() != giver {
        return Err(Fault::GrantGiver { by: raw.by(), giver }.into());
    }
    let grant = raw.clone().verify(&genesis.cluster()).map_err(|bad| match bad {
        BadSigned::Signature(by) => Rejection::Never(Fault::GrantSignature(by)),
        BadSigned::Malformed(malformed) => Rejection::NotYet(Unjudged::Grant(malformed)),
    })?;
    check_form(&grant)?;
    Ok(grant.body().clone())
}

/// Checks the parts of a grant that need no chain.
pub(super) fn check_form(grant: &Grant) -> Result<(), Fault> {
    let is_text = |text: &str, min: usize| {
        (min..=MAX_GRANT_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !is_text(&grant.name, 1) {
        return Err(Fault::GrantName);
    }
    if let Namespaces::Only(only) = &grant.namespaces
        && !(1..=MAX_NAMESPACES).contains(&only.len())
    {
        return Err(Fault::GrantNamespaces(only.len()));
    }
    match &grant.role {
        Role::Inviter { uses, labels } => {
            let good = |(key, value): &(String, String)| is_text(key, 1) && is_text(value, 0);
            let decent = labels.len() <= MAX_LABELS && labels.iter().all(good);
            if !(1..=MAX_USES).contains(uses) || !decent {
                return Err(Fault::InviteForm);
            }
            if grant.namespaces != Namespaces::All {
                return Err(Fault::InviteForm);
            }
            // An invite that holds for ever is a password.
            if grant.expires.is_none() {
                return Err(Fault::InviteForm);
            }
            Ok(())
        }
        Role::Reader | Role::Publisher | Role::Admin | Role::Admits(_) => Ok(()),
    }
}

fn check_not_wider(held: &Authority, grant: &Grant) -> Result<(), Fault> {
    if !held.role.may_grant(&grant.role) {
        return Err(Fault::GrantRole { giver: held.role.name(), role: grant.role.name() });
    }
    if !held.namespaces.cover(&grant.namespaces) {
        return Err(Fault::GrantWider {
            giver: held.namespaces.to_string(),
            given: grant.namespaces.to_string(),
        });
    }
    Ok(())
}

fn check_not_expired(grant: &Grant, serial: Option<u64>) -> Result<(), Fault> {
    match (grant.expires, serial.map(serial_time)) {
        (Some(expires), Some(at)) if at > expires => {
            Err(Fault::Expired { name: grant.name.clone(), expires, at })
        }
        _ => Ok(()),
    }
}
