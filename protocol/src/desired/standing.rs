//! The keys that still have rights: revocations, and the devices that an invite admits.
//!
//! **A pure function of the changes held.** Two administrators may revoke one another without
//! knowing; then the one nearer to the root prevails, and of equals the one that wrote first.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use crate::model::change::Revoked;
use crate::model::{Chain, Change, Digest, Grant, Key, NodeId, PublicKey, Role, Unverified, Value};

/// The device of an admission and the invite behind it.
type Use = (u64, Digest, NodeId);

/// Why a change does not count.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Barred {
    #[error("key {} was revoked{}: what it writes now does not count", .key.short(), because(.why))]
    Revoked { key: PublicKey, why: String },
    #[error("the member that admits the device is not known here")]
    Unrooted,
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

/// The keys that still have rights.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    revoked: OrdMap<PublicKey, Revoked>,
    /// Admissions by invite, the first ones first. At most as many as there are member keys.
    uses: BTreeMap<PublicKey, BTreeSet<Use>>,
}

impl Standing {
    pub(super) fn revoked(&self) -> &OrdMap<PublicKey, Revoked> {
        &self.revoked
    }

    /// The key by whose revocation its holder, with this chain, has no rights now.
    pub(super) fn ended(&self, chain: &Chain, by: &PublicKey) -> Option<PublicKey> {
        if self.revoked.contains_key(by) {
            return Some(*by);
        }
        let gave_later = |giver: &PublicKey, grant: &Unverified<Grant>| {
            let it = self.revoked.get(giver)?;
            let given = grant.peek().map_or(u64::MAX, |grant| grant.serial);
            (it.withdraw || given > it.last).then_some(*giver)
        };
        chain.grants().iter().find_map(|grant| gave_later(&grant.by(), grant))
    }

    /// The key by whose revocation a change does not count.
    pub(super) fn bars(&self, change: &Change) -> Option<Barred> {
        if self.revoked.is_empty() {
            return None;
        }
        bars(&self.revoked, change)
    }

    /// Sets what `changes`, all revocations held, amount to. False if that is what it was.
    pub(super) fn set_revoked<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> bool {
        let mut changes: Vec<&Change> = changes.collect();
        changes.sort_by_key(|it| (it.chain.grants().len(), it.signed.serial, it.hash()));
        let mut revoked = OrdMap::new();
        for change in changes {
            let (Key::Revocation(of), Value::Revoked(new)) =
                (&change.signed.key, &change.signed.value)
            else {
                continue;
            };
            if bars(&revoked, change).is_some() {
                continue;
            }
            // Of several, the strictest counts.
            let strictest = match revoked.get(of) {
                Some(known) => strictest(known, new),
                None => new.clone(),
            };
            revoked.insert(*of, strictest);
        }
        let is_new = revoked != self.revoked;
        self.revoked = revoked;
        is_new
    }

    /// Notes that a device's effective admission is another one now.
    pub(super) fn set_use(&mut self, before: Option<&Change>, now: Option<&Change>) {
        if let Some((invite, _, used)) = before.and_then(used) {
            let is_last = self.uses.get_mut(&invite).is_some_and(|uses| {
                uses.remove(&used);
                uses.is_empty()
            });
            if is_last {
                self.uses.remove(&invite);
            }
        }
        if let Some((invite, _, used)) = now.and_then(used) {
            self.uses.entry(invite).or_default().insert(used);
        }
    }

    /// Whether the device of this admission belongs to the cluster: it was not revoked, and its
    /// invite was not used up by others before it.
    pub(super) fn counts(&self, admission: &Change) -> bool {
        let Key::Member(node) = &admission.signed.key else { return false };
        if self.revoked.contains_key(&PublicKey(node.0)) {
            return false;
        }
        let Some((invite, allowed, used)) = used(admission) else { return true };
        let before =
            self.uses.get(&invite).map_or(0, |uses| uses.range(..used).take(allowed).count());
        before < allowed
    }

    /// Devices admitted with the same invite as `admission`, itself included.
    pub(super) fn companions(&self, admission: &Change) -> Vec<NodeId> {
        let uses = used(admission).and_then(|(invite, ..)| self.uses.get(&invite));
        uses.into_iter().flatten().map(|(_, _, node)| *node).collect()
    }

    /// How many devices this invite has admitted, as far as is known here, and the first of them.
    pub(super) fn uses(&self, invite: &PublicKey) -> (usize, Option<NodeId>) {
        match self.uses.get(invite) {
            Some(uses) => (uses.len(), uses.first().map(|(_, _, node)| *node)),
            None => (0, None),
        }
    }
}

/// The invite by which an admission was made: its key, how many devices it admits, and this use.
fn used(admission: &Change) -> Option<(PublicKey, usize, Use)> {
    let Value::Member { .. } = admission.signed.value else { return None };
    let Key::Member(node) = admission.signed.key else { return None };
    let invite = admission.chain.grants().iter().rev().nth(1)?.peek().ok()?;
    let Role::Inviter { uses, .. } = invite.role else { return None };
    let used = (admission.signed.serial, admission.hash(), node);
    Some((invite.subject, usize::try_from(uses).unwrap_or(usize::MAX), used))
}

fn bars(revoked: &OrdMap<PublicKey, Revoked>, change: &Change) -> Option<Barred> {
    let because =
        |key: &PublicKey, it: &Revoked| Some(Barred::Revoked { key: *key, why: it.why.clone() });
    let author = change.signed.by();
    if let Some(it) = revoked.get(&author)
        && (it.withdraw || change.signed.serial > it.last || !keeps(it, change))
    {
        return because(&author, it);
    }
    for grant in change.chain.grants() {
        let giver = grant.by();
        let given = || match grant.peek() {
            // A device writes its ticket itself, and the member's clock says when.
            Ok(grant) if matches!(grant.role, Role::Admits(_)) => change.signed.serial,
            Ok(grant) => grant.serial,
            Err(_) => u64::MAX,
        };
        if let Some(it) = revoked.get(&giver)
            && (it.withdraw || given() > it.last)
        {
            return because(&giver, it);
        }
    }
    None
}

/// Whether a revoked node's admission is among those that stay.
fn keeps(revoked: &Revoked, change: &Change) -> bool {
    !matches!(change.signed.key, Key::Member(_)) || revoked.keeps(&change.hash())
}

fn strictest(one: &Revoked, other: &Revoked) -> Revoked {
    let (first, second) = if one.last <= other.last { (one, other) } else { (other, one) };
    Revoked {
        last: first.last,
        withdraw: one.withdraw || other.withdraw,
        stays: match (&one.stays, &other.stays) {
            (Some(one), Some(other)) => Some(one.intersection(other).copied().collect()),
            (one, other) => one.clone().or_else(|| other.clone()),
        },
        why: if first.why.is_empty() { second.why.clone() } else { first.why.clone() },
    }
}

/// The member in whose name a device was admitted; none if an operator did it.
pub(super) fn admitted_by(change: &Change) -> Option<NodeId> {
    match change.chain.peek()?.role {
        Role::Admits(_) => Some(NodeId(change.signed.by().0)),
        _ => None,
    }
}
