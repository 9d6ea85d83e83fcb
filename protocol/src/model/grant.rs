//! Grants: what a key may do, signed by a key that may give it. A chain of them leads from the
//! cluster's root to the author of a statement.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, Bytes, Malformed};
use super::id::{NodeId, PublicKey};
use super::name::Label;
use super::sign::{Signable, Unverified};
use super::time::WallClock;

/// Grants from the root to an author: the founder, two administrators below it, an operator or an
/// invite, and the member that admits a device by it.
pub const MAX_CHAIN: usize = 5;
/// Namespaces that one grant names.
pub const MAX_NAMESPACES: usize = 16;
/// Bytes of the name in a grant.
pub const MAX_GRANT_NAME: usize = 128;
/// Labels that an invite gives to a device.
pub const MAX_LABELS: usize = 16;
/// Devices that one invite admits at most.
pub const MAX_USES: u32 = 10_000;

/// The rights of a key. Each role may do what those above it in this list may, within its
/// namespaces; the last two only admit devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// See everything, and change nothing.
    Reader,
    /// Write workloads, secrets and configs, and open sessions with replicas.
    Publisher,
    /// Give and revoke rights, set quotas; with all namespaces also admit and revoke nodes.
    Admin,
    /// Have devices admitted: the key of an invite.
    Inviter {
        /// How many devices.
        uses: u32,
        /// Labels for the devices, by key.
        labels: Vec<(String, String)>,
    },
    /// Admit this one device: what a device gives to the member that admits it.
    Admits(NodeId),
}

impl Role {
    fn into_parts(self) -> (u16, Bytes) {
        match self {
            Role::Reader => (0, Bytes::default()),
            Role::Publisher => (1, Bytes::default()),
            Role::Admin => (2, Bytes::default()),
            Role::Inviter { uses, labels } => (3, Bytes(codec::encode(&(uses, labels)))),
            Role::Admits(node) => (4, Bytes(codec::encode(&node))),
        }
    }

    fn of(kind: u16, bytes: &Bytes) -> Result<Role, Malformed> {
        Ok(match kind {
            0 => Role::Reader,
            1 => Role::Publisher,
            2 => Role::Admin,
            3 => {
                let (uses, labels) = codec::decode_prefix(&bytes.0)?;
                Role::Inviter { uses, labels }
            }
            4 => Role::Admits(codec::decode_prefix(&bytes.0)?),
            other => return Err(Malformed(format!("a role of kind {other}"))),
        })
    }

    /// Whether a key with this role may grant `role`.
    pub fn may_grant(&self, role: &Role) -> bool {
        match (self, role) {
            (Role::Admin, Role::Admits(_)) => false,
            (Role::Admin, _) => true,
            (Role::Inviter { .. }, Role::Admits(_)) => true,
            _ => false,
        }
    }

    /// The role's name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Publisher => "publisher",
            Role::Admin => "admin",
            Role::Inviter { .. } => "invite",
            Role::Admits(_) => "ticket",
        }
    }
}

/// The namespaces in which a key has its role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Namespaces {
    /// All, and what belongs to no namespace: nodes.
    All,
    /// These; at most [`MAX_NAMESPACES`].
    Only(BTreeSet<Label>),
}

impl Namespaces {
    /// Whether this namespace is among them.
    pub fn has(&self, namespace: &Label) -> bool {
        match self {
            Namespaces::All => true,
            Namespaces::Only(only) => only.contains(namespace),
        }
    }

    /// Whether all of `other` are among these.
    pub fn cover(&self, other: &Namespaces) -> bool {
        match (self, other) {
            (Namespaces::All, _) => true,
            (Namespaces::Only(_), Namespaces::All) => false,
            (Namespaces::Only(own), Namespaces::Only(other)) => other.is_subset(own),
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Namespaces::All => f.write_str("all namespaces"),
            Namespaces::Only(only) => {
                let names: Vec<&str> = only.iter().map(Label::as_str).collect();
                write!(f, "namespace {}", names.join(", "))
            }
        }
    }
}

/// A right, given to a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "WireGrant", into = "WireGrant")]
pub struct Grant {
    /// The key that gets the right.
    pub subject: PublicKey,
    /// Whose key it is, for people.
    pub name: String,
    /// The right.
    pub role: Role,
    /// Where it holds.
    pub namespaces: Namespaces,
    /// When it was given, as a serial: a hybrid clock.
    pub serial: u64,
    /// The last moment of a statement under it, by the statement's serial. `None`: for ever.
    pub expires: Option<WallClock>,
}

impl Signable for Grant {
    const DOMAIN: &'static str = "shoal/grant/1";
}

/// [`Grant`] on the wire. A newer program may append fields.
#[derive(Serialize, Deserialize)]
struct WireGrant {
    subject: PublicKey,
    name: String,
    role: (u16, Bytes),
    namespaces: Namespaces,
    serial: u64,
    expires: Option<WallClock>,
}

impl From<Grant> for WireGrant {
    fn from(grant: Grant) -> WireGrant {
        let Grant { subject, name, role, namespaces, serial, expires } = grant;
        WireGrant { subject, name, role: role.into_parts(), namespaces, serial, expires }
    }
}

impl TryFrom<WireGrant> for Grant {
    type Error = Malformed;

    fn try_from(wire: WireGrant) -> Result<Grant, Malformed> {
        let WireGrant { subject, name, role: (kind, bytes), namespaces, serial, expires } = wire;
        Ok(Grant { subject, name, role: Role::of(kind, &bytes)?, namespaces, serial, expires })
    }
}

/// Grants from the root's to an author's, as they came. Empty for the root itself. Copies share
/// them.
#[derive(Clone, PartialEq, Default)]
pub struct Chain(Option<Arc<[Unverified<Grant>]>>);

impl Chain {
    /// The grants, the root's first.
    pub fn grants(&self) -> &[Unverified<Grant>] {
        self.0.as_deref().unwrap_or_default()
    }

    /// This chain with one grant more.
    pub fn with(&self, grant: Unverified<Grant>) -> Chain {
        self.grants().iter().cloned().chain([grant]).collect()
    }

    /// The last grant as it claims to be, for a look that decides nothing.
    pub fn peek(&self) -> Option<Grant> {
        self.grants().last()?.peek().ok()
    }

    /// Takes the grants that `other` has as well from it, so that they are in memory once.
    pub fn share(&mut self, other: &Chain) {
        if self == other {
            return *self = other.clone();
        }
        let known = other.grants();
        let shared = self.grants().iter().enumerate().map(|(at, grant)| match known.get(at) {
            Some(known) if known == grant => known.clone(),
            _ => grant.clone(),
        });
        *self = shared.collect();
    }

    /// How many grants both begin with.
    pub fn common(&self, other: &Chain) -> usize {
        self.grants().iter().zip(other.grants()).take_while(|(own, other)| own == other).count()
    }
}

impl FromIterator<Unverified<Grant>> for Chain {
    fn from_iter<I: IntoIterator<Item = Unverified<Grant>>>(grants: I) -> Chain {
        let grants: Arc<[Unverified<Grant>]> = grants.into_iter().collect();
        Chain((!grants.is_empty()).then_some(grants))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.grants()).finish()
    }
}

impl Eq for Chain {}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.grants().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Unverified<Grant>>::deserialize(deserializer)?.into_iter().collect())
    }
}
