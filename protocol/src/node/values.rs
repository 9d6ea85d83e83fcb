//! Secrets and configs: what there is, who uses it, and which node may read it.

use std::collections::BTreeSet;

use crate::desired::version;
use crate::model::change::Secret;
use crate::model::spec::ValueKind;
use crate::model::view::{ReaderView, ReadersView, ValueView};
use crate::model::{Change, Digest, Key, NodeId, SealingKey, Value, WorkloadName};
use crate::trust;

use super::Node;

/// Bytes that sealing adds to a value.
const TAG: usize = 16;

/// Why a node gets no secret from this one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotForIt {
    #[error("there is no such secret of that version here")]
    Unknown,
    #[error("it is for the nodes that held a workload of it when it was set")]
    HoldersOnly,
    #[error("the node is no member, or was revoked")]
    NoMember,
    #[error("the node's record has no sealing key: its program knows no secrets")]
    NoKey,
    #[error("no workload that uses it may run on the node")]
    NotEntitled,
}

impl Node {
    /// A secret or config, and its version; `None` if there is none.
    pub fn value(&self, key: &Key) -> Option<(Digest, Value)> {
        let change = self.desired.effective(key)?;
        Some((version(change)?, change.signed.value.clone()))
    }

    /// All secrets and configs, by name, without their contents.
    pub fn values(&self) -> Vec<ValueView> {
        let mut all: Vec<ValueView> =
            self.desired.values().filter_map(|change| self.value_view(change)).collect();
        all.sort_by(|one, other| {
            let of = |it: &ValueView| (it.namespace.clone(), it.name.clone(), it.kind.clone());
            of(one).cmp(&of(other))
        });
        all
    }

    fn value_view(&self, change: &Change) -> Option<ValueView> {
        let (kind, name) = match &change.signed.key {
            Key::Secret(name) => (ValueKind::Secret, name),
            Key::Config(name) => (ValueKind::Config, name),
            _ => return None,
        };
        let (size, readers, holders_only) = match &change.signed.value {
            Value::Secret(Secret { sealed, keys, holders_only }) => {
                let members = keys.keys().filter(|node| self.is_member(node));
                let names = members.map(|node| self.name_of(node)).collect();
                (sealed.0.len().saturating_sub(TAG), names, *holders_only)
            }
            Value::Config(bytes) => (bytes.0.len(), Vec::new(), false),
            _ => return None,
        };
        let by = change.chain.peek().map_or_else(|| "root".to_owned(), |grant| grant.name);
        Some(ValueView {
            kind: kind.word().into(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            size,
            version: version(change)?.to_string(),
            written: trust::serial_time(change.signed.serial).to_string(),
            by,
            readers,
            holders_only,
            users: self.desired.users(&change.signed.key).map(ToString::to_string).collect(),
        })
    }

    /// The members to which a secret of this name is to be sealed, and those to which it cannot be:
    /// **those that may run a workload that uses it**. All, while there is no such workload or no
    /// such member; the others ask them for its key.
    pub fn readers(&self, name: &WorkloadName) -> ReadersView {
        let holders = self.users_holders(name);
        let mut view = ReadersView::default();
        let key = Key::Secret(name.clone());
        let entitled = |node: &&NodeId| holders.contains(*node) || self.may_run_user(&key, node);
        let members = || self.desired.members().keys();
        let some: Vec<&NodeId> = members().filter(entitled).collect();
        let all = if some.is_empty() { members().collect() } else { some };
        for node in all {
            let reader = ReaderView {
                id: node.to_string(),
                name: self.name_of(node),
                key: self.sealing_key(node).map(|key| Digest(key.0).to_string()),
                holds: holders.contains(node),
            };
            match reader.key.is_some() {
                true => view.nodes.push(reader),
                false => view.without.push(reader.name),
            }
        }
        // Those that need it first, where not all find room.
        view.nodes.sort_by_key(|it| (!it.holds, it.id.clone()));
        view.users = self.desired.users(&key).map(ToString::to_string).collect();
        view
    }

    /// Whether some workload that uses a secret may run on a node.
    fn may_run_user(&self, key: &Key, node: &NodeId) -> bool {
        let facts = match *node == self.me {
            true => Some(&self.device.facts),
            false => self.membership.record(node).map(|record| &record.facts),
        };
        let mut users = self.desired.users(key).filter_map(|user| self.desired.workload(user));
        users.any(|workload| facts.is_some_and(|facts| facts.fits(&workload.spec).is_ok()))
    }

    fn sealing_key(&self, node: &NodeId) -> Option<SealingKey> {
        match *node == self.me {
            true => self.device.facts.sealing,
            false => self.membership.record(node)?.facts.sealing,
        }
    }

    /// The nodes that hold a replica of a workload that uses a secret.
    fn users_holders(&self, name: &WorkloadName) -> BTreeSet<NodeId> {
        let key = Key::Secret(name.clone());
        let users = self.desired.users(&key);
        let users = users.filter_map(|user| self.desired.workload(user));
        users
            .flat_map(|workload| self.claims.of_workload(&workload.uid))
            .map(|(node, _)| node)
            .collect()
    }

    /// The sealing key of a node to which this one may pass the key of a secret on.
    ///
    /// # Errors
    /// The node is not entitled to it, or the secret is of another version here.
    pub fn may_read(
        &self,
        name: &WorkloadName,
        version: &Digest,
        node: &NodeId,
    ) -> Result<SealingKey, NotForIt> {
        let key = Key::Secret(name.clone());
        let Some((known, Value::Secret(secret))) = self.value(&key) else {
            return Err(NotForIt::Unknown);
        };
        if known != *version {
            return Err(NotForIt::Unknown);
        }
        if secret.holders_only {
            return Err(NotForIt::HoldersOnly);
        }
        if !self.is_member(node) {
            return Err(NotForIt::NoMember);
        }
        let sealing = self.sealing_key(node).ok_or(NotForIt::NoKey)?;
        let may_run = self.users_holders(name).contains(node) || self.may_run_user(&key, node);
        if may_run { Ok(sealing) } else { Err(NotForIt::NotEntitled) }
    }

    /// The nodes that are up and can have the key of a secret: those to which it was sealed first,
    /// then those that run its users.
    pub fn key_sources(&self, name: &WorkloadName) -> Vec<NodeId> {
        let Some((_, Value::Secret(secret))) = self.value(&Key::Secret(name.clone())) else {
            return Vec::new();
        };
        let holders = self.users_holders(name);
        let later = holders.into_iter().filter(|node| !secret.keys.contains_key(node));
        let all = secret.keys.keys().copied().chain(later);
        all.filter(|node| *node != self.me && self.is_member(node) && self.is_up(node)).collect()
    }
}
